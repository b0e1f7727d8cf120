"""One iteration of learning: what it must not see, what it must not do, and that it learns."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppo.learn import advance, init, learn, measure
from agents.ppo.trainer import Trainer
from ksim_envs import get_task
from ksim_envs.building import make_core
from tests.agents.ppo.conftest import CONFIG, DIVERGING


@pytest.fixture(scope="module")
def poisoned(diverging_core):
    """A state, and a trajectory in which some rows diverged."""
    state = jax.jit(partial(init, diverging_core, CONFIG))(jax.random.key(1))
    return jax.jit(partial(advance, diverging_core, CONFIG))(state)


@pytest.fixture(scope="module")
def update():
    """Learning and measuring, compiled once."""

    def both(state, trajectory):
        state, metrics = learn(CONFIG, state, trajectory)
        return measure(CONFIG, state, trajectory), metrics

    return jax.jit(both)


def learned(state):
    """What learning changes, without the envs."""
    return jax.tree.map(np.asarray, (state.model, state.opt_state, state.moments, state.num_skipped_updates))


@pytest.mark.parametrize("fill", [0.0, 1e6])
def test_transitions_of_diverged_rows_leave_no_trace(poisoned, update, fill):
    """Bit for bit as if they had been masked by hand, whatever they hold."""
    state, trajectory = poisoned
    valid_TE = trajectory.is_valid_TE
    assert 0 < (~valid_TE).sum() < valid_TE.size / 2

    def filled(leaf_TEL):
        column = valid_TE.reshape(valid_TE.shape + (1,) * (leaf_TEL.ndim - 2))
        return jnp.where(column, leaf_TEL, jnp.asarray(fill, leaf_TEL.dtype))

    names = ("obs_TEL", "sample_TEA", "log_prob_TE", "value_TE", "next_value_TE", "reward_TE", "return_TE")
    masked = replace(trajectory, **{name: filled(getattr(trajectory, name)) for name in names})
    jax.tree.map(
        np.testing.assert_array_equal,
        learned(update(state, trajectory)[0]),
        learned(update(state, masked)[0]),
    )


def test_a_transition_that_is_not_dropped_does_leave_one(poisoned, update):
    state, trajectory = poisoned
    other = replace(trajectory, reward_TE=trajectory.reward_TE + trajectory.is_valid_TE)
    weights = [update(state, each)[0].model.critic.layers[0].weight_ML for each in (trajectory, other)]
    assert np.any(weights[0] != weights[1])


def test_updates_that_are_not_finite_are_left_out_and_counted(poisoned, update):
    state, trajectory = poisoned
    broken = replace(trajectory, reward_TE=trajectory.reward_TE.at[3, 2].set(jnp.inf))
    after, _ = update(state, broken)
    num_updates = CONFIG.num_epochs * CONFIG.num_minibatches
    assert 0 < after.num_skipped_updates <= num_updates
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((after.model, after.opt_state)))


def test_the_learning_rate_follows_its_schedule(poisoned, update):
    state, trajectory = poisoned
    for iteration in (0, 4, 8):
        after, _ = update(replace(state, iteration=jnp.int32(iteration)), trajectory)
        expected = CONFIG.learning_rate + iteration / 8 * (CONFIG.final_learning_rate - CONFIG.learning_rate)
        np.testing.assert_allclose(after.learning_rate, expected, rtol=1e-5)


@pytest.mark.parametrize(("desired_kl", "is_slower"), [(1e-9, True), (1e3, False)])
def test_the_learning_rate_adapts_to_the_desired_kl(poisoned, desired_kl, is_slower):
    state, trajectory = poisoned
    after, _ = jax.jit(partial(learn, replace(CONFIG, desired_kl=desired_kl)))(state, trajectory)
    assert (after.learning_rate < state.learning_rate) == is_slower


def test_statistics_stay_frozen_until_an_iteration_is_over(poisoned):
    """The first gradient step of an iteration sees the policy that acted: the probability ratio is 1."""
    state, trajectory = poisoned
    state = replace(state, moments=state.moments.updated(trajectory.obs_TEL.reshape(256, -1), np.ones(256, bool)))
    one_step = replace(CONFIG, num_epochs=1, num_env_states_per_minibatch=256, num_minibatches=1)
    next_state, trajectory = jax.jit(partial(advance, make_core(DIVERGING, 16, backend="native"), one_step))(state)
    after, metrics = jax.jit(partial(learn, one_step))(next_state, trajectory)
    assert metrics["kl"] < 1e-9
    jax.tree.map(np.testing.assert_array_equal, after.moments, state.moments)


@pytest.mark.parametrize("memory", ["none", "gru", "lstm"])
def test_the_return_improves(memory):
    """A random policy balances the pole for about 7 steps."""
    config = replace(
        CONFIG,
        memory=memory,
        num_envs=32,
        num_env_states_per_minibatch=128,
        num_epochs=4,
        total_env_steps=512 * 40,
        learning_rate=3e-3,
        final_learning_rate=1e-3,
    )
    trainer = Trainer(make_core(get_task("ksim/InvertedPendulum-v0"), 32, backend="native"), config)
    state = trainer.start()
    returns = []
    for _ in range(config.num_iterations - 1):
        state, metrics = trainer.iterate(state)
        if metrics["num_episodes"]:  # when all balance, none ends
            returns.append(metrics["return_mean"])
    assert np.mean(returns[:3]) < 15
    assert np.mean(returns[-5:]) > 50, returns


def test_programs_are_compiled_once(trainer):
    state = trainer.start()
    for _ in range(3):
        state, _ = trainer.iterate(state)
    assert trainer.collect._cache_size() == 1
    assert trainer.learn._cache_size() == 1


def test_several_seeds_train_as_one_program(core, trainer):
    config = replace(CONFIG, num_seeds=2, seed=0)
    both = Trainer(core, config)
    state, metrics = both.iterate(both.start())
    assert both.env_steps(state) == 2 * CONFIG.dataset_size  # of each
    alone, _ = trainer.iterate(trainer.start())  # the first of the two seeds
    policies = both.policies(state)
    assert len(policies) == 2
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), policies[0].model, alone.model)
    assert np.any(policies[0].model.actor.layers[0].weight_ML != policies[1].model.actor.layers[0].weight_ML)
    assert np.isfinite(metrics["value_loss"])
