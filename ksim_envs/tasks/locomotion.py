"""Standing and walking with any of our robots: one table of terms each, filled in with the robot's figures.

A walking robot is asked for a velocity ahead and to the left, in m/s, and a yaw rate, in rad/s, in its own heading
frame (`info["velocity"]`). The policy sees what a real robot knows of itself, with noise; a critic may see the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ksim_envs.tasks.actuators import DelayedControl, Position
from ksim_envs.tasks.base_motion import (
    BaseAngularVelocity,
    BaseLinearVelocity,
    Inclination,
    ProjectedGravity,
    RollPitchYaw,
)
from ksim_envs.tasks.bodies import BodyVelocities, SitePositions
from ksim_envs.tasks.body_randomizers import FloorFriction, MassMultiplication
from ksim_envs.tasks.commands import Held, Uniform
from ksim_envs.tasks.contacts import FeetContact
from ksim_envs.tasks.edits import WithoutSensors
from ksim_envs.tasks.events import LinearPush
from ksim_envs.tasks.gait import PhaseCircle, Slip, SwingHeight
from ksim_envs.tasks.joints import Action, JointPosition, JointVelocity
from ksim_envs.tasks.measures import CommandAbove, Commanded, Error, Reduced
from ksim_envs.tasks.motion_commands import GaitPhase
from ksim_envs.tasks.posture import BeyondLimits, HeightAboveGround, JointDeviation
from ksim_envs.tasks.randomizers import ActionLatency, EncoderOffset, PositionGain, VelocityGain
from ksim_envs.tasks.resets import BaseVelocity, Heading, JointPositions, JointVelocities, Keyframe, PitchRoll
from ksim_envs.tasks.rewards import Alive, Cost
from ksim_envs.tasks.robots import SENSORS, Robot
from ksim_envs.tasks.sensing import Noise
from ksim_envs.tasks.smoothness import Difference, JointPower
from ksim_envs.tasks.targets import AroundPose
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from ksim_envs.tasks.tracking import Gaussian, Tracking

LONGEST_LATENCY = 0.01
"""s between an action and its arrival at the motors."""
FEET = ("left_foot", "right_foot")
"""Sites."""
PLANAR = BaseLinearVelocity("heading", "xy")
TURN = BaseAngularVelocity("heading", "z")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a robot of its size walks."""

    fall_height: float  # m, of the torso, below which the robot has fallen
    slowest: tuple[float, float, float]  # m/s ahead, m/s to the left, rad/s to the left
    fastest: tuple[float, float, float]
    velocity_width: float  # m/s of error that leave 0.6 of the reward for the velocity
    period: tuple[float, float]  # s, of a step of both feet
    swing_height: float  # m, of a foot above where it stands
    foot_height: float  # m, of a foot's site when it stands
    push: tuple[float, float]  # m/s


