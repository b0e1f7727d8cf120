"""How a robot holds itself, against numbers computed by hand and by C MuJoCo."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.base_motion import RollPitchYaw
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.joints import Action, JointPosition, JointVelocity
from ksim_envs.tasks.measures import Reduced
from ksim_envs.tasks.observations import BodyPosition, Coordinate, Field
from ksim_envs.tasks.posture import (
    Alignment,
    BeyondLimits,
    HeadingAlignment,
    HeightAboveGround,
    JointAsymmetry,
    JointDeviation,
    Lowest,
    MassCenterDistance,
    RotationAngle,
    Symmetry,
    TooClose,
)
from tests.ksim_envs.tasks import biped
from tests.ksim_envs.tasks.by_hand import context, first_value, unchecked_types, values, view

HALF = np.sqrt(0.5)
UPRIGHT, TURNED, ROLLED = [1, 0, 0, 0], [HALF, 0, 0, HALF], [HALF, HALF, 0, 0]
FLOATING = Model(biped.MODEL)
ARM = Model(
    mujoco.MjModel.from_xml_string("""
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body><joint name="left_a" range="-1 3" ref="0.5"/><geom size="0.1"/></body>
    <body><joint name="right_a" range="-1 3" ref="-0.5"/><geom size="0.1"/></body>
    <body><joint name="free_turning"/><geom size="0.1"/></body>
    <body><joint name="ball" type="ball"/><geom size="0.1"/></body>
  </worldbody>
  <keyframe><key name="home" qpos="1 2 3 1 0 0 0"/></keyframe>
