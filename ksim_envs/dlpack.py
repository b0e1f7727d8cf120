"""Arrays across libraries: outputs to NumPy and torch without a copy where that is safe, actions as a private copy.

Ownership. What `step` and `reset` return belongs to the caller: it shares memory with no later result and with nothing
that the env reads again, so it may be kept, and written to. Actions are copied: JAX computes asynchronously, and a
caller who reuses its action buffer would otherwise change the physics (jax aliases aligned NumPy arrays and DLPack
imports).

What else speaks DLPack (CuPy, TensorFlow) can take `output="jax"` from there itself.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs import validate
from ksim_envs.errors import InvalidActionError, MissingDependencyError
from ksim_envs.types import Device

Tree: TypeAlias = Any


class Exporter:
    """Turns trees of JAX arrays into one kind of output."""

    def __init__(self, output: str, device: Device) -> None:
        """Choose the kind.

        Args:
            output: `"numpy"`, `"jax"` or `"torch"`.
            device: where the arrays live.

        Raises:
            MissingDependencyError: torch is asked for and not installed, or cannot use the device.
        """
        self._convert, self._copy = _conversion(output, device)
        self._is_fused = output == "numpy" and device.platform != "cpu"
        # On an accelerator JAX may reuse an exported buffer when its last Python reference goes, even if a torch kernel
        # on another stream still reads it. Two steps of references (up to two exports each) outlast any kernel of an
        # ordinary loop.
        self._keeps = output == "torch" and device.platform != "cpu"
        self._recent: deque[Tree] = deque(maxlen=4)

    def __call__(self, tree: Tree) -> Any:
        """The tree with its leaves converted; of an array that stands there twice the second is a copy."""
        if self._is_fused:
            return jax.tree.map(np.array, jax.device_get(tree))
        if self._keeps:
            self._recent.append(tree)
        seen: set[int] = set()

        def converted(leaf: Array) -> Any:
            is_repeated = id(leaf) in seen
            seen.add(id(leaf))
            return self._copy(self._convert(leaf)) if is_repeated else self._convert(leaf)

        return jax.tree.map(converted, tree)


def private_actions(value: Any, shape: tuple[int, ...], axes: str, device: Device) -> Array | np.ndarray:
    """Actions from any library as an array that nobody else can change.

    Args:
        value: NumPy, JAX or torch array, or nested lists. Host values must be finite; in an array of JAX or a GPU they
            are not looked at, and one that is not finite counts as a divergence of its row.
        shape: the shape that it must have.
        axes: that shape in words, for the message.
        device: where the env computes.

    Returns:
        A float32 copy on `device`; for a CPU it is always NumPy's, which a program takes sooner than JAX's.

    Raises:
        InvalidActionError: another shape or type, a value that is not finite, or a tensor that cannot be read.
    """
    if isinstance(value, jax.Array):
        return _from_jax(value, shape, axes, device)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _from_torch(value, shape, axes, device)
    return _put(validate.actions(value, shape, axes), device)


def _put(actions: np.ndarray, device: Device) -> Array | np.ndarray:
    return actions if device.platform == "cpu" else jax.device_put(actions, device)


def _from_jax(value: Array, shape: tuple[int, ...], axes: str, device: Device) -> Array | np.ndarray:
    if value.is_deleted():
        raise InvalidActionError("action is a deleted JAX array (it was donated); pass one that is alive.")
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise InvalidActionError(f"action has dtype {value.dtype}; it must be real numbers.")
    if value.shape != shape:
        raise InvalidActionError(f"action has shape {value.shape}; this env expects {axes} = {shape}.")
    if device.platform == "cpu":  # at once: the array may be a view of a torch or NumPy buffer
        return np.array(value, np.float32)
    return jax.device_put(jnp.array(value, jnp.float32, copy=True), device)


def _from_torch(value: Any, shape: tuple[int, ...], axes: str, device: Device) -> Array | np.ndarray:
    if value.requires_grad:
        raise InvalidActionError("action is a tensor that requires grad; pass action.detach().")
    if value.device.type == "cpu":
        return _put(validate.actions(_host_array(value), shape, axes), device)
    if device.platform == "cpu":
        raise InvalidActionError(f"action is on {value.device}, this env on the CPU; pass action.cpu().")
    torch = sys.modules["torch"]
    value = value.to(torch_name(device))  # of another GPU: torch orders its own copy
    with torch.cuda.device(value.device):  # torch exports from its current device only
        copy = _from_jax(jax.dlpack.from_dlpack(value.contiguous()), shape, axes, device)
        torch.from_dlpack(copy)  # torch's stream waits for the copy, so that the caller may overwrite its tensor
    return copy


def _host_array(value: Any) -> np.ndarray:
    value = value.float() if value.is_floating_point() and value.itemsize < 4 else value  # NumPy has no bfloat16
    try:
        return value.numpy(force=True)  # force: resolves a lazy negation or conjugation
    except (TypeError, RuntimeError) as error:
        raise InvalidActionError(f"action is a {value.layout} tensor of {value.dtype}: {error}") from error


def _owned_numpy(leaf: Array) -> np.ndarray:
    """A writable NumPy array on the memory of a CPU array that no one else holds."""
    view = np.asarray(leaf)
    return np.asarray(_Owner(leaf, view)) if view.size else np.array(view)


class _Owner:
    """Lends a JAX array's memory to NumPy as writable.

    `np.asarray` of a JAX array is read-only, because JAX cannot know that it was the last to hold it; the env does: it
    never reads a result again after handing it over.
    """

    def __init__(self, leaf: Array, view: np.ndarray) -> None:
        self._leaf = leaf
        address = view.__array_interface__["data"][0]
        self.__array_interface__ = {**view.__array_interface__, "data": (address, False)}


def _same(leaf: Array) -> Array:
    return leaf


def torch_name(device: Device) -> str:
    """The device as torch spells it."""
    kind = {"gpu": "cuda"}.get(device.platform, device.platform)
    return kind if kind == "cpu" else f"{kind}:{device.local_hardware_id}"


def _conversion(output: str, device: Device) -> tuple[Callable[[Array], Any], Callable[[Any], Any]]:
    """What makes an output of an array, and what copies that; JAX's, which nobody can write to, are never copied."""
    if output == "numpy":
        return _owned_numpy, np.copy
    if output == "jax":
        return _same, _same
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError('output="torch" needs torch: pip install "ksim-envs[torch]".') from error
    if device.platform == "gpu" and not torch.cuda.is_available():
        raise MissingDependencyError(
            f'output="torch" needs a torch that can use the GPU of the env, and torch {torch.__version__} cannot. '
            'Install one with CUDA (see pytorch.org), or pass backend="native".'
        )
    return torch.from_dlpack, torch.clone
