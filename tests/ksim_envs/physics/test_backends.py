"""One list of promises that every physics backend keeps; C MuJoCo's own `MjData`, row by row, is the measure."""

from __future__ import annotations

import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError
from ksim_envs.guard import Fault
from ksim_envs.physics import load_model, make_backend
from ksim_envs.tasks.ant import ANT
from ksim_envs.tasks.humanoid import HUMANOID, HUMANOID_STANDUP
from ksim_envs.types import Push, View
from tests.bits import assert_same_bits, host, rows
from tests.ksim_envs.physics import oracle

ROLLING_BALL = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="ball" pos="0 0 0.099">
      <freejoint/>
      <geom name="ball" type="sphere" size="0.1" mass="1"/>
    </body>
    <body name="arm" pos="1 0 1">
      <joint name="swing" type="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0.1 0 -0.3" size="0.02" mass="0.5" contype="0" conaffinity="0"/>
      <site name="hand" pos="0.1 0 -0.3"/>
    </body>
  </worldbody>
  <tendon><fixed name="belt"><joint joint="swing" coef="0.5"/></fixed></tendon>
  <actuator>
    <motor name="direct" joint="swing" gear="2"/>
    <general name="slow" joint="swing" dyntype="filter" dynprm="0.05" gainprm="3"/>
  </actuator>
  <sensor><framelinacc objtype="site" objname="hand"/><framepos objtype="body" objname="ball"/></sensor>
</mujoco>
"""
"""A free body in contact, a joint, a tendon, an activation and sensors: every field of `View` has something in it."""

NUM_ENVS, FRAME_SKIP = 6, 3
EVERY_ROW = np.arange(NUM_ENVS)
SENSORS = 6
"""The model's own; behind them stands the one of `ask_for_cfrc_ext`, which MJX gives gravity and C gives zero."""
FIELDS = tuple(View.__dataclass_fields__)
MODEL_FIELDS = ("actuator_gainprm", "body_inertia", "body_mass", "dof_damping", "geom_friction")
TOLERANCE = {"native": 0.0, "mjx": 5e-4}
"""Of one control step, absolute and relative: MJX computes in float32."""


class Engine:
    """One backend on `ROLLING_BALL`, reading every field, with its two programs."""

    def __init__(self, name, num_threads=None):
        self.model = load_model(ROLLING_BALL, "fast", frozenset(FIELDS))
        self.backend = make_backend(
            name,
            self.model,
            NUM_ENVS,
            frame_skip=FRAME_SKIP,
            reads=frozenset(FIELDS),
            model_fields=frozenset(MODEL_FIELDS),
            num_threads=num_threads,
        )
        self.empty = self.backend.empty()
        self._reset = jax.jit(self.backend.reset_rows)
        self._step = jax.jit(self.backend.step)

    def reset(self, state, chosen, inputs):
        """Reset the chosen rows to the inputs' states of these rows."""
        ids = np.resize(np.array([*chosen, NUM_ENVS], np.int32), NUM_ENVS)
        ids[len(chosen) :] = NUM_ENVS
        source = np.clip(ids, 0, NUM_ENVS - 1)
        return self._reset(state, ids, inputs.qpos[source], inputs.qvel[source], inputs.fields)

    def start(self, inputs):
        """Every row freshly reset."""
        return self.reset(self.empty, EVERY_ROW, inputs)

    def step(self, state, inputs, active=EVERY_ROW):
        """One control step of the active rows."""
        push = Push(qvel_kick=inputs.kick, xfrc_applied=inputs.force)
        return self._step(state, inputs.ctrl, np.isin(EVERY_ROW, active), push, inputs.fields)


