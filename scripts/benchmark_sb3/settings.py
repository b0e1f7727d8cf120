"""The tasks, and the hyperparameters with which they are learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Of PPO, as SB3, SBX and ours have them; most are named as in `PPOConfig`.

    The defaults are what contestants have in common: SB3's defaults but for the number of envs, which makes rollouts of
    128 steps of SB3's 2048 of one env, and for the schedule, a larger minibatch, larger networks and less noise at
    first, each of which SB3's own published hyperparameters have too.
    """

    num_envs: int = 16
    """The more of them, the faster all contestants are, and the shorter the rollouts, which changes what is learned."""
    dataset_size: int = 2048
    """Env steps in one iteration, of all envs together."""
    minibatch_size: int = 256
    num_epochs: int = 10
    learning_rate: float = 3e-4
    final_learning_rate: float = 3e-5
    """At the end of a linear schedule."""
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float = 0.2
    entropy_coef: float = 0.0
    value_loss_coef: float = 0.5
    max_grad_norm: float = 0.5
    initial_std: float = 0.5
    """Of the actions, in units of half their range."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Of the actor, and of the critic."""
    activation: Literal["tanh", "relu"] = "tanh"
    has_orthogonal_init: bool = True
    """Only SB3 and SBX ask for this."""
    contact_spread: float = 0.0
    """Of our envs in training; see `PPOConfig`."""
    reward_scale: float | None = None
    """Of our PPO; SB3 and SBX divide rewards by the running deviation of returns."""


COMMON = Hyperparameters()
ZOO = Hyperparameters(
    num_envs=1, dataset_size=512, initial_std=math.exp(-2), activation="relu", has_orthogonal_init=False
)
"""What the published ones of all tasks have."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """A task of Gymnasium's and ours."""

    env_steps: int
    """Budget at which returns are compared."""
    thresholds: tuple[int, ...]
    """Returns whose first time is reported."""
    usual_rate: float
    """About how many env steps per second SB3 trains: a guess, until it has been measured."""
    published: Hyperparameters
    """Those of rl-baselines3-zoo for the v4 task, hyperparams/ppo.yml at commit 208b6fd; it has one env, and trains
    the Humanoid for 10M steps, the others for 1M."""


TASKS: dict[str, TaskSettings] = {
    "Hopper": TaskSettings(
        env_steps=1_000_000,
        thresholds=(1000, 2000, 3000),
        usual_rate=3_000.0,
        published=replace(
            ZOO,
            minibatch_size=32,
            num_epochs=5,
            learning_rate=9.80828e-05,
            final_learning_rate=9.80828e-05,
            gamma=0.999,
            gae_lambda=0.99,
            entropy_coef=0.00229519,
            value_loss_coef=0.835671,
            max_grad_norm=0.7,
        ),
    ),
    "HalfCheetah": TaskSettings(
        env_steps=1_000_000,
        thresholds=(1000, 2000, 4000),
        usual_rate=3_000.0,
        published=replace(
            ZOO,
            minibatch_size=64,
            num_epochs=20,
            learning_rate=2.0633e-05,
            final_learning_rate=2.0633e-05,
            gamma=0.98,
            gae_lambda=0.92,
            clip_ratio=0.1,
            entropy_coef=0.000401762,
            value_loss_coef=0.58096,
            max_grad_norm=0.8,
        ),
    ),
    "Humanoid": TaskSettings(
        env_steps=3_000_000,
        thresholds=(500, 1000, 5000),
        usual_rate=2_000.0,
        published=replace(
            ZOO,
            num_epochs=5,
            learning_rate=3.56987e-05,
            final_learning_rate=3.56987e-05,
            gamma=0.95,
            gae_lambda=0.9,
            clip_ratio=0.3,
            entropy_coef=0.00238306,
            value_loss_coef=0.431892,
            max_grad_norm=2.0,
            initial_std=math.exp(-2) / 0.4,  # the zoo's is in units of the action, which ends at 0.4
        ),
    ),
}


def gymnasium_id(task: str) -> str:
    """Gymnasium's own version of a task."""
    return f"{task}-v5"


def ksim_id(task: str) -> str:
    """Ours."""
    return f"ksim/{task}-v0"
