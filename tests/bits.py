"""Comparison bit by bit: NaN equals the same NaN, and 0.0 is not -0.0."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def host(tree: Any) -> Any:
    """The tree as NumPy arrays, which are copies; PRNG keys as their data."""
    return jax.tree.map(
        lambda leaf: np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf), tree, is_leaf=_is_key
    )


def rows(tree: Any, chosen: Any, axis: int = 0) -> Any:
    """These rows of every leaf."""
    return jax.tree.map(lambda leaf: np.take(np.asarray(leaf), chosen, axis), tree)


def assert_same_bits(found: Any, expected: Any) -> None:
    """Every leaf of the two trees has the same dtype, shape and bits; the error names the first difference."""
    found_leaves, found_tree = jax.tree_util.tree_flatten_with_path(host(found))
    expected_leaves, expected_tree = jax.tree_util.tree_flatten_with_path(host(expected))
    assert found_tree == expected_tree
    for (path, one), (_, other) in zip(found_leaves, expected_leaves, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), jax.tree_util.keystr(path)
        differs = np.argwhere(_bits(one) != _bits(other))
        assert not len(differs), (
            f"{jax.tree_util.keystr(path)} differs at {differs[0].tolist()} and {len(differs)} in all"
        )


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
