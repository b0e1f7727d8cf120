"""Each function against MuJoCo's own, and angles against numbers computed by hand."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks import rotations

RANDOM = np.random.default_rng(0)
QUATS = RANDOM.normal(size=(20, 4))
QUATS /= np.linalg.norm(QUATS, axis=1, keepdims=True)
VECTORS = RANDOM.normal(size=(20, 3))


def each(function, size, *args):
    """What MuJoCo's function makes of each row."""
    out = np.empty((20, size))
    for row, *rest in zip(out, *args, strict=True):
        function(row, *rest)
    return out


def float32(*values):
    return [jnp.asarray(value, jnp.float32) for value in values]


@pytest.mark.parametrize(
    ("ours", "size", "theirs", "args"),
    [
        (rotations.rotate, 3, lambda out, quat, v: mujoco.mju_rotVecQuat(out, v, quat), (QUATS, VECTORS)),
        (rotations.conjugate, 4, mujoco.mju_negQuat, (QUATS,)),
        (rotations.multiply, 4, mujoco.mju_mulQuat, (QUATS, QUATS[::-1])),
        (
            rotations.from_rotation_vector,
            4,
            lambda out, v: mujoco.mju_axisAngle2Quat(out, v / np.linalg.norm(v), np.linalg.norm(v)),
            (VECTORS,),
        ),
    ],
    ids=["rotate", "conjugate", "multiply", "from_rotation_vector"],
)
def test_it_is_what_mujoco_computes_for_one_and_for_many(ours, size, theirs, args):
    expected = each(theirs, size, *args)
    np.testing.assert_allclose(ours(*float32(*args)), expected, atol=1e-6)
    np.testing.assert_allclose(ours(*float32(*[arg[3] for arg in args])), expected[3], atol=1e-6)


def test_rotating_back_undoes_a_rotation():
    quats, vectors = float32(QUATS, VECTORS)
    np.testing.assert_allclose(rotations.rotate_back(quats, rotations.rotate(quats, vectors)), vectors, atol=1e-6)


def test_no_rotation_is_the_identity():
    assert rotations.from_rotation_vector(jnp.zeros(3)).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("quat", "expected"),
    [([0, 3, 0, 4], [0, 0.6, 0, 0.8]), ([0, 0, 0, 0], [1, 0, 0, 0]), ([-2, 0, 0, 0], [-1, 0, 0, 0])],
)
def test_a_unit_quaternion_has_length_1_and_the_direction_given(quat, expected):
    np.testing.assert_allclose(rotations.unit(jnp.array(quat, jnp.float32)), expected, atol=1e-7)


def test_yaw_then_pitch_then_roll_make_up_the_rotation():
    yaw, pitch, roll = RANDOM.uniform([-3, -1.5, -3], [3, 1.5, 3], (20, 3)).T
    axes = np.eye(3)
    turns = [
        rotations.from_rotation_vector(jnp.asarray(angle[:, None] * axis, jnp.float32))
        for angle, axis in ((yaw, axes[2]), (pitch, axes[1]), (roll, axes[0]))
    ]
    quat = rotations.multiply(rotations.multiply(turns[0], turns[1]), turns[2])
    np.testing.assert_allclose(rotations.yaw(quat), yaw, atol=1e-5)
    np.testing.assert_allclose(rotations.pitch(quat), pitch, atol=1e-3)  # flat near pi/2
    np.testing.assert_allclose(rotations.roll(quat), roll, atol=1e-5)
    np.testing.assert_allclose(abs(jnp.sum(rotations.heading(quat) * turns[0], axis=-1)), 1, atol=1e-6)


HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ("world", "world", [1, 2, 3]),
        ("world", "body", [2, -1, 3]),
        ("body", "world", [-2, 1, 3]),
        ("body", "body", [1, 2, 3]),
        ("world", "heading", [2, -1, 3]),
        ("body", "heading", [1, 2, 3]),
    ],
)
def test_a_vector_in_another_frame_for_a_quarter_turn_to_the_left(given, wanted, expected):
    quarter = jnp.array([HALF, 0, 0, HALF], jnp.float32)
    value = rotations.change_frame(jnp.array([1.0, 2.0, 3.0]), given, wanted, lambda: quarter)
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_the_heading_leaves_out_pitch_and_roll():
    pitched = jnp.array([np.cos(0.3), 0, np.sin(0.3), 0], jnp.float32)
    vector = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(rotations.change_frame(vector, "world", "heading", lambda: pitched), vector, atol=1e-6)
    assert rotations.change_frame(vector, "world", "body", lambda: pitched)[0] != pytest.approx(1, abs=0.1)


def test_a_misspelt_frame_gets_the_near_miss():
    with pytest.raises(UnknownNameError, match="no frame 'wrold'. Did you mean 'world'"):
        rotations.check_frame("wrold")


@pytest.mark.parametrize(
    ("one", "other", "angle"),
    [
        ([1, 0, 0, 0], [1, 0, 0, 0], 0),
        ([1, 0, 0, 0], [-1, 0, 0, 0], 0),  # the same rotation
        ([1, 0, 0, 0], [HALF, 0, HALF, 0], np.pi / 2),
        ([HALF, 0, 0, HALF], [HALF, 0, 0, -HALF], np.pi),
        ([np.cos(0.15), 0, 0, np.sin(0.15)], [np.cos(0.2), 0, 0, -np.sin(0.2)], 0.7),
        (
            [np.cos(0.1), np.sin(0.1), 0, 0],
            [np.cos(0.10005), np.sin(0.10005), 0, 0],
            1e-4,
        ),  # where the arc cosine knows no difference
    ],
)
def test_the_angle_between_two_orientations(one, other, angle):
    found = rotations.angle_between(jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32))
    np.testing.assert_allclose(found, angle, atol=1e-6)


@pytest.mark.parametrize("axes", ["", "w", "xx", "xyzw"])
def test_axes_are_named_each_once(axes):
    with pytest.raises(InvalidConfigError, match="one or more of x, y and z"):
        rotations.axis_indices(axes)
    assert rotations.along("zx", jnp.array([1.0, 2.0, 3.0])).tolist() == [3, 1]
    assert rotations.along("y", jnp.array([1.0, 2.0, 3.0])) == 2