class Inputs:
    """Everything that goes into a control step, one row for each env, float32; the same in each until it is varied."""

    def __init__(self, model):
        self.qpos = np.tile(model.qpos0, (NUM_ENVS, 1)).astype(np.float32)
        self.qvel = np.zeros((NUM_ENVS, model.nv), np.float32)
        self.qvel[:, :3] = (1.0, 0.5, 0.0)  # the ball slides, so friction matters
        self.qvel[:, -1] = 2.0
        self.ctrl = np.full((NUM_ENVS, FRAME_SKIP, model.nu), 0.3, np.float32)
        self.kick = np.zeros((NUM_ENVS, model.nv), np.float32)
        self.force = np.zeros((NUM_ENVS, model.nbody, 6), np.float32)
        self.fields = {
            name: np.tile(_nominal(model, name), (NUM_ENVS, *[1] * _nominal(model, name).ndim)) for name in MODEL_FIELDS
        }
        self.model = model

    def vary(self, *names, seed=0):
        """Draw these inputs anew, in every row another value."""
        for name in names:
            draw = np.random.default_rng([seed, *name.encode()])
            if name in self.fields:
                factor = draw.uniform(0.5, 2.0, (NUM_ENVS, *[1] * (self.fields[name].ndim - 1)))
                self.fields[name] = (self.fields[name] * factor).astype(np.float32)
            else:
                array = getattr(self, name)
                setattr(self, name, (array + draw.uniform(-0.3, 0.3, array.shape)).astype(np.float32))
        return self

    def own_models(self):
        """The oracle's model of every row."""
        return [
            oracle.own_model(self.model, {name: values[row] for name, values in self.fields.items()})
            for row in EVERY_ROW
        ]

    def started(self):
        """The oracle's data of every row after a reset."""
        return [oracle.started(m, self.qpos[row], self.qvel[row]) for row, m in enumerate(self.own_models())]

    def stepped(self, before):
        """The oracle's data of every row one control step later."""
        return [
            oracle.stepped(m, before[row], self.ctrl[row], self.kick[row], self.force[row])
            for row, m in enumerate(self.own_models())
        ]


STATE = mujoco.mjtState
INPUTS = ("qpos", "qvel", "ctrl", "kick", "force", *MODEL_FIELDS)


def _nominal(model, name):
    return np.asarray(getattr(model, name), np.float32)


@pytest.fixture(scope="module")
def engines():
    return {}


@pytest.fixture
def engine(backend, engines):
    if backend not in engines:
        engines[backend] = Engine(backend)
    return engines[backend]


@pytest.fixture
def varied(engine):
    """Inputs that differ from row to row in everything."""
    return Inputs(engine.model).vary(*INPUTS)


def assert_equals_oracle(view, expected, before, tolerance, names=FIELDS):
    """Every row of the view equals the oracle's data: exactly after rounding to float32, or within the tolerance."""
    for name in names:
        values = np.stack([oracle.read(name, now, past) for now, past in zip(expected, before, strict=True)])
        chosen = slice(SENSORS) if name == "sensordata" else slice(None)
        np.testing.assert_allclose(
            np.asarray(getattr(view, name))[..., chosen],
            values.astype(np.float32)[..., chosen],
            rtol=tolerance,
            atol=tolerance,
            err_msg=name,
        )


def with_value(engine, state, place, value):
    """The state with the value in the first element of `qpos`, `qvel` or `qacc_warmstart` of row 2."""
    integration = host(state.integration)
    if place in integration:
        with np.errstate(over="ignore"):
            integration[place][2, 0] = value
    else:
        bit = {"qpos": STATE.mjSTATE_QPOS, "qvel": STATE.mjSTATE_QVEL, "qacc_warmstart": STATE.mjSTATE_WARMSTART}[place]
        integration["state"].view(np.float64)[2, mujoco.mj_stateSize(engine.model, bit.value - 1)] = value
    return replace(state, integration=jax.tree.map(jnp.asarray, integration))


def poisoned(state):
    """The state with NaN in every number of every row (all bits set, where float64 is kept as bits)."""
    return jax.tree.map(
        lambda leaf: jnp.full_like(leaf, jnp.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 2**32 - 1), state
    )


# Resets


@pytest.mark.parametrize("chosen", [[4], [5, 0, 3], EVERY_ROW[::-1], []], ids=str)
def test_a_reset_changes_exactly_the_rows_that_it_names(engine, varied, chosen):
    before, _ = engine.step(engine.start(varied), varied)
    after = engine.reset(before, chosen, Inputs(engine.model).vary(*INPUTS, seed=1))
    others = np.setdiff1d(EVERY_ROW, chosen)
    assert_same_bits(rows(after, others), rows(before, others))
    for row in chosen:
        assert not np.array_equal(after.view.qpos[row], before.view.qpos[row])


def test_row_ids_out_of_range_are_dropped(engine, varied):
    before = engine.start(varied)
    other = Inputs(engine.model).vary(*INPUTS, seed=1)
    ids = np.array([NUM_ENVS, NUM_ENVS + 1, 2**31 - 1, 2, NUM_ENVS, NUM_ENVS], np.int32)
    after = engine._reset(before, ids, other.qpos[[0, 0, 0, 2, 0, 0]], other.qvel[[0, 0, 0, 2, 0, 0]], other.fields)
    assert_same_bits(after, engine.reset(before, [2], other))


