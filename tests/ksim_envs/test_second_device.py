"""A batch on another device than JAX's first, as of two GPUs: in a process whose processor is two devices."""

import os
import subprocess
import sys

SCRIPT = """
import jax
import numpy as np

import ksim_envs
from ksim_envs.moments import Moments
from ksim_envs.wrappers import ClipAction, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics, RescaleAction

first, second = jax.devices()


def play(device):
    env = ksim_envs.make("ksim/InvertedPendulum-v0", 4, backend="mjx", device=device, output="jax")
    env = ClipAction(RescaleAction(RecordEpisodeStatistics(env), -1.0, 1.0))
    env = NormalizeReward(NormalizeObservation(env))
    env.env.obs_rms, env.return_rms = Moments.empty(4, 1.0), Moments.empty(1, 1.0)
    results = [env.reset(seed=0)[0]] + [env.step(np.full((4, 1), 0.1))[:4] for _ in range(5)]
    env.reset(seed=1, options={"reset_mask": np.arange(4) == 2})
    return results


found = play(second)
assert {leaf.device for leaf in jax.tree.leaves(found)} == {second}
jax.tree.map(np.testing.assert_array_equal, found, play(first))
"""


def test_a_batch_and_its_wrappers_stay_on_the_device_that_was_chosen():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
