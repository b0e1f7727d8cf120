"""Heights of floors, against rays that C MuJoCo casts down on them."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.floors import FlatFloor, HeightField
from tests.ksim_envs.tasks.by_hand import context

HILLS = """
<mujoco>
  <asset><hfield name="hills" nrow="5" ncol="4" size="3 2 0.7 0.1"/></asset>
  <worldbody>
    <geom name="hills" type="hfield" hfield="hills" pos="0.4 -0.3 0.2"/>
    <geom name="turned" type="hfield" hfield="hills" pos="0 0 -9" euler="0 0 30"/>
    <geom name="ball" size="0.1" pos="0 0 -20"/>
    <body><joint name="j"/><geom size="0.1" pos="90 0 0"/></body>
  </worldbody>
  <actuator><motor joint="j"/></actuator>
</mujoco>
"""


def hills():
    model = mujoco.MjModel.from_xml_string(HILLS)
    model.hfield_data[:] = np.random.default_rng(0).uniform(0, 1, model.nhfielddata)
    return model


def test_a_height_field_is_as_high_as_where_a_ray_hits_it():
    """More columns than rows and other sizes in x and y: exchanged axes, as in ksim, would show."""
    model = hills()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    places = np.random.default_rng(1).uniform((-2.5, -2.2), (3.3, 1.6), (300, 2))
    geom, group = np.zeros(1, np.int32), None
    down = np.array([0.0, 0.0, -1.0])
    expected = [5.0 - mujoco.mj_ray(model, data, np.array([*place, 5.0]), down, group, 1, -1, geom) for place in places]
    ctx = context(model=Model(model))
    found = jax.vmap(lambda place: HeightField("hills")(place, ctx))(jnp.asarray(places, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 0.3


def test_outside_the_field_the_edge_counts():
    ctx = context(model=Model(hills()))
    outside, edge = (HeightField("hills")(jnp.array(place), ctx) for place in [(9.0, 0.1), (3.4, 0.1)])
    np.testing.assert_allclose(outside, edge, rtol=1e-6)


@pytest.mark.parametrize("geom", ["turned", "ball"])
def test_other_geoms_are_refused(geom):
    with pytest.raises(InvalidConfigError, match=f"geom '{geom}' must be a height field of the world body"):
        HeightField(geom)(jnp.zeros(2), context(model=Model(hills())))


def test_a_flat_floor_has_its_height_everywhere():
    assert FlatFloor(0.25)(jnp.array([3.0, -1.0]), context()) == 0.25
