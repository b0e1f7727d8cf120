"""`ksim_envs.bench.replay`: the bare engine really does the physics that was recorded."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import ksim_envs
from ksim_envs.bench import bare_engine
from ksim_envs.building import make_core
from ksim_envs.physics.native import NativeBackend

NUM_ENVS, NUM_STEPS = 8, 160


@pytest.fixture
def batches(monkeypatch):
    """The batches that are made."""
    import mujoco.batch

    made = []

    class Noted(mujoco.batch.Batch):
        def __init__(self, *args, **keywords):
            super().__init__(*args, **keywords)
            made.append(self)

    monkeypatch.setattr(mujoco.batch, "Batch", Noted)
    return made


@pytest.mark.parametrize("id", ["ksim/Hopper-v0", "ksim/KBotStand-v0"])
def test_the_engine_ends_where_the_envs_did(id, batches):
    """With resets in between; K-Bot has motors, latency, and a mass of its own in each env."""
    core = make_core(ksim_envs.get_task(id), NUM_ENVS, backend="native")
    assert isinstance(core.backend, NativeBackend)
    state = jax.jit(core.reset)(core.keys(0))
    actions = np.random.default_rng(0).uniform(-2, 2, (NUM_STEPS, NUM_ENVS, core.num_actions)).astype(np.float32)
    prepare, run = bare_engine(core, state, actions)
    run(prepare())

    num_resets = 0
    for action in actions:
        state, result = core.programs.step(state, np.clip(action, *core.action_bounds))
        num_resets += int(np.sum(result.terminated_E | result.truncated_E))
    assert num_resets > 0
    expected = core.backend.state_dict(state.physics)["qpos"]
    np.testing.assert_allclose(batches[-1].bind("qpos"), expected, atol=1e-3)
