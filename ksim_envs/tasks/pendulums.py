"""The pendulums on a cart: InvertedPendulum and InvertedDoublePendulum, after Gymnasium's v5 tasks."""

from __future__ import annotations

from ksim_envs.tasks.observations import Coordinate, Cosine, Field, Sine, SiteHeight
from ksim_envs.tasks.resets import NormalVelocity, UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import Alive, JointVelocityCost, TipDistanceCost
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside

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
