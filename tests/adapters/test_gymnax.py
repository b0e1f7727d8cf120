"""`GymnaxEnv` against the real gymnax (`tox -e gymnax`: it allows no Gymnasium 1.4)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ksim_envs
from tests import tiny

pytest.importorskip("gymnax")
from gymnax.environments.environment import EnvParams
from gymnax.wrappers.gym import GymnaxToGymWrapper, GymnaxToVectorGymWrapper
from gymnax.wrappers.purerl import LogWrapper

from ksim_envs.adapters.gymnax import GymnaxEnv

TASK = replace(tiny.HOPPER_LIKE, episode_length=12)
NUM_ENVS, STEPS = 4, 40


@pytest.fixture(scope="module", params=["native", "mjx"])
def backend(request):
    return request.param


def rollout(env, keys, params=None):
    """`STEPS` steps of mapped envs under fixed actions, as PureJaxRL scans them."""
    obs, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
    action = jax.random.uniform(jax.random.key(1), (STEPS, NUM_ENVS, 2), minval=-1, maxval=1)

    def step(state, action):
        obs, state, *rest = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        return state, (obs, *rest)

    _, steps = jax.lax.scan(step, state, action)
    return obs, action, steps


def test_mapped_steps_equal_those_of_the_core(backend):
    core = ksim_envs.make_functional(TASK, NUM_ENVS, backend=backend)
    keys = core.keys(0)
    first, action, (obs, reward, terminated, truncated, info) = rollout(GymnaxEnv(TASK, backend=backend), keys)
    state = core.reset(keys)
    np.testing.assert_allclose(first, state.obs_EL, rtol=1e-5, atol=1e-5)

    def step(state, action):
        return core.step(state, action)

    _, result = jax.lax.scan(step, state, action)
    np.testing.assert_allclose(obs, result.obs_EL, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(reward, result.reward_E, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(terminated, result.terminated_E)
    np.testing.assert_array_equal(truncated, result.truncated_E)
    np.testing.assert_allclose(info["final_observation"], result.final_obs_EL, rtol=1e-4, atol=1e-4)
    assert truncated.sum() > 3


def test_the_time_limit_is_a_parameter_and_old_keys_and_the_five_values_work():
    env = GymnaxEnv(TASK, backend="native", legacy=True)
    assert env.default_params.max_steps_in_episode == 12
    keys = jax.random.split(jax.random.PRNGKey(0), NUM_ENVS)
    *_, (_, _, done, info) = rollout(env, keys, EnvParams(max_steps_in_episode=3))
    assert done[2::3].all() and not done.all() and (info["episode_length"] <= 3).all()


def test_the_five_values_are_the_six_with_both_ends_in_one():
    keys, params = jax.random.split(jax.random.key(0), NUM_ENVS), EnvParams(max_steps_in_episode=30)
    *_, (_, _, done, _) = rollout(GymnaxEnv(TASK, backend="native", legacy=True), keys, params)
    *_, (_, _, terminated, truncated, _) = rollout(GymnaxEnv(TASK, backend="native"), keys, params)
    np.testing.assert_array_equal(done, terminated | truncated)
    assert terminated.any() and not done.all()


def test_gymnaxs_own_wrapper_counts_the_episodes_that_ours_reports():
    env = LogWrapper(GymnaxEnv(TASK, backend="native"))
    *_, (_, _, terminated, truncated, info) = rollout(env, jax.random.split(jax.random.key(0), NUM_ENVS))
    ended = terminated | truncated
    np.testing.assert_array_equal(info["returned_episode"], ended)
    np.testing.assert_allclose(info["returned_episode_returns"][ended], info["episode_return"][ended], rtol=1e-5)
    np.testing.assert_array_equal(info["returned_episode_lengths"][ended], info["episode_length"][ended])


def test_gymnaxs_own_wrappers_make_gymnasium_envs_of_it():
    env = GymnaxEnv("ksim/InvertedPendulum-v0", backend="native")
    single, batch = GymnaxToGymWrapper(env), GymnaxToVectorGymWrapper(env, num_envs=NUM_ENVS)
    for wrapped in (single, batch):
        obs, _ = wrapped.reset(seed=0)
        assert obs.shape == wrapped.observation_space.shape
        action = np.zeros(wrapped.action_space.shape, np.float32)
        for _ in range(3):
            obs, reward, *_ = wrapped.step(action)
        np.testing.assert_array_equal(reward, np.ones(batch.num_envs) if wrapped is batch else 1.0)
    assert env.step.__func__ is GymnaxEnv.step  # it is as it was


def test_spaces():
    env = GymnaxEnv("ksim/Hopper-v0", backend="native")
    assert env.observation_space(env.default_params).shape == (11,)
    assert env.action_space(env.default_params).contains(jnp.zeros(3))


def test_a_policy_trains_as_in_purejaxrl_through_terminations_and_truncations():
    env = LogWrapper(GymnaxEnv(replace(TASK, episode_length=30), backend="native"))
    obs, state = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), NUM_ENVS))
    weight_AL = jnp.zeros((2, obs.shape[1]))

    def step(weight_AL, carry, keys):
        obs, state = carry
        noise = jax.random.normal(keys[0], (NUM_ENVS, 2))
        action = obs @ weight_AL.T + noise
        next_obs, state, reward, terminated, truncated, _ = jax.vmap(env.step)(keys, state, action)
        return (next_obs, state), (obs, action, reward, terminated, truncated)

    def loss(weight_AL, obs, action, reward):
        log_prob = -0.5 * jnp.sum((action - obs @ weight_AL.T) ** 2, axis=-1)
        return -jnp.mean(log_prob * (reward - reward.mean()))

    @jax.jit
    def update(weight_AL, carry, key):
        keys = jax.random.split(key, (STEPS, NUM_ENVS))
        carry, (obs, action, reward, *ended) = jax.lax.scan(lambda c, k: step(weight_AL, c, k), carry, keys)
        return weight_AL - 0.1 * jax.grad(loss)(weight_AL, obs, action, reward), carry, ended

    carry, num_ended = (obs, state), np.zeros(2, int)
    for number in range(2):
        before = weight_AL
        weight_AL, carry, ended = update(weight_AL, carry, jax.random.key(number))
        num_ended += [int(flags.sum()) for flags in ended]
        assert np.isfinite(weight_AL).all() and (weight_AL != before).any()
    assert num_ended.all()
