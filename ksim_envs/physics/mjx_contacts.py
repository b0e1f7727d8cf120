"""Contacts on MJX as C MuJoCo has them: two of MJX 3.17's collision functions differ, and these stand in for them.

* Plane and capsule: C always aligns the contact's tangents with the capsule's axis; MJX does not for steep capsules,
  and the friction pyramid depends on the tangents (Ant's steps in contact differed).
* Capsule and cylinder: MJX takes ten steps of gradient descent from two points and returns two contacts; C returns one.
  A point's signed distance to a cylinder is convex along the capsule's segment, so bisection finds the closest point.

They replace entries of a private table of MJX, only while one of our programs is traced: other users of MJX in the same
process are not affected.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs.runtime import quiet_import

with quiet_import():
    from mujoco import mjx
    from mujoco.mjx._src import collision_driver, collision_primitive, math
    from mujoco.mjx._src.types import GeomType

Contacts = tuple[Array, Array, Array]
"""Distances (n,) in m, positions (n, 3), and frames (n, 3, 3) whose first row points from the first geom to the
second."""
_lock = threading.RLock()
BISECTIONS = 24  # as many as float32 has bits


@contextmanager
def contacts_as_in_c() -> Generator[None]:
    """While MJX is traced inside, the collision functions of this module are in place."""
    table = collision_driver._COLLISION_FUNC  # pyright: ignore[reportPrivateUsage]
    with _lock:
        stock = {pair: table[pair] for pair in _OURS}
        table.update(_OURS)
        try:
            yield
        finally:
            table.update(stock)


def were_dropped(data: mjx.Data, limit: int) -> Array:
    """Whether MJX may have dropped contacts that touch: all of the `limit` that it keeps of a dimension do.

    MJX keeps the deepest `max_contact_points` of each contact dimension (a custom numeric of the model).
    """
    contact = data._impl.contact
    is_touching = contact.dist < contact.includemargin
    full = [
        is_touching[contact.dim == dim].all() for dim in np.unique(contact.dim) if (contact.dim == dim).sum() == limit
    ]
    return jnp.stack(full).any() if full else jnp.zeros((), bool)


@collision_primitive.collider(ncon=2)
def plane_capsule(plane: collision_primitive.GeomInfo, capsule: collision_primitive.GeomInfo) -> Contacts:
    """Both ends of a capsule against a plane, after `mjc_PlaneCapsule`."""
    normal, axis = plane.mat[:, 2], capsule.mat[:, 2]
    tangent, length = math.normalize_with_norm(axis - normal * jnp.dot(normal, axis))
    upright = jnp.where(jnp.abs(normal[1]) < 0.5, jnp.array([0.0, 1.0, 0.0]), jnp.array([0.0, 0.0, 1.0]))
    upright = math.normalize(upright - normal * jnp.dot(normal, upright))
    tangent = jnp.where(length < 1e-6, upright, tangent)
    frame = jnp.stack([normal, tangent, jnp.cross(normal, tangent)])
    ends = capsule.pos + jnp.array([[1.0], [-1.0]]) * axis * capsule.size[1]
    distance = (ends - plane.pos) @ normal - capsule.size[0]
    position = ends - normal * (capsule.size[0] + 0.5 * distance[:, None])
    return distance, position, jnp.stack([frame, frame])


@collision_primitive.collider(ncon=1)
def capsule_cylinder(capsule: collision_primitive.GeomInfo, cylinder: collision_primitive.GeomInfo) -> Contacts:
    """The deepest point of a capsule's segment in a cylinder, or the closest one to it."""
    center = cylinder.mat.T @ (capsule.pos - cylinder.pos)
    segment = cylinder.mat.T @ capsule.mat[:, 2] * capsule.size[1]

    def bisect(interval: tuple[Array, Array], rises: Array) -> tuple[Array, Array]:
        low, high = interval
        middle = 0.5 * (low + high)
        slope = cylinder_distance(center + middle * segment, cylinder.size)[1] @ segment
        is_past = jnp.where(rises, slope >= 0, slope > 0)
        return jnp.where(is_past, low, middle), jnp.where(is_past, middle, high)

    def turning_point(rises: bool) -> Array:
        whole = (jnp.array(-1.0, center.dtype), jnp.array(1.0, center.dtype))
        low, high = jax.lax.fori_loop(0, BISECTIONS, lambda _, interval: bisect(interval, jnp.array(rises)), whole)
        return 0.5 * (low + high)

    closest = center + 0.5 * (turning_point(True) + turning_point(False)) * segment  # the middle, where it lies flat
    distance, gradient = cylinder_distance(closest, cylinder.size)
    distance = distance - capsule.size[0]
    position = closest - gradient * (capsule.size[0] + 0.5 * distance)
    return distance, cylinder.mat @ position + cylinder.pos, math.make_frame(-cylinder.mat @ gradient)


def cylinder_distance(point: Array, size: Array) -> tuple[Array, Array]:
    """Signed distance of a point to a cylinder (radius, half height) along z, and its gradient; convex in the point.

    Args:
        point: (3,), m, in the cylinder's frame.
        size: radius and half height, m.

    Returns:
        The distance in m, negative inside, and (3,) its unit gradient.
    """
    radius = jnp.sqrt(point[0] ** 2 + point[1] ** 2)
    radial = jnp.where(radius > 0, 1.0, 0.0) * point.at[2].set(0.0) / jnp.maximum(radius, 1e-12)
    axial = jnp.array([0.0, 0.0, 1.0]) * jnp.where(point[2] < 0, -1.0, 1.0)
    beyond = jnp.stack([radius - size[0], jnp.abs(point[2]) - size[1]])
    outside = jnp.maximum(beyond, 0.0)
    norm = jnp.sqrt(jnp.sum(outside**2))
    inside_gradient = jnp.where(beyond[0] > beyond[1], radial, axial)
    outside_gradient = (outside[0] * radial + outside[1] * axial) / jnp.maximum(norm, 1e-12)
    return norm + jnp.minimum(beyond.max(), 0.0), jnp.where(norm > 0, outside_gradient, inside_gradient)


_OURS: dict[Any, Any] = {
    (GeomType.PLANE, GeomType.CAPSULE): plane_capsule,
    (GeomType.CAPSULE, GeomType.CYLINDER): capsule_cylinder,
}
