"""The robots that move in a plane: HalfCheetah, Hopper, Walker2d and Swimmer, after Gymnasium's v5 tasks."""

from __future__ import annotations

from ksim_envs.tasks.observations import Coordinate, CoordinateVelocity, DistanceFromOrigin, Field
from ksim_envs.tasks.resets import NormalVelocity, UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import ActionCost, Alive, Scaled
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside

FORWARD = CoordinateVelocity(0)
LEGGED_OBSERVATIONS = {"qpos": Field("qpos", start=1), "qvel": Field("qvel", limit=10.0)}
LEGGED_REWARDS = {"reward_forward": Scaled(1.0, FORWARD), "reward_ctrl": ActionCost(1e-3), "reward_survive": Alive(1.0)}
LEGGED_RESETS = {"position": UniformPosition(0.005), "velocity": UniformVelocity(0.005)}
LEGGED_METRICS = {
    "x_position": Coordinate(0),
    "z_distance_from_origin": Coordinate(1, relative=True),
    "x_velocity": FORWARD,
}

HALF_CHEETAH = Task(
    model="gymnasium:half_cheetah.xml",
    frame_skip=5,
    episode_length=1000,
    observations={"qpos": Field("qpos", start=1), "qvel": Field("qvel")},
    rewards={"reward_forward": Scaled(1.0, FORWARD), "reward_ctrl": ActionCost(0.1)},
    resets={"position": UniformPosition(0.1), "velocity": NormalVelocity(0.1)},
    metrics={"x_position": Coordinate(0), "x_velocity": FORWARD},
    camera={"trackbodyid": 1, "distance": 4.0},
)

HOPPER = Task(
    model="gymnasium:hopper.xml",
    frame_skip=4,
    episode_length=1000,
    observations=LEGGED_OBSERVATIONS,
    rewards=LEGGED_REWARDS,
    terminations={
        "height": Outside(Coordinate(1), low=0.7),
        "angle": Outside(Coordinate(2), low=-0.2, high=0.2),
        "position": Outside(Field("qpos", start=2), low=-100.0, high=100.0),
        "velocity": Outside(Field("qvel"), low=-100.0, high=100.0),
    },
    resets=LEGGED_RESETS,
    metrics=LEGGED_METRICS,
    camera={"trackbodyid": 2, "distance": 3.0, "lookat": (0.0, 0.0, 1.15), "elevation": -20.0},
)

WALKER2D = Task(
    model="gymnasium:walker2d_v5.xml",
    frame_skip=4,
    episode_length=1000,
    observations=LEGGED_OBSERVATIONS,
    rewards=LEGGED_REWARDS,
    terminations={
        "height": Outside(Coordinate(1), low=0.8, high=2.0),
        "angle": Outside(Coordinate(2), low=-1.0, high=1.0),
    },
    resets=LEGGED_RESETS,
    metrics=LEGGED_METRICS,
    camera={"trackbodyid": 2, "distance": 4.0, "lookat": (0.0, 0.0, 1.15), "elevation": -20.0},
)

SWIMMER = Task(
    model="gymnasium:swimmer.xml",
    frame_skip=4,
    episode_length=1000,
    observations={"qpos": Field("qpos", start=2), "qvel": Field("qvel")},
    rewards={"reward_forward": Scaled(1.0, FORWARD), "reward_ctrl": ActionCost(1e-4)},
    resets={"position": UniformPosition(0.1), "velocity": UniformVelocity(0.1)},
    metrics={
        "x_position": Coordinate(0),
        "y_position": Coordinate(1),
        "distance_from_origin": DistanceFromOrigin(),
        "x_velocity": FORWARD,
        "y_velocity": CoordinateVelocity(1),
    },
)
