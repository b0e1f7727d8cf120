"""Each reward against numbers computed by hand, and within the range that it states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import UnknownNameError
from ksim_envs.tasks.observations import Coordinate
from ksim_envs.tasks.rewards import (
    ActionCost,
    Alive,
    ContactCost,
    Cost,
    DistanceCost,
    HeightRate,
    JointVelocityCost,
    Scaled,
    TerminationCost,
    TipDistanceCost,
)
from tests.ksim_envs.tasks.by_hand import context, first_value, view

BODIES = [[0, 0, 0], [1, 2, 3], [3, 5, 9]]  # cart to pole: (2, 3, 6), 7 m
FORCES = [[3, -4, 0, 0, 0, 0], [0, 0, 12, 0, 0, 0]]  # squares: 9 + 16 + 144 = 169
CASES = [
    (Scaled(2.5, Coordinate(1)), {"qpos": [1, -4]}, {}, -10),
    (Cost(2.5, Coordinate(1)), {"qpos": [1, 4]}, {}, -10),
    (Alive(5.0), {}, {}, 5),
    (Alive(5.0), {}, {"terminated": jnp.array(True)}, 0),
    (TerminationCost(5.0), {}, {}, 0),
    (TerminationCost(5.0), {}, {"terminated": jnp.array(True)}, -5),
    (ActionCost(0.1), {}, {"action": jnp.array([3.0, -4.0])}, -2.5),
    (ContactCost(0.01), {"cfrc_ext": FORCES}, {}, -1.69),
    (ContactCost(0.01, limit=3.0), {"cfrc_ext": FORCES}, {}, -0.27),
    (ContactCost(1.0, maximum=10.0), {"cfrc_ext": FORCES}, {}, -10),
    (ContactCost(0.01, limit=3.0, maximum=10.0), {"cfrc_ext": FORCES}, {}, -0.27),
    (DistanceCost(0.5, "cart", "pole"), {"xpos": BODIES}, {}, -3.5),
    (HeightRate(), {"qpos": [1, 2, 0.3]}, {}, 30),  # by the timestep, 0.01 s
    (TipDistanceCost("tip", height=2.0), {"site_xpos": [[3, 9, 1.5]]}, {}, -(0.01 * 9 + 0.25)),
    (JointVelocityCost((1.0, 2.0), start=1), {"qvel": [100, 3, 4, 100]}, {}, -(9 + 32)),
    (JointVelocityCost((0.5,)), {"qvel": [4, 100]}, {}, -8),
]


@pytest.mark.parametrize(("term", "fields", "changes", "expected"), CASES, ids=[repr(case[0]) for case in CASES])
def test_the_value_is_that_computed_by_hand(term, fields, changes, expected):
    value = first_value(term, view(**fields), context(**changes))
    assert value.shape == ()
    np.testing.assert_allclose(value, expected, rtol=1e-6)  # float32


RANGES = [
    (Alive(2.0), 0, 2),
    (TerminationCost(2.0), -2, 0),
    (ActionCost(0.1), -np.inf, 0),
    (ContactCost(0.1), -np.inf, 0),
    (ContactCost(0.03, maximum=10.0), -10, 0),
    (ContactCost(1.0, limit=0.1), -12 * 0.1**2 - 1e-6, 0),
    (DistanceCost(1.0, "cart", "pole"), -np.inf, 0),
    (TipDistanceCost("tip", height=2.0), -np.inf, 0),
    (JointVelocityCost((1.0, 2.0)), -np.inf, 0),
]


@pytest.mark.parametrize(("term", "low", "high"), RANGES, ids=[repr(case[0]) for case in RANGES])
def test_a_reward_stays_in_the_range_that_it_states_and_reaches_more_than_one_value(term, low, high):
    def draw(key):
        shapes = {"qvel": (2,), "xpos": (3, 3), "site_xpos": (1, 3), "cfrc_ext": (2, 6), "action": (2,)}
        keys = jax.random.split(key, len(shapes))
        drawn = {name: 5 * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
        action = drawn.pop("action")
        return first_value(term, view(**drawn), context(action=action, terminated=action[0] > 0))

    values = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 500)))
    assert (low <= values).all() and (values <= high).all()
    assert len(np.unique(values)) > 1


@pytest.mark.parametrize(
    ("term", "near"),
    [(DistanceCost(1.0, "cart", "pol"), "pole"), (TipDistanceCost("tips", height=1.0), "tip")],
    ids=repr,
)
def test_a_misspelt_name_gets_the_near_miss(term, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        term(view(xpos=BODIES, site_xpos=[[1, 2, 3]]), context())
