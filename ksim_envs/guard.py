"""The health of rows: what counts as a fault, how a faulty row is quarantined, and how often it happens.

No bit of another row depends on a faulty one. The faulty row's transition is reported as truncated, with reward zero,
its last finite observation as the final one (zeros, if it had none) and `info["diverged"]` set; then the row is reset
like any other that ended.
"""

from __future__ import annotations

import enum
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32, UInt32

MAX_VALUE = 1e10
"""MuJoCo's own bound (`mjMAXVAL`): positions, velocities, accelerations and forces beyond it count as diverged."""

Tree = TypeVar("Tree")


class Fault(enum.IntEnum):
    """Why a row was quarantined. The value is the bit number in a fault mask."""

    ACTION = 0  # the action was not finite
    INPUT = 1  # a push, a model field or the state at the step's start was not finite or out of bounds
    PHYSICS = 2  # the engine diverged during the step
    OVERFLOW = 3  # the engine ran out of room for contacts or constraints
    TERM = 4  # an observation, reward, metric or command was not finite or out of bounds, or a term remembered NaN

    @property
    def mask(self) -> int:
        """The fault's bit."""
        return 1 << self.value

    @property
    def reason(self) -> str:
        """What has happened, and what to do about it."""
        return _REASONS[self]


_REASONS = {
    Fault.ACTION: "an action was not finite",
    Fault.INPUT: "an actuator, event, randomizer or reset gave a value that is not finite, or beyond 1e10",
    Fault.PHYSICS: "the physics diverged; take a shorter timestep, lower gains or more armature",
    Fault.OVERFLOW: "more contacts than the engine has room for; raise the task's max_contact_points (mjx), or <size "
    "memory=...> in the model (native)",
    Fault.TERM: "an observation, reward, metric or command was not finite, or beyond 1e10, or a term remembered NaN",
}


def healthy(tree: Any, bound: float = MAX_VALUE) -> Bool[Array, "*E"]:
    """Whether every value of every leaf is a number of at most this size, row by row.

    Args:
        tree: arrays whose first axis is `E`; leaves that are not floating point always count as healthy.
        bound: infinite if only NaN is to count as unhealthy.

    Returns:
        (E,) bool; a scalar True when there is nothing to check.
    """
    rows = [
        (jnp.abs(leaf) <= bound).reshape(leaf.shape[0], -1).all(axis=1)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size
    ]
    if not rows:
        return jnp.array(True)
    # The barrier keeps the compiler from checking everything anew for each value that depends on the answer.
    return jax.lax.optimization_barrier(jnp.stack(rows)).all(axis=0)


def fault_if(unhealthy_E: Bool[Array, "*E"], fault: Fault) -> UInt32[Array, "*E"]:
    """(E,) uint32 fault masks with the fault's bit where `unhealthy_E` is true."""
    return jnp.where(unhealthy_E, jnp.uint32(fault.mask), jnp.uint32(0))


def count(fault_count_EC: Int32[Array, "E C"], fault_E: UInt32[Array, "E"]) -> Int32[Array, "E C"]:
    """The counters after one more step with these fault masks."""
    bits_C = jnp.array([fault.mask for fault in Fault], jnp.uint32)
    return fault_count_EC + ((fault_E[:, None] & bits_C) != 0).astype(jnp.int32)


def keep_rows(keep_E: Bool[Array, "E"], new: Tree, old: Tree) -> Tree:
    """`new` in the rows where `keep_E` is true, `old` in the others; every leaf's first axis is `E`."""
    return jax.tree.map(lambda n, o: jnp.where(_column(keep_E, n.ndim), n, o), new, old)


def zero_rows(zero_E: Bool[Array, "E"], tree: Tree) -> Tree:
    """The tree with zeros in the rows where `zero_E` is true, whatever stood there."""
    return jax.tree.map(lambda leaf: jnp.where(_column(zero_E, leaf.ndim), jnp.zeros_like(leaf), leaf), tree)


def _column(mask_E: Array, ndim: int) -> Array:
    return mask_E.reshape(mask_E.shape + (1,) * (ndim - 1))
