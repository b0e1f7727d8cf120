"""What a term may know of one env besides the physics: its context, and the model's names and constants."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError, UnknownNameError, unknown_name

Names: TypeAlias = str | tuple[str, ...]
"""Names of joints, bodies and the like; each may be a pattern with `*` and `?`; a `*` alone also means the nameless."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a term may know of one env besides the physics."""

    model: Model  # names and constants of the model
    dt: float  # s, the control period: frame_skip physics timesteps
    action: Array  # (num_actions,), the action within its bounds; zero after a reset, and to the curriculum
    terminated: Array  # (), bool: a termination holds in this step; known to rewards, metrics and the curriculum
    step: Array  # (), int32: control steps done in this episode, this one included; zero after a reset
    episode_return: Array  # (), float32: the sum of this episode's rewards; a step's terms see it without that step's
    level: Array  # (), float32 in [0, 1]: the curriculum's difficulty; 1 without a curriculum
    commands: dict[str, Array]  # by name: those that the action answered to; for observations those to answer next;
    # for a command the next ones of those above it in the task's table; none for resets, which come before
    key: Array  # a PRNG key of this row, episode, step and term, for this one use
    run_key: Array  # a PRNG key of this row and term that is the same in all of the row's episodes
    model_fields: dict[str, Array]  # this env's own values of model fields that are randomized

    @property
    def num_substeps(self) -> int:
        """Physics substeps in a control step."""
        return round(self.dt / self.model.timestep)

    def field(self, name: str) -> Array:
        """This env's value of a model field, such as `body_mass`; under the field's own name in `MjModel`."""
        return self.model_fields[name] if name in self.model_fields else jnp.asarray(self.model.array(name))

    def command(self, name: str) -> Array:
        """The command of this name.

        Raises:
            UnknownNameError: the task has no such command.
        """
        if name not in self.commands:
            raise unknown_name("command of the task", name, self.commands)
        return self.commands[name]

    def stream(self, name: str) -> Context:
        """The context with keys of its own for a part of this name, whatever other parts there are."""
        word = zlib.crc32(name.encode())
        return replace(self, key=jax.random.fold_in(self.key, word), run_key=jax.random.fold_in(self.run_key, word))


