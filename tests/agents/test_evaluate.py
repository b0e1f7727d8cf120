"""Evaluations: what they count, in our envs and in Gymnasium's own."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from agents.evaluate import REPORT_STREAM, Evaluation, Evaluator, evaluate_in_gymnasium
from agents.ppo import Policy, PolicyState, PPOConfig
from agents.ppo.networks import ActorCritic
from ksim_envs import get_task
from ksim_envs.building import make_core
from ksim_envs.errors import InvalidConfigError
from ksim_envs.keys import root_keys
from ksim_envs.moments import Moments
from ksim_envs.tasks.measures import Constant
from ksim_envs.tasks.observations import Coordinate, Field

TASK = "ksim/InvertedPendulum-v0"


@pytest.fixture(scope="module")
def core():
    return make_core(get_task(TASK), 16, backend="native", dynamics="gymnasium")


@pytest.fixture(scope="module")
def policy(core):
    """Untrained: it lets the pole fall."""
    config = PPOConfig(hidden_sizes=(8,))
    model = ActorCritic(core.num_observations, 0, core.num_actions, config, root_keys([0])[0])
    return PolicyState.of(model, Moments.empty(core.num_observations), *core.action_bounds)


def test_each_env_counts_one_episode(core, policy):
    evaluation = Evaluator(core, 0)(policy)
    assert evaluation.return_E.shape == (16,)
    np.testing.assert_array_equal(evaluation.return_E, evaluation.length_E - 1)  # 1 for each step but the last
    assert (evaluation.metrics()["num_diverged"], evaluation.metrics()["terminated_share"]) == (0, 1)
    assert len(set(evaluation.length_E)) > 1


def test_the_same_seed_gives_the_same_episodes_and_another_stream_others(core, policy):
    first = Evaluator(core, 0)(policy)
    np.testing.assert_array_equal(Evaluator(core, 0)(policy).return_E, first.return_E)
    assert np.any(Evaluator(core, 0, REPORT_STREAM)(policy).return_E != first.return_E)


class Linear:
    """A policy with gains so large that the envs fall in different steps; the same bits for one env and for many."""

    gain_AL = np.random.default_rng(0).normal(0.0, 10.0, (3, 11))
    gain_AL[:, 0] = 0.0  # the height, which differs least

    def reset(self):
        pass

    def __call__(self, obs):
        return (self.gain_AL * obs[..., None, :]).sum(axis=-1)


def hopper_episode(seed, limit):
    """Return, length and whether it terminated, in a plain loop over one env of Gymnasium's."""
    env, policy = gym.make("Hopper-v5", max_episode_steps=limit), Linear()
    obs, _ = env.reset(seed=seed)
    total, length, ended = 0.0, 0, False
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(policy(obs))
        total, length, ended = total + reward, length + 1, terminated or truncated
    env.close()
    return total, length, terminated


def test_an_evaluation_in_gymnasium_is_that_of_single_envs(monkeypatch):
    limit = max(hopper_episode(seed, 1000)[1] for seed in range(7, 13)) - 1  # so that one is cut
    monkeypatch.setattr(gym.spec("Hopper-v5"), "max_episode_steps", limit)
    evaluation = evaluate_in_gymnasium(Linear(), "ksim/Hopper-v0", 6, seed=7)
    returns, lengths, terminated = zip(*(hopper_episode(seed, limit) for seed in range(7, 13)), strict=True)
    assert len(set(lengths)) > 1 and set(terminated) == {False, True}
    np.testing.assert_array_equal(evaluation.return_E, returns)
    np.testing.assert_array_equal(evaluation.length_E, lengths)
    np.testing.assert_array_equal(evaluation.terminated_E, terminated)
    assert not evaluation.diverged_E.any()


def test_our_policies_act_in_gymnasiums_envs(policy):
    evaluation = evaluate_in_gymnasium(Policy(policy), TASK, 4, seed=0)
    np.testing.assert_array_equal(evaluation.return_E, evaluation.length_E - 1)  # 1 for each step but the last
    assert evaluation.terminated_E.all()


def test_diverged_episodes_do_not_count_as_returns():
    evaluation = Evaluation(
        return_E=np.array([1.0, 3.0, 1e6]),
        length_E=np.array([10, 20, 1]),
        terminated_E=np.array([True, False, False]),
        diverged_E=np.array([False, False, True]),
        metric_E={"speed": np.array([0.5, 1.5, 99.0])},
    )
    metrics = evaluation.metrics()
    assert (metrics["return_mean"], metrics["return_max"], metrics["length_mean"]) == (2.0, 3.0, 15.0)
    assert (metrics["num_diverged"], metrics["terminated_share"], metrics["speed"]) == (1, 0.5, 1.0)
    none = np.ones(1)
    all_diverged = Evaluation(return_E=none, length_E=none, terminated_E=none > 1, diverged_E=none > 0)
    assert np.isnan(all_diverged.metrics()["return_mean"])


def test_a_tasks_scalar_metrics_are_averaged_over_the_steps_of_each_episode(policy):
    task = replace(get_task(TASK), metrics={"position": Coordinate(0), "speeds": Field("qvel"), "one": Constant(1.0)})
    evaluation = Evaluator(make_core(task, 16, backend="native", dynamics="gymnasium"), 0)(policy)
    assert set(evaluation.metric_E) == {"position", "one"}
    np.testing.assert_allclose(evaluation.metric_E["one"], 1.0)
    assert len(set(evaluation.metric_E["position"])) > 1


def test_a_task_that_gymnasium_does_not_have_is_refused():
    with pytest.raises(InvalidConfigError, match="no env of its own for 'ksim/KBotWalk-v0'"):
        evaluate_in_gymnasium(None, "ksim/KBotWalk-v0", 1, 0)


def test_an_evaluation_in_gymnasium_leaves_no_log(tmp_path, monkeypatch, capfd):
    """MuJoCo writes a file into the working directory that this model file is deprecated."""
    monkeypatch.chdir(tmp_path)

    class Still:
        def __call__(self, obs):
            return np.zeros((len(obs), 6))

        def reset(self):
            pass

    evaluation = evaluate_in_gymnasium(Still(), "ksim/HalfCheetah-v0", 1, 0)
    assert evaluation.length_E.tolist() == [1000]
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr().err == ""
