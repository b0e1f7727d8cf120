"""What is measured of a training: its time without that of evaluations, and returns in Gymnasium's own env."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from scripts.benchmark_sb3.contestants import Policy

EVALUATION_SEED = 1_000_000
"""Of the first env; no training's are near."""

Row = dict[str, Any]
Write = Callable[[Row], None]


class Recorder:
    """A `Listener` that evaluates now and then, and whose clock stands still meanwhile."""

    def __init__(
        self, write: Write, evaluate: Callable[[], Row], *, env_steps: int, num_evaluations: int, started: float
    ) -> None:
        """Begin.

        Args:
            write: takes a row.
            evaluate: gives the returns of the policy as it is.
            env_steps: of the whole training.
            num_evaluations: how many, the last one at the end.
            started: time.perf_counter() before anything was set up.
        """
        self._write, self._evaluate = write, evaluate
        self._interval, self._env_steps = env_steps / num_evaluations, env_steps
        self._next = self._interval
        self._mark = time.perf_counter()
        self.setup_s = self._mark - started
        self.collect_s = self.learn_s = 0.0

    def collected(self) -> None:
        """An iteration's data are there."""
        self.collect_s += self._lap()

    def learned(self, env_steps: int) -> None:
        """An iteration is over; evaluate where it is time."""
        self.learn_s += self._lap()
        if env_steps >= min(self._next, self._env_steps):
            self._next = (env_steps // self._interval + 1) * self._interval
            self._write(
                {
                    "kind": "evaluation",
                    "env_steps": env_steps,
                    "seconds": self.setup_s + self.collect_s + self.learn_s,
                    "collect_s": self.collect_s,
                    "learn_s": self.learn_s,
                    **self._evaluate(),
                }
            )
            self._mark = time.perf_counter()

    def _lap(self) -> float:
        before, self._mark = self._mark, time.perf_counter()
        return self._mark - before


class Laps:
    """A `Listener` that keeps the seconds of each iteration."""

    def __init__(self) -> None:
        """Begin."""
        self.seconds: list[float] = []
        self._mark = time.perf_counter()

    def collected(self) -> None:
        """Nothing to do."""

    def learned(self, env_steps: int) -> None:
        """An iteration is over."""
        before, self._mark = self._mark, time.perf_counter()
        self.seconds.append(self._mark - before)


def evaluate(env_id: str, policy: Policy, num_episodes: int) -> Row:
    """One episode in each of so many envs, the same ones each time.

    Not `agents.evaluate`: that loads JAX with our flags, which would then be those of SBX too.
    """
    envs = gym.make_vec(env_id, num_episodes, vectorization_mode="sync")
    return_E, length_E, runs_E = np.zeros(num_episodes), np.zeros(num_episodes, int), np.ones(num_episodes, bool)
    with contextlib.closing(envs):
        obs, _ = envs.reset(seed=EVALUATION_SEED)
        while runs_E.any():
            obs, reward, terminated, truncated, _ = envs.step(policy(obs))
            return_E += np.where(runs_E, reward, 0.0)
            length_E += runs_E
            runs_E &= ~(terminated | truncated)
    return {
        "return_mean": float(return_E.mean()),
        "return_std": float(return_E.std()),
        "length_mean": float(length_E.mean()),
    }
