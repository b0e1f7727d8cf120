"""`KsimVecEnv` against the real Stable-Baselines3 and SBX: its promises to them, and what they make of it."""

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

import ksim_envs
from ksim_envs.errors import InvalidConfigError, InvalidOptionError, UnknownNameError
from tests.adapters.conftest import ID, LENGTH, NUM_ENVS, actions, first_fall, make

pytest.importorskip("stable_baselines3")
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)

from ksim_envs.adapters import sb3
from ksim_envs.adapters.sb3 import KsimVecEnv


@pytest.fixture(autouse=True)
def _log_folder(tmp_path, monkeypatch):
    """SB3 makes one for each training, and leaves it."""
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path))


@pytest.fixture
def env():
    wrapped = KsimVecEnv(make())
    yield wrapped
    wrapped.close()


# The numbers


@pytest.mark.parametrize("is_remote", [False, True])
def test_steps_and_episode_ends_are_those_of_the_vector_env(env, is_remote, monkeypatch):
    monkeypatch.setattr(env, "_is_remote", is_remote)
    env.seed(5)
    twin = make(autoreset_mode="same_step")
    obs, _ = twin.reset(seed=[5 + i for i in range(NUM_ENVS)])
    np.testing.assert_array_equal(env.reset(), obs)
    num_truncated = num_terminated = 0
    for action in actions(100):
        obs, reward, done, infos = env.step(action)
        expected, expected_reward, terminated, truncated, info = twin.step(action)
        np.testing.assert_array_equal(obs, expected)
        np.testing.assert_array_equal(reward, expected_reward)
        np.testing.assert_array_equal(done, terminated | truncated)
        for i in range(NUM_ENVS):
            if not done[i]:
                assert infos[i] == {}
                continue
            last, final = infos[i], info["final_info"]
            assert set(last) == {"terminal_observation", "TimeLimit.truncated", "episode"}
            np.testing.assert_array_equal(last["terminal_observation"], info["final_obs"][i])
            assert last["TimeLimit.truncated"] == (truncated[i] and not terminated[i])
            assert (last["episode"]["r"], last["episode"]["l"]) == (final["episode"]["r"][i], final["episode"]["l"][i])
        num_truncated += truncated.sum()
        num_terminated += terminated.sum()
    assert num_truncated > 3 and num_terminated > 3
    twin.close()


def test_what_a_step_returns_is_the_callers(env):
    obs = env.reset()
    kept = []
    for action in actions(40):
        obs, reward, done, infos = env.step(action)
        assert (obs.dtype, reward.dtype, done.dtype) == (np.float32, np.float32, bool)
        finals = [i["terminal_observation"] for i in infos if i]
        kept += [(leaf, leaf.copy()) for leaf in (obs, *finals)]
        reward += 1.0  # SB3 adds the bootstrapped value in place
        action[:] = np.nan
    assert len(kept) > 40 and all(np.isfinite(leaf).all() for leaf, _ in kept)
    for leaf, copy in kept:
        np.testing.assert_array_equal(leaf, copy)


def test_a_fall_in_the_last_step_of_an_episode_is_no_time_limit(env):
    env.env.episode_length, row = first_fall(3)
    env.env.reset(seed=3)
    for action in actions(env.env.episode_length):
        _, _, done, infos = env.step(action)
    assert done.all() and not infos[row]["TimeLimit.truncated"]
    assert any(info["TimeLimit.truncated"] for info in infos)


def test_a_row_whose_physics_diverges_counts_as_truncated_and_goes_on():
    env = KsimVecEnv(make(), info_keys=("diverged",))
    env.reset()
    mask = np.arange(NUM_ENVS) == 2
    env.env.reset(options={"reset_mask": mask, "qvel": np.full(6, 1e9)})
    obs, reward, done, infos = env.step(np.zeros((NUM_ENVS, 3), np.float32))
    np.testing.assert_array_equal(done, mask)
    assert infos[2]["TimeLimit.truncated"] and infos[2]["diverged"] and reward[2] == 0
    assert np.isfinite(obs).all() and np.isfinite(infos[2]["terminal_observation"]).all()
    assert not env.step(np.zeros((NUM_ENVS, 3), np.float32))[2].any()


