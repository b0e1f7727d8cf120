"""What turns quantities into other quantities, so that few terms say much.

A reward is a measure with a scale: `Scaled`, `Cost` or `Tracking` around a quantity. What is given per joint, foot or
axis is made a scalar by `Reduced`, what shall hold only at times is put inside `When`, and an `Error` is the distance
from a target: a number, a command's name, or another quantity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.numbers import check_positive, is_number
from ksim_envs.tasks.observations import element, part_of
from ksim_envs.tasks.terms import Combination, Modifier, Quantity
from ksim_envs.types import View

Target: TypeAlias = float | tuple[float, ...] | str | Quantity
"""What a quantity ought to be: a number for all of its elements, one for each, a command's name, or a quantity."""


@dataclass(frozen=True)
class Commanded:
    """A command's value, or the element `part` of it, or those in the range `part`; in the command's unit."""

    name: str
    part: int | tuple[int, int] | None = None

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """The value or the part."""
        value = ctx.command(self.name)
        if self.part is None:
            return value
        return part_of(value, *self.part) if isinstance(self.part, tuple) else element(value, self.part)


@dataclass(frozen=True)
class Constant:
    """A number, or a vector of numbers."""

    value: float | tuple[float, ...]

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """(), or as many as there are."""
        return jnp.asarray(self.value, jnp.float32)


@dataclass(frozen=True)
class Error(Combination):
    """A quantity minus its target, in the quantity's unit.

    ksim: BaseHeightTracking, ActionNearPosition
    """

    quantity: Quantity
    target: Target = 0.0

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The quantity and its target."""
        return self.quantity, as_quantity(self.target)

    def combine(self, value: Array, target: Array, ctx: Context) -> Float[Array, "..."]:
        """In the quantity's shape."""
        if not isinstance(self.target, int | float):
            check_shapes(value, target)
        return jnp.asarray(value, jnp.float32) - target


def as_quantity(target: Target) -> Quantity:
    """A target as the quantity that it stands for."""
    if isinstance(target, str):
        return Commanded(target)
    return Constant(target) if isinstance(target, int | float | tuple) else target


def check_shapes(value: Array, target: Array) -> None:
    """Refuse a target of another shape than the quantity's: broadcasting would compare what does not belong together.

    Raises:
        InvalidConfigError: the shapes differ.
    """
    if jnp.shape(value) != jnp.shape(target):
        raise InvalidConfigError(
            f"A quantity of shape {jnp.shape(value)} has a target of shape {jnp.shape(target)}; the shapes must be "
            "equal. Commanded(name, (start, stop)) takes a part of a command."
        )


@dataclass(frozen=True)
class Reduced(Modifier):
    """A scalar made of all elements of a quantity, by one of the names in `REDUCTIONS`.

    At least 0 for `sum_square`, `mean_square`, `sum_abs`, `mean_abs`, `max_abs` and `norm`; in the unit of the
    quantity, or its square.

    `Reduced(BaseLinearVelocity(), "norm")` is the base's speed, and with `BasePosition()` its distance from the origin.

    ksim: ObservationMean, Stationary, FootContact, BadVelocityTermination, HighRootVelocityTermination,
    FarFromOriginTermination
    """

    quantity: Quantity
    by: str

    def __post_init__(self) -> None:
        check_name("reduction", self.by, REDUCTIONS)

    def change(self, value: Array, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        if not jnp.size(value):
            raise InvalidConfigError(f"Reduced takes the {self.by} of {self.quantity!r}, which holds nothing.")
        return REDUCTIONS[self.by](jnp.asarray(value, jnp.float32))


REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "sum": jnp.sum,
    "mean": jnp.mean,
    "max": jnp.max,
    "min": jnp.min,
    "sum_square": lambda value: jnp.sum(jnp.square(value)),
    "mean_square": lambda value: jnp.mean(jnp.square(value)),
    "sum_abs": lambda value: jnp.sum(jnp.abs(value)),
    "mean_abs": lambda value: jnp.mean(jnp.abs(value)),
    "max_abs": lambda value: jnp.max(jnp.abs(value)),
    "norm": lambda value: jnp.sqrt(jnp.sum(jnp.square(value))),
}


@dataclass(frozen=True)
class When(Combination):
    """A quantity where a condition holds, 0 where it does not; the other way round where `negated`."""

    condition: Quantity
    quantity: Quantity
    negated: bool = False

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The condition, a scalar bool, and the quantity."""
        return self.condition, self.quantity

    def combine(self, holds: Array, value: Array, ctx: Context) -> Float[Array, "..."]:
        """In the quantity's shape."""
        holds = jnp.asarray(holds)
        if holds.dtype != bool or holds.shape:
            raise InvalidConfigError(
                f"When has a condition of type {holds.dtype} and shape {holds.shape}; it must be a scalar bool, such "
                "as that of CommandAbove or Outside."
            )
        return jnp.where(holds != self.negated, value, 0.0)


@dataclass(frozen=True)
class CommandAbove:
    """Whether the norm of a command, or of a `part` of it, is above a threshold in the command's unit."""

    name: str
    threshold: float
    part: int | tuple[int, int] | None = None

    def __call__(self, view: View, ctx: Context) -> Array:
        """A scalar bool."""
        return jnp.linalg.norm(jnp.ravel(Commanded(self.name, self.part)(view, ctx))) > self.threshold


@dataclass(frozen=True)
class Clipped(Modifier):
    """A quantity within [`low`, `high`], as of a sensor that saturates.

    ksim: NaiveForward
    """

    quantity: Quantity
    low: float = -jnp.inf
    high: float = jnp.inf

    def __post_init__(self) -> None:
        if not (isinstance(self.low, Real) and isinstance(self.high, Real) and self.low <= self.high):
            raise InvalidConfigError(f"Clipped has low {self.low} and high {self.high}; low must not be above high.")

    def change(self, value: Array, ctx: Context) -> Float[Array, "..."]:
        """In the quantity's shape."""
        return jnp.clip(jnp.asarray(value, jnp.float32), self.low, self.high)


@dataclass(frozen=True)
class Within(Modifier):
    """`max(0, 1 - dropoff * distance)` to the range [`low`, `high`] of a quantity, so 1 inside; in [0, 1].

    ksim: BaseHeightRange
    """

    quantity: Quantity
    low: float
    high: float
    dropoff: float  # 1 per unit of the quantity

    def __post_init__(self) -> None:
        if not (
            all(map(is_number, (self.low, self.high, self.dropoff))) and self.low <= self.high and self.dropoff >= 0
        ):
            raise InvalidConfigError(f"{self}: low must not be above high, dropoff not negative, and all finite.")

    def change(self, value: Array, ctx: Context) -> Float[Array, "..."]:
        """In the quantity's shape."""
        outside = jnp.maximum(jnp.maximum(self.low - value, value - self.high), 0.0)
        return jnp.maximum(1.0 - self.dropoff * outside, 0.0)


@dataclass(frozen=True)
class RampUp(Modifier):
    """`value / until` below `until`, `after` from there on; of what is at least 0 in [0, 1), or `after`."""

    quantity: Quantity
    until: float
    after: float = 0.0

    def __post_init__(self) -> None:
        check_positive("RampUp", until=self.until)

    def change(self, value: Array, ctx: Context) -> Float[Array, "..."]:
        """In the quantity's shape."""
        return jnp.where(value < self.until, value / self.until, self.after)
