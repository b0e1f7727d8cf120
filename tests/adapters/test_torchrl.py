"""TorchRL's own `GymWrapper` around a plain batch: no adapter is needed."""

import warnings

import numpy as np
import pytest

from tests.adapters.conftest import NUM_ENVS, make

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torchrl")
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", ["same_step", "disabled"])
def test_the_specs_hold(mode, output):
    env = GymWrapper(make(autoreset_mode=mode, output=output))
    assert env.batch_size == (NUM_ENVS,)
    check_env_specs(env)


def test_a_rollout_holds_what_the_vector_env_returns_and_the_true_last_observations():
    env, twin = GymWrapper(make(autoreset_mode="same_step")), make(autoreset_mode="same_step")
    env.set_seed(0)
    rollout = env.rollout(100, break_when_any_done=False)
    twin.reset(seed=0)
    obs, _ = twin.reset()  # set_seed was a reset too
    np.testing.assert_array_equal(rollout["observation"][:, 0], obs)
    num_ended = 0
    for step in rollout.unbind(1):
        obs, reward, terminated, truncated, info = twin.step(step["action"].numpy())
        ended = terminated | truncated
        num_ended += ended.sum()
        last = np.where(ended[:, None], info["final_obs"], obs) if ended.any() else obs
        np.testing.assert_array_equal(step["next", "observation"], last)
        np.testing.assert_array_equal(step["next", "reward"].squeeze(-1), reward)
        np.testing.assert_array_equal(step["next", "terminated"].squeeze(-1), terminated)
        np.testing.assert_array_equal(step["next", "truncated"].squeeze(-1), truncated)
    assert num_ended > NUM_ENVS


def test_a_rollout_without_autoreset_holds_the_true_observations_and_resets_what_ended():
    env, twin = GymWrapper(make(autoreset_mode="disabled")), make(autoreset_mode="disabled")
    env.set_seed(0)
    rollout = env.rollout(100, break_when_any_done=False)
    twin.reset(seed=0)
    obs, _ = twin.reset()
    num_ended = 0
    for step in rollout.unbind(1):
        np.testing.assert_array_equal(step["observation"], obs)
        obs, reward, terminated, truncated, _ = twin.step(step["action"].numpy())
        np.testing.assert_array_equal(step["next", "observation"], obs)
        np.testing.assert_array_equal(step["next", "reward"].squeeze(-1), reward)
        np.testing.assert_array_equal(step["next", "terminated"].squeeze(-1), terminated)
        np.testing.assert_array_equal(step["next", "truncated"].squeeze(-1), truncated)
        ended = terminated | truncated
        num_ended += ended.sum()
        if ended.any():
            obs, _ = twin.reset(options={"reset_mask": ended})
    assert num_ended > NUM_ENVS
