"""From a model's source to the `MjModel` that is simulated, the same one on every backend."""

from __future__ import annotations

import contextlib
import copy
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from ksim_envs.errors import InvalidConfigError, check_name, unknown_name
from ksim_envs.physics.model_files import check_files, read_xml

DYNAMICS = ("fast", "gymnasium")
GYMNASIUM_PREFIX = "gymnasium:"
SHELVES = {
    GYMNASIUM_PREFIX: Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets",
    "ksim:": Path(__file__).parents[1] / "tasks" / "assets",
}
"""What a source may begin with instead of a folder, and the folder that it stands for."""
MAX_CONTACT_POINTS = "max_contact_points"
"""The custom numeric by which a model tells MJX how many contacts to keep."""
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
        InvalidConfigError: the file is missing, refers to files elsewhere, is not valid, or its timestep or actuators
            cannot be used.
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
    if model.ntree == 1 and not model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
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


def max_contact_points(model: mujoco.MjModel) -> int:
    """How many contacts of each dimension MJX keeps; -1 for all. C MuJoCo takes no notice."""
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_NUMERIC, MAX_CONTACT_POINTS)
    return -1 if index < 0 else int(model.numeric_data[model.numeric_adr[index]])


def check_dynamics(name: str) -> None:
    """Refuse dynamics that do not exist."""
    check_name("dynamics", name, DYNAMICS)


@contextlib.contextmanager
def quiet_mujoco() -> Generator[None]:
    """Keep MuJoCo's warnings from `MUJOCO_LOG.TXT` and standard error; what matters of them is reported as faults.

    The handler is the process's. Threads share ours, and the last to leave puts the user's back.
    """
    global _num_quiet, _users_handler
    with _handler_lock:
        if _num_quiet == 0:
            _users_handler = mujoco.get_mju_user_warning()
            mujoco.set_mju_user_warning(_ignore)
        _num_quiet += 1
    try:
        yield
    finally:
        with _handler_lock:
            _num_quiet -= 1
            if _num_quiet == 0:
                mujoco.set_mju_user_warning(_users_handler)


def _ignore(text: str) -> None:
    """A warning handler that does nothing."""


_handler_lock = threading.Lock()
_num_quiet = 0
_users_handler: Any = None


def derived_constants(model: mujoco.MjModel, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The constants that the compiler derives from masses, inertias and lengths, for rows with other values of these.

    Args:
        model: the nominal model; left unchanged.
        fields: names of model fields to (R, ...) values.

    Returns:
        The names in `DERIVED` to (R, ...) float64 values, as `mj_setConst` computes them; NaN where it cannot.
    """
    rows = len(next(iter(fields.values())))
    derived = {name: np.empty((rows, *getattr(model, name).shape)) for name in DERIVED}
    usable = {name: usable_rows(values, getattr(model, name)) for name, values in fields.items()}
    scratch, data = copy.copy(model), mujoco.MjData(model)
    for row in range(rows):
        for name, values in usable.items():
            getattr(scratch, name)[:] = values[row]
        try:
            with quiet_mujoco():
                mujoco.mj_setConst(scratch, data)
            constants = {name: getattr(scratch, name) for name in DERIVED}
        except mujoco.FatalError:
            constants = dict.fromkeys(DERIVED, np.nan)
        for name in DERIVED:
            derived[name][row] = constants[name]
    return derived


def usable_rows(values: np.ndarray, nominal: np.ndarray) -> np.ndarray:
    """The rows of a per-env model field, with the nominal value in those that are not finite or beyond MuJoCo's bound.

    The core does not step such rows; the engine only must not stumble over them.
    """
    is_usable = (np.abs(values) <= mujoco.mjMAXVAL).reshape(len(values), -1).all(axis=1)
    return np.where(is_usable.reshape(-1, *[1] * (values.ndim - 1)), values, nominal)


DERIVED = (
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "dof_M0",
    "tendon_length0",
    "tendon_invweight0",
    "actuator_acc0",
)
"""Model fields that `mj_setConst` derives and that both engines read during a step."""


def needs_derived_constants(names: frozenset[str]) -> bool:
    """Whether changing any of these model fields changes a derived constant."""
    return not names.isdisjoint(mujoco.MjModel._setconst_inputs)


PER_ENV = frozenset(
    f"{kind}_{field}"
    for kind, names in {
        "actuator": "actrange biasprm cranklength ctrlrange dynprm forcerange gainprm gear lengthrange",
        "body": "gravcomp inertia ipos iquat mass pos quat",
        "dof": "armature damping dampingpoly frictionloss solimp solref",
        "eq": "data solimp solref",
        "geom": "friction gap margin pos quat size solimp solmix solref",
        "jnt": "actfrcrange axis margin pos range solimp solref stiffness stiffnesspoly",
        "pair": "friction gap margin solimp solref solreffriction",
        "site": "pos quat",
        "tendon": "actfrcrange armature damping dampingpoly frictionloss lengthspring margin range solimp_fri "
        "solimp_lim solref_fri solref_lim stiffness stiffnesspoly",
    }.items()
    for field in names.split()
) | {"qpos0", "qpos_spring"}
"""The model fields that may differ from env to env on every engine and that the physics reads."""


def check_per_env(names: frozenset[str]) -> None:
    """Refuse model fields that cannot differ from env to env.

    Raises:
        InvalidConfigError: one of the engines has a single value of it for all envs, or derives it from others.
    """
    if wrong := sorted(names - PER_ENV):
        raise InvalidConfigError(
            f"The model field {wrong[0]!r} cannot differ from env to env; those that can: {', '.join(sorted(PER_ENV))}."
        )


COMPILED_IN = frozenset({"body_ipos", "body_iquat"})
"""Model fields that the compiler takes advantage of: bodies whose centre of mass is in the frame's origin are cheaper,
and cannot become others any more. Where these fields differ from env to env, the model is compiled without that."""


def _read_spec(source: str) -> mujoco.MjSpec:
    path = None if _is_text(source) else _path(source)
    check_files(read_xml(path) if path else source, path.parent if path else Path.cwd(), _shown(source))
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
    if model.nu == 0:
        raise InvalidConfigError(
            f"The model {_shown(source)} has no actuator; add at least one under <actuator>, or let the "
            "task add some (an actuator term that does so, or Task.edits)."
        )
    return model


def _is_text(source: str) -> bool:
    return source.lstrip().startswith("<")


def _shown(source: str) -> str:
    return "given as text" if _is_text(source) else repr(source)
