"""Gymnasium's vector wrappers, computed where the envs are.

    envs = gym.make("ksim/Ant-v0", num_envs=4096, output="torch", autoreset_mode="same_step")
    envs = NormalizeReward(NormalizeObservation(RecordEpisodeStatistics(envs)))

Names, arguments and results are those of `gymnasium.wrappers.vector` (and of its `FrameStackObservation` for single
envs). These here take any output and leave the device only for NumPy; they work in all three auto-reset modes and over
partial resets, and show the same episodes alike in each. What is no transition counts in no statistic: the step of
NEXT_STEP mode that only resets, and that of a row whose physics diverged.
"""

# Gymnasium's wrapper classes take type arguments in some versions only.
# pyright: reportMissingTypeArgument=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space
from jax import Array
from numpy.typing import ArrayLike

from ksim_envs import dlpack, guard, validate
from ksim_envs.errors import InvalidConfigError
from ksim_envs.moments import Moments
from ksim_envs.tasks.task import RESERVED
from ksim_envs.types import Info
from ksim_envs.vector_env import KsimVectorEnv

PRIOR_WEIGHT = 1e-4
"""Observations of mean 0 and variance 1 that statistics begin with, as in Gymnasium."""


class DeviceWrapper(VectorWrapper):
    """What the wrappers have in common.

    Inside a chain of them arrays are JAX's; the outermost hands out the kind that the batch had.
    """

    def __init__(self, env: KsimVectorEnv | DeviceWrapper) -> None:
        """Wrap a batch.

        Args:
            env: the batch, or another of these wrappers around it, whose output this takes over.

        Raises:
            InvalidConfigError: it is neither.
        """
        if not isinstance(env, KsimVectorEnv | DeviceWrapper):
            raise InvalidConfigError(
                f"{type(self).__name__} is for a batch of ksim_envs or one of its own wrappers around that, not for "
                f"{env}; put Gymnasium's wrappers outside of these."
            )
        super().__init__(env)
        self._end_keys: tuple[str, ...] = getattr(
            env, "_end_keys", ("final_obs", "_final_obs", "final_info", "_final_info")
        )
        self.output, env.output = env.output, "jax"

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
        validate.choice("output", value, validate.OUTPUTS)
        self._export = dlpack.Exporter(value, self.batch.core.backend.device)
        self._output = value

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """The batch's mode; it may be changed there."""
        return self.batch.autoreset_mode

    @property
    def metadata(self) -> dict[str, Any]:
        """The batch's, with this wrapper's output."""
        return {**self.env.metadata, "jax": self._output == "jax"}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """See `KsimVectorEnv.reset`."""
        obs, info = self.env.reset(seed=seed, options=options)  # pyright: ignore[reportArgumentType]
        mask_E = info.get("_episode_length", np.ones(self.num_envs, bool))  # there after a partial reset
        obs = self._after_reset(obs, mask_E)
        arrays = {name: leaf for name, leaf in info.items() if not isinstance(leaf, np.ndarray)}
        obs, arrays = self._export((obs, arrays))
        return obs, {**info, **arrays}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """See `KsimVectorEnv.step`."""
        obs, reward, terminated, truncated, info = self._after_step(*self.env.step(self._before_step(actions)))
        ends = {name: info.pop(name) for name in self._end_keys if name in info}
        obs, reward, terminated, truncated, info = self._export((obs, reward, terminated, truncated, info))
        if ends and (self._output != "numpy" or (terminated | truncated).any()):
            info |= self._export(ends)
        return obs, reward, terminated, truncated, info

    def _before_step(self, actions: Any) -> Any:
        return actions

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        """The observations after a reset of some envs."""
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        """The results of a step; `info` may be changed."""
        return obs, reward, terminated, truncated, info

    def _is_dead(self, info: Info) -> Array:
        """(E,) whether the step only reset the env."""
        return _first(info) & (self.autoreset_mode is AutoresetMode.NEXT_STEP)


def _first(info: Info) -> Array:
    """(E,) whether what an env shows after the step is the first observation of an episode."""
    return info["episode_length"] == 0


