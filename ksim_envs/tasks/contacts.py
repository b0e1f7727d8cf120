"""Who touches whom, and how hard, by MuJoCo's contact sensors, which the terms add to the model.

Contact buffers differ from engine to engine; contact sensors are the same in C MuJoCo and in MJX as far as MJX 3.17
has them: it matches geoms only (neither bodies nor subtrees nor sites), has no net force, and takes the wrong sign for
two named geoms whose order by type is not that of their indices. So there is a sensor for each geom, forces come from
sensors that name one geom, and the terms add them up.

All of it is one physics substep old after a step. What is named are geoms, or bodies with all of their geoms; geoms
that can touch nothing (neither `contype` nor `conaffinity`, and in no contact pair) count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias, get_args

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.tasks.context import Context, Model, Names, is_meant
from ksim_envs.tasks.numbers import check_not_negative
from ksim_envs.types import View

Kind: TypeAlias = Literal["geom", "body"]
"""What names stand for."""
FOUND, FORCE, TORQUE, DISTANCE, POSITION, NORMAL, TANGENT = range(7)
"""A contact sensor's data fields, in the order in which it gives them (`mjtConDataField`)."""
TOUCH_FIELDS, WRENCH_FIELDS = (FOUND, DISTANCE), (FORCE, TORQUE, POSITION, NORMAL, TANGENT)
DEEPEST_FIRST = 1  # `reduce="mindist"`


@dataclass(frozen=True)
class Contact:
    """Whether any of some geoms or bodies touches any of others, or anything at all where no others are named.

    Put both the same to ask whether they touch each other. A touch counts from a penetration of `depth` m on; at 0,
    from where the contact pushes. As a termination it ends the episode by an illegal contact.

    ksim: ContactObservation, IllegalContactTermination
    """

    names: Names
    others: Names | None = None
    kind: Kind = "geom"
    depth: float = 0.0

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        check_not_negative("Contact", depth=self.depth)

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Add a sensor for each geom, or for each pair."""
        geoms = _in_spec(spec, self.kind, self.names)
        others = [None] if self.others is None else _in_spec(spec, self.kind, self.others)
        _add_touch_sensors(spec, product(geoms, others))

    def __call__(self, view: View, ctx: Context) -> Bool[Array, ""]:
        """A scalar bool."""
        geoms = _in_model(ctx.model, self.kind, self.names)
        others = [None] if self.others is None else _in_model(ctx.model, self.kind, self.others)
        return _touches(product(geoms, others), self.depth, view, ctx.model)


@dataclass(frozen=True)
class FeetContact:
    """Which feet touch one of the `floor` geoms, or anything at all where none are named.

    ksim: FeetContactObservation
    """

    feet: Names
    floor: Names | None = None
    kind: Kind = "body"

    def __post_init__(self) -> None:
        _check_kind(self.kind)

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Add a sensor for each geom of a foot, or for each of its pairs with the floor."""
        floor = [None] if self.floor is None else _in_spec(spec, "geom", self.floor)
        _add_touch_sensors(spec, product(_in_spec(spec, self.kind, self.feet), floor))

    def __call__(self, view: View, ctx: Context) -> Bool[Array, "feet"]:
        """(num_feet,) bool."""
        floor = [None] if self.floor is None else _in_model(ctx.model, "geom", self.floor)
        feet = _feet_in_model(ctx.model, self.kind, self.feet)
        return jnp.stack([_touches(product(foot, floor), 0.0, view, ctx.model) for foot in feet])


