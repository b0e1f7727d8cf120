"""brax and MuJoCo Playground: one env as pure functions of a `State`, for their wrappers and trainers.

    from brax.training.agents.ppo.train import train
    from ksim_envs.adapters.functional import FunctionalEnv, wrap

    train(FunctionalEnv("ksim/Ant-v0"), num_timesteps=10_000_000, episode_length=1000, wrap_env_fn=wrap, ...)

Their own wrappers (`brax.envs.training.wrap`, Playground's `wrap_for_brax_training`) take it too. Those begin every
episode of an env in the state of its first one: where it stands, with that robot and those commands, and at the level
where a curriculum began. `wrap` draws a fresh state.

The trainers of brax 0.14.2 call a function that JAX 0.10 has dropped (google/brax#671). To bring it back:

    def device_put_replicated(tree, devices):
        return jax.tree.map(lambda leaf: jax.numpy.stack([leaf] * len(devices)), tree)

    jax.device_put_replicated = device_put_replicated
"""

# brax is not there where types are checked.
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs import runtime
from ksim_envs.adapters.one_env import OneEnv
from ksim_envs.errors import InvalidConfigError, MissingDependencyError, check_name
from ksim_envs.tasks.task import Task
from ksim_envs.types import Autoreset, EnvState, Info

NEVER = np.iinfo(np.int32).max
"""A time limit for envs whose wrappers have one."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class State:
    """The state of an env, under the names of brax and of Playground.

    Wrappers of both keep things of their own in `metrics` and `info`.
    """

    data: EnvState  # all that the env's future depends on
    obs: Array | dict[str, Array]  # (num_obs,), float32; with privileged metrics as "state" and "privileged_state"
    reward: Array  # (), float32
    done: Array  # (), float32: 1 where the episode has ended
    metrics: dict[str, Array]  # (), float32: the task's metrics and reward terms by name
    info: dict[str, Any]  # "diverged", "num_episodes"; commands, and metrics that are no single number, by name

    @property
    def pipeline_state(self) -> EnvState:
        """Brax's name for `data`."""
        return self.data

    def replace(self, **changes: Any) -> State:
        """The state with other values in some fields, by either library's names."""
        if "pipeline_state" in changes:
            changes["data"] = changes.pop("pipeline_state")
        return dataclasses.replace(self, **changes)


