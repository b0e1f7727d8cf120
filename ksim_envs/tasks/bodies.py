"""Where bodies and sites are, how they lie and how they move. Feet are bodies or sites like others.

All of it is one physics substep old after a step. Rows stand in the order of the names, which may be patterns.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.tasks import rotations
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.rotations import Frame, change_frame, check_frame
from ksim_envs.types import View


@dataclass(frozen=True)
class BodyPositions:
    """Positions of bodies' frames, in m: in the world, or from the body `origin` along the axes of `frame`.

    The feet seen from the base are `BodyPositions(feet, origin="torso", frame="heading")`.

    ksim: BodyPositionObservation, FeetPositionObservation
    """

    bodies: Names
    origin: str | None = None
    frame: Frame = "world"

    def __post_init__(self) -> None:
        _check_origin(self.origin, self.frame)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "bodies 3"]:
        """(num_bodies, 3)."""
        return _seen_from(self.origin, self.frame, view.xpos[ctx.model.bodies(self.bodies)], view, ctx)


@dataclass(frozen=True)
class SitePositions:
    """Positions of sites, in m: in the world, or from the body `origin` along the axes of `frame`."""

    sites: Names
    origin: str | None = None
    frame: Frame = "world"

    def __post_init__(self) -> None:
        _check_origin(self.origin, self.frame)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "sites 3"]:
        """(num_sites, 3)."""
        return _seen_from(self.origin, self.frame, view.site_xpos[ctx.model.sites(self.sites)], view, ctx)


@dataclass(frozen=True)
class BodyOrientations:
    """Orientations of bodies in the world, unit quaternions w x y z.

    ksim: BodyOrientationObservation, FeetOrientationObservation
    """

    bodies: Names

    def __call__(self, view: View, ctx: Context) -> Float[Array, "bodies 4"]:
        """(num_bodies, 4), each in [-1, 1]."""
        return view.xquat[ctx.model.bodies(self.bodies)]


@dataclass(frozen=True)
class SiteOrientations:
    """Orientations of sites in the world, as the x axis and the y axis of each: a representation without jumps.

    It is that of Zhou et al., "On the Continuity of Rotation Representations in Neural Networks" (2019). A site's own
    orientation may be randomized (`site_quat`).

    ksim: SiteOrientationObservation
    """

    sites: Names

    def __call__(self, view: View, ctx: Context) -> Float[Array, "sites 6"]:
        """(num_sites, 6), each in [-1, 1]."""
        sites = ctx.model.sites(self.sites)
        body_quat = view.xquat[ctx.model.array("site_bodyid")[sites]]
        quat = rotations.multiply(body_quat, rotations.unit(ctx.field("site_quat")[sites]))
        axes = jnp.broadcast_to(jnp.eye(3, dtype=quat.dtype)[:2, None], (2, len(sites), 3))
        return jnp.concatenate([rotations.rotate(quat, axis) for axis in axes], axis=-1)


PARTS = {None: slice(None), "angular": slice(3), "linear": slice(3, 6)}
"""Of a velocity of a body."""


@dataclass(frozen=True)
class BodyVelocities:
    """Velocities of bodies: the angular one in rad/s, then that of the frame's origin in m/s, along the world's axes.

    With `part` it is only one of the two, `"angular"` or `"linear"`.

    `v = cvel[3:] + cvel[:3] x (xpos - c)`, where `cvel` is what MuJoCo keeps: the velocity of the point that moves with
    the body and is at c, the mass centre of the whole tree. So that of a foot at rest is zero, however the robot moves.
    (`Field("cvel")` is MuJoCo's own.)

    ksim: BodyVelocityObservation, FastAccelerationTermination, HighVelocityTermination
    """

    bodies: Names
    part: str | None = None

    def __post_init__(self) -> None:
        if self.part is not None:
            check_name("part of a velocity", self.part, [part for part in PARTS if part])

    def __call__(self, view: View, ctx: Context) -> Float[Array, "bodies any"]:
        """(num_bodies, 6), rotation first; (num_bodies, 3) of a part."""
        bodies = ctx.model.bodies(self.bodies)
        center = view.subtree_com[ctx.model.array("body_rootid")[bodies]]
        angular, linear = view.cvel[bodies, :3], view.cvel[bodies, 3:]
        velocity = jnp.concatenate([angular, linear + jnp.cross(angular, view.xpos[bodies] - center)], axis=-1)
        return velocity[:, PARTS[self.part]]


@dataclass(frozen=True)
class MeanBodyVelocities:
    """Mean velocity of bodies' frames over the control step in the world, in m/s, one substep behind.

    ksim measures how speeds change; a `Difference` of this also sees turns.

    ksim: LinkAcceleration, LinkJerk
    """

    bodies: Names = "*"

    def __call__(self, view: View, ctx: Context) -> Float[Array, "bodies 3"]:
        """One for each body; the world, which a `*` stands for too, is left out."""
        chosen = ctx.model.bodies(self.bodies)
        return view.xpos_change[chosen[chosen > 0]] / ctx.dt


def _check_origin(origin: str | None, frame: Frame) -> None:
    check_frame(frame)
    if origin is None and frame != "world":
        raise InvalidConfigError(f"frame is {frame!r}, but of which body? Name it as the origin.")


def _seen_from(origin: str | None, frame: Frame, position_w: Array, view: View, ctx: Context) -> Array:
    """(n, 3) positions in the world, as seen from the body `origin`."""
    if origin is None:
        return position_w
    body = ctx.model.body(origin)
    offset_w = position_w - view.xpos[body]
    return change_frame(offset_w, "world", frame, lambda: jnp.broadcast_to(view.xquat[body], (*offset_w.shape[:-1], 4)))
