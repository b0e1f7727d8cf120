"""`FunctionalEnv` in brax's and Playground's own wrappers and trainers (`tox -e libraries`)."""

import math
import warnings
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.adapters.functional import FunctionalEnv, wrap
from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.curricula import Linear
from ksim_envs.tasks.observations import Coordinate
from ksim_envs.tasks.terminations import Outside
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("brax")
    pytest.importorskip("mujoco_playground")
    import mujoco_playground
    from brax.envs import Env
    from brax.envs.wrappers import training
    from brax.training.agents.ppo import networks as ppo_networks
    from brax.training.agents.ppo import train as ppo
    from brax.training.agents.sac import networks as sac_networks
    from brax.training.agents.sac import train as sac

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

TASK, NUM_ENVS, LENGTH = tiny.HOPPER_LIKE, 8, 25
CUT = replace(TASK, truncations={"far": Outside(Coordinate(0), -0.02, 0.02)})
CLIMBING = replace(TASK, curriculum=Linear(steps_to_top=10 * LENGTH))
WRAPS = {
    "brax": training.wrap,
    "playground": mujoco_playground.wrapper.wrap_for_brax_training,
    "playground, full_reset": partial(mujoco_playground.wrapper.wrap_for_brax_training, full_reset=True),
    "ours": wrap,
}


@pytest.fixture(scope="module")
def env():
    return FunctionalEnv(TASK, backend="native")


@pytest.fixture
def dropped_function(monkeypatch):
    """What brax 0.14.2 calls and JAX has dropped since 0.10 (google/brax#671)."""

    def replicated(tree, devices):
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)

    monkeypatch.setattr(jax, "device_put_replicated", replicated, raising=False)


def rollout(wrapped, keys, actions):
    """The first state, and those after each of the steps."""

    def step(state, action):
        state = wrapped.step(state, action)
        return state, state

    first = wrapped.reset(keys)
    return first, jax.lax.scan(step, first, actions)[1]


def actions(steps):
    return jax.random.uniform(jax.random.key(1), (steps, NUM_ENVS, 2), minval=-1, maxval=1)


@pytest.mark.parametrize("task", [TASK, CUT], ids=["time limits", "truncations of the task"])
def test_our_wrap_does_what_the_vector_env_does(task):
    env = FunctionalEnv(task, backend="native")
    twin = KsimVectorEnv(task, NUM_ENVS, backend="native", autoreset_mode="same_step", episode_length=LENGTH)
    keys = jax.random.key_data(twin.core.keys(3))
    first, states = jax.jit(partial(rollout, wrap(env, LENGTH)))(keys, actions(100))
    np.testing.assert_array_equal(first.obs, twin.reset(seed=3)[0])
    num_terminated = num_truncated = 0
    for t, action in enumerate(actions(100)):
        obs, reward, terminated, truncated, info = twin.step(action)
        np.testing.assert_array_equal(states.obs[t], obs)
        np.testing.assert_array_equal(states.reward[t], reward)
        np.testing.assert_array_equal(states.done[t], terminated | truncated)
        np.testing.assert_array_equal(states.info["truncation"][t], truncated & ~terminated)
        ended = terminated | truncated
        if ended.any():
            final = info["final_info"]
            sums = states.info["episode_metrics"]
            np.testing.assert_allclose(sums["sum_reward"][t][ended], final["episode_return"][ended], rtol=1e-5)
            np.testing.assert_array_equal(sums["length"][t][ended], final["episode_length"][ended])
        num_terminated += terminated.sum()
        num_truncated += (truncated & ~terminated).sum()
    assert num_terminated > 3 and num_truncated > 3


@pytest.mark.parametrize("name", WRAPS)
def test_where_an_episode_begins(env, name):
    keys = jax.random.split(jax.random.PRNGKey(0), NUM_ENVS)
    first, states = jax.jit(partial(rollout, WRAPS[name](env, episode_length=LENGTH)))(keys, actions(80))
    ended = np.asarray(states.done, bool)
    assert ended.sum(axis=0).min() >= 3
    begun = [np.asarray(states.obs)[ended[:, i], i] for i in range(NUM_ENVS)]
    for i, obs in enumerate(begun):
        if name in ("brax", "playground"):
            np.testing.assert_array_equal(obs, np.broadcast_to(first.obs[i], obs.shape))
        else:
            assert len(np.unique(obs, axis=0)) == len(obs) and (obs != first.obs[i]).any(axis=1).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states.obs, states.reward, states.metrics)))