def test_more_episodes_may_end_at_once_than_fit_into_one_transfer(monkeypatch):
    monkeypatch.setattr(sb3, "MAX_ENDED", 3)
    env, twin = KsimVecEnv(make(episode_length=4)), make(episode_length=4, autoreset_mode="same_step")
    monkeypatch.setattr(env, "_is_remote", True)
    env.seed(0)
    env.reset()
    twin.reset(seed=list(range(NUM_ENVS)))
    for action in actions(4):
        _, _, done, infos = env.step(action)
        *_, info = twin.step(action)
    assert done.all()
    np.testing.assert_array_equal([i["terminal_observation"] for i in infos], info["final_obs"])
    assert all(i["TimeLimit.truncated"] and i["episode"]["l"] == 4 for i in infos)


def test_one_transfer_for_each_step_from_an_accelerator(env, monkeypatch):
    monkeypatch.setattr(env, "_is_remote", True)
    env.reset()
    count = []
    export = env._to_numpy
    monkeypatch.setattr(env, "_to_numpy", lambda tree: count.append(1) or export(tree))
    num_ended = sum(env.step(action)[2].sum() for action in actions(60))
    assert num_ended > 5 and len(count) == 60


def test_staggered_first_episodes_do_not_end_together():
    env = KsimVecEnv(make(stagger_first_episodes=True, episode_length=NUM_ENVS))
    env.reset()
    ended = np.array([env.step(np.zeros((NUM_ENVS, 3), np.float32))[2] for _ in range(3 * NUM_ENVS)])
    assert (ended[:NUM_ENVS] == np.eye(NUM_ENVS, dtype=bool)).all()
    assert (ended.sum(axis=1) == 1).all()
    env.reset()  # as a second `learn` does
    assert [env.step(np.zeros((NUM_ENVS, 3), np.float32))[2].sum() for _ in range(NUM_ENVS)] == [1] * NUM_ENVS


def test_infos_can_have_metrics_and_reward_terms_of_the_episodes_last_step():
    env = KsimVecEnv(make(), info_keys=("x_position", "reward_survive", "diverged"))
    env.reset()
    assert all(info.keys() > {"x_position"} for info in env.reset_infos)
    ended = []
    for action in actions(40):
        *_, done, infos = env.step(action)
        ended += [i for i in infos if i]
        for row in np.flatnonzero(done):  # as in SB3's own, a row's `reset_infos` are those of its present episode
            assert env.reset_infos[row].keys() == {"x_position", "reward_survive", "diverged"}
            assert env.reset_infos[row]["x_position"] == env.env.physics_state()["qpos"][row, 0].astype(np.float32)
    assert len(ended) > 5
    assert all({"x_position", "reward_survive", "diverged"} <= i.keys() for i in ended)
    assert {float(i["reward_survive"]) for i in ended} <= {0.0, 1.0} and not any(i["diverged"] for i in ended)
    with pytest.raises(UnknownNameError, match="x_positio'.*Did you mean 'x_position'"):
        KsimVecEnv(make(), info_keys=("x_positio",))


# Seeds, options, attributes


def test_seeds_and_options_are_used_once(env):
    env.seed(1)
    first = env.reset()
    assert not np.array_equal(first, env.reset())
    env.seed(1)
    np.testing.assert_array_equal(first, env.reset())
    qpos = np.tile(env.env.mj_model.qpos0, (NUM_ENVS, 1)) + 0.01 * np.arange(NUM_ENVS)[:, None]
    env.set_options([{"qpos": row} for row in qpos])
    np.testing.assert_allclose(env.reset()[:, :5], qpos[:, 1:], atol=1e-6)
    assert np.abs(env.reset()[:, :5] - qpos[:, 1:]).max() > 1e-3


def test_options_of_different_shapes_are_refused(env):
    env.set_options([{"qpos": np.zeros(6 + i)} for i in range(NUM_ENVS)])
    with pytest.raises(InvalidOptionError, match="values of the same length for every env"):
        env.reset()


@pytest.mark.parametrize("options", [[{"qpos": 0}] + [{}] * (NUM_ENVS - 1), {"reset_mask": True}])
def test_options_that_a_batch_cannot_have_are_refused(env, options):
    env.set_options(options)
    with pytest.raises(InvalidOptionError, match="give every env the same options"):
        env.reset()


