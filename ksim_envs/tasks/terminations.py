"""Termination terms: true where the state reached ends the episode. The time limit is not one of them."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool

from ksim_envs.tasks.context import Context
from ksim_envs.tasks.terms import Quantity, Wrapper


@dataclass(frozen=True)
class Outside(Wrapper):
    """A value of a quantity lies outside (`low`, `high`), or outside [`low`, `high`] where `closed`."""

    quantity: Quantity
    low: float = -jnp.inf
    high: float = jnp.inf
    closed: bool = False

    def change(self, value: Array, ctx: Context) -> Bool[Array, ""]:
        """A scalar bool; true for a value that is not a number."""
        if self.closed:
            return ~jnp.all((self.low <= value) & (value <= self.high))
        return ~jnp.all((self.low < value) & (value < self.high))
