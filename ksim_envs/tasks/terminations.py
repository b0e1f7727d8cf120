"""Termination terms: true where the state reached ends the episode. The time limit is not one of them."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool

from ksim_envs.tasks.task import Context, Quantity
from ksim_envs.types import View


@dataclass(frozen=True)
class Outside:
    """A value of a quantity lies outside (`low`, `high`), or outside [`low`, `high`] where `closed`."""

    quantity: Quantity
    low: float = -jnp.inf
    high: float = jnp.inf
    closed: bool = False

    def __call__(self, view: View, ctx: Context) -> Bool[Array, ""]:
        """A scalar bool; true for a value that is not a number."""
        value = self.quantity(view, ctx)
        if self.closed:
            return ~jnp.all((self.low <= value) & (value <= self.high))
        return ~jnp.all((self.low < value) & (value < self.high))
