"""For each of ksim's commands and rewards the terms that take its place, with the range that their docstrings state.

AMPReward and TeacherReward are not here: they belong to a learning algorithm, not to a task.
"""

from __future__ import annotations

from math import inf, pi, radians, sqrt
from typing import Any

import numpy as np

from ksim_envs.tasks.base_motion import BaseAngularVelocity, BaseLinearVelocity, BaseOrientation, RollPitchYaw
from ksim_envs.tasks.bodies import MeanBodyVelocities
from ksim_envs.tasks.commands import (
    Approached,
    Choice,
    EitherSign,
    Held,
    Joystick,
    PolarVelocity,
    Uniform,
    UniformInteger,
    UniformRotation,
)
from ksim_envs.tasks.gait import (
    Airborne,
    FeetTime,
    Impact,
    SingleContact,
    Slip,
    SwingClearance,
    SwingHeight,
    TouchdownAirTime,
    TouchdownHeight,
)
from ksim_envs.tasks.joints import Action, JointPosition, JointVelocity
from ksim_envs.tasks.measures import Clipped, CommandAbove, Commanded, Constant, Error, RampUp, Reduced, When, Within
from ksim_envs.tasks.motion_commands import GaitPhase, MovingJoints, MovingPoint, Playback
from ksim_envs.tasks.observations import BodyOffset, Field
from ksim_envs.tasks.posture import (
    Alignment,
    BeyondLimits,
    HeadingAlignment,
    HeightAboveGround,
    JointAsymmetry,
    JointDeviation,
    Lowest,
    MassCenterDistance,
    RotationAngle,
    Symmetry,
    TooClose,
)
from ksim_envs.tasks.rewards import Alive, Cost, Scaled, TerminationCost
from ksim_envs.tasks.smoothness import Difference, JointPower, RelativeForce, Unreachable
from ksim_envs.tasks.tracking import (
    DirectionError,
    Gaussian,
    Laplace,
    Rests,
    SameSign,
    Tracking,
    Triangle,
)
from tests.ksim_envs.tasks.biped import FORCE, VELOCITY, Soles, Touches

Range = tuple[float, float]

BASE = Field("qpos", 0, 3)
ORIENTATION = Field("qpos", 3, 7)
GROUND = 0.0  # a plane at the world's origin
SOLE = 0.04  # m, from the sole to its site
HEIGHTS = HeightAboveGround(Soles(), GROUND)
PLANAR = BaseLinearVelocity("heading", "xy")
YAW_RATE = BaseAngularVelocity("heading", "z")
FRAMES = np.linspace([-0.5, 0.0, 0.5, 0.0], [0.5, 0.02, -0.5, -0.02], 20)

COMMANDS: dict[str, tuple[Any, Range]] = {
    "FloatVector": (Held(Uniform((-1.0, 0.0), (1.0, 2.0)), probability=0.3, zero_probability=0.2), (-1, 2)),
    "IntVector": (Held(UniformInteger((0, -1), (3, 1)), interval=(0.04, 0.1)), (-1, 3)),
    "StartPosition": (Held(BASE), (-1, 1)),
    "StartQuaternion": (Held(BaseOrientation()), (-1, 1)),
    "LinearVelocity": (
        Approached(
            Held(PolarVelocity(0.5, 1.0, max_direction=1.0, backward_probability=0.3), 0.2, zero_probability=0.1),
            rate=5.0,
            start=PLANAR,
        ),
        (-2, 2),
    ),
    "AngularVelocity": (Approached(Held(EitherSign(Uniform(0.2, 1.0)), 0.2), rate=3.0, start=YAW_RATE), (-5, 5)),
    "CartesianCoordinate": (MovingPoint((-0.1, 0.0, -0.5), (0.1, 0.2, -0.3), slow=0.5, fast=3.0), (-0.5, 0.2)),
    "BaseHeight": (Held(Uniform(0.35, 0.45), probability=0.2), (0.35, 0.45)),
    "JointPosition": (MovingJoints("*", time=(0.04, 0.2)), (-60, 60)),  # rad, and rad/s
    "Joystick": (Held(Joystick(walk=0.5, run=1.0, strafe=0.3, turn=0.5), probability=0.2), (-1, 1)),
    "SinusoidalGait": (GaitPhase((0.3, 0.4), when=CommandAbove("Joystick", 0.01)), (0, 1)),
    "LinearVelocityStep": (Held(Choice((Constant((-1.0, 0.0)), Constant((1.0, 0.0))), (0.5, 0.5)), 0.3), (-1, 1)),
    "GlobalBodyQuaternion": (Held(UniformRotation(), probability=0.2), (-1, 1)),
    "ReferenceMotion": (Playback(FRAMES, rate=50.0, start=JointPosition(measured=False)), (-0.5, 0.5)),
}
"""EasyJoystick is the gait that runs while the joystick asks for motion."""