def standing(robot: Robot, style: Style) -> Task:
    """Stay upright where it stands, while it is pushed."""
    contact = FeetContact(robot.feet)
    return Task(
        model=robot.model,
        frame_skip=robot.frame_skip,
        episode_length=1000,
        actuator=DelayedControl(
            actuator=Position(
                gains=robot.policy_gains, targets=AroundPose(scale=robot.action_scale, keyframe=robot.start)
            ),
            longest=LONGEST_LATENCY,
        ),
        observations={
            "gyro": Noise(BaseAngularVelocity(), 0.1),
            "gravity": Noise(ProjectedGravity(), 0.03),
            "joint_position": Noise(JointPosition(), 0.02),
            "joint_velocity": Noise(JointVelocity(), 0.5),
            "last_action": Action(),
        },
        privileged={
            "gyro": BaseAngularVelocity(),
            "gravity": ProjectedGravity(),
            "linear_velocity": BaseLinearVelocity("body"),
            "height": HeightAboveGround(),
            "joint_position": JointPosition(),
            "joint_velocity": JointVelocity(),
            "last_action": Action(),
            "contact": contact,
        },
        rewards={
            "reward_alive": Alive(1.0),
            "reward_still": Tracking(1.0, PLANAR, 0.0, Gaussian(0.25), over="norm"),
            "reward_pose": Tracking(1.0, JointDeviation("*", robot.start), 0.0, Gaussian(0.5)),
            **costs(robot),
        },
        terminations={
            "fall": Outside(HeightAboveGround(), low=style.fall_height),
            "tilt": Outside(Inclination(), high=1.0),
        },
        resets={
            "start": Keyframe(robot.start),
            "heading": Heading(),
            "tilt": PitchRoll(0.05),
            "joints": JointPositions(0.05),
            "speeds": JointVelocities(0.5),
            "drift": BaseVelocity(0.8 * style.push[1]),  # after each fall, practice in catching oneself
        },
        events={"push": LinearPush(interval=(2.0, 5.0), speed=style.push)},
        randomizers={
            "friction": FloorFriction(low=0.5, high=1.0),
            "mass": MassMultiplication(low=0.95, high=1.05),
            "kp": PositionGain(low=0.9, high=1.1),
            **({"kd": VelocityGain(low=0.9, high=1.1)} if any(gain.kd for gain in robot.policy_gains.values()) else {}),
            "encoders": EncoderOffset(spread=0.02),
            "latency": ActionLatency(high=LONGEST_LATENCY),
        },
        metrics={"base_height": HeightAboveGround(), "base_velocity": PLANAR},
        edits=(WithoutSensors(SENSORS),),
        camera={"trackbodyid": 1, "distance": 5.0 * style.fall_height, "azimuth": 130.0, "elevation": -15.0},
    )


def costs(robot: Robot) -> dict[str, Cost]:
    """What wears a robot out."""
    return {
        "cost_bounce": Cost(1.0, Reduced(BaseLinearVelocity("heading", "z"), "sum_square")),
        "cost_sway": Cost(0.05, Reduced(BaseAngularVelocity("heading", "xy"), "sum_square")),
        "cost_jerk": Cost(0.02, Reduced(Difference(Action()), "sum_square")),
        "cost_power": Cost(2e-4, Reduced(JointPower(), "sum_abs")),
        "cost_limits": Cost(1.0, Reduced(BeyondLimits(), "sum_abs")),
        "cost_slip": Cost(0.1, Slip(FeetContact(robot.feet), BodyVelocities(robot.feet, "linear"))),
    }


def walking(robot: Robot, style: Style) -> Task:
    """Walk as the command says, in a gait with a clock, while it is pushed; stand where the command is zero."""
    stand = standing(robot, style)
    clock = {"command": Commanded("velocity"), "phase": PhaseCircle("gait")}
    heights = HeightAboveGround(SitePositions(FEET), ground=0.0)
    swing = SwingHeight(Commanded("gait"), peak=style.swing_height, stance=0.55, sole=style.foot_height)
    rewards = {name: term for name, term in stand.rewards.items() if name not in ("reward_still", "reward_pose")}
    return replace(
        stand,
        episode_length=500,
        metrics={
            **stand.metrics,
            "velocity_error": Reduced(Error(PLANAR, Commanded("velocity", (0, 2))), "norm"),
            "turn_error": Reduced(Error(TURN, Commanded("velocity", 2)), "norm"),
        },
        commands={
            "velocity": Held(Uniform(style.slowest, style.fastest), interval=(3.0, 6.0), zero_probability=0.1),
            "gait": GaitPhase(style.period, when=CommandAbove("velocity", 0.05)),
        },
        observations={**stand.observations, **clock},
        privileged={**stand.privileged, **clock},
        rewards={
            "reward_velocity": Tracking(
                2.0, PLANAR, Commanded("velocity", (0, 2)), Gaussian(style.velocity_width), over="norm"
            ),
            "reward_turn": Tracking(1.0, TURN, Commanded("velocity", 2), Gaussian(0.4)),
            "reward_gait": Tracking(1.0, heights, swing, Gaussian(0.5 * style.swing_height)),
            **rewards,
            "cost_pose": Cost(0.1, Reduced(JointDeviation("*", robot.start), "sum_square")),
            "cost_tilt": Cost(1.0, Reduced(RollPitchYaw("xy"), "sum_square")),
        },
    )
