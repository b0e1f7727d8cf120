"""Rewards for being near a target: kernels of an error, and the errors and conditions that go with them.

A reward is paid in each control step and not multiplied by the control period, as in ksim: with twice the control
frequency an episode of equal length pays twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.tasks.base_motion import BaseAngularVelocity, BaseLinearVelocity
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.measures import Error, Target, as_quantity, check_shapes
from ksim_envs.tasks.numbers import check_not_negative, check_positive
from ksim_envs.tasks.scales import Scale, check_scale, scale_at
from ksim_envs.tasks.terms import Combination, Quantity
from ksim_envs.types import View


@dataclass(frozen=True)
class Gaussian:
    """`exp(-x**2 / (2 width**2)) - square_cost * x**2 - absolute_cost * |x|`; at most 1, in [0, 1] without costs.

    The costs pull from where the exponential is flat. ksim's own defaults for them are 0.1 where it has any.
    """

    width: float = 0.25
    square_cost: float = 0.0
    absolute_cost: float = 0.0

    def __post_init__(self) -> None:
        check_positive("Gaussian", width=self.width)
        check_scale("Gaussian.square_cost", self.square_cost)
        check_scale("Gaussian.absolute_cost", self.absolute_cost)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of each element."""
        cost = self.square_cost * jnp.square(x) + self.absolute_cost * jnp.abs(x)
        return jnp.exp(-jnp.square(x) / (2 * self.width**2)) - cost


@dataclass(frozen=True)
class Laplace:
    """`exp(-|x| / width)`; in [0, 1]."""

    width: float

    def __post_init__(self) -> None:
        check_positive("Laplace", width=self.width)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of each element."""
        return jnp.exp(-jnp.abs(x) / self.width)


@dataclass(frozen=True)
class Triangle:
    """`1 - |x| / width`; at most 1, and negative beyond the width."""

    width: float

    def __post_init__(self) -> None:
        check_positive("Triangle", width=self.width)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of each element."""
        return 1.0 - jnp.abs(x) / self.width


Kernel: TypeAlias = Gaussian | Laplace | Triangle
OVER = ("each", "sum", "norm")
"""How `Tracking` takes several elements together."""


@dataclass(frozen=True)
class Tracking(Combination):
    """`scale * kernel(quantity - target)`; at most `scale`, which is paid at the target, and >= 0 where the kernel is.

    Of a quantity with several elements it is, with `over="each"`, the mean of the elements' kernels, with `"sum"` the
    kernel of the sum of absolute errors, and with `"norm"` that of their Euclidean norm.

    ksim: LinearVelocity, AngularVelocity, BaseHeight, PositionTracking, JointPosition, SinusoidalGait, FeetPhase,
    SmallJointVelocity, SmallJointAcceleration, SmallJointJerk, SmallCtrl, LinearVelocityTracking,
    AngularVelocityTracking, Joystick, EasyJoystick, XYZBodyTarget, QuaternionTracking, QposReferenceMotion,
    ReferenceMotion, TimeWarpedReferenceMotion, TargetHeight
    """

    scale: Scale
    quantity: Quantity
    target: Target = 0.0
    kernel: Kernel = field(default_factory=Gaussian)
    over: str = "each"

    def __post_init__(self) -> None:
        check_scale("Tracking", self.scale)
        check_name("way to take errors together", self.over, OVER)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The error."""
        return (Error(self.quantity, self.target),)

    def combine(self, error: Array, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        if self.over == "sum":
            error = jnp.sum(jnp.abs(error))
        elif self.over == "norm":
            error = jnp.sqrt(jnp.sum(jnp.square(error)))
        return scale_at(self.scale, ctx.level) * jnp.mean(self.kernel(error))


@dataclass(frozen=True)
class Rests:
    """Whether the floating base moves slower than `linear` m/s over the ground, and turns slower than `angular` rad/s.

    Turns count alike in both directions.

    ksim: MotionlessAtRest
    """

    linear: float
    angular: float

    def __post_init__(self) -> None:
        check_not_negative("Rests", linear=self.linear, angular=self.angular)

    def __call__(self, view: View, ctx: Context) -> Bool[Array, ""]:
        """A scalar bool."""
        speed = jnp.linalg.norm(BaseLinearVelocity("heading", "xy")(view, ctx))
        return (speed < self.linear) & (jnp.abs(BaseAngularVelocity("heading", "z")(view, ctx)) < self.angular)


@dataclass(frozen=True)
class DirectionError(Combination):
    """Angle in [0, pi] rad between a horizontal velocity and the commanded one; 0 where either is zero.

    ksim: LinearVelocity
    """

    velocity: Quantity
    target: Target

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """Two vectors, (2,)."""
        return self.velocity, as_quantity(self.target)

    def combine(self, velocity: Array, target: Array, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        for vector in (velocity, target):
            if vector.shape != (2,):
                raise InvalidConfigError(f"DirectionError is given a vector of shape {vector.shape}; it must be (2,).")
        cross = target[0] * velocity[1] - target[1] * velocity[0]
        return jnp.abs(jnp.arctan2(cross, jnp.dot(velocity, target, precision="highest")))


@dataclass(frozen=True)
class SameSign(Combination):
    """1 where quantity and target have the same sign, -1 where not, 0 where either is within +-`threshold`.

    ksim: AngularVelocity
    """

    quantity: Quantity
    target: Target
    threshold: float

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The quantity and its target."""
        return self.quantity, as_quantity(self.target)

    def combine(self, value: Array, target: Array, ctx: Context) -> Float[Array, "..."]:
        """In the quantity's shape."""
        check_shapes(value, target)

        def sign(x: Array) -> Array:
            return jnp.where(jnp.abs(x) > self.threshold, jnp.sign(x), 0.0)

        return sign(value) * sign(target)
