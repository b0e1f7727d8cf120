"""Envs of one size, so that each id is compiled once in a process."""

from __future__ import annotations

from functools import cache

import numpy as np

import ksim_envs
from ksim_envs import Core, KsimVectorEnv

BATCH = 16
"""Rows of every env but those of the part bench."""


def make(id: str, backend: str = "mjx", **keywords: object) -> KsimVectorEnv:
    """An env of the common size."""
    return ksim_envs.make(id, BATCH, backend=backend, **keywords)


@cache  # keeps it alive, and its compiled programs, which the mjx envs of the id share
def core(id: str) -> Core:
    """The id's pure functions on mjx."""
    return ksim_envs.make_functional(id, BATCH, backend="mjx")


def random_actions(id: str, num_steps: int) -> np.ndarray:
    """(num_steps, BATCH, num_actions); an env clips what its actuators do not reach."""
    shape = (num_steps, BATCH, core(id).num_actions)
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
