"""From a model's source to the `MjModel` that is simulated, the same one on every backend."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from ksim_envs.errors import InvalidConfigError, check_name, unknown_name
from ksim_envs.physics.model_fields import COMPILED_IN
from ksim_envs.physics.model_files import check_files, read_xml
from ksim_envs.runtime import quiet_mujoco

DYNAMICS = ("fast", "gymnasium")
GYMNASIUM_PREFIX = "gymnasium:"
SHELVES = {
    GYMNASIUM_PREFIX: Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets",
    "ksim:": Path(__file__).parents[1] / "tasks" / "assets",
}
"""What a source may begin with instead of a folder, and the folder that it stands for."""
MAX_CONTACT_POINTS, MAX_GEOM_PAIRS = "max_contact_points", "max_geom_pairs"
"""The custom numerics by which a model tells MJX how many contacts to keep, and at how many pairs of geoms to look."""
RUNGE_KUTTA = mujoco.mjtIntegrator.mjINT_RK4


def load_model(
    source: str,
    dynamics: str,
    reads: frozenset[str] = frozenset(),
    max_contact_points: int | None = None,
    edit: Callable[[mujoco.MjSpec], None] | None = None,
    model_fields: frozenset[str] = frozenset(),
) -> mujoco.MjModel:
    """Compile a model.

    Args:
        source: a path to an MJCF or URDF file, `"ksim:NAME.xml"` for one of this package's robots,
            `"gymnasium:NAME.xml"` for one of the installed Gymnasium's models, or MJCF text. Files that the model
            refers to must lie in its folder or below, those of a text in the working directory or below.
        dynamics: `"gymnasium"` keeps the file's integrator and solver; `"fast"` takes Euler instead of RK4, and Newton,
            and changes neither masses, joints, actuators, timestep nor contact pairs.
        reads: the view's fields that will be read; `cfrc_ext` needs help from the model (see `ask_for_cfrc_ext`).
        max_contact_points: contacts of each dimension that MJX keeps, the deepest; None for what the file says, or all.
        edit: changes the model before it is compiled, for example by adding actuators to one that has none.
        model_fields: names of the model's fields that will differ from env to env.

    Returns:
        The model.

    Raises:
        UnknownNameError: there are no such dynamics, or no such model in this package or in Gymnasium.
        InvalidConfigError: the file is missing, refers to files elsewhere, is not valid, has values that are not
            finite, or its timestep or actuators cannot be used.
    """
    check_dynamics(dynamics)
    with quiet_mujoco(), warnings.catch_warnings():
        if source.startswith(GYMNASIUM_PREFIX):  # its files use a deprecated attribute, which users cannot mend
            warnings.simplefilter("ignore")
        spec = _read_spec(source)
        if edit is not None:
            edit(spec)
        if dynamics == "fast":
            if spec.option.integrator == RUNGE_KUTTA:
                spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
            spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
        if not COMPILED_IN.isdisjoint(model_fields):
            for body in spec.bodies:
                body.simple = False
        if "cfrc_ext" in reads and spec.option.integrator != RUNGE_KUTTA:
            ask_for_cfrc_ext(spec)
        if max_contact_points is not None:
            for numeric in [numeric for numeric in spec.numerics if numeric.name == MAX_CONTACT_POINTS]:
                spec.delete(numeric)
            spec.add_numeric(name=MAX_CONTACT_POINTS, data=[max_contact_points], size=1)
        model = _checked(_compiled(spec, source), source)
    if model.ntree == 1:
        # Its constraints make at most one island: not to search for more gives the same bits, a little faster.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    return model


def ask_for_cfrc_ext(spec: mujoco.MjSpec) -> None:
    """Make the C engine compute `cfrc_ext` in every step, by a sensor that needs it.

    The engine runs `mj_rnePostConstraint` only for models with a sensor that reads its results. An accelerometer fixed
    to the world is the cheapest. Under Euler the field then equals a call of `mj_rnePostConstraint` after the step;
    under RK4 it would be that of the first stage, so there the native backend makes the call itself.
    """
    site = spec.worldbody.add_site(name="ksim_cfrc_ext")
    spec.add_sensor(
        name="ksim_cfrc_ext",
        type=mujoco.mjtSensor.mjSENS_ACCELEROMETER,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname=site.name,
    )


def file_versions(source: str) -> frozenset[tuple[Path, int, int]]:
    """The files that a model consists of, with the time of their last change and their size.

    Raises:
        UnknownNameError, InvalidConfigError: see `load_model`.
    """
    found = [(file, file.stat()) for file in _checked_files(source) if file.is_file()]
    return frozenset((file, stat.st_mtime_ns, stat.st_size) for file, stat in found)


def fingerprint(model: mujoco.MjModel, *settings: Any) -> str:
    """A digest of all numbers of a model, and of settings."""
    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content.tobytes() + repr(settings).encode()).hexdigest()


def mjx_limit(model: mujoco.MjModel, name: str) -> int:
    """A limit that the model sets to MJX in a custom numeric; -1 for none. C MuJoCo takes no notice."""
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_NUMERIC, name)
    return -1 if index < 0 else int(model.numeric_data[model.numeric_adr[index]])


def check_dynamics(name: str) -> None:
    """Refuse dynamics that do not exist."""
    check_name("dynamics", name, DYNAMICS)


def _checked_files(source: str) -> set[Path]:
    """The files that a model consists of, after a check of what they say."""
    if _is_text(source):
        return check_files(source, Path.cwd(), _shown(source))
    path = _path(source)
    return {path, *check_files(read_xml(path), path.parent, _shown(source))}


def _read_spec(source: str) -> mujoco.MjSpec:
    _checked_files(source)
    path = None if _is_text(source) else _path(source)
    try:
        return mujoco.MjSpec.from_file(str(path)) if path else mujoco.MjSpec.from_string(source)
    except ValueError as error:
        raise InvalidConfigError(f"The model {_shown(source)} is not valid MJCF or URDF: {error}") from error


def _compiled(spec: mujoco.MjSpec, source: str) -> mujoco.MjModel:
    try:
        return spec.compile()
    except ValueError as error:
        raise InvalidConfigError(f"The model {_shown(source)} does not compile: {error}") from error


def _path(source: str) -> Path:
    """The absolute path; from a relative one MuJoCo does not find what an included file includes."""
    for prefix, folder in SHELVES.items():
        if source.startswith(prefix):
            path = folder / source.removeprefix(prefix)
            if path.parent != folder or not path.is_file():
                known = (prefix + file.name for file in folder.glob("*.xml"))
                raise unknown_name("model", source, known)
            return path
    path = Path(source).absolute()
    if not path.is_file():
        raise InvalidConfigError(f"There is no model file at {source!r}; give the path of an MJCF or URDF file.")
    return path


def _checked(model: mujoco.MjModel, source: str) -> mujoco.MjModel:
    if not (np.isfinite(model.opt.timestep) and model.opt.timestep > 0):
        raise InvalidConfigError(
            f"The model {_shown(source)} has timestep {model.opt.timestep} s; it must be positive and finite."
        )
    if wrong := _not_finite(model):
        raise InvalidConfigError(
            f"The model {_shown(source)} has values that are not finite in {', '.join(wrong)}; correct them, and leave "
            "out a range without a limit."
        )
    if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
        raise InvalidConfigError(
            f"The model {_shown(source)} lets bodies sleep, which an env would have to remember; leave sleep out of "
            "its <flag>."
        )
    if model.nu == 0:
        raise InvalidConfigError(
            f"The model {_shown(source)} has no actuator; add at least one under <actuator>, or let the "
            "task add some (an actuator term that does so, or Task.edits)."
        )
    return model


def _not_finite(model: mujoco.MjModel) -> list[str]:
    """The model's fields with a value that is not finite; MuJoCo accepts such models."""
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    fields |= {f"opt.{name}": getattr(model.opt, name) for name in dir(model.opt) if not name.startswith("_")}
    numbers = {name: np.asarray(value) for name, value in fields.items() if isinstance(value, float | np.ndarray)}
    return [name for name, value in numbers.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]


def _is_text(source: str) -> bool:
    return source.lstrip().startswith("<")


def _shown(source: str) -> str:
    return "given as text" if _is_text(source) else repr(source)
