"""Who takes part, and the settings in which each is tried."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from typing import Literal

Envs = Literal["dummy", "subproc", "ksim", "ksim_gymnasium"]
"""Gymnasium's envs in SB3's DummyVecEnv or SubprocVecEnv; ours, with dynamics="fast" or dynamics="gymnasium"."""
_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = tuple(dict.fromkeys((1, _PROCESSORS)))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What changes how fast a contestant is, and not what it learns."""

    envs: Envs
    num_threads: int | None = None
    """Of torch; None for a learner that does not compute with it."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A way to train. If it has several settings, the fastest one competes."""

    label: str
    learner: Literal["sb3", "sbx", "ksim"]
    settings: tuple[Setting, ...]
    """The first one is that of a quick benchmark."""
    hyperparameters: Literal["common", "zoo", "preset"] = "common"
    usual_speed: float = 1.0
    """About how many times as fast as SB3 it trains: a guess, until it has been measured."""


def _settings(*envs: Envs, threads: tuple[int | None, ...] = (None,)) -> tuple[Setting, ...]:
    return tuple(Setting(envs=kind, num_threads=number) for kind, number in product(envs, threads))


CONTESTANTS = {
    "sb3": Contestant(
        label="SB3 PPO on Gymnasium", learner="sb3", settings=_settings("dummy", "subproc", threads=THREADS)
    ),
    "sbx": Contestant(label="SBX PPO on Gymnasium", learner="sbx", settings=_settings("dummy", "subproc")),
    "sb3_ksim": Contestant(label="SB3 PPO on ksim_envs", learner="sb3", settings=_settings("ksim", threads=THREADS)),
    "sb3_ksim_gymnasium": Contestant(
        label="SB3 PPO on ksim_envs, Gymnasium's dynamics",
        learner="sb3",
        settings=_settings("ksim_gymnasium", threads=THREADS),
    ),
    "ksim": Contestant(label="our PPO on ksim_envs", learner="ksim", settings=_settings("ksim"), usual_speed=3.0),
    "ksim_gymnasium": Contestant(
        label="our PPO on ksim_envs, Gymnasium's dynamics",
        learner="ksim",
        settings=_settings("ksim_gymnasium"),
        usual_speed=2.0,
    ),
    "sb3_zoo": Contestant(
        label="SB3 PPO on Gymnasium, rl-zoo's hyperparameters",
        learner="sb3",
        settings=_settings("dummy", threads=THREADS),
        hyperparameters="zoo",
        usual_speed=0.3,
    ),
    "ksim_preset": Contestant(
        label="our PPO on ksim_envs, its preset",
        learner="ksim",
        settings=_settings("ksim"),
        hyperparameters="preset",
        usual_speed=15.0,
    ),
}
