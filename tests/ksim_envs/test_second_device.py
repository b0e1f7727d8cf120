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


TRAINING = """
import jax

from agents.evaluate import Evaluator
from agents.ppo import PPOConfig
from agents.ppo.trainer import Trainer
from ksim_envs import make_functional

first, second = jax.devices()
jax.config.update("jax_default_device", second)  # as a GPU is where there is one
core = make_functional("ksim/InvertedPendulum-v0", 4, backend="native")
assert core.backend.device == first
config = PPOConfig(num_envs=4, num_env_states_per_minibatch=32, num_minibatches=1, total_env_steps=64)
trainer = Trainer(core, config)
state, _ = trainer.iterate(trainer.start())
assert {leaf.device for leaf in jax.tree.leaves(state)} == {first}
(policy,) = trainer.policies(state)
final, _ = Evaluator(core, 0)._run(policy, Evaluator(core, 0)._key_E)
assert {leaf.device for leaf in jax.tree.leaves(final)} == {first}
Evaluator(core, 0)(jax.device_put(policy, second))
"""


def run_on_two_devices(script):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


def test_a_batch_and_its_wrappers_stay_on_the_device_that_was_chosen():
    run_on_two_devices(SCRIPT)


def test_training_in_native_envs_stays_on_the_processor_whatever_jaxs_default_is():
    run_on_two_devices(TRAINING)
