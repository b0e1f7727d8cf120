"""Our own tasks, as they are registered: built, stepped through ends of episodes, and what their docstrings say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ksim_envs
from ksim_envs.registration import ROBOT_TASKS
from ksim_envs.types import Autoreset

SIZES = {
    "ksim/HumanoidStand-v0": (57, 17, 1000),
    "ksim/HumanoidWalk-v0": (64, 17, 500),
    "ksim/KBotStand-v0": (66, 20, 1000),
    "ksim/KBotWalk-v0": (73, 20, 500),
    "ksim/ZBotWalk-v0": (73, 20, 500),
    "ksim/ArmReach-v0": (21, 5, 500),
    "ksim/CartPoleSwingUp-v0": (5, 1, 500),
}
"""Lengths of observation and action, and the horizon."""
NOT_BY_CHANCE = {"ksim/CartPoleSwingUp-v0": {"reward_balance"}, "ksim/ZBotWalk-v0": {"cost_limits"}}
"""Rewards and costs that random actions do not come upon."""


@pytest.fixture(scope="module", params=ROBOT_TASKS)
def task_id(request):
    return request.param


@pytest.fixture(scope="module")
def rollout(task_id):
    """An env after 130 random steps, and what each returned; some episodes reach the time limit and some end before."""
    env = ksim_envs.make(task_id, num_envs=8, backend="native", autoreset_mode="same_step", episode_length=100)
    obs, info = env.reset(seed=0)
    env.action_space.seed(0)
    steps = [(obs, np.zeros(8), np.zeros(8, bool), np.zeros(8, bool), info)]
    steps += [env.step(env.action_space.sample()) for _ in range(130)]
    yield env, steps
    env.close()


def test_sizes_and_the_control_period_are_as_documented(task_id):
    core = ksim_envs.make_functional(task_id, 8, backend="native")
    assert (core.num_observations, core.num_actions, core.task.episode_length) == SIZES[task_id]
    assert core.dt == pytest.approx(0.02)


def test_random_actions_end_episodes_and_diverge_never(rollout):
    _, steps = rollout
    assert any((terminated | truncated).any() for _, _, terminated, truncated, _ in steps)
    assert all(np.isfinite(obs).all() and np.isfinite(reward).all() for obs, reward, *_ in steps)
    assert not any(info["diverged"].any() for *_, info in steps)


def test_no_element_of_the_observation_is_constant(rollout):
    _, steps = rollout
    assert (np.ptp(np.concatenate([obs for obs, *_ in steps]), axis=0) > 0).all()


def test_rewards_add_up_and_each_has_an_effect(task_id, rollout):
    _, steps = rollout
    names = ksim_envs.get_task(task_id).rewards
    terms = {name: np.stack([info.get("final_info", info)[name] for *_, info in steps[1:]]) for name in names}
    np.testing.assert_allclose(sum(terms.values()), np.stack([reward for _, reward, *_ in steps[1:]]), atol=1e-4)
    assert {name for name, paid in terms.items() if np.ptp(paid) == 0} == NOT_BY_CHANCE.get(task_id, set())


def test_every_start_and_command_is_another(task_id, rollout):
    env, steps = rollout
    assert len(np.unique(steps[0][0], axis=0)) == env.num_envs
    for name in ksim_envs.get_task(task_id).commands:
        drawn = steps[0][-1][name].reshape(env.num_envs, -1)
        assert len(np.unique(drawn, axis=0)) > 1


def test_it_keeps_the_contract_of_vector_envs(task_id, rollout):
    """With the core of the rollout, which is compiled."""
    env = ksim_envs.make(task_id, num_envs=8, backend="native", autoreset_mode="same_step", episode_length=20)
    ksim_envs.check_vector_env(env)


def test_resets_commands_and_randomization_compile_the_step_once(rollout):
    env, _ = rollout
    assert env.core.programs._step._cache_size() == 1


@pytest.mark.parametrize("task_id", [id for id in SIZES if "Stand" not in id], indirect=True)  # the same models walk
def test_it_is_traced_for_mjx(task_id):
    """It is not compiled, which would take minutes: what MJX cannot have it refuses in tracing."""
    core = ksim_envs.make_functional(task_id, 2, backend="mjx")

    def first_step(key_E):
        state = core.reset(key_E)
        return state, core.step(state, jnp.zeros((2, core.num_actions)), Autoreset.DISABLED)  # not reset once more

    before, (after, result) = jax.eval_shape(first_step, core.keys(0))
    assert layout(after) == layout(before)
    assert result.obs_EL.shape == (2, SIZES[task_id][0])


def layout(tree):
    """The tree's shapes and dtypes."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
