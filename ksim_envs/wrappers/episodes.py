"""Return, length and duration of the episodes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode
from jax import Array

from ksim_envs import guard, validate
from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.task import RESERVED
from ksim_envs.types import Info
from ksim_envs.vector_env import KsimVectorEnv
from ksim_envs.wrappers.device import DeviceWrapper


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
            return_E=jnp.zeros(num_envs, jnp.float32),
            length_E=jnp.zeros(num_envs, jnp.int32),
            began_E=jnp.zeros(num_envs, jnp.float32),
            count=jnp.zeros((), jnp.int32),
            return_B=jnp.zeros(size, jnp.float32),
            length_B=jnp.zeros(size, jnp.int32),
            duration_B=jnp.zeros(size, jnp.float32),
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
            self.is_dead(info),
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
