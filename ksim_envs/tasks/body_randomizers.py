"""Randomizer terms for bodies, geoms and sites; see `randomizers` for what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.randomizers import Between, Factor, Fields
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.rotations import from_rotation_vector, multiply
from ksim_envs.tasks.scales import Scale, check_scale, ends, scale_at

SMALLEST = 0.01
"""The smallest factor for masses, inertias and sizes: without any of it a body cannot be simulated."""


@dataclass(frozen=True, kw_only=True)
class FloorFriction(Between):
    """The coefficient of sliding friction of all contacts with the floor is one number in [low, high], at least 0.

    Where two geoms touch, MuJoCo takes the larger of their coefficients, or that of the geom with the higher priority.
    So the floor's becomes the number, and those of geoms that can touch it are lowered to it where they are larger;
    explicit contact pairs with the floor get it as theirs.

    ksim: FloorFrictionRandomizer
    """

    low: Scale = 0.4
    high: Scale = 1.0
    floor: str = "floor"
    """The name of the geom."""
    smallest: ClassVar[float] = 0.0
    fields = ("geom_friction", "pair_friction")

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`geom_friction`, (ngeom, 3), and `pair_friction`, (npair, 5)."""
        model, floor, friction = ctx.model, ctx.model.geom(self.floor), self.draw((), ctx)
        geoms = np.stack([model.array("pair_geom1"), model.array("pair_geom2")])
        is_pair = (geoms == floor).any(axis=0) & (model.array("pair_dim") >= 3)
        is_touching = self._can_touch(floor, ctx)
        if not is_pair.any() and not is_touching.any():
            raise InvalidConfigError(
                f"FloorFriction has no effect: nothing can touch the geom {self.floor!r} with friction (contype, "
                "conaffinity, condim >= 3, contact pairs). Leave it out, or name another geom."
            )
        priority = model.array("geom_priority")
        sliding = values["geom_friction"][:, 0]
        others = jnp.where(priority > priority[floor], friction, jnp.minimum(sliding, friction))
        sliding = jnp.where(is_touching, others, sliding).at[floor].set(friction)
        pairs = jnp.where(is_pair[:, None], friction, values["pair_friction"][:, :2])
        return {
            "geom_friction": values["geom_friction"].at[:, 0].set(sliding),
            "pair_friction": values["pair_friction"].at[:, :2].set(pairs),
        }

    def _can_touch(self, floor: int, ctx: Context) -> np.ndarray:
        """(ngeom,) bool: the geoms whose contacts with the floor, other than explicit pairs, have friction."""
        field = ctx.model.array
        contype, conaffinity, condim = field("geom_contype"), field("geom_conaffinity"), field("geom_condim")
        matches = ((contype & conaffinity[floor]) | (conaffinity & contype[floor])) != 0
        priority = field("geom_priority")
        dim = np.where(priority == priority[floor], np.maximum(condim, condim[floor]), condim)
        dim = np.where(priority < priority[floor], condim[floor], dim)
        moves = field("body_weldid")[field("geom_bodyid")] != 0
        return matches & (dim >= 3) & moves