# Episodes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class _Episodes:
    """The present episode of each env, and the last `B` that ended, of which the newest is at `(count - 1) % B`."""

    return_E: Array  # (E,), float32
    length_E: Array  # (E,), int32: steps
    began_E: Array  # (E,), float32: s since the wrapper was made
    count: Array  # (), int32: episodes that ended
    return_B: Array  # (B,), float32
    length_B: Array  # (B,), int32: steps
    duration_B: Array  # (B,), float32: s


class RecordEpisodeStatistics(DeviceWrapper):
    """Puts return `r`, length `l` and duration `t` (s) of the episodes that ended into `info["episode"]`.

    `info["_episode"]` says whose. With NumPy output both are there only when an episode ended, else always (looking
    would wait for the device). An episode that ended because its physics diverged is left out.
    """

    def __init__(
        self, env: KsimVectorEnv | DeviceWrapper, buffer_length: int = 100, stats_key: str = "episode"
    ) -> None:
        """Wrap a batch.

        Args:
            env: the batch.
            buffer_length: how many episodes `return_queue`, `length_queue` and `time_queue` hold at most.
            stats_key: in the place of `"episode"`.

        Raises:
            InvalidConfigError: a length below 1, or a key that `info` has already.
        """
        super().__init__(env)
        size, num_envs = validate.positive_integer("buffer_length", buffer_length), self.num_envs
        task = self.batch.core.task
        taken = {*task.metrics, *task.rewards, *task.commands, *self._end_keys, *RESERVED - {"episode"}}
        if stats_key in taken:
            raise InvalidConfigError(f"stats_key is {stats_key!r}, which info has already; choose another.")
        self._keys = (stats_key, f"_{stats_key}")
        self._end_keys = (*self._end_keys, *self._keys)
        self._made = time.perf_counter()
        self._episodes = _Episodes(
            return_E=jnp.zeros(num_envs),
            length_E=jnp.zeros(num_envs, jnp.int32),
            began_E=jnp.zeros(num_envs),
            count=jnp.zeros((), jnp.int32),
            return_B=jnp.zeros(size),
            length_B=jnp.zeros(size, jnp.int32),
            duration_B=jnp.zeros(size),
        )

    @property
    def episode_count(self) -> int:
        """Episodes that have ended."""
        return int(self._episodes.count)

    @property
    def return_queue(self) -> np.ndarray:
        """The returns of the last episodes, the oldest first."""
        return self._queue(self._episodes.return_B)

    @property
    def length_queue(self) -> np.ndarray:
        """The lengths of the last episodes in steps, the oldest first."""
        return self._queue(self._episodes.length_B)

    @property
    def time_queue(self) -> np.ndarray:
        """The durations of the last episodes in s, the oldest first."""
        return self._queue(self._episodes.duration_B)

    def _queue(self, values_B: Array) -> np.ndarray:
        count, size = self.episode_count, len(values_B)
        return np.asarray(values_B)[np.arange(max(0, count - size), count) % size]

    def _now(self) -> np.float32:
        return np.float32(time.perf_counter() - self._made)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        self._episodes = _begun(self._episodes, mask_E, self._now())
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        is_same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._episodes, ended = _counted(
            self._episodes,
            reward,
            terminated | truncated,
            info["diverged"],
            self._is_dead(info),
            is_same_step,
            self._now(),
        )
        return obs, reward, terminated, truncated, {**info, **dict(zip(self._keys, ended, strict=True))}


@jax.jit
def _begun(episodes: _Episodes, mask_E: Array, now: Array) -> _Episodes:
    """The present episodes begun anew where the mask says."""
    return_E, length_E = guard.zero_rows(mask_E, (episodes.return_E, episodes.length_E))
    return replace(episodes, return_E=return_E, length_E=length_E, began_E=jnp.where(mask_E, now, episodes.began_E))