def test_an_action_can_be_held_for_several_steps(env):
    held = wrap(env, episode_length=LENGTH, action_repeat=3)
    keys = jax.random.split(jax.random.PRNGKey(0), NUM_ENVS)
    state = jax.jit(held.step)(jax.jit(held.reset)(keys), actions(1)[0])
    single = jax.vmap(env.reset)(keys)
    rewards = []
    for _ in range(3):
        single = jax.vmap(env.step)(single, actions(1)[0])
        rewards.append(single.reward)
    np.testing.assert_array_equal(state.obs, single.obs)
    np.testing.assert_allclose(state.reward, sum(rewards), rtol=1e-6)


def test_a_diverged_row_is_truncated_and_reset(env):
    wrapped = wrap(env, episode_length=LENGTH)
    state = wrapped.reset(jax.random.split(jax.random.PRNGKey(0), NUM_ENVS))
    state = wrapped.step(state, actions(1)[0].at[2].set(jnp.nan))
    expected = [i == 2 for i in range(NUM_ENVS)]
    assert state.done.tolist() == state.info["truncation"].tolist() == state.info["diverged"].tolist() == expected
    state = wrapped.step(state, actions(1)[0])
    assert not state.done.any() and not state.info["truncation"].any()


def test_a_row_that_diverges_while_an_action_is_held_is_truncated(env):
    held = wrap(env, episode_length=LENGTH, action_repeat=3)
    state = held.reset(jax.random.split(jax.random.PRNGKey(0), NUM_ENVS))
    state = held.step(state, actions(1)[0].at[2].set(jnp.nan))
    assert state.info["truncation"].tolist() == state.done.tolist() == [i == 2 for i in range(NUM_ENVS)]


def test_a_curriculum_learns_from_episodes_that_come_to_the_time_limit():
    wrapped = wrap(FunctionalEnv(CLIMBING, backend="native"), episode_length=5)
    keys = jax.random.split(jax.random.PRNGKey(0), NUM_ENVS)
    _, states = jax.jit(partial(rollout, wrapped))(keys, jnp.zeros((20, NUM_ENVS, 2)))
    assert (states.info["truncation"].sum(axis=0) > 0).all()
    assert (states.info["curriculum_level"][-1] > states.info["curriculum_level"][0]).all()


def test_it_counts_as_an_env_of_both_libraries_though_it_is_none(env):
    assert isinstance(FunctionalEnv(TASK, backend="native"), mujoco_playground.MjxEnv)
    assert isinstance(env, Env)


def test_models_that_vary_outside_the_task_are_refused(env):
    with pytest.raises(InvalidConfigError, match="give the task randomizers instead"):
        wrap(env, randomization_fn=lambda model: (model, model))


PPO = {
    "num_timesteps": 1024,
    "num_envs": NUM_ENVS,
    "batch_size": NUM_ENVS,
    "num_minibatches": 2,
    "unroll_length": 16,
    "episode_length": LENGTH,
    "num_evals": 2,
    "num_eval_envs": 4,
    "normalize_observations": True,
    "network_factory": partial(
        ppo_networks.make_ppo_networks, policy_hidden_layer_sizes=(16,), value_hidden_layer_sizes=(16,)
    ),
}
"""Four updates from 256 steps each, in which episodes of 25 steps at most end many times."""


@pytest.mark.parametrize("name", ["brax", "playground", "ours"])
def test_braxs_ppo_trains(env, name, dropped_function):
    _, params, metrics = ppo.train(env, wrap_env_fn=None if name == "brax" else WRAPS[name], **PPO)
    assert 1 <= metrics["eval/avg_episode_length"] <= LENGTH
    assert math.isfinite(metrics["training/total_loss"]) and metrics["eval/episode_alive"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_braxs_ppo_trains_an_asymmetric_critic(dropped_function):
    env = FunctionalEnv(TASK, backend="native", privileged=("x_position",))
    network = partial(PPO["network_factory"], policy_obs_key="state", value_obs_key="privileged_state")
    _, params, _ = ppo.train(env, wrap_env_fn=wrap, **{**PPO, "num_timesteps": 512, "network_factory": network})
    assert params[0].mean["privileged_state"].shape == (6,)


def test_braxs_sac_trains(env, dropped_function):
    _, params, metrics = sac.train(
        env,
        num_timesteps=512,
        num_envs=NUM_ENVS,
        episode_length=LENGTH,
        min_replay_size=64,
        batch_size=16,
        num_evals=2,
        num_eval_envs=4,
        network_factory=partial(sac_networks.make_sac_networks, hidden_layer_sizes=(16,)),
    )
    assert 1 <= metrics["eval/avg_episode_length"] <= LENGTH
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.skipif(hasattr(jax, "device_put_replicated"), reason="this JAX still has the function")
@pytest.mark.xfail(raises=AttributeError, strict=True, reason="brax 0.14.2 on JAX 0.10: google/brax#671")
def test_braxs_ppo_needs_no_help(env):
    ppo.train(env, wrap_env_fn=wrap, **PPO)
