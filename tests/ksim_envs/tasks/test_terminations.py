"""`Outside` at, within and beyond its bounds, and for what is no number."""

import numpy as np
import pytest

from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.terminations import Outside
from tests.ksim_envs.tasks.by_hand import context, first_value, view

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
