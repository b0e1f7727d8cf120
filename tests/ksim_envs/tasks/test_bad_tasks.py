"""Tasks that cannot be: each is refused when it is built, with a typed error that says what was found and what to do.

What stands here are tasks made of terms; see `faults/test_bad_input.py` for arguments of envs, and the tests of each
module for the ranges of its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ksim_envs
from ksim_envs import registration
from ksim_envs.building import make_core
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks import curricula, events, resets, sensing
from ksim_envs.tasks.actuators import DelayedControl, Noisy, Position, SpeedLimited, Torque, TorqueNoise
from ksim_envs.tasks.base_motion import (
    BaseAngularVelocity,
    BaseLinearVelocity,
    BaseOrientation,
    BasePosition,
    Inclination,
    ProjectedGravity,
    RollPitchYaw,
)
from ksim_envs.tasks.bodies import BodyOrientations, BodyPositions, BodyVelocities, SiteOrientations
from ksim_envs.tasks.body_randomizers import (
    CollisionBody,
    FloorFriction,
    MassAddition,
    MassCenter,
    MassMultiplication,
    SiteAlignment,
)
from ksim_envs.tasks.commands import Approached, Choice, Held, Joystick, PolarVelocity, Uniform, UniformInteger
from ksim_envs.tasks.contacts import Contact, FeetContact, FeetForce
from ksim_envs.tasks.edits import WithoutSensors
from ksim_envs.tasks.filters import LowPass
from ksim_envs.tasks.floors import FlatFloor, HeightField
from ksim_envs.tasks.gait import (
    Impact,
    PhaseCircle,
    SingleContact,
    Slip,
    SwingClearance,
    SwingHeight,
    TouchdownAirTime,
    TouchdownHeight,
)
from ksim_envs.tasks.joints import Action, ActuatorForce, JointPosition, JointVelocity
from ksim_envs.tasks.measures import CommandAbove, Commanded, Constant, Error, Reduced, When, Within
from ksim_envs.tasks.motion_commands import GaitPhase, MovingJoints, Playback
from ksim_envs.tasks.motors import FEETECH_STS3215, ROBSTRIDE_00, Gains
from ksim_envs.tasks.observations import (
    BodyOffset,
    Coordinate,
    CoordinateVelocity,
    Field,
    MassCenterVelocity,
    MeanBodyVelocity,
    Sensor,
    SiteHeight,
)
from ksim_envs.tasks.posture import (
    Alignment,
    BeyondLimits,
    HeadingAlignment,
    HeightAboveGround,
    JointAsymmetry,
    JointDeviation,
    Lowest,
    RotationAngle,
    TooClose,
)
from ksim_envs.tasks.randomizers import (
    ActionLatency,
    Armature,
    ContactSoftness,
    EncoderOffset,
    JointDamping,
    StaticFriction,
)
from ksim_envs.tasks.rewards import (
    ActionCost,
    Alive,
    ContactCost,
    Cost,
    DistanceCost,
    JointVelocityCost,
    Scaled,
    TerminationCost,
    TipDistanceCost,
)
from ksim_envs.tasks.scales import AfterStart, Ramp
from ksim_envs.tasks.smoothness import Difference, RelativeForce, Unreachable
from ksim_envs.tasks.targets import Angles, AroundPose, Integrated
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from ksim_envs.tasks.tracking import DirectionError, Gaussian, Rests, SameSign, Tracking, Triangle
from tests.ksim_envs.tasks.by_hand import unchecked_types
from tests.ksim_envs.tasks.walker import WALKER

TASK = Task(
    model=WALKER,
    frame_skip=5,
    episode_length=10,
    observations={"qpos": Field("qpos")},
    rewards={"alive": Alive(1.0)},
    commands={"velocity": Held(Uniform((-1.0, 0.0), (1.0, 0.0))), "height": Held(Uniform(0.4, 0.5))},
)
HEIGHT, FEET = Coordinate(2), FeetContact("*_foot")
GAINS = {"*": Gains(kp=50.0, kd=1.0)}
NO_ACTUATOR = WALKER.split("<actuator>")[0] + WALKER.split("</actuator>")[1]
Changes = Callable[[], dict[str, Any]]
Case = tuple[Changes, type[Exception], tuple[str, ...]]


@dataclass(frozen=True)
class Drawn:
    """A randomizer of a field, whatever its name."""

    field: str
    returns: str | None = None

    @property
    def fields(self):
        return (self.field,)

    def __call__(self, values, ctx):
        return {self.returns or self.field: values[self.field]}


def model(old: str, new: str) -> Changes:
    """A model with something else in it, of which there is at least one."""
    assert old in WALKER
    return lambda: {"model": WALKER.replace(old, new)}


def unknown(changes: Changes, kind: str, name: str, near: str | None = None) -> Case:
    """A case of a name that does not exist, with its near miss or else with all that exist."""
    hint = f"Did you mean '{near}'" if near else "Known:"
    return changes, UnknownNameError, (f"no {kind} {name!r}.", hint)


def invalid(changes: Changes, found: str, remedy: str) -> Case:
    """A case of another fault."""
    return changes, InvalidConfigError, (found, remedy)


def invalid_name(changes: Changes, found: str, note: str) -> Case:
    """A case of a name of which more is known."""
    return changes, UnknownNameError, (found, note)


def failing(view, ctx):
    """A term that cannot be computed."""
    raise RuntimeError("out of order")


def seen(make: Callable[[], Any]) -> Changes:
    """An observation more. The next ones likewise."""
    return lambda: {"observations": {**TASK.observations, "bad": make()}}


def paid(make: Callable[[], Any]) -> Changes:
    return lambda: {"rewards": {**TASK.rewards, "bad": make()}}


def ended(make: Callable[[], Any]) -> Changes:
    return lambda: {"terminations": {"bad": make()}}


def asked(make: Callable[[], Any]) -> Changes:
    return lambda: {"commands": {**TASK.commands, "bad": make()}}


def pushed(make: Callable[[], Any]) -> Changes:
    return lambda: {"events": {"bad": make()}}


def drawn(make: Callable[[], Any]) -> Changes:
    return lambda: {"randomizers": {"bad": make()}}


def begun(make: Callable[[], Any]) -> Changes:
    return lambda: {"resets": {"bad": make()}}


def driven(make: Callable[[], Any]) -> Changes:
    return lambda: {"actuator": make()}


def taught(make: Callable[[], Any]) -> Changes:
    return lambda: {"curriculum": make()}


NAMES = {
    "sensor": unknown(seen(lambda: Sensor("imu_quad")), "sensor in the model", "imu_quad", "imu_quat"),
    "joint": unknown(seen(lambda: JointPosition("left_hipp")), "joint in the model", "left_hipp", "left_hip"),
    "body": unknown(seen(lambda: BodyPositions("left_fot")), "body in the model", "left_fot", "left_foot"),
    "one of several bodies": unknown(
        seen(lambda: BodyVelocities(("left_foot", "right_fot"))), "body in the model", "right_fot", "right_foot"
    ),
    "origin": unknown(seen(lambda: BodyPositions("left_foot", origin="torzo")), "body in the model", "torzo", "torso"),
    "site": unknown(seen(lambda: SiteHeight("imuu")), "site in the model", "imuu", "imu"),
    "site in a tuple": unknown(
        seen(lambda: SiteOrientations(("right_tap",))), "site in the model", "right_tap", "right_tip"
    ),
    "geom": unknown(seen(lambda: Contact("chezt")), "geom in the model", "chezt", "chest"),
    "floor": unknown(seen(lambda: FeetContact("*_foot", floor="grund")), "geom in the model", "grund", "ground"),
    "actuator": unknown(
        seen(lambda: ActuatorForce("lft_hip_motor")), "actuator in the model", "lft_hip_motor", "left_hip_motor"
    ),
    "joint by the name of its body": invalid_name(
        seen(lambda: JointPosition("left_foot")), "no joint in the model 'left_foot'.", "It is the name of a body."
    ),
    "name with brackets": invalid_name(
        seen(lambda: JointPosition("left[0]")), "no joint in the model 'left[0]'.", "Known:"
    ),
    "sensors that are left out": unknown(
        lambda: {"edits": (WithoutSensors(("imu_*", "imuu_*")),)}, "sensor in the model", "imuu_*"
    ),
    "keyframe": unknown(begun(lambda: resets.Keyframe("stand")), "key in the model", "stand"),
    "keyframe of targets": unknown(
        driven(lambda: Position(gains=GAINS, targets=AroundPose(keyframe="stand"))), "key in the model", "stand"
    ),
    "keyframe of a reward": unknown(
        paid(lambda: Cost(1.0, Reduced(JointDeviation("*_hip", targets="stand"), "norm"))), "key in the model", "stand"
    ),
    "field of the view": unknown(seen(lambda: Field("qpoz")), "field of View", "qpoz", "qpos"),
    "frame": unknown(seen(lambda: BaseLinearVelocity("bdy")), "frame", "bdy", "body"),
    "kind": unknown(seen(lambda: Contact("chest", kind="site")), "kind", "site"),
    "distribution": unknown(seen(lambda: sensing.Noise(HEIGHT, 0.1, "unifrom")), "distribution", "unifrom", "uniform"),
    "reduction": unknown(seen(lambda: Reduced(HEIGHT, "maen")), "reduction", "maen", "mean"),
    "way to take errors together": unknown(
        paid(lambda: Tracking(1.0, HEIGHT, over="nrm")), "way to take errors together", "nrm", "norm"
    ),
    "swing profile": unknown(
        seen(lambda: SwingHeight(Constant((0.0, 0.5)), 0.1, profile="bezir")), "swing profile", "bezir", "bezier"
    ),
    "command of a tracking reward": unknown(
        paid(lambda: Tracking(1.0, BaseLinearVelocity("heading", "xy"), "velocty")),
        "command of the task",
        "velocty",
        "velocity",
    ),
    "command of an observation": unknown(seen(lambda: PhaseCircle("gate")), "command of the task", "gate"),
    "command that stands below": unknown(
        asked(lambda: GaitPhase((0.5, 0.5), when=CommandAbove("later", 0.1))), "command of the task", "later"
    ),
    "command of a curriculum": unknown(
        taught(lambda: curricula.DistanceTravelled(up=1.0, down=0.0, origin="strt")), "command of the task", "strt"
    ),
    "quantity of a curriculum": unknown(
        taught(lambda: curricula.Adaptive(up=1.0, down=0.0, quantity=Sensor("imu_giro"))),
        "sensor in the model",
        "imu_giro",
        "imu_gyro",
    ),
    "joint of an event": unknown(
        pushed(lambda: events.JointPerturbation(interval=(1.0, 1.0), deviation=1.0, joints="left_hop")),
        "joint in the model",
        "left_hop",
        "left_hip",
    ),
    "body of an event": unknown(
        pushed(lambda: events.ForcePush(interval=(1.0, 1.0), body="tors", duration=(0.1, 0.1))),
        "body in the model",
        "tors",
        "torso",
    ),
    "joint of a reset": unknown(
        begun(lambda: resets.JointVelocities(0.1, "right_ankel")), "joint in the model", "right_ankel", "right_ankle"
    ),
    "joint of a randomizer": unknown(
        drawn(lambda: JointDamping(joints="left_hup")), "joint in the model", "left_hup", "left_hip"
    ),
    "body of a randomizer": unknown(drawn(lambda: MassCenter(bodies="troso")), "body in the model", "troso", "torso"),
    "site of a randomizer": unknown(drawn(lambda: SiteAlignment(site="imo")), "site in the model", "imo", "imu"),
    "floor of a randomizer": unknown(
        drawn(lambda: FloorFriction(floor="graund")), "geom in the model", "graund", "ground"
    ),
    "field of a randomizer": unknown(drawn(lambda: Drawn("body_mas")), "array in MjModel", "body_mas", "body_mass"),
    "joint of the gains": unknown(
        driven(lambda: Position(gains={**GAINS, "left_hap": Gains(kp=1.0, kd=0.0)})),
        "driven joint",
        "left_hap",
        "left_hip",
    ),
    "field of the camera": unknown(
        lambda: {"camera": {"distanse": 3.0}}, "field of mujoco.MjvCamera", "distanse", "distance"
    ),
    "model on a shelf": unknown(lambda: {"model": "ksim:kbto.xml"}, "model", "ksim:kbto.xml", "ksim:kbot.xml"),
    "pattern that stands for nothing": unknown(
        seen(lambda: JointPosition("middle_*")), "joint in the model", "middle_*"
    ),
    "pattern for bodies": unknown(
        paid(lambda: Scaled(1.0, Reduced(Alignment("*_hand"), "min"))), "body in the model", "*_hand"
    ),
    "ambiguous names": invalid(
        seen(lambda: JointPosition(("left_*", "left_hip"))), "joint 'left_hip' is named twice", "name each once"
    ),
    "ambiguous patterns": invalid(
        seen(lambda: BodyOrientations(("*_foot", "left_*"))), "body 'left_foot' is named twice", "name each once"
    ),
    "no name at all": invalid(seen(lambda: JointPosition(())), "No joint is named", "name at least one"),
    "joint that floats": invalid(
        seen(lambda: JointVelocity("root")), "joint 'root' is free", "name hinge and slide joints"
    ),
    "geom that touches nothing": invalid(
        seen(lambda: Contact("left_cover")), "'left_cover' can touch nothing", "give it a geom with contype"
    ),
    "geom with itself": invalid(seen(lambda: Contact("chest", "chest")), "one geom with itself", "name two or more"),
    "frame of no body": invalid(
        seen(lambda: BodyPositions("torso", frame="body")), "frame is 'body'", "Name it as the origin"
    ),
    "axes": invalid(seen(lambda: BaseLinearVelocity(axes="w")), "axes is 'w'", "one or more of x, y and z"),
    "no axes": invalid(seen(lambda: BaseAngularVelocity(axes="")), "axes is ''", "one or more of x, y and z"),
    "joint without gains": invalid(
        driven(lambda: Position(gains={"*_hip": Gains(kp=1.0, kd=0.0)})), "'left_ankle' has no entry", "add one ('*'"
    ),
    "joint without a motor": invalid(
        driven(lambda: SpeedLimited(actuator=Torque(), motors={"*_hip": ROBSTRIDE_00})),
        "'left_ankle' has no entry",
        "add one",
    ),
}

SHAPES = {
    "target": invalid(seen(lambda: Error(BasePosition(), (1.0, 2.0))), "has a target of shape (2,)", "must be equal"),
    "target that would broadcast": invalid(
        paid(lambda: Tracking(1.0, BaseLinearVelocity("heading"), "velocity")),
        "has a target of shape (2,)",
        "Commanded(",
    ),
    "part of a command": invalid(seen(lambda: Commanded("velocity", 5)), "no element 5", "shape (2,); 0 is the first"),
    "part of a scalar": invalid(seen(lambda: Commanded("height", 0)), "no element 0", "shape ()"),
    "empty part of a command": invalid(
        seen(lambda: Commanded("velocity", (2, 2))), "no elements 2 to 2 in a value of shape (2,)", "0 is the first"
    ),
    "part beyond a command": invalid(
        paid(lambda: Cost(1.0, Reduced(Commanded("velocity", (1, 9)), "norm"))), "no elements 1 to 9", "shape (2,)"
    ),
    "reduction of nothing": invalid(
        paid(lambda: Cost(1.0, Reduced(Action(9), "mean"))), "Reduced takes the mean of Action(", "holds nothing"
    ),
    "orientation that is a velocity": invalid(
        seen(lambda: RollPitchYaw("xy", Sensor("imu_gyro"))), "An orientation is of shape (3,)", "must be (..., 4)"
    ),
    "heading that is a velocity": invalid(
        seen(lambda: BaseLinearVelocity("heading", "xy", heading="velocity")), "is of shape (2,)", "must be (..., 4)"
    ),
    "height of joints": invalid(
        paid(lambda: Scaled(1.0, HeightAboveGround(JointPosition()))), "A position is of shape (4,)", "must be (..., 3)"
    ),
    "ground that is a place": invalid(
        paid(lambda: Scaled(1.0, HeightAboveGround(ground=BasePosition()))), "target of shape (3,)", "must be equal"
    ),
    "condition that is a number": invalid(
        paid(lambda: Scaled(1.0, When(Constant(0.5), HEIGHT))), "condition of type float32", "must be a scalar bool"
    ),
    "rows of a field": invalid(
        seen(lambda: Field("qpos", 99)), "no elements 99 to the last in a value of shape (11,)", "0 is the first"
    ),
    "coordinate": invalid(seen(lambda: Coordinate(11)), "no element 11", "shape (11,)"),
    "coordinate before the first": invalid(seen(lambda: CoordinateVelocity(-12)), "no element -12", "shape (11,)"),
    "axis of a body": invalid(seen(lambda: MeanBodyVelocity("torso", 3)), "no element 3", "shape (3,)"),
    "axis of the mass centre": invalid(seen(lambda: MassCenterVelocity(3)), "no element 3", "0 is the first"),
    "axes of an offset": invalid(seen(lambda: BodyOffset("torso", "left_foot", 0)), "axes is 0", "1, 2 or 3"),
    "actions": invalid(seen(lambda: Action(4)), "'bad' has shape (0,)", "check its range"),
    "privileged": invalid(lambda: {"privileged": {"bad": Field("qvel", 5, 5)}}, "no elements 5 to 5", "0 is the first"),
    "constant": invalid(seen(lambda: Constant(())), "'bad' has shape (0,)", "check its range"),
    "vector of a reward": invalid(
        paid(lambda: Scaled(1.0, BasePosition())), "reward 'bad' has shape (3,)", "must have shape ()"
    ),
    "vector of a curriculum": invalid(
        taught(lambda: curricula.Adaptive(up=1.0, down=0.0, quantity=BasePosition())),
        "has shape (3,)",
        "must have shape ()",
    ),
    "number as a termination": invalid(ended(lambda: HEIGHT), "termination 'bad' is of type float32", "Outside("),
    "scalar that is tilted": invalid(
        seen(lambda: sensing.Tilted(HEIGHT, 0.1)), "observations/bad is Tilted(", "Check the shapes"
    ),
    "position as an orientation": invalid(
        seen(lambda: Inclination(HEIGHT)), "observations/bad is Inclination(", "Check the shapes"
    ),
    "height of a scalar": invalid(
        paid(lambda: Scaled(1.0, HeightAboveGround(HEIGHT))), "A position is of shape ()", "must be (..., 3)"
    ),
    "lowest of one point": invalid(
        paid(lambda: Scaled(1.0, Lowest(BasePosition()))), "rewards/bad is Scaled(", "Check the shapes"
    ),
    "quaternion of three": invalid(
        paid(lambda: Scaled(1.0, RotationAngle(BasePosition(), (1.0, 0.0, 0.0)))), "of shape (3,)", "must be (..., 4)"
    ),
    "heading of two": invalid(
        paid(lambda: Scaled(1.0, HeadingAlignment((1.0, 0.0)))), "of shape (2,)", "must be (..., 4)"
    ),
    "direction of three": invalid(
        paid(lambda: Scaled(1.0, DirectionError(BaseLinearVelocity(), (1.0, 0.0, 0.0)))),
        "of shape (3,)",
        "must be (2,)",
    ),
    "axis of two": invalid(
        paid(lambda: Scaled(1.0, Reduced(Alignment("torso", (0.0, 1.0)), "sum"))),
        "axis is (0.0, 1.0)",
        "must be tuple[float, float, float]",
    ),
    "joints of two sides": invalid(
        paid(lambda: Cost(1.0, Reduced(JointAsymmetry("left_*", "right_hip"), "norm"))),
        "of shape (1,)",
        "must be equal",
    ),
    "targets of joints": invalid(
        paid(lambda: Cost(1.0, Reduced(JointDeviation("*_hip", targets=(0.0,)), "norm"))),
        "1 targets for 2 joints",
        "one for each",
    ),
    "weights of joints": invalid(
        paid(lambda: Cost(1.0, Reduced(JointDeviation("*_hip", weights=(1.0,) * 3), "norm"))),
        "3 weights for 2",
        "one for each",
    ),
    "actions as joints": invalid(
        paid(lambda: Cost(1.0, Reduced(BeyondLimits("*_hip", position=Action()), "norm"))),
        "of shape (4,)",
        "must be equal",
    ),
    "actions out of reach": invalid(
        paid(lambda: Cost(1.0, Reduced(Unreachable(1.0, 1.0, "*_hip"), "norm"))),
        "2 joints and the action 4",
        "name as many",
    ),
    "feet that slip": invalid(
        paid(lambda: Cost(1.0, Slip(FEET, BodyVelocities("torso")))), "of shape (1,)", "must be equal"
    ),
    "feet that swing": invalid(
        paid(lambda: Cost(1.0, SwingClearance(Constant((0.0,) * 3), BodyVelocities("*_foot"), 0.1))),
        "of shape (3,)",
        "must be equal",
    ),
    "feet that swing without turning": invalid(
        paid(lambda: Cost(1.0, SwingClearance(Constant((0.0,) * 2), BodyVelocities("*_foot", "linear"), 0.1))),
        "velocities of shape (2, 3)",
        "not (num_feet, 6)",
    ),
    "more feet that swing than move": invalid(
        paid(lambda: Cost(1.0, SwingClearance(Constant((0.0,) * 2), BodyVelocities("torso"), 0.1))),
        "of shape (2,)",
        "must be equal",
    ),
    "feet that touch down": invalid(
        paid(lambda: Scaled(1.0, TouchdownHeight(FEET, Constant((0.0,) * 3), 1.0))),
        "rewards/bad is Scaled(",
        "Check the shapes",
    ),
    "feet that bump": invalid(paid(lambda: Cost(1.0, Impact(HEIGHT, 1.0))), "rewards/bad is Cost(", "Check the shapes"),
    "one point too close": invalid(
        paid(lambda: Cost(1.0, TooClose(BodyPositions("torso"), 0.1))), "is given 1 points", "two or more"
    ),
    "velocities that cost": invalid(
        paid(lambda: JointVelocityCost((1.0,) * 11)), "rewards/bad is JointVelocityCost(", "Check the shapes"
    ),
    "ends of a command": invalid(
        asked(lambda: Held(Uniform((0.0, 0.0), (1.0,)))), "the ends (0.0, 0.0) and (1.0,)", "equally long tuples"
    ),
    "draws to choose from": invalid(
        asked(lambda: Held(Choice((Uniform(0.0, 1.0), Uniform((0.0,), (1.0,))), (0.5, 0.5)))),
        "shapes [(), (1,)]",
        "the same",
    ),
    "start of an approach": invalid(
        asked(lambda: Approached(Held(Uniform(0.0, 1.0)), 1.0, start=BasePosition())), "of shape ()", "must be equal"
    ),
    "draw that remembers": invalid(
        asked(lambda: Held(sensing.Noise(HEIGHT, 0.1))), "Task.commands['bad'].draw is Noise(", "must be Callable["
    ),
    "frames to follow": invalid(
        asked(lambda: Playback(np.zeros((3, 3)), 50.0, start=JointPosition())), "of shape (4,)", "must be equal"
    ),
    "one frame to follow": invalid(
        asked(lambda: Playback(np.zeros((1, 3)), 50.0)), "has 1 frames", "needs two or more"
    ),
    "frames to begin with": invalid(
        begun(lambda: resets.MotionFrame(qpos=np.zeros((3, 5)))), "has qpos (3, 5)", "needs (frames, 11)"
    ),
    "velocities to begin with": invalid(
        begun(lambda: resets.MotionFrame(qpos=np.zeros((3, 11)), qvel=np.zeros((2, 10)))),
        "qvel (2, 10)",
        "(frames, 10)",
    ),
    "coordinates of a target": invalid(
        begun(lambda: resets.TargetInDisk(10, 1.0)), "sets qpos[10:12]", "11 coordinates"
    ),
    "six axes": invalid(
        pushed(lambda: events.SixAxisPush(interval=(1.0, 1.0), linear=(1.0, 0.0))),
        "linear is (1.0, 0.0)",
        "must be tuple[float, float, float]",
    ),
    "fields of a randomizer": invalid(
        drawn(lambda: Drawn("body_mass", "body_inertia")),
        "returns the fields ['body_inertia']",
        "must return ['body_mass']",
    ),
}

NUMBERS = {
    "nan in a reward": invalid(
        paid(lambda: TipDistanceCost("imu", nan)), "Task.rewards['bad'].height is nan", "must be a number"
    ),
    "nan in a tuple": invalid(
        paid(lambda: Cost(1.0, Reduced(JointDeviation("*_hip", targets=(0.0, nan)), "norm"))),
        "Task.rewards['bad'].quantity.quantity.targets[1] is nan",
        "must be a number",
    ),
    "nan deep inside": invalid(
        paid(lambda: Scaled(1.0, SameSign(BaseAngularVelocity("heading", "z"), 0.0, nan))),
        "threshold is nan",
        "must be a number",
    ),
    "nan as a target": invalid(seen(lambda: Error(BasePosition(), nan)), "target is nan", "must be a number"),
    "nan in frames": invalid(
        begun(lambda: resets.MotionFrame(qpos=np.full((2, 11), nan))),
        "Task.resets['bad'].qpos is [[nan",
        "must be a number",
    ),
    "nan as a floor": invalid(
        begun(lambda: resets.BasePlace(x=(0.0, 0.0), y=(0.0, 0.0), floor=FlatFloor(nan))),
        "floor.height is nan",
        "a number",
    ),
    "nan as a bound": invalid(ended(lambda: Outside(HEIGHT, nan)), "Outside has low nan", "low must not be above high"),
    "nan as a threshold": invalid(seen(lambda: CommandAbove("velocity", nan)), "threshold is nan", "must be a number"),
    "nan as a gait's offset": invalid(
        asked(lambda: GaitPhase((0.5, 0.5), (0.0, nan))), "offsets[1] is nan", "must be a number"
    ),
    "nan as a scale": invalid(paid(lambda: Cost(nan, HEIGHT)), "Cost has the scale nan", "finite and not negative"),
    "nan as a factor": invalid(seen(lambda: sensing.Affine(HEIGHT, nan)), "factor nan", "must be finite"),
    "infinite offset": invalid(seen(lambda: sensing.Affine(HEIGHT, 1.0, inf)), "offset inf", "must be finite"),
    "infinite scale": invalid(paid(lambda: Alive(inf)), "Alive has the scale inf", "finite and not negative"),
    "infinite kernel": invalid(
        paid(lambda: Tracking(1.0, HEIGHT, kernel=Triangle(inf))), "Triangle.width is inf", "finite and positive"
    ),
    "infinite cost of a kernel": invalid(
        paid(lambda: Tracking(1.0, HEIGHT, kernel=Gaussian(1.0, inf))), "square_cost has the scale inf", "finite"
    ),
    "kernel without width": invalid(
        paid(lambda: Tracking(1.0, HEIGHT, kernel=Gaussian(0.0))), "Gaussian.width is 0.0", "finite and positive"
    ),
    "word as a scale": invalid(paid(lambda: Alive("1")), "Alive has the scale '1'", "finite and not negative"),
    "none as a scale": invalid(
        paid(lambda: Scaled(None, HEIGHT)), "Scaled has the scale None", "finite and not negative"
    ),
    "negative scale": invalid(paid(lambda: Scaled(-1.0, HEIGHT)), "Scaled has the scale -1.0", "a Cost subtracts"),
    "negative scale of tracking": invalid(
        paid(lambda: Tracking(-1.0, HEIGHT)), "Tracking has the scale -1.0", "a Cost subtracts"
    ),
    "negative cost of ends": invalid(
        paid(lambda: TerminationCost(-1.0)), "TerminationCost has the scale -1.0", "not negative"
    ),
    "negative cost of actions": invalid(
        paid(lambda: ActionCost(-0.1)), "ActionCost has the scale -0.1", "not negative"
    ),
    "negative cost of contacts": invalid(
        paid(lambda: ContactCost(-1.0)), "ContactCost has the scale -1.0", "not negative"
    ),
    "negative limit of contacts": invalid(
        paid(lambda: ContactCost(1.0, limit=-1.0)), "ContactCost.limit is -1.0", "must be at least 0"
    ),
    "negative cost of distance": invalid(
        paid(lambda: DistanceCost(-1.0, "torso", "left_foot")), "DistanceCost has the scale -1.0", "not negative"
    ),
    "negative cost of velocities": invalid(
        paid(lambda: JointVelocityCost((1.0, -1.0))), "JointVelocityCost has the scale -1.0", "not negative"
    ),
    "scale that becomes negative": invalid(
        paid(lambda: Alive(Ramp(1.0, -1.0))), "Ramp(start=1.0, end=-1.0", "not negative"
    ),
    "scale that begins negative": invalid(
        paid(lambda: Alive(AfterStart(-1.0, 1.0))), "AfterStart(start=-1.0", "not negative"
    ),
    "scale of an event": invalid(
        pushed(lambda: events.Jump(interval=(1.0, 1.0), height=(0.0, 1.0), scale=-1.0)),
        "Jump has the scale -1.0",
        "not negative",
    ),
    "negative noise": invalid(seen(lambda: sensing.Noise(HEIGHT, -0.1)), "Noise has the scale -0.1", "not negative"),
    "negative noise of actions": invalid(
        driven(lambda: Noisy(actuator=Torque(), noise=-1.0)), "Noisy has the scale -1.0", "not negative"
    ),
    "negative bias of torques": invalid(
        driven(lambda: TorqueNoise(actuator=Torque(), bias=-1.0)), "TorqueNoise has the scale -1.0", "not negative"
    ),
    "negative spread of a reset": invalid(
        begun(lambda: resets.UniformPosition(-0.1)), "UniformPosition has the scale -0.1", "not negative"
    ),
    "negative deviation of a reset": invalid(
        begun(lambda: resets.NormalVelocity(-1.0)), "NormalVelocity has the scale -1.0", "not negative"
    ),
    "negative radius": invalid(
        begun(lambda: resets.TargetInDisk(7, -1.0)), "radius has the scale -1.0", "not negative"
    ),
    "negative softness": invalid(
        drawn(lambda: ContactSoftness(-2.0)), "ContactSoftness has the scale -2.0", "not negative"
    ),
    "negative factor": invalid(
        drawn(lambda: JointDamping(low=-1.0)), "(low, high) is (-1.0, 1.1)", "within [0.0, inf]"
    ),
    "mass of nothing": invalid(
        drawn(lambda: MassMultiplication(low=0.0, bodies="torso")), "(low, high) is (0.0, 1.05)", "within [0.01, inf]"
    ),
    "less than nothing": invalid(
        drawn(lambda: MassAddition(low=-10.0, bodies="torso")), "'torso' has only 4 kg", "nothing would be left"
    ),
    "negative depth": invalid(seen(lambda: Contact("chest", depth=-1.0)), "Contact.depth is -1.0", "at least 0"),
    "negative limit of a field": invalid(
        seen(lambda: Field("qvel", limit=-1.0)), "Field.limit is -1.0", "must be positive"
    ),
    "negative rest": invalid(paid(lambda: Scaled(1.0, Rests(-1.0, 1.0))), "Rests.linear is -1.0", "at least 0"),
    "negative grace": invalid(paid(lambda: Scaled(1.0, SingleContact(FEET, -1.0))), "grace is -1.0", "at least 0"),
    "negative threshold": invalid(
        paid(lambda: Cost(1.0, Impact(FeetForce("*_foot"), 1.0, -1.0))), "Impact.threshold is -1.0", "at least 0"
    ),
    "negative distance": invalid(
        paid(lambda: Cost(1.0, TooClose(BodyPositions("*_foot"), -0.1))), "TooClose.distance is -0.1", "positive"
    ),
    "negative direction": invalid(
        asked(lambda: Held(PolarVelocity(-1.0, 1.0))), "low has the scale -1.0", "not negative"
    ),
    "no direction": invalid(
        paid(lambda: Scaled(1.0, Reduced(Alignment("torso", (0.0, 0.0, 0.0)), "sum"))),
        "has no direction",
        "one that is not zero",
    ),
    "probability above 1": invalid(asked(lambda: Held(Uniform(0.0, 1.0), 1.5)), "probability is 1.5", "in [0, 1]"),
    "probability below 0": invalid(
        asked(lambda: Held(Uniform(0.0, 1.0), zero_probability=-0.1)), "zero_probability is -0.1", "in [0, 1]"
    ),
    "probability that grows above 1": invalid(
        asked(lambda: Held(Uniform(0.0, 1.0), Ramp(0.0, 2.0))), "probability is Ramp(", "in [0, 1]"
    ),
    "probability of an event": invalid(
        pushed(lambda: events.JointPerturbation(interval=(1.0, 1.0), deviation=1.0, probability=1.5)),
        "probability is 1.5",
        "within [0.0, 1.0]",
    ),
    "probability of a loss": invalid(
        driven(lambda: DelayedControl(actuator=Torque(), drop=1.5)), "drop=1.5", "drop in [0, 1]"
    ),
    "probabilities of choices": invalid(
        asked(lambda: Held(Choice((Uniform(0.0, 1.0), HEIGHT), (0.5, 0.4)))),
        "probabilities is (0.5, 0.4)",
        "with the sum 1",
    ),
    "probabilities of a joystick": invalid(
        asked(lambda: Held(Joystick(walk=1.0, run=1.0, strafe=1.0, turn=1.0, probabilities=(1.0,)))),
        "is (1.0,)",
        "8 numbers",
    ),
    "reversed ends of a command": invalid(
        asked(lambda: Held(Uniform(1.0, 0.0))), "range [1.0, 0.0]", "the low end first"
    ),
    "reversed interval of a command": invalid(
        asked(lambda: Held(Uniform(0.0, 1.0), interval=(2.0, 1.0))), "interval is (2.0, 1.0)", "the shorter one first"
    ),
    "reversed interval of an event": invalid(
        pushed(lambda: events.LinearPush(interval=(2.0, 1.0), speed=(0.0, 1.0))),
        "interval is (2.0, 1.0)",
        "in this order",
    ),
    "interval shorter than a control step": invalid(
        pushed(lambda: events.LinearPush(interval=(0.001, 1.0), speed=(0.0, 1.0))),
        "is (0.001, 1.0) s",
        "at least a control step, 0.02",
    ),
    "push longer than its interval": invalid(
        pushed(lambda: events.ForcePush(interval=(1.0, 1.0), body="torso", duration=(0.1, 2.0))),
        "is (0.1, 2.0)",
        "within [0.0, 1.0]",
    ),
    "reversed place": invalid(
        begun(lambda: resets.BasePlace(x=(1.0, 0.0), y=(0.0, 0.0))), "BasePlace.x is (1.0, 0.0)", "in this order"
    ),
    "reversed factors": invalid(
        drawn(lambda: Armature(low=1.1, high=0.9)), "(low, high) is (1.1, 0.9)", "in this order"
    ),
    "reversed bounds": invalid(ended(lambda: Outside(HEIGHT, 1.0, 0.5)), "low 1.0 and high 0.5", "must not be above"),
    "bounds that cross": invalid(
        ended(lambda: Outside(HEIGHT, Ramp(0.1, 0.9), 0.5)), "low Ramp(start=0.1", "must not be above"
    ),
    "reversed range": invalid(seen(lambda: Within(HEIGHT, 1.0, 0.0, 1.0)), "low=1.0, high=0.0", "must not be above"),
    "reversed delay": invalid(seen(lambda: sensing.Delayed(HEIGHT, (3, 1))), "steps is (3, 1)", "must not fall"),
    "half a step of delay": invalid(seen(lambda: sensing.Delayed(HEIGHT, 1.5)), "steps is 1.5", "must be whole"),
    "half a value of history": invalid(seen(lambda: sensing.History(HEIGHT, 2.5)), "length is 2.5", "whole number"),
    "order of a difference": invalid(
        paid(lambda: Cost(1.0, Reduced(Difference(Action(), 1.5), "norm"))), "order is 1.5", "must be int"
    ),
    "scale and quantity the wrong way round": invalid(
        paid(lambda: Cost(HEIGHT, 1.0)), "Cost has the scale Coordinate(", "must be finite and not negative"
    ),
    "spread and quantity the wrong way round": invalid(
        seen(lambda: sensing.Noise(0.1, HEIGHT)), "Noise has the scale Coordinate(", "must be finite and not negative"
    ),
    "true as a scale": invalid(paid(lambda: Alive(True)), "Alive has the scale True", "must be finite"),
    "ends in lists": invalid(asked(lambda: Held(Uniform([0.0], [1.0]))), "has the ends [0.0] and [1.0]", "be tuples"),
    "end that is a word": invalid(asked(lambda: Held(Uniform("0", 1.0))), "'0' is no scale", "give a number"),
    "interval of one": invalid(asked(lambda: Held(Uniform(0.0, 1.0), interval=2.0)), "interval is 2.0", "two positive"),
    "interval of three": invalid(
        asked(lambda: Held(Uniform(0.0, 1.0), interval=(1.0, 2.0, 3.0))), "interval is (1.0, 2.0, 3.0)", "two positive"
    ),
    "speed of one": invalid(
        pushed(lambda: events.LinearPush(interval=(1.0, 2.0), speed=0.5)), "speed is 0.5", "(lowest, highest)"
    ),
    "whole numbers that are none": invalid(
        asked(lambda: Held(UniformInteger(0.2, 0.4))), "has the end 0.2", "must be whole"
    ),
    "whole numbers that are too large": invalid(
        asked(lambda: Held(UniformInteger(0, 2**31 - 1))), "has the end 2147483647", "within +-16,777,216"
    ),
    "end of a range that is a word": invalid(
        drawn(lambda: MassMultiplication(low="a", high=1.0)), "'a' is no scale", "give a number"
    ),
    "delays of three": invalid(seen(lambda: sensing.Delayed(HEIGHT, (1, 2, 3))), "steps is (1, 2, 3)", "(least, most)"),
    "time in the air without end": invalid(
        paid(lambda: Scaled(1.0, Reduced(TouchdownAirTime(FEET, inf), "sum"))), "inf", "finite"
    ),
    "termination without bounds": invalid(ended(lambda: Outside(HEIGHT)), "Outside has no bounds", "give low, high"),
    "bounds that are none": invalid(ended(lambda: Outside(HEIGHT, low=None)), "None is no scale", "give a number"),
    "push without limits": invalid(
        pushed(lambda: events.SixAxisPush(interval=(1.0, 2.0))), "SixAxisPush has the limits (0.0, 0.0", "of them more"
    ),
    "gain that is a word": invalid(driven(lambda: Position(gains={"*": Gains(kp="5", kd=1.0)})), "kp='5'", "finite"),
    "levels that are not whole": invalid(
        taught(lambda: curricula.Adaptive(up=1.0, down=0.0, num_levels=2.5, quantity=HEIGHT)),
        "num_levels is 2.5",
        "must be int",
    ),
    "steps beyond counting": invalid(
        taught(lambda: curricula.Linear(steps_to_top=10**12)), "steps_to_top=1000000000000", "below 2**31"
    ),
    "camera that is far": invalid(lambda: {"camera": {"distance": "far"}}, "distance'] is 'far'", "cannot be set"),
    "camera that looks at two numbers": invalid(lambda: {"camera": {"lookat": (1, 2)}}, "is (1, 2)", "cannot be set"),
    "endless episodes": invalid(lambda: {"episode_length": 2**40}, "episode_length is", "positive integer below 2**31"),
    "lag of 1": invalid(seen(lambda: sensing.Smoothed(HEIGHT, 0.5, 1.0)), "from 0.5 to 1.0", "low <= high < 1"),
    "object that fits nowhere": invalid(
        begun(lambda: resets.ObjectAwayFromGoal(7, (0.0, 0.0), (1.0, 1.0), 5.0)),
        "distance is 5.0 m",
        "less than the 1.414 m",
    ),
    "gain of 0": invalid(
        driven(lambda: Position(gains={"*": Gains(kp=0.0, kd=0.0)})), "kp=0.0", "kp and max_torque must be positive"
    ),
    "torque of 0": invalid(driven(lambda: Torque(scale=0.0)), "Torque.scale is 0.0", "finite and positive"),
    "latency below 0": invalid(
        driven(lambda: DelayedControl(actuator=Torque(), longest=-1.0)), "longest=-1.0", "at least 0"
    ),
    "frequency of 0": invalid(
        driven(lambda: Position(gains=GAINS, targets=LowPass(AroundPose(), 0.0))),
        "cutoff is 0.0",
        "finite and positive",
    ),
    "fourth derivative": invalid(
        driven(lambda: Position(gains=GAINS, targets=Integrated(order=4, scale=1.0))), "order is 4", "1, 2 or 3"
    ),
    "level above 1": invalid(taught(lambda: curricula.ConstantLevel(1.5)), "constant is 1.5", "within [0.0, 1.0]"),
    "no step to the top": invalid(
        taught(lambda: curricula.Linear(steps_to_top=0)), "steps_to_top=0", "must be positive"
    ),
    "no level between": invalid(
        taught(lambda: curricula.Survival(up=1.0, down=0.0, num_levels=0)),
        "num_levels=0",
        "num_levels and patience positive",
    ),
    "reversed thresholds": invalid(
        taught(lambda: curricula.EpisodeLength(up=1.0, down=2.0)), "up=1.0, down=2.0", "down must be at most up"
    ),
}

PARTS = {
    "no observation": invalid(lambda: {"observations": {}}, "Task.observations is empty", "at least one term"),
    "no reward": invalid(lambda: {"rewards": {}}, "Task.rewards is empty", "at least one term"),
    "list of rewards": invalid(
        lambda: {"rewards": [Alive(1.0)]}, "Task.rewards is a list", "dictionary of terms by name"
    ),
    "number as a term": invalid(lambda: {"observations": {"o": 3}}, "observations['o'] is 3", "must be a term"),
    "class as a term": invalid(lambda: {"observations": {"o": BaseOrientation}}, "['o'] is <class", "must be a term"),
    "number as a name": invalid(lambda: {"rewards": {3: Alive(1.0)}}, "the name 3", "must be a word"),
    "empty name": invalid(lambda: {"metrics": {"": HEIGHT}}, "the name ''", "must be a word"),
    "name that stands twice": invalid(
        lambda: {"metrics": {"velocity": HEIGHT}}, "found ['velocity'] twice", "must be unique"
    ),
    "randomizer without fields": invalid(drawn(lambda: HEIGHT), "without `fields`", "name those of the model"),
    "reward as an actuator": invalid(driven(lambda: Alive(1.0)), "Task.actuator has Alive(", "terms.Actuator"),
    "number as a curriculum": invalid(taught(lambda: 0.5), "Task.curriculum has 0.5", "terms.Curriculum"),
    "number as an edit": invalid(lambda: {"edits": (3,)}, "Task.edits has 3", "terms.ModelEdit"),
    "name that is a mask": invalid(lambda: {"metrics": {"_alive": HEIGHT}}, "found ['_alive']", "nor begin with '_'"),
    "gains without joints": invalid(driven(lambda: Position(gains=30.0)), "gains is 30.0", "Mapping[str, Gains]"),
    "gains as a pair": invalid(
        driven(lambda: Position(gains={"*": (30.0, 1.0)})), "gains is {'*': (30.0, 1.0)}", "Mapping[str, Gains]"
    ),
    "gains for motors": invalid(
        driven(lambda: SpeedLimited(actuator=Torque(), motors={"*": Gains(kp=1.0, kd=0.0)})), "motors is", "Motor"
    ),
    "no motors": invalid(
        driven(lambda: SpeedLimited(actuator=Torque(), motors=None)), "motors is None", "Mapping[str, Motor"
    ),
    "targets that are an action": invalid(
        driven(lambda: Position(gains=GAINS, targets=Action())), "targets is Action(", "must be Targets"
    ),
    "class inside a term": invalid(
        seen(lambda: sensing.Noise(Coordinate, 0.1)), "quantity is the class Coordinate", "Coordinate(...)"
    ),
    "edits without a tuple": invalid(
        lambda: {"edits": WithoutSensors("*")}, "Task.edits is WithoutSensors(", "tuple[ModelEdit, ...]"
    ),
    "no camera": invalid(lambda: {"camera": None}, "Task.camera is None", "must be Mapping"),
    "reward as an event": invalid(pushed(lambda: Alive(1.0)), "event 'bad' gives a", "types.Push"),
    "target of NumPy": invalid(
        paid(lambda: Tracking(1.0, HEIGHT, np.float32(0.3))), "target is np.float32(0.3)", "must be float | tuple"
    ),
    "term that returns nothing": invalid(seen(lambda: lambda view, ctx: None), "observations/bad is <function", "None"),
    "term that returns a word": invalid(seen(lambda: lambda view, ctx: "word"), "observations/bad is", "word"),
    "term that fails": invalid(seen(lambda: failing), "observations/bad is <function failing", "out of order"),
    "latency for which there is no room": invalid(
        lambda: {
            "actuator": DelayedControl(actuator=Torque(), longest=0.002),
            "randomizers": {"latency": ActionLatency(low=0.02, high=0.02)},
        },
        "up to 0.02 s",
        "longest=0.02",
    ),
    "no contact kept": invalid(lambda: {"max_contact_points": 0}, "max_contact_points is 0", "positive integer"),
    "no substep": invalid(lambda: {"frame_skip": 0}, "frame_skip is 0", "positive integer"),
    "control period that is no multiple of the timestep": invalid(
        lambda: {"frame_skip": 0.03 / 0.004}, "frame_skip is 7.5", "positive integer"
    ),
    "randomizer of a field that is one for all": invalid(
        drawn(lambda: Drawn("geom_type")), "'geom_type' cannot differ from env to env", "those that can:"
    ),
    "randomizer without effect": invalid(
        drawn(lambda: StaticFriction()), "dof_frictionloss, which is zero", "leave the randomizer out"
    ),
    "encoder that nothing reads": invalid(
        drawn(lambda: EncoderOffset(deviation=0.1)), "draws 'encoder_offset'", "add a term that does"
    ),
    "latency that nothing reads": invalid(
        drawn(lambda: ActionLatency(high=0.1)), "draws 'action_latency'", "add a term that does"
    ),
    "size of a plane": invalid(drawn(lambda: CollisionBody(geoms="ground")), "'ground' holds a plane", "name spheres"),
    "plane as a height field": invalid(
        begun(lambda: resets.BasePlace(x=(0.0, 0.0), y=(0.0, 0.0), floor=HeightField("ground"))),
        "geom 'ground'",
        "must be a height field",
    ),
    "angles without ranges": invalid(
        driven(lambda: Position(gains=GAINS, targets=Angles())), "'left_hip' has no range", "or use AroundPose"
    ),
    "joints without ranges": invalid(asked(lambda: MovingJoints("*_hip")), "joints without limits", "name others"),
    "servo with a limit of speed": invalid(
        driven(lambda: SpeedLimited(actuator=Torque(), motors={"*": FEETECH_STS3215})),
        "a servo for '*'",
        "leave SpeedLimited out",
    ),
}

MODELS = {
    "no model": invalid(lambda: {"model": None}, "Task.model is None", "give a file's path"),
    "no file": invalid(lambda: {"model": "nowhere.xml"}, "no model file at 'nowhere.xml'", "give the path"),
    "empty path": invalid(lambda: {"model": ""}, "no model file at ''", "give the path"),
    "no actuator": invalid(lambda: {"model": NO_ACTUATOR}, "has no actuator", "add at least one under <actuator>"),
    "no actuator for gains": unknown(
        lambda: {"model": NO_ACTUATOR, "actuator": Position(gains=GAINS)}, "driven joint", "*"
    ),
    "timestep 0": invalid(model('timestep="0.004"', 'timestep="0"'), "has timestep 0.0 s", "positive and finite"),
    "negative timestep": invalid(
        model('timestep="0.004"', 'timestep="-0.1"'), "has timestep -0.1 s", "positive and finite"
    ),
    "timestep that is no number": invalid(
        model('timestep="0.004"', 'timestep="nan"'), "timestep='nan' in <option>", "correct it"
    ),
    "bodies that sleep": invalid(
        model("<default>\n", '<option><flag sleep="enable"/></option><default>\n'),
        "lets bodies sleep",
        "leave sleep out",
    ),
    "mesh outside the folder": invalid(
        model("<worldbody>", '<asset><mesh name="m" file="../m.obj"/></asset><worldbody>'),
        "refers to '../m.obj'",
        "Copy the file",
    ),
    "mesh by an absolute path": invalid(
        model("<worldbody>", '<asset><mesh name="m" file="/m.obj"/></asset><worldbody>'),
        "refers to '/m.obj'",
        "Copy the file",
    ),
    "texture outside the folder": invalid(
        model("<worldbody>", '<asset><texture name="t" type="2d" file="../t.png"/></asset><worldbody>'),
        "'../t.png'",
        "Copy the file",
    ),
    "include outside the folder": invalid(
        model("<worldbody>", '<include file="../part.xml"/><worldbody>'), "refers to '../part.xml'", "Copy the file"
    ),
    "joint that stands twice": invalid(
        model('"right_hip" axis', '"left_hip" axis'), "repeated name 'left_hip'", "not valid"
    ),
    "text that ends early": invalid(model("</mujoco>", ""), "is not valid XML", "no element found"),
    "fixed base": (
        lambda: {
            "model": WALKER.replace('<freejoint name="root"/>', ""),
            "observations": {"position": BasePosition()},
        },
        InvalidConfigError,
        ("has no free joint", "robots with a floating base"),
    ),
    "push of a fixed base": (
        lambda: {
            "model": WALKER.replace('<freejoint name="root"/>', ""),
            "events": {"push": events.LinearPush(interval=(1.0, 1.0), speed=(0.0, 1.0))},
        },
        InvalidConfigError,
        ("has no free joint", "robots with a floating base"),
    ),
    "no gravity": (
        lambda: {
            "model": WALKER.replace('timestep="0.004"', 'gravity="0 0 0"'),
            "observations": {"gravity": ProjectedGravity()},
        },
        InvalidConfigError,
        ("has no gravity", "needs some"),
    ),
    "motor without a limit": (
        lambda: {
            "model": WALKER.replace('ctrlrange="-1 1"', ""),
            "rewards": {"torque": Cost(1.0, Reduced(RelativeForce(), "norm"))},
        },
        InvalidConfigError,
        ("Actuator 'left_hip_motor' has no largest force", "give it a forcerange"),
    ),
}

KINDS = {"names": NAMES, "shapes": SHAPES, "numbers": NUMBERS, "parts": PARTS, "models": MODELS}
CASES = {f"{kind}: {name}": case for kind, cases in KINDS.items() for name, case in cases.items()}


@pytest.fixture(scope="module")
def good():
    """A core of the task before it was spoilt."""
    return make_core(TASK, 2, backend="native")


def refused(build: Callable[[], Any], error: type[Exception], words: tuple[str, ...]) -> None:
    with unchecked_types(), pytest.raises(error) as raised:
        build()
    assert raised.type is error
    assert [word for word in words if word not in str(raised.value)] == [], str(raised.value)


@pytest.mark.parametrize("name", CASES)
def test_a_task_that_cannot_be_is_refused_when_it_is_built(good, name):
    changes, error, words = CASES[name]
    refused(lambda: make_core(replace(TASK, **changes()), 2, backend="native"), error, words)
    assert make_core(TASK, 2, backend="native") is good, "what stands already is as it was"


@pytest.mark.parametrize("num_envs", [None, 2])
@pytest.mark.parametrize("name", ["names: sensor", "shapes: coordinate", "models: timestep 0", "models: no actuator"])
def test_a_registered_task_is_refused_by_gym_make(monkeypatch, name, num_envs):
    changes, error, words = CASES[name]
    monkeypatch.setattr(registration, "_tasks", dict(registration._tasks))
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.envs.registration.registry))
    ksim_envs.register("ksim/Bad-v0", replace(TASK, **changes()))
    refused(lambda: gym.make("ksim/Bad-v0", num_envs=num_envs, backend="native"), error, words)


def test_an_error_inside_a_term_names_the_term():
    with pytest.raises(UnknownNameError, match=r"This is in rewards/near\."):
        make_core(replace(TASK, rewards={"near": DistanceCost(1.0, "torso", "left_hand")}), 2, backend="native")
