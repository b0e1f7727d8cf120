"""The last observations together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector.utils import batch_space
from jax import Array
from numpy.typing import ArrayLike

from ksim_envs import guard, validate
from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.types import Info
from ksim_envs.vector_env import KsimVectorEnv
from ksim_envs.wrappers.device import DeviceWrapper, is_first


class FrameStackObservation(DeviceWrapper):
    """The last observations of an episode, (num_envs, stack_size, num_obs), the newest last."""

    def __init__(
        self, env: KsimVectorEnv | DeviceWrapper, stack_size: int, *, padding_type: str | ArrayLike = "reset"
    ) -> None:
        """Wrap a batch.

        Args:
            env: the batch.
            stack_size: how many.
            padding_type: what stands before an episode's first observation: that one again (`"reset"`), zeros
                (`"zero"`), or an observation.

        Raises:
            InvalidConfigError: a size below 1, or an observation of another shape.
            UnknownNameError: another name.
        """
        super().__init__(env)
        self.stack_size = validate.positive_integer("stack_size", stack_size)
        shape: Any = env.single_observation_space.shape
        if isinstance(padding_type, str):
            check_name("padding_type", padding_type, ("reset", "zero"))
            self._padding = jnp.zeros(shape, jnp.float32) if padding_type == "zero" else None
        else:
            self._padding = jnp.asarray(padding_type, jnp.float32)
            if self._padding.shape != shape:
                raise InvalidConfigError(f"padding_type has shape {self._padding.shape}; an observation has {shape}.")
        self.single_observation_space = batch_space(env.single_observation_space, stack_size)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._stack_ESL = jnp.zeros((self.num_envs, stack_size, *shape), jnp.float32)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        self._stack_ESL, obs, _ = _stacked(self._stack_ESL, obs, None, mask_E, ~mask_E, self._padding)
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        none_E = np.zeros(self.num_envs, bool)
        self._stack_ESL, obs, final = _stacked(
            self._stack_ESL, obs, info.get("final_obs"), is_first(info), none_E, self._padding
        )
        if final is not None:
            info["final_obs"] = final
        return obs, reward, terminated, truncated, info


@jax.jit
def _stacked(
    stack_ESL: Array, obs_EL: Array, final_obs_EL: Array | None, first_E: Array, same_E: Array, padding_L: Array | None
) -> tuple[Array, Array, Array | None]:
    """The stacks with one observation more, twice (to keep and to show); and that with the last ones of episodes.

    Args:
        stack_ESL: (E, S, ...) the stacks.
        obs_EL: (E, ...) the observations.
        final_obs_EL: (E, ...) observations before any reset, if there is one in the same step.
        first_E: (E,) whether an observation is an episode's first.
        same_E: (E,) where the stack stays as it is.
        padding_L: what stands before a first observation; None for that one itself.
    """

    def pushed(obs_EL: Array) -> Array:
        return jnp.concatenate([stack_ESL[:, 1:], obs_EL[:, None]], axis=1)

    before_EL = obs_EL if padding_L is None else jnp.broadcast_to(padding_L, obs_EL.shape)
    begun_ESL = jnp.broadcast_to(before_EL[:, None], stack_ESL.shape).at[:, -1].set(obs_EL)
    after_ESL = guard.keep_rows(first_E, begun_ESL, pushed(obs_EL))
    after_ESL = guard.keep_rows(same_E, stack_ESL, after_ESL)
    return after_ESL, after_ESL, None if final_obs_EL is None else pushed(final_obs_EL)
