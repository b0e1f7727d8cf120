"""Rotations as MuJoCo has them: unit quaternions (w, x, y, z), on the last axis of arrays of any shape.

Products are written out element by element: as matrix products an accelerator may round them to 10 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError, check_name

Frame: TypeAlias = Literal["world", "body", "heading"]
"""Axes of a vector: the world's, a body's, or the world's turned about z by the body's yaw."""
Quaternion: TypeAlias = Float[Array, "*rows 4"]
Vector: TypeAlias = Float[Array, "*rows 3"]
Angle: TypeAlias = Float[Array, "*rows"]

SMALLEST_NORM = 1e-12


def check_frame(frame: str) -> None:
    """Refuse a frame that does not exist.

    Raises:
        UnknownNameError: it does not.
    """
    check_name("frame", frame, get_args(Frame))


def change_frame(vector: Vector, given: Frame, wanted: Frame, orientation: Callable[[], Quaternion]) -> Vector:
    """A vector with other axes.

    Args:
        vector: (..., 3).
        given: the vector's axes, the world's or the body's.
        wanted: the axes wanted.
        orientation: (..., 4), the body's orientation in the world; called only where it is needed.

    Returns:
        (..., 3), in the vector's unit.
    """
    if given == wanted:
        return vector
    quat = orientation()
    vector_w = rotate(quat, vector) if given == "body" else vector
    if wanted == "world":
        return vector_w
    return rotate_back(quat if wanted == "body" else heading(quat), vector_w)


def check_orientation(quat: Array) -> None:
    """Refuse what is no quaternion: JAX would take an element that is missing for the last one.

    Raises:
        InvalidConfigError: it is not (..., 4).
    """
    if jnp.shape(quat)[-1:] != (4,):
        raise InvalidConfigError(f"An orientation is of shape {jnp.shape(quat)}; it must be (..., 4): w x y z.")


def unit(quat: Quaternion) -> Quaternion:
    """(..., 4), of length 1; the identity where there is no direction, as in `mju_normalize4`."""
    norm = jnp.sqrt(jnp.sum(jnp.square(quat), axis=-1, keepdims=True))
    identity = jnp.zeros_like(quat).at[..., 0].set(1)
    return jnp.where(norm < SMALLEST_NORM, identity, quat / jnp.maximum(norm, SMALLEST_NORM))


def conjugate(quat: Quaternion) -> Quaternion:
    """(..., 4), the inverse rotation."""
    return quat * jnp.array([1, -1, -1, -1], quat.dtype)


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """(..., 4), the rotation by `second`, then by `first`."""
    w, v, other_w, other_v = first[..., :1], first[..., 1:], second[..., :1], second[..., 1:]
    scalar = w * other_w - jnp.sum(v * other_v, axis=-1, keepdims=True)
    return jnp.concatenate([scalar, w * other_v + other_w * v + jnp.cross(v, other_v)], axis=-1)


def rotate(quat: Quaternion, vector: Vector) -> Vector:
    """(..., 3), a body's vector in the world, with the body's orientation: `v + 2 w (q x v) + 2 q x (q x v)`."""
    check_orientation(quat)
    w, q = quat[..., :1], quat[..., 1:]
    turned = 2 * jnp.cross(q, vector)
    return vector + w * turned + jnp.cross(q, turned)


def rotate_back(quat: Quaternion, vector: Vector) -> Vector:
    """(..., 3), a vector of the world in a body's frame, with the body's orientation."""
    return rotate(conjugate(quat), vector)


def from_rotation_vector(vector: Vector) -> Quaternion:
    """(..., 4), the rotation about a vector by its length in rad."""
    angle = jnp.sqrt(jnp.sum(jnp.square(vector), axis=-1, keepdims=True))
    return jnp.concatenate([jnp.cos(angle / 2), jnp.sinc(angle / (2 * jnp.pi)) * vector / 2], axis=-1)


def roll(quat: Quaternion) -> Angle:
    """(...), rad in [-pi, pi]: the last of the turns about z, y and x (yaw, pitch, roll) that make up the rotation."""
    w, x, y, z = _parts(quat)
    return jnp.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))


def pitch(quat: Quaternion) -> Angle:
    """(...), rad in [-pi/2, pi/2], positive where the x axis points down."""
    w, x, y, z = _parts(quat)
    return jnp.arcsin(jnp.clip(2 * (w * y - z * x), -1, 1))


def yaw(quat: Quaternion) -> Angle:
    """(...), rad in [-pi, pi]: where the x axis points, seen from above, 0 along the world's x axis."""
    w, x, y, z = _parts(quat)
    return jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def heading(quat: Quaternion) -> Quaternion:
    """(..., 4), the turn about the world's z axis by the rotation's yaw."""
    half = yaw(quat) / 2
    zero = jnp.zeros_like(half)
    return jnp.stack([jnp.cos(half), zero, zero, jnp.sin(half)], axis=-1)


def angle_between(one: Quaternion, other: Quaternion) -> Angle:
    """(...), rad in [0, pi]: the angle of the shortest rotation from one orientation to the other."""
    check_orientation(one)
    cosine = jnp.abs((one * other).sum(axis=-1))
    axis = one[..., :1] * other[..., 1:] - other[..., :1] * one[..., 1:] - jnp.cross(one[..., 1:], other[..., 1:])
    return 2 * jnp.arctan2(jnp.linalg.norm(axis, axis=-1), cosine)


def along(axes: str, vector: Vector) -> Float[Array, "..."]:
    """(..., number of axes), the components along axes such as `"xy"`; (...) for one axis."""
    indices = axis_indices(axes)
    return vector[..., indices[0]] if len(indices) == 1 else vector[..., jnp.array(indices)]


def axis_indices(axes: str) -> list[int]:
    """The indices of axes such as `"xy"`.

    Raises:
        InvalidConfigError: there are none, others than x, y and z, or one twice.
    """
    if not axes or not set(axes) <= set("xyz") or len(set(axes)) < len(axes):
        raise InvalidConfigError(f"axes is {axes!r}; it must name one or more of x, y and z, each once.")
    return ["xyz".index(axis) for axis in axes]


def _parts(quat: Quaternion) -> tuple[Array, Array, Array, Array]:
    check_orientation(quat)
    return quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
