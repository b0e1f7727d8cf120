"""Actuator terms: from an action to the engine's controls.

`Position` and `Torque` make controls; the others stand around one of them and add what real motors and their wires do
to it. Read a stack of them from the inside out, as a signal travels:

    motors = SpeedLimited(actuator=Position(gains={"*": Gains(kp=100.0, kd=5.0)}), motors={"*": ROBSTRIDE_03})
    DelayedControl(actuator=motors, longest=0.01)  # and ActionLatency(high=0.01) among the randomizers draws how much

PD control is done by MuJoCo's own actuators, which these terms write into the model. So it is exact in every physics
substep on every backend, and its gains and limits are model fields, which randomizers can draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Model, assigned
from ksim_envs.tasks.motors import Gains, Motor, Servo, torque_limits
from ksim_envs.tasks.numbers import check_positive, is_number
from ksim_envs.tasks.randomizers import ActionLatency
from ksim_envs.tasks.scales import Scale, check_scale, ends, scale_at
from ksim_envs.tasks.targets import AroundPose, Bounds, Targets, measured_velocities
from ksim_envs.tasks.terms import Actuator, Carry, Drive, call, init
from ksim_envs.types import View

if TYPE_CHECKING:
    from ksim_envs.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Torque:
    """The action times `scale` is the engine's control, by which a motor's gear is multiplied to give N m.

    Actions are within the actuators' control ranges divided by `scale`, or in [-1, 1] where there is none.

    ksim: TorqueActuators, ScaledTorqueActuators
    """

    scale: float = 1.0
    """Positive."""
    fields = ()

    def __post_init__(self) -> None:
        check_positive("Torque", scale=self.scale)

    def bounds(self, model: Model) -> Bounds:
        """The control ranges divided by the scale."""
        is_limited = model.array("actuator_ctrllimited")[:, None] != 0
        low, high = np.where(is_limited, model.array("actuator_ctrlrange") / self.scale, (-1.0, 1.0)).T
        return low, high

    def init(self, view: View, ctx: Context) -> Carry:
        """Nothing."""
        return ()

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Drive, Carry]:
        """The controls."""
        return Drive(ctrl=self.scale * ctx.action[None]), carry


@dataclass(frozen=True, kw_only=True)
class Position:
    """PD control: `torque = clip(kp * (target - angle) + kd * (target velocity - velocity), +-max_torque)`, in N m.

    It holds in every physics substep, with the angle that the encoder reads (`encoder_offset`). Every actuator of the
    model must drive a hinge or slide joint; its gear becomes 1, so that torque is that of the joint. With gains of
    `motors.Servo.gains` and `filters.TrapezoidalPlan` around the targets it is the servo of K-Scale's Z-Bot.

    ksim: PositionActuators, PositionVelocityActuator, MITPositionActuators, MITPositionVelocityActuators,
    FeetechActuators
    """

    gains: Mapping[str, Gains]
    """By names and patterns of joints; a later entry overrides an earlier one."""
    targets: Targets = AroundPose()
    """What an action asks for."""
    fields = ()

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Make every actuator a PD controller of its joint."""
        names = [actuator.target for actuator in spec.actuators]
        for actuator, gains in zip(spec.actuators, assigned("driven joint", names, self.gains), strict=True):
            limit = _max_torque(actuator) if gains.max_torque is None else gains.max_torque
            actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
            actuator.gaintype, actuator.gainprm[:3] = mujoco.mjtGain.mjGAIN_FIXED, (gains.kp, 0.0, 0.0)
            actuator.biastype, actuator.biasprm[:3] = mujoco.mjtBias.mjBIAS_AFFINE, (0.0, -gains.kp, -gains.kd)
            actuator.gear[:] = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            actuator.ctrllimited = False
            _limit_force(actuator, limit)

    def bounds(self, model: Model) -> Bounds:
        """Those of the targets."""
        return self.targets.bounds(model)

    def init(self, view: View, ctx: Context) -> Carry:
        """The targets' carry."""
        return init(self.targets, view, ctx)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Drive, Carry]:
        """The controls, which are the angles that MuJoCo's PD controllers go for."""
        target, carry = call(self.targets, carry, view, ctx)
        qpos, _ = ctx.model.joint_addresses(ctx.model.driven_joints())
        ctrl = target.position - ctx.field("encoder_offset")[qpos]
        if target.velocity is not None:  # kp * (kd / kp * velocity) is the torque that a target velocity adds
            kp, kd = ctx.field("actuator_gainprm")[:, 0], -ctx.field("actuator_biasprm")[:, 2]
            ctrl += kd / kp * target.velocity
        return Drive(ctrl=ctrl), carry


