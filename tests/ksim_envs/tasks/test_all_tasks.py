"""One list of properties over the eleven tasks, on native; Gymnasium's own v5 env says what there is to see.

The envs are those of `parity/test_gymnasium_trajectories.py`: in a run of all tests their programs are compiled once.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest

import ksim_envs
from ksim_envs.registration import GYMNASIUM_TASKS
from ksim_envs.runtime import quiet_mujoco

NUM_ENVS, NUM_STEPS = 5, 700
RECIPE = {"num_envs": NUM_ENVS, "backend": "native", "dynamics": "gymnasium", "autoreset_mode": "same_step"}
OURS = {"episode_return", "episode_length", "diverged"}
"""Keys of info that every env of ours has."""
FINAL = {"final_obs", "_final_obs", "final_info", "_final_info"}
UNNAMED_IN_GYMNASIUM = {"ksim/HumanoidStandup-v0": {"reward_survive"}}
"""Reward terms that v5 adds up without reporting them."""


def masses(start):
    """The tenth entry of each of 13 bodies' `cinert` is its mass."""
    return range(start + 9, start + 130, 10)


CONSTANT = {
    # and cfrc_ext of the torso, the last body to touch anything
    "ksim/Humanoid-v0": [*masses(45), *range(270, 276)],
    "ksim/HumanoidStandup-v0": [*masses(45)],
    # cfrc_ext of the stubs that join the legs to the torso, which stay off the floor while the ant is upright
    "ksim/Ant-v0": [element for body in (2, 5, 8, 11) for element in range(27 + 6 * (body - 1), 27 + 6 * body)],
    # the height of the object, which slides on the table, and the goal, which never moves
    "ksim/Pusher-v0": [19, 20, 21, 22],
    # the force of the rail's ends, which the cart does not reach before the pole has fallen
    "ksim/InvertedDoublePendulum-v0": [8],
}
"""Elements of the observation that random actions may leave as they are."""


@dataclass(frozen=True)
class Rollout:
    """What an env returned from a reset and from steps of random actions; leaves are (T, E, ...)."""

    first_obs: np.ndarray
    next_first_obs: np.ndarray
    first_info: dict
    obs: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    infos: list[dict]


_rollouts: dict[str, Rollout] = {}


@pytest.fixture(params=GYMNASIUM_TASKS)
def task_id(request):
    return request.param


@pytest.fixture
def env(task_id, make_env):
    return make_env(task_id, **RECIPE)


@pytest.fixture
def rollout(task_id, env):
    if task_id not in _rollouts:
        first_obs, first_info = env.reset(seed=0)
        env.action_space.seed(0)
        steps = [env.step(env.action_space.sample()) for _ in range(NUM_STEPS)]
        obs, reward, terminated, truncated, infos = zip(*steps, strict=True)
        ended = np.stack(terminated) | np.stack(truncated)
        _rollouts[task_id] = Rollout(
            first_obs, env.reset()[0], first_info, np.stack(obs), np.stack(reward), ended, list(infos)
        )
    return _rollouts[task_id]


@pytest.fixture
def gymnasium_env(task_id):
    with quiet_mujoco():  # two of the model files use an attribute that MuJoCo warns of
        env = gym.make(task_id.replace("ksim/", "").replace("-v0", "-v5"))
    env.reset(seed=0)
    yield env
    env.close()


def test_spaces_horizon_and_control_period_are_gymnasiums(task_id, env, gymnasium_env):
    assert env.single_observation_space.shape == gymnasium_env.observation_space.shape
    assert env.single_action_space == gymnasium_env.action_space
    assert env.episode_length == gymnasium_env.spec.max_episode_steps
    assert env.dt == pytest.approx(gymnasium_env.unwrapped.dt, rel=1e-12)


def test_info_has_gymnasiums_keys_and_the_episodes_own(task_id, rollout, gymnasium_env):
    gymnasium_info = set(gymnasium_env.step(gymnasium_env.action_space.sample())[4])
    assert gymnasium_info.isdisjoint(OURS)
    for info in (rollout.first_info, *rollout.infos):
        assert set(info) - FINAL == gymnasium_info | OURS | UNNAMED_IN_GYMNASIUM.get(task_id, set())


def test_no_element_of_the_observation_is_constant(task_id, rollout):
    elements = rollout.obs.reshape(-1, rollout.obs.shape[-1])
    assert set(np.flatnonzero(np.ptp(elements, axis=0) == 0)) <= {*CONSTANT.get(task_id, ())}


def test_every_start_is_another(rollout):
    starts = np.concatenate([rollout.first_obs, rollout.next_first_obs])
    assert len(np.unique(starts, axis=0)) == 2 * NUM_ENVS


def test_observations_and_rewards_are_finite_and_the_rewards_terms_add_up(task_id, env, rollout):
    assert np.isfinite(rollout.obs).all() and np.isfinite(rollout.reward).all()
    assert not any(info["diverged"].any() for info in rollout.infos)
    for info, reward, ended in zip(rollout.infos, rollout.reward, rollout.ended, strict=True):
        terms = sum(info.get("final_info", info)[name] for name in ksim_envs.get_task(task_id).rewards)
        np.testing.assert_allclose(terms, reward, rtol=1e-5, atol=1e-5)  # float32, in another order of addition
        assert not info["episode_length"][ended].any()


def test_the_end_of_the_rail_is_felt_by_the_double_pendulum(make_env):
    env = make_env("ksim/InvertedDoublePendulum-v0", **RECIPE)
    env.reset(seed=0, options={"qpos": [0.999, 0.0, 0.0], "qvel": [2.0, 0.0, 0.0]})
    obs, *_ = env.step(np.ones((NUM_ENVS, 1)))
    assert (obs[:, 8] < 0).all()