def test_attributes_and_methods_are_those_of_the_batch(env):
    env.reset()
    assert env.get_attr("action_space") == [env.action_space] * NUM_ENVS
    assert env.get_attr("episode_length", indices=[0, 3]) == [LENGTH, LENGTH]
    assert env.get_attr("episode_steps") == [0] * NUM_ENVS
    assert [info["x_position"].shape for info in env.reset_infos] == [()] * NUM_ENVS
    assert env.metadata["render_fps"] == 125
    of_row_3 = env.env_method("physics_state", indices=3)[0]
    np.testing.assert_array_equal(of_row_3["qpos"], env.env.physics_state()["qpos"][3])
    assert of_row_3.keys() == {"qpos", "qvel", "time"} and env.env_method("fault_counts")[0]["overflow"] == 0
    assert env.has_attr("dt") and not env.has_attr("nothing")
    env.set_attr("episode_length", 5)
    assert env.env.episode_length == 5
    for change in (lambda: env.set_attr("episode_length", 6, indices=0), lambda: env.env_method("reset", indices=[0])):
        with pytest.raises(InvalidConfigError, match="leave indices out"):
            change()
    assert env.has_attr("close") and not env.env.closed
    assert env.env_is_wrapped(Monitor, [0]) == [True] and env.env_is_wrapped(gym.Wrapper, [0, 1]) == [False, False]


def test_sb3_tiles_the_frames_of_the_rendered_envs(monkeypatch):
    env = KsimVecEnv(make(render_mode="rgb_array", num_rendered_envs=4))
    monkeypatch.setattr(env.env, "render", lambda: tuple(np.full((2, 2, 3), i, np.uint8) for i in range(4)))
    expected = np.repeat(np.repeat([[0, 1], [2, 3]], 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(env.render(), np.repeat(expected[..., None], 3, axis=2))


def test_sb3_records_a_video(monkeypatch, tmp_path):
    pytest.importorskip("moviepy")
    batch = make(render_mode="rgb_array")
    monkeypatch.setattr(batch, "render", lambda: (np.zeros((32, 32, 3), np.uint8),))  # needs no GL
    env = VecVideoRecorder(KsimVecEnv(batch), str(tmp_path), lambda step: step == 0, video_length=3)
    env.reset()
    for action in actions(4):
        env.step(action)
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def test_a_batch_that_somebody_has_set_otherwise_is_refused_until_it_is_set_back(env):
    env.reset()
    for name, value, needed in (("autoreset_mode", "next_step", "same_step"), ("output", "numpy", "jax")):
        env.set_attr(name, value)
        with pytest.raises(InvalidConfigError, match=f"{name}='{value}'.* needs .*'{needed}'.*set them back"):
            env.step(actions(1)[0])
        env.set_attr(name, needed)
    env.step(actions(1)[0])


def test_make_vec_env_makes_a_batch_like_the_first_env():
    env = make_vec_env(ID, 4, seed=7, env_kwargs={"episode_length": 9}, vec_env_cls=KsimVecEnv)
    assert (env.num_envs, env.env.episode_length, env.env.backend) == (4, 9, "native")
    expected, _ = ksim_envs.make(ID, 4).reset(seed=[7, 8, 9, 10])
    np.testing.assert_array_equal(env.reset(), expected)


@pytest.mark.parametrize(
    "limit",
    [
        {"env_kwargs": {"max_episode_steps": 9}},
        {"wrapper_class": TimeLimit, "wrapper_kwargs": {"max_episode_steps": 9}},
    ],
)
def test_a_time_limit_around_the_env_is_that_of_the_batch(limit):
    assert make_vec_env(ID, 4, vec_env_cls=KsimVecEnv, **limit).env.episode_length == 9


def test_what_only_a_batch_takes_goes_into_make_vec_envs_vec_env_kwargs():
    env = make_vec_env(ID, 4, vec_env_cls=KsimVecEnv, vec_env_kwargs={"num_threads": 1, "episode_length": 9})
    assert env.env.episode_length == 9 and env.env.core.backend.num_threads == 1
    with pytest.raises(InvalidConfigError, match="stagger_first_episodes= is for a batch .*vec_env_kwargs"):
        make_vec_env(ID, 4, vec_env_cls=KsimVecEnv, env_kwargs={"stagger_first_episodes": True})
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_thread'. Did you mean 'num_threads'"):
        make_vec_env(ID, 4, vec_env_cls=KsimVecEnv, vec_env_kwargs={"num_thread": 1})
    with pytest.raises(InvalidConfigError, match="the batch is made already; pass num_threads to"):
        KsimVecEnv(make(), num_threads=1)
    with pytest.raises(InvalidConfigError, match="takes a batch, .* or functions that make envs, not <"):
        KsimVecEnv([gym.make(ID)])


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"env_id": "CartPole-v1"}, "batches single envs of gym.make"),
        ({"env_id": ID, "wrapper_class": gym.wrappers.ClipAction}, "cannot apply ClipAction"),
        ({"env_id": ID, "monitor_dir": "logs"}, "VecMonitor"),
        ({"env_id": ID, "monitor_kwargs": {"info_keywords": ("x_position",)}}, r"pass info_keys=\('x_position',\)"),
    ],
)
def test_make_vec_env_refuses_what_a_batch_would_drop(keywords, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidConfigError, match=words):
        make_vec_env(**keywords, n_envs=2, vec_env_cls=KsimVecEnv)


