"""Quantities read off the physics: observations, metrics, and what rewards and terminations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context
from ksim_envs.types import View


def element(values: Float[Array, "n *rest"], index: int) -> Float[Array, "*rest"]:
    """The element at an index, which JAX would move into the range without a word.

    Raises:
        InvalidConfigError: there is none.
    """
    size = len(values) if jnp.ndim(values) else 0
    if not -size <= index < size:
        raise InvalidConfigError(
            f"There is no element {index} in a value of shape {jnp.shape(values)}; 0 is the first."
        )
    return values[index]


def part_of(values: Float[Array, "n *rest"], start: int, stop: int | None) -> Float[Array, "part *rest"]:
    """The elements from `start` to before `stop`, which JAX would cut to those that there are.

    Raises:
        InvalidConfigError: some of them are missing, or there is none to take.
    """
    size = len(values) if jnp.ndim(values) else 0
    first, last = (size + index if index < 0 else index for index in (start, size if stop is None else stop))
    if not 0 <= first < last <= size:
        raise InvalidConfigError(
            f"There are no elements {start} to {'the last' if stop is None else stop} in a value of shape "
            f"{jnp.shape(values)}; 0 is the first, and the second number is the first that is left out."
        )
    return values[first:last]


@dataclass(frozen=True)
class Field:
    """Rows `start` to `stop` of a field of the view, in the field's unit, clipped to +-`limit`.

    `Field("cinert", start=1)` is the inertia and `Field("cvel", start=1)` the velocity of every body but the world,
    about the mass centre of its tree.

    ksim: CenterOfMassInertiaObservation, CenterOfMassVelocityObservation
    """

    name: str
    start: int = 0
    stop: int | None = None
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and not (isinstance(self.limit, Real) and self.limit > 0):
            raise InvalidConfigError(f"Field.limit is {self.limit}; it must be positive, or None.")

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """The rows, in the field's shape."""
        rows = part_of(getattr(view, self.name), self.start, self.stop)
        return rows if self.limit is None else jnp.clip(rows, -self.limit, self.limit)


@dataclass(frozen=True)
class Sensor:
    """Values of a sensor of the model, in the unit that MuJoCo documents for it, one substep behind.

    ksim: SensorObservation
    """

    name: str

    def __call__(self, view: View, ctx: Context) -> Float[Array, "values"]:
        """(num_values,)."""
        return view.sensordata[ctx.model.sensor(self.name)]


@dataclass(frozen=True)
class Time:
    """Time since the episode's first state, in s.

    ksim: TimestepObservation, EpisodeLengthTermination
    """

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar, at least 0."""
        return view.time


@dataclass(frozen=True)
class Sine:
    """Sines of joint angles `start` to `stop` of qpos, in [-1, 1]."""

    start: int = 0
    stop: int | None = None

    def __call__(self, view: View, ctx: Context) -> Float[Array, "angles"]:
        """One sine for each angle."""
        return jnp.sin(part_of(view.qpos, self.start, self.stop))


@dataclass(frozen=True)
class Cosine:
    """Cosines of joint angles `start` to `stop` of qpos, in [-1, 1]."""

    start: int = 0
    stop: int | None = None

    def __call__(self, view: View, ctx: Context) -> Float[Array, "angles"]:
        """One cosine for each angle."""
        return jnp.cos(part_of(view.qpos, self.start, self.stop))


@dataclass(frozen=True)
class Coordinate:
    """One coordinate of qpos, in m or rad; measured from the model's initial one where `relative`."""

    index: int
    relative: bool = False

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return element(view.qpos, self.index) - (ctx.field("qpos0")[self.index] if self.relative else 0.0)


@dataclass(frozen=True)
class DistanceFromOrigin:
    """Horizontal distance of a free or planar root from the origin, in m: the norm of qpos[0:2]."""

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar, at least 0."""
        return jnp.linalg.norm(view.qpos[0:2])


@dataclass(frozen=True)
class CoordinateVelocity:
    """Mean rate of one coordinate of qpos over the control step, in m/s or rad/s."""

    index: int

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return element(view.qpos_change, self.index) / ctx.dt


@dataclass(frozen=True)
class MeanBodyVelocity:
    """Mean velocity of a body's frame over the control step along a world axis, in m/s, one substep behind."""

    body: str
    axis: int

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return element(view.xpos_change[ctx.model.body(self.body)], self.axis) / ctx.dt


@dataclass(frozen=True)
class MassCenterVelocity:
    """Mean velocity in m/s of the whole model's centre of mass over the control step along a world axis.

    It is one substep behind.
    """

    axis: int

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        mass = ctx.field("body_mass")
        return jnp.dot(mass, element(view.xipos_change.T, self.axis), precision="highest") / mass.sum() / ctx.dt


@dataclass(frozen=True)
class BodyPosition:
    """Position of a body's frame in the world, in m, one substep behind."""

    body: str

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        """(3,)."""
        return view.xpos[ctx.model.body(self.body)]


@dataclass(frozen=True)
class SitePosition:
    """Position of a site in the world, in m, one substep behind."""

    site: str

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        """(3,)."""
        return view.site_xpos[ctx.model.site(self.site)]


@dataclass(frozen=True)
class SiteHeight:
    """Height of a site in the world, in m, one substep behind."""

    site: str

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return view.site_xpos[ctx.model.site(self.site), 2]


@dataclass(frozen=True)
class BodyOffset:
    """From a body's frame to another's in the world, in m, one substep behind; the first `axes` axes."""

    origin: str
    body: str
    axes: int = 3

    def __post_init__(self) -> None:
        if self.axes not in (1, 2, 3):
            raise InvalidConfigError(f"BodyOffset.axes is {self.axes}; it must be 1, 2 or 3.")

    def __call__(self, view: View, ctx: Context) -> Float[Array, "axes"]:
        """(axes,)."""
        return (view.xpos[ctx.model.body(self.body)] - view.xpos[ctx.model.body(self.origin)])[: self.axes]
