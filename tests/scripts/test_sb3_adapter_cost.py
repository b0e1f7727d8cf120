"""`python -m scripts.sb3_adapter_cost`: vector env and adapter are timed in the same steps."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

import ksim_envs


@pytest.mark.skipif(find_spec("stable_baselines3") is None, reason="Stable-Baselines3 is not installed")
def test_the_adapters_cost_is_that_of_the_same_steps():
    from ksim_envs.adapters.sb3 import KsimVecEnv
    from scripts import sb3_adapter_cost

    task = ksim_envs.get_task("ksim/Hopper-v0")
    words = sb3_adapter_cost.cost(task, 8, 5)
    assert re.fullmatch(
        r"vector env [\d.]+ ms a step; the adapter adds [-\d.]+ ms \(quartiles [-\d.]+ and [-\d.]+, 5 pairs\); "
        r"[\d.]+ episodes end in a step",
        words,
    )
    words = sb3_adapter_cost.against_gymnasium("ksim/Hopper-v0", 8, 5)
    assert re.fullmatch(r"[\d.]+ ms a step, Gymnasium's in DummyVecEnv [\d.]+ ms \([\d.]+ times as long\)", words)
    bare, adapted = (ksim_envs.make("ksim/Hopper-v0", 8, autoreset_mode="same_step") for _ in range(2))
    bare.reset(seed=[*range(8)])
    adapted = KsimVecEnv(adapted)
    adapted.seed(0)
    adapted.reset()
    actions = sb3_adapter_cost.random_actions(bare.single_action_space, 8)
    seconds_P2, num_ended = sb3_adapter_cost.paired_seconds(bare, adapted, actions, 30)
    assert seconds_P2.shape == (30, 2) and (seconds_P2 > 0).all() and num_ended > 0
    for name, values in bare.physics_state().items():
        np.testing.assert_array_equal(values, adapted.env.physics_state()[name])
    bare.close()
    adapted.close()
