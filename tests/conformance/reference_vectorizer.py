"""Gymnasium's three auto-reset modes, written by hand: plain Python loops over single envs. Slow, and easy to believe.

`ReferenceVectorizer` has the face of `KsimVectorEnv` with NumPy output, so that a test can drive both alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

DTYPES = {bool: np.bool_, int: np.int32, float: np.float32}
"""What a single env's Python scalars were before they were made scalars."""


class ReferenceVectorizer:
    """Steps single envs one after the other and resets them when the mode says so."""

    def __init__(self, envs: Sequence[gym.Env[Any, Any]], autoreset_mode: AutoresetMode) -> None:
        self.envs, self.autoreset_mode = envs, autoreset_mode
        self.num_envs = len(envs)
        self._obs: list[np.ndarray] = []
        self._infos: list[dict[str, Any]] = []
        self._has_ended = np.zeros(self.num_envs, bool)

    def reset(self, *, seed: list[int] | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """All envs, or those of the mask; the others show their observation again, and their info says nothing."""
        mask = np.ones(self.num_envs, bool) if options is None else options["reset_mask"]
        results = [env.reset(seed=seed and seed[i]) if mask[i] else None for i, env in enumerate(self.envs)]
        self._obs = [result[0] if result else self._obs[i] for i, result in enumerate(results)]
        self._infos = [result[1] if result else self._infos[i] for i, result in enumerate(results)]
        self._has_ended &= ~mask
        info = _stacked(self._infos)
        return np.stack(self._obs), info if mask.all() else info | {f"_{name}": mask for name in info}

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, Any]:
        """One step of each env, in its turn."""
        rewards, terminated, truncated, final_obs, final_infos = [], [], [], [], []
        for i, env in enumerate(self.envs):
            if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._has_ended[i]:
                obs, info = env.reset()
                reward, is_terminated, is_truncated = 0.0, False, False
            else:
                obs, reward, is_terminated, is_truncated, info = env.step(actions[i])
            final_obs.append(obs)
            final_infos.append(info)
            self._has_ended[i] = is_terminated or is_truncated
            if self.autoreset_mode is AutoresetMode.SAME_STEP and self._has_ended[i]:
                obs, info = env.reset()
            self._obs[i], self._infos[i] = obs, info
            rewards.append(reward)
            terminated.append(is_terminated)
            truncated.append(is_truncated)
        info = _stacked(self._infos)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._has_ended.any():
            info |= self._final(np.stack(final_obs), _stacked(final_infos))
        return np.stack(self._obs), np.float32(rewards), np.array(terminated), np.array(truncated), info

    def _final(self, final_obs: np.ndarray, final_info: dict[str, Any]) -> dict[str, Any]:
        ended = self._has_ended.copy()
        episode = {"r": final_info["episode_return"], "l": final_info["episode_length"]}
        final_info = {**final_info, "episode": episode, "_episode": ended}
        return {"final_obs": final_obs, "_final_obs": ended, "final_info": final_info, "_final_info": ended}


def play(env: Any, actions: Iterable[np.ndarray], **reset: Any) -> list[tuple[Any, ...]]:
    """All results of a reset and of a step with each action; under DISABLED, of the resets in between as well."""
    return [env.reset(**reset), *play_on(env, actions, np.zeros(env.num_envs, bool))]


def play_on(env: Any, actions: Iterable[np.ndarray], ended: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """The same from where the env is; `ended` says which of its episodes ended in the last step."""
    for action in actions:
        if env.autoreset_mode is AutoresetMode.DISABLED and ended.any():
            yield valid_rows(env.reset(options={"reset_mask": ended}))
        yield (result := env.step(action))
        ended = ended_in(result)


def ended_in(step: tuple[Any, ...]) -> np.ndarray:
    """(num_envs,) bool: the envs whose episodes ended in this step."""
    return np.asarray(step[2]) | np.asarray(step[3])


def valid_rows(result: tuple[Any, Any]) -> tuple[Any, Any]:
    """The result of a partial reset with the rows of info that its masks `_NAME` allow to be read."""
    obs, info = result
    return obs, {name: value[info[f"_{name}"]] if f"_{name}" in info else value for name, value in info.items()}


def _stacked(infos: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([info[name] for info in infos], DTYPES.get(type(infos[0][name]))) for name in infos[0]}
