"""From an action to what joints are asked for: the targets of PD controllers. `filters` has more, to put around these.

Targets are quantities, stateful or not, whose value is a `JointTarget`, and that know the bounds of the action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Model, assigned
from ksim_envs.tasks.numbers import check_positive, is_number
from ksim_envs.tasks.terms import Carry, call, init
from ksim_envs.types import View

Bounds: TypeAlias = tuple[np.ndarray, np.ndarray]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class JointTarget:
    """What the joints are asked for, in the order of the actuators."""

    position: Array  # (S, nu) or (1, nu), rad or m: for each physics substep, or one for all of them
    velocity: Array | None = None  # the same shape, rad/s or m/s; None for zero


@runtime_checkable
class Targets(Protocol):
    """A quantity (`terms.Quantity`) whose value is a `JointTarget`, made of `ctx.action`."""

    def bounds(self, model: Model) -> Bounds:
        """(num_actions,) float32 lower and upper bounds of the action."""
        ...


@dataclass(frozen=True, kw_only=True)
class AroundPose:
    """Targets around a default pose: `position = pose + scale * action`, for actions in [-1, 1].

    ksim: PositionActuators, MITPositionActuators
    """

    scale: float | Mapping[str, float] = 0.5
    """rad or m for an action of 1, at least 0; or a table by names and patterns of joints."""
    keyframe: str | None = None
    """The keyframe that holds the pose; None for the model's `qpos0`."""

    def __post_init__(self) -> None:
        values = self.scale.values() if isinstance(self.scale, Mapping) else [self.scale]
        if not all(is_number(value) and value >= 0 for value in values):
            raise InvalidConfigError(f"AroundPose has the scale {self.scale}; it must be finite and at least 0.")

    def bounds(self, model: Model) -> Bounds:
        """-1 and 1 for each joint."""
        return _unit_bounds(model)

    def __call__(self, view: View, ctx: Context) -> JointTarget:
        """The target."""
        table = self.scale if isinstance(self.scale, Mapping) else {"*": self.scale}
        scale = jnp.asarray(assigned("driven joint", ctx.model.driven_names(), table), jnp.float32)
        qpos = ctx.model.array("qpos0") if self.keyframe is None else ctx.model.keyframe(self.keyframe)
        pose = qpos[ctx.model.joint_addresses(ctx.model.driven_joints())[0]]
        return JointTarget(position=(jnp.asarray(pose) + scale * ctx.action)[None])


@dataclass(frozen=True)
class Angles:
    """Targets that are the action itself, in rad or m, within the joints' ranges.

    ksim: PositionActuators
    """

    def bounds(self, model: Model) -> Bounds:
        """The ranges of the joints.

        Raises:
            InvalidConfigError: a joint has none.
        """
        low, high = _ranges(model)
        return low, high

    def __call__(self, view: View, ctx: Context) -> JointTarget:
        """The target."""
        return JointTarget(position=ctx.action[None])


@dataclass(frozen=True)
class WholeRange:
    """Targets that span the joints' ranges: from lower to upper limit for actions from -1 to 1, linearly.

    ksim: none
    """

    def bounds(self, model: Model) -> Bounds:
        """-1 and 1 for each joint."""
        return _unit_bounds(model)

    def __call__(self, view: View, ctx: Context) -> JointTarget:
        """The target."""
        return JointTarget(position=_within_range(ctx, ctx.action))


@dataclass(frozen=True)
class TanhOfRange:
    """Targets `middle + half of the range * tanh(action)`, which never leave the joints' ranges.

    Actions are in [-3, 3], where tanh comes within half a percent of its limits.

    ksim: TanhPositions
    """

    def bounds(self, model: Model) -> Bounds:
        """-3 and 3 for each joint."""
        low, high = _unit_bounds(model)
        return 3.0 * low, 3.0 * high

    def __call__(self, view: View, ctx: Context) -> JointTarget:
        """The target."""
        return JointTarget(position=_within_range(ctx, jnp.tanh(ctx.action)))


