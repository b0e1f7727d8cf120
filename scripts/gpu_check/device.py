"""JAX's first device, and torch on it; and work that keeps it busy."""

from __future__ import annotations

from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest import SkipTest

import jax
import jax.numpy as jnp

torch: Any = import_module("torch") if find_spec("torch") else None


def place(needs_cuda: bool = False) -> str:
    """The device as torch spells it.

    Raises:
        SkipTest: torch is not installed, or cannot use it.
    """
    device = jax.devices()[0]
    if not torch:
        raise SkipTest("torch is not installed")
    if device.platform == "cpu" and not needs_cuda:
        return "cpu"
    if device.platform != "gpu" or not torch.cuda.is_available():
        raise SkipTest(f"this needs CUDA; JAX is on {device.device_kind}, torch is {torch.__version__}")
    return f"cuda:{device.local_hardware_id}"


def synchronize() -> None:
    """Wait for all that a CUDA device has been given, by either library."""
    if place() != "cpu":
        torch.cuda.synchronize()


def side() -> int:
    """Rows of the matrices whose products keep a device busy: ten take it milliseconds."""
    return 128 if place() == "cpu" else 2048


def jax_work(num_products: int, number: float = 0) -> jax.Array:
    """Work that takes the device a while; returns (8, side()) times a number."""
    return _products(_ones(), number, num_products)


def torch_work(num_products: int) -> Any:
    """The same for torch, on its current stream."""
    ones = torch.ones((side(), side()), device=place())
    return [torch.mm(ones, ones) for _ in range(num_products)][-1]


@cache
def _ones() -> jax.Array:
    return jnp.ones((side(), side()))


@partial(jax.jit, static_argnames="num_products")  # of a known trip count: else a GPU's host waits in the loop
def _products(ones: jax.Array, number: float, num_products: int) -> jax.Array:
    return number * jax.lax.fori_loop(0, num_products, lambda _, product: product @ ones / len(ones), ones)[:8]
