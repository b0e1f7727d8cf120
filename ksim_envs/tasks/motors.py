"""Motors: what K-Scale Labs' robots are driven by, and how much torque a motor has at a speed.

The figures of the RobStride motors are those of K-Scale's K-Bot metadata and of RobStride's manuals (no-load speeds);
those of the Feetech servos are K-Scale's own identification of a servo on a test bench. All are at the output shaft,
behind the gears.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import jax.numpy as jnp
import mujoco
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import assigned
from ksim_envs.tasks.numbers import is_number


@dataclass(frozen=True, kw_only=True)
class Gains:
    """A joint's PD controller: `torque = clip(kp * (target - angle) + kd * (target speed - speed), +-max_torque)`.

    For a slide joint read N and m instead of N m and rad.
    """

    kp: float
    """N m/rad, positive."""
    kd: float
    """N m s/rad, at least 0."""
    max_torque: float | None = None
    """N m, positive; None for what the model's own motor can do."""

    def __post_init__(self) -> None:
        limit = 1.0 if self.max_torque is None else self.max_torque
        if not (all(map(is_number, (self.kp, self.kd, limit))) and self.kp > 0 and self.kd >= 0 and limit > 0):
            raise InvalidConfigError(f"{self}: kp and max_torque must be positive and kd at least 0, all finite.")


@dataclass(frozen=True, kw_only=True)
class Motor:
    """A geared electric motor whose torque falls with its speed."""

    peak_torque: float
    """N m, for a short time."""
    rated_torque: float
    """N m, for ever."""
    rated_speed: float
    """rad/s, the highest at which it has its rated torque."""
    no_load_speed: float
    """rad/s, at which no torque is left."""
    armature: float
    """kg m^2: the rotor's inertia times the gear ratio squared, as K-Scale's models have it."""
    frictionloss: float
    """N m of dry friction."""
    damping: float = 0.0
    """N m s/rad."""
    gear_ratio: float
    mass: float
    """kg."""

    def __post_init__(self) -> None:
        values = [getattr(self, each.name) for each in fields(self)]
        if not (
            all(is_number(value) and value >= 0 for value in values)
            and 0 < self.rated_torque <= self.peak_torque
            and 0 < self.rated_speed < self.no_load_speed
        ):
            raise InvalidConfigError(
                f"{self}: figures must be finite and not negative, 0 < rated_torque <= peak_torque and 0 < rated_speed "
                "< no_load_speed."
            )


def torque_limits(motors: list[Motor], speed: Float[Array, "joints"]) -> Float[Array, "joints 2"]:
    """The lowest and the highest torque, in N m, that motors have at these speeds, in rad/s.

    The highest is `clip(slope * (no_load_speed - speed), 0, peak_torque)` with `slope = rated_torque / (no_load_speed
    - rated_speed)`: the line through the rated and the no-load point, as of a DC motor at constant voltage. The lowest
    is its mirror image, so that against the motion a motor has more torque than with it.
    """

    def figure(name: str) -> Array:
        return jnp.asarray([getattr(motor, name) for motor in motors], speed.dtype)

    peak, no_load = figure("peak_torque"), figure("no_load_speed")
    slope = figure("rated_torque") / (no_load - figure("rated_speed"))
    highest = jnp.clip(slope * (no_load - speed), 0.0, peak)
    lowest = -jnp.clip(slope * (no_load + speed), 0.0, peak)
    return jnp.stack([lowest, highest], axis=1)


@dataclass(frozen=True, kw_only=True)
class Servo:
    """A Feetech bus servo as K-Scale identified it: `torque = duty * supply_voltage * torque_constant / resistance`.

    Its firmware sets `duty = clip(kp * error_gain * (target - angle) + kd * (target speed - speed), +-max_duty)`. That
    its torque falls with speed is in `damping`.
    """

    supply_voltage: float
    """V."""
    torque_constant: float
    """N m/A."""
    resistance: float
    """Ohm."""
    error_gain: float
    """1/rad, duty per unit of kp."""
    max_duty: float
    """In (0, 1]."""
    armature: float
    """kg m^2."""
    damping: float
    """N m s/rad."""
    frictionloss: float
    """N m."""

    @property
    def torque_per_duty(self) -> float:
        """N m at full duty and standstill."""
        return self.supply_voltage * self.torque_constant / self.resistance

    def gains(self, kp: float, kd: float) -> Gains:
        """What its registers `kp` and `kd` amount to in SI units.

        Raises:
            InvalidConfigError: kp is not positive, or kd negative.
        """
        torque = self.torque_per_duty
        return Gains(kp=kp * self.error_gain * torque, kd=kd * torque, max_torque=self.max_duty * torque)


@dataclass(frozen=True)
class JointFigures:
    """A `ModelEdit`: joints get the armature, friction loss and damping of the motors that drive them.

    ksim: ActuatorMetadata
    """

    motors: Mapping[str, Motor | Servo]
    """By names and patterns of joints; each driven joint needs one."""

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Write the figures of every joint that an actuator drives."""
        names = [actuator.target for actuator in spec.actuators]
        for name, motor in zip(names, assigned("driven joint", names, self.motors), strict=True):
            joint = spec.joint(name)
            joint.armature, joint.frictionloss = motor.armature, motor.frictionloss
            joint.damping = (motor.damping, 0.0, 0.0)  # of speed, its square and its cube


ROBSTRIDE_00 = Motor(
    peak_torque=14.0,
    rated_torque=5.0,
    rated_speed=27.227,
    no_load_speed=32.9867,
    armature=0.001,
    frictionloss=0.1,
    gear_ratio=10.0,
    mass=0.31,
)
ROBSTRIDE_02 = Motor(
    peak_torque=17.0,
    rated_torque=6.0,
    rated_speed=37.699,
    no_load_speed=42.9351,
    armature=0.0042,
    frictionloss=0.1,
    gear_ratio=7.75,
    mass=0.38,
)
ROBSTRIDE_03 = Motor(
    peak_torque=60.0,
    rated_torque=20.0,
    rated_speed=18.849,
    no_load_speed=20.944,
    armature=0.02,
    frictionloss=0.2,
    gear_ratio=9.0,
    mass=0.88,
)
ROBSTRIDE_04 = Motor(
    peak_torque=120.0,
    rated_torque=40.0,
    rated_speed=17.488,
    no_load_speed=20.944,
    armature=0.04,
    frictionloss=0.2,
    gear_ratio=9.0,
    mass=1.42,
)
FEETECH_STS3250 = Servo(
    supply_voltage=12.1,
    torque_constant=1.00059,
    resistance=1.38905,
    error_gain=0.162936,
    max_duty=0.97,
    armature=0.0399998,
    damping=1.3464,
    frictionloss=0.199995,
)
FEETECH_STS3215 = Servo(
    supply_voltage=12.1,
    torque_constant=1.0,
    resistance=2.21365,
    error_gain=0.162927,
    max_duty=0.9964,
    armature=0.04,
    damping=1.23051,
    frictionloss=0.161972,
)

MOTORS: dict[str, Motor | Servo] = {
    "robstride_00": ROBSTRIDE_00,
    "robstride_02": ROBSTRIDE_02,
    "robstride_03": ROBSTRIDE_03,
    "robstride_04": ROBSTRIDE_04,
    "feetech_sts3250": FEETECH_STS3250,
    "feetech_sts3215_12v": FEETECH_STS3215,
}
"""By the names that K-Scale's robots' metadata give them."""
