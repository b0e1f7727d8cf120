"""The backend on C MuJoCo: `mujoco.batch.Batch`, a threaded stepper, behind a callback.

The part of the integration state that the next step depends on goes into and comes out of every call, its float64 bits
kept as pairs of uint32 (JAX without x64 would round them). So the callback is a pure function, the batch is only
scratch memory, and results are the same bits for any number of threads.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jax.experimental.buffer_callback import buffer_callback
from jax.typing import ArrayLike
from mujoco.batch import Batch, SimulationError

from ksim_envs import guard
from ksim_envs.errors import ForkedProcessError, InvalidConfigError
from ksim_envs.physics.backend import CHANGE, PREVIOUS
from ksim_envs.physics.model import RUNGE_KUTTA
from ksim_envs.physics.model_fields import needs_derived_constants, usable_rows
from ksim_envs.runtime import quiet_mujoco, usable_processors
from ksim_envs.types import Device, PhysicsState, Push, View

INPUTS = mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_QFRC_APPLIED | mujoco.mjtState.mjSTATE_XFRC_APPLIED
OVERFLOWS = [mujoco.mjtWarning.mjWARN_CONTACTFULL.value, mujoco.mjtWarning.mjWARN_CNSTRFULL.value]


class NativeBackend:
    """C MuJoCo in float64 on the CPU's threads. See `Backend` for the methods."""

    name = "native"

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        *,
        frame_skip: int,
        reads: frozenset[str],
        model_fields: frozenset[str] = frozenset(),
        num_threads: int | None = None,
    ) -> None:
        """Make the batch.

        Args:
            model: the model, shared with the caller and not changed.
            num_envs: number of rows.
            frame_skip: physics substeps in a control step.
            reads: the fields of `View` to compute.
            model_fields: names of the model's fields that differ from row to row.
            num_threads: threads, the caller's included; None for one for each processor that the process may use.
        """
        self.model, self.num_envs = model, num_envs
        self.device = _processor()
        self.num_threads = min(num_threads or usable_processors(), num_envs)
        self._frame_skip = frame_skip
        self._changes = sorted(name.removesuffix(CHANGE) for name in reads if name.endswith(CHANGE))
        self._reads = sorted(name for name in reads if not name.endswith(CHANGE))
        # Under RK4 the engine has no way to compute cfrc_ext for the last stage: it takes the stage's whole MjData.
        self._calls_rne = "cfrc_ext" in reads and model.opt.integrator == RUNGE_KUTTA
        self._batch = Batch(model, num_envs, self.num_threads, persistent=self._calls_rne)
        self._scratch = mujoco.MjData(model)
        self._bound = {name: self._batch.bind(name) for name in {*self._reads, *self._changes}}
        if self._calls_rne:
            self._bound["cfrc_ext"] = np.zeros((num_envs, model.nbody, 6))
        self._expanded = {name: self._batch.expand(name) for name in sorted(model_fields)}
        self._written = {name: np.full(values.shape, np.nan, np.float32) for name, values in self._expanded.items()}
        self._inputs = {name for name in model_fields if needs_derived_constants(frozenset({name}))}
        self._unusable_E = np.zeros(num_envs, bool)
        self._columns = _carried_columns(model)
        self._defaults = self._batch.state[0].copy()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        _batches.add(self._batch)

    def traced_once(self) -> NativeBackend:
        """This backend: there is little to trace."""
        return self

    def empty(self) -> PhysicsState:
        """See `Backend.empty`."""
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._shapes(self.num_envs))

    def nominal(self, name: str) -> Array:
        """See `Backend.nominal`."""
        return jnp.asarray(getattr(self.model, name), jnp.float32)

    def reset_rows(
        self, state: PhysicsState, rows_R: Array, qpos_RL: Array, qvel_RL: Array, model_fields: dict[str, Array]
    ) -> PhysicsState:
        """See `Backend.reset_rows`."""
        rows = self._call(self._reset_rows, self._shapes(len(rows_R)), rows_R, qpos_RL, qvel_RL, model_fields)
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
        shapes = (self._shapes(self.num_envs), jax.ShapeDtypeStruct((self.num_envs,), jnp.uint32))
        return self._call(self._step, shapes, state, ctrl_ESL, active_E, push_EL, model_fields)

    def exact(self, values: np.ndarray) -> Array:
        """The values' float64 bits, (..., 2) uint32."""
        return jnp.asarray(np.ascontiguousarray(values, np.float64)[..., None].view(np.uint32))

    def state_dict(self, state: PhysicsState) -> dict[str, np.ndarray]:
        """See `Backend.state_dict`."""
        carried = _float64(np.array(state.integration["state"]))
        nq, nv = self.model.nq, self.model.nv
        return {"qpos": carried[:, 1 : 1 + nq], "qvel": carried[:, 1 + nq : 1 + nq + nv], "time": carried[:, 0]}

    # What follows runs on the host, inside the callback: there the leaves of a state are NumPy arrays.

    def _call(self, function: Callable[..., None], shapes: Any, *args: Any) -> Any:
        """A function of NumPy arrays, the first of which it fills, as part of a program on any device."""

        def call(out: Any, *args: Any) -> None:
            if os.getpid() != self._pid:
                raise ForkedProcessError("this env was made in the parent process; make one in the child instead.")
            # A faulty row's float64 may be too large for float32; it is reported, so NumPy need not warn of it.
            with self._lock, quiet_mujoco(), np.errstate(over="ignore", invalid="ignore"):
                function(*jax.tree.map(np.asarray, (out, *args)))

        def in_place(_: Any, out: Any, *args: Any) -> None:
            call(out, *args)

        def copied(*args: Any) -> Any:
            out = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
            call(out, *args)
            return out

        return jax.lax.platform_dependent(
            *args,
            cpu=buffer_callback(in_place, shapes, vmap_method="sequential"),  # on XLA's own memory
            default=lambda *args: jax.pure_callback(copied, shapes, *args, vmap_method="sequential"),
        )

    def _shapes(self, rows: int) -> PhysicsState:
        """The state of a number of rows, as shapes and dtypes."""

        def float32(name: str) -> Any:
            return jax.ShapeDtypeStruct((rows, *self._bound[name].shape[1:]), jnp.float32)

        def bits(size: int) -> Any:
            return jax.ShapeDtypeStruct((rows, 2 * size), jnp.uint32)

        integration = {PREVIOUS + name: bits(self._bound[name][0].size) for name in self._changes}
        view = {name: float32(name) for name in self._reads}
        changes = {name + CHANGE: float32(name) for name in self._changes}
        return PhysicsState(
            integration={**integration, "state": bits(self._batch.state[0, self._columns].size)},
            view=View(**view, **changes),
        )

    def _reset_rows(
        self,
        new: PhysicsState,
        rows_R: np.ndarray,
        qpos_RL: np.ndarray,
        qvel_RL: np.ndarray,
        model_fields: dict[str, np.ndarray],
    ) -> None:
        chosen = np.flatnonzero(rows_R < self.num_envs)
        chosen = chosen[np.argsort(rows_R[chosen])]  # the batch wants sorted ids
        ids = rows_R[chosen]
        self._write_model_fields(model_fields, ids)
        self._batch.state[ids] = self._defaults  # several times faster than the batch's own reset of a few rows
        self._batch.bind("qpos")[ids] = _decoded(qpos_RL)[chosen]
        self._batch.bind("qvel")[ids] = _decoded(qvel_RL)[chosen]
        usable = _within_bounds(self._batch.state[ids][:, self._columns])  # MuJoCo would replace the others unasked
        failed = self._failures(lambda: self._batch.forward(ids[usable]))
        for leaf in jax.tree.leaves(new):
            leaf[...] = 0
        new.integration["state"][chosen] = _bits(self._batch.state[ids][:, self._columns])
        # What the engine cannot compute stays zero; the row's first step will fail and report it.
        computed = usable
        computed[np.searchsorted(ids, failed)] = False
        chosen, ids = chosen[computed], ids[computed]
        for name in self._changes:
            new.integration[PREVIOUS + name][chosen] = _bits(self._bound[name].reshape(self.num_envs, -1)[ids])
        for name in self._reads:
            if name != "cfrc_ext":  # Gymnasium's tasks read zero there until the first step
                getattr(new.view, name)[chosen] = self._bound[name][ids]

    def _failures(self, call: Callable[[], Any]) -> np.ndarray:
        """The rows in which MuJoCo raised an error during the call; these keep their state, and the others finish."""
        try:
            call()
        except SimulationError as error:
            return error.ids
        return np.array([], int)

    def _step(
        self,
        out: tuple[PhysicsState, np.ndarray],
        state: PhysicsState,
        ctrl_ESL: np.ndarray,
        active_E: np.ndarray,
        push_EL: Push | None,
        model_fields: dict[str, np.ndarray],
    ) -> None:
        batch, before = self._batch, _float64(state.integration["state"])
        self._write_model_fields(model_fields, np.arange(self.num_envs))
        usable_E = _within_bounds(before) & ~self._unusable_E
        ids = np.flatnonzero(active_E & usable_E)
        batch.state[:, self._columns] = before
        batch.bind("xfrc_applied")[:] = 0.0 if push_EL is None else push_EL.xfrc_applied
        if push_EL is not None:
            batch.bind("qvel")[:] += push_EL.qvel_kick
        batch.warning[:] = 0
        control = ctrl_ESL if len(ids) == self.num_envs else ctrl_ESL[ids]
        failed = self._failures(lambda: batch.rollout(self._frame_skip, control=control, ids=ids, record=()))
        if self._calls_rne:
            self._fill_cfrc_ext(ids)
        fault_E = np.where(usable_E, self._faults(failed), np.uint32(guard.Fault.INPUT.mask))
        new, faults_E = out
        faults_E[:] = np.where(active_E, fault_E, np.uint32(0))
        self._collect(new, state, active_E & (faults_E == 0))

    def _faults(self, failed: np.ndarray) -> np.ndarray:
        """The fault masks of the rows that were stepped (what stands in the others has no meaning)."""
        beyond_E = ~_within_bounds(self._batch.state[:, self._columns])
        if not len(failed) and not self._batch.warning.any():
            return beyond_E * np.uint32(guard.Fault.PHYSICS.mask)
        raised = self._batch.warning[:, :, 1] > 0
        overflowed_E = raised[:, OVERFLOWS].any(axis=1)
        overflowed_E[[row for row in failed if "out of memory" in self._batch.error(row)]] = True
        raised_E = raised.any(axis=1)
        raised_E[failed] = True
        diverged_E = raised_E & ~overflowed_E | beyond_E
        return (overflowed_E * guard.Fault.OVERFLOW.mask + diverged_E * guard.Fault.PHYSICS.mask).astype(np.uint32)

    def _collect(self, new: PhysicsState, old: PhysicsState, stepped_E: np.ndarray) -> None:
        """Fill the new state: from the batch where a row was stepped, from the old one elsewhere."""
        _float64(new.integration["state"])[:] = self._batch.state[:, self._columns]
        for name in self._reads:
            getattr(new.view, name)[:] = self._bound[name]
        for name in self._changes:
            now, before = self._bound[name], _float64(old.integration[PREVIOUS + name])
            getattr(new.view, name + CHANGE)[:] = now - before.reshape(now.shape)
            _float64(new.integration[PREVIOUS + name])[:] = now.reshape(self.num_envs, -1)
        if len(kept := np.flatnonzero(~stepped_E)):
            for leaf, before in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
                leaf[kept] = before[kept]

    def _write_model_fields(self, model_fields: dict[str, np.ndarray], ids: np.ndarray) -> None:
        """Write the model fields of these rows into the batch, where they are not those written last."""
        if not self._expanded:
            return
        stale_E = np.zeros(self.num_envs, bool)
        some = slice(None) if len(ids) == self.num_envs else ids  # a slice needs no copy
        for name, values in self._expanded.items():
            given, written = model_fields[name], self._written[name]
            differs = (given[some] != written[some]).any(axis=tuple(range(1, given.ndim)))
            rows = ids[differs]
            if len(rows):
                written[rows] = given[rows]
                values[rows] = usable_rows(given[rows], getattr(self.model, name))
                stale_E[rows] |= name in self._inputs
        if stale_E.any():
            failed = self._failures(lambda: self._batch.set_const(np.flatnonzero(stale_E)))
            self._unusable_E[stale_E] = False
            self._unusable_E[failed] = True

    def _fill_cfrc_ext(self, ids: np.ndarray) -> None:
        for row in ids:
            self._batch.get_data(int(row), self._scratch)
            mujoco.mj_rnePostConstraint(self.model, self._scratch)
            self._bound["cfrc_ext"][row] = self._scratch.cfrc_ext


