"""Each quantity against numbers computed by hand."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import UnknownNameError
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.measures import Reduced
from ksim_envs.tasks.observations import (
    BodyOffset,
    BodyPosition,
    Coordinate,
    CoordinateVelocity,
    Cosine,
    DistanceFromOrigin,
    Field,
    MassCenterVelocity,
    MeanBodyVelocity,
    Sensor,
    Sine,
    SiteHeight,
    Time,
)
from tests.ksim_envs.tasks.by_hand import TWO_BODIES, context, first_value, view

BODIES = [[0, 0, 0], [1, 2, 3], [5, 7, 11]]
ANGLES = [0, np.pi / 6, np.pi / 2, np.pi]
CASES = [
    (Field("qvel"), {"qvel": [1, -20, 3]}, [1, -20, 3]),
    (Field("qvel", start=1), {"qvel": [1, -20, 3]}, [-20, 3]),
    (Field("qvel", stop=1), {"qvel": [1, -20, 3]}, [1]),
    (Field("qvel", start=1, stop=2), {"qvel": [1, -20, 3]}, [-20]),
    (Field("qvel", limit=10.0), {"qvel": [1, -20, 30]}, [1, -10, 10]),
    (Field("xpos", start=1, limit=6.0), {"xpos": BODIES}, [[1, 2, 3], [5, 6, 6]]),
    (Sine(), {"qpos": ANGLES}, [0, 0.5, 1, 0]),
    (Sine(start=1, stop=3), {"qpos": ANGLES}, [0.5, 1]),
    (Cosine(), {"qpos": ANGLES}, [1, np.sqrt(3) / 2, 0, -1]),
    (Cosine(stop=2), {"qpos": ANGLES}, [1, np.sqrt(3) / 2]),
    (Coordinate(1), {"qpos": [4, 5]}, 5),
    (Coordinate(0, relative=True), {"qpos": [4, 5]}, 3),  # qpos0[0] is 1
    (DistanceFromOrigin(), {"qpos": [3, 4, 100]}, 5),
    (CoordinateVelocity(1), {"qpos_change": [7, 3]}, 6),  # in 0.5 s
    (MeanBodyVelocity("pole", axis=1), {"xpos_change": BODIES}, 14),
    (MassCenterVelocity(axis=0), {"xipos_change": BODIES}, (3 * 1 + 1 * 5) / 4 / 0.5),
    (BodyPosition("cart"), {"xpos": BODIES}, [1, 2, 3]),
    (SiteHeight("tip"), {"site_xpos": [[1, 2, 3]]}, 3),
    (BodyOffset("cart", "pole"), {"xpos": BODIES}, [4, 5, 8]),
    (BodyOffset("pole", "cart", axes=2), {"xpos": BODIES}, [-4, -5]),
    (Time(), {"time": 2.5}, 2.5),
    (Reduced(Field("qvel"), "norm"), {"qvel": [3, -4]}, 5),
    (Reduced(Field("xpos", start=1), "norm"), {"xpos": BODIES}, np.sqrt(14 + 25 + 49 + 121)),
]


@pytest.mark.parametrize(("term", "fields", "expected"), CASES, ids=[repr(case[0]) for case in CASES])
def test_the_value_is_that_computed_by_hand(term, fields, expected):
    value = first_value(term, view(**fields), context())
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)  # float32, and of pi


def test_a_sensor_is_found_by_name():
    sensors = (
        '<sensor><jointpos name="angle" joint="hinge"/><framepos name="place" objtype="site" objname="tip"/></sensor>'
    )
    model = Model(mujoco.MjModel.from_xml_string(TWO_BODIES.replace("<actuator>", sensors + "<actuator>")))
    state, ctx = view(sensordata=[1, 2, 3, 4]), context(model=model)
    assert Sensor("angle")(state, ctx).tolist() == [1]
    assert Sensor("place")(state, ctx).tolist() == [2, 3, 4]
    with pytest.raises(UnknownNameError, match="no sensor in the model 'plaice'. Did you mean 'place'"):
        Sensor("plaice")(state, ctx)


def test_the_mass_centre_moves_with_the_rows_own_masses():
    own = context(model_fields={"body_mass": jnp.array([0.0, 1.0, 1.0])})
    assert MassCenterVelocity(axis=0)(view(xipos_change=BODIES), own) == (1 + 5) / 2 / 0.5


def test_a_relative_coordinate_is_measured_from_the_rows_own_initial_one():
    own = context(model_fields={"qpos0": jnp.array([2.0, 0.0])})
    assert Coordinate(0, relative=True)(view(qpos=[4, 5]), own) == 2


@pytest.mark.parametrize(
    ("term", "kind", "near"),
    [
        (MeanBodyVelocity("cat", axis=0), "body", "cart"),
        (BodyPosition("Pole"), "body", "pole"),
        (BodyOffset("cart", "poles"), "body", "pole"),
        (BodyOffset("carts", "pole"), "body", "cart"),
        (SiteHeight("top"), "site", "tip"),
    ],
    ids=repr,
)
def test_a_misspelt_name_gets_the_near_miss(term, kind, near):
    with pytest.raises(UnknownNameError, match=f"no {kind} in the model .* Did you mean '{near}'"):
        term(view(xpos=BODIES, xpos_change=BODIES, site_xpos=[[1, 2, 3]]), context())