KP = Gaussian(0.25, square_cost=0.1, absolute_cost=0.1)
RESTS = Rests(0.3, radians(30))
AIR = FeetTime(Touches())
GROUNDED = FeetTime(Touches(), grounded=True)

REWARDS: dict[str, tuple[Any, Range]] = {
    "StayAlive": (Alive(0.01), (0, 0.01)),
    "StayAlive/failure": (TerminationCost(1.0), (-1, 0)),
    "LinearVelocity/vel": (
        Tracking(1.0, Reduced(PLANAR, "norm"), Reduced(Commanded("LinearVelocity"), "norm"), KP),
        (-inf, 1),
    ),
    "LinearVelocity/yaw": (
        When(CommandAbove("LinearVelocity", 0.01), Tracking(1.0, DirectionError(PLANAR, "LinearVelocity"), 0.0, KP)),
        (-0.1 * pi**2 - 0.1 * pi, 1),
    ),
    "LinearVelocity/x, y": (Tracking(1.0, PLANAR, "LinearVelocity", KP), (-inf, 1)),
    "AngularVelocity/mag": (Tracking(1.0, YAW_RATE, "AngularVelocity", KP), (-inf, 1)),
    "AngularVelocity/dir": (Scaled(1.0, SameSign(YAW_RATE, "AngularVelocity", radians(5))), (-1, 1)),
    "OffAxisVelocity/lin": (Tracking(1.0, BaseLinearVelocity("heading", "z")), (0, 1)),
    "OffAxisVelocity/ang": (Tracking(1.0, BaseAngularVelocity("heading", "xy")), (0, 1)),
    "BaseHeight": (Tracking(1.0, HeightAboveGround(BASE, GROUND), 0.4, Gaussian(0.05)), (0, 1)),
    "BaseHeightRange": (Scaled(1.0, Within(HeightAboveGround(BASE, GROUND), 0.4, 0.42, dropoff=5.0)), (0, 1)),
    "ActionVelocity": (Cost(0.1, Reduced(Difference(Action()), "mean_square")), (-inf, 0)),
    "ActionAcceleration": (Cost(0.1, Reduced(Difference(Action(), 2), "mean_square")), (-inf, 0)),
    "ActionJerk": (Cost(0.1, Reduced(Difference(Action(), 3), "mean_abs")), (-inf, 0)),
    "SmallJointVelocity": (Tracking(1.0, Difference(JointPosition(measured=False))), (0, 1)),
    "SmallJointAcceleration": (Tracking(1.0, Difference(JointPosition(measured=False), 2)), (0, 1)),
    "SmallJointJerk": (Tracking(1.0, Difference(JointPosition(measured=False), 3)), (0, 1)),
    "AvoidLimits": (Cost(1.0, Reduced(BeyondLimits(), "mean")), (-inf, 0)),
    "Torque": (Cost(1.0, Reduced(RelativeForce(), "mean_abs")), (-1, 0)),
    "Energy": (Cost(0.01, Reduced(JointPower(), "mean_abs")), (-inf, 0)),
    "JointDeviation": (Cost(1.0, Reduced(JointDeviation("*_hip"), "sum_square")), (-inf, 0)),
    "FlatBody": (Scaled(1.0, Reduced(Alignment(("torso", "*_foot")), "mean")), (-1, 1)),
    "PositionTracking": (
        Tracking(1.0, BodyOffset("torso", "left_foot"), "CartesianCoordinate", over="sum"),
        (0, 1),
    ),
    "Upright/pitch rate": (Tracking(1.0, BaseAngularVelocity("heading", "y"), 0.0, KP), (-inf, 1)),
    "Upright/vertical": (Tracking(1.0, BaseLinearVelocity("heading", "z"), 0.0, KP), (-inf, 1)),
    "Upright/pitch": (Tracking(1.0, RollPitchYaw("y"), 0.0, KP), (-inf, 1)),
    "NoRoll/rate": (Tracking(1.0, BaseAngularVelocity("heading", "x"), 0.0, KP), (-inf, 1)),
    "NoRoll/roll": (Tracking(1.0, RollPitchYaw("x"), 0.0, KP), (-inf, 1)),
    "LinkAcceleration": (Cost(0.1, Reduced(Difference(MeanBodyVelocities()), "mean_square")), (-inf, 0)),
    "LinkJerk": (Cost(0.1, Reduced(Difference(MeanBodyVelocities(), 2), "mean_square")), (-inf, 0)),
    "Symmetry": (Scaled(1.0, Symmetry(JointDeviation("*_hip"), time=0.1)), (-inf, inf)),
    "PairwiseSymmetry": (Tracking(1.0, JointAsymmetry("left_*", "right_*"), 0.0, KP), (-inf, 1)),
    "Reachability": (Cost(1.0, Reduced(Unreachable(5.0, 100.0), "sum_square")), (-inf, 0)),
    "FeetAirTime/air": (Scaled(1.0, Reduced(RampUp(AIR, until=0.1), "max")), (0, 1)),
    "FeetAirTime/gnd": (Scaled(1.0, Reduced(RampUp(GROUNDED, until=0.1, after=-0.1), "max")), (-0.1, 1)),
    "FeetAirTime/stationary_gnd": (
        Scaled(1.0, Reduced(RampUp(FeetTime(Touches(), grounded=True, when=RESTS), 0.05, after=1.0), "max")),
        (0, 1),
    ),
    "FeetSlip": (Cost(0.1, Slip(Touches(), VELOCITY)), (-inf, 0)),
    "SparseTargetHeight": (
        Scaled(1.0, When(RESTS, TouchdownHeight(Touches(), HEIGHTS, 0.1), negated=True)),
        (0, 0.1),
    ),
    "MotionlessAtRest": (Cost(1.0, When(RESTS, Reduced(JointVelocity(), "norm"))), (-inf, 0)),
    "Force": (Cost(1.0, Impact(FORCE, expected=30.0, threshold=5.0)), (-inf, 0)),
    "SinusoidalGait": (
        Tracking(1.0, HEIGHTS, SwingHeight(Commanded("SinusoidalGait"), 0.1, sole=SOLE), Triangle(0.1), over="sum"),
        (-inf, 1),
    ),
    "JointPosition": (Tracking(1.0, JointPosition(measured=False), Commanded("JointPosition", 0), KP), (-inf, 1)),
    "JointPosition/velocity": (Tracking(1.0, JointVelocity(), Commanded("JointPosition", 1), KP), (-inf, 1)),
    "Intersection": (Cost(1.0, TooClose(Field("xipos", start=3), 0.2)), (-1, 0)),
}
"""Those of ksim's last version. A name before a slash is ksim's, what follows a part that it adds up itself."""

