"""What is known of joints and actuators. Names may be patterns; free and ball joints are left out of `"*"`."""

from __future__ import annotations

from dataclasses import dataclass

from jax import Array
from jaxtyping import Float

from ksim_envs.tasks.context import Context, Names
from ksim_envs.types import View


@dataclass(frozen=True)
class JointPosition:
    """Positions of hinge and slide joints as their encoders read them, in rad and m: `qpos + encoder_offset`.

    `encoder_offset` is zero unless a randomizer draws it, and is left out where not `measured`. Where `relative` they
    are measured from the model's initial pose, the row's own `qpos0`.

    ksim: JointPositionObservation, BiasedJointPositionObservation
    """

    joints: Names = "*"
    relative: bool = False
    measured: bool = True

    def __call__(self, view: View, ctx: Context) -> Float[Array, "joints"]:
        """(num_joints,), in the order of the names."""
        index = ctx.model.joint_qpos(self.joints)
        position = view.qpos[index]
        if self.measured:
            position = position + ctx.field("encoder_offset")[index]
        return position - ctx.field("qpos0")[index] if self.relative else position


@dataclass(frozen=True)
class JointVelocity:
    """Velocities of hinge and slide joints, in rad/s and m/s.

    ksim: JointVelocityObservation
    """

    joints: Names = "*"

    def __call__(self, view: View, ctx: Context) -> Float[Array, "joints"]:
        """(num_joints,), in the order of the names."""
        return view.qvel[ctx.model.joint_qvel(self.joints)]


@dataclass(frozen=True)
class JointAcceleration:
    """Accelerations of hinge and slide joints, in rad/s^2 and m/s^2, one substep behind.

    ksim: ActuatorAccelerationObservation
    """

    joints: Names = "*"

    def __call__(self, view: View, ctx: Context) -> Float[Array, "joints"]:
        """(num_joints,), in the order of the names."""
        return view.qacc[ctx.model.joint_qvel(self.joints)]


@dataclass(frozen=True)
class ActuatorForce:
    """Forces of actuators before their gear, in N or N m, one substep behind.

    ksim: ActuatorForceObservation, ActuatorForcePenalty
    """

    actuators: Names = "*"

    def __call__(self, view: View, ctx: Context) -> Float[Array, "actuators"]:
        """(num_actuators,), in the order of the names."""
        return view.actuator_force[ctx.model.actuators(self.actuators)]


@dataclass(frozen=True)
class Action:
    """Elements `start` to `stop` of the last action, within its bounds; zero in an episode's first state.

    Beside `JointPosition` or `JointVelocity` of the joint that it drives it shows how well the joint follows.

    ksim: ActPosObservation, ActVelObservation
    """

    start: int = 0
    stop: int | None = None

    def __call__(self, view: View, ctx: Context) -> Float[Array, "actions"]:
        """(num_actions,), in the action's unit."""
        return ctx.action[self.start : self.stop]
