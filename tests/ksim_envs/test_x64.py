"""With JAX's x64 mode on, as a user's own code may need it: what we hand out keeps its dtypes."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gymnasium as gym
import jax
import numpy as np
import ksim_envs
from ksim_envs.adapters.functional import FunctionalEnv
from ksim_envs.wrappers import (
    ClipAction, FrameStackObservation, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
)

assert jax.numpy.zeros(1).dtype == "float64"
env = gym.make("ksim/Hopper-v0", num_envs=2, autoreset_mode="same_step", backend="native", episode_length=3)
env = NormalizeReward(NormalizeObservation(RecordEpisodeStatistics(ClipAction(env))))
env = FrameStackObservation(env, 2, padding_type="zero")
obs, info = env.reset(seed=0)
assert obs in env.observation_space
for _ in range(4):
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert obs in env.observation_space and reward.dtype == "float32"
    if truncated.any():
        assert info["final_obs"].dtype == info["episode"]["r"].dtype == info["episode"]["t"].dtype == "float32"

one = FunctionalEnv("ksim/Hopper-v0", backend="native")
state = one.reset(jax.random.key(0))
last, _ = jax.lax.scan(lambda state, action: (one.step(state, action), None), state, np.zeros((3, 3), "float32"))
assert last.reward.dtype == last.done.dtype == last.obs.dtype == "float32"

core = ksim_envs.make_functional("ksim/KBotWalk-v0", 2, backend="native")
actions = np.zeros((2, core.num_actions))
_, result = jax.eval_shape(lambda: core.step(core.reset(core.keys(0)), actions))
assert result.obs_EL.dtype == result.reward_E.dtype == "float32"
"""


def test_outputs_keep_their_dtypes() -> None:
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    child = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
