"""The backend on MJX: MuJoCo in JAX, for accelerators.

Between control steps only the integration state is carried; the rest of `mjx.Data` is rebuilt from a template inside
the compiled program. So a state is small, a reset cannot forget a solver buffer, and no bit of a row depends on another
row.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs import guard
from ksim_envs.errors import InvalidConfigError
from ksim_envs.guard import Fault
from ksim_envs.physics.backend import CHANGE, PREVIOUS
from ksim_envs.physics.mjx_contacts import contacts_as_in_c, were_dropped
from ksim_envs.physics.model import MAX_CONTACT_POINTS, MAX_GEOM_PAIRS, fingerprint, mjx_limit
from ksim_envs.physics.model_fields import DERIVED, derived_constants, needs_derived_constants
from ksim_envs.physics.traced import TracedOnce
from ksim_envs.runtime import quiet_import
from ksim_envs.types import Device, PhysicsState, Push, View

with quiet_import():
    from mujoco import mjx

FRICTIONS = ("dof_frictionloss", "tendon_frictionloss")
"""Model fields for which MJX has constraints only where the model's own value is positive, whatever a row's is."""
NO_FRICTION = 1e-9
"""N or N m, in place of zero, with which MJX takes these constraints for others."""
CARRIED = ("time", "qpos", "qvel", "act", "qacc_warmstart")


@dataclass(frozen=True, kw_only=True)
class SolverCaps:
    """Where MJX's solver stops, if the model does not stop it earlier.

    MJX does every iteration of a line search, needed or not, and the batch waits for its slowest row. Four line-search
    iterations are enough on the Gymnasium models and two are not; ten outer iterations hardly ever bind and four miss
    steps of the humanoid. `tests/parity/test_mjx.py` holds these caps to C MuJoCo.
    """

    iterations: int = 10
    line_search: int = 4
    tolerance: float = 1e-6


class MjxBackend:
    """MuJoCo in JAX, in float32 (float64 where JAX's x64 mode is on). See `Backend` for the methods."""

    name = "mjx"

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        *,
        frame_skip: int,
        reads: frozenset[str],
        model_fields: frozenset[str] = frozenset(),
        device: Device | None = None,
        caps: SolverCaps = SolverCaps(),
    ) -> None:
        """Convert the model.

        Args:
            model: the model, shared with the caller and not changed.
            num_envs: number of rows.
            frame_skip: physics substeps in a control step.
            reads: the fields of `View` to compute.
            model_fields: names of the model's fields that differ from row to row.
            device: where to run; None for JAX's first device.
            caps: where the solver stops.

        Raises:
            InvalidConfigError: the model has something that MJX cannot run.
        """
        self.model, self.num_envs = model, num_envs
        self.device = device or jax.devices()[0]
        self._frame_skip = frame_skip
        self._changes = sorted(name.removesuffix(CHANGE) for name in reads if name.endswith(CHANGE))
        self._reads = sorted(name for name in reads if not name.endswith(CHANGE))
        self._model_fields = model_fields
        self._derives = needs_derived_constants(model_fields)
        self._max_contact_points = mjx_limit(model, MAX_CONTACT_POINTS)
        with jax.default_device(self.device), contacts_as_in_c():
            adapted = _adapted(model, reads, caps, model_fields)
            try:
                self.mjx_model = put_model(adapted, self.device)
                self.mjx_data = mjx.make_data(self.mjx_model, device=self.device, impl="jax")
            except (NotImplementedError, ValueError) as error:
                raise InvalidConfigError(
                    f'MJX cannot run this model: {str(error).rstrip(".")}. C MuJoCo can: backend="native".'
                ) from error
        settings = frame_skip, self._reads, self._changes, sorted(model_fields)
        self._identity = fingerprint(adapted, *settings)
        # Rows of a batch: traced once in a process, whatever the number of rows.
        self._reset_batch: Callable[..., PhysicsState] = jax.vmap(jax.jit(self._reset_row, inline=True))
        self._step_batch: Callable[..., tuple[PhysicsState, Array]] = jax.vmap(jax.jit(self._step_row, inline=True))

    def traced_once(self) -> MjxBackend:
        """See `Backend.traced_once`. On accelerators it is this backend, which every process traces anew."""
        platform = self.device.platform
        if platform != "cpu":
            return self
        backend = copy.copy(self)
        backend._reset_batch = TracedOnce(self._reset_batch, f"reset {self._identity}", platform)
        backend._step_batch = TracedOnce(self._step_batch, f"step {self._identity}", platform)
        return backend

    def empty(self) -> PhysicsState:
        """See `Backend.empty`."""
        constants = {name: self.nominal(name) for name in DERIVED} if self._derives else {}
        before = {name: _field(self.mjx_data, name) for name in self._changes}
        row = self._state(self.mjx_data, before, constants)
        return jax.tree.map(lambda leaf: jnp.zeros((self.num_envs, *leaf.shape), leaf.dtype), row)

    def nominal(self, name: str) -> Array:
        """See `Backend.nominal`."""
        return jnp.asarray(getattr(self.model, name), self.mjx_data.qpos.dtype)

    def reset_rows(
        self, state: PhysicsState, rows_R: Array, qpos_RL: Array, qvel_RL: Array, model_fields: dict[str, Array]
    ) -> PhysicsState:
        """See `Backend.reset_rows`."""
        fields_R = {name: values.at[rows_R].get(mode="clip") for name, values in model_fields.items()}
        rows = self._reset_batch(qpos_RL, qvel_RL, self._with_derived(fields_R, rows_R < self.num_envs))
        return jax.tree.map(lambda leaf, new: leaf.at[rows_R].set(new, mode="drop"), state, rows)

    def step(
        self,
        state: PhysicsState,
        ctrl_ESL: Array,
        active_E: Array,
        push_EL: Push | None,
        model_fields: dict[str, Array],
    ) -> tuple[PhysicsState, Array]:
        """See `Backend.step`."""
        stepped, fault_E = self._step_batch(state, ctrl_ESL, push_EL, model_fields)
        carried = {name: state.integration[name] for name in CARRIED}
        constants = [state.integration[name] for name in DERIVED if name in state.integration]
        unknown = [jnp.where(jnp.isnan(values), jnp.inf, 0.0) for values in constants]  # large ones may work
        fault_E = jnp.where(guard.healthy((carried, unknown)), fault_E, Fault.INPUT.mask)
        fault_E = jnp.where(active_E, fault_E, 0)
        return guard.keep_rows(active_E & (fault_E == 0), stepped, state), fault_E

    def exact(self, values: np.ndarray) -> Array:
        """The values in the engine's precision."""
        return jnp.asarray(values, self.mjx_data.qpos.dtype)

    def state_dict(self, state: PhysicsState) -> dict[str, np.ndarray]:
        """See `Backend.state_dict`."""
        return {name: np.array(state.integration[name]) for name in ("qpos", "qvel", "time")}

    def _with_derived(self, model_fields: dict[str, Array], is_meant_R: Array) -> dict[str, Array]:
        """The rows' model fields and, where one of them is a mass or the like, the constants that follow from it.

        Rows that are not meant get the nominal constants: the host computes one row after the other.
        """
        if not self._derives:
            return model_fields
        nominal = {name: np.asarray(getattr(self.model, name), self.mjx_data.qpos.dtype) for name in DERIVED}
        num_rows = len(is_meant_R)
        shapes = {name: jax.ShapeDtypeStruct((num_rows, *row.shape), row.dtype) for name, row in nominal.items()}

        def derive(fields: dict[str, Array], is_meant_R: Array) -> dict[str, np.ndarray]:
            meant = np.flatnonzero(is_meant_R)
            derived = derived_constants(self.model, {name: np.asarray(each)[meant] for name, each in fields.items()})
            constants = {name: np.repeat(row[None], num_rows, axis=0) for name, row in nominal.items()}
            for name, values in derived.items():
                constants[name][meant] = values
            return constants

        derived = jax.pure_callback(derive, shapes, model_fields, is_meant_R, vmap_method="sequential")
        return {**model_fields, **derived}

    # What follows is for one row.

    def _reset_row(self, qpos: Array, qvel: Array, model_fields: dict[str, Array]) -> PhysicsState:
        model = self._row_model(model_fields)
        with jax.default_matmul_precision("highest"), contacts_as_in_c():
            data = _forward(model, self.mjx_data.replace(qpos=qpos, qvel=qvel), self._reads)
        data = data.replace(qpos=qpos)  # MJX normalizes quaternions in place, C MuJoCo leaves the state alone
        state = self._state(data, {name: _field(data, name) for name in self._changes}, model_fields)
        if "cfrc_ext" in self._reads:  # Gymnasium's tasks read zero there until the first step
            state = dataclasses.replace(
                state, view=dataclasses.replace(state.view, cfrc_ext=self.mjx_data._impl.cfrc_ext)
            )
        return state

    def _step_row(
        self, state: PhysicsState, ctrl_SL: Array, push: Push | None, model_fields: dict[str, Array]
    ) -> tuple[PhysicsState, Array]:
        derived = {name: state.integration[name] for name in DERIVED if name in state.integration}
        model = self._row_model({**model_fields, **derived})
        data = self.mjx_data.replace(**{name: state.integration[name] for name in CARRIED})
        if push is not None:
            data = data.replace(qvel=data.qvel + push.qvel_kick, xfrc_applied=push.xfrc_applied)
        ctrl_SL = jnp.broadcast_to(ctrl_SL, (self._frame_skip, self.model.nu)).astype(data.ctrl.dtype)

        def substep(carry: tuple[mjx.Data, Array], ctrl: Array) -> tuple[tuple[mjx.Data, Array], None]:
            data, has_overflowed = carry
            stepped = mjx.step(model, data.replace(ctrl=ctrl))
            # in x64 mode MJX turns some int32 indices of tendons into int64
            stepped = jax.tree.map(lambda new, old: new.astype(old.dtype), stepped, data)
            return (stepped, has_overflowed | were_dropped(stepped, self._max_contact_points)), None

        with jax.default_matmul_precision("highest"), contacts_as_in_c():
            (data, has_overflowed), _ = jax.lax.scan(substep, (data, jnp.zeros((), bool)), ctrl_SL)
            if "cfrc_ext" in self._reads:
                data = mjx.rne_postconstraint(model, data)
        before = {name: state.integration[PREVIOUS + name] for name in self._changes}
        stepped = self._state(data, before, derived)
        is_healthy = guard.healthy(jax.tree.map(lambda leaf: leaf[None], (stepped, data.qacc)))[0]
        fault = guard.fault_if(~is_healthy, Fault.PHYSICS) | guard.fault_if(has_overflowed, Fault.OVERFLOW)
        return stepped, fault

    def _row_model(self, fields: dict[str, Array]) -> mjx.Model:
        """The model with a row's own fields."""
        frictions = {name: jnp.maximum(fields[name], NO_FRICTION) for name in FRICTIONS if name in fields}
        return self.mjx_model.tree_replace({**fields, **frictions})

    def _state(self, data: mjx.Data, before: dict[str, Array], constants: dict[str, Array]) -> PhysicsState:
        now = {name: _field(data, name) for name in self._changes}
        integration = {name: getattr(data, name) for name in CARRIED}
        integration |= {PREVIOUS + name: value for name, value in now.items()}
        integration |= {name: constants[name] for name in DERIVED if self._derives}
        view = {name: _field(data, name) for name in self._reads}
        view |= {name + CHANGE: now[name] - before[name] for name in self._changes}
        return PhysicsState(integration=integration, view=View(**view))


