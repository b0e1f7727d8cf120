"""What a Trajectory holds, against stepping the envs again with the same actions."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppo.distributions import in_control_units
from agents.ppo.learn import advance, init
from tests.agents.ppo.conftest import CONFIG, TASK

LONG = replace(CONFIG, num_env_states_per_minibatch=256, num_minibatches=2, memory="gru", privileged=("x_position",))
"""32 steps of 16 envs, so that every row ends an episode of at most 24 steps."""


def seen_by_critic(state):
    """The observations, then the privileged metric."""
    return jnp.concatenate([state.obs_EL, state.metrics["x_position"][:, None]], axis=1)


@pytest.fixture(scope="module")
def rollout(diverging_core):
    state = jax.jit(partial(init, diverging_core, LONG))(jax.random.key(5))
    state = replace(state, moments=state.moments.updated(seen_by_critic(state.actors.env_state), np.ones(16, bool)))
    after, trajectory = jax.jit(partial(advance, diverging_core, LONG))(state)
    return state, after, trajectory


@pytest.fixture(scope="module")
def replayed(diverging_core, rollout):
    """The results of the same steps, taken with the recorded actions under the time limits that are promised."""
    state, _, trajectory = rollout
    first_E = jnp.asarray(np.ceil((np.arange(16) + 1) * TASK.episode_length / 16).astype(np.int32))

    def step(env_state, sample_EA):
        limit_E = jnp.where(env_state.episode_E == 1, first_E, TASK.episode_length)
        action_EA = in_control_units(sample_EA, *diverging_core.action_bounds)
        unstaggered = replace(env_state, ahead_E=jnp.zeros_like(env_state.ahead_E))
        return diverging_core.step(unstaggered, action_EA, episode_length=limit_E)

    return jax.jit(partial(jax.lax.scan, step))(state.actors.env_state, trajectory.sample_TEA)[1]


def critic_values(model, moments, trajectory, next_obs_TEL):
    """V of the states that the actions led to, with the memory that the critic had there, one step at a time."""
    carry_EL = trajectory.carry_EL_t_0[1]
    values = []
    for obs_EL, is_start_E, next_obs_EL in zip(trajectory.obs_TEL, trajectory.is_start_TE, next_obs_TEL, strict=True):
        carry_EL = jax.tree.map(lambda leaf, s=is_start_E: jnp.where(s[:, None], 0.0, leaf), carry_EL)
        carry_EL, _ = jax.vmap(model.critic)(carry_EL, moments.normalized(obs_EL))
        values.append(jax.vmap(model.critic)(carry_EL, moments.normalized(next_obs_EL))[1][:, 0])
    return np.asarray(jnp.stack(values))


def test_rewards_and_flags_are_those_of_the_env(rollout, replayed):
    trajectory = rollout[2]
    np.testing.assert_array_equal(trajectory.reward_TE, replayed.reward_E)
    np.testing.assert_array_equal(trajectory.terminated_TE, replayed.terminated_E)
    np.testing.assert_array_equal(trajectory.truncated_TE, replayed.truncated_E)
    np.testing.assert_array_equal(trajectory.is_valid_TE, ~replayed.final_info["diverged"])
    assert trajectory.terminated_TE.any() and trajectory.truncated_TE.any() and not trajectory.is_valid_TE.all()


def test_next_values_are_those_of_the_true_next_states_also_where_an_episode_was_cut(rollout, replayed):
    state, _, trajectory = rollout
    final_obs_TEL = jnp.concatenate([replayed.final_obs_EL, replayed.final_info["x_position"][..., None]], axis=2)
    expected = critic_values(state.model, state.moments, trajectory, final_obs_TEL)
    counts = np.asarray(trajectory.is_valid_TE & ~trajectory.terminated_TE)  # the others are not bootstrapped
    assert (counts & np.asarray(trajectory.truncated_TE)).sum() > 10
    np.testing.assert_allclose(np.asarray(trajectory.next_value_TE)[counts], expected[counts], rtol=1e-4, atol=1e-5)


def test_an_episode_starts_where_the_one_before_has_ended(rollout):
    _, after, trajectory = rollout
    ended_TE = np.asarray(trajectory.terminated_TE | trajectory.truncated_TE)
    np.testing.assert_array_equal(trajectory.is_start_TE[1:], ended_TE[:-1])
    assert trajectory.is_start_TE[0].all()
    np.testing.assert_array_equal(after.actors.is_start_E, ended_TE[-1])


def test_observations_are_those_that_the_env_gave(rollout, replayed):
    state, _, trajectory = rollout
    np.testing.assert_array_equal(trajectory.obs_TEL[0], seen_by_critic(state.actors.env_state))
    np.testing.assert_array_equal(trajectory.obs_TEL[1:, :, :5], replayed.obs_EL[:-1])


def test_log_probabilities_are_those_of_the_model_that_acted(rollout):
    state, _, trajectory = rollout
    unroll = jax.vmap(state.model.actor.unroll, in_axes=(0, 1, 1), out_axes=(0, 1))
    seen_TEL = state.moments.normalized(trajectory.obs_TEL)[..., :5]
    _, mean_TEA = unroll(trajectory.carry_EL_t_0[0], seen_TEL, trajectory.is_start_TE)
    log_prob_TE = state.model.distribution(mean_TEA).log_prob(trajectory.sample_TEA)
    np.testing.assert_allclose(trajectory.log_prob_TE, log_prob_TE, rtol=1e-4, atol=1e-5)


def test_first_episodes_are_staggered(rollout):
    """No first episode of env i is longer than its share, and those that are cut there end in different steps."""
    trajectory = rollout[2]
    ended_TE = np.asarray(trajectory.terminated_TE | trajectory.truncated_TE)
    first_length_E = ended_TE.argmax(axis=0) + 1
    limit_E = np.ceil((np.arange(16) + 1) * TASK.episode_length / 16)
    assert np.all(first_length_E <= limit_E)
    assert len(set(first_length_E)) > 5


def test_returns_and_lengths_are_those_of_the_episodes(rollout):
    trajectory = rollout[2]
    ended_TE = np.asarray(trajectory.terminated_TE | trajectory.truncated_TE)
    for env in range(16):
        start = 0
        for end in np.flatnonzero(ended_TE[:, env]):
            assert trajectory.length_TE[end, env] == end - start + 1
            expected = np.asarray(trajectory.reward_TE[start : end + 1, env], np.float64).sum()
            np.testing.assert_allclose(trajectory.return_TE[end, env], expected, rtol=1e-5, atol=1e-5)
            start = end + 1
