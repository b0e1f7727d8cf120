"""Numbers that may follow the curriculum: how much a reward weighs, how strong a push is, how wide a command ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array

from ksim_envs.errors import InvalidConfigError


@dataclass(frozen=True)
class Ramp:
    """From `start` at level 0 to `end` at level 1: `start + (end - start) * level ** power`.

    ksim: LinearScale, QuadraticScale, SquareRootScale
    """

    start: float
    end: float
    power: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and 0 < self.power < math.inf):
            raise InvalidConfigError(f"{self}: start and end must be finite, and power positive.")

    @property
    def ends(self) -> tuple[float, float]:
        """Its values at level 0 and at level 1; all others lie between."""
        return self.start, self.end

    def __call__(self, level: Array) -> Array:
        """A scalar."""
        return self.start + (self.end - self.start) * level**self.power


@dataclass(frozen=True)
class AfterStart:
    """`start` at level 0, `value` from there on.

    ksim: NonZeroScale
    """

    start: float
    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.value)):
            raise InvalidConfigError(f"{self}: both must be finite.")

    @property
    def ends(self) -> tuple[float, float]:
        """Its values at level 0 and at level 1."""
        return self.start, self.value

    def __call__(self, level: Array) -> Array:
        """A scalar."""
        return jnp.where(level > 0, self.value, self.start)


Scale: TypeAlias = int | float | Ramp | AfterStart
"""A number, or what it is at each level of the curriculum."""


def scale_at(scale: Scale, level: Array) -> Array:
    """The number at a level, (), float32."""
    return jnp.asarray(scale(level) if callable(scale) else scale, jnp.float32)


def ends(scale: Scale) -> tuple[float, float]:
    """What a scale is at level 0 and at level 1; all others lie between."""
    return scale.ends if callable(scale) else (scale, scale)


def check_scale(what: str, scale: Scale) -> None:
    """Refuse a scale that is negative or not finite somewhere.

    Raises:
        InvalidConfigError: it is; the message begins with `what`.
    """
    if not all(isinstance(end, Real) and math.isfinite(end) and end >= 0 for end in ends(scale)):
        raise InvalidConfigError(f"{what} has the scale {scale!r}; it must be finite and not negative (see Cost).")


Range: TypeAlias = tuple[float, float]
"""A lower and an upper end, between which something is drawn uniformly."""


def check_range(what: str, bounds: Range, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse ends that are not finite, not in order or not within [low, high].

    Raises:
        InvalidConfigError: they are; the message begins with `what`.
    """
    if not (len(bounds) == 2 and all(map(math.isfinite, bounds)) and low <= bounds[0] <= bounds[1] <= high):
        raise InvalidConfigError(
            f"{what} is {bounds}; it must be (lowest, highest), in this order, finite and within [{low}, {high}]."
        )
