"""Numbers that may follow the curriculum: how much a reward weighs, how strong a push is, how wide a command ranges."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.numbers import is_number


@dataclass(frozen=True)
class Ramp:
    """From `start` at level 0 to `end` at level 1: `start + (end - start) * level ** power`.

    ksim: LinearScale, QuadraticScale, SquareRootScale
    """

    start: float
    end: float
    power: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.start) and is_number(self.end) and is_number(self.power) and self.power > 0):
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
        if not (is_number(self.start) and is_number(self.value)):
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
    """What a scale is at level 0 and at level 1; all others lie between.

    Raises:
        InvalidConfigError: it is no scale.
    """
    if not _is_scale(scale):
        raise InvalidConfigError(
            f"{scale!r} is no scale; give a number, or one for each level of the curriculum: Ramp(0.0, 1.0)."
        )
    return scale.ends if callable(scale) else (scale, scale)


def _is_scale(value: Any) -> bool:
    return isinstance(value, Real | Ramp | AfterStart) and not isinstance(value, bool)


def check_scale(what: str, scale: Scale) -> None:
    """Refuse a scale that is negative or not finite somewhere.

    Raises:
        InvalidConfigError: it is; the message begins with `what`.
    """
    if not (_is_scale(scale) and all(is_number(end) and end >= 0 for end in ends(scale))):
        raise InvalidConfigError(
            f"{what} has the scale {scale!r}; it must be finite and not negative (a Cost subtracts)."
        )


def check_probability(what: str, scale: Scale) -> None:
    """Refuse a probability that is not in [0, 1] at every level.

    Raises:
        InvalidConfigError: it is not; the message begins with `what`.
    """
    if not all(is_number(end) and 0 <= end <= 1 for end in ends(scale)):
        raise InvalidConfigError(f"{what} is {scale}; a probability must be in [0, 1].")
