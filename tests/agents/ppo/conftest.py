"""A run small enough to train in seconds, on a task that ends, is cut and diverges."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest

import ksim_envs
from agents.ppo.config import PPOConfig
from agents.ppo.trainer import Trainer
from ksim_envs.building import make_core
from ksim_envs.types import Push
from tests import tiny
from tests.agents.quick_runs import quick_runs


@dataclass(frozen=True)
class RareNaN:
    """A push that is not a number in one of a hundred steps, say, and zero in the others."""

    probability: float = 0.01

    def __call__(self, view, ctx):
        kick = jnp.where(jax.random.bernoulli(ctx.key, self.probability), jnp.nan, 0.0)
        return Push(qvel_kick=jnp.zeros_like(view.qvel).at[0].set(kick), xfrc_applied=jnp.zeros((3, 6)))


TASK = replace(tiny.HOPPER_LIKE, episode_length=24)
DIVERGING = replace(TASK, events={"poison": RareNaN()})
CONFIG = PPOConfig(
    num_envs=16,
    num_env_states_per_minibatch=64,
    num_minibatches=4,
    num_epochs=2,
    total_env_steps=256 * 8,
    hidden_sizes=(16,),
    memory_size=8,
    num_eval_envs=4,
    eval_interval_env_steps=512,
    checkpoint_interval_env_steps=512,
)
"""16 steps of 16 envs in an iteration, and 8 iterations."""


@pytest.fixture(scope="package")
def tiny_id():
    ksim_envs.register("ksim/PPOTiny-v0", TASK)
    return "ksim/PPOTiny-v0"


@pytest.fixture(scope="package")
def core():
    return make_core(TASK, CONFIG.num_envs, backend="native")


@pytest.fixture(scope="package", autouse=True)
def _quick_runs():
    with quick_runs():
        yield


@pytest.fixture(scope="package")
def diverging_core():
    return make_core(DIVERGING, CONFIG.num_envs, backend="native")


@pytest.fixture(scope="package")
def trainer(core):
    return Trainer(core, CONFIG)
