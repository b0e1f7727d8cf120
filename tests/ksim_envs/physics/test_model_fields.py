"""Model fields that differ from env to env: which ones can, and that each engine has all of their consequences."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco.batch import MODEL_FIELDS

from ksim_envs.errors import InvalidConfigError
from ksim_envs.guard import Fault
from ksim_envs.physics import load_model, make_backend
from ksim_envs.physics.model_fields import DERIVED, PER_ENV, derived_constants
from ksim_envs.runtime import quiet_import
from tests.bits import assert_same_bits
from tests.bits import rows as rows_of
from tests.ksim_envs.tasks import legged
from tests.ksim_envs.tasks.legged import MODEL, NUM_ENVS, NUM_SUBSTEPS

with quiet_import():
    from mujoco import mjx

EVERY_ROW = np.arange(NUM_ENVS)
OF_NO_PHYSICS = ("cam_", "light_", "mat_", "geom_rgba")
DERIVED_FROM_OTHERS = {*DERIVED, "geom_aabb", "geom_rbound"}


def test_the_fields_that_may_differ_are_those_that_every_engine_has_for_each_env():
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    in_mjx = {each.name for each in mjx.Model.fields() if each.type in (jax.Array, "jax.Array")}
    expected = {
        name
        for name in in_mjx & MODEL_FIELDS
        if isinstance(getattr(model, name, None), np.ndarray)
        and getattr(model, name).dtype.kind == "f"
        and not name.startswith(OF_NO_PHYSICS)
    }
    assert expected - DERIVED_FROM_OTHERS == PER_ENV


EVERYTHING = """
<mujoco>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="a" pos="0 0 0.3" gravcomp="0.1">
      <joint name="x" type="slide" axis="1 0 0" range="-1 1" frictionloss="0.1" stiffness="1" damping="0.1"/>
      <geom name="ball" size="0.1" margin="0.01" gap="0.001"/>
      <site name="s"/>
      <body name="b" pos="0 0 0.2">
        <joint name="y" range="-1 1" actuatorfrcrange="-1 1"/>
        <geom name="rod" type="capsule" size="0.05 0.1"/>
      </body>
    </body>
  </worldbody>
  <contact><pair geom1="floor" geom2="rod"/></contact>
  <tendon><fixed name="t" range="-1 1" frictionloss="0.1" stiffness="1"><joint joint="y" coef="1"/></fixed></tendon>
  <equality><joint joint1="x" joint2="y"/></equality>
  <actuator>
    <motor joint="x"/>
    <general tendon="t" dyntype="filter" dynprm="0.1" actlimited="true" actrange="-1 1"/>
  </actuator>
  <sensor><framequat objtype="site" objname="s"/></sensor>
</mujoco>
"""


@pytest.mark.parametrize("name", ["native", "mjx"])
def test_every_one_of_them_can_be_given_to_an_engine(name):
    """On MJX without compiling: what it cannot have as an argument it refuses when it is traced."""
    model = load_model(EVERYTHING, "fast")
    backend = make_backend(name, model, 2, frame_skip=1, reads=frozenset({"qpos"}), model_fields=PER_ENV)
    fields = {field: jnp.tile(backend.nominal(field), (2, *[1] * backend.nominal(field).ndim)) for field in PER_ENV}
    run = jax.jit if name == "native" else (lambda function: lambda *args: jax.eval_shape(function, *args))
    qpos, qvel = jnp.zeros((2, model.nq)), jnp.zeros((2, model.nv))
    state = run(backend.reset_rows)(backend.empty(), jnp.arange(2), qpos, qvel, fields)
    run(backend.step)(state, jnp.zeros((2, 1, model.nu)), jnp.ones(2, bool), None, fields)


@pytest.mark.parametrize("name", ["native", "mjx"])
@pytest.mark.parametrize("field", ["geom_type", "geom_rbound", "dof_invweight0", "light_pos"])
def test_others_are_refused(name, field):
    with pytest.raises(InvalidConfigError, match=f"'{field}' cannot differ from env to env"):
        make_backend(name, MODEL, 2, frame_skip=1, reads=frozenset(), model_fields=frozenset({field}))


def test_masses_of_one_row_change_the_constants_of_that_row_only(backend):
    engine, (qpos, qvel) = legged.engine(backend), legged.moving()
    qpos[:, 2] = 0.43
    light = engine.step(engine.start(qpos, qvel))
    mass, inertia = legged.nominal("body_mass"), legged.nominal("body_inertia")
    mass[2] *= 3
    inertia[2] *= 3
    fields = {"body_mass": mass, "body_inertia": inertia}
    heavy = engine.step(engine.start(qpos, qvel, fields), fields=fields)
    others = np.delete(EVERY_ROW, 2)
    assert_same_bits(rows_of(heavy, others), rows_of(light, others))
    assert np.abs(legged.rows(heavy).qvel[2] - legged.rows(light).qvel[2]).max() > 1e-3
    again = engine.step(engine.start(qpos, qvel))
    assert_same_bits(again, light)


@pytest.mark.parametrize("added", [[0.0, 0.0], [0.5, 0.4], [-0.3, 0.0], [-0.3, 0.3]], ids=str)
def test_friction_of_a_joint_may_begin_and_end_with_its_row(backend, added):
    """The hip has 0.3 N m in the model and the ankle none; on MJX zero is not the same as none."""
    engine, (qpos, qvel) = legged.engine(backend), legged.moving()
    friction = legged.nominal("dof_frictionloss")
    friction[1:, 6:] += np.float32(added)
    fields = {"dof_frictionloss": np.maximum(friction, 0)}
    after = legged.rows(engine.step(engine.start(qpos, qvel, fields), fields=fields))
    for row in EVERY_ROW:
        model = copy.copy(MODEL)
        model.dof_frictionloss[:] = fields["dof_frictionloss"][row]
        data = legged.in_c(model, qpos[row], qvel[row])
        mujoco.mj_step(model, data, NUM_SUBSTEPS)
        np.testing.assert_allclose(after.qvel[row], data.qvel, rtol=engine.tolerance, atol=engine.tolerance)


SLIDER = """
<mujoco>
  <worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/></body></worldbody>
  <actuator><motor joint="x"/></actuator>