def _processor() -> Device:
    """JAX's device on which native envs hand their arrays over.

    Raises:
        InvalidConfigError: JAX was told to leave it out.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InvalidConfigError(
            f"The native backend needs JAX's CPU, which is not there ({error}). Set JAX_PLATFORMS=cuda,cpu before "
            "Python starts, or leave it unset."
        ) from error


def _abandon_batches() -> None:
    """Keep a forked child from freeing its parent's batches: that would wait for threads which it does not have."""
    for batch in list(_batches):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(batch))


_batches: WeakSet[Batch] = WeakSet()
os.register_at_fork(after_in_child=_abandon_batches)


def _carried_columns(model: mujoco.MjModel) -> slice | np.ndarray:
    """The columns of the integration state that outlive a control step: all but the inputs, which every step writes."""
    whole = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.arange(mujoco.mj_stateSize(model, whole), dtype=np.float64)
    inputs = np.empty(mujoco.mj_stateSize(model, INPUTS))
    mujoco.mj_extractState(model, state, whole, inputs, INPUTS)
    carried = np.setdiff1d(np.arange(len(state)), inputs.astype(int))
    is_prefix = carried[-1] == len(carried) - 1
    return slice(len(carried)) if is_prefix else carried  # a slice is a view, several times faster than an index


def _bits(values: np.ndarray) -> np.ndarray:
    """(E, n) float64 as (E, 2 n) uint32, always a fresh array."""
    return np.array(values, np.float64, order="C").view(np.uint32)


def _within_bounds(carried: np.ndarray) -> np.ndarray:
    """(E,) bool: every value of the row is finite and within MuJoCo's bound."""
    return np.all(np.abs(carried) <= guard.MAX_VALUE, axis=1)


def _float64(bits: ArrayLike) -> np.ndarray:
    """The inverse of `_bits`."""
    return np.ascontiguousarray(bits).view(np.float64)


def _decoded(values: np.ndarray) -> np.ndarray:
    """Positions or velocities as float64, from floats or from the bits that `exact` made."""
    return _float64(values)[..., 0] if values.dtype == np.uint32 else values.astype(np.float64)