@jax.jit
def _counted(
    episodes: _Episodes,
    reward_E: Array,
    ended_E: Array,
    diverged_E: Array,
    dead_E: Array,
    is_same_step: Array,
    now: Array,
) -> tuple[_Episodes, tuple[dict[str, Array], Array]]:
    """One step more, and what goes into `info`."""
    lived = replace(episodes, return_E=episodes.return_E + reward_E, length_E=episodes.length_E + 1)
    lived = _begun(lived, dead_E, now)
    counts_E = ended_E & ~diverged_E
    duration_E = now - lived.began_E
    shown = {"r": lived.return_E, "l": lived.length_E, "t": duration_E}
    size, rank_E = len(episodes.return_B), jnp.cumsum(counts_E)
    is_kept_E = counts_E & (rank_E > rank_E[-1] - size)  # should more end at once than there is room for
    place_E = jnp.where(is_kept_E, (episodes.count + rank_E - 1) % size, size)
    lived = replace(
        lived,
        count=episodes.count + rank_E[-1],
        return_B=episodes.return_B.at[place_E].set(lived.return_E, mode="drop"),
        length_B=episodes.length_B.at[place_E].set(lived.length_E, mode="drop"),
        duration_B=episodes.duration_B.at[place_E].set(duration_E, mode="drop"),
    )
    return _begun(lived, ended_E & is_same_step, now), (guard.zero_rows(~counts_E, shown), counts_E)