@pytest.mark.parametrize("past", ["stepped", "poisoned"])
def test_a_row_keeps_nothing_of_its_past_after_a_reset(engine, varied, past):
    other = Inputs(engine.model).vary(*INPUTS, seed=1)
    used, _ = engine.step(engine.start(other), other)
    used = poisoned(used) if past == "poisoned" else used
    used = engine.reset(used, EVERY_ROW, varied)
    pristine = Engine("native") if engine.backend.name == "native" else engine  # MJX has no scratch memory to stain
    fresh = pristine.start(varied)
    assert_same_bits(used, fresh)
    assert_same_bits(engine.step(used, varied), pristine.step(fresh, varied))


# Steps


@pytest.mark.parametrize("active", [[], [1], [0, 2, 5]], ids=str)
def test_inactive_rows_come_back_bit_identical_whatever_is_in_them(engine, varied, active):
    others = np.setdiff1d(EVERY_ROW, active)
    clean = engine.start(varied)
    spoilt = jax.tree.map(
        lambda bad, good: bad.at[np.array(active, int)].set(good[np.array(active, int)]), poisoned(clean), clean
    )
    for state in (clean, spoilt):
        after, fault_E = engine.step(state, varied, active)
        assert_same_bits(rows(after, others), rows(state, others))
        assert not fault_E.any()
        assert (rows(after.view.time, active) > 0).all()
    assert_same_bits(rows(after, active), rows(engine.step(clean, varied)[0], active))


@pytest.mark.parametrize("name", FIELDS)
def test_the_view_after_a_reset_equals_that_of_mj_forward(engine, varied, name):
    expected = varied.started()
    if name == "cfrc_ext":  # as in Gymnasium, whose tasks ask for it after steps only
        assert not engine.start(varied).view.cfrc_ext.any()
    else:
        assert_equals_oracle(engine.start(varied).view, expected, expected, TOLERANCE[engine.backend.name], [name])


@pytest.mark.parametrize("name", FIELDS)
def test_the_view_after_a_step_equals_that_of_mj_step(engine, varied, name):
    before = varied.started()
    after, fault_E = engine.step(engine.start(varied), varied)
    assert not fault_E.any()
    assert_equals_oracle(after.view, varied.stepped(before), before, TOLERANCE[engine.backend.name], [name])
    assert np.asarray(getattr(after.view, name)).any()


@pytest.mark.parametrize("name", INPUTS)
def test_each_input_alone_acts_as_on_mj_step(engine, name):
    inputs, tolerance = Inputs(engine.model).vary(name), TOLERANCE[engine.backend.name]
    before = inputs.started()
    expected, after = inputs.stepped(before), engine.step(engine.start(inputs), inputs)[0]
    assert_equals_oracle(after.view, expected, before, tolerance)
    moved = np.stack([data.qvel for data in expected])
    assert (np.ptp(moved, axis=0).max() > 10 * tolerance) and np.ptp(moved, axis=0).any(), "the input has no effect"


def test_every_substep_gets_its_own_control(engine):
    inputs = Inputs(engine.model)
    inputs.ctrl[:, :, 0] = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 1], [3, 0, 0], [0, 0, 0]])
    before = inputs.started()
    expected = inputs.stepped(before)
    after, _ = engine.step(engine.start(inputs), inputs)
    assert_equals_oracle(after.view, expected, before, TOLERANCE[engine.backend.name])
    angle = np.asarray(after.view.qpos[:, -1])
    assert angle[0] > angle[1] > angle[2] > angle[5], "an earlier torque turns the arm further"
    assert angle[0] == angle[4]


def test_changes_stay_exact_far_from_the_origin(engine):
    inputs = Inputs(engine.model)
    inputs.qpos[:, 0] = 1e5
    before = inputs.started()
    after, _ = engine.step(engine.start(inputs), inputs)
    rounding = {"native": 0.0, "mjx": 1e5 * np.finfo(np.float32).eps}[engine.backend.name]
    assert_equals_oracle(after.view, inputs.stepped(before), before, rounding, ["qpos_change", "xpos_change"])


# Precision, purity, threads


