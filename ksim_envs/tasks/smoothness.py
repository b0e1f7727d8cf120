"""Measures of how smoothly and with how little effort a robot moves. What remembers forgets at each reset."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Model, Names
from ksim_envs.tasks.numbers import check_positive
from ksim_envs.tasks.terms import Quantity, Remembering
from ksim_envs.types import View


@dataclass(frozen=True)
class Difference(Remembering):
    """The difference of this order of a quantity from control step to control step, in its unit per step to the order.

    Order 1 is `x[t] - x[t-1]`, 2 the difference of these (acceleration), 3 jerk. It is zero in the first `order` steps
    of an episode, which have too few steps before them: no difference reaches across a reset.

    ksim: ActionVelocity, ActionAcceleration, ActionJerk, SmallJointVelocity, SmallJointAcceleration, SmallJointJerk,
    JointVelocity, JointAcceleration, JointJerk, LinkAcceleration, LinkJerk, ActionSmoothness, ActuatorJerk, BaseJerkZ
    """

    quantity: Quantity
    order: int = 1

    def __post_init__(self) -> None:
        check_positive("Difference", order=self.order)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The quantity."""
        return (self.quantity,)

    def remember(self, value: Array, ctx: Context) -> Float[Array, "order ..."]:
        """The last values, the oldest first."""
        return jnp.stack([jnp.asarray(value, jnp.float32)] * self.order)

    def update(self, memory: Float[Array, "order ..."], value: Array, ctx: Context) -> tuple[Array, Array]:
        """In the quantity's shape."""
        values = jnp.concatenate([memory, jnp.asarray(value, jnp.float32)[None]])
        change = jnp.diff(values, n=self.order, axis=0)[0]
        return jnp.where(ctx.step > self.order, change, 0.0), values[1:]


@dataclass(frozen=True)
class RelativeForce:
    """Force of each actuator relative to the largest that it can give, in [-1, 1], one substep behind.

    The largest is the end of `forcerange`, or for a motor (a fixed gain without bias) that of `ctrlrange` by its gain.

    ksim: Torque, Ctrl, SmallCtrl, ActuatorRelativeForce
    """

    actuators: Names = "*"

    def __call__(self, view: View, ctx: Context) -> Float[Array, "actuators"]:
        """One for each actuator."""
        chosen = ctx.model.actuators(self.actuators)
        return view.actuator_force[chosen] / jnp.asarray(_largest_force(ctx.model, chosen))


def _largest_force(model: Model, chosen: np.ndarray) -> np.ndarray:
    """Of each of the chosen actuators.

    Raises:
        InvalidConfigError: one has no limit.
    """
    is_motor = (
        (model.array("actuator_gaintype") == mujoco.mjtGain.mjGAIN_FIXED)
        & (model.array("actuator_biastype") == mujoco.mjtBias.mjBIAS_NONE)
        & (model.array("actuator_dyntype") == mujoco.mjtDyn.mjDYN_NONE)
        & (model.array("actuator_ctrllimited") != 0)
    )
    of_motor = np.abs(model.array("actuator_gainprm")[:, 0]) * np.abs(model.array("actuator_ctrlrange")).max(axis=1)
    of_force = np.abs(model.array("actuator_forcerange")).max(axis=1)
    is_limited = model.array("actuator_forcelimited") != 0
    largest = np.where(is_motor, of_motor, np.inf)
    largest = np.minimum(largest, np.where(is_limited, of_force, np.inf))[chosen]
    has_none = ~(np.isfinite(largest) & (largest > 0))
    if has_none.any():
        index = chosen[has_none][0]
        shown = repr(model.names("actuator")[index] or int(index))
        raise InvalidConfigError(
            f"Actuator {shown} has no largest force; give it a forcerange, or take Field('actuator_force') in N or N m."
        )
    return largest


@dataclass(frozen=True)
class JointPower:
    """Mechanical power of the actuators at each joint, force times speed, in W; negative where they brake.

    The force is one substep behind. ksim's energy is relative to the largest force; this one is physical.

    ksim: Energy
    """

    joints: Names = "*"

    def __call__(self, view: View, ctx: Context) -> Float[Array, "joints"]:
        """One for each joint."""
        chosen = ctx.model.joint_qvel(self.joints)
        return view.qfrc_actuator[chosen] * view.qvel[chosen]


@dataclass(frozen=True)
class Unreachable:
    """How far an action asks each joint to go beyond what it can reach in one step, in rad or m; at least 0.

    It is for actions that are joint positions, one for each of `joints`: the excess of `|action - q|`, with q from
    before the step, over `max_velocity * dt + max_acceleration * dt**2 / 2`.

    ksim: Reachability, ActionNearPosition
    """

    max_velocity: float
    max_acceleration: float
    joints: Names = "*"

    def __post_init__(self) -> None:
        check_positive("Unreachable", max_velocity=self.max_velocity, max_acceleration=self.max_acceleration)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "joints"]:
        """One for each joint."""
        chosen = ctx.model.joint_qpos(self.joints)
        if len(chosen) != len(ctx.action):
            raise InvalidConfigError(
                f"Unreachable has {len(chosen)} joints and the action {len(ctx.action)} elements; name as many joints, "
                "in the action's order."
            )
        before = view.qpos[chosen] - view.qpos_change[chosen]
        reach = self.max_velocity * ctx.dt + 0.5 * self.max_acceleration * ctx.dt**2
        return jnp.maximum(jnp.abs(ctx.action - before) - reach, 0.0)