# Normalization


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
        self.epsilon = _positive_epsilon(epsilon)
        self.update_running_mean = True
        self.single_observation_space = Box(-np.inf, np.inf, _shape(env.single_observation_space), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._moments = Moments.empty(int(np.prod(_shape(env.single_observation_space))), PRIOR_WEIGHT)

    @property
    def obs_rms(self) -> Moments:
        """The statistics: `mean` and `var` of each number of an observation, and `count`; they may be set."""
        return self._moments

    @obs_rms.setter
    def obs_rms(self, value: Moments) -> None:
        self._moments = _fitting("obs_rms", value, self._moments)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        return self._normalized(obs, mask_E)[0]

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        if "final_obs" in info:
            # all that is shown is new: a row that ended shows its next episode
            seen = info["final_obs"], (terminated | truncated) & ~info["diverged"]
            obs, info["final_obs"] = self._normalized(obs, np.ones(self.num_envs, bool), *seen)
        else:
            obs, _ = self._normalized(obs, ~info["diverged"])
        return obs, reward, terminated, truncated, info

    def _normalized(
        self, obs: Array, is_new_E: Any, final_obs: Array | None = None, ended_E: Array | None = None
    ) -> tuple[Array, Any]:
        updates = self.update_running_mean
        self._moments, results = _normalize_observations(
            self._moments, self.epsilon, updates, obs, is_new_E, final_obs, ended_E
        )
        return results


@jax.jit
def _normalize_observations(
    moments: Moments,
    epsilon: Array,
    updates: Array,
    obs_EL: Array,
    is_new_E: Array,
    final_obs_EL: Array | None,
    ended_E: Array | None,
) -> tuple[Moments, tuple[Array, Array | None]]:
    """The statistics, then the observations, and the last ones where there are any, by these."""
    rows = obs_EL.shape[0]
    seen = moments.updated(obs_EL.reshape(rows, -1), is_new_E & updates)
    if final_obs_EL is not None and ended_E is not None:
        seen = seen.updated(final_obs_EL.reshape(rows, -1), ended_E & updates)

    def normalized(obs_EL: Array) -> Array:
        return seen.normalized(obs_EL.reshape(rows, -1), epsilon, clip=jnp.inf).reshape(obs_EL.shape)

    return seen, (normalized(obs_EL), None if final_obs_EL is None else normalized(final_obs_EL))


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
        if not 0.0 <= gamma <= 1.0:
            raise InvalidConfigError(f"gamma is {gamma!r}; it must lie in [0, 1].")
        self.gamma, self.epsilon = float(gamma), _positive_epsilon(epsilon)
        self.update_running_mean = True
        self._moments = Moments.empty(1, PRIOR_WEIGHT)
        self._return_E = jnp.zeros(self.num_envs)

    @property
    def return_rms(self) -> Moments:
        """The statistics of the discounted return: `mean` and `var` (1,), and `count`; they may be set."""
        return self._moments

    @return_rms.setter
    def return_rms(self, value: Moments) -> None:
        self._moments = _fitting("return_rms", value, self._moments)

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        self._return_E = guard.zero_rows(jnp.asarray(mask_E), self._return_E)
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        counts_E = ~(self._is_dead(info) | info["diverged"])
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


# Actions and stacks


class ClipAction(DeviceWrapper):
    """Takes any actions, and clips them to the bounds."""

    def __init__(self, env: KsimVectorEnv | DeviceWrapper) -> None:
        """Wrap a batch."""
        super().__init__(env)
        self._low, self._high = _bounds(env)
        self.single_action_space = Box(-np.inf, np.inf, self._low.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _before_step(self, actions: Any) -> Array:
        return jnp.clip(_private(self, actions), self._low, self._high)


class RescaleAction(DeviceWrapper):
    """Takes actions from one range, and maps it onto that of the bounds."""

    def __init__(self, env: KsimVectorEnv | DeviceWrapper, min_action: ArrayLike, max_action: ArrayLike) -> None:
        """Wrap a batch.

        Args:
            env: the batch.
            min_action: the action that stands for the lower bounds, a number or (num_actions,).
            max_action: the same for the upper bounds, above `min_action`.

        Raises:
            InvalidConfigError: it is not above, or the bounds are infinite.
        """
        super().__init__(env)
        low, high = _bounds(env)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidConfigError("the actions have no finite bounds to map onto; put ClipAction around this one.")
        min_A, max_A = (np.broadcast_to(np.asarray(value, np.float32), low.shape) for value in (min_action, max_action))
        if not (min_A < max_A).all():
            raise InvalidConfigError(f"min_action is {min_action} and max_action {max_action}; it must be above.")
        slope = (high - low) / (max_A - min_A)
        self._slope, self._offset = jnp.asarray(slope), jnp.asarray(low - slope * min_A)
        self.single_action_space = Box(min_A, max_A, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _before_step(self, actions: Any) -> Array:
        return self._slope * _private(self, actions) + self._offset


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
        shape = _shape(env.single_observation_space)
        self._padding = None if isinstance(padding_type, str) else jnp.asarray(padding_type, jnp.float32)
        if isinstance(padding_type, str):
            validate.choice("padding_type", padding_type, ("reset", "zero"))
            self._padding = jnp.zeros(shape) if padding_type == "zero" else None
        elif np.shape(padding_type) != shape:
            raise InvalidConfigError(f"padding_type has shape {np.shape(padding_type)}; an observation has {shape}.")
        self.single_observation_space = batch_space(env.single_observation_space, stack_size)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._stack_ESL = jnp.zeros((self.num_envs, stack_size, *shape))

    def _after_reset(self, obs: Array, mask_E: np.ndarray) -> Array:
        self._stack_ESL, obs, _ = _stacked(self._stack_ESL, obs, None, mask_E, ~mask_E, self._padding)
        return obs

    def _after_step(
        self, obs: Array, reward: Array, terminated: Array, truncated: Array, info: Info
    ) -> tuple[Array, Array, Array, Array, Info]:
        none_E = np.zeros(self.num_envs, bool)
        self._stack_ESL, obs, final = _stacked(
            self._stack_ESL, obs, info.get("final_obs"), _first(info), none_E, self._padding
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


def _private(wrapper: DeviceWrapper, actions: Any) -> Array:
    shape = (wrapper.num_envs, wrapper.batch.core.num_actions)
    return dlpack.private_actions(actions, shape, "(num_envs, num_actions)", wrapper.batch.core.backend.device)


def _bounds(env: Any) -> tuple[np.ndarray, np.ndarray]:
    """(A,) lower and upper bounds of the actions that an env takes."""
    return env.single_action_space.low, env.single_action_space.high


def _shape(space: Any) -> tuple[int, ...]:
    return space.shape


def _positive_epsilon(value: float) -> float:
    if not 0.0 < value < np.inf:
        raise InvalidConfigError(f"epsilon is {value!r}; it must be above 0.")
    return float(value)


def _fitting(name: str, value: Moments, like: Moments) -> Moments:
    """Statistics of as many numbers, where the others are."""
    if not isinstance(value, Moments) or value.mean_L.shape != like.mean_L.shape:
        raise InvalidConfigError(f"{name} is {value!r}; it must be Moments of shape {like.mean_L.shape}.")
    return jax.device_put(value, like.mean_L.device)
