"""Observation, reward terms and termination from the very data of a Gymnasium v5 env: formulas without dynamics."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import jax
import numpy as np
import pytest

from ksim_envs.tasks.evaluation import evaluate
from ksim_envs.tasks.tracing import blank_context
from ksim_envs.types import View
from tests.parity.oracle import IDS, error, gymnasium_twin, random_action, task_of

NUM_STATES = 120
BOUND = 1e-6


@pytest.mark.parametrize("id", IDS)
def test_terms_equal_gymnasium_on_the_same_state(id):
    task, twin = task_of(id), gymnasium_twin(id)
    model = twin.unwrapped.model

    @jax.jit
    def terms(view, action):
        ctx = replace(blank_context(task, model), action=action)
        return evaluate(task, view, ctx, {})

    rng = np.random.default_rng(0)
    twin.reset(seed=0)
    terminations = 0
    for _ in range(NUM_STATES):
        before, action = copy.copy(twin.unwrapped.data), random_action(twin, rng)
        obs, reward, terminated, _, info = twin.step(action)
        ours = terms(view_of(twin.unwrapped.data, before), action)
        assert error(ours.obs, obs) < BOUND
        assert error(sum(ours.rewards.values()), reward) < BOUND
        assert bool(ours.terminated) == terminated
        for name, value in info.items():
            assert error({**ours.rewards, **ours.metrics}[name], value) < BOUND, name
        terminations += terminated
        if terminated:
            twin.reset()
    assert terminations or not task.terminations


def view_of(data, before) -> View:
    """A whole view of one env's `MjData`, with the changes since the data before the step."""

    def read(name: str) -> np.ndarray:
        source = name.removesuffix("_change")
        value = getattr(data, source)
        return np.asarray(value - getattr(before, source) if name != source else value, np.float32)

    return View(**{field.name: read(field.name) for field in fields(View)})