def put_model(model: mujoco.MjModel, device: Device | None = None) -> mjx.Model:
    """The model on MJX, which looks for its own limits at the numbers' index instead of their address (3.17)."""
    placed = copy.copy(model)
    for name in (MAX_CONTACT_POINTS, MAX_GEOM_PAIRS):
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_NUMERIC, name)
        if index >= 0:
            placed.numeric_data[index] = mjx_limit(model, name)
    return mjx.put_model(placed, device=device, impl="jax")  # or it might be Warp's


def _adapted(
    model: mujoco.MjModel, reads: frozenset[str], caps: SolverCaps, model_fields: frozenset[str]
) -> mujoco.MjModel:
    """The model with the solver's caps, without sensors where no term reads them, and with room for rows' friction."""
    adapted = copy.copy(model)
    for name in model_fields.intersection(FRICTIONS):
        getattr(adapted, name)[:] = 1.0
    adapted.opt.iterations = min(adapted.opt.iterations, caps.iterations)
    adapted.opt.ls_iterations = min(adapted.opt.ls_iterations, caps.line_search)
    adapted.opt.tolerance = max(adapted.opt.tolerance, caps.tolerance)
    if adapted.opt.solver == mujoco.mjtSolver.mjSOL_PGS:  # MJX has none
        adapted.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    if "sensordata" not in reads:
        adapted.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
    return adapted


NEEDS_ACCELERATION = frozenset({"qacc", "qfrc_constraint", "sensordata"})


def _forward(model: mjx.Model, data: mjx.Data, reads: list[str]) -> mjx.Data:
    """The derived fields at the data's state, as `mj_forward` has them, as far as they are read."""
    if not NEEDS_ACCELERATION.isdisjoint(reads):
        return mjx.forward(model, data)
    for stage in (mjx.kinematics, mjx.com_pos, mjx.tendon, mjx.transmission, mjx.fwd_velocity, mjx.fwd_actuation):
        data = stage(model, data)
    return data


def _field(data: mjx.Data, name: str) -> Any:
    """A field of `mjx.Data`, wherever this release keeps it."""
    holder = data if name in data.__dataclass_fields__ else data._impl
    return getattr(holder, name)
