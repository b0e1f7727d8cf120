"""Each quantity of bodies and sites against numbers computed by hand, on a robot with a fixed base."""

import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.bodies import (
    BodyOrientations,
    BodyPositions,
    BodyVelocities,
    SiteOrientations,
    SitePositions,
)
from tests.ksim_envs.tasks.by_hand import context, unchecked_types, view

H = np.sqrt(0.5)
LEFT = [H, 0, 0, H]  # a quarter turn to the left
STATE = view(
    xpos=[[0, 0, 0], [1, 2, 3], [5, 7, 11]],
    xquat=[[1, 0, 0, 0], LEFT, [1, 0, 0, 0]],
    site_xpos=[[5, 7, 12]],
    cvel=[[0] * 6, [0] * 6, [0, 0, 2, 10, 20, 30]],  # the pole turns about z at 2 rad/s
    subtree_com=[[0, 0, 0], [5, 6, 9], [0, 0, 0]],
)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (BodyPositions(("pole", "cart")), [[5, 7, 11], [1, 2, 3]]),
        (BodyPositions("pole", origin="cart"), [[4, 5, 8]]),
        (BodyPositions("pole", origin="cart", frame="body"), [[5, -4, 8]]),
        (BodyPositions("*ol*", origin="cart", frame="heading"), [[5, -4, 8]]),
        (SitePositions("tip"), [[5, 7, 12]]),
        (SitePositions("tip", origin="pole"), [[0, 0, 1]]),
        (BodyOrientations(("cart", "pole")), [LEFT, [1, 0, 0, 0]]),
        (SiteOrientations("tip"), [[1, 0, 0, 0, 1, 0]]),
        # the pole's frame is at (0, 1, 2) from the mass centre of its tree: 2 z x (0, 1, 2) = (-2, 0, 0)
        (BodyVelocities("pole"), [[0, 0, 2, 8, 20, 30]]),
        (BodyVelocities("pole", "angular"), [[0, 0, 2]]),
        (BodyVelocities("pole", "linear"), [[8, 20, 30]]),
    ],
    ids=repr,
)
def test_the_value_is_that_computed_by_hand(term, expected):
    value = term(STATE, context())
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, atol=1e-5)


def test_a_site_that_a_randomizer_turns_is_turned():
    turned = context(model_fields={"site_quat": jnp.array([LEFT])})
    np.testing.assert_allclose(SiteOrientations("tip")(STATE, turned), [[0, 1, 0, -1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("term", [BodyPositions, SitePositions])
def test_axes_of_a_body_need_the_body(term):
    with pytest.raises(InvalidConfigError, match="frame is 'body', but of which body"):
        term("pole", frame="body")
    with unchecked_types(), pytest.raises(UnknownNameError, match="no frame 'boby'. Did you mean 'body'"):
        term("pole", origin="cart", frame="boby")


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (BodyPositions("pol"), "no body in the model 'pol'. Did you mean 'pole'"),
        (BodyPositions("pole", origin="car"), "no body in the model 'car'. Did you mean 'cart'"),
        (SitePositions("tib"), "no site in the model 'tib'. Did you mean 'tip'"),
        (BodyOrientations("cars"), "no body in the model 'cars'. Did you mean 'cart'"),
        (SiteOrientations("top"), "no site in the model 'top'. Did you mean 'tip'"),
        (BodyVelocities("poll"), "no body in the model 'poll'. Did you mean 'pole'"),
    ],
    ids=repr,
)
def test_a_misspelt_name_gets_the_near_miss(term, message):
    with pytest.raises(UnknownNameError, match=message):
        term(STATE, context())


def test_a_velocity_has_two_parts():
    with pytest.raises(UnknownNameError, match="no part of a velocity 'linaer'. Did you mean 'linear'"):
        BodyVelocities("pole", "linaer")
