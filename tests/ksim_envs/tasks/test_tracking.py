"""Kernels and tracking against numbers computed by hand; the base's velocities against C MuJoCo's."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.base_motion import BaseAngularVelocity, BaseLinearVelocity
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.measures import Commanded, Reduced, When
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.scales import Ramp
from ksim_envs.tasks.tracking import DirectionError, Gaussian, Laplace, Rests, SameSign, Tracking, Triangle
from tests.ksim_envs.tasks import biped
from tests.ksim_envs.tasks.by_hand import context, first_value, view

HALF = np.sqrt(0.5)
UPRIGHT = [1, 0, 0, 0]
TURNED = [HALF, 0, 0, HALF]  # a quarter to the left
ROLLED = [HALF, HALF, 0, 0]  # a quarter to the right: the body's y axis points up
E2 = np.exp(-2)
FLOATING = Model(biped.MODEL)


def base(quat=UPRIGHT, linear=(0, 0, 0), angular=(0, 0, 0)):
    return view(qpos=[0, 0, 1, *quat, 0, 0, 0, 0], qvel=[*linear, *angular, 0, 0, 0, 0])


def value(term, seen, **changes):
    return first_value(term, seen, context(model=FLOATING, **changes))


@pytest.mark.parametrize(
    ("kernel", "x", "expected"),
    [
        (Gaussian(0.5), 1.0, E2),
        (Gaussian(0.5), -1.0, E2),
        (Gaussian(), 0.25, np.exp(-0.5)),
        (Gaussian(0.5, square_cost=0.1, absolute_cost=0.2), -1.0, E2 - 0.1 - 0.2),
        (Gaussian(0.5, 0.1, 0.1), 2.0, np.exp(-8) - 0.4 - 0.2),
        (Laplace(0.5), -1.0, E2),
        (Triangle(0.5), -0.25, 0.5),
        (Triangle(0.5), 1.0, -1),
    ],
)
def test_a_kernel_is_1_at_the_target_and_what_was_computed_by_hand_elsewhere(kernel, x, expected):
    assert kernel(jnp.array(0.0)) == 1
    np.testing.assert_allclose(kernel(jnp.array(x)), expected, rtol=1e-6)


NARROW = Gaussian(0.5)
CASES = [  # of qvel (1, -2)
    (Tracking(3.0, Field("qvel"), (1.0, -2.0)), 3),
    (Tracking(3.0, Field("qvel"), (0.0, -2.0), NARROW), 3 * (E2 + 1) / 2),
    (Tracking(3.0, Field("qvel"), (0.5, -1.5), NARROW, over="sum"), 3 * E2),
    (Tracking(3.0, Field("qvel"), (0.4, -2.8), NARROW, over="norm"), 3 * E2),
    (Tracking(3.0, Field("qvel"), "twist", NARROW, over="norm"), 3 * E2),
    (Tracking(3.0, Coordinate(0), 6.0, Laplace(0.5)), 3 * E2),
    (Tracking(3.0, Coordinate(0), Coordinate(1), Triangle(0.5)), -9),
    (Tracking(Ramp(0.0, 6.0), Coordinate(0), 6.0, Laplace(0.5)), 3 * E2),  # at level 0.5
]


@pytest.mark.parametrize(("term", "expected"), CASES, ids=[repr(case[0]) for case in CASES])
def test_tracking_is_that_computed_by_hand(term, expected):
    ctx = context(commands={"twist": jnp.array([1.0, -1.0])}, level=jnp.array(0.5))
    found = first_value(term, view(qpos=[5, 7], qvel=[1, -2]), ctx)
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("term", "seen", "expected"),
    [
        (BaseLinearVelocity("heading"), base(TURNED, linear=(0, 2, 0.5)), [2, 0, 0.5]),
        (BaseLinearVelocity("heading", "xy"), base(TURNED, linear=(1, 2, 0.5)), [2, -1]),
        (
            BaseLinearVelocity("heading", "z"),
            base(ROLLED, linear=(0, 2, 0.5)),
            0.5,
        ),  # up in the world, however the body leans
        (BaseLinearVelocity("heading", "y"), base(ROLLED, linear=(0, 2, 0.5)), 2),
        (BaseLinearVelocity("heading", "xy", heading="start"), base(TURNED, linear=(0, 2, 0.5)), [0, 2]),
        (BaseAngularVelocity("heading"), base(TURNED, angular=(1, 2, 3)), [1, 2, 3]),
        (
            BaseAngularVelocity("heading", "z"),
            base(ROLLED, angular=(0, 1, 0)),
            1,
        ),  # about the body's y axis, which points up
        (BaseAngularVelocity("heading", "xy"), base(ROLLED, angular=(1, 0, 3)), [1, -3]),
    ],
)
def test_velocities_are_seen_from_the_heading(term, seen, expected):
    found = value(term, seen, commands={"start": jnp.array(UPRIGHT, jnp.float32)})
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_velocities_are_those_of_c_mujoco(seed):
    """What ksim rotated twice: the engine's own object velocities in the world, turned by the yaw."""
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(biped.MODEL)
    data.qpos[3:7] = rng.normal(size=4)
    mujoco.mj_normalizeQuat(biped.MODEL, data.qpos)
    data.qvel[:] = rng.normal(size=biped.MODEL.nv)
    mujoco.mj_forward(biped.MODEL, data)
    twist = np.zeros(6)
    mujoco.mj_objectVelocity(biped.MODEL, data, mujoco.mjtObj.mjOBJ_XBODY, 1, twist, 0)
    ahead = data.xmat[1].reshape(3, 3)[:2, 0] / np.linalg.norm(data.xmat[1].reshape(3, 3)[:2, 0])
    to_heading = np.array([[ahead[0], ahead[1], 0], [-ahead[1], ahead[0], 0], [0, 0, 1]])
    seen = view(qpos=data.qpos, qvel=data.qvel)
    np.testing.assert_allclose(value(BaseAngularVelocity("heading"), seen), to_heading @ twist[:3], atol=1e-5)
    np.testing.assert_allclose(value(BaseLinearVelocity("heading"), seen), to_heading @ twist[3:], atol=1e-5)


