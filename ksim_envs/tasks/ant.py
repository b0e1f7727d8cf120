"""Ant, after Gymnasium's `Ant-v5`."""

from __future__ import annotations

from ksim_envs.tasks.observations import Coordinate, DistanceFromOrigin, Field, MeanBodyVelocity
from ksim_envs.tasks.resets import NormalVelocity, UniformPosition
from ksim_envs.tasks.rewards import ActionCost, Alive, ContactCost, Scaled
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside

ANT = Task(
    model="gymnasium:ant.xml",
    frame_skip=5,
    episode_length=1000,
    observations={
        "qpos": Field("qpos", start=2),
        "qvel": Field("qvel"),
        "cfrc_ext": Field("cfrc_ext", start=1, limit=1.0),
    },
    rewards={
        "reward_forward": Scaled(1.0, MeanBodyVelocity("torso", axis=0)),
        "reward_survive": Alive(1.0),
        "reward_ctrl": ActionCost(0.5),
        "reward_contact": ContactCost(5e-4, limit=1.0),
    },
    terminations={"height": Outside(Coordinate(2), low=0.2, high=1.0, closed=True)},
    resets={"position": UniformPosition(0.1), "velocity": NormalVelocity(0.1)},
    metrics={
        "x_position": Coordinate(0),
        "y_position": Coordinate(1),
        "distance_from_origin": DistanceFromOrigin(),
        "x_velocity": MeanBodyVelocity("torso", axis=0),
        "y_velocity": MeanBodyVelocity("torso", axis=1),
    },
    camera={"trackbodyid": 1, "distance": 4.0},
)
