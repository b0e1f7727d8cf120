"""Functions of one row, applied to a batch of any size, with the same bits for a row whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")

CHUNK = 32
"""Rows that are computed together on a CPU. There the compiler orders sums and fuses multiplications with additions
differently for different numbers of rows, which shows in the last bit; with a fixed number it cannot."""


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
    which = jnp.minimum(jnp.arange(num_chunks * chunk), num_rows - 1).reshape(num_chunks, chunk)
    # The barriers keep the compiler from computing the padding apart, which it could tell from the rows.
    chunks = jax.lax.optimization_barrier(jax.tree.map(lambda leaf: leaf[which], rows))
    results = jax.lax.optimization_barrier(jax.lax.map(lambda args: jax.vmap(function)(*args), chunks))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], results)
