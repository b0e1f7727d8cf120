"""What is measured of a training: its time without that of evaluations, and returns in Gymnasium's own env."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import gymnasium as gym
import numpy as np

from scripts.benchmark_sb3.jobs import Job, Row

EVALUATION_SEED = 1_000_000
"""Of the first env; no training's are near."""
Policy = Callable[[np.ndarray], np.ndarray]
"""Gives actions (E, A) for observations (E, L) as Gymnasium's env has them."""


class Learner(Protocol):
    """Envs and what learns in them, made from a `Job`."""

    def train(self, recorder: Recorder) -> None:
        """Train from the beginning to the end of the budget."""
        ...

    def policy(self) -> Policy:
        """The policy as it is, without noise."""
        ...

    def step_rate(self, seconds: float) -> float:
        """Env steps per second of the envs alone, in about so much time, under random actions."""
        ...

    def close(self) -> None:
        """End what the envs have started."""
        ...


class Recorder:
    """Hears of each iteration, evaluates now and then, and has a clock that stands still meanwhile."""

    def __init__(self, job: Job, evaluate: Callable[[], Row], tell: Callable[[Row], None], *, started: float) -> None:
        """Begin.

        Args:
            job: says how long the training is, and how many evaluations it has, the last one at the end.
            evaluate: gives the returns of the policy as it is.
            tell: takes a row.
            started: time.perf_counter() before anything was set up.
        """
        self._evaluate, self._tell = evaluate, tell
        self._env_steps, self._interval = job.env_steps, job.env_steps / job.num_evaluations
        self._next = self._interval
        self._mark = time.perf_counter()
        self.setup_s = self._mark - started
        self._collect_s = self._learn_s = 0.0

    def collected(self) -> None:
        """An iteration's data are there."""
        self._collect_s += self._lap()

    def learned(self, env_steps: int) -> None:
        """An iteration is over, the last of so many env steps; evaluate where it is time."""
        self._learn_s += self._lap()
        if env_steps >= min(self._next, self._env_steps):
            self._next = (env_steps // self._interval + 1) * self._interval
            seconds = self.setup_s + self._collect_s + self._learn_s
            times = {"seconds": round(seconds, 3), "collect_s": round(self._collect_s, 3)}
            self._tell({"env_steps": env_steps, **times, **self._evaluate()})
            self._mark = time.perf_counter()

    def _lap(self) -> float:
        before, self._mark = self._mark, time.perf_counter()
        return self._mark - before


def evaluate(env_id: str, policy: Policy, num_episodes: int) -> Row:
    """One episode in each of so many envs, the same ones each time; nothing for none.

    Not `agents.evaluate`: that loads JAX with our flags, which would then be those of SBX too.
    """
    if not num_episodes:
        return {}
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
        "return_mean": round(float(return_E.mean()), 2),
        "return_std": round(float(return_E.std()), 2),
        "length_mean": float(length_E.mean()),
    }
