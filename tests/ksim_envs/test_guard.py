"""Which rows are healthy, and how faults are marked, counted and cut out."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs import guard, make_functional
from ksim_envs.guard import Fault
from ksim_envs.types import Autoreset
from tests import tiny


@pytest.mark.parametrize(
    ("value", "is_healthy"),
    [
        (0.0, True),
        (-1.0, True),
        (guard.MAX_VALUE, True),
        (-guard.MAX_VALUE, True),
        (np.nextafter(np.float32(guard.MAX_VALUE), np.float32(np.inf)), False),
        (1e12, False),
        (-1e12, False),
        (np.inf, False),
        (-np.inf, False),
        (np.nan, False),
    ],
)
@pytest.mark.parametrize(("shape", "place"), [((3,), (1,)), ((3, 2, 4), (1, 0, 3)), ((3, 3), (1, 2))])
def test_a_row_is_healthy_while_every_number_is_finite_and_within_bounds(shape, place, value, is_healthy):
    leaf = jnp.zeros(shape).at[place].set(value)
    assert guard.healthy(leaf).tolist() == [True, is_healthy, True]


def test_without_a_bound_only_nan_is_unhealthy():
    leaf = jnp.array([1e12, jnp.inf, -jnp.inf, jnp.nan])
    assert guard.healthy(leaf, bound=math.inf).tolist() == [True, True, True, False]


def test_only_floating_point_leaves_can_be_unhealthy():
    tree = {"bits": jnp.full((2, 3), 2**32 - 1, jnp.uint32), "flag": jnp.ones(2, bool), "empty": jnp.zeros((2, 0))}
    assert bool(guard.healthy(tree)) is bool(guard.healthy((None, {}))) is True  # for all rows, whatever their number
    assert guard.healthy({**tree, "number": jnp.array([1.0, jnp.nan])}).tolist() == [True, False]


def test_a_row_of_several_leaves_is_healthy_when_all_of_them_are():
    first, second = jnp.array([0.0, jnp.nan, 0.0]), jnp.array([[0.0], [0.0], [jnp.inf]])
    assert guard.healthy((first, second)).tolist() == [True, False, False]


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_its_bit(fault):
    assert guard.fault_if(jnp.array([True, False]), fault).tolist() == [1 << fault.value, 0]
    assert guard.fault_if(jnp.array([True]), fault).dtype == jnp.uint32


def test_the_counters_count_every_bit_of_every_row():
    before = jnp.arange(2 * len(Fault), dtype=jnp.int32).reshape(2, -1)
    after = guard.count(before, jnp.array([Fault.ACTION.mask | Fault.TERM.mask, 0], jnp.uint32))
    assert (after - before).tolist() == [[fault in (Fault.ACTION, Fault.TERM) for fault in Fault], [0] * len(Fault)]
    assert after.dtype == jnp.int32


class Closest:
    """The smallest distance so far: its memory begins as infinite."""

    def init(self, view, ctx):
        return jnp.float32(jnp.inf)

    def __call__(self, carry, view, ctx):
        closest = jnp.minimum(carry, jnp.abs(view.qpos[0]))
        return closest, jnp.where(ctx.step == 2, jnp.inf, closest)


def test_a_memory_may_be_infinite():
    task = replace(tiny.HOPPER_LIKE, metrics={"closest": Closest()}, rewards={"closeness": Closest()}, terminations={})
    core = make_functional(task, 2, backend="native")
    state, step = core.reset(core.keys(0)), jax.jit(core.step)
    assert (state.metrics["closest"] > 0).all()
    for _ in range(4):
        state, result = step(state, jnp.zeros((2, 2)))
        assert not result.info["diverged"].any()
    assert state.fault_count_EC.sum() == 0


def test_an_episode_that_begins_with_an_unhealthy_term_ends_in_its_first_step():
    def since_start(view, ctx):
        return view.qpos[:1] / ctx.step

    task = replace(tiny.HOPPER_LIKE, metrics={"speed": since_start}, terminations={})
    core = make_functional(task, 2, backend="native")
    state, step = core.reset(core.keys(0)), jax.jit(core.step)
    assert (state.metrics["speed"] == 0).all() and (state.obs_EL == 0).all()
    for count in (1, 2):
        state, result = step(state, jnp.zeros((2, 2)))
        assert result.final_info["diverged"].all() and result.truncated_E.all() and (result.reward_E == 0).all()
        assert state.fault_count_EC[:, Fault.TERM].tolist() == [count] * 2
        assert state.fault_count_EC.sum() == 2 * count


def to_no_number(qpos, qvel, ctx):
    return qpos.at[0].set(jnp.nan), qvel


@pytest.mark.parametrize("autoreset", [Autoreset.NEXT_STEP, Autoreset.DISABLED], ids=lambda mode: mode.name)
def test_a_reset_to_what_is_no_number_is_an_input_fault_of_the_first_step(backend, autoreset, make_tiny_core):
    core = make_tiny_core(replace(tiny.HOPPER_LIKE, resets={"none": to_no_number}), 2, backend=backend)
    state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(2, bool))
    assert np.isfinite(state.obs_EL).all()
    state, result = core.programs.step(state, np.zeros((2, 2), np.float32), autoreset)
    assert result.info["diverged"].all() and result.truncated_E.all() and (result.reward_E == 0).all()
    assert (state.fault_count_EC[:, Fault.INPUT] == 1).all()


def test_keep_rows_takes_the_new_bits_where_it_keeps_and_the_old_ones_elsewhere():
    new = {"a": jnp.array([1.0, jnp.nan]), "b": jnp.ones((2, 2, 2), jnp.int32)}
    old = {"a": jnp.array([jnp.nan, 4.0]), "b": jnp.zeros((2, 2, 2), jnp.int32)}
    kept = guard.keep_rows(jnp.array([True, False]), new, old)
    assert kept["a"].tolist() == [1, 4]
    assert kept["b"].sum(axis=(1, 2)).tolist() == [4, 0]


def test_keep_rows_chooses_rows_where_every_axis_has_the_same_length():
    kept = guard.keep_rows(jnp.array([True, False]), jnp.ones((2, 2)), jnp.zeros((2, 2)))
    assert kept.tolist() == [[1, 1], [0, 0]]


def test_zero_rows_cuts_out_whatever_stood_there():
    cut = guard.zero_rows(jnp.array([True, False]), {"x": jnp.array([[jnp.nan, jnp.inf], [1.0, 2.0]])})
    assert cut["x"].tolist() == [[0, 0], [1, 2]]
