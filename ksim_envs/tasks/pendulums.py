"""Pendulums on a cart: Inverted(Double)Pendulum, after Gymnasium's v5 tasks, and one that is to be swung up."""

from __future__ import annotations

from ksim_envs.tasks.measures import Reduced
from ksim_envs.tasks.observations import Coordinate, Cosine, Field, Sine, SiteHeight
from ksim_envs.tasks.resets import NormalVelocity, UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import ActionCost, Alive, Cost, JointVelocityCost, TipDistanceCost
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from ksim_envs.tasks.tracking import Gaussian, Tracking, Triangle

INVERTED_PENDULUM = Task(
    model="gymnasium:inverted_pendulum.xml",
    frame_skip=2,
    episode_length=1000,
    observations={"qpos": Field("qpos"), "qvel": Field("qvel")},
    rewards={"reward_survive": Alive(1.0)},
    terminations={"angle": Outside(Coordinate(1), low=-0.2, high=0.2, closed=True)},
    resets={"position": UniformPosition(0.01), "velocity": UniformVelocity(0.01)},
    camera={"trackbodyid": 0, "distance": 2.04},
)

INVERTED_DOUBLE_PENDULUM = Task(
    model="gymnasium:inverted_double_pendulum.xml",
    frame_skip=5,
    episode_length=1000,
    observations={
        "cart": Field("qpos", stop=1),
        "sines": Sine(start=1),
        "cosines": Cosine(start=1),
        "qvel": Field("qvel", limit=10.0),
        "qfrc_constraint": Field("qfrc_constraint", stop=1, limit=10.0),
    },
    rewards={
        "reward_survive": Alive(10.0),
        "distance_penalty": TipDistanceCost("tip", height=2.0),
        "velocity_penalty": JointVelocityCost((1e-3, 5e-3), start=1),
    },
    terminations={"height": Outside(SiteHeight("tip"), low=1.0)},
    resets={"position": UniformPosition(0.1), "velocity": NormalVelocity(0.1)},
    camera={"trackbodyid": 0, "distance": 4.1225, "lookat": (0.0, 0.0, 0.1225)},
)

RAIL_HEIGHT = 1.4  # m

CART_POLE_SWING_UP = Task(
    model="ksim:cartpole.xml",
    frame_skip=4,
    episode_length=500,
    observations={
        "cart": Field("qpos", stop=1),
        "sine": Sine(start=1),
        "cosine": Cosine(start=1),
        "qvel": Field("qvel"),
    },
    rewards={
        "reward_up": Tracking(0.5, SiteHeight("tip"), RAIL_HEIGHT + 1.0, Triangle(2.0)),
        "reward_balance": Tracking(0.5, SiteHeight("tip"), RAIL_HEIGHT + 1.0, Gaussian(0.1)),
        "cost_offset": Cost(0.05, Reduced(Field("qpos", stop=1), "sum_square")),
        "cost_action": ActionCost(0.01),
    },
    resets={"position": UniformPosition(0.1), "velocity": UniformVelocity(0.05)},
    camera={"trackbodyid": -1, "lookat": (0.0, 0.0, 1.3), "distance": 4.5, "azimuth": 90.0, "elevation": -5.0},
)
"""A pole that hangs from its cart is to be swung up, and to be kept there: at best 1 is paid in each step."""
