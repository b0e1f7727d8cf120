"""RLlib's new API stack around a plain batch (`tox -e libraries`): no adapter is needed."""

import warnings

import numpy as np
import pytest

from tests.adapters.conftest import ID, LENGTH, NUM_ENVS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.rllib")
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def config():
    """PPO's, as README tells it to find our envs."""
    yield (
        PPOConfig()
        .environment(f"ksim_envs:{ID}", env_config={"episode_length": LENGTH})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=512, minibatch_size=128, num_epochs=2)
        .debugging(seed=0)
    )
    ray.shutdown()


def test_its_episodes_are_those_of_the_vector_env(config, monkeypatch):
    runner = SingleAgentEnvRunner(config=config)
    batch, began, steps = runner.env.unwrapped, [], []
    reset, step = batch.reset, batch.step
    monkeypatch.setattr(batch, "reset", lambda **keywords: began.append(reset(**keywords)[0]) or (began[0], {}))
    monkeypatch.setattr(batch, "step", lambda action: steps.append((action, *step(action))) or steps[-1][1:])
    found = [episode for episode in runner.sample(num_timesteps=100 * NUM_ENVS, random_actions=True)]

    expected, num_falls = [], 0
    for row in range(NUM_ENVS):
        observations, actions, rewards = [began[0][row]], [], []
        for action, obs, reward, terminated, truncated, _ in steps:
            if observations:
                actions.append(action[row])
                rewards.append(reward[row])
            observations.append(obs[row])  # of the step, or where the last one has ended the first of the next
            if terminated[row] or truncated[row]:
                expected.append((observations, actions, rewards, bool(terminated[row])))
                observations, actions, rewards = [], [], []
                num_falls += terminated[row]
        if actions:
            expected.append((observations, actions, rewards, False))
    assert len(began) == 1 and 0 < num_falls < len(expected) - NUM_ENVS
    in_order = sorted(found, key=lambda episode: episode.get_observations(0).tolist())
    for episode, wanted in zip(in_order, sorted(expected, key=lambda one: one[0][0].tolist()), strict=True):
        for got, values in zip((episode.observations, episode.actions, episode.rewards), wanted, strict=False):
            np.testing.assert_array_equal(got, np.array(values))
        assert episode.is_terminated == wanted[3]


def test_rllibs_ppo_trains_through_terminations_and_truncations(config):
    algorithm = config.build_algo()
    before = algorithm.get_module().state_dict()
    before = {name: leaf.clone() for name, leaf in before.items()}
    for _ in range(2):
        result = algorithm.train()
    after = algorithm.get_module().state_dict()
    assert all(np.isfinite(leaf).all() for leaf in after.values())
    assert any((after[name] != leaf).any() for name, leaf in before.items())
    longest, shortest = (result["env_runners"][f"episode_len_{which}"] for which in ("max", "min"))
    assert LENGTH <= longest <= LENGTH + 1 and shortest < LENGTH  # it counts a step twice where it cuts an episode
    algorithm.stop()
