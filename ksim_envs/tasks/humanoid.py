"""Humanoid and HumanoidStandup, after Gymnasium's `Humanoid-v5` and `HumanoidStandup-v5`."""

from __future__ import annotations

from ksim_envs.tasks.observations import Coordinate, DistanceFromOrigin, Field, MassCenterVelocity
from ksim_envs.tasks.resets import UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import ActionCost, Alive, ContactCost, HeightRate, Scaled
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside

OBSERVATIONS = {
    "qpos": Field("qpos", start=2),
    "qvel": Field("qvel"),
    "cinert": Field("cinert", start=1),
    "cvel": Field("cvel", start=1),
    "qfrc_actuator": Field("qfrc_actuator", start=6),
    "cfrc_ext": Field("cfrc_ext", start=1),
}
RESETS = {"position": UniformPosition(0.01), "velocity": UniformVelocity(0.01)}
PLACE = {
    "x_position": Coordinate(0),
    "y_position": Coordinate(1),
    "tendon_length": Field("ten_length"),
    "tendon_velocity": Field("ten_velocity"),
}

HUMANOID = Task(
    model="gymnasium:humanoid.xml",
    frame_skip=5,
    episode_length=1000,
    observations=OBSERVATIONS,
    rewards={
        "reward_survive": Alive(5.0),
        "reward_forward": Scaled(1.25, MassCenterVelocity(axis=0)),
        "reward_ctrl": ActionCost(0.1),
        "reward_contact": ContactCost(5e-7, maximum=10.0),
    },
    terminations={"height": Outside(Coordinate(2), low=1.0, high=2.0)},
    resets=RESETS,
    metrics={
        **PLACE,
        "distance_from_origin": DistanceFromOrigin(),
        "x_velocity": MassCenterVelocity(axis=0),
        "y_velocity": MassCenterVelocity(axis=1),
    },
    max_contact_points=16,  # more than it touches in when it lies on the floor
    camera={"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 2.0), "elevation": -20.0},
)

HUMANOID_STANDUP = Task(
    model="gymnasium:humanoidstandup.xml",
    frame_skip=5,
    episode_length=1000,
    observations=OBSERVATIONS,
    rewards={
        "reward_linup": HeightRate(),
        "reward_quadctrl": ActionCost(0.1),
        "reward_impact": ContactCost(5e-7, maximum=10.0),
        "reward_survive": Alive(1.0),
    },
    resets=RESETS,
    metrics={**PLACE, "z_distance_from_origin": Coordinate(2, relative=True)},
    max_contact_points=24,
    camera={"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 0.8925), "elevation": -20.0},
)
