"""Randomizer terms: model fields that are drawn anew for each episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
from jax import Array

from ksim_envs.tasks.context import Context


@dataclass(frozen=True)
class ContactSoftness:
    """Scale time constant (s) and damping ratio of contacts, each by a factor in [1 / (1 + spread), 1 + spread].

    The factors are log-uniform and the same for all geoms. What they scale is `geom_solref`, in whichever of its two
    formats (MuJoCo's documentation, "Solver parameters"); explicit contact pairs have their own and stay.
    """

    spread: float
    fields: ClassVar[tuple[str, ...]] = ("geom_solref",)

    def __call__(self, values: dict[str, Array], ctx: Context) -> dict[str, Array]:
        """`geom_solref`, (ngeom, 2)."""
        value = values["geom_solref"]
        exponent = jax.random.uniform(ctx.key, (2,), value.dtype, -1.0, 1.0)
        return {"geom_solref": value * (1.0 + self.spread) ** exponent}
