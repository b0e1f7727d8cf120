"""Observations and rewards by their running statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, flatdim
from gymnasium.vector.utils import batch_space
from jax import Array

from ksim_envs import guard
from ksim_envs.errors import InvalidConfigError
from ksim_envs.moments import Moments
from ksim_envs.tasks.numbers import check_positive, check_within
from ksim_envs.types import Info
from ksim_envs.vector_env import KsimVectorEnv
from ksim_envs.wrappers.device import DeviceWrapper

PRIOR_WEIGHT = 1e-4
"""Observations of mean 0 and variance 1 that statistics begin with, as in Gymnasium."""


class NormalizeObservation(DeviceWrapper):
    """Observations with mean 0 and standard deviation 1, by the running statistics of all that were seen.

    The last observations of episodes are among these, and in SAME_STEP mode they are normalized too.

    Attributes:
        epsilon: added to the variances.
        update_running_mean: whether the statistics go on; set it to False for evaluation.
    """

    def __init__(self, env: KsimVectorEnv | DeviceWrapper, epsilon: float = 1e-8) -> None:
        """Wrap a batch.

        Args:
            env: the batch.
            epsilon: added to the variances, above 0.

        Raises:
            InvalidConfigError: `epsilon` is not.
        """
        super().__init__(env)
        check_positive(type(self).__name__, epsilon=epsilon)
        self.epsilon = float(epsilon)
        self.update_running_mean = True
        self.single_observation_space = Box(-np.inf, np.inf, env.single_observation_space.shape, np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._moments = Moments.empty(flatdim(self.single_observation_space), PRIOR_WEIGHT)

    @property
    def obs_rms(self) -> Moments:
        """The statistics: `mean` and `var` of each number of an observation, and `count`; they may be set."""
        return self._moments

    @obs_rms.setter
    def obs_rms(self, value: Moments) -> None:
        self._moments = _fitting("obs_rms", value, self._moments, self.batch)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        return self._normalized(obs, mask_E)[0]

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        if "final_obs" in info:
            # all that is shown is new: a row that ended shows its next episode
            final = info["final_obs"], (terminated | truncated) & ~info["diverged"]
            obs, info["final_obs"] = self._normalized(obs, np.ones(self.num_envs, bool), final)
        else:
            obs, _ = self._normalized(obs, ~info["diverged"])
        return obs, reward, terminated, truncated, info

    def _normalized(self, obs: Array, is_new_E: Any, final: tuple[Array, Array] | None = None) -> tuple[Array, Any]:
        self._moments, results = _normalize_observations(
            self._moments, self.epsilon, self.update_running_mean, obs, is_new_E, final
        )
        return results


@jax.jit
def _normalize_observations(
    moments: Moments,
    epsilon: Array,
    updates: Array,
    obs_EL: Array,
    is_new_E: Array,
    final: tuple[Array, Array] | None,
) -> tuple[Moments, tuple[Array, Array | None]]:
    """The statistics, then the observations, and the last ones where there are any, by these.

    Args:
        moments: the statistics so far.
        epsilon: added to the variances.
        updates: whether the statistics go on.
        obs_EL: (E, ...) the observations.
        is_new_E: (E,) those that count.
        final: (E, ...) observations before any reset, and (E,) those that count.
    """
    rows = obs_EL.shape[0]
    seen = moments.updated(obs_EL.reshape(rows, -1), is_new_E & updates)
    if final is not None:
        seen = seen.updated(final[0].reshape(rows, -1), final[1] & updates)

    def normalized(obs_EL: Array) -> Array:
        return seen.normalized(obs_EL.reshape(rows, -1), epsilon, clip=jnp.inf).reshape(obs_EL.shape)

    return seen, (normalized(obs_EL), None if final is None else normalized(final[0]))


class NormalizeReward(DeviceWrapper):
    """Rewards divided by the standard deviation of the discounted return so far in an episode.

    That of a step is `g = gamma (1 - terminated) g + reward`, as in Gymnasium, and 0 before an episode's first.

    Attributes:
        gamma: the discount.
        epsilon: added to the variance.
        update_running_mean: whether the statistics go on; set it to False for evaluation.
    """

    def __init__(self, env: KsimVectorEnv | DeviceWrapper, gamma: float = 0.99, epsilon: float = 1e-8) -> None:
        """Wrap a batch.

        Args:
            env: the batch.
            gamma: the discount, from 0 to 1.
            epsilon: added to the variance, above 0.

        Raises:
            InvalidConfigError: one of them is not.
        """
        super().__init__(env)
        check_within("gamma", gamma, 0.0, 1.0)
        check_positive(type(self).__name__, epsilon=epsilon)
        self.gamma, self.epsilon = float(gamma), float(epsilon)
        self.update_running_mean = True
        self._moments = Moments.empty(1, PRIOR_WEIGHT)
        self._return_E = jnp.zeros(self.num_envs, jnp.float32)

    @property
    def return_rms(self) -> Moments:
        """The statistics of the discounted return: `mean` and `var` (1,), and `count`; they may be set."""
        return self._moments

    @return_rms.setter
    def return_rms(self, value: Moments) -> None:
        self._moments = _fitting("return_rms", value, self._moments, self.batch)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        self._return_E = guard.zero_rows(jnp.asarray(mask_E), self._return_E)
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        counts_E = ~(self.is_dead(info) | info["diverged"])
        settings = self.gamma, self.epsilon, self.update_running_mean
        self._moments, self._return_E, reward = _normalize_rewards(
            self._moments, self._return_E, settings, reward, terminated, truncated, counts_E
        )
        return obs, reward, terminated, truncated, info


@jax.jit
def _normalize_rewards(
    moments: Moments,
    return_E: Array,
    settings: tuple[Array, Array, Array],
    reward_E: Array,
    terminated_E: Array,
    truncated_E: Array,
    counts_E: Array,
) -> tuple[Moments, Array, Array]:
    """The statistics and the discounted returns after a step, and its rewards, normalized."""
    gamma, epsilon, updates = settings
    return_E = jnp.where(terminated_E, 0.0, gamma * return_E) + reward_E
    moments = moments.updated(return_E[:, None], counts_E & updates)
    goes_on_E = counts_E & ~(terminated_E | truncated_E)
    return moments, jnp.where(goes_on_E, return_E, 0.0), reward_E * jax.lax.rsqrt(moments.var_L[0] + epsilon)


def _fitting(name: str, value: Moments, like: Moments, batch: KsimVectorEnv) -> Moments:
    """Statistics of as many numbers, where the envs are."""
    if not isinstance(value, Moments) or value.mean_L.shape != like.mean_L.shape:
        raise InvalidConfigError(f"{name} is {value!r}; it must be Moments of shape {like.mean_L.shape}.")
    return jax.device_put(value, batch.core.backend.device)
