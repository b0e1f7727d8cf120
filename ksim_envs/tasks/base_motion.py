"""How the floating base stands and moves: quantities of robots with a free joint.

Positions, orientations and velocities are the current state; accelerations are one physics substep old after a step.
A task on a robot without a free joint that uses one of the `Base...` quantities is refused when it is built. Those made
from an orientation take any one: the base's (the default), a body's (`BodyOrientations`) or an IMU's (`Sensor`).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks import rotations
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.rotations import Frame, Quaternion, along, axis_indices, change_frame, check_frame
from ksim_envs.tasks.terms import Modifier, Quantity
from ksim_envs.types import View


@dataclass(frozen=True)
class BasePosition:
    """Position of the floating base in the world, in m.

    ksim: BasePositionObservation
    """

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        """(3,)."""
        start, _, _ = ctx.model.root()
        return view.qpos[start : start + 3]


@dataclass(frozen=True)
class BaseOrientation:
    """Orientation of the floating base in the world, a unit quaternion w x y z.

    Both signs stand for the same orientation; the sign does not jump from step to step.

    ksim: BaseOrientationObservation
    """

    def __call__(self, view: View, ctx: Context) -> Float[Array, "4"]:
        """(4,), each in [-1, 1]."""
        start, _, _ = ctx.model.root()
        return rotations.unit(view.qpos[start + 3 : start + 7])


@dataclass(frozen=True)
class BaseLinearVelocity:
    """Velocity of the floating base's origin, in m/s, along `axes` of `frame`; ahead, left and up with "heading".

    That heading is the base's, or that of the quaternion commanded under the name `heading`.

    ksim: BaseLinearVelocityObservation, LinearVelocity, OffAxisVelocity, Upright, LinearVelocityPenalty, Joystick,
    HeadingVelocity
    """

    frame: Frame = "world"
    axes: str = "xyz"
    heading: str | None = None

    def __post_init__(self) -> None:
        check_frame(self.frame)
        axis_indices(self.axes)
        if self.heading and self.frame != "heading":
            raise InvalidConfigError(f"{self}: a commanded heading needs frame='heading'.")

    def __call__(self, view: View, ctx: Context) -> Float[Array, "*axes"]:
        """One for each axis; a scalar for one axis."""
        _, start, _ = ctx.model.root()
        quat = ctx.command(self.heading) if self.heading else BaseOrientation()(view, ctx)
        return along(self.axes, change_frame(view.qvel[start : start + 3], "world", self.frame, lambda: quat))


@dataclass(frozen=True)
class BaseAngularVelocity:
    """Angular velocity of the floating base, in rad/s, about `axes` of `frame`: roll, pitch and yaw rate in "heading".

    MuJoCo keeps that of a free joint in the body's own frame, which is what a gyroscope measures.

    ksim: BaseAngularVelocityObservation, AngularVelocity, OffAxisVelocity, Upright, NoRoll, AngularVelocityPenalty,
    XYAngularVelocity, Joystick
    """

    frame: Frame = "body"
    axes: str = "xyz"

    def __post_init__(self) -> None:
        check_frame(self.frame)
        axis_indices(self.axes)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "*axes"]:
        """One for each axis; a scalar for one axis."""
        _, start, _ = ctx.model.root()
        velocity_b = view.qvel[start + 3 : start + 6]
        return along(self.axes, change_frame(velocity_b, "body", self.frame, lambda: BaseOrientation()(view, ctx)))


@dataclass(frozen=True)
class BaseLinearAcceleration:
    """Acceleration of the floating base's origin, in m/s^2, along the axes of `frame`.

    It is -g in free fall; an accelerometer (`Sensor`) measures the same less gravity.

    ksim: BaseLinearAccelerationObservation, BaseAcceleration
    """

    frame: Frame = "world"

    def __post_init__(self) -> None:
        check_frame(self.frame)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        """(3,)."""
        _, start, body = ctx.model.root()
        return change_frame(view.qacc[start : start + 3], "world", self.frame, lambda: view.xquat[body])


@dataclass(frozen=True)
class BaseAngularAcceleration:
    """Angular acceleration of the floating base, in rad/s^2, along the axes of `frame`.

    ksim: BaseAngularAccelerationObservation
    """

    frame: Frame = "body"

    def __post_init__(self) -> None:
        check_frame(self.frame)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        """(3,)."""
        _, start, body = ctx.model.root()
        return change_frame(view.qacc[start + 3 : start + 6], "body", self.frame, lambda: view.xquat[body])


@dataclass(frozen=True)
class ProjectedGravity(Modifier):
    """Direction of gravity in the frame of an orientation: (0, 0, -1) for an upright one, a unit vector.

    With `Sensor` it is that of an IMU with a `framequat` sensor; `Tilted` and `Smoothed` around it make the IMU crooked
    and slow.

    ksim: ProjectedGravityObservation
    """

    quantity: Quantity = BaseOrientation()

    def change(self, value: Quaternion, ctx: Context) -> Float[Array, "*rows 3"]:
        """(..., 3) for (..., 4) quaternions, each in [-1, 1]."""
        gravity_w = ctx.model.gravity
        if not gravity_w.any():
            raise InvalidConfigError("The model has no gravity; ProjectedGravity needs some.")
        direction_w = jnp.asarray(gravity_w / (gravity_w @ gravity_w) ** 0.5, value.dtype)
        quat = rotations.unit(value)
        return rotations.rotate_back(quat, jnp.broadcast_to(direction_w, (*quat.shape[:-1], 3)))


@dataclass(frozen=True)
class Inclination(Modifier):
    """Angle between the z axis of an orientation and the world's, in rad: 0 upright, pi upside down.

    ksim: NotUprightTermination
    """

    quantity: Quantity = BaseOrientation()

    def change(self, value: Quaternion, ctx: Context) -> Float[Array, "*rows"]:
        """(...) for (..., 4) quaternions, in [0, pi]."""
        quat = rotations.unit(value)
        x, y, z = jnp.moveaxis(rotations.rotate(quat, jnp.zeros_like(quat[..., 1:]).at[..., 2].set(1)), -1, 0)
        return jnp.arctan2(jnp.sqrt(x * x + y * y), z)


@dataclass(frozen=True)
class RollPitchYaw(Modifier):
    """Those of an orientation that `axes` name (x, y, z), in rad: the turns about z, then y, then x that make it up.

    Roll is `atan2(2 (w x + y z), 1 - 2 (x^2 + y^2))` and yaw `atan2(2 (w z + x y), 1 - 2 (y^2 + z^2))`, in [-pi, pi];
    pitch is `asin(2 (w y - z x))`, in [-pi/2, pi/2] and positive where the x axis points down.

    ksim: RollTooGreatTermination, PitchTooGreatTermination, Upright, NoRoll, Orientation, RollPitchOrientation
    """

    axes: str = "xyz"
    quantity: Quantity = BaseOrientation()

    def __post_init__(self) -> None:
        axis_indices(self.axes)

    def change(self, value: Quaternion, ctx: Context) -> Float[Array, "*rows_axes"]:
        """(..., number of axes) for (..., 4) quaternions; (...) for one axis."""
        quat = rotations.unit(value)
        return along(self.axes, jnp.stack([rotations.roll(quat), rotations.pitch(quat), rotations.yaw(quat)], axis=-1))
