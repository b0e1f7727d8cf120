"""A task: a model, two horizons, and named terms for each role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import mujoco

from ksim_envs.errors import InvalidConfigError, unknown_name
from ksim_envs.tasks.checks import check_parts, parts
from ksim_envs.tasks.context import OWN_FIELDS
from ksim_envs.tasks.terms import (
    Actuator,
    Command,
    Curriculum,
    Event,
    ModelEdit,
    Quantity,
    Randomizer,
    Reset,
    Reward,
    Termination,
    named,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A complete task. Build it from terms; register it with `ksim_envs.register`."""

    model: str
    """Path of an MJCF or URDF file, `"ksim:NAME.xml"`, `"gymnasium:NAME.xml"`, or MJCF text."""
    frame_skip: int
    """Physics substeps in a control step."""
    episode_length: int
    """Control steps after which an episode is truncated."""
    observations: Mapping[str, Quantity]
    """Concatenated, flattened, in this order."""
    rewards: Mapping[str, Reward]
    """Summed up; each is reported in `info` under its name."""
    terminations: Mapping[str, Termination] = field(default_factory=dict)
    """What ends an episode for good."""
    truncations: Mapping[str, Termination] = field(default_factory=dict)
    """What cuts an episode off that could go on, as `episode_length` does: learners value the state that it ends in."""
    resets: Mapping[str, Reset] = field(default_factory=dict)
    events: Mapping[str, Event] = field(default_factory=dict)
    randomizers: Mapping[str, Randomizer] = field(default_factory=dict)
    commands: Mapping[str, Command] = field(default_factory=dict)
    """Reported in `info` under their names; terms read them as `ctx.commands`."""
    metrics: Mapping[str, Quantity] = field(default_factory=dict)
    """Reported in `info` under their names."""
    privileged: Mapping[str, Quantity] = field(default_factory=dict)
    """What a critic may see besides the observations: concatenated, flattened, and reported as `info["privileged"]`."""
    actuator: Actuator | None = None
    """What turns an action into the engine's controls; None where an action is the controls."""
    curriculum: Curriculum | None = None
    """What moves `ctx.level` from 0 to 1, for each env by itself; without one the level is 1."""
    edits: tuple[ModelEdit, ...] = ()
    """Changes of the model before it is compiled, and before the other parts add to it what they need."""
    max_contact_points: int | None = None
    """MJX keeps this many contacts of each dimension, the deepest; None for all. Fewer are faster. A row that touches
    in as many may have lost one: it is quarantined (`guard.Fault.OVERFLOW`). C MuJoCo takes no notice."""
    camera: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `mujoco.MjvCamera` that differ from the model's default view."""

    def __post_init__(self) -> None:
        """Check the numbers, the parts, and that the roles' names do not collide in `info`.

        Raises:
            InvalidConfigError: what is wrong, and what is allowed.
            UnknownNameError: the camera has no such field.
        """
        if not isinstance(self.model, str):
            raise InvalidConfigError(f"Task.model is {self.model!r}; give a file's path as a str, or MJCF.")
        for name in ("frame_skip", "episode_length", "max_contact_points"):
            value = getattr(self, name)
            if value is None and name == "max_contact_points":
                continue
            if type(value) is not int or not 0 < value < 2**31:
                raise InvalidConfigError(f"Task.{name} is {value!r}; it must be a positive integer below 2**31.")
        for role in ROLES:
            _check_role(role, getattr(self, role))
        _check_part("actuator", self.actuator, Actuator)
        _check_part("curriculum", self.curriculum, Curriculum)
        for edit in self.edits if isinstance(self.edits, tuple) else ():
            _check_part("edits", edit, ModelEdit)
        check_parts("Task", self)
        _check_camera(self.camera)
        for name in ("observations", "rewards"):
            if not getattr(self, name):
                raise InvalidConfigError(f"Task.{name} is empty; give at least one term.")
        names = [*self.rewards, *self.metrics, *self.commands]
        if taken := sorted({name for name in names if name in RESERVED or name.startswith("_")}):
            raise InvalidConfigError(
                f"Names in info must not be its own, {sorted(RESERVED)}, nor begin with '_', as its masks do; "
                f"found {taken}."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidConfigError(f"Names in info must be unique; found {twice} twice.")

    @cached_property
    def hardest(self) -> Task:
        """The task at the last level of its curriculum, where policies are evaluated; itself if it has none."""
        return replace(self, curriculum=None) if self.curriculum else self

    @property
    def model_fields(self) -> frozenset[str]:
        """Names of the model fields that differ from env to env."""
        drawn = (name for randomizer in self.randomizers.values() for name in randomizer.fields)
        return frozenset(drawn) | frozenset(self.actuator.fields if self.actuator else ())

    @property
    def engine_fields(self) -> frozenset[str]:
        """Those of them that an engine knows."""
        return self.model_fields - OWN_FIELDS.keys()

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Make the task's edits, and let every other part add to the model what it needs."""
        others = [getattr(self, each.name) for each in fields(self) if each.name != "edits"]
        for _, part in parts("Task", [self.edits, *others]):
            if hasattr(part, "edit_model"):
                with named(f"{type(part).__name__}.edit_model", part):
                    part.edit_model(spec)


RESERVED = frozenset(
    {
        "episode",
        "episode_return",
        "episode_length",
        "diverged",
        "final_obs",
        "final_info",
        "privileged",
        "curriculum_level",
    }
)
"""Keys of `info` that the core, the vector env and its wrappers fill."""

ROLES = (
    "observations",
    "rewards",
    "terminations",
    "truncations",
    "resets",
    "events",
    "randomizers",
    "commands",
    "metrics",
    "privileged",
)
"""The fields of a task that hold terms by name."""


def _check_role(role: str, terms: Any) -> None:
    """Refuse what is no table of terms."""
    if not isinstance(terms, Mapping):
        raise InvalidConfigError(f"Task.{role} is a {type(terms).__name__}; it must be a dictionary of terms by name.")
    for name, term in terms.items():
        if not isinstance(name, str) or not name:
            raise InvalidConfigError(f"Task.{role} has the name {name!r}; it must be a word.")
        if isinstance(term, type) or not callable(term):
            raise InvalidConfigError(f"Task.{role}[{name!r}] is {term!r}; it must be a term, such as Field('qpos').")
        if role == "randomizers" and not hasattr(term, "fields"):
            raise InvalidConfigError(
                f"Task.randomizers[{name!r}] is {term!r}, without `fields`; name those of the model that it draws."
            )


def _check_part(name: str, part: Any, kind: type) -> None:
    """Refuse what has not the methods of its kind."""
    if part is not None and (isinstance(part, type) or not isinstance(part, kind)):
        raise InvalidConfigError(f"Task.{name} has {part!r}; it must be what `terms.{kind.__name__}` describes.")


def _check_camera(settings: Mapping[str, Any]) -> None:
    """Refuse what `mujoco.MjvCamera` does not take."""
    camera = mujoco.MjvCamera()
    for name, value in settings.items():
        if name not in (known := [each for each in dir(camera) if not each.startswith("_")]):
            raise unknown_name("field of mujoco.MjvCamera", name, known)
        try:
            setattr(camera, name, value)
        except (TypeError, ValueError) as error:
            raise InvalidConfigError(f"Task.camera[{name!r}] is {value!r}, which cannot be set: {error}") from error
