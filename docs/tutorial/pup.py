"""Pup, a quadruped of one's own, follows a commanded velocity. Train it here with `ksim train pup:ksim/Pup-v0`."""

from pathlib import Path

import ksim_envs
from ksim_envs.tasks.actuators import Position
from ksim_envs.tasks.base_motion import BaseAngularVelocity, BaseLinearVelocity, Inclination, ProjectedGravity
from ksim_envs.tasks.body_randomizers import FloorFriction, MassMultiplication
from ksim_envs.tasks.commands import Held, Uniform
from ksim_envs.tasks.contacts import FeetContact
from ksim_envs.tasks.events import LinearPush
from ksim_envs.tasks.gait import TouchdownAirTime
from ksim_envs.tasks.joints import Action, JointPosition, JointVelocity
from ksim_envs.tasks.measures import CommandAbove, Commanded, Error, Reduced, When
from ksim_envs.tasks.motors import Gains
from ksim_envs.tasks.observations import Sensor
from ksim_envs.tasks.posture import HeightAboveGround
from ksim_envs.tasks.resets import Heading, JointPositions, Keyframe
from ksim_envs.tasks.rewards import Cost, Scaled
from ksim_envs.tasks.sensing import Noise
from ksim_envs.tasks.smoothness import Difference
from ksim_envs.tasks.targets import AroundPose
from ksim_envs.tasks.terminations import Outside
from ksim_envs.tasks.tracking import Gaussian, Tracking

FEET = FeetContact("*_foot", kind="geom")
SPEED = BaseLinearVelocity("heading", "x")
TASK = ksim_envs.Task(
    model=str(Path(__file__).with_name("pup.xml")),
    frame_skip=5,  # of 4 ms: the policy acts 50 times a second
    episode_length=500,
    actuator=Position(
        gains={"*": Gains(kp=40.0, kd=1.0, max_torque=12.0)}, targets=AroundPose(scale=0.5, keyframe="standing")
    ),
    commands={  # m/s ahead, and rad/s to the left
        "velocity": Held(Uniform((-0.4, -1.0), (1.0, 1.0)), interval=(2.0, 5.0), zero_probability=0.1)
    },
    observations={
        "gyro": Noise(Sensor("gyro"), 0.1),
        "gravity": Noise(ProjectedGravity(), 0.03),
        "joint_position": Noise(JointPosition(), 0.02),
        "joint_velocity": Noise(JointVelocity(), 0.5),
        "last_action": Action(),
        "command": Commanded("velocity"),
    },
    rewards={
        "reward_velocity": Tracking(1.0, SPEED, Commanded("velocity", 0), Gaussian(0.4)),
        "reward_turn": Tracking(0.5, BaseAngularVelocity("heading", "z"), Commanded("velocity", 1), Gaussian(0.5)),
        "reward_strides": Scaled(2.0, When(CommandAbove("velocity", 0.1), TouchdownAirTime(FEET, 0.1, maximum=0.3))),
        "cost_drift": Cost(0.5, Reduced(BaseLinearVelocity("heading", "yz"), "sum_square")),
        "cost_jerk": Cost(0.02, Reduced(Difference(Action()), "sum_square")),
    },
    terminations={"fall": Outside(HeightAboveGround(), low=0.1), "tilt": Outside(Inclination(), high=1.0)},
    resets={"start": Keyframe("standing"), "heading": Heading(), "joints": JointPositions(0.1)},
    events={"push": LinearPush(interval=(2.0, 5.0), speed=(0.1, 0.5))},
    metrics={"speed_error": Reduced(Error(SPEED, Commanded("velocity", 0)), "norm")},
    randomizers={"friction": FloorFriction(low=0.6, high=1.2), "mass": MassMultiplication(low=0.9, high=1.1)},
    camera={"trackbodyid": 1, "distance": 1.6, "azimuth": 130.0, "elevation": -20.0},
)
ksim_envs.register("ksim/Pup-v0", TASK)