MORE_REWARDS: dict[str, tuple[Any, Range]] = {
    "SingleFootContact": (Scaled(1.0, SingleContact(Touches(), grace=0.03)), (0, 1)),
    "NoContact": (Cost(1.0, Airborne(Touches())), (-1, 0)),
    "AirTimeAtTouchdown": (Scaled(1.0, TouchdownAirTime(Touches(), 0.05, maximum=0.2)), (-0.1, 0.3)),
    "ArmPosition": (Tracking(1.0, JointDeviation("*_hip"), 0.0, Gaussian(sqrt(0.05)), over="norm"), (0, 1)),
    "KBotAngularVelocity": (Tracking(1.0, YAW_RATE, "AngularVelocity", Laplace(0.5)), (0, 1)),
    "RollPitchOrientation": (Tracking(1.0, RollPitchYaw("xy"), (0.0, 0.1), over="norm"), (0, 1)),
    "TerrainBaseHeight": (Tracking(1.0, HeightAboveGround(BASE, Lowest(Soles())), 0.4, Gaussian(0.02)), (0, 1)),
    "FeetOrientation": (Scaled(1.0, Reduced(Alignment("*_foot"), "min")), (-1, 1)),
    "CoMSupport": (Cost(1.0, When(RESTS, MassCenterDistance(Soles()))), (-inf, 0)),
    "BaseAcceleration": (Cost(0.01, Reduced(Field("qacc", 0, 3), "norm")), (-inf, 0)),
    "NaiveForward": (Scaled(1.0, Clipped(BaseLinearVelocity("heading", "x"), high=0.5)), (-inf, 0.5)),
    "NaiveForwardOrientation": (
        Scaled(1.0, Reduced(Alignment("torso", (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)), "sum")),
        (-1, 1),
    ),
    "Joystick": (Tracking(1.0, PLANAR, Commanded("Joystick", (0, 2)), Laplace(0.25)), (0, 1)),
    "Joystick/turn": (Tracking(1.0, YAW_RATE, Commanded("Joystick", 2), Laplace(0.25)), (0, 1)),
    "HeadingTracking": (Scaled(1.0, HeadingAlignment("StartQuaternion")), (-1, 1)),
    "HeadingVelocity": (
        Scaled(1.0, Clipped(BaseLinearVelocity("heading", "x", heading="StartQuaternion"), 0.0, 0.5)),
        (0, 0.5),
    ),
    "BaseHeightTracking": (
        Cost(1.0, Reduced(Error(HeightAboveGround(BASE, GROUND), "BaseHeight"), "sum_abs")),
        (-inf, 0),
    ),
    "QuaternionTracking": (Tracking(1.0, RotationAngle(ORIENTATION, "StartQuaternion")), (0, 1)),
    "FeetPhase": (
        Tracking(
            1.0, HEIGHTS, SwingHeight(Commanded("SinusoidalGait"), 0.1, 0.0, "bezier", SOLE), Gaussian(0.07), "norm"
        ),
        (0, 1),
    ),
    "LongContact": (Cost(1.0, Reduced(RampUp(GROUNDED, until=0.05, after=1.0), "mean")), (-1, 0)),
    "QposReferenceMotion": (
        Tracking(1.0, JointPosition(measured=False), "ReferenceMotion", Laplace(0.8), over="sum"),
        (0, 1),
    ),
    "XYAngularVelocity": (Cost(0.1, Reduced(BaseAngularVelocity("heading", "xy"), "sum_square")), (-inf, 0)),
    "ActuatorForce": (Cost(0.01, Reduced(Field("actuator_force"), "mean_abs")), (-inf, 0)),
    "ActuatorJerk": (Cost(1e-4, Reduced(Difference(Field("qacc", start=6)), "mean_square")), (-inf, 0)),
    "BaseJerkZ": (Cost(1e-4, Reduced(Difference(Field("qacc", 2, 3)), "sum_square")), (-inf, 0)),
    "ActionNearPosition": (
        Cost(0.1, Reduced(Error(Action(), JointPosition(measured=False)), "mean_square")),
        (-inf, 0),
    ),
    "ActionInBounds": (Cost(1.0, Reduced(BeyondLimits(position=Action()), "mean")), (-inf, 0)),
    "FootContact": (Cost(0.1, Reduced(Touches(), "sum")), (-0.2, 0)),
    "FeetClearance": (Cost(1.0, SwingClearance(HEIGHTS, VELOCITY, 0.1)), (-inf, 0)),
    "Orientation": (Cost(1.0, Reduced(RollPitchYaw("xy"), "sum_square")), (-inf, 0)),
    "ObservationMean": (Cost(1.0, Reduced(JointPosition(measured=False), "mean")), (-inf, inf)),
}
"""Those of K-Bot's example, and useful ones of ksim's history."""
