"""The arms on a table: Reacher and Pusher, after Gymnasium's v5 tasks."""

from __future__ import annotations

from ksim_envs.tasks.observations import BodyOffset, BodyPosition, Cosine, Field, Sine
from ksim_envs.tasks.resets import ObjectAwayFromGoal, TargetInDisk, UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import ActionCost, DistanceCost
from ksim_envs.tasks.task import Task

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
