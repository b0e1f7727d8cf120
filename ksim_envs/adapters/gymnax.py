"""gymnax 1: one env as a pure function of key, state, action and parameters, to be mapped with `jax.vmap`.

    from ksim_envs.adapters.gymnax import GymnaxEnv

    env = GymnaxEnv("ksim/Hopper-v0")
    keys = jax.random.split(jax.random.key(0), 2048)
    obs, state = jax.vmap(env.reset, in_axes=(0, None))(keys, env.default_params)

The auto-reset is our own: it draws a fresh state, and costs something only where an episode ended. Under `vmap` the
envs are stepped as one batch.
"""

# gymnax is not there where types are checked: it allows no Gymnasium 1.4.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ksim_envs.adapters.one_env import OneEnv
from ksim_envs.errors import MissingDependencyError
from ksim_envs.tasks.task import Task
from ksim_envs.types import Autoreset, EnvState, Info

try:
    from gymnax.environments import environment, spaces
except ImportError as error:
    raise MissingDependencyError('ksim_envs.adapters.gymnax needs gymnax: pip install "ksim-envs[gymnax]".') from error


class GymnaxEnv(environment.Environment):
    """A task for gymnax 1.0, or with `legacy` for what was written for earlier versions (PureJaxRL, rejax).

    `default_params.max_steps_in_episode` is the time limit; another one may be given to `step`. There is no
    `step_env` that would leave out the reset.
    """

    def __init__(
        self, task: str | Task, *, backend: str = "auto", dynamics: str = "fast", legacy: bool = False
    ) -> None:
        """Build the env.

        Args:
            task: a registered id, or a task.
            backend: `"auto"`, `"native"` or `"mjx"`.
            dynamics: `"fast"` or `"gymnasium"`.
            legacy: return (obs, state, reward, done, info) from `step`.

        Raises:
            KsimError: a name does not exist or a value is not allowed.
        """
        self._one = OneEnv(task, backend=backend, dynamics=dynamics, autoreset=Autoreset.SAME_STEP)
        self.core = self._one.core
        self._legacy = legacy

    def __deepcopy__(self, memo: dict[int, Any]) -> GymnaxEnv:
        """A copy on the same engine, which nothing changes; gymnax's wrappers for Gymnasium make one."""
        return copy.copy(self)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.core.backend.model.names.split(b"\0", 1)[0].decode()

    @property
    def default_params(self) -> environment.EnvParams:
        """The task's own time limit."""
        return environment.EnvParams(max_steps_in_episode=self.core.task.episode_length)

    @property
    def num_actions(self) -> int:
        """Length of an action."""
        return self.core.num_actions

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Array, params: environment.EnvParams | None = None) -> tuple[Array, EnvState]:
        """Begin an episode; the key is the root of the env's randomness from here on.

        Returns:
            The observation (num_obs,), and the state.
        """
        state = self._one.reset(key)
        return state.obs_EL, state

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Array, state: EnvState, action: Array, params: environment.EnvParams | None = None
    ) -> tuple[Any, ...]:
        """One control step, and a reset where the episode ended.

        Args:
            key: not used: the state carries the env's own random stream.
            state: of the env.
            action: (num_actions,); clipped to the action space.
            params: the time limit; None for the task's.

        Returns:
            obs, state, reward, terminated, truncated, info; `info["final_observation"]` is the one before any reset.
        """
        limit = None if params is None else params.max_steps_in_episode
        state, result = self._one.step(state, action, limit)
        terminated, truncated = result.terminated_E, result.truncated_E
        info: Info = dict(result.final_info)
        info |= {"terminated": terminated, "truncated": truncated, "final_observation": result.final_obs_EL}
        flags = (terminated | truncated,) if self._legacy else (terminated, truncated)
        return result.obs_EL, state, result.reward_E, *flags, info

    def observation_space(self, params: environment.EnvParams | None = None) -> spaces.Box:
        """Of one env."""
        return spaces.Box(-jnp.inf, jnp.inf, (self.core.num_observations,), jnp.float32)

    def action_space(self, params: environment.EnvParams | None = None) -> spaces.Box:
        """Of one env, in the actuators' control unit."""
        low, high = (bound if bound.size > 1 else bound.item() for bound in self.core.action_bounds)  # as gymnax has it
        return spaces.Box(low, high, (self.core.num_actions,), jnp.float32)
