"""Randomizer terms: model fields that are drawn anew for each episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
from jax import Array
from jaxtyping import Float

from ksim_envs.tasks.task import Context


@dataclass(frozen=True)
class ContactSoftness:
    """Scale time constant (s) and damping ratio of contacts, each by a factor in [1 / (1 + spread), 1 + spread].

    The factors are log-uniform and the same for all geoms. What they scale is `geom_solref`, in whichever of its two
    formats (MuJoCo's documentation, "Solver parameters"); explicit contact pairs have their own and stay.
    """

    spread: float
    field: ClassVar[str] = "geom_solref"

    def __call__(self, value: Float[Array, "geoms 2"], ctx: Context) -> Float[Array, "geoms 2"]:
        """The field's new value."""
        exponent = jax.random.uniform(ctx.key, (2,), value.dtype, -1.0, 1.0)
        return value * (1.0 + self.spread) ** exponent
