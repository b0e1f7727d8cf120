"""Each quantity of the base against numbers computed by hand; test_quantities_on_backends has the physics."""

from dataclasses import dataclass

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.base_motion import (
    BaseAngularAcceleration,
    BaseAngularVelocity,
    BaseLinearAcceleration,
    BaseLinearVelocity,
    BaseOrientation,
    BasePosition,
    Inclination,
    ProjectedGravity,
    RollPitchYaw,
)
from ksim_envs.tasks.bodies import BodyOrientations
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.posture import HeightAboveGround
from tests.ksim_envs.tasks.by_hand import MODEL, context, first_value, unchecked_types, view

FLOATING = """
<mujoco>
  <option gravity="0 0 -4"/>
  <worldbody>
    <body name="mast"><joint name="swing"/><geom size="0.1"/></body>
    <body name="base"><freejoint/><geom size="0.1"/></body>
  </worldbody>
</mujoco>
"""
"""The base's seven coordinates and six velocities come second."""
ON_BASE = context(model=Model(mujoco.MjModel.from_xml_string(FLOATING)))
H = np.sqrt(0.5)
LEFT = [H, 0, 0, H]  # a quarter turn to the left
FORWARD = [H, 0, H, 0]  # a quarter turn about y: the x axis points down
SIDEWAYS = [H, H, 0, 0]  # a quarter turn about x: the z axis points along -y
OVER = [0, 1, 0, 0]  # half a turn about x


@dataclass(frozen=True)
class Slope:
    """A floor that rises with the base's x, so steep."""

    rise: float

    def __call__(self, view, ctx):
        return self.rise * view.qpos[1]


def state(quat=LEFT):
    return view(
        qpos=[9, 1, 2, 3, *(5 * np.array(quat))],  # a start may not have the length 1
        qvel=[9, 1, 2, 3, 4, 5, 6],
        qacc=[9, 1, 2, 3, 4, 5, 6],
        xquat=[[1, 0, 0, 0], [1, 0, 0, 0], quat],
    )


@pytest.mark.parametrize(
    ("term", "quat", "expected"),
    [
        (BasePosition(), LEFT, [1, 2, 3]),
        (BaseOrientation(), LEFT, LEFT),
        (BaseLinearVelocity(), LEFT, [1, 2, 3]),
        (BaseLinearVelocity("body"), LEFT, [2, -1, 3]),
        (BaseLinearVelocity("heading"), LEFT, [2, -1, 3]),
        (BaseLinearVelocity("body"), FORWARD, [-3, 2, 1]),
        (BaseAngularVelocity(), LEFT, [4, 5, 6]),
        (BaseAngularVelocity("world"), LEFT, [-5, 4, 6]),
        (BaseLinearAcceleration(), LEFT, [1, 2, 3]),
        (BaseLinearAcceleration("body"), LEFT, [2, -1, 3]),
        (BaseAngularAcceleration(), LEFT, [4, 5, 6]),
        (BaseAngularAcceleration("heading"), LEFT, [4, 5, 6]),
        (HeightAboveGround(), LEFT, 3),
        (HeightAboveGround(ground=0.5), LEFT, 2.5),
        (HeightAboveGround(ground=Slope(0.25)), LEFT, 2.75),
        (ProjectedGravity(), LEFT, [0, 0, -1]),
        (ProjectedGravity(), FORWARD, [1, 0, 0]),
        (ProjectedGravity(), SIDEWAYS, [0, -1, 0]),
        (ProjectedGravity(BodyOrientations(("mast", "base"))), OVER, [[0, 0, -1], [0, 0, 1]]),
        (Inclination(), LEFT, 0),
        (Inclination(), SIDEWAYS, np.pi / 2),
        (Inclination(), OVER, np.pi),
        (Inclination(BodyOrientations(("base", "mast"))), SIDEWAYS, [np.pi / 2, 0]),
        (RollPitchYaw("x"), SIDEWAYS, np.pi / 2),
        (RollPitchYaw("x"), LEFT, 0),
        (RollPitchYaw("y"), FORWARD, np.pi / 2),
        (RollPitchYaw("y"), SIDEWAYS, 0),
        (RollPitchYaw("z"), LEFT, np.pi / 2),
        (RollPitchYaw("z"), SIDEWAYS, 0),
    ],
    ids=repr,
)
def test_the_value_is_that_computed_by_hand(term, quat, expected):
    value = first_value(term, state(quat), ON_BASE)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(
        value, expected, atol=1e-3 if getattr(term, "axes", "") == "y" else 1e-6
    )  # asin is steep at 1


@pytest.mark.parametrize(
    "term",
    [
        BasePosition(),
        BaseOrientation(),
        BaseLinearVelocity(),
        BaseAngularAcceleration(),
        HeightAboveGround(),
        Inclination(),
    ],
    ids=repr,
)
def test_a_robot_without_a_free_joint_is_told_so(term):
    with pytest.raises(InvalidConfigError, match="no free joint; this term is for robots with a floating base"):
        first_value(term, state(), context())


def test_gravity_has_a_direction_on_a_fixed_robot_too():
    leaning = view(xquat=[[1, 0, 0, 0], [1, 0, 0, 0], FORWARD])
    value = first_value(ProjectedGravity(BodyOrientations("pole")), leaning, context())
    np.testing.assert_allclose(value, [[1, 0, 0]], atol=1e-6)


def test_without_gravity_there_is_no_direction_of_it():
    weightless = mujoco.MjModel.from_xml_string(FLOATING.replace('gravity="0 0 -4"', 'gravity="0 0 0"'))
    with pytest.raises(InvalidConfigError, match="no gravity"):
        first_value(ProjectedGravity(), state(), context(model=Model(weightless)))


@pytest.mark.parametrize(
    "term", [BaseLinearVelocity, BaseAngularVelocity, BaseLinearAcceleration, BaseAngularAcceleration]
)
def test_a_misspelt_frame_is_refused(term):
    with unchecked_types(), pytest.raises(UnknownNameError, match="no frame 'headin'. Did you mean 'heading'"):
        term("headin")


def test_the_model_knows_its_gravity():
    assert Model(MODEL).gravity.tolist() == jnp.array([0, 0, -9.81]).tolist()
