"""`RlGamesVecEnv` against the real rl_games (`tox -e libraries`): its promises, and updates of its PPO."""

import warnings

import numpy as np
import pytest

from ksim_envs.errors import UnknownNameError
from tests.adapters.conftest import ID, LENGTH, NUM_ENVS, actions, first_fall, rollout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("rl_games")
    import torch
    from rl_games.torch_runner import Runner

    from ksim_envs.adapters.rl_games import RlGamesVecEnv

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def make(**keywords):
    return RlGamesVecEnv(NUM_ENVS, id=ID, **{"episode_length": LENGTH, **keywords})


def test_steps_equal_those_of_the_vector_env_and_only_truncations_are_time_outs():
    env, expected = make(seed=3), rollout(3, 100)
    np.testing.assert_array_equal(env.reset(), expected[0][0])
    num_time_outs = num_falls = 0
    for action, (obs, reward, terminated, truncated, _) in zip(actions(100), expected[1:], strict=True):
        got, got_reward, done, info = env.step(torch.from_numpy(action))
        np.testing.assert_array_equal(got, obs)
        np.testing.assert_array_equal(got_reward, reward)
        np.testing.assert_array_equal(done, terminated | truncated)
        np.testing.assert_array_equal(info["time_outs"], truncated & ~terminated)
        num_time_outs += int(info["time_outs"].sum())
        num_falls += int(terminated.sum())
    assert num_time_outs > 0 and num_falls > 0


def test_a_fall_in_the_last_step_of_an_episode_is_no_time_out():
    length, row = first_fall(3)
    env = make(seed=3, episode_length=length)
    env.reset()
    for action in actions(length):
        *_, done, info = env.step(torch.from_numpy(action))
    assert done.all() and not info["time_outs"][row] and info["time_outs"].any()


def test_a_row_whose_physics_diverges_is_a_time_out_and_goes_on():
    env = make(seed=0)
    env.reset()
    mask = np.arange(NUM_ENVS) == 2
    env.env.reset(options={"reset_mask": mask, "qvel": np.full(6, 1e9)})
    obs, reward, done, info = env.step(torch.zeros(NUM_ENVS, 3))
    np.testing.assert_array_equal(done, mask)
    np.testing.assert_array_equal(info["time_outs"], mask)
    assert reward[2] == 0 and torch.isfinite(obs).all()
    assert not env.step(torch.zeros(NUM_ENVS, 3))[2].any()


def test_a_policy_may_be_on_another_device():
    env = make(seed=0, privileged=["x_velocity"], policy_device="meta")
    obs = env.reset()
    obs_after, reward, done, info = env.step(torch.zeros(NUM_ENVS, 3))
    seen = (*obs.values(), *obs_after.values(), reward, done, info["time_outs"])
    assert {leaf.device.type for leaf in seen} == {"meta"}


def test_privileged_metrics_are_states_for_a_central_value_function():
    env, expected = make(seed=3, privileged=["x_velocity"]), rollout(3, 100)
    assert env.get_env_info()["state_space"].shape == (12,) and env.get_env_info()["observation_space"].shape == (11,)
    env.reset()
    got = env.step(torch.from_numpy(actions(1)[0]))[0]
    obs, *_, info = expected[1]
    np.testing.assert_array_equal(got["obs"], obs)
    np.testing.assert_array_equal(got["states"], np.concatenate([obs, info["x_velocity"][:, None]], axis=1))
    with pytest.raises(UnknownNameError, match="x_velocit"):
        make(privileged=["x_velocit"])


NETWORK = {
    "name": "actor_critic",
    "separate": False,
    "space": {
        "continuous": {
            "mu_activation": "None",
            "sigma_activation": "None",
            "mu_init": {"name": "default"},
            "sigma_init": {"name": "const_initializer", "val": 0},
            "fixed_sigma": True,
        }
    },
    "mlp": {"units": [16], "activation": "elu", "initializer": {"name": "default"}},
}
CONFIG = {
    "name": "test",
    "env_name": "ksim",
    "env_config": {"id": ID, "episode_length": LENGTH},
    "num_actors": NUM_ENVS,
    "device": "cpu",
    "ppo": True,
    "mixed_precision": False,
    "normalize_input": True,
    "normalize_value": True,
    "normalize_advantage": True,
    "value_bootstrap": True,
    "reward_shaper": {"scale_value": 0.1},
    "gamma": 0.99,
    "tau": 0.95,
    "learning_rate": 1e-3,
    "lr_schedule": "adaptive",
    "kl_threshold": 0.01,
    "max_epochs": 2,
    "horizon_length": 64,
    "minibatch_size": 128,
    "mini_epochs": 2,
    "critic_coef": 1,
    "clip_value": True,
    "e_clip": 0.2,
    "entropy_coef": 0.0,
    "truncate_grads": True,
    "grad_norm": 1.0,
    "bounds_loss_coef": 0.0,
    "save_best_after": 100,
    "save_frequency": 0,
    "print_stats": False,
}


CENTRAL_VALUE = {
    "minibatch_size": 128,
    "mini_epochs": 2,
    "learning_rate": 1e-3,
    "clip_value": True,
    "normalize_input": True,
    "truncate_grads": True,
    "grad_norm": 1.0,
    "network": {"name": "actor_critic", "central_value": True, "mlp": NETWORK["mlp"]},
}


def trained(folder, **changes):
    """An agent after two updates, and the names of its networks' arrays that stayed as they were."""
    runner = Runner()
    params = {"seed": 0, "algo": {"name": "a2c_continuous"}, "model": {"name": "continuous_a2c_logstd"}}
    config = {**CONFIG, "train_dir": str(folder), **changes}
    runner.load({"params": {**params, "network": NETWORK, "config": config}})
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    networks = [agent.model, *([agent.central_value_net] if agent.has_central_value else [])]
    weights = [pair for network in networks for pair in network.named_parameters()]
    before = [leaf.detach().clone() for _, leaf in weights]
    agent.train()
    assert all(torch.isfinite(leaf).all() for _, leaf in weights)
    return agent, [name for (name, leaf), old in zip(weights, before, strict=True) if torch.equal(leaf, old)]


def test_rl_games_ppo_trains_through_terminations_and_time_outs(tmp_path):
    agent, unchanged = trained(tmp_path)
    assert unchanged == [] and agent.game_lengths.current_size > NUM_ENVS


def test_a_central_value_function_learns_from_the_states(tmp_path):
    env_config = {**CONFIG["env_config"], "privileged": ["x_velocity"]}
    agent, unchanged = trained(tmp_path, env_config=env_config, central_value_config=CENTRAL_VALUE)
    assert unchanged == [] and agent.central_value_net.state_shape == (12,)


def test_rl_games_player_plays(tmp_path):
    runner = Runner()
    params = {"seed": 0, "algo": {"name": "a2c_continuous"}, "model": {"name": "continuous_a2c_logstd"}}
    config = {**CONFIG, "train_dir": str(tmp_path), "device_name": "cpu", "player": {"games_num": 2}}
    runner.load({"params": {**params, "network": NETWORK, "config": config}})
    player = runner.create_player()
    player.run()
    assert player.env.env.num_envs == 1
    player.env.close()
