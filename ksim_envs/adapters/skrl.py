"""skrl 2: the batch in skrl's own wrapper, for torch and for JAX, without a way over the host.

    from ksim_envs.adapters.skrl import wrap_env

    env = wrap_env(gym.make("ksim_envs:ksim/Ant-v0", num_envs=4096), "torch")

skrl's own `wrap_env` takes a batch as well, with NumPy output and `autoreset_mode="same_step"`. Whatever the wrapper,
skrl looks at no final observation: at a time limit off-policy agents take the value of the next episode's first one,
PPO with `time_limit_bootstrap` too; without it, advantages run on into the next episode.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np

from ksim_envs.adapters import check_prepared, critic_space, prepared, seen_by_critic
from ksim_envs.errors import MissingDependencyError, check_name
from ksim_envs.types import Info
from ksim_envs.vector_env import KsimVectorEnv

FRAMEWORKS = ("torch", "jax")


def wrap_env(
    env: KsimVectorEnv, framework: str = "torch", *, seed: int | None = None, privileged: Sequence[str] = ()
) -> Any:
    """A batch as a `skrl.envs.wrappers.FRAMEWORK.Wrapper`.

    Args:
        env: the batch, whose auto-reset mode and output this sets.
        framework: `"torch"` or `"jax"`.
        seed: of the first reset; None for the one that `skrl.utils.set_seed` has set.
        privileged: names of metrics of the task that skrl's `state` holds behind the observations, for its critics.

    Returns:
        The wrapper. Its first `reset` resets the envs; they reset themselves afterwards, so a later one only shows
        where they are.

    Raises:
        InvalidConfigError: it is no batch of ours.
        UnknownNameError: there is no such framework or metric.
        MissingDependencyError: skrl or the framework is not installed.
    """
    check_name("framework", framework, FRAMEWORKS)
    made = _wrapper_class(framework)
    return made(prepared(env, framework, privileged), framework, seed, tuple(privileged))


@functools.cache
def _wrapper_class(framework: str) -> type:
    try:
        base = import_module(f"skrl.envs.wrappers.{framework}").Wrapper
    except ImportError as error:
        message = f'ksim_envs.adapters.skrl needs skrl and {framework}: pip install "ksim-envs[skrl]".'
        raise MissingDependencyError(message) from error
    return type("KsimSkrlEnv", (_Batch, base), {"__doc__": _Batch.__doc__})


class _Batch:
    """A batch of envs for skrl: what its `Wrapper` asks for, whatever the framework."""

    def __init__(self, env: KsimVectorEnv, framework: str, seed: int | None, privileged: tuple[str, ...]) -> None:
        super().__init__(env)  # pyright: ignore[reportCallIssue]  # of skrl's Wrapper
        self._env, self._privileged = env, privileged
        self._framework, self._seed = framework, seed
        self._concatenate = (
            import_module("torch").cat if framework == "torch" else import_module("jax.numpy").concatenate
        )
        self._last: tuple[Any, Info] | None = None

    @property
    def observation_space(self) -> gym.Space[Any]:
        """One env's."""
        return self._env.single_observation_space

    @property
    def action_space(self) -> gym.Space[Any]:
        """One env's."""
        return self._env.single_action_space

    @property
    def state_space(self) -> gym.Space[Any] | None:
        """Of `state`; None without privileged metrics."""
        return critic_space(self._env, self._privileged)

    def reset(self) -> tuple[Any, Info]:
        """Observations (num_envs, num_obs), and info."""
        if self._last is None:
            key: Any = getattr(import_module("skrl").config, self._framework).key  # of `set_seed`, (2,) in JAX's
            self._last = self._env.reset(seed=int(np.asarray(key).sum()) if self._seed is None else self._seed)
        return self._last

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """One control step: obs (num_envs, num_obs); reward, terminated, truncated (num_envs, 1); info.

        An env that falls in the very step of its time limit is not truncated: skrl adds a value wherever that is set.
        """
        check_prepared(self._env, self._framework)
        obs, reward, terminated, truncated, info = self._env.step(actions)
        truncated = truncated & ~terminated
        self._last = obs, info
        return obs, reward[:, None], terminated[:, None], truncated[:, None], info

    def state(self) -> Any | None:
        """(num_envs, L): the observations, then the privileged metrics; None without these."""
        if not self._privileged or self._last is None:
            return None
        obs, info = self._last
        return seen_by_critic(self._concatenate, obs, info, self._privileged)

    def render(self, *args: Any, **kwargs: Any) -> Any:
        """Frames of the first envs."""
        return self._env.render()

    def close(self) -> None:
        """Close the batch."""
        self._env.close()