</mujoco>""")
)
QPOS = [2, -1, 5, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (JointPosition(measured=False), [2, -1, 5]),  # the ball has no angle
        (JointPosition(("free_turning", "left_*"), measured=False), [5, 2]),
        (JointVelocity(), [0.1, 0.2, 0.3]),
        (JointVelocity("right_a"), [0.2]),
        (JointDeviation(), [1.5, -0.5, 5]),
        (JointDeviation(("right_a", "left_a"), targets=(1.0, 2.0)), [-2, 0]),
        (JointDeviation("*_a", targets="home"), [1, -3]),
        (JointDeviation("*_a", targets="home", weights=(2.0, 0.5)), [2, -1.5]),
        (JointAsymmetry("left_*", "right_*"), [2]),
        (JointAsymmetry("left_*", "right_*", flipped=True), [1]),
    ],
    ids=repr,
)
def test_joints_of_a_robot_with_a_fixed_base(term, expected):
    seen = view(qpos=QPOS, qvel=[0.1, 0.2, 0.3, 9, 9, 9])
    np.testing.assert_allclose(first_value(term, seen, context(model=ARM)), expected, rtol=1e-6)


def test_joints_of_a_robot_with_a_floating_base():
    seen = view(qpos=[9, 9, 9, *UPRIGHT, 1, 2, 3, 4], qvel=[9] * 6 + [5, 6, 7, 8])
    ctx = context(model=FLOATING)
    assert first_value(JointPosition("right_*", measured=False), seen, ctx).tolist() == [3, 4]
    assert first_value(JointVelocity(), seen, ctx).tolist() == [5, 6, 7, 8]
    assert first_value(JointDeviation("left_*"), seen, ctx).tolist() == [1, 2]


def test_the_pose_to_keep_is_the_rows_own():
    own = context(model=ARM, model_fields={"qpos0": jnp.array([1.0, 1, 1, 1, 0, 0, 0])})
    np.testing.assert_allclose(first_value(JointDeviation(), view(qpos=QPOS), own), [1, -2, 4])


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ([1, 1, 99], [0, 0, 0]),  # without limits there is nothing to be beyond
        ([2.8, -0.8, 0], [0, 0, 0]),  # soft limits at -0.8 and 2.8: 5 % of the range of 4 inside
        ([2.9, -0.9, 0], [0.1, 0.1, 0]),  # legal, but near: ksim's AvoidLimits saw nothing here
        ([3.0, 3.5, 0], [0.2, 0.7, 0]),
    ],
)
def test_soft_limits_lie_inside_the_legal_range(position, expected):
    seen = view(qpos=[*position, 1, 0, 0, 0])
    np.testing.assert_allclose(first_value(BeyondLimits(), seen, context(model=ARM)), expected, atol=1e-6)


def test_limits_hold_for_actions_and_for_the_rows_own_ranges():
    actions = context(model=ARM, action=jnp.array([2.9, 0.0]))
    term = BeyondLimits("*_a", position=Action())
    np.testing.assert_allclose(first_value(term, view(), actions), [0.1, 0], atol=1e-6)
    ranges = jnp.array([[-1.0, 1.0], [-1.0, 3.0], [0, 0], [0, 0]])
    own = context(model=ARM, model_fields={"jnt_range": ranges})
    np.testing.assert_allclose(first_value(BeyondLimits("left_a", margin=0.0), view(qpos=QPOS), own), [1], atol=1e-6)


def test_symmetry_pays_for_the_other_side_of_the_average():
    """With a share of a half: averages 0, 1, -0.5 before offsets 2, -2, 1."""
    offsets = [{"qpos": [each, 0]} for each in (9, 2, -2, 1)]
    term = Symmetry(Field("qpos", stop=1), time=0.5 / np.log(2))
    np.testing.assert_allclose(values(term, offsets), [0, 2, 0.5], atol=1e-6)
    constant = values(Symmetry(Coordinate(0), time=1.0), [{"qpos": [1, 0]}] * 30)
    np.testing.assert_allclose(constant[-1], -1, atol=1e-3)


@pytest.mark.parametrize(
    ("term", "quat", "expected"),
    [
        (RollPitchYaw("xy"), UPRIGHT, [0, 0]),
        (RollPitchYaw("xy"), TURNED, [0, 0]),
        (RollPitchYaw("xy"), ROLLED, [np.pi / 2, 0]),
        (RollPitchYaw("x"), ROLLED, np.pi / 2),
        (RollPitchYaw("y"), [np.cos(0.2), 0, np.sin(0.2), 0], 0.4),
        (HeadingAlignment((HALF, 0.0, 0.0, HALF)), TURNED, 1),
        (HeadingAlignment((1.0, 0.0, 0.0, 0.0)), TURNED, 0),
        (HeadingAlignment((0.0, 0.0, 0.0, 1.0)), UPRIGHT, -1),
        (RotationAngle(Field("qpos", 3, 7), (1.0, 0.0, 0.0, 0.0)), ROLLED, np.pi / 2),
    ],
)
def test_the_bases_orientation(term, quat, expected):
    found = first_value(term, view(qpos=[0, 0, 1, *quat, 0, 0, 0, 0]), context(model=FLOATING))
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (Alignment(("cart", "pole")), [1, 0]),  # the pole is rolled by a quarter: its z axis is level
        (Alignment("pole", axis=(0.0, 2.0, 0.0)), [1]),
        (Alignment("pole", axis=(0.0, -1.0, 0.0)), [-1]),
        (Alignment("cart", direction=(0.0, 1.0, 1.0)), [HALF]),  # a slope of 45 degrees
        (Alignment("pole", axis=(1.0, 0.0, 0.0), direction=(1.0, 0.0, 0.0)), [1]),
    ],
    ids=repr,
)
def test_alignment_is_the_cosine_of_each_body_by_itself(term, expected):
    found = first_value(term, view(xquat=[UPRIGHT, TURNED, ROLLED]), context())
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_measure_of_two_feet_is_one_number_per_step():
    """ksim took the norm of the feet's orientations over the time axis."""
    term = Reduced(Alignment(("cart", "pole")), "mean")
    states = [{"xquat": [UPRIGHT, UPRIGHT, quat]} for quat in (UPRIGHT, ROLLED, UPRIGHT, ROLLED)]
    np.testing.assert_allclose(values(term, states), [0.5, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (HeightAboveGround(Field("xpos"), 0.5), [-0.5, 0.5, 2.5]),
        (HeightAboveGround(Field("xpos"), Field("qpos")), [-1, -1, 0]),  # each above its own ground
        (HeightAboveGround(BodyPosition("pole"), Lowest(Field("xpos", start=1))), 2),
        (Lowest(Field("xpos")), 0),
        (TooClose(Field("xpos"), 1.4), 0),
        (TooClose(Field("xpos"), 1.5), 1),  # the first two are sqrt(2) apart
        (MassCenterDistance(Field("xpos", start=1)), 5),
        (MassCenterDistance(Field("xpos", start=1), body="pole"), np.hypot(0.5, 1)),
    ],
    ids=repr,
)
def test_heights_and_distances(term, expected):
    seen = view(
        xpos=[[0, 0, 0], [1, 0, 1], [0, 4, 3]], qpos=[1, 2, 3], subtree_com=[[3.5, -2, 99], [1, 1, 0], [9, 9, 9]]
    )
    np.testing.assert_allclose(first_value(term, seen, context()), expected, rtol=1e-6)


