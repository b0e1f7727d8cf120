"""A policy that is called by hand: what it takes, what it refuses, what it remembers."""

import jax
import numpy as np
import pytest

from agents.ppo import Policy, PolicyState, PPOConfig
from agents.ppo.networks import ActorCritic
from ksim_envs.errors import InvalidConfigError
from ksim_envs.moments import Moments

LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32)


def make_policy(**settings):
    config = PPOConfig(hidden_sizes=(8,), memory_size=4, num_envs=1, num_minibatches=1, **settings)
    model = ActorCritic(3, 1, 2, config, jax.random.key(0))
    return Policy(PolicyState.of(model, Moments.empty(4), LOW, HIGH))


@pytest.mark.parametrize("squash", ["none", "tanh"])
def test_actions_lie_within_their_bounds_around_the_middle(squash):
    policy = make_policy(squash=squash)
    obs = np.random.default_rng(0).normal(size=(100, 3)) * 1e3
    action = policy(obs)
    assert action.shape == (100, 2) and action.dtype == np.float32
    assert np.all(action >= LOW) and np.all(action <= HIGH)
    np.testing.assert_allclose(policy(np.zeros(3)), (LOW + HIGH) / 2, atol=1e-6)  # biases are zero at the start


def test_one_observation_and_a_batch_give_the_same_action():
    policy = make_policy()
    obs = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(policy(obs)[2], policy(obs[2]), rtol=1e-5, atol=1e-7)


def test_tensors_of_other_libraries_are_taken():
    torch = pytest.importorskip("torch")
    policy = make_policy()
    obs = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(policy(torch.ones(2, 3)), policy(obs))
    np.testing.assert_array_equal(policy(jax.numpy.ones((2, 3))), policy(obs))


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_a_memory_lasts_until_it_is_reset(memory):
    policy = make_policy(memory=memory)
    obs = np.random.default_rng(2).normal(size=(2, 3)).astype(np.float32)
    first, second = policy(obs), policy(obs)
    assert np.any(first != second)
    policy.reset(np.array([True, False]))
    third = policy(obs)
    np.testing.assert_array_equal(third[0], first[0])
    assert np.any(third[1] != first[1])
    policy.reset()
    np.testing.assert_array_equal(policy(obs), first)


@pytest.mark.parametrize(
    "obs", [np.zeros(4), np.zeros((2, 2, 3)), np.zeros((2, 4)), np.full(3, np.nan), ["a", "b", "c"], None, {}], ids=repr
)
def test_what_is_no_observation_is_refused(obs):
    with pytest.raises(InvalidConfigError, match="obs"):
        make_policy()(obs)


def test_another_number_of_rows_needs_a_reset_when_there_is_a_memory():
    policy = make_policy(memory="gru")
    policy(np.zeros((2, 3)))
    with pytest.raises(InvalidConfigError, match="reset"):
        policy(np.zeros((3, 3)))
    with pytest.raises(InvalidConfigError, match="mask"):
        policy.reset(np.ones(3, bool))
    make_policy()(np.zeros((2, 3)))  # and none without
