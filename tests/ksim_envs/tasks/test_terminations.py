"""`Outside` at, within and beyond its bounds, and for what is no number."""

import re

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.tasks import base_motion, bodies, contacts, measures, observations, posture, scales, terminations
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.scales import AfterStart, Ramp
from ksim_envs.tasks.terminations import Outside
from tests.ksim_envs.tasks.by_hand import context, first_value, view
from tests.ksim_envs.tasks.walker import FEET, WALKER

OPEN = Outside(Coordinate(0), low=-1.0, high=2.0)
CLOSED = Outside(Coordinate(0), low=-1.0, high=2.0, closed=True)
ABOVE = Outside(Coordinate(0), low=0.5)
BELOW = Outside(Coordinate(0), high=0.5)
ANY_OF_TWO = Outside(Field("qpos", stop=2), low=-1.0, high=1.0)


@pytest.mark.parametrize(
    ("term", "qpos", "ends"),
    [
        (OPEN, [0.0], False),
        (OPEN, [-1.0], True),
        (OPEN, [2.0], True),
        (OPEN, [2.5], True),
        (CLOSED, [-1.0], False),
        (CLOSED, [2.0], False),
        (CLOSED, [-1.5], True),
        (CLOSED, [2.5], True),
        (ABOVE, [1e9], False),
        (ABOVE, [0.5], True),
        (BELOW, [-1e9], False),
        (BELOW, [0.5], True),
        (ANY_OF_TWO, [0.5, -0.5, 9.0], False),
        (ANY_OF_TWO, [0.5, -1.5, 9.0], True),
        (ANY_OF_TWO, [1.5, 0.5, 9.0], True),
        *[(term, [bad], True) for term in (OPEN, CLOSED, ABOVE, BELOW) for bad in [np.nan]],
        *[(term, [bad], True) for term in (OPEN, CLOSED) for bad in (np.inf, -np.inf)],
    ],
    ids=str,
)
def test_an_episode_ends_outside_the_bounds_and_for_nan(term, qpos, ends):
    value = first_value(term, view(qpos=qpos), context())
    assert value.shape == () and value.dtype == bool
    assert bool(value) is ends


@pytest.mark.parametrize(
    ("level", "height", "ends"),
    [(0.0, 0.5, False), (1.0, 0.5, True), (0.5, 0.5, True), (0.5, 0.52, False), (0.0, 2.5, False), (0.1, 2.5, True)],
)
def test_bounds_may_follow_the_curriculum(level, height, ends):
    term = Outside(Coordinate(0), low=Ramp(0.4, 0.62), high=AfterStart(3.0, 2.0))
    assert bool(first_value(term, view(qpos=[height]), context(level=jnp.array(level)))) is ends


def table():
    """The expressions in the module's table of ksim's terminations, by the first name of each row."""
    words = {"radians": 0.7, "feet": FEET}
    for module in (base_motion, bodies, contacts, measures, observations, posture, scales, terminations):
        words |= vars(module)
    rows = re.findall(r"^    (\w+)[\w, ]*?  ?((?:Outside|Contact)\(.*\))$", terminations.__doc__, re.M)
    return {name: eval(expression, words) for name, expression in rows}


TABLE = table()
STATES = {
    "upright": ({"z": 1.0}, set()),
    "leaning": ({"z": 1.0, "quat": [np.cos(0.4), 0, np.sin(0.4), 0]}, {"NotUpright", "PitchTooGreat"}),
    "leaning to the side": ({"z": 1.0, "quat": [np.cos(0.4), np.sin(0.4), 0, 0]}, {"NotUpright", "PitchTooGreat"}),
    "low": ({"z": 0.5, "feet": 0.1}, {"MinimumHeight"}),
    "fallen on a hill": ({"z": 2.0, "feet": 1.8}, {"TerrainBadZ"}),
    "too high": ({"z": 3.5, "feet": 3.0}, {"MinimumHeight"}),
    "fast": ({"z": 1.0, "speed": 150.0}, {"BadVelocity", "FastAcceleration"}),
    "fast backwards": ({"z": 1.0, "speed": -150.0}, {"BadVelocity", "FastAcceleration"}),
    "far": ({"z": 1.0, "x": -10.5}, {"FarFromOrigin"}),
    "late": ({"z": 1.0, "time": 24.5}, {"EpisodeLength"}),
}


def state(z, x=0.0, quat=(1, 0, 0, 0), feet=0.0, speed=0.0, time=0.0):
    """A walker at this place and so on, with its feet at this height and all of it moving at this speed."""
    return view(
        time=time,
        qpos=[x, 0, z, *quat, 0, 0, 0, 0],
        qvel=[0, speed, 0, *[0] * 7],
        xpos=[[0, 0, 0], [x, 0, z], *[[x, 0, feet]] * 4],
        cvel=[[0, 0, 0, 0, speed, 0]] * 6,
        subtree_com=np.zeros((6, 3)),
    )


@pytest.mark.parametrize("name", STATES)
def test_the_terminations_of_the_table_hold_where_they_should(name):
    changes, expected = STATES[name]
    ctx = context(model=Model(mujoco.MjModel.from_xml_string(WALKER)))
    terms = {row: term for row, term in TABLE.items() if row != "IllegalContact"}  # see test_contacts
    assert {row for row, term in terms.items() if first_value(term, state(**changes), ctx)} == expected


def test_the_table_is_complete():
    assert set(TABLE) == set().union(*(expected for _, expected in STATES.values())) | {"IllegalContact"}
