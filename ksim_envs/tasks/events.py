"""Event terms: disturbances at random times.

The time from one to the next, and to the first, is drawn uniformly from `interval`, in s, anew each time; the
disturbance comes with the first control step that begins at or after its moment. `scale` multiplies its strength and
may follow the curriculum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.numbers import Range, check_range, check_within, is_number
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.rotations import rotate_back
from ksim_envs.tasks.scales import Scale, check_scale, scale_at
from ksim_envs.tasks.terms import Carry
from ksim_envs.types import Push, View

Kick = Float[Array, "nv"]
"""A change of qvel, in its own frames: of a free joint the linear part in the world, the angular one in the body."""


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """Something that happens again and again; the carry is the moment of the next, counted in control steps."""

    interval: Range
    """s, from one to the next; at least a control step."""
    scale: Scale = 1.0
    """Multiplies the strength."""

    def __post_init__(self) -> None:
        check_range(f"{type(self).__name__}.interval", self.interval, low=0.0)
        check_scale(type(self).__name__, self.scale)

    def init(self, view: View, ctx: Context) -> Carry:
        """The first moment."""
        if self.interval[0] < ctx.dt:
            raise InvalidConfigError(
                f"{type(self).__name__}.interval is {self.interval} s; it must be at least a control step, {ctx.dt} s."
            )
        return self._pause(ctx)

    def _pause(self, ctx: Context) -> Array:
        return _in_steps(self.interval, ctx.stream("interval"))

    def _due(self, moment: Array, ctx: Context) -> tuple[Array, Array]:
        """Whether it happens in this control step, and the next moment."""
        is_due = ctx.step >= moment
        return is_due, jnp.where(is_due, moment + self._pause(ctx), moment)


@dataclass(frozen=True, kw_only=True)
class _Kicking(_Timed):
    """A sudden change of velocities."""

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Push, Carry]:
        """The push, and the next moment."""
        is_due, moment = self._due(carry, ctx)
        kick = self.kick(scale_at(self.scale, ctx.level), view, ctx.stream("strength"))
        return Push(qvel_kick=jnp.where(is_due, kick, 0.0), xfrc_applied=_no_force(ctx)), moment

    def kick(self, scale: Array, view: View, ctx: Context) -> Kick:
        """What is added to qvel when it happens."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LinearPush(_Kicking):
    """The base gets a horizontal velocity of uniform direction and of a speed in `speed`, in m/s, times `scale`.

    ksim: LinearPushEvent
    """

    speed: Range

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("LinearPush.speed", self.speed, low=0.0)

    def kick(self, scale: Array, view: View, ctx: Context) -> Kick:
        """In the two horizontal directions of the world."""
        speed = scale * _drawn(self.speed, ctx.stream("speed"))
        angle = _drawn((0.0, 2 * math.pi), ctx.stream("angle"))
        return _of_base(ctx, [speed * jnp.cos(angle), speed * jnp.sin(angle)])


@dataclass(frozen=True, kw_only=True)
class AngularPush(_Kicking):
    """The base gets an angular velocity about the vertical, left or right, in `speed`, in rad/s, times `scale`.

    ksim: AngularPushEvent
    """

    speed: Range

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("AngularPush.speed", self.speed, low=0.0)

    def kick(self, scale: Array, view: View, ctx: Context) -> Kick:
        """About the world's z axis, in the frame of the base."""
        qpos, _, _ = ctx.model.root()
        speed = scale * _drawn(self.speed, ctx.stream("speed")) * _sign((), ctx)
        vertical = rotate_back(view.qpos[qpos + 3 : qpos + 7], jnp.array([0.0, 0.0, 1.0]))
        return _of_base(ctx, [0.0, 0.0, 0.0, *(speed * vertical)])


@dataclass(frozen=True, kw_only=True)
class Jump(_Kicking):
    """The whole robot gets the velocity against gravity `sqrt(2 g h)` that lifts it by h in free flight.

    `h` is `scale` times a height in `height`, in m.

    ksim: JumpEvent
    """

    height: Range

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("Jump.height", self.height, low=0.0)

    def kick(self, scale: Array, view: View, ctx: Context) -> Kick:
        """Of the base, which carries everything else along."""
        height = scale * _drawn(self.height, ctx.stream("height"))
        gravity = jnp.asarray(ctx.model.gravity)
        strength = jnp.linalg.norm(gravity)
        up = -gravity / jnp.maximum(strength, 1e-9)
        return _of_base(ctx, up * jnp.sqrt(2 * strength * height))