def test_the_support_offset_is_that_of_c_mujocos_mass_centre():
    data = mujoco.MjData(biped.MODEL)
    data.qpos[7:] = 0.5, 0.02, -0.3, 0
    mujoco.mj_forward(biped.MODEL, data)
    masses = biped.MODEL.body_mass
    center = masses @ data.xipos / masses.sum()
    expected = np.linalg.norm(center[:2] - data.site_xpos.mean(axis=0)[:2])
    seen = view(site_xpos=data.site_xpos, subtree_com=data.subtree_com)
    found = first_value(MassCenterDistance(biped.Soles()), seen, context(model=FLOATING))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert expected > 0.01


ONE_POINT = Field("xpos", start=2)
CENTERED = view(xpos=[[0, 0, 0]] * 3, subtree_com=[[0, 0, 0]] * 3)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: BeyondLimits(margin=0.5),
        lambda: BeyondLimits(margin=-0.1),
        lambda: Symmetry(Coordinate(0), time=0.0),
        lambda: first_value(JointDeviation("*_a", targets=(1.0,)), view(qpos=QPOS), context(model=ARM)),
        lambda: first_value(JointDeviation("*_a", weights=(1.0,)), view(qpos=QPOS), context(model=ARM)),
        lambda: first_value(JointDeviation(targets="hom"), view(qpos=QPOS), context(model=ARM)),
        lambda: first_value(JointPosition("ball", measured=False), view(qpos=QPOS), context(model=ARM)),
        lambda: first_value(JointAsymmetry("*_a", "right_a"), view(qpos=QPOS), context(model=ARM)),
        lambda: first_value(BeyondLimits("*_a", position=Coordinate(0)), view(qpos=QPOS), context(model=ARM)),
        lambda: first_value(Alignment("pole", axis=(0.0, 0.0, 0.0)), view(xquat=[UPRIGHT] * 3), context()),
        lambda: first_value(TooClose(ONE_POINT, 1.0), view(xpos=[[0, 0, 0]] * 3), context()),
        lambda: first_value(TooClose(BodyPosition("pole"), 1.0), view(xpos=[[0, 0, 0]] * 3), context()),
        lambda: first_value(MassCenterDistance(BodyPosition("pole")), CENTERED, context()),
        lambda: first_value(HeightAboveGround(), view(qpos=[0, 0]), context()),
        lambda: first_value(MassCenterDistance(ONE_POINT, body="pol"), view(xpos=[[0, 0, 0]] * 3), context()),
        lambda: first_value(RollPitchYaw("xy"), view(qpos=[0, 0]), context()),
        lambda: first_value(HeadingAlignment((1.0, 0.0, 0.0, 0.0)), view(qpos=[0, 0]), context()),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with unchecked_types(), pytest.raises((InvalidConfigError, UnknownNameError)):
        wrong()
