"""What C MuJoCo's plain calls make of one row: the measure of every backend."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from ksim_envs.physics.backend import CHANGE


def own_model(model: mujoco.MjModel, fields: dict[str, np.ndarray]) -> mujoco.MjModel:
    """A copy of the model with these fields, and the constants that follow from them."""
    own = copy.copy(model)
    for name, value in fields.items():
        getattr(own, name)[:] = value
    mujoco.mj_setConst(own, mujoco.MjData(own))
    return own


def started(model: mujoco.MjModel, qpos: np.ndarray, qvel: np.ndarray) -> mujoco.MjData:
    """A fresh `MjData` at this state, after `mj_forward`."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    return data


def stepped(
    model: mujoco.MjModel, data: mujoco.MjData, ctrl_SL: np.ndarray, kick: np.ndarray, force: np.ndarray
) -> mujoco.MjData:
    """A copy of the data one control step later, its `cfrc_ext` included."""
    data = copy.copy(data)
    data.qvel[:] += kick
    data.xfrc_applied[:] = force
    for ctrl in ctrl_SL:
        data.ctrl[:] = ctrl
        mujoco.mj_step(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    return data


def read(name: str, now: mujoco.MjData, before: mujoco.MjData) -> np.ndarray:
    """A field of the view, in float64; `before` is the data at the control step's start."""
    source = name.removesuffix(CHANGE)
    value = np.asarray(getattr(now, source))
    return value if source == name else value - getattr(before, source)
