"""The generator of terms: its hash is the published one, and numbers of neighbouring keys look independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from ksim_envs.tasks.randomness import pcg4d, term_key

NUM_ENVS, NUM_STEPS = 64, 64


def by_hand(*words):
    """pcg4d with Python's integers, as in the paper's listing."""
    x, y, z, w = ((word * 1664525 + 1013904223) % 2**32 for word in words)

    def mix(x, y, z, w):
        x = (x + y * w) % 2**32
        y = (y + z * x) % 2**32
        z = (z + x * y) % 2**32
        return x, y, z, (w + y * z) % 2**32

    return mix(*(word ^ (word >> 16) for word in mix(x, y, z, w)))


@pytest.mark.parametrize("words", [(0, 0, 0, 0), (1, 2, 3, 4), (2**32 - 1, 0, 2**31, 7)], ids=["zeros", "few", "large"])
def test_the_hash_is_the_published_one(words):
    assert tuple(int(word) for word in pcg4d(*words)) == by_hand(*words)


@pytest.fixture(scope="module")
def keys():
    """(NUM_ENVS, NUM_STEPS) keys as the core makes them: of an env, of an episode, of a step, of a term."""

    def one(env, step):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), env), 1), step)
        return jax.random.fold_in(term_key(key), 12345)

    return jax.vmap(lambda env: jax.vmap(lambda step: one(env, step))(jnp.arange(NUM_STEPS)))(jnp.arange(NUM_ENVS))


DRAWS = {
    "elements of one draw": lambda keys: jax.random.uniform(keys[0, 0], (4096,)),
    "the same element, from env to env and step to step": lambda keys: jax.vmap(jax.random.uniform)(keys.reshape(-1)),
    "streams of one term": lambda keys: jax.vmap(lambda word: jax.random.uniform(jax.random.fold_in(keys[0, 0], word)))(
        jnp.arange(4096)
    ),
    "parts of one key": lambda keys: jax.vmap(jax.random.uniform)(jax.random.split(keys[0, 0], 4096)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers_are_uniform_and_neighbours_independent(keys, name):
    draw = np.asarray(DRAWS[name](keys), np.float64)
    assert kstest(draw, "uniform").pvalue > 1e-3
    for lag in (1, 2, 64):
        pairs, *_ = np.histogram2d(draw[:-lag], draw[lag:], bins=8, range=[[0, 1], [0, 1]])
        assert chisquare(pairs.reshape(-1)).pvalue > 1e-3


@pytest.mark.parametrize("width", [8, 16, 32])
def test_every_bit_of_a_word_is_a_coin(keys, width):
    dtype = f"uint{width}"
    words = np.asarray(jax.vmap(lambda key: jax.random.bits(key, (4,), dtype))(keys.reshape(-1)))
    assert words.dtype == dtype
    ones = (words[..., None] >> np.arange(width, dtype=dtype) & 1).reshape(-1, width).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 4 * 0.5 / np.sqrt(words.size)


def test_normal_numbers_are_normal(keys):
    draw = np.asarray(jax.vmap(jax.random.normal)(keys.reshape(-1)))
    assert kstest(draw, "norm").pvalue > 1e-3


def test_keys_of_different_origin_differ(keys):
    key = keys[0, 0]
    parts = [key, jax.random.fold_in(key, 0), jax.random.split(key, 1)[0], jax.random.fold_in(key, 1)]
    words = np.stack([np.asarray(jax.random.key_data(part)) for part in (*parts, *keys[:, 0])[1:]])
    assert len(np.unique(words, axis=0)) == len(words)