class Model:
    """Look-ups in a compiled model, by name, with the near misses in the error."""

    def __init__(self, mj_model: mujoco.MjModel) -> None:
        """Wrap a model, which must not change afterwards."""
        self._mj_model = mj_model
        self.timestep: float = mj_model.opt.timestep
        self.gravity: np.ndarray = mj_model.opt.gravity.astype(np.float32)  # (3,), m/s^2, in the world
        self.num_dofs: int = mj_model.nv
        self.num_bodies: int = mj_model.nbody  # the world included

    def array(self, name: str) -> np.ndarray:
        """The nominal value of a model field or of one of `OWN_FIELDS`, float32 where it is floating point.

        Raises:
            UnknownNameError: the model has no such field.
        """
        if name in OWN_FIELDS:
            return OWN_FIELDS[name](self._mj_model)
        value = getattr(self._mj_model, name, None)
        if not isinstance(value, np.ndarray):
            known = (known for known in dir(self._mj_model) if isinstance(getattr(self._mj_model, known), np.ndarray))
            raise unknown_name("array in MjModel", name, (*OWN_FIELDS, *known))
        return value.astype(np.float32) if value.dtype.kind == "f" else value

    def body(self, name: str) -> int:
        """The index of a body."""
        return self._one("body", name)

    def site(self, name: str) -> int:
        """The index of a site."""
        return self._one("site", name)

    def geom(self, name: str) -> int:
        """The index of a geom."""
        return self._one("geom", name)

    def bodies(self, names: Names) -> np.ndarray:
        """The indices of bodies, in the order of the names."""
        return self.indices("body", names)

    def sites(self, names: Names) -> np.ndarray:
        """The indices of sites, in the order of the names."""
        return self.indices("site", names)

    def geoms(self, names: Names) -> np.ndarray:
        """The indices of geoms, in the order of the names."""
        return self.indices("geom", names)

    def actuators(self, names: Names = "*") -> np.ndarray:
        """The indices of actuators, in the order of the names."""
        return self.indices("actuator", names)

    def joints(self, names: Names = "*") -> np.ndarray:
        """The indices of hinge and slide joints, in the order of the names.

        Raises:
            UnknownNameError: there is no such joint.
            InvalidConfigError: it is a free or a ball joint, which has more than one coordinate.
        """
        chosen = self.indices("joint", names)
        single = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        is_single = np.isin(self._mj_model.jnt_type[chosen], single)
        if names == "*":
            return chosen[is_single]
        if not is_single.all():
            name = self.names("joint")[chosen[~is_single][0]]
            raise InvalidConfigError(f"joint {name!r} is free or a ball; name hinge and slide joints only.")
        return chosen

    def driven_joints(self) -> np.ndarray:
        """(nu,), the indices of the hinge and slide joints that the actuators drive, in the order of the actuators.

        Raises:
            InvalidConfigError: an actuator drives something else.
        """
        model = self._mj_model
        joints = model.actuator_trnid[:, 0]
        single = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        drives_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
        drives_joint &= np.isin(model.jnt_type[np.where(drives_joint, joints, 0)], single)
        if not drives_joint.all():
            name = self.names("actuator")[int(np.flatnonzero(~drives_joint)[0])]
            raise InvalidConfigError(f"actuator {name!r} drives no hinge or slide joint; this term needs one.")
        return joints

    def driven_names(self) -> list[str]:
        """The names of `driven_joints`."""
        return [self.names("joint")[joint] for joint in self.driven_joints()]

    def joint_ranges(self, joints: np.ndarray) -> np.ndarray:
        """(joints, 2) float32 lower and upper limits, in m or rad; -inf and inf where a joint has none."""
        is_limited = self._mj_model.jnt_limited[joints] != 0
        return np.where(is_limited[:, None], self._mj_model.jnt_range[joints], (-np.inf, np.inf)).astype(np.float32)

    def joint_addresses(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where joints of these indices stand in qpos, and where in qvel."""
        return self._mj_model.jnt_qposadr[joints], self._mj_model.jnt_dofadr[joints]

    def joint_qpos(self, names: Names = "*") -> np.ndarray:
        """Where hinge and slide joints stand in qpos, in the order of the names."""
        return self._mj_model.jnt_qposadr[self.joints(names)]

    def joint_qvel(self, names: Names = "*") -> np.ndarray:
        """Where hinge and slide joints stand in qvel, in the order of the names."""
        return self._mj_model.jnt_dofadr[self.joints(names)]

    def root(self) -> tuple[int, int, int]:
        """Of the first free joint: where it starts in qpos and in qvel, and the index of its body.

        Raises:
            InvalidConfigError: the model has no free joint: its base is fixed.
        """
        free = np.flatnonzero(self._mj_model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        if not len(free):
            raise InvalidConfigError("The model has no free joint; this term is for robots with a floating base.")
        joint = free[0]
        model = self._mj_model
        return int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint]), int(model.jnt_bodyid[joint])

    def sensor(self, name: str) -> slice:
        """Where a sensor's values stand in sensordata."""
        index = self._one("sensor", name)
        start = int(self._mj_model.sensor_adr[index])
        return slice(start, start + int(self._mj_model.sensor_dim[index]))

    def keyframe(self, name: str, field: str = "qpos") -> np.ndarray:
        """A keyframe's `qpos` (nq,) or `qvel` (nv,), float32."""
        return self.array(f"key_{field}")[self._one("key", name)]

    def indices(self, kind: str, names: Names) -> np.ndarray:
        """The indices of objects of a kind, in the order of the names and of the model within a pattern.

        `"*"` stands for all, also for those without a name.

        Raises:
            UnknownNameError: a name or pattern stands for nothing.
            InvalidConfigError: there is no name at all, or two of them stand for the same object.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        known = self.names(kind)
        found: list[int] = []
        for name in names:
            matches = [index for index, other in enumerate(known) if is_meant(other, name)]
            if not matches:
                raise self._unknown(kind, name)
            found += matches
        if not found:
            raise InvalidConfigError(f"No {kind} is named; name at least one.")
        if twice := sorted({known[index] for index in found if found.count(index) > 1}):
            raise InvalidConfigError(f"{kind} {twice[0]!r} is named twice by {names}; name each once.")
        return np.array(found)

    def names(self, kind: str) -> list[str]:
        """The names of all objects of a kind, such as "geom", in order; empty for those that have none."""
        objtype = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        count = getattr(self._mj_model, _COUNTS[kind])
        return [mujoco.mj_id2name(self._mj_model, objtype, index) or "" for index in range(count)]

    def _one(self, kind: str, name: str) -> int:
        known = self.names(kind)
        if not name or name not in known:
            raise self._unknown(kind, name)
        return known.index(name)

    def _unknown(self, kind: str, name: str) -> UnknownNameError:
        others = [other for other in _COUNTS if name and name in self.names(other)]
        note = f"It is the name of a {others[0]}." if others else ""
        return unknown_name(f"{kind} in the model", name, filter(None, self.names(kind)), note)


def is_meant(name: str, pattern: str) -> bool:
    """Whether a pattern stands for this name; an empty name is that of an object without one."""
    return pattern == "*" or (
        bool(name) and (name == pattern or fnmatchcase(name, pattern))
    )  # a name may hold brackets


def assigned(kind: str, names: Sequence[str], table: Mapping[str, T]) -> list[T]:
    """What a table by names and patterns has for each name; a later entry of the table overrides an earlier one.

    Raises:
        UnknownNameError: an entry stands for none of the names.
        InvalidConfigError: a name is in no entry.
    """
    found: dict[str, T] = {}
    for pattern, value in table.items():
        matches = [name for name in names if is_meant(name, pattern)]
        if not matches:
            raise unknown_name(kind, pattern, names)
        found |= dict.fromkeys(matches, value)
    if missing := [name for name in names if name not in found]:
        raise InvalidConfigError(f"{kind} {missing[0]!r} has no entry among {list(table)}; add one ('*' is for all).")
    return [found[name] for name in names]


_COUNTS = {
    "body": "nbody",
    "site": "nsite",
    "geom": "ngeom",
    "joint": "njnt",
    "actuator": "nu",
    "sensor": "nsensor",
    "key": "nkey",
}

OWN_FIELDS: dict[str, Callable[[mujoco.MjModel], np.ndarray]] = {
    "encoder_offset": lambda model: np.zeros(model.nq, np.float32),
    "action_latency": lambda model: np.zeros((), np.float32),
}
"""Fields that randomizers may draw and terms may read like the model's own, but that no engine knows:
`encoder_offset` (nq,), m or rad: what joint encoders read too much; `action_latency` (), s: the age of an action when
the motors see it."""