@dataclass(frozen=True, kw_only=True)
class MassAddition(Between):
    """Bodies get an additional point mass in [low, high], kg, each, at their centres of mass.

    ksim: MassAdditionRandomizer
    """

    low: Scale = -1.0
    high: Scale = 1.0
    bodies: Names
    fields = ("body_mass",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`body_mass`, (nbody,).

        Raises:
            InvalidConfigError: no mass might be left.
        """
        bodies = ctx.model.bodies(self.bodies)
        mass = ctx.model.array("body_mass")[bodies]
        if mass.min() + min(ends(self.low)) <= 0:
            name = ctx.model.names("body")[bodies[mass.argmin()]]
            raise InvalidConfigError(
                f"MassAddition adds {self.low} kg and more to {self.bodies!r}, of which {name!r} has only "
                f"{mass.min():.4g} kg; nothing would be left of it. Name heavier ones, or add more."
            )
        return {"body_mass": values["body_mass"].at[bodies].add(self.draw(bodies.shape, ctx))}


@dataclass(frozen=True, kw_only=True)
class MassMultiplication(Factor):
    """Mass and inertia of bodies times a factor in [low, high], at least 0.01, for each body: its density changes.

    ksim: MassMultiplicationRandomizer, AllBodiesMassMultiplicationRandomizer
    """

    low: Scale = 0.95
    high: Scale = 1.05
    bodies: Names = "*"
    smallest: ClassVar[float] = SMALLEST
    fields = ("body_mass", "body_inertia")

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`body_mass`, (nbody,), and `body_inertia`, (nbody, 3)."""
        bodies = ctx.model.bodies(self.bodies)
        return {name: self.scaled(values[name], name, (bodies,), ctx) for name in self.fields}


@dataclass(frozen=True, kw_only=True)
class Inertia(Factor):
    """The principal moments of inertia of bodies times one factor in [low, high], at least 0.01, for each body.

    With `MassMultiplication` beside it, mass and inertia vary as in ksim.

    ksim: AllBodiesInertiaRandomizer
    """

    low: Scale = 0.98
    high: Scale = 1.02
    bodies: Names = "*"
    smallest: ClassVar[float] = SMALLEST
    fields = ("body_inertia",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`body_inertia`, (nbody, 3)."""
        bodies = ctx.model.bodies(self.bodies)
        return {"body_inertia": self.scaled(values["body_inertia"], "body_inertia", (bodies,), ctx)}


@dataclass(frozen=True, kw_only=True)
class MassCenter(Between):
    """The centres of mass of bodies are moved by a distance in [low, high], m, along each of the body's axes.

    ksim: COMRandomizer, AllBodiesCOMRandomizer
    """

    low: Scale = -0.01
    high: Scale = 0.01
    bodies: Names = "*"
    fields = ("body_ipos",)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`body_ipos`, (nbody, 3)."""
        bodies = ctx.model.bodies(self.bodies)
        return {"body_ipos": values["body_ipos"].at[bodies].add(self.draw((len(bodies), 3), ctx))}


@dataclass(frozen=True, kw_only=True)
class SiteAlignment:
    """A site, such as an IMU's, is turned and moved as if it had been mounted inaccurately.

    It is turned about its own x and y axes by normal angles of deviation `tilt`, rad, about z by one of deviation
    `yaw`, and moved along the body's axes by normal distances of deviation `shift`, m. Sensors at the site follow.

    ksim: IMUAlignmentRandomizer
    """

    site: str
    tilt: Scale = 0.0349066
    """rad (2 degrees)."""
    yaw: Scale = 0.0
    """rad."""
    shift: Scale = 0.0
    """m."""
    per_run: bool = False
    """Whether an env keeps what it draws first for the whole run."""
    fields = ("site_pos", "site_quat")

    def __post_init__(self) -> None:
        for scale in (self.tilt, self.yaw, self.shift):
            check_scale("SiteAlignment", scale)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`site_pos`, (nsite, 3), and `site_quat`, (nsite, 4)."""
        site, level = ctx.model.site(self.site), ctx.level
        normal = jax.random.normal(ctx.run_key if self.per_run else ctx.key, (6,), jnp.float32)
        tilt = scale_at(self.tilt, level)
        turn = normal[:3] * jnp.stack([tilt, tilt, scale_at(self.yaw, level)])
        return {
            "site_pos": values["site_pos"].at[site].add(scale_at(self.shift, level) * normal[3:]),
            "site_quat": values["site_quat"]
            .at[site]
            .set(multiply(values["site_quat"][site], from_rotation_vector(turn))),
        }


@dataclass(frozen=True, kw_only=True)
class CollisionBody(Factor):
    """Spheres, capsules and the like: each size times a factor in [low, high], and the place moved.

    The place moves by up to +-`shift`, m, along each axis of the geom's body. Masses and inertias stay.

    ksim: CollisionBodyRandomizer
    """

    low: Scale = 0.95
    high: Scale = 1.05
    geoms: Names
    shift: Scale = 0.001
    """m."""
    smallest: ClassVar[float] = SMALLEST
    fields = ("geom_size", "geom_pos")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scale("CollisionBody.shift", self.shift)

    def __call__(self, values: Fields, ctx: Context) -> Fields:
        """`geom_size` and `geom_pos`, (ngeom, 3) each.

        Raises:
            InvalidConfigError: a geom's size says nothing about its shape.
        """
        geoms = ctx.model.geoms(self.geoms)
        if not np.isin(ctx.model.array("geom_type")[geoms], _SHAPES).all():
            raise InvalidConfigError(
                f"CollisionBody: {self.geoms!r} holds a plane, height field or mesh; name spheres, capsules, "
                "ellipsoids, cylinders and boxes only."
            )
        key = ctx.stream("shift").run_key if self.per_run else ctx.stream("shift").key
        shift = scale_at(self.shift, ctx.level) * uniform(key, (len(geoms), 3), -1.0, 1.0)
        return {
            "geom_size": values["geom_size"].at[geoms].multiply(self.draw((len(geoms), 3), ctx)),
            "geom_pos": values["geom_pos"].at[geoms].add(shift),
        }


_SHAPES = [
    mujoco.mjtGeom.mjGEOM_SPHERE,
    mujoco.mjtGeom.mjGEOM_CAPSULE,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
    mujoco.mjtGeom.mjGEOM_BOX,
]