def test_the_same_arguments_give_the_same_bits_whatever_happens_in_between(engine, varied):
    calm, other = Inputs(engine.model), Inputs(engine.model).vary(*INPUTS, seed=1)
    diverging = Inputs(engine.model)
    diverging.kick[:] = 1e12
    state = engine.start(varied)
    first_calm, first = engine.step(state, calm), engine.step(state, varied)
    engine.step(poisoned(state), other)
    engine.reset(state, [3, 1], other)
    assert engine.step(engine.start(other), diverging)[1].all()
    assert_same_bits(engine.step(state, varied), first)
    assert_same_bits(engine.step(state, calm), first_calm)
    assert_same_bits(engine.start(varied), state)


def test_on_native_a_step_without_pushes_forgets_those_of_the_step_before(engines):
    """On MJX nothing could remember them, and the test would compile one more program."""
    engine = engines.setdefault("native", Engine("native"))
    pushed = Inputs(engine.model).vary("kick", "force")
    calm = Inputs(engine.model)
    state, unpushed = engine.start(calm), jax.jit(engine.backend.step)
    expected = engine.step(state, calm)
    engine.step(state, pushed)
    assert_same_bits(unpushed(state, calm.ctrl, np.ones(NUM_ENVS, bool), None, calm.fields), expected)


def test_exact_positions_and_velocities_come_back_as_they_went_in(engine, varied):
    draw = np.random.default_rng(0)
    qpos, qvel = (draw.normal(size=(NUM_ENVS, size)) for size in (engine.model.nq, engine.model.nv))
    precision = {"native": np.float64, "mjx": np.float32}[engine.backend.name]
    state = jax.jit(engine.backend.reset_rows)(
        engine.empty, EVERY_ROW, engine.backend.exact(qpos), engine.backend.exact(qvel), varied.fields
    )
    found = engine.backend.state_dict(state)
    assert_same_bits(
        found, {"qpos": qpos.astype(precision), "qvel": qvel.astype(precision), "time": np.zeros(NUM_ENVS, precision)}
    )


def test_the_state_dict_holds_the_engines_own_state(engine, varied):
    data, state = varied.started(), engine.start(varied)
    for _ in range(3):
        data, (state, _) = varied.stepped(data), engine.step(state, varied)
    found = engine.backend.state_dict(state)
    assert set(found) == {"qpos", "qvel", "time"}
    for name, values in found.items():
        tolerance = 3 * TOLERANCE[engine.backend.name]
        np.testing.assert_allclose(
            values, np.stack([getattr(d, name) for d in data]), tolerance, tolerance, err_msg=name
        )
        values[:] = 0  # a copy: the state does not change with it
    assert engine.backend.state_dict(state)["time"].all()


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_native_gives_the_same_bits_for_any_number_of_threads(num_threads):
    engine = Engine("native", num_threads)
    inputs = Inputs(engine.model).vary(*INPUTS)
    data, state = inputs.started(), engine.start(inputs)
    for _ in range(20):
        before, data = data, inputs.stepped(data)
        state, _ = engine.step(state, inputs)
        assert_equals_oracle(state.view, data, before, 0.0)


HINGES = """
<mujoco>
  <worldbody>
    <body name="arm">
      <joint name="yaw" axis="0 0 1"/>
      <joint name="pitch" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="yaw"/><motor joint="pitch"/></actuator>
</mujoco>
"""
"""nq = nv = nu = nbody = nsite + 2 = 2."""


@pytest.mark.parametrize("num_envs", [1, 2])
def test_nothing_is_mixed_up_where_the_number_of_envs_equals_another_size(backend, num_envs):
    model = load_model(HINGES, "fast")
    assert model.nq == model.nv == model.nu == model.nbody == 2
    names = frozenset({"qpos", "qvel", "xpos", "qpos_change"})
    engine = make_backend(backend, model, num_envs, frame_skip=2, reads=names)
    draw = np.random.default_rng(0)
    qpos, qvel = draw.normal(size=(2, num_envs, 2)).astype(np.float32)
    ctrl, last = draw.normal(size=(num_envs, 1, 2)).astype(np.float32), num_envs - 1

    reset_rows, step, every = jax.jit(engine.reset_rows), jax.jit(engine.step), np.arange(num_envs)
    started = reset_rows(engine.empty(), every, qpos, qvel, {})
    stepped, fault_E = step(started, ctrl, every >= 0, None, {})
    stopped, _ = step(stepped, ctrl, every != last, None, {})
    reset = reset_rows(stepped, np.where(every == last, last, num_envs), qpos, qvel, {})
    before = [oracle.started(model, *state) for state in zip(qpos, qvel, strict=True)]
    held = np.repeat(ctrl, 2, axis=1)
    expected = [
        oracle.stepped(model, data, held[row], np.zeros(2), np.zeros((2, 6))) for row, data in enumerate(before)
    ]
    assert not fault_E.any()
    assert_equals_oracle(stepped.view, expected, before, TOLERANCE[backend], names)
    assert_same_bits(rows(stopped, [last]), rows(stepped, [last]))
    assert_same_bits(rows(reset, [last]), rows(started, [last]))
    assert_same_bits(rows(reset, range(last)), rows(stepped, range(last)))


