"""`KsimVectorEnv`: the batch as a Gymnasium `VectorEnv`. Validate, one call into the core, hand the outputs over."""

# VectorEnv and Env disagree in the members that they share; where they do, this class follows VectorEnv.
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike

from ksim_envs import dlpack, spaces, validate
from ksim_envs.building import make_core
from ksim_envs.errors import (
    ClosedEnvError,
    ForkedProcessError,
    InvalidConfigError,
    KsimError,
    ResetNeededError,
    check_name,
)
from ksim_envs.guard import Fault
from ksim_envs.runtime import paused_gc
from ksim_envs.tasks.task import Task
from ksim_envs.types import Autoreset, Device, EnvState, Info, StepResult

SETTINGS = ("autoreset_mode", "output", "episode_length")
"""What may be changed on an env that is there; copies have it too."""


class KsimVectorEnv(VectorEnv, gym.Env):
    """Any task, many envs at once.

    It is a `VectorEnv`; it is also an `Env`, because `gym.make` accepts nothing else. There is this one class for every
    task: libraries recognise a vector env by its direct bases.

    Attributes:
        num_envs: number of envs.
        render_mode: None or `"rgb_array"`.
        num_rendered_envs: `render` returns frames of this many envs, the first ones.
        core: the `Core` that it steps, which has the task, the model and the physics backend.
    """

    # an attribute, because `close` may run when the interpreter has cleared this module
    _getpid = staticmethod(os.getpid)

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        backend: str = "auto",
        dynamics: str = "fast",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: str = "numpy",
        episode_length: int | None = None,
        stagger_first_episodes: bool = False,
        render_mode: str | None = None,
        num_rendered_envs: int = 1,
        width: int = 480,
        height: int = 480,
        num_threads: int | None = None,
        device: Device | None = None,
    ) -> None:
        """Build the env; nothing is compiled before the first reset.

        Args:
            task: the task.
            num_envs: number of envs.
            backend: `"auto"`, `"native"` (C MuJoCo on CPU threads) or `"mjx"` (JAX).
            dynamics: `"fast"` (Euler, Newton) or `"gymnasium"` (the integrator and solver of Gymnasium's model file).
            autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED, as the enum's member or its name.
            output: `"numpy"`, `"jax"` or `"torch"`: the library whose arrays `reset` and `step` return.
            episode_length: control steps after which an episode is truncated; None for the task's own.
            stagger_first_episodes: after a reset of all envs, truncate the first episode of env i after a share of
                `(i + 1) / num_envs` of what `episode_length` then is, so that later time limits do not all come in one
                step.
            render_mode: None or `"rgb_array"`.
            num_rendered_envs: `render` returns frames of this many envs, the first ones.
            width: of a frame, in pixels.
            height: of a frame, in pixels.
            num_threads: native only; None for one for each processor that the process may use.
            device: mjx only; None for JAX's first device.

        Raises:
            KsimError: a name does not exist or a value is not allowed.
        """
        # before anything may be refused: Gymnasium below 1.3 closes what it finds half made
        self._state: EnvState | None = None
        self._lock = threading.RLock()
        self._pid = self._getpid()
        if not isinstance(task, Task):
            raise InvalidConfigError(
                f"task is {task!r}; it must be a Task (ksim_envs.get_task(id) gives that of an id)."
            )
        self.num_envs = validate.positive_integer("num_envs", num_envs, validate.MAX_NUM_ENVS)
        check_name("output", output, validate.OUTPUTS)
        self._staggers = validate.boolean("stagger_first_episodes", stagger_first_episodes)
        self.episode_length = task.episode_length if episode_length is None else episode_length
        if render_mode is not None:
            check_name("render_mode", render_mode, validate.RENDER_MODES)
        self.render_mode = render_mode
        self.num_rendered_envs = validate.positive_integer("num_rendered_envs", num_rendered_envs, self.num_envs)
        self._frame = {
            "width": validate.positive_integer("width", width),
            "height": validate.positive_integer("height", height),
        }
        with paused_gc():
            self.core = make_core(
                task, self.num_envs, backend=backend, dynamics=dynamics, num_threads=num_threads, device=device
            )
            self.single_observation_space = spaces.observation_space(self.core)
            self.single_action_space = spaces.action_space(self.core)
        self.metadata = {"render_modes": list(validate.RENDER_MODES), "render_fps": round(1 / self.core.dt)}
        self.output = output
        self.autoreset_mode = autoreset_mode

    @cached_property
    def observation_space(self) -> gym.Space[Any]:
        """`num_envs` times the single space."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def action_space(self) -> gym.Space[Any]:
        """`num_envs` times the single space."""
        return batch_space(self.single_action_space, self.num_envs)

    @property
    def output(self) -> str:
        """The library whose arrays `reset` and `step` return: `"numpy"`, `"jax"` or `"torch"`; it may be changed."""
        return self._output

    @output.setter
    def output(self, value: str) -> None:
        check_name("output", value, validate.OUTPUTS)
        self._export = dlpack.Exporter(value, self.core.backend.device)
        self._output = value
        self.metadata["jax"] = value == "jax"

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """Gymnasium's mode; it may be changed at any time, without recompilation."""
        return self.metadata["autoreset_mode"]

    @autoreset_mode.setter
    def autoreset_mode(self, value: AutoresetMode | str) -> None:
        self.metadata["autoreset_mode"] = validate.autoreset_mode(value)

    @property
    def episode_length(self) -> int:
        """Control steps after which an episode is truncated; it may be changed at any time, without recompilation."""
        return self._episode_length

    @episode_length.setter
    def episode_length(self, value: int) -> None:
        self._episode_length = validate.positive_integer("episode_length", value)

    @property
    def episode_steps(self) -> np.ndarray:
        """(num_envs,) int32: control steps of the current episodes as their time limits count them; a copy.

        An env whose first episode is cut by `stagger_first_episodes` begins with some. Setting it moves the limits of
        the current episodes and nothing else: `episode_length` in `info` counts from their beginning.

        Raises:
            InvalidOptionError: set to something else than integers from 0 to less than `episode_length`.
        """
        with self._usable():
            state = self._reset_state()
            return np.array(state.step_E + state.ahead_E)

    @episode_steps.setter
    def episode_steps(self, value: ArrayLike) -> None:
        with self._usable():
            steps_E = validate.episode_steps(value, self.num_envs, self.episode_length)
            state = self._reset_state()
            self._state = replace(state, ahead_E=jnp.asarray(steps_E, jnp.int32) - state.step_E)

    @property
    def backend(self) -> str:
        """The physics engine in use."""
        return self.core.backend.name

    @property
    def device(self) -> str:
        """Where outputs live, as torch spells it."""
        return dlpack.torch_name(self.core.backend.device)

    @property
    def mj_model(self) -> Any:
        """The `MjModel` that is simulated."""
        return self.core.backend.model

    @property
    def dt(self) -> float:
        """The control period in s."""
        return self.core.dt

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Begin a new episode in every env, or in those of `options["reset_mask"]`.

        Args:
            seed: one integer in [0, 2**64) for the batch (env i draws from `fold_in(key(seed), i)`, whatever
                `num_envs`), or a list with one for each env (env i then does what env 0 of that seed would), or None to
                go on.
            options: `"reset_mask"` (num_envs,) bool; `"qpos"` and `"qvel"`, the states to begin with, (nq,) or
                (num_envs, nq) in m and rad. Envs outside the mask keep every bit. The dictionary is not changed. The
                first reset of some envs, or to given states, compiles a program of its own.

        Returns:
            Observations (num_envs, num_obs), and info as `step` gives it, with rewards 0; after a partial reset also
            `_NAME` masks.

        Raises:
            InvalidSeedError, InvalidOptionError, UnknownNameError: an argument cannot be used; nothing has changed.
            ClosedEnvError, ForkedProcessError: the env cannot be used any more, or not in this process.
            InvalidConfigError: Stable-Baselines3 calls it, for one env.
        """
        _refuse_stable_baselines(sys._getframe(1).f_globals)  # pyright: ignore[reportPrivateUsage]
        with self._usable():
            seed = validate.seeds(seed, self.num_envs)
            model = self.core.backend.model
            mask, start = validate.reset_options(options, self.num_envs, {"qpos": model.nq, "qvel": model.nv})
            if self._state is None and not mask.all():
                raise ResetNeededError("the first reset must be of all envs; call reset() without reset_mask once.")
            state = self._seeded(seed, mask)
            encoded = {name: self.core.backend.exact(values) for name, values in start.items()}
            self._state = None  # the call uses it up; should it raise, reset() begins anew
            state, result = self.core.programs.reset(state, mask, encoded)
            if self._staggers and mask.all():
                state = jax.device_put(self.core.staggered(state, self.episode_length), self.core.backend.device)
            self._state = state
            super().reset(seed=seed if isinstance(seed, int) else None)
            obs, info = self._export(result)
            if not mask.all():
                mask_E = jnp.array(mask, device=self.core.backend.device)
                info |= self._export(dict.fromkeys((f"_{name}" for name in info), mask_E))
            return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """One control step of every env.

        Args:
            actions: (num_envs, num_actions) numbers of any library; clipped to the action space, as MuJoCo does.

        Returns:
            obs (num_envs, num_obs) float32; reward (num_envs,) float32; terminated and truncated (num_envs,) bool;
            info, a dictionary of arrays of length num_envs. In SAME_STEP mode info also has `final_obs` and
            `final_info` with their masks: for NumPy only when an episode ended, else always (looking would wait for the
            device; DISABLED mode does wait, to see whether an episode has ended).

        Raises:
            InvalidActionError: the actions cannot be used; the env is as it was.
            ResetNeededError: before the first reset, or in DISABLED mode where an episode has ended.
            ClosedEnvError, ForkedProcessError: the env cannot be used any more, or not in this process.
        """
        with self._usable():
            state = self._reset_state()
            shape = (self.num_envs, self.core.num_actions)
            action_EA = dlpack.private_actions(actions, shape, "(num_envs, num_actions)", self.core.backend.device)
            if self.autoreset_mode is AutoresetMode.DISABLED:
                validate.refuse_ended(np.asarray(state.needs_reset_E))
            mode = Autoreset[self.autoreset_mode.name]
            self._state = None  # the call uses it up; should it raise, reset() begins anew
            self._state, result = self.core.programs.step(state, action_EA, mode, self.episode_length)
            return self._delivered(result)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Frames of the first `num_rendered_envs` envs, each (height, width, 3) uint8; None without a render mode.

        Raises:
            RenderError: no GL library can draw, in words that say what to install.
            KsimError: it has not been reset, or is closed.
        """
        if self.render_mode is None:
            return None
        return tuple(self._renderer.frame(qpos) for qpos in self.physics_state()["qpos"][: self.num_rendered_envs])

    def physics_state(self) -> dict[str, np.ndarray]:
        """NumPy copies at the engine's precision.

        Returns:
            `"qpos"` (num_envs, nq) in m and rad, `"qvel"` (num_envs, nv) per s, and `"time"` (num_envs,) in s.

        Raises:
            KsimError: it has not been reset, or is closed.
        """
        with self._usable():
            return self.core.backend.state_dict(self._reset_state().physics)

    def fault_counts(self) -> dict[str, np.ndarray]:
        """How often each kind of fault befell each env since its seed: names of `guard.Fault` to (num_envs,) int32.

        Raises:
            KsimError: it has not been reset, or is closed.
        """
        with self._usable():
            counts_EC = np.array(self._reset_state().fault_count_EC)
            return {fault.name.lower(): counts_EC[:, fault] for fault in Fault}

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of the batch, or read an attribute, and return the result once for each env.

        An array of length `num_envs` is taken apart, and so are a dictionary of such arrays, and the frames of `render`
        when each env has one.
        """
        found = getattr(self, name)
        value: Any = found(*args, **kwargs) if callable(found) else found

        def is_per_env(value: Any) -> bool:
            return isinstance(value, np.ndarray) and len(value) == self.num_envs

        if isinstance(value, dict) and value and all(map(is_per_env, value.values())):
            return tuple({key: leaf[row] for key, leaf in value.items()} for row in range(self.num_envs))
        if is_per_env(value) or (name == "render" and isinstance(value, tuple) and len(value) == self.num_envs):
            return tuple(value)
        return (value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The attribute, once for each env."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of the batch; a list or tuple must have one entry for each env, all equal."""
        if isinstance(values, (list, tuple)):
            if len(values) != self.num_envs or any(value != values[0] for value in values):
                raise InvalidConfigError(
                    f"set_attr({name!r}) got {len(values)} values; the {self.num_envs} envs share one object, "
                    "so give one value."
                )
            values = values[0]
        setattr(self, name, values)

    def close_extras(self, **kwargs: Any) -> None:
        """Release state and renderer; called once, by `close`. The physics goes with the last env that shares it."""
        if self._getpid() != self._pid:  # a forked child has nothing to release, and a lock may be held for ever
            return
        with self._lock:
            if "_renderer" in self.__dict__:
                self._renderer.close()
            self._state = None
            self.closed = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the recipe: unpickling makes a fresh env with the same settings, as Gymnasium's `EzPickle` does."""
        if self.spec is None:
            raise KsimError(
                "this env was not made by gym.make, so it cannot be pickled; make it with gym.make(id), or pickle its "
                "arguments."
            )
        return gym.make, (self.spec,), {name: getattr(self, name) for name in SETTINGS}

    def __setstate__(self, settings: dict[str, Any]) -> None:
        """Take over what may have been changed since the other env was made."""
        for name, value in settings.items():
            setattr(self, name, value)

    @cached_property
    def _renderer(self) -> Any:
        from ksim_envs.render.offscreen import OffscreenRenderer

        return OffscreenRenderer(self.mj_model, camera=self.core.task.camera, **self._frame)

    @contextmanager
    def _usable(self) -> Generator[None]:
        """One thread at a time, in the process that made the env, before `close`."""
        if self._getpid() != self._pid:
            raise ForkedProcessError(
                f"this env was made in process {self._pid} and cannot be used in its fork {self._getpid()}; "
                'make it in the child, or use multiprocessing with the "spawn" method.'
            )
        with self._lock, paused_gc():
            if self.closed:
                raise ClosedEnvError("this env is closed; make a new one.")
            yield

    def _reset_state(self) -> EnvState:
        if self._state is None:
            raise ResetNeededError("call reset() first (a call that is interrupted uses the state up).")
        return self._state

    def _seeded(self, seed: int | list[int | None] | None, mask: np.ndarray) -> EnvState:
        """The state with new keys in the envs of the mask that get a seed."""
        if seed is None and self._state is not None:
            return self._state
        if isinstance(seed, list):
            mask = mask & np.array([one is not None for one in seed])
            key_E = self.core.keys_of([self._entropy() if one is None else one for one in seed])
        else:
            key_E = self.core.keys(self._entropy() if seed is None else seed)
        if self._state is None:  # committed to the device, as results are, so that every call finds the same program
            return jax.device_put(self.core.unreset_state(key_E), self.core.backend.device)
        return self.core.reseeded(self._state, key_E, mask)

    def _entropy(self) -> int:
        return int(self.np_random.integers(2**63))

    def _delivered(self, result: StepResult) -> tuple[Any, Any, Any, Any, Info]:
        """What the core returned, in the caller's kind of array and under Gymnasium's names."""
        step = (result.obs_EL, result.reward_E, result.terminated_E, result.truncated_E, result.info)
        obs, reward, terminated, truncated, info = self._export(step)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and (
            self.output != "numpy" or (terminated | truncated).any()
        ):
            final, ended = result.final_info, result.ended_E
            episode = {"r": final["episode_return"], "l": final["episode_length"]}
            info |= self._export(
                {
                    "final_obs": result.final_obs_EL,
                    "_final_obs": ended,
                    "final_info": {**final, "episode": episode, "_episode": ended},
                    "_final_info": ended,
                }
            )
        return obs, reward, terminated, truncated, info


def _refuse_stable_baselines(caller: dict[str, Any]) -> None:
    """Name the adapter to whoever gave the batch to SB3, which takes it for one env because it is an `Env` too.

    Nothing that SB3 asks of an env before the first reset tells it from other users, and later it fails with numbers
    that have an axis too many.
    """
    if str(caller.get("__name__")).startswith("stable_baselines3."):
        raise InvalidConfigError(
            "Stable-Baselines3 takes this batch for a single env. Adapt it: "
            "from ksim_envs.adapters.sb3 import KsimVecEnv, then KsimVecEnv(env)."
        )
