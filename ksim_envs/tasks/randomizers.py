"""Randomizer terms: model fields that are drawn anew for each episode, or once for each env of a run (`per_run`).

What is drawn uniformly lies between `low` and `high`, which may follow the curriculum. A randomizer that would change
nothing in the model, such as a factor for a damping that is zero everywhere, is refused when the task is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.numbers import check_range
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.scales import Scale, check_scale, ends, scale_at

Fields: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class ContactSoftness:
    """Scale time constant (s) and damping ratio of contacts, each by a factor in [1 / (1 + spread), 1 + spread].

    The factors are log-uniform and the same for all geoms. What they scale is `geom_solref`, in whichever of its two
    formats (MuJoCo's documentation, "Solver parameters"); explicit contact pairs have their own and stay.

    ksim: none
    """

    spread: float
    fields = ("geom_solref",)

    def __post_init__(self) -> None:
        check_scale("ContactSoftness", self.spread)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`geom_solref`, (ngeom, 2)."""
        value = values["geom_solref"]
        exponent = uniform(ctx.key, (2,), -1.0, 1.0, value.dtype)
        return {"geom_solref": value * (1.0 + self.spread) ** exponent}


@dataclass(frozen=True, kw_only=True)
class Between:
    """Numbers between `low` and `high`."""

    low: Scale
    high: Scale
    per_run: bool = False
    """Whether an env keeps what it draws first for the whole run."""

    smallest: ClassVar[float] = -np.inf
    """What `low` must be at least."""

    def __post_init__(self) -> None:
        for low, high in zip(ends(self.low), ends(self.high), strict=True):
            check_range(f"{type(self).__name__}'s (low, high)", (low, high), low=self.smallest)

    def draw(self, shape: tuple[int, ...], ctx: Context) -> Array:
        """Independent numbers."""
        low, high = scale_at(self.low, ctx.level), scale_at(self.high, ctx.level)
        return uniform(ctx.run_key if self.per_run else ctx.key, shape, low, high)


class Factor(Between):
    """Factors between `low` and `high`, at least 0."""

    smallest = 0.0

    def scaled(self, values: Array, name: str, places: tuple[Any, ...], ctx: Context) -> Array:
        """A field with these places of it times a factor for each row, the same factors whatever the field.

        Args:
            values: the field's values.
            name: the field's name.
            places: an index of the field that begins with the rows.
            ctx: the context.

        Raises:
            InvalidConfigError: all of the places are zero in the model.
        """
        if not ctx.model.array(name)[places].any():
            raise InvalidConfigError(
                f"{type(self).__name__} scales {name}, which is zero in the model wherever it would be scaled: it has "
                "no effect. Give the model values, or leave the randomizer out."
            )
        factor = self.draw((len(places[0]),), ctx)
        return values.at[places].multiply(factor.reshape(-1, *[1] * (values[places].ndim - 1)))


@dataclass(frozen=True, kw_only=True)
class _OfJoints(Factor):
    """One field of the joints' degrees of freedom, each times its own factor."""

    joints: Names = "*"
    """Hinge and slide joints."""
    fields = ("",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """The one field, (nv,)."""
        (name,) = self.fields
        return {name: self.scaled(values[name], name, (ctx.model.joint_qvel(self.joints),), ctx)}


@dataclass(frozen=True, kw_only=True)
class StaticFriction(_OfJoints):
    """The joints' dry friction, N m or N, times a factor in [low, high] for each joint.

    ksim: StaticFrictionRandomizer
    """

    low: Scale = 0.5
    high: Scale = 2.0
    fields = ("dof_frictionloss",)


@dataclass(frozen=True, kw_only=True)
class Armature(_OfJoints):
    """The joints' armature, kg m^2 or kg, times a factor in [low, high] for each joint.

    ksim: ArmatureRandomizer
    """

    low: Scale = 0.95
    high: Scale = 1.05
    fields = ("dof_armature",)


@dataclass(frozen=True, kw_only=True)
class JointDamping(_OfJoints):
    """The joints' damping, N m s/rad or N s/m, times a factor in [low, high] for each joint.

    ksim: JointDampingRandomizer
    """

    low: Scale = 0.9
    high: Scale = 1.1
    fields = ("dof_damping",)


@dataclass(frozen=True, kw_only=True)
class JointZeroPosition(Between):
    """The joints' zero angles are shifted by an angle in [low, high], rad or m, each.

    At `qpos` the link then stands where it stood at `qpos - shift`. Ranges and springs, which the model states in
    `qpos`, stay. See `EncoderOffset` for an error of measurement alone.

    ksim: JointZeroPositionRandomizer
    """

    low: Scale = -0.01
    high: Scale = 0.01
    joints: Names = "*"
    fields = ("qpos0",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`qpos0`, (nq,)."""
        joints = ctx.model.joint_qpos(self.joints)
        return {"qpos0": values["qpos0"].at[joints].add(self.draw(joints.shape, ctx))}


@dataclass(frozen=True, kw_only=True)
class PositionGain(Factor):
    """kp of the actuators' PD controllers, N m/rad, times a factor in [low, high] for each actuator.

    ksim: PositionActuators
    """

    low: Scale = 0.9
    high: Scale = 1.1
    actuators: Names = "*"
    fields = ("actuator_gainprm", "actuator_biasprm")

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`actuator_gainprm` and `actuator_biasprm`, (nu, 10) each."""
        chosen = ctx.model.actuators(self.actuators)
        law = self.scaled(values["actuator_biasprm"], "actuator_biasprm", (chosen, 1), ctx)
        gain = self.scaled(values["actuator_gainprm"], "actuator_gainprm", (chosen, 0), ctx)
        return {"actuator_gainprm": gain, "actuator_biasprm": law}


@dataclass(frozen=True, kw_only=True)
class VelocityGain(Factor):
    """kd of the actuators' PD controllers, N m s/rad, times a factor in [low, high] for each actuator.

    ksim: PositionActuators
    """

    low: Scale = 0.9
    high: Scale = 1.1
    actuators: Names = "*"
    fields = ("actuator_biasprm",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`actuator_biasprm`, (nu, 10)."""
        places = (ctx.model.actuators(self.actuators), 2)
        return {"actuator_biasprm": self.scaled(values["actuator_biasprm"], "actuator_biasprm", places, ctx)}


@dataclass(frozen=True, kw_only=True)
class TorqueLimit(Factor):
    """The actuators' force limits, N m or N, times a factor in [low, high] for each actuator.

    ksim: PositionActuators
    """

    low: Scale = 0.9
    high: Scale = 1.1
    actuators: Names = "*"
    fields = ("actuator_forcerange",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`actuator_forcerange`, (nu, 2)."""
        places = (ctx.model.actuators(self.actuators),)
        return {"actuator_forcerange": self.scaled(values["actuator_forcerange"], "actuator_forcerange", places, ctx)}


@dataclass(frozen=True, kw_only=True)
class EncoderOffset:
    """The joints' encoders read too much by a constant, rad or m: `deviation` * normal + uniform in +-`spread`.

    It is drawn for each joint. Observations of joint positions and PD controllers see it (`encoder_offset`).

    ksim: zero_offset_std, zero_offset_mag
    """

    deviation: Scale = 0.0
    spread: Scale = 0.0
    joints: Names = "*"
    per_run: bool = False
    """Whether an env keeps what it draws first for the whole run."""
    fields = ("encoder_offset",)

    def __post_init__(self) -> None:
        check_scale("EncoderOffset.deviation", self.deviation)
        check_scale("EncoderOffset.spread", self.spread)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`encoder_offset`, (nq,)."""
        joints = ctx.model.joint_qpos(self.joints)
        normal, flat = (
            stream.run_key if self.per_run else stream.key for stream in (ctx.stream("normal"), ctx.stream("uniform"))
        )
        offset = scale_at(self.deviation, ctx.level) * jax.random.normal(normal, joints.shape, jnp.float32)
        offset += scale_at(self.spread, ctx.level) * uniform(flat, joints.shape, -1.0, 1.0)
        return {"encoder_offset": values["encoder_offset"].at[joints].add(offset)}


@dataclass(frozen=True, kw_only=True)
class ActionLatency(Between):
    """An action takes a time in [low, high], s, at least 0, to reach the motors (see `actuators.DelayedControl`).

    ksim: action_latency_range
    """

    low: Scale = 0.0
    smallest: ClassVar[float] = 0.0
    fields = ("action_latency",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`action_latency`, ()."""
        return {"action_latency": self.draw((), ctx)}
