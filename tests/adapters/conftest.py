"""One small batch for all libraries: Hoppers, of which some fall and some come to the time limit."""

import functools

import gymnasium as gym
import jax
import numpy as np
import pytest

import ksim_envs
from ksim_envs import dlpack

ID, NUM_ENVS, LENGTH = "ksim/Hopper-v0", 8, 30


def make(num_envs=NUM_ENVS, **keywords):
    return gym.make(ID, num_envs=num_envs, **{"episode_length": LENGTH, **keywords})


def actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, NUM_ENVS, 3)).astype(np.float32)


@functools.cache
def rollout(seed, steps):
    """What the vector env itself does under `actions(steps)` in SAME_STEP mode, step by step."""
    envs = make(autoreset_mode="same_step")
    obs, info = envs.reset(seed=seed)
    transitions = [(obs, None, None, None, info)] + [envs.step(action) for action in actions(steps)]
    envs.close()
    return transitions


def first_fall(seed):
    """An episode length, and a row that falls in just that step if it acts as `rollout(seed, ...)` does."""
    for step, (_, _, terminated, _, _) in enumerate(rollout(seed, 100)[1:LENGTH], start=1):
        if terminated.any():
            return step, int(terminated.argmax())
    raise AssertionError("nobody falls")


@pytest.fixture(scope="module", autouse=True)
def _kept_core():
    """The core of these batches, alive while a module's tests make and close them, so that it is compiled once."""
    return ksim_envs.make_functional(ID, NUM_ENVS)


@pytest.fixture
def envs():
    batch = make()
    yield batch
    batch.close()


@pytest.fixture
def exported(envs, monkeypatch):
    """Addresses of all that the batch has handed out as torch tensors, without a copy."""
    addresses = set()

    class Recorded(dlpack.Exporter):
        def __call__(self, tree):
            result = super().__call__(tree)
            addresses.update(leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree))
            return result

    monkeypatch.setattr(dlpack, "Exporter", Recorded)
    return addresses