def test_off_axis_motion_is_vertical_speed_roll_and_pitch_rate_but_not_yaw_rate():
    terms = Tracking(1.0, BaseLinearVelocity("heading", "z")), Tracking(1.0, BaseAngularVelocity("heading", "xy"))
    spinning, rising = base(angular=(0, 0, 3), linear=(1, 1, 0)), base(linear=(0, 0, 0.25))
    rolling, pitching = base(angular=(0.25, 0, 0)), base(angular=(0, 0.25, 0))
    E = np.exp(-0.5)  # noqa: N806
    found = [[float(value(term, seen)) for term in terms] for seen in (spinning, rising, rolling, pitching)]
    np.testing.assert_allclose(found, [[1, 1], [E, 1], [1, (1 + E) / 2], [1, (1 + E) / 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("linear", "angular", "rests"),
    [
        ((0, 0, 0), (0, 0, 0), True),
        ((0.3, 0.3, 9), (0, 0, 0.4), True),  # falling is not walking
        ((0.4, 0.4, 0), (0, 0, 0), False),
        ((0, 0, 0), (0, 0, 0.6), False),
        ((0, 0, 0), (0, 0, -0.6), False),  # ksim's sign: turning right fast would be rest
    ],
)
def test_rest_is_slow_in_both_senses_of_turning(linear, angular, rests):
    assert bool(value(Rests(0.5, 0.5), base(TURNED, linear, angular))) is rests


@pytest.mark.parametrize(
    ("velocity", "target", "expected"),
    [
        ([1, 0], [2, 0], 0),
        ([0, 1], [2, 0], np.pi / 2),
        ([0, -1], [2, 0], np.pi / 2),
        ([-1, 0], [2, 0], np.pi),
        ([-1, 0.1], [-1, -0.1], 2 * np.arctan(0.1)),  # across the cut of the angle
        ([0, 0], [2, 0], 0),
    ],
)
def test_the_direction_error_is_the_angle_between(velocity, target, expected):
    term = DirectionError(Field("qvel"), "target")
    found = first_value(term, view(qvel=velocity), context(commands={"target": jnp.array(target, jnp.float32)}))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "target", "expected"), [(2, 1, 1), (-2, 1, -1), (-2, -1, 1), (0.05, 1, 0), (2, 0.05, 0), (-2, -0.05, 0)]
)
def test_signs_agree_disagree_or_are_too_small_to_count(rate, target, expected):
    term = SameSign(Coordinate(0), "rate", threshold=0.1)
    assert first_value(term, view(qpos=[rate]), context(commands={"rate": jnp.array(float(target))})) == expected


def test_a_joystick_is_followed_in_parts():
    ahead = {"joystick": jnp.array([1.0, 0.0, 0.5])}
    seen = base(TURNED, linear=(0, 1, 0), angular=(0, 0, 0.25))
    walks = Tracking(1.0, BaseLinearVelocity("heading", "xy"), Commanded("joystick", (0, 2)))
    turns = Tracking(1.0, BaseAngularVelocity("heading", "z"), Commanded("joystick", 2))
    assert value(walks, seen, commands=ahead) == 1
    np.testing.assert_allclose(value(turns, seen, commands=ahead), np.exp(-0.5), rtol=1e-6)


@pytest.mark.parametrize(
    "term", [BaseLinearVelocity("heading"), BaseAngularVelocity("heading"), Rests(1.0, 1.0)], ids=repr
)
def test_a_fixed_base_has_no_heading(term):
    with pytest.raises(InvalidConfigError, match="no free joint"):
        first_value(term, view(qpos=[0, 0], qvel=[0, 0]), context())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Gaussian(0.0),
        lambda: Gaussian(1.0, square_cost=-1.0),
        lambda: Gaussian(1.0, absolute_cost=-1.0),
        lambda: Laplace(-1.0),
        lambda: Triangle(0.0),
        lambda: Tracking(-1.0, Coordinate(0)),
        lambda: Tracking(1.0, Coordinate(0), over="mean"),
        lambda: BaseLinearVelocity("heading", axes="yaw"),
        lambda: value(DirectionError(BaseLinearVelocity("heading"), (1.0, 0.0)), base()),
        lambda: value(SameSign(BaseLinearVelocity("heading", "xy"), (1.0,), 0.1), base()),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises((InvalidConfigError, UnknownNameError)):
        wrong()


def test_a_reward_can_be_paid_only_when_a_condition_holds():
    speed = When(Rests(0.5, 0.5), Reduced(Field("qvel", start=6), "norm"))
    moving = view(qpos=[0, 0, 1, *UPRIGHT, 0, 0, 0, 0], qvel=[1, 0, 0, 0, 0, 0, 3, 4, 0, 0])
    resting = view(qpos=[0, 0, 1, *UPRIGHT, 0, 0, 0, 0], qvel=[0, 0, 0, 0, 0, 0, 3, 4, 0, 0])
    assert value(speed, moving) == 0 and value(speed, resting) == 5