# The libraries


def weights(model):
    """All that SB3 or SBX trains, as it is now."""
    if hasattr(model.policy, "actor_state"):
        return jax.tree.leaves((model.policy.actor_state.params, model.policy.vf_state.params))
    return [leaf.detach().numpy().copy() for leaf in model.policy.parameters()]


def assert_it_learned(model, before):
    """Every weight array has changed, none has left the numbers, and episodes have ended in both ways."""
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert max(lengths) == LENGTH and min(lengths) < LENGTH
    for old, new in zip(before, weights(model), strict=True):
        assert np.isfinite(new).all() and (new != old).any()


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC])
def test_sb3_trains_through_terminations_and_truncations(algorithm):
    settings = {PPO: {"n_steps": 32, "batch_size": 64}, A2C: {"n_steps": 16}, SAC: {"learning_starts": 64}}[algorithm]
    model = algorithm(
        "MlpPolicy", KsimVecEnv(make()), seed=0, device="cpu", policy_kwargs={"net_arch": [16]}, **settings
    )
    before = weights(model)
    model.learn(1024)
    assert_it_learned(model, before)


@pytest.mark.filterwarnings("ignore:jax.core:DeprecationWarning")  # of TensorFlow Probability, which SBX imports
def test_sbx_trains_through_terminations_and_truncations():
    from sbx import PPO as SBXPPO

    model = SBXPPO("MlpPolicy", KsimVecEnv(make()), seed=0, n_steps=32, batch_size=64, policy_kwargs={"net_arch": [16]})
    before = weights(model)
    model.learn(1024)
    assert_it_learned(model, before)


def test_sb3s_own_wrappers_and_evaluation_work():
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(KsimVecEnv(make()))
    env = VecFrameStack(VecNormalize(VecCheckNan(monitored, raise_exception=True)), 2)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=64, seed=0, device="cpu")
    model.learn(512)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=NUM_ENVS)
    assert 0 < mean < 10 * LENGTH


def test_a_run_is_evaluated_saved_and_loaded_with_its_normalization(tmp_path):
    env, evaluated = VecNormalize(KsimVecEnv(make())), VecNormalize(KsimVecEnv(make()), training=False)
    callback = EvalCallback(evaluated, eval_freq=32, n_eval_episodes=4, log_path=str(tmp_path), verbose=0, warn=False)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=64, seed=0, device="cpu", policy_kwargs={"net_arch": [16]})
    model.learn(512, callback=callback)
    assert len(callback.evaluations_results) == 2 and np.isfinite(callback.evaluations_results).all()
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "statistics"))
    loaded = VecNormalize.load(str(tmp_path / "statistics"), KsimVecEnv(make()))
    again = PPO.load(tmp_path / "model", loaded, device="cpu")
    obs = np.ones((NUM_ENVS, 11), np.float32)
    seen = [
        each.predict(norm.normalize_obs(obs), deterministic=True)[0] for each, norm in ((model, env), (again, loaded))
    ]
    np.testing.assert_array_equal(*seen)
    again.learn(512)


def test_a_bare_batch_is_refused_by_the_adapters_name(envs):
    for use in (PPO("MlpPolicy", envs).learn, lambda _: DummyVecEnv([lambda: envs]).reset()):
        with pytest.raises(InvalidConfigError, match=r"takes this batch for a single env.*KsimVecEnv\(env\)"):
            use(64)