</mujoco>
"""


def test_a_row_whose_constants_cannot_be_computed_is_a_fault_and_no_other_row_is(backend):
    """MuJoCo raises an error for a slide joint that moves no mass."""
    model = load_model(SLIDER, "fast")
    reads, name = frozenset({"qpos", "qvel"}), "body_mass"
    engine = make_backend(backend, model, 3, frame_skip=2, reads=reads, model_fields=frozenset({name}))
    reset, step, every = jax.jit(engine.reset_rows), jax.jit(engine.step), np.arange(3)
    mass = np.tile(np.float32(model.body_mass), (3, 1))

    def start(mass):
        return reset(engine.empty(), every, np.zeros((3, 1), np.float32), np.ones((3, 1), np.float32), {name: mass})

    def stepped(state, mass):
        return step(state, np.ones((3, 1, 1), np.float32), every >= 0, None, {name: mass})

    good, fault_E = stepped(start(mass), mass)
    assert not fault_E.any()
    massless = mass.copy()
    massless[1] = 0.0
    state = start(massless)
    for _ in range(2):  # whatever the engine still knows of it
        after, fault_E = stepped(state, massless)
        assert fault_E.tolist() == [0, Fault.INPUT.mask, 0]
        assert_same_bits(rows_of(after, [0, 2]), rows_of(good, [0, 2]))
        assert_same_bits(rows_of(after, [1]), rows_of(state, [1]))
    assert_same_bits(stepped(start(mass), mass)[0], good)


SIMPLE = """
<mujoco>
  <worldbody>
    <body name="ball" pos="0 0 1">
      <freejoint/>
      <geom size="0.1" mass="1"/>
      <site name="s"/>
    </body>
    <body><joint name="j"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><motor joint="j"/></actuator>
</mujoco>
"""


def test_the_mass_centre_of_a_body_may_leave_its_frame():
    """The compiler takes a shortcut for such bodies, which `mj_setConst` cannot take back."""
    fields = frozenset({"body_ipos"})
    model = load_model(SIMPLE, "fast", model_fields=fields)
    assert load_model(SIMPLE, "fast").body_simple[1] and not model.body_simple[1]
    engine = make_backend("native", model, 2, frame_skip=5, reads=frozenset({"qvel"}), model_fields=fields)
    ipos = np.zeros((2, 3, 3), np.float32)
    ipos[1, 1] = (0.05, 0.02, -0.01)
    qvel = np.tile(np.arange(7.0), (2, 1))
    state = engine.reset_rows(engine.empty(), np.arange(2), np.tile(model.qpos0, (2, 1)), qvel, {"body_ipos": ipos})
    state, fault_E = engine.step(state, np.zeros((2, 1, 1)), np.ones(2, bool), None, {"body_ipos": ipos})
    assert not fault_E.any()
    for row in range(2):
        spec = mujoco.MjSpec.from_string(SIMPLE)
        ball = spec.body("ball")
        ball.ipos, ball.mass, ball.inertia, ball.explicitinertial = ipos[row, 1], 1.0, [0.004] * 3, True
        own = spec.compile()
        data = legged.in_c(own, own.qpos0, qvel[row])
        mujoco.mj_step(own, data, 5)
        np.testing.assert_allclose(state.view.qvel[row], data.qvel, rtol=1e-5)


def test_constants_that_cannot_be_computed_are_no_numbers():
    model = load_model(SLIDER, "fast")
    derived = derived_constants(model, {"body_mass": np.array([[0.0, 2.0], [0.0, 0.0], [0.0, 4.0]])})
    np.testing.assert_allclose(derived["dof_invweight0"][:, 0], [0.5, np.nan, 0.25])
