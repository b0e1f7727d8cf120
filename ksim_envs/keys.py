"""Where randomness comes from: a key of each row, of each of its episodes, and of each step of these."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs.types import EnvState


def root_keys(seeds: Sequence[int]) -> Array:
    """(n,) typed keys of seeds in [0, 2**64); equal to `jax.random.key(seed)` wherever that accepts it."""
    words = np.array([(seed >> 32, seed & 0xFFFFFFFF) for seed in seeds], np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def episode_key(key: Array, episode: Array) -> Array:
    """The key of one episode of a row."""
    return jax.random.fold_in(key, episode)


def step_key(row: EnvState) -> Array:
    """The key of the present step of a row."""
    return jax.random.fold_in(episode_key(row.key_E, row.episode_E), row.step_E)