@dataclass(frozen=True)
class _Wrench:
    """Feet, and the sensors for the forces on them."""

    feet: Names
    kind: Kind = "body"
    max_contacts: int = 8
    """Contacts of each geom that count, the deepest; a box on a box makes 8."""

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        if self.max_contacts < 1:
            raise InvalidConfigError(f"max_contacts is {self.max_contacts}; it must be at least 1.")

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Add a sensor for each geom of a foot."""
        for geom in _in_spec(spec, self.kind, self.feet):
            _add_sensor(spec, _wrench_name(geom, self.max_contacts), WRENCH_FIELDS, self.max_contacts, geom)

    def _wrenches(self, view: View, model: Model) -> list[tuple[Array, Array, Array]]:
        """For each foot the forces in N, torques in N m and positions in m of its contacts, (n, 3) in the world."""
        wrenches = []
        for foot in _feet_in_model(model, self.kind, self.feet):
            sensors = [view.sensordata[model.sensor(_wrench_name(geom, self.max_contacts))] for geom in foot]
            force_c, torque_c, position_w, normal_w, tangent_w = jnp.split(
                jnp.concatenate(sensors).reshape(-1, 3 * len(WRENCH_FIELDS)), len(WRENCH_FIELDS), axis=1
            )
            axes_w = jnp.stack([normal_w, tangent_w, jnp.cross(normal_w, tangent_w)], axis=1)
            # The normal points away from the foot, so what the sensor gives is the foot's force on the other geom.
            force_w, torque_w = (-jnp.sum(vector[..., None] * axes_w, axis=1) for vector in (force_c, torque_c))
            wrenches.append((force_w, torque_w, position_w))
        return wrenches


@dataclass(frozen=True)
class FeetForce(_Wrench):
    """Sum of the contact forces on each foot from all that it touches, in N, along the world's axes.

    ksim: FeetForceObservation, ContactForceObservation
    """

    def __call__(self, view: View, ctx: Context) -> Float[Array, "feet 3"]:
        """(num_feet, 3); a robot at rest stands on feet whose forces add up to its weight, upwards."""
        return jnp.stack([force_w.sum(axis=0) for force_w, _, _ in self._wrenches(view, ctx.model)])


@dataclass(frozen=True)
class FeetTorque(_Wrench):
    """Sum of the contact torques on each foot about the origin of its frame, in N m, along the world's axes.

    ksim: FeetTorqueObservation
    """

    def __call__(self, view: View, ctx: Context) -> Float[Array, "feet 3"]:
        """(num_feet, 3): `sum((position - origin) x force + torque)`."""
        positions_w = view.xpos if self.kind == "body" else view.geom_xpos
        origins_w = positions_w[ctx.model.indices(self.kind, self.feet)]
        wrenches = self._wrenches(view, ctx.model)
        return jnp.stack(
            [
                (jnp.cross(position_w - origin_w, force_w) + torque_w).sum(axis=0)
                for origin_w, (force_w, torque_w, position_w) in zip(origins_w, wrenches, strict=True)
            ]
        )


def _check_kind(kind: str) -> None:
    check_name("kind", kind, get_args(Kind))


def _in_spec(spec: mujoco.MjSpec, kind: Kind, names: Names) -> list[str]:
    """The names of the geoms meant that can touch something; those that have none get one."""
    patterns = (names,) if isinstance(names, str) else names
    in_pairs = {name for pair in spec.pairs for name in (pair.geomname1, pair.geomname2)}
    found: list[str] = []
    for number, geom in enumerate(spec.geoms):
        name = geom.name if kind == "geom" else geom.parent.name
        can_touch = geom.contype or geom.conaffinity or geom.name in in_pairs
        if can_touch and any(is_meant(name, pattern) for pattern in patterns):
            geom.name = geom.name or f"ksim_geom_{number}"
            found.append(geom.name)
    return found


def _groups(model: Model, kind: Kind, names: Names) -> list[list[str]]:
    """For each geom or body the names of its geoms that can touch something."""
    can_touch = (model.array("geom_contype") | model.array("geom_conaffinity")) != 0
    can_touch[[*model.array("pair_geom1"), *model.array("pair_geom2")]] = True
    owner = np.arange(len(can_touch)) if kind == "geom" else model.array("geom_bodyid")
    geom_names = model.names("geom")
    return [
        [geom_names[geom] for geom in np.flatnonzero((owner == index) & can_touch)]
        for index in model.indices(kind, names)
    ]


def _feet_in_model(model: Model, kind: Kind, names: Names) -> list[list[str]]:
    """The same for feet, each of which must have one."""
    groups = _groups(model, kind, names)
    for index, group in zip(model.indices(kind, names), groups, strict=True):
        if not group:
            raise _untouchable(kind, model.names(kind)[index])
    return groups


def _in_model(model: Model, kind: Kind, names: Names) -> list[str]:
    """The names of the geoms meant that can touch something, at least one."""
    geoms = [geom for group in _groups(model, kind, names) for geom in group]
    if not geoms:
        raise _untouchable(kind, names)
    return geoms


def _untouchable(kind: Kind, names: Names) -> InvalidConfigError:
    return InvalidConfigError(
        f"{kind} {names!r} can touch nothing; give it a geom with contype or conaffinity, or one in a contact pair."
    )


def _add_touch_sensors(spec: mujoco.MjSpec, pairs: Iterable[tuple[str, str | None]]) -> None:
    for geom, other in pairs:
        if geom != other:
            _add_sensor(spec, _touch_name(geom, other), TOUCH_FIELDS, 1, geom, other)


def _add_sensor(
    spec: mujoco.MjSpec, name: str, fields: tuple[int, ...], contacts: int, geom: str, other: str | None = None
) -> None:
    """Add a contact sensor, once."""
    if spec.sensor(name) is not None:
        return
    mask = sum(1 << field for field in fields)
    sensor = spec.add_sensor(
        name=name,
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_GEOM,
        objname=geom,
        intprm=[mask, DEEPEST_FIRST, contacts],
    )
    if other is not None:
        sensor.reftype, sensor.refname = mujoco.mjtObj.mjOBJ_GEOM, other


def _touches(pairs: Iterable[tuple[str, str | None]], depth: float, view: View, model: Model) -> Bool[Array, ""]:
    """Whether any of the pairs is in contact, and deeper than that where it is not 0."""
    sensors = [view.sensordata[model.sensor(_touch_name(*pair))] for pair in pairs if pair[0] != pair[1]]
    if not sensors:
        raise InvalidConfigError("A contact is asked of one geom with itself; name two or more, or no others.")
    found, distance = jnp.stack(sensors).T
    return jnp.any((found > 0) & (distance < -depth if depth else True))


def _touch_name(geom: str, other: str | None) -> str:
    return f"ksim touch {geom!r}" if other is None else "ksim touch {!r} {!r}".format(*sorted((geom, other)))


def _wrench_name(geom: str, max_contacts: int) -> str:
    return f"ksim wrench {geom!r} {max_contacts}"
