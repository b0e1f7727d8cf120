"""`RslRlVecEnv` against the real rsl_rl: its promises, and two iterations of the runner."""

from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, InvalidOptionError, UnknownNameError
from tests.adapters.conftest import ID, LENGTH, NUM_ENVS, actions, first_fall, make, rollout

pytest.importorskip("rsl_rl")
import torch
from rsl_rl.runners import OnPolicyRunner

from ksim_envs.adapters.rsl_rl import RslRlVecEnv

MODEL = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu", "obs_normalization": True}
CONFIG = {
    "seed": 0,
    "num_steps_per_env": 24,
    "save_interval": 100,
    "obs_groups": {"actor": ["policy"], "critic": ["critic"]},
    "algorithm": {
        "class_name": "PPO",
        "num_learning_epochs": 2,
        "num_mini_batches": 2,
        "rnd_cfg": None,
        "symmetry_cfg": None,
    },
    "actor": {**MODEL, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.5}},
    "critic": MODEL,
}


def test_steps_equal_those_of_the_vector_env_and_only_truncations_are_time_outs(envs):
    env = RslRlVecEnv(envs, seed=3, privileged=("x_velocity", "x_position"))
    expected = rollout(3, 100)
    num_time_outs = 0
    for action, (obs, reward, terminated, truncated, info) in zip([None, *actions(100)], expected, strict=True):
        if action is None:
            observations = env.get_observations()
        else:
            observations, got, dones, extras = env.step(torch.from_numpy(action))
            np.testing.assert_array_equal(got, reward)
            np.testing.assert_array_equal(dones, terminated | truncated)
            np.testing.assert_array_equal(extras["time_outs"], truncated & ~terminated)
            num_time_outs += int(extras["time_outs"].sum())
            names = ("Fault/diverged", *(f"Reward/{name}" for name in env.env.core.task.rewards))
            assert extras["log"].keys() == set(names) and extras["log"]["Fault/diverged"] == 0
            np.testing.assert_allclose(sum(extras["log"].values()), reward.mean(), rtol=1e-5, atol=1e-6)
        assert observations.batch_size == (NUM_ENVS,)
        np.testing.assert_array_equal(observations["policy"], obs)
        critic = np.concatenate([obs, info["x_velocity"][:, None], info["x_position"][:, None]], axis=1)
        np.testing.assert_array_equal(observations["critic"], critic)
    assert num_time_outs > 0


def test_no_result_is_copied_on_its_way(envs, exported):
    observations, reward, *_ = RslRlVecEnv(envs).step(torch.zeros(NUM_ENVS, 3))
    assert {observations["policy"].data_ptr(), reward.data_ptr()} <= exported


def test_a_row_whose_physics_diverges_is_a_time_out_and_goes_on(envs):
    env = RslRlVecEnv(envs, seed=0)
    mask = np.arange(NUM_ENVS) == 2
    envs.reset(options={"reset_mask": mask, "qvel": np.full(6, 1e9)})
    observations, reward, dones, extras = env.step(torch.zeros(NUM_ENVS, 3))
    np.testing.assert_array_equal(extras["time_outs"], mask)
    np.testing.assert_array_equal(dones, mask)
    assert reward[2] == 0 and torch.isfinite(observations["policy"]).all()
    assert extras["log"]["Fault/diverged"] == 1 / NUM_ENVS
    assert not env.step(torch.zeros(NUM_ENVS, 3))[2].any()


def test_a_fall_in_the_last_step_of_an_episode_is_no_time_out(envs):
    envs.episode_length, row = first_fall(3)
    env = RslRlVecEnv(envs, seed=3)
    for action in actions(envs.episode_length):
        *_, dones, extras = env.step(torch.from_numpy(action))
    assert dones.all() and not extras["time_outs"][row] and extras["time_outs"].any()


def test_looking_at_the_observations_changes_nothing(envs):
    env = RslRlVecEnv(envs, seed=3)
    first = env.get_observations()["policy"].clone()
    assert all(torch.equal(env.get_observations()["policy"], first) for _ in range(3))
    np.testing.assert_array_equal(env.step(torch.from_numpy(actions(1)[0]))[0]["policy"], rollout(3, 100)[1][0])


def test_episode_lengths_can_be_read_and_set(envs):
    env = RslRlVecEnv(envs, seed=0)
    assert (env.max_episode_length, env.episode_length_buf.dtype) == (LENGTH, torch.long)
    env.episode_length_buf = torch.arange(NUM_ENVS) + LENGTH - NUM_ENVS
    ended = torch.stack([env.step(torch.zeros(NUM_ENVS, 3))[3]["time_outs"] for _ in range(NUM_ENVS)])
    np.testing.assert_array_equal(ended, np.eye(NUM_ENVS)[::-1])
    assert env.episode_length_buf.tolist() == list(range(NUM_ENVS))
    with pytest.raises(
        InvalidOptionError, match=rf"lies in \[{LENGTH}, {LENGTH}\]; it must lie in \[0, {LENGTH - 1}\]"
    ):
        env.episode_length_buf = torch.full((NUM_ENVS,), LENGTH)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_runner_trains_through_terminations_and_time_outs(envs, tmp_path):
    env = RslRlVecEnv(envs, privileged=("x_velocity",))
    runner = OnPolicyRunner(env, CONFIG, log_dir=str(tmp_path))
    before = [leaf.clone() for leaf in runner.alg.get_policy().parameters()]
    runner.learn(2, init_at_random_ep_len=True)
    after = list(runner.alg.get_policy().parameters())
    assert all(torch.isfinite(leaf).all() for leaf in after)
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert len(runner.logger.lenbuffer) > 0


def test_what_rsl_rls_extensions_ask_for(envs):
    env = RslRlVecEnv(envs, seed=3)
    assert env.unwrapped.step_dt == envs.dt
    first = env.get_observations()["policy"].clone()
    env.step(torch.zeros(NUM_ENVS, 3))
    np.testing.assert_array_equal(env.reset(seed=3)["policy"], first)


def test_what_is_logged_about_the_envs_is_a_dataclass(envs):
    logged = asdict(RslRlVecEnv(envs).cfg)
    assert logged == {"id": ID, "num_envs": NUM_ENVS, "backend": "native", "episode_length": LENGTH}


@pytest.mark.parametrize("env", [None, gym.make("CartPole-v1")])
def test_what_is_no_batch_of_ours_is_refused(env):
    with pytest.raises(InvalidConfigError, match=r"make one with gym\.make\(id, num_envs=\.\.\.\)"):
        RslRlVecEnv(env)


def test_an_unknown_metric_is_refused_before_anything_changes():
    batch = make(autoreset_mode="disabled")
    with pytest.raises(UnknownNameError, match="x_velocit"):
        RslRlVecEnv(batch, privileged=("x_velocit",))
    assert batch.autoreset_mode.name == "DISABLED"