class FunctionalEnv:
    """A task for brax and Playground. Under `vmap` the envs are stepped as one batch.

    It has no time limit: their `EpisodeWrapper` has one. A row whose physics diverged is done, with reward 0.
    """

    def __init__(
        self,
        task: str | Task,
        *,
        backend: str = "auto",
        dynamics: str = "fast",
        privileged: Sequence[str] = (),
    ) -> None:
        """Build the env.

        Args:
            task: a registered id, or a task.
            backend: `"auto"`, `"native"` or `"mjx"`.
            dynamics: `"fast"` or `"gymnasium"`.
            privileged: names of metrics of the task. With any, observations are dictionaries as in Playground:
                `"state"`, and `"privileged_state"` with these metrics behind it.

        Raises:
            KsimError: a name does not exist or a value is not allowed.
        """
        self._one = OneEnv(task, backend=backend, dynamics=dynamics, autoreset=Autoreset.DISABLED)
        self.core = self._one.core
        self.core.num_privileged(privileged)  # raises where one is unknown
        self._privileged = tuple(privileged)
        if playground := sys.modules.get("mujoco_playground"):  # takes long to import, and does not ask by itself
            playground.MjxEnv.register(FunctionalEnv)

    def reset(self, rng: Array) -> State:
        """Begin an episode; the key, typed or not, is the root of the env's randomness from here on."""
        data = self._one.reset(rng)
        metrics, info = self._split(self.core.info(data))
        info["num_episodes"] = jnp.zeros_like(data.episode_E)  # that have begun to move
        zero = jnp.zeros((), jnp.float32)
        return State(data=data, obs=self.observe(data), reward=zero, done=zero, metrics=metrics, info=info)

    def step(self, state: State, action: Array) -> State:
        """One control step. After an episode's end nothing moves any more.

        Args:
            state: of the env; what is foreign in its `metrics` and `info` is kept.
            action: (num_actions,) from -1 to 1, which stand for the bounds of the actuators' control.

        Returns:
            The next state.
        """
        low, high = map(jnp.asarray, self.core.action_bounds)
        control = 0.5 * (low + high) + 0.5 * (high - low) * action
        # A wrapper that puts the first state back keeps `info`, so the noise and pushes of each episode are its own.
        num_episodes = state.info["num_episodes"] + (state.data.step_E == 0)
        data, result = self._one.step(dataclasses.replace(state.data, episode_E=num_episodes), control, NEVER)
        metrics, info = self._split(result.info)
        return State(
            data=data,
            obs=self.observe(data),
            reward=result.reward_E,
            done=data.needs_reset_E.astype(jnp.float32),
            metrics={**state.metrics, **metrics},
            info={**state.info, **info, "num_episodes": num_episodes},
        )

    def reset_rows(self, data: EnvState, mask_E: Array) -> EnvState:
        """Begin a new episode, in a fresh state, in some envs of a mapped `data`."""
        return self._one.reset_rows(data, mask_E)

    def observe(self, data: EnvState) -> Array | dict[str, Array]:
        """What the env shows in its present state, or each env in a mapped one."""
        if not self._privileged:
            return data.obs_EL
        hidden = [data.metrics[name].reshape(*data.step_E.shape, -1) for name in self._privileged]
        return {"state": data.obs_EL, "privileged_state": jnp.concatenate([data.obs_EL, *hidden], axis=-1)}

    @cached_property
    def observation_size(self) -> int | dict[str, tuple[int, ...]]:
        """Length of an observation, or shapes by name."""
        shapes = jax.eval_shape(lambda: self.reset(jax.random.key(0)).obs)
        return {name: leaf.shape for name, leaf in shapes.items()} if self._privileged else shapes.shape[0]

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return self.core.num_actions

    @property
    def backend(self) -> str:
        """The physics engine in use."""
        return self.core.backend.name

    @property
    def unwrapped(self) -> FunctionalEnv:
        """This env."""
        return self

    @property
    def dt(self) -> float:
        """The control period in s."""
        return self.core.dt

    @property
    def sim_dt(self) -> float:
        """The physics timestep in s."""
        return self.core.model.timestep

    @property
    def n_substeps(self) -> int:
        """Physics substeps in a control step."""
        return self.core.task.frame_skip

    @property
    def xml_path(self) -> str:
        """Where the task has its model from; see `Task.model`."""
        return self.core.task.model

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The `MjModel` that is simulated."""
        return self.core.backend.model

    @cached_property
    def mjx_model(self) -> Any:
        """`mj_model` as an MJX model, to be read; steps do not use it. To vary a model, give the task randomizers."""
        from ksim_envs.physics.mjx import put_model

        return put_model(self.mj_model)

    def render(
        self,
        trajectory: Any,
        height: int = 240,
        width: int = 320,
        camera: str | int | None = None,
        scene_option: mujoco.MjvOption | None = None,
        modify_scene_fns: Sequence[Callable[[mujoco.MjvScene], None]] | None = None,
    ) -> Any:
        """Frames of a list of states (or of their `data`), or one of a single state: (height, width, 3) uint8.

        Args:
            trajectory: states that are not mapped.
            height: in pixels.
            width: in pixels.
            camera: the name or number of a camera of the model; None for the task's view.
            scene_option: what is drawn; None for MuJoCo's default.
            modify_scene_fns: for each state what may add to its scene before it is drawn.

        Raises:
            UnknownNameError, InvalidConfigError: the model has no such camera.
            RenderError: a frame cannot be drawn here; with the remedy.
        """
        from ksim_envs.render.offscreen import OffscreenRenderer

        view: dict[str, Any] = dict(self.core.task.camera)
        if camera is not None:
            names = [self.mj_model.camera(number).name for number in range(self.mj_model.ncam)]
            number = camera if isinstance(camera, int) else names.index(check_name("camera", camera, names))
            view = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": number}
        if not isinstance(trajectory, Sequence):
            return self.render([trajectory], height, width, camera, scene_option, modify_scene_fns)[0]
        options: dict[str, Any] = {"width": width, "height": height, "option": scene_option}
        with contextlib.closing(OffscreenRenderer(self.mj_model, camera=view, **options)) as renderer:
            return [
                renderer.frame(self._qpos(getattr(state, "data", state)), modify_scene=modify)
                for state, modify in zip(trajectory, modify_scene_fns or [None] * len(trajectory), strict=True)
            ]

    def _qpos(self, data: EnvState) -> np.ndarray:
        return self.core.backend.state_dict(jax.tree.map(lambda leaf: leaf[None], data.physics))["qpos"][0]

    def _split(self, info: Info) -> tuple[dict[str, Array], Info]:
        """What brax sums up over an episode, and the rest."""
        names = [*self.core.task.metrics, *self.core.task.rewards]
        metrics = {name: info[name].astype(jnp.float32).reshape(()) for name in names if info[name].size == 1}
        rest = info.keys() - metrics.keys() - {"episode_return", "episode_length"}  # brax counts them itself
        return metrics, {name: info[name] for name in sorted(rest)}


def wrap(
    env: FunctionalEnv,
    episode_length: int = 1000,
    action_repeat: int = 1,
    randomization_fn: Callable[..., Any] | None = None,
) -> Any:
    """The env in brax's wrappers, each episode begun in a fresh state; what `wrap_env_fn` of brax's trainers wants.

    Args:
        env: the env.
        episode_length: control steps after which an episode is truncated.
        action_repeat: control steps for which an action is held.
        randomization_fn: None; the task's randomizers take its place.

    Returns:
        A mapped env. `state.info["truncation"]` is 1 at the time limit, at a truncation of the task, and where the
        physics diverged: brax leaves such a transition out of the advantages.

    Raises:
        InvalidConfigError: there is a `randomization_fn`.
        MissingDependencyError: brax is not installed.
    """
    if randomization_fn is not None:
        raise InvalidConfigError("randomization_fn is for MJX models; give the task randomizers instead.")
    try:
        from brax.envs.wrappers import training
    except ImportError as error:
        raise MissingDependencyError('functional.wrap needs brax: pip install "ksim-envs[brax]".') from error
    return FreshResets(training.EpisodeWrapper(training.VmapWrapper(env), episode_length, action_repeat))


class FreshResets:
    """In the place of brax's `AutoResetWrapper`: draws a new state for each episode."""

    def __init__(self, env: Any) -> None:
        """Wrap a mapped env with a time limit."""
        self.env = env

    def __getattr__(self, name: str) -> Any:
        """Everything else is the env's."""
        if name.startswith("__") or name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, rng: Array) -> State:
        """Begin an episode in every env."""
        return self.env.reset(rng)

    def step(self, state: State, action: Array) -> State:
        """One step of every env, and a reset where an episode ended; then only `data` and `obs` are the next one's."""
        steps = jnp.where(state.done, 0.0, state.info["steps"])
        state = self.env.step(
            state.replace(done=jnp.zeros_like(state.done), info={**state.info, "steps": steps}), action
        )
        was_cut_E = state.data.needs_reset_E & ~state.data.terminated_E
        truncation = jnp.where(was_cut_E, 1.0, state.info["truncation"])
        ended = dataclasses.replace(state.data, needs_reset_E=state.done > 0)  # at the wrapper's time limit too
        data = self.unwrapped.reset_rows(ended, state.done > 0)
        obs = self.unwrapped.observe(data)
        return state.replace(data=data, obs=obs, info={**state.info, "truncation": truncation})


def _register_with_brax() -> None:
    """Have `FunctionalEnv` count as an env of brax, whose SAC and ARS ask."""
    with runtime.quiet_import(), warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of jaxopt
        try:
            from brax.envs.base import Env
        except ImportError:
            return
        Env.register(FunctionalEnv)


_register_with_brax()
