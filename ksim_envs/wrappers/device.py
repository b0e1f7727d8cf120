"""What the wrappers have in common."""

# Gymnasium's wrapper classes take type arguments in some versions only.
# pyright: reportMissingTypeArgument=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper
from jax import Array

from ksim_envs import dlpack, validate
from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.types import FINAL_KEYS, Info
from ksim_envs.vector_env import KsimVectorEnv


class DeviceWrapper(VectorWrapper):
    """What the wrappers have in common.

    Inside a chain of them arrays are JAX's; the outermost hands out the kind that the batch had.
    """

    def __init__(self, env: KsimVectorEnv | DeviceWrapper) -> None:
        """Wrap a batch.

        Args:
            env: the batch, or another of these wrappers around it, whose output this takes over with its first call.

        Raises:
            InvalidConfigError: it is neither.
        """
        if not isinstance(env, KsimVectorEnv | DeviceWrapper):
            raise InvalidConfigError(
                f"{type(self).__name__} is for a batch of ksim_envs or one of its own wrappers around that, not for "
                f"{env}; put Gymnasium's wrappers outside of these."
            )
        super().__init__(env)
        self._end_keys: tuple[str, ...] = getattr(env, "_end_keys", FINAL_KEYS)
        self.output = env.output

    @property
    def batch(self) -> KsimVectorEnv:
        """The batch without wrappers."""
        return self.unwrapped  # pyright: ignore[reportReturnType]

    @property
    def output(self) -> str:
        """The library whose arrays `reset` and `step` return; see `KsimVectorEnv.output`."""
        return self._output

    @output.setter
    def output(self, value: str) -> None:
        check_name("output", value, validate.OUTPUTS)
        self._export = dlpack.Exporter(value, self.batch.core.backend.device)
        self._output = value

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """The batch's mode; it may be changed there."""
        return self.batch.autoreset_mode

    @property
    def device(self) -> str:
        """Where outputs live, as torch spells it."""
        return self.batch.device

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """See `KsimVectorEnv.call`."""
        return self.batch.call(name, *args, **kwargs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """See `KsimVectorEnv.get_attr`."""
        return self.batch.get_attr(name)

    def set_attr(self, name: str, values: Any) -> None:
        """See `KsimVectorEnv.set_attr`."""
        self.batch.set_attr(name, values)

    @property
    def metadata(self) -> dict[str, Any]:
        """The batch's, with this wrapper's output."""
        return {**self.env.metadata, "jax": self._output == "jax"}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """See `KsimVectorEnv.reset`."""
        obs, info = self._inside().reset(seed=seed, options=options)
        mask_E = np.array(info.get("_episode_length", np.ones(self.num_envs, bool)))  # there after a partial reset
        return self._export((self._after_reset(obs, mask_E), info))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """See `KsimVectorEnv.step`."""
        obs, reward, terminated, truncated, info = self._after_step(*self._inside().step(self._before_step(actions)))
        ends = {name: info.pop(name) for name in self._end_keys if name in info}
        obs, reward, terminated, truncated, info = self._export((obs, reward, terminated, truncated, info))
        if self._output == "numpy":
            jax.block_until_ready(ends)  # what they are computed from is the caller's now, to write to
            ends = ends if (terminated | truncated).any() else {}
        return obs, reward, terminated, truncated, {**info, **self._export(ends)}

    def _inside(self) -> Any:
        """What is wrapped, told to hand out JAX's arrays."""
        env: Any = self.env
        if env.output != "jax":
            env.output = "jax"
        return env

    def _before_step(self, actions: Any) -> Any:
        return actions

    def _private(self, actions: Any) -> Array:
        """The actions as an array of its own where the envs are; see `dlpack.private_actions`."""
        shape, device = (self.num_envs, self.batch.core.num_actions), self.batch.core.backend.device
        return jax.device_put(dlpack.private_actions(actions, shape, "(num_envs, num_actions)", device), device)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        """The observations after a reset of some envs."""
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        """The results of a step; `info` may be changed."""
        return obs, reward, terminated, truncated, info

    def is_dead(self, info: Info) -> Array:
        """(E,) whether the step only reset the env."""
        return is_first(info) & (self.autoreset_mode is AutoresetMode.NEXT_STEP)


def is_first(info: Info) -> Array:
    """(E,) whether what an env shows after the step is the first observation of an episode."""
    return info["episode_length"] == 0