@dataclass(frozen=True, kw_only=True)
class SixAxisPush(_Kicking):
    """The base's velocities change along its six axes, each by `+-scale * share * limit` with its own share and sign.

    Linear velocities, in m/s, are in the world; angular ones, in rad/s, in the frame of the base.

    ksim: PushEvent
    """

    linear: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Limits, m/s, at least 0."""
    angular: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Limits, rad/s, at least 0."""
    share: Range = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("SixAxisPush.share", self.share, low=0.0)
        limits = *self.linear, *self.angular
        if not (all(is_number(limit) and limit >= 0 for limit in limits) and any(limits)):
            raise InvalidConfigError(
                f"SixAxisPush has the limits {self.linear} and {self.angular}; all must be finite and at least 0, and "
                "one of them more."
            )

    def kick(self, scale: Array, view: View, ctx: Context) -> Kick:
        """Of the base."""
        share = scale * _drawn(self.share, ctx.stream("share"), (6,)) * _sign((6,), ctx)
        return _of_base(ctx, share * jnp.asarray((*self.linear, *self.angular)))


@dataclass(frozen=True, kw_only=True)
class JointPerturbation(_Kicking):
    """Joints get additional velocities, normal with this `deviation`, in rad/s or m/s, each with this `probability`.

    ksim: JointPerturbationEvent
    """

    deviation: float
    """rad/s or m/s, at least 0."""
    joints: Names = "*"
    probability: float = 1.0
    """That a joint is among those that are hit, in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_within("JointPerturbation.deviation", self.deviation, low=0.0)
        check_within("JointPerturbation.probability", self.probability, 0.0, 1.0)

    def kick(self, scale: Array, view: View, ctx: Context) -> Kick:
        """Of the joints."""
        joints = ctx.model.joint_qvel(self.joints)
        is_hit = jax.random.bernoulli(ctx.stream("hit").key, self.probability, joints.shape)
        speed = scale * self.deviation * jax.random.normal(ctx.stream("speed").key, joints.shape, jnp.float32)
        return jnp.zeros(ctx.model.num_dofs).at[joints].set(jnp.where(is_hit, speed, 0.0))


@dataclass(frozen=True, kw_only=True)
class ForcePush(_Timed):
    """A force in N and a torque in N m act on a body for a while, constant in the world's frame.

    Both directions are uniform on the sphere; the strengths, in `force` and `torque`, are multiplied by `scale`. The
    force acts at the body's centre of mass, for a time in `duration`, in s, rounded to control steps but at least one.

    ksim: ForcePushEvent
    """

    body: str
    duration: Range
    """s, at most the shortest interval."""
    force: Range = (0.0, 0.0)
    """N."""
    torque: Range = (0.0, 0.0)
    """N m."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("ForcePush.duration", self.duration, low=0.0, high=self.interval[0])
        check_range("ForcePush.force", self.force, low=0.0)
        check_range("ForcePush.torque", self.torque, low=0.0)

    def init(self, view: View, ctx: Context) -> Carry:
        """The moment when it begins, the control steps that it goes on, and (6,) force and torque."""
        return super().init(view, ctx), jnp.zeros(()), jnp.zeros(6)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Push, Carry]:
        """The push, and the next carry."""
        moment, rest, wrench = carry
        is_due, moment = self._due(moment, ctx)
        new = jnp.concatenate([_vector(self.force, ctx.stream("force")), _vector(self.torque, ctx.stream("torque"))])
        wrench = jnp.where(is_due, scale_at(self.scale, ctx.level) * new, wrench)
        rest = jnp.where(is_due, _in_steps(self.duration, ctx.stream("duration")), rest)
        acting = jnp.where(is_due | (rest > 0.5), wrench, 0.0)
        force = _no_force(ctx).at[ctx.model.body(self.body)].set(acting)
        return Push(qvel_kick=jnp.zeros(ctx.model.num_dofs), xfrc_applied=force), (moment, rest - 1, wrench)


def _no_force(ctx: Context) -> Array:
    return jnp.zeros((ctx.model.num_bodies, 6))


def _of_base(ctx: Context, velocity: Any) -> Kick:
    """A kick of the free joint's first velocities."""
    _, qvel, _ = ctx.model.root()
    velocity = jnp.stack([jnp.asarray(each) for each in velocity])
    return jnp.zeros(ctx.model.num_dofs).at[qvel : qvel + len(velocity)].set(velocity)


def _drawn(ends: Range, ctx: Context, shape: tuple[int, ...] = ()) -> Array:
    return uniform(ctx.key, shape, *ends)


def _in_steps(seconds: Range, ctx: Context) -> Array:
    """A time drawn from a range, in control steps: multiples of these stay exact in float32."""
    low, high = seconds
    return _drawn((low / ctx.dt, high / ctx.dt), ctx)


def _sign(shape: tuple[int, ...], ctx: Context) -> Array:
    return jax.random.rademacher(ctx.stream("sign").key, shape, jnp.float32)


def _vector(strength: Range, ctx: Context) -> Array:
    """(3,), of uniform direction."""
    direction = jax.random.normal(ctx.stream("direction").key, (3,), jnp.float32)
    return _drawn(strength, ctx.stream("strength")) * direction / jnp.linalg.norm(direction)