class _Around:
    """An actuator around another one, which by itself changes nothing."""

    actuator: Actuator
    own_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The inner actuator's, and its own."""
        return tuple(dict.fromkeys((*self.actuator.fields, *self.own_fields)))

    def bounds(self, model: Model) -> Bounds:
        """Those of the inner actuator."""
        return self.actuator.bounds(model)


@dataclass(frozen=True, kw_only=True)
class Noisy(_Around):
    """Another actuator with `noise * n + bias * b` added to its action, in the action's unit.

    `n` is standard normal in every control step and for every joint, `b` in every episode.

    ksim: TorqueActuators, PositionActuators
    """

    actuator: Actuator
    noise: Scale = 0.0
    bias: Scale = 0.0

    def __post_init__(self) -> None:
        check_scale("Noisy", self.noise)
        check_scale("Noisy", self.bias)

    def init(self, view: View, ctx: Context) -> Carry:
        """The actuator's carry, and the bias."""
        bias = _normal(self.bias, ctx.action.shape, ctx.stream("bias"))
        return init(self.actuator, view, ctx), bias

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Drive, Carry]:
        """The actuator's drive for the changed action."""
        inner, bias = carry
        action = ctx.action + bias + _normal(self.noise, ctx.action.shape, ctx.stream("noise"))
        drive, inner = call(self.actuator, inner, view, replace(ctx, action=action))
        return drive, (inner, bias)


@dataclass(frozen=True, kw_only=True)
class TorqueNoise(_Around):
    """Another actuator with `noise * n + bias * b` added to its torque, in N m, before the torque limit.

    `n` is standard normal in every control step and for every joint, `b` in every episode.

    ksim: PositionActuators
    """

    actuator: Actuator
    noise: Scale = 0.0
    bias: Scale = 0.0
    own_fields: ClassVar[tuple[str, ...]] = ("actuator_biasprm",)

    def __post_init__(self) -> None:
        check_scale("TorqueNoise", self.noise)
        check_scale("TorqueNoise", self.bias)

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Give every actuator room for an additional torque."""
        for actuator in spec.actuators:
            if actuator.biastype == mujoco.mjtBias.mjBIAS_NONE:
                actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
                actuator.biasprm[:3] = 0.0

    def init(self, view: View, ctx: Context) -> Carry:
        """The actuator's carry, and the bias."""
        bias = _normal(self.bias, (len(ctx.model.driven_joints()),), ctx.stream("bias"))
        return init(self.actuator, view, ctx), bias

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Drive, Carry]:
        """The actuator's drive, with the torque as a constant of its law."""
        inner, bias = carry
        drive, inner = call(self.actuator, inner, view, ctx)
        torque = bias + _normal(self.noise, bias.shape, ctx.stream("noise"))
        law = _field_of(drive, "actuator_biasprm", ctx)
        law = law.at[:, 0].add(torque / ctx.field("actuator_gear")[:, 0])
        return replace(drive, model_fields={**drive.model_fields, "actuator_biasprm": law}), (inner, bias)


@dataclass(frozen=True, kw_only=True)
class SpeedLimited(_Around):
    """Another actuator whose torques also stay within those that its motors have at the joints' speeds.

    See `motors.torque_limits` for the formula. The speed is the one at the control step's start: the limits hold
    for the whole step. Other limits, such as `Gains.max_torque` and drawn ones, hold as well.

    ksim: none
    """

    actuator: Actuator
    motors: Mapping[str, Motor | Servo]
    """By names and patterns of joints; each driven joint needs one, which is no servo."""
    own_fields: ClassVar[tuple[str, ...]] = ("actuator_forcerange",)

    def __post_init__(self) -> None:
        table = self.motors if isinstance(self.motors, Mapping) else {}
        if servos := [joints for joints, motor in table.items() if isinstance(motor, Servo)]:
            raise InvalidConfigError(
                f"SpeedLimited has a servo for {servos[0]!r}. A servo's torque falls with speed by its damping, which "
                "is in the model; leave SpeedLimited out."
            )

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Limit every actuator to its motor's peak torque."""
        names = [actuator.target for actuator in spec.actuators]
        for actuator, motor in zip(spec.actuators, self._by_joint(names), strict=True):
            _limit_force(actuator, min(_max_torque(actuator), motor.peak_torque) / abs(actuator.gear[0]))

    def init(self, view: View, ctx: Context) -> Carry:
        """The actuator's carry."""
        return init(self.actuator, view, ctx)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Drive, Carry]:
        """The actuator's drive, with narrower limits."""
        drive, carry = call(self.actuator, carry, view, ctx)
        torque = torque_limits(self._by_joint(ctx.model.driven_names()), measured_velocities(view, ctx))
        force = jnp.sort(torque / ctx.field("actuator_gear")[:, :1], axis=1)
        limits = _field_of(drive, "actuator_forcerange", ctx)
        limits = jnp.clip(limits, force[:, :1], force[:, 1:])
        return replace(drive, model_fields={**drive.model_fields, "actuator_forcerange": limits}), carry

    def _by_joint(self, names: list[str]) -> list[Motor]:
        return [motor for motor in assigned("driven joint", names, self.motors) if isinstance(motor, Motor)]


