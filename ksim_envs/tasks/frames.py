"""Rotations and frames. Quaternions are unit ones, w x y z, and turn vectors from the body's frame to the world's.

The *heading frame* of a body is the world's frame turned about the vertical by the body's yaw: x ahead, y to the left,
z up, however much the body leans.
"""

from __future__ import annotations

from typing import TypeAlias

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError

Vector: TypeAlias = Float[Array, "*n 3"]
Quaternion: TypeAlias = Float[Array, "*n 4"]


def rotate(vector: Vector, quat: Quaternion) -> Vector:
    """A vector of the body's frame in the world's: `v + 2 w (u x v) + 2 u x (u x v)`."""
    w, axis = quat[..., :1], quat[..., 1:]
    twice = 2 * jnp.cross(axis, vector)
    return vector + w * twice + jnp.cross(axis, twice)


def conjugate(quat: Quaternion) -> Quaternion:
    """The opposite rotation."""
    return quat * jnp.array([1, -1, -1, -1], quat.dtype)


def yaw(quat: Quaternion) -> Float[Array, "*n"]:
    """Angle in (-pi, pi] about the vertical from the world's x axis to the body's, seen from above."""
    w, x, y, z = jnp.moveaxis(quat, -1, 0)
    return jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def roll_pitch(quat: Quaternion) -> Float[Array, "*n 2"]:
    """Roll in (-pi, pi] and pitch in [-pi/2, pi/2], in rad: turns about x, then y, before the yaw about z."""
    w, x, y, z = jnp.moveaxis(quat, -1, 0)
    roll = jnp.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = jnp.arcsin(jnp.clip(2 * (w * y - z * x), -1.0, 1.0))
    return jnp.stack([roll, pitch], axis=-1)


def into_heading(vector: Vector, quat: Quaternion) -> Vector:
    """A vector of the world's frame in the heading frame of a body with this orientation."""
    angle = yaw(quat)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    x, y, z = jnp.moveaxis(vector, -1, 0)
    return jnp.stack([cosine * x + sine * y, cosine * y - sine * x, z], axis=-1)


def angle_between(one: Quaternion, other: Quaternion) -> Float[Array, "*n"]:
    """Angle in [0, pi] of the shortest rotation from one orientation to the other."""
    cosine = jnp.abs((one * other).sum(axis=-1))
    axis = one[..., :1] * other[..., 1:] - other[..., :1] * one[..., 1:] - jnp.cross(one[..., 1:], other[..., 1:])
    return 2 * jnp.arctan2(jnp.linalg.norm(axis, axis=-1), cosine)


def axis_indices(axes: str) -> list[int]:
    """The indices of axes such as `"xy"`.

    Raises:
        InvalidConfigError: there are none, others than x, y and z, or one twice.
    """
    if not axes or not set(axes) <= set("xyz") or len(set(axes)) < len(axes):
        raise InvalidConfigError(f"axes is {axes!r}; it must name one or more of x, y and z, each once.")
    return ["xyz".index(axis) for axis in axes]
