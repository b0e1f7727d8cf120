"""The random numbers of terms: a generator for JAX's keys that is quick to compile, where a task draws in fifty places.

JAX's own, threefry, takes XLA on a CPU a tenth of a second for every key and every draw. Here each word is a hash of a
key of 64 bits, a counter, and what it is for: pcg4d of Jarzynski and Olano, "Hash Functions for GPU Rendering", Journal
of Computer Graphics Techniques 9(3), 2020, which is made for such inputs and passes their tests of randomness. It is
not for secrets.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.random import define_prng_impl

SEED, SPLIT, FOLD_IN, BITS = range(4)
"""What a word is for: keys never have words in common with draws."""


def pcg4d(x: Any, y: Any, z: Any, w: Any) -> tuple[Array, Array, Array, Array]:
    """Four uint32 words from four, of one shape or scalars."""
    x, y, z, w = (jnp.asarray(v, jnp.uint32) * jnp.uint32(1664525) + jnp.uint32(1013904223) for v in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    x, y, z, w = (v ^ (v >> 16) for v in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    return x, y, z, w


def term_key(key: Array) -> Array:
    """The key of this generator that any JAX key of two words or more stands for."""
    return jax.random.wrap_key_data(jax.random.key_data(key)[..., :2], impl=_GENERATOR)


def uniform(key: Array, shape: tuple[int, ...], low: Any, high: Any, dtype: Any = jnp.float32) -> Array:
    """Numbers in [low, high), where the bounds are numbers or arrays that broadcast to the shape.

    JAX's own subtracts the bounds inside the program, and its compiler folds that into what is around it or not, which
    shows in the last bit: a batch of one then differs from the same row in a larger one.
    """
    return low + (high - low) * jax.random.uniform(key, shape, dtype)


def _seed(seed: Array) -> Array:
    return jnp.stack(pcg4d(seed.astype(jnp.uint32), 0, 0, SEED)[:2])


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(pcg4d(key[0], key[1], _counters(shape), SPLIT)[:2], axis=-1)


def _fold_in(key: Array, data: int | Array) -> Array:
    return jnp.stack(pcg4d(key[0], key[1], data, FOLD_IN)[:2])


def _random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    high, low, *_ = pcg4d(key[0], key[1], _counters(shape), BITS)
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high >> (32 - bit_width)).astype(f"uint{bit_width}")


def _counters(shape: tuple[int, ...]) -> Array:
    return jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)


_GENERATOR: Any = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="pcg4d", tag="pcg"
)
