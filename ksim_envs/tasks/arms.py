"""Arms on a table: Reacher and Pusher, after Gymnasium's v5 tasks, and a desk arm that follows a point."""

from __future__ import annotations

from ksim_envs.tasks.actuators import Position
from ksim_envs.tasks.joints import Action, JointPosition, JointVelocity
from ksim_envs.tasks.measures import Commanded, Error, Reduced
from ksim_envs.tasks.motion_commands import MovingPoint
from ksim_envs.tasks.motors import FEETECH_STS3250, JointFigures
from ksim_envs.tasks.observations import BodyOffset, BodyPosition, Cosine, Field, Sine, SitePosition
from ksim_envs.tasks.randomizers import EncoderOffset, PositionGain
from ksim_envs.tasks.resets import (
    JointPositions,
    Keyframe,
    ObjectAwayFromGoal,
    TargetInDisk,
    UniformPosition,
    UniformVelocity,
)
from ksim_envs.tasks.rewards import ActionCost, Cost, DistanceCost
from ksim_envs.tasks.smoothness import Difference
from ksim_envs.tasks.targets import AroundPose
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.tracking import Gaussian, Tracking

REACHER = Task(
    model="gymnasium:reacher.xml",
    frame_skip=2,
    episode_length=50,
    observations={
        "cosines": Cosine(stop=2),
        "sines": Sine(stop=2),
        "target": Field("qpos", start=2),
        "qvel": Field("qvel", stop=2),
        "offset": BodyOffset("target", "fingertip", axes=2),
    },
    rewards={"reward_dist": DistanceCost(1.0, "target", "fingertip"), "reward_ctrl": ActionCost(1.0)},
    resets={
        "position": UniformPosition(0.1),
        "target": TargetInDisk(index=2, radius=0.2),
        "velocity": UniformVelocity(0.005, stop=2),
    },
    camera={"trackbodyid": 0},
)

PUSHER = Task(
    model="gymnasium:pusher_v5.xml",
    frame_skip=5,
    episode_length=100,
    observations={
        "qpos": Field("qpos", stop=7),
        "qvel": Field("qvel", stop=7),
        "tip": BodyPosition("tips_arm"),
        "object": BodyPosition("object"),
        "goal": BodyPosition("goal"),
    },
    rewards={
        "reward_dist": DistanceCost(1.0, "goal", "object"),
        "reward_ctrl": ActionCost(0.1),
        "reward_near": DistanceCost(0.5, "tips_arm", "object"),
    },
    resets={
        "object": ObjectAwayFromGoal(index=7, low=(-0.3, -0.2), high=(0.0, 0.2), distance=0.17),
        "velocity": UniformVelocity(0.005, stop=7),
    },
    camera={"trackbodyid": -1, "distance": 4.0},
)

SERVOS = {"*": FEETECH_STS3250}
OFFSET = Error(SitePosition("tip"), Commanded("target"))
"""m, from the point that the tip shall be at."""

ARM_REACH = Task(
    model="ksim:arm.xml",
    frame_skip=5,
    episode_length=500,
    actuator=Position(gains={"*": FEETECH_STS3250.gains(22.0, 0.0)}, targets=AroundPose(scale=1.5, keyframe="ready")),
    edits=(JointFigures(SERVOS),),
    commands={
        "target": MovingPoint(low=(0.15, -0.25, 0.05), high=(0.4, 0.25, 0.4), slow=0.1, fast=0.4, go_probability=0.02)
    },
    observations={
        "joint_position": JointPosition(),
        "joint_velocity": JointVelocity(),
        "tip": SitePosition("tip"),
        "target": Commanded("target"),
        "last_action": Action(),
    },
    rewards={
        "reward_near": Tracking(1.0, OFFSET, 0.0, Gaussian(0.1), over="norm"),
        "reward_there": Tracking(1.0, OFFSET, 0.0, Gaussian(0.02), over="norm"),
        "cost_jerk": Cost(0.02, Reduced(Difference(Action()), "sum_square")),
    },
    resets={"start": Keyframe("ready"), "joints": JointPositions(0.5)},
    randomizers={"kp": PositionGain(low=0.9, high=1.1), "encoders": EncoderOffset(spread=0.01)},
    metrics={"distance": Reduced(OFFSET, "norm")},
    camera={"trackbodyid": -1, "lookat": (0.1, 0.0, 0.25), "distance": 1.4, "azimuth": 150.0, "elevation": -20.0},
)
"""The tip of an arm with five servos follows a point (`info["target"]`, in m) that wanders through a box before it."""