# Faults

WAYS_TO_DIVERGE = {
    "huge control": lambda inputs: np.put(inputs.ctrl[2], range(inputs.ctrl[2].size), 1e12),
    "huge force": lambda inputs: np.put(inputs.force[2], range(6, 9), 1e12),
    "huge velocity kick": lambda inputs: np.put(inputs.kick[2], range(3), 1e11),
    "deep interpenetration": lambda inputs: np.put(inputs.qpos[2], 2, -1e9),
    "no inertia": lambda inputs: (
        inputs.fields["body_mass"][2].fill(1e-14),
        inputs.fields["body_inertia"][2].fill(1e-14),
    ),
    "huge gain": lambda inputs: inputs.fields["actuator_gainprm"][2].fill(9e9),
}


@pytest.mark.parametrize("way", WAYS_TO_DIVERGE)
def test_a_diverging_row_is_flagged_in_its_step_and_comes_back_unchanged(engine, varied, way):
    others = np.delete(EVERY_ROW, 2)
    clean = engine.step(engine.start(varied), varied)
    WAYS_TO_DIVERGE[way](varied)
    before = engine.start(varied)
    after, fault_E = engine.step(before, varied)
    assert fault_E.tolist() == [Fault.PHYSICS.mask if row == 2 else 0 for row in EVERY_ROW]
    assert_same_bits(rows(after, [2]), rows(before, [2]))
    assert_same_bits(rows(after, others), rows(clean[0], others))


@pytest.mark.parametrize("place", ["qpos", "qvel", "qacc_warmstart"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e12, 1e300])  # 1e300 does not fit into the view's float32
def test_a_state_that_is_out_of_bounds_is_flagged_as_an_input_and_comes_back_unchanged(engine, varied, place, value):
    clean = engine.start(varied)
    spoilt = with_value(engine, clean, place, value)
    after, fault_E = engine.step(spoilt, varied)
    assert fault_E.tolist() == [Fault.INPUT.mask if row == 2 else 0 for row in EVERY_ROW]
    assert_same_bits(rows(after, [2]), rows(spoilt, [2]))
    others = np.delete(EVERY_ROW, 2)
    assert_same_bits(rows(after, others), rows(engine.step(clean, varied)[0], others))


