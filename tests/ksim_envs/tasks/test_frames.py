"""Rotations against C MuJoCo's, and against what one sees at once."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.frames import angle_between, axis_indices, conjugate, into_heading, roll_pitch, rotate, yaw

HALF = np.sqrt(0.5)
RNG = np.random.default_rng(0)
QUATS = RNG.normal(size=(20, 4))
QUATS /= np.linalg.norm(QUATS, axis=1, keepdims=True)
VECTORS = RNG.normal(size=(20, 3))


def turned(vector, quat):
    result = np.zeros(3)
    mujoco.mju_rotVecQuat(result, vector, quat)
    return result


def from_euler(roll, pitch, turn):
    """Roll, then pitch, then yaw about the world's axes."""
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, np.array([roll, pitch, turn]), "XYZ")
    return quat


def test_rotate_is_mujocos_rotation():
    expected = [turned(vector, quat) for vector, quat in zip(VECTORS, QUATS, strict=True)]
    np.testing.assert_allclose(rotate(jnp.asarray(VECTORS), jnp.asarray(QUATS)), expected, atol=1e-6)


def test_the_conjugate_turns_back():
    back = rotate(rotate(jnp.asarray(VECTORS), jnp.asarray(QUATS)), conjugate(jnp.asarray(QUATS)))
    np.testing.assert_allclose(back, VECTORS, atol=1e-6)


@pytest.mark.parametrize("angles", [(0.3, -0.7, 2.5), (-2.0, 0.4, -0.1), (0.0, 1.2, -3.0), (0, 0, 0)])
def test_roll_pitch_and_yaw_are_those_of_the_rotation(angles):
    quat = jnp.asarray(from_euler(*angles), jnp.float32)
    np.testing.assert_allclose([*roll_pitch(quat), yaw(quat)], angles, atol=1e-6)


def test_the_heading_frame_is_turned_by_the_yaw_alone():
    leaning = jnp.asarray(from_euler(0.5, -0.6, np.pi / 2), jnp.float32)
    np.testing.assert_allclose(into_heading(jnp.array([0.0, 2.0, 0.5]), leaning), [2, 0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "angle"),
    [
        ([1, 0, 0, 0], [1, 0, 0, 0], 0),
        ([1, 0, 0, 0], [-1, 0, 0, 0], 0),  # the same rotation
        ([1, 0, 0, 0], [HALF, 0, HALF, 0], np.pi / 2),
        ([HALF, 0, 0, HALF], [HALF, 0, 0, -HALF], np.pi),
        (from_euler(0, 0, 0.3), from_euler(0, 0, -0.4), 0.7),
        (from_euler(0.2, 0, 0), from_euler(0.2001, 0, 0), 1e-4),  # where the arc cosine knows no difference
    ],
)
def test_the_angle_between_two_orientations(one, other, angle):
    found = angle_between(jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32))
    np.testing.assert_allclose(found, angle, atol=1e-6)


@pytest.mark.parametrize("axes", ["", "w", "xx", "xyzw"])
def test_axes_are_named_each_once(axes):
    with pytest.raises(InvalidConfigError, match="one or more of x, y and z"):
        axis_indices(axes)
    assert axis_indices("zx") == [2, 0]
