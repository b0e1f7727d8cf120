"""The model's fields that may differ from env to env, and the constants that follow from some of them."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from ksim_envs.errors import InvalidConfigError
from ksim_envs.runtime import quiet_mujoco


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
    is_usable = (np.abs(values) <= mujoco.mjMAXVAL).all(axis=tuple(range(1, values.ndim)))
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
