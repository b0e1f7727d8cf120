"""Who takes part. A process loads the libraries of one contestant only: they set threads and flags for all of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from scripts.benchmark_sb3.settings import Hyperparameters

Policy = Callable[[np.ndarray], np.ndarray]
"""Gives actions (E, A) for observations (E, L) as Gymnasium's env has them."""
SIZES = (8, 16, 32, 64)
THREADS = tuple(dict.fromkeys((1, os.cpu_count() or 1)))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a learner is made from."""

    task: str
    hyperparameters: Hyperparameters | None
    """None for our PPO's preset."""
    num_envs: int | None
    """None for that of the preset."""
    seed: int
    env_steps: int
    """To train for, rounded up to whole iterations."""


class Listener(Protocol):
    """Follows a training."""

    def collected(self) -> None:
        """An iteration's data are there."""
        ...

    def learned(self, env_steps: int) -> None:
        """An iteration is over, the last of so many env steps."""
        ...


class Learner(Protocol):
    """Envs and what learns in them."""

    def train(self, listener: Listener) -> None:
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


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A way to train, whose fastest number of envs and of torch's threads is measured before it competes."""

    label: str
    load: Callable[[], Callable[[Recipe], Any]]
    """Import its libraries, and return what makes its `Learner`."""
    num_envs: tuple[int | None, ...]
    num_threads: tuple[int | None, ...] = (None,)
    has_common_hyperparameters: bool = True


def _sb3(vec_env: str) -> Callable[[Recipe], Any]:
    from stable_baselines3 import PPO

    from scripts.benchmark_sb3 import sb3_learner

    return partial(sb3_learner.SB3Learner, algorithm=PPO, make_envs=sb3_learner.VEC_ENVS[vec_env])


def _sbx() -> Callable[[Recipe], Any]:
    from sbx import PPO

    from scripts.benchmark_sb3 import sb3_learner

    return partial(sb3_learner.SB3Learner, algorithm=PPO, make_envs=sb3_learner.VEC_ENVS["dummy"])


def _ksim() -> Callable[[Recipe], Any]:
    from scripts.benchmark_sb3.ksim_learner import KsimLearner

    return KsimLearner


CONTESTANTS: dict[str, Contestant] = {
    "sb3_dummy": Contestant(
        label="SB3 PPO on Gymnasium, DummyVecEnv", load=partial(_sb3, "dummy"), num_envs=SIZES, num_threads=THREADS
    ),
    "sb3_subproc": Contestant(
        label="SB3 PPO on Gymnasium, SubprocVecEnv",
        load=partial(_sb3, "subproc"),
        num_envs=(2, *SIZES[:3]),
        num_threads=THREADS,
    ),
    "sbx": Contestant(label="SBX PPO on Gymnasium, DummyVecEnv", load=_sbx, num_envs=SIZES),
    "sb3_ksim": Contestant(
        label="SB3 PPO on ksim_envs", load=partial(_sb3, "ksim"), num_envs=SIZES, num_threads=THREADS
    ),
    "ksim": Contestant(label="our PPO on ksim_envs", load=_ksim, num_envs=SIZES),
    "sb3_zoo": Contestant(
        label="SB3 PPO on Gymnasium, rl-zoo's hyperparameters",
        load=partial(_sb3, "dummy"),
        num_envs=(1,),
        num_threads=THREADS,
        has_common_hyperparameters=False,
    ),
    "ksim_preset": Contestant(
        label="our PPO on ksim_envs, its preset", load=_ksim, num_envs=(None,), has_common_hyperparameters=False
    ),
}
