"""Runs that are ill: rows that diverge, and gradient steps that lead nowhere."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import ksim_envs
from agents import logger, ppo
from agents.checkpoint import Checkpoints
from agents.errors import DivergenceWarning, TrainingDivergedError
from agents.ppo.health import MAX_IDLE_ITERATIONS
from agents.ppo.trainer import Trainer
from tests.agents.ppo.conftest import CONFIG, TASK, RareNaN


def test_a_run_without_a_finite_gradient_step_ends_with_an_error_and_its_last_parameters(tiny_id, tmp_path):
    config = replace(CONFIG, reward_scale=1e38)  # the square of an error overflows
    with pytest.raises(TrainingDivergedError, match="smaller learning_rate, or with a reward_scale"):
        ppo.train(tiny_id, config, run_dir=tmp_path)
    skipped = [row["num_skipped_updates"] for row in logger.read(tmp_path) if row["kind"] == "train"]
    num_updates = CONFIG.num_epochs * CONFIG.num_minibatches
    assert skipped[-1] == num_updates * len(skipped) and MAX_IDLE_ITERATIONS <= len(skipped) < CONFIG.num_iterations - 1
    steps = Checkpoints(tmp_path / "checkpoints").steps()
    assert steps[-1] == (1 + len(skipped)) * CONFIG.dataset_size
    assert np.isfinite(ppo.load(tmp_path, steps[-1])(np.zeros((1, 5), np.float32))).all()


def test_a_run_whose_rows_diverge_says_once_how_many_and_why(tmp_path):
    ksim_envs.register("ksim/PPOSick-v0", replace(TASK, events={"poison": RareNaN(0.1)}))
    with pytest.warns(
        DivergenceWarning, match=r"% of an iteration's env steps diverged, .* INPUT \(an actuator"
    ) as seen:
        ppo.train("ksim/PPOSick-v0", replace(CONFIG, total_env_steps=4 * CONFIG.dataset_size), run_dir=tmp_path)
    assert [warning.category for warning in seen].count(DivergenceWarning) == 1


def test_no_number_goes_bad_while_rows_diverge(diverging_core):
    trainer = Trainer(diverging_core, CONFIG)
    state, num_diverged = trainer.start(), 0
    for _ in range(10):
        state, metrics = trainer.iterate(state)
        num_diverged += metrics["num_diverged"]
        numbers = [leaf for leaf in jax.tree.leaves(state) if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)]
        assert all(np.isfinite(leaf).all() for leaf in numbers)
    assert num_diverged > 5 and metrics["num_skipped_updates"] == 0