@dataclass(frozen=True, kw_only=True)
class DelayedControl(_Around):
    """Another actuator whose controls arrive late, by this episode's `action_latency`, and some of them never.

    The latency, which `randomizers.ActionLatency` draws, is rounded to physics timesteps. It may be longer than a
    control step. With probability `drop` a joint does not get its control of a control step and keeps the one before.
    The first action of an episode arrives at once.

    ksim: action_latency_range, drop_action_prob
    """

    actuator: Actuator
    longest: float = 0.0
    """s, at least 0: the longest latency that there will be. A row with a longer one counts as diverged."""
    drop: Scale = 0.0
    """In [0, 1]."""

    def __post_init__(self) -> None:
        check_scale("DelayedControl.drop", self.drop)
        if not (is_number(self.longest) and self.longest >= 0 and max(ends(self.drop)) <= 1):
            raise InvalidConfigError(f"{self}: longest must be finite and at least 0, and drop in [0, 1].")

    def init(self, view: View, ctx: Context) -> Carry:
        """The actuator's carry, and the controls of the past substeps, oldest first: (substeps, nu)."""
        num_past = max(1, math.ceil(self.longest / ctx.model.timestep))
        return init(self.actuator, view, ctx), jnp.zeros((num_past, len(ctx.model.array("actuator_gear"))))

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Drive, Carry]:
        """The drive whose controls are as old as the latency says."""
        inner, past = carry
        drive, inner = call(self.actuator, inner, view, ctx)
        past = jnp.where(ctx.step == 0, drive.ctrl[0], past)
        is_lost = jax.random.bernoulli(ctx.stream("drop").key, scale_at(self.drop, ctx.level), past.shape[1:])
        sent = jnp.broadcast_to(drive.ctrl, (ctx.num_substeps, past.shape[1]))
        stream = jnp.concatenate([past, jnp.where(is_lost & (ctx.step > 0), past[-1], sent)])
        age = jnp.round(ctx.field("action_latency") / ctx.model.timestep).astype(jnp.int32)
        arrived = jax.lax.dynamic_slice_in_dim(stream, len(past) - age, ctx.num_substeps)
        arrived = jnp.where(age <= len(past), arrived, jnp.nan)
        return replace(drive, ctrl=arrived), (inner, stream[-len(past) :])


def check_latency(task: Task) -> None:
    """Refuse a latency that is drawn and for which no `DelayedControl` has room.

    Raises:
        InvalidConfigError: there is one.
    """
    around = task.actuator
    while isinstance(around, _Around) and not isinstance(around, DelayedControl):
        around = around.actuator
    for randomizer in task.randomizers.values():
        if isinstance(randomizer, ActionLatency) and isinstance(around, DelayedControl):
            latency = max(ends(randomizer.high))
            if latency > around.longest:
                raise InvalidConfigError(
                    f"ActionLatency draws up to {latency} s, and DelayedControl has room for {around.longest} s; give "
                    f"it longest={latency}."
                )


def _normal(scale: Scale, shape: tuple[int, ...], ctx: Context) -> Array:
    return scale_at(scale, ctx.level) * jax.random.normal(ctx.key, shape, jnp.float32)


def _field_of(drive: Drive, name: str, ctx: Context) -> Array:
    """A model field as an inner actuator's drive sets it, or as it is in this episode."""
    return drive.model_fields[name] if name in drive.model_fields else ctx.field(name)


def _max_torque(actuator: mujoco.MjsActuator) -> float:
    """The torque in N m that an actuator of a model can have; infinite where nothing limits it."""
    limit = math.inf
    if _is_limited(actuator.forcelimited, actuator.forcerange):
        limit = float(np.abs(actuator.forcerange).max())
    if _is_limited(actuator.ctrllimited, actuator.ctrlrange) and not np.any(actuator.biasprm[:3]):
        limit = min(limit, abs(actuator.gainprm[0]) * float(np.abs(actuator.ctrlrange).max()))
    return abs(actuator.gear[0]) * limit


def _is_limited(limited: mujoco.mjtLimited, bounds: np.ndarray) -> bool:
    is_auto = limited == mujoco.mjtLimited.mjLIMITED_AUTO
    return bool(bounds[0] < bounds[1]) if is_auto else limited == mujoco.mjtLimited.mjLIMITED_TRUE


def _limit_force(actuator: mujoco.MjsActuator, limit: float) -> None:
    """Limit an actuator's force to +-limit; an infinite one is none."""
    actuator.forcelimited = math.isfinite(limit)
    actuator.forcerange = (-limit, limit) if math.isfinite(limit) else (0.0, 0.0)