@dataclass(frozen=True, kw_only=True)
class WithVelocity:
    """Targets of position and velocity: the action is that of `positions`, and one number in [-1, 1] more per joint.

    `velocity = max_velocity * those`.

    ksim: PositionVelocityActuator, MITPositionVelocityActuators
    """

    positions: Targets
    max_velocity: float
    """rad/s or m/s, positive."""

    def __post_init__(self) -> None:
        check_positive("WithVelocity", max_velocity=self.max_velocity)

    def bounds(self, model: Model) -> Bounds:
        """Those of the positions, then -1 and 1 for each joint."""
        low, high = (
            np.concatenate(pair) for pair in zip(self.positions.bounds(model), _unit_bounds(model), strict=True)
        )
        return low, high

    def init(self, view: View, ctx: Context) -> Carry:
        """The positions' carry."""
        return init(self.positions, view, self._of_positions(ctx))

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[JointTarget, Carry]:
        """The target, and the positions' next carry."""
        target, carry = call(self.positions, carry, view, self._of_positions(ctx))
        velocity = self.max_velocity * ctx.action[-target.position.shape[1] :]
        return replace(target, velocity=jnp.broadcast_to(velocity, target.position.shape)), carry

    def _of_positions(self, ctx: Context) -> Context:
        return replace(ctx, action=ctx.action[: -len(ctx.model.driven_joints())])


@dataclass(frozen=True, kw_only=True)
class Integrated:
    """Targets whose first, second or third derivative the action is, in units of `scale`; it is in [-1, 1].

    Each control step adds `dt` times the derivative above to each derivative, from the highest down; the velocity stays
    within +-`max_velocity` and the position within the joint's range. An episode begins at the measured positions, at
    rest.

    ksim: integrate_velocity, integrate_acceleration, MITDeltaPositionActuators, VelocityActuators,
    AccelerationActuators, JerkActuators
    """

    order: int
    """1: the action is a velocity; 2: an acceleration; 3: a jerk."""
    scale: float
    """rad/s, rad/s^2 or rad/s^3 for an action of 1, positive."""
    max_velocity: float = 10.0
    """rad/s or m/s, positive."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise InvalidConfigError(f"Integrated.order is {self.order!r}; it must be 1, 2 or 3.")
        check_positive("Integrated", scale=self.scale, max_velocity=self.max_velocity)

    def bounds(self, model: Model) -> Bounds:
        """-1 and 1 for each joint."""
        return _unit_bounds(model)

    def init(self, view: View, ctx: Context) -> Carry:
        """(order, nu): position, and derivatives below the action's."""
        position = measured_positions(view, ctx)
        return jnp.zeros((self.order, len(position))).at[0].set(position)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[JointTarget, Carry]:
        """The target, and the derivatives after this step."""
        low, high = ctx.model.joint_ranges(ctx.model.driven_joints()).T
        above = self.scale * ctx.action
        derivatives: list[Array] = []
        for order in reversed(range(self.order + 1)):
            if order < self.order:
                above = carry[order] + ctx.dt * above
            if order == 1:
                above = jnp.clip(above, -self.max_velocity, self.max_velocity)
            if order == 0:
                above = jnp.clip(above, low, high)
            derivatives.insert(0, above)
        carry = jnp.stack(derivatives[: self.order])
        return JointTarget(position=carry[:1]), carry


def measured_positions(view: View, ctx: Context) -> Array:
    """(nu,), m or rad: what the encoders of the driven joints read."""
    qpos, _ = ctx.model.joint_addresses(ctx.model.driven_joints())
    return view.qpos[qpos] + ctx.field("encoder_offset")[qpos]


def measured_velocities(view: View, ctx: Context) -> Array:
    """(nu,), m/s or rad/s: the velocities of the driven joints."""
    return view.qvel[ctx.model.joint_addresses(ctx.model.driven_joints())[1]]


def _within_range(ctx: Context, share: Array) -> Array:
    """(1, nu): from the lower to the upper limit of the driven joints as `share` goes from -1 to 1."""
    low, high = _ranges(ctx.model)
    return jnp.asarray((low + high) / 2 + (high - low) / 2 * share)[None]


def _ranges(model: Model) -> Bounds:
    """The lower and upper limits of the driven joints."""
    low, high = model.joint_ranges(model.driven_joints()).T
    if not np.isfinite(high).all():
        name = model.driven_names()[int(np.flatnonzero(~np.isfinite(high))[0])]
        raise InvalidConfigError(f"joint {name!r} has no range; give it one in the model, or use AroundPose.")
    return low, high


def _unit_bounds(model: Model) -> Bounds:
    ones = np.ones(len(model.driven_joints()), np.float32)
    return -ones, ones
