"""The interface of a physics engine: batched, pure, and the same for every engine."""

from __future__ import annotations

from typing import Protocol

import mujoco
import numpy as np
from jax import Array

from ksim_envs.types import Device, PhysicsState, Push

CHANGE = "_change"
"""Suffix of a view's field that is a difference over the control step."""
PREVIOUS = "previous_"
"""Prefix, in the integration state, of the value that the next difference is taken from."""


class Backend(Protocol):
    """One compiled model and `num_envs` rows of it. All methods but `exact` and `state_dict` may be traced by JAX.

    A backend keeps no state of its own: what a call returns depends on its arguments alone, row by row.
    """

    name: str
    """The name under which users choose it."""
    model: mujoco.MjModel
    """The model that is simulated."""
    num_envs: int
    device: Device
    """Where the state lives."""

    def empty(self) -> PhysicsState:
        """A state of the right shapes and dtypes, with zeros; `reset_rows` must fill a row before it is stepped."""
        ...

    def nominal(self, name: str) -> Array:
        """The model's own value of a field that may differ from env to env, in the backend's precision."""
        ...

    def reset_rows(
        self, state: PhysicsState, rows_R: Array, qpos_RL: Array, qvel_RL: Array, model_fields: dict[str, Array]
    ) -> PhysicsState:
        """Put rows into a fresh state, forget everything else about them, and compute their view.

        Args:
            state: the batch.
            rows_R: the rows, int32; an index of `num_envs` or more stands for no row.
            qpos_RL: positions, floating point or as encoded by `exact`.
            qvel_RL: velocities, likewise.
            model_fields: the *batch's* per-env model fields, (E, ...), with the rows' new values already written.

        Returns:
            The batch; rows that are not named are the same bits as before.
        """
        ...

    def step(
        self,
        state: PhysicsState,
        ctrl_ESL: Array,
        active_E: Array,
        push_EL: Push | None,
        model_fields: dict[str, Array],
    ) -> tuple[PhysicsState, Array]:
        """Advance the active rows by one control step.

        Args:
            state: the batch.
            ctrl_ESL: the control of each physics substep, or one control (S = 1) for all of them.
            active_E: the rows to step; the others come back unchanged.
            push_EL: a disturbance of each row, or None.
            model_fields: per-env model fields by name, (E, ...).

        Returns:
            The batch, and (E,) uint32 fault masks (`guard.Fault`). A row with a fault comes back unchanged.
        """
        ...

    def traced_once(self) -> Backend:
        """The same engine for programs that are only run, neither mapped nor differentiated: it may start faster."""
        ...

    def exact(self, values: np.ndarray) -> Array:
        """Encode float64 positions or velocities for `reset_rows`, without rounding where the engine is that exact."""
        ...

    def state_dict(self, state: PhysicsState) -> dict[str, np.ndarray]:
        """`qpos` (E, nq), `qvel` (E, nv) and `time` (E,), at the engine's own precision."""
        ...
