"""The leaves of a tree as a checkpoint holds them: arrays of numbers under the leaves' paths.

A typed PRNG key is stored as its data, and an array whose dtype NumPy itself does not know, such as bfloat16, as
unsigned integers. Everything else is stored as it is in memory.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.errors import CheckpointError

_NUMBERS = (int, float, complex)
_TYPES = (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic, *_NUMBERS)

PyTree = Any


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves by their paths in the tree.

    Raises:
        CheckpointError: a leaf cannot be saved, or two have the same path.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise CheckpointError("Two leaves of the tree have the same path; rename one of the dictionary keys.")
    for name, leaf in named.items():
        if not isinstance(leaf, _TYPES):
            raise _unsupported(name, leaf)
    return named


def described(leaf: Any) -> dict[str, Any]:
    """A leaf's shape and dtype, as they stand in the manifest. A key's dtype names its generator: `key<fry>`."""
    leaf = _array_like(leaf)
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def stored_form(like: Any) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the dtype in which a leaf such as this is stored."""
    struct = jax.eval_shape(jax.random.key_data, like) if _is_key(like) else _array_like(like)
    return tuple(struct.shape), _stored_dtype(struct.dtype)


def to_stored(name: str, leaf: Any) -> np.ndarray:
    """A leaf as it is stored.

    Raises:
        CheckpointError: it is no array of numbers.
    """
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    stored = array.view(_stored_dtype(array.dtype))
    if stored.dtype.kind not in "biufc":
        raise _unsupported(name, leaf)
    return stored


def from_stored(stored: np.ndarray, like: Any) -> Any:
    """The leaf that was stored, of the same kind as the template's."""
    if _is_key(like):
        impl = jax.random.key_impl(jnp.empty(0, like.dtype))
        return jax.random.wrap_key_data(jnp.array(stored), impl=impl)
    array = stored.view(_array_like(like).dtype)
    if isinstance(like, np.ndarray):
        return array.copy()  # what was read is read-only
    if isinstance(like, np.generic):
        return array[()]
    return array.item() if isinstance(like, _NUMBERS) else jnp.array(array)


def _unsupported(name: str, leaf: Any) -> CheckpointError:
    return CheckpointError(
        f"The leaf {name or 'at the root'} is a {type(leaf).__name__} ({str(leaf)[:80]}); a checkpoint holds numeric "
        "arrays, PRNG keys and numbers. Keep anything else out of the tree, or in info."
    )


def _array_like(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, _NUMBERS) else leaf


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(_array_like(leaf).dtype, jax.dtypes.prng_key)


def _stored_dtype(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}") if dtype.isbuiltin == 2 else dtype