@pytest.mark.parametrize("place", ["qpos", "qvel"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_a_start_that_is_out_of_bounds_is_not_replaced_but_flagged_in_the_first_step(engine, varied, place, value):
    others = np.delete(EVERY_ROW, 2)
    clean = engine.start(varied)
    getattr(varied, place)[2, 0] = value
    state = engine.start(varied)
    np.testing.assert_equal(engine.backend.state_dict(state)[place][2, 0], getattr(varied, place)[2, 0])
    assert_same_bits(rows(state, others), rows(clean, others))
    assert engine.step(state, varied)[1].tolist() == [Fault.INPUT.mask if row == 2 else 0 for row in EVERY_ROW]


def test_native_envs_without_jaxs_processor_are_refused_with_the_remedy(monkeypatch):
    def none(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(InvalidConfigError, match="Unknown backend cpu.*JAX_PLATFORMS=cuda,cpu"):
        make_backend("native", load_model(ROLLING_BALL, "fast"), 1, frame_skip=1, reads=frozenset())


CROWD = """
<mujoco>
  <size memory="{memory}"/>
  <worldbody><geom type="plane" size="9 9 1"/>{balls}</worldbody>
  <actuator><motor joint="ball"/></actuator>
</mujoco>
"""
BALL = '<body pos="{x} 0 0.2"><freejoint{name}/><geom type="sphere" size="0.1"/></body>'


@pytest.mark.parametrize(
    "memory",
    [pytest.param("24K", id="contacts"), pytest.param("40K", id="constraints"), pytest.param("200K", id="solver")],
)
def test_native_flags_the_row_that_runs_out_of_memory_and_no_other(memory):
    balls = "".join(BALL.format(x=x, name=' name="ball"' * (x == 0)) for x in range(8))
    model = load_model(CROWD.format(memory=memory, balls=balls), "fast")
    engine = make_backend("native", model, 3, frame_skip=1, reads=frozenset({"qpos", "xpos"}))
    qpos_EL = np.tile(model.qpos0, (3, 1))
    qpos_EL[1].reshape(-1, 7)[:, :3] = [[0.001 * i, 0.0, 0.05] for i in range(8)]  # all balls in one heap
    state = engine.reset_rows(engine.empty(), np.arange(3), engine.exact(qpos_EL), np.zeros((3, model.nv)), {})
    assert_same_bits(engine.state_dict(state)["qpos"], qpos_EL)
    assert np.isfinite(state.view.xpos).all()
    after, fault_E = engine.step(state, np.zeros((3, 1, model.nu)), np.ones(3, bool), None, {})
    assert fault_E.tolist() == [0, Fault.OVERFLOW.mask, 0]
    assert_same_bits(rows(after, [1]), rows(state, [1]))
    assert_same_bits(rows(after, [0]), rows(after, [2]))


# Contact forces on the bodies, which Gymnasium's tasks observe


@pytest.mark.parametrize("dynamics", ["fast", "gymnasium"])
@pytest.mark.parametrize("task", [HUMANOID, HUMANOID_STANDUP, ANT], ids=["humanoid", "standup", "ant"])
def test_contact_forces_on_native_are_exactly_those_of_mj_rne_post_constraint(task, dynamics):
    assert_contact_forces_equal_the_oracle("native", task, dynamics, num_steps=15, tolerance=0.0)


def test_contact_forces_on_mjx_are_those_of_mj_rne_post_constraint():
    assert_contact_forces_equal_the_oracle("mjx", HUMANOID_STANDUP, "fast", num_steps=3, tolerance=1e-4)


def assert_contact_forces_equal_the_oracle(backend, task, dynamics, num_steps, tolerance):
    """Humanoids fall, and then touch the floor: the first steps are the same on all backends, one after the other."""
    num_envs, names = 2, frozenset({"cfrc_ext"})
    model = load_model(task.model, dynamics, names)
    engine = make_backend(backend, model, num_envs, frame_skip=task.frame_skip, reads=names)
    reset, step = jax.jit(engine.reset_rows), jax.jit(engine.step)
    draw = np.random.default_rng(0)
    qpos = (model.qpos0 + draw.uniform(-0.01, 0.01, (num_envs, model.nq))).astype(np.float32)
    qvel = draw.uniform(-0.01, 0.01, (num_envs, model.nv)).astype(np.float32)
    data = [oracle.started(model, *one) for one in zip(qpos, qvel, strict=True)]
    state = reset(engine.empty(), np.arange(num_envs), qpos, qvel, {})
    assert not state.view.cfrc_ext.any()
    strongest = 0.0
    for _ in range(num_steps):
        ctrl = draw.uniform(-1, 1, (num_envs, task.frame_skip, model.nu)).astype(np.float32)
        data = [
            oracle.stepped(model, d, c, np.zeros(model.nv), np.zeros((model.nbody, 6)))
            for d, c in zip(data, ctrl, strict=True)
        ]
        state, fault_E = step(state, ctrl, np.ones(num_envs, bool), None, {})
        assert not fault_E.any()
        expected = np.stack([d.cfrc_ext for d in data]).astype(np.float32)
        np.testing.assert_allclose(
            state.view.cfrc_ext, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
        )
        strongest = max(strongest, np.abs(expected).max())
    assert strongest > 1, "nothing was touched"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_native_takes_no_more_threads_than_the_process_may_use():
    """Threads that wait for each other in turns made a pinned process three times slower."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        model = load_model(ROLLING_BALL, "fast")
        assert make_backend("native", model, 4, frame_skip=1, reads=frozenset({"qpos"})).num_threads == 1
    finally:
        os.sched_setaffinity(0, before)
