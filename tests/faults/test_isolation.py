"""A fault in one row: the others keep every bit, and the row is reported, counted and reset."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.guard import Fault
from ksim_envs.types import Autoreset
from tests.bits import assert_same_bits, rows
from tests.faults.lab import FAULTS, TAPPED, Lab, Run, step_of

pytestmark = pytest.mark.optimized

NUM_ENVS = 16
ROW = 5
CLIPPED = ("action", "huge")
"""The one bad number that is no fault: actions are clipped to their bounds."""
REASONS = {
    "qpos": Fault.INPUT,
    "qvel": Fault.INPUT,
    "act": Fault.INPUT,
    "qacc_warmstart": Fault.INPUT,
    "action": Fault.ACTION,
    "kick": Fault.INPUT,
    "force": Fault.INPUT,
    "body_mass": Fault.INPUT,
    "geom_friction": Fault.INPUT,
    "reward": Fault.TERM,
    "observation": Fault.TERM,
    "metric": Fault.TERM,
    "command": Fault.TERM,
}
REPORTED = [fault for fault in FAULTS if fault != CLIPPED]
EXPECTED_COUNTS = np.bincount([REASONS[place] for place, _ in REPORTED], minlength=len(Fault))
MODES = (Autoreset.SAME_STEP, Autoreset.NEXT_STEP)

_labs: dict[str, Lab] = {}
_runs: dict[tuple, Run] = {}


@pytest.fixture
def lab(backend, make_tiny_core):
    if backend not in _labs:
        _labs[backend] = Lab(make_tiny_core(TAPPED, NUM_ENVS, backend=backend))
    return _labs[backend]


@pytest.fixture
def run(lab, backend):
    """Runs every fault in the given rows; runs that several tests look at are kept."""

    def run_once(chosen, mode=Autoreset.SAME_STEP) -> Run:
        recipe = (backend, tuple(chosen), mode)
        if recipe not in _runs:
            _runs[recipe] = lab.run(FAULTS, np.isin(np.arange(NUM_ENVS), chosen), mode)
        return _runs[recipe]

    return run_once


def test_without_a_fault_nothing_is_reported(run):
    clean = run([])
    assert not clean.result.info["diverged"].any()
    assert not clean.state.fault_count_EC.any()
    assert clean.result.terminated_E.any() and clean.result.truncated_E.any()


@pytest.mark.parametrize("row", range(NUM_ENVS))
def test_every_fault_in_one_row_leaves_the_others_bit_identical_until_200_steps_later(run, row):
    others = np.delete(np.arange(NUM_ENVS), row)
    faulty, clean = run([row]), run([])
    assert faulty.result.info["diverged"][:, row].sum() == len(REPORTED)
    assert_same_bits(rows(faulty.result, others, axis=1), rows(clean.result, others, axis=1))
    assert_same_bits(rows(faulty.state, others, axis=1), rows(clean.state, others, axis=1))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize(("place", "value"), REPORTED)
def test_a_fault_is_reported_in_its_step_with_reward_zero_and_the_last_finite_observation(run, mode, place, value):
    t, result = step_of(FAULTS.index((place, value))), run([ROW], mode).result
    for info in (result.info, result.final_info):
        assert info["diverged"][t, ROW] and not info["diverged"][t + 1, ROW]
    assert result.truncated_E[t, ROW] and not result.terminated_E[t, ROW]
    assert result.reward_E[t, ROW] == 0
    assert all(result.final_info[name][t, ROW] == 0 for name in TAPPED.rewards)
    assert_same_bits(result.final_obs_EL[t, ROW], result.obs_EL[t - 1, ROW])
    for name in (*TAPPED.metrics, *TAPPED.commands):
        assert_same_bits(result.final_info[name][t, ROW], result.info[name][t - 1, ROW])
    assert result.final_info["episode_return"][t, ROW] == result.info["episode_return"][t - 1, ROW]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize(("place", "value"), REPORTED)
def test_a_faulty_row_begins_a_new_episode_and_is_finite(run, mode, place, value):
    t, states = step_of(FAULTS.index((place, value))), run([ROW], mode).state
    begun = t if mode is Autoreset.SAME_STEP else t + 1
    assert states.episode_E[begun, ROW] == states.episode_E[t - 1, ROW] + 1
    assert states.step_E[begun, ROW] == 0 and states.step_E[begun + 1, ROW] == 1
    assert not states.needs_reset_E[begun, ROW]
    after = rows(rows(states, range(begun, begun + 2)), ROW, axis=1)
    shown = (after.obs_EL, after.metrics, after.commands, after.physics.view)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(shown))


@pytest.mark.parametrize(("place", "value"), REPORTED)
def test_the_counter_says_why(run, place, value):
    t, count_TEC = step_of(FAULTS.index((place, value))), run([ROW]).state.fault_count_EC
    assert (count_TEC[t, ROW] - count_TEC[t - 1, ROW]).tolist() == [fault == REASONS[place] for fault in Fault]


def test_a_huge_action_is_clipped_to_its_bound(run):
    t, result = step_of(FAULTS.index(CLIPPED)), run([ROW]).result
    assert not result.truncated_E[t, ROW] and not result.info["diverged"][t, ROW]
    assert np.isfinite(result.obs_EL[t, ROW]).all()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("chosen", [range(NUM_ENVS), range(0, NUM_ENVS, 2)], ids=["all rows", "every other row"])
def test_faults_in_many_rows_at_once_are_counted_exactly(run, mode, chosen):
    faulty, clean = run(chosen, mode), run([], mode)
    others = np.setdiff1d(np.arange(NUM_ENVS), chosen)
    counts_EC = faulty.state.fault_count_EC[-1]
    assert (counts_EC[list(chosen)] == EXPECTED_COUNTS).all()
    assert (counts_EC[others] == 0).all()
    assert_same_bits(rows(faulty.result, others, axis=1), rows(clean.result, others, axis=1))


def test_a_row_that_diverged_begins_as_a_fresh_env_with_its_key_and_episode_does(lab, run):
    faulty = run([ROW]).state
    for some in np.array_split([step_of(FAULTS.index(fault)) for fault in REPORTED], 3):
        padded = np.resize(some, NUM_ENVS)
        key_E = jnp.broadcast_to(lab.unreset.key_E[ROW], NUM_ENVS)
        fresh = replace(lab.unreset, key_E=key_E, episode_E=jnp.asarray(faulty.episode_E[padded, ROW] - 1))
        begun = replace(lab.run([], np.zeros(NUM_ENVS, bool), state=fresh).start, fault_count_EC=None)
        after = jax.tree.map(lambda leaf, padded=padded: leaf[padded, ROW], replace(faulty, fault_count_EC=None))
        assert_same_bits(after, begun)
