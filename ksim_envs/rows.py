"""Functions of one row, applied to a batch of any size, with the same bits for a row whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

Tree = TypeVar("Tree")

CHUNK = 32
"""Rows that are computed together on a CPU. There the compiler orders sums and fuses multiplications with additions
differently for different numbers of rows, which shows in the last bit; with a fixed number it cannot."""
RESET_CHUNK = 128
"""Rows that are reset together on a CPU: more, because each time calls the engine once."""


def map_rows(function: Callable[..., Tree], *rows: Any, chunk: int | None = CHUNK) -> Tree:
    """`jax.vmap(function)(*rows)`, a fixed number of rows at a time.

    Args:
        function: from the values of one row to a tree.
        rows: trees whose leaves have the batch as their first axis.
        chunk: how many rows at a time; None for all at once.

    Returns:
        The tree with the batch as its leaves' first axis.
    """
    if chunk is None:
        return jax.vmap(function)(*rows)
    num_rows = len(jax.tree.leaves(rows)[0])
    num_chunks = max(2, -(-num_rows // chunk))  # a loop of one turn would be inlined, and compiled differently
    chunks = jax.tree.map(
        lambda leaf: _padded(leaf, num_chunks * chunk).reshape(num_chunks, chunk, *leaf.shape[1:]), rows
    )
    # The barriers keep the compiler from computing the padding apart, which it could tell from the rows.
    chunks = jax.lax.optimization_barrier(chunks)
    results = jax.lax.optimization_barrier(jax.lax.map(lambda args: jax.vmap(function)(*args), chunks))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], results)


def _padded(leaf: Array, num_rows: int) -> Array:
    """The leaf with its last row repeated up to so many rows."""
    missing = num_rows - len(leaf)
    return leaf if missing == 0 else leaf[jnp.minimum(jnp.arange(num_rows), len(leaf) - 1)]
