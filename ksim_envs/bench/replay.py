"""The bare engine: the physics of some control steps, recorded once, then done again with nothing around it.

The engine gets exactly the controls, pushes, model fields and resets of the recording, so it integrates the same
trajectories, contacts included, with no observation and no reward. On MJX it leaves the model fields as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs.core import Core
from ksim_envs.physics.model_fields import needs_derived_constants
from ksim_envs.types import EnvState, Push

Replay = tuple[Callable[[], Any], Callable[[Any], None]]
"""What brings the engine to the start, and what does the steps from there."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows, and what is written into them."""

    ids: np.ndarray
    values: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One control step of all rows."""

    ctrl_ESL: np.ndarray
    push_EL: Push | None
    reset: Rows  # after the step: qpos and qvel of the rows whose episodes ended
    model_fields: Rows  # before the step: those that are not as in the step before


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Control steps of a core."""

    start: Rows
    steps: list[Step]


def record(core: Core, state: EnvState, actions: Iterable[Any]) -> Recording:
    """Step the envs, and note what the engine needs in order to do the same; for the arguments see `bare_engine`."""
    engine_inputs = jax.jit(core.engine_inputs)
    state = jax.tree.map(jnp.copy, state)  # a step uses up what it gets
    everyone = np.arange(core.num_envs)
    start, steps = _positions(core, state, everyone), []
    before: dict[str, np.ndarray] = {}
    for action in actions:
        action_EA = jnp.clip(jnp.asarray(action), *core.action_bounds)
        controls, fields = jax.device_get(engine_inputs(state, action_EA))
        state, result = core.programs.step(state, action_EA)
        ended = np.flatnonzero(result.ended_E)
        steps.append(
            Step(
                ctrl_ESL=controls.drive.ctrl,
                push_EL=controls.push,
                reset=_positions(core, state, ended),
                model_fields=_changed(before, fields, everyone),
            )
        )
        before = fields
    return Recording(start=start, steps=steps)


def _positions(core: Core, state: EnvState, ids: np.ndarray) -> Rows:
    physics = core.backend.state_dict(state.physics)
    return Rows(ids=ids, values={name: physics[name][ids] for name in ("qpos", "qvel")})


def _changed(before: dict[str, np.ndarray], fields: dict[str, np.ndarray], everyone: np.ndarray) -> Rows:
    """The rows in which any of the fields is another than before; all of them where there was none before."""
    ids = everyone
    if before:
        differs_E = [(fields[name] != before[name]).reshape(len(everyone), -1).any(axis=1) for name in fields]
        ids = np.flatnonzero(np.any(differs_E, axis=0))
    return Rows(ids=ids, values={name: values[ids] for name, values in fields.items()})


def replay(core: Core, recording: Recording) -> Replay:
    """The bare engine, as the core's backend has it."""
    return {"native": _on_native, "mjx": _on_mjx}[core.backend.name](core, core.backend, recording)


def _on_native(core: Core, backend: Any, recording: Recording) -> Replay:
    from mujoco.batch import Batch

    batch = Batch(backend.model, core.num_envs, backend.num_threads)

    def reset(rows: Rows) -> None:
        batch.reset(rows.ids, stage=0)
        for name, values in rows.values.items():
            batch.bind(name)[rows.ids] = values
        batch.forward(rows.ids)

    def write_model_fields(rows: Rows) -> None:
        for name, values in rows.values.items():
            batch.expand(name)[rows.ids] = values
        if needs_derived_constants(frozenset(rows.values)):
            batch.set_const(rows.ids)

    def start() -> None:
        write_model_fields(recording.steps[0].model_fields)
        reset(recording.start)

    def steps(_: Any) -> None:
        for i, step in enumerate(recording.steps):
            if i and len(step.model_fields.ids):
                write_model_fields(step.model_fields)
            if step.push_EL is not None:
                batch.bind("xfrc_applied")[:] = step.push_EL.xfrc_applied
                batch.bind("qvel")[:] += step.push_EL.qvel_kick
            batch.rollout(core.task.frame_skip, control=step.ctrl_ESL, record=())
            if len(step.reset.ids):
                reset(step.reset)

    return start, steps


def _on_mjx(core: Core, backend: Any, recording: Recording) -> Replay:
    """With the model's own fields in every row, whatever randomizers draw."""
    from mujoco import mjx

    from ksim_envs.physics.mjx_contacts import contacts_as_in_c

    model, data = backend.mjx_model, backend.mjx_data

    @jax.jit
    def step(data_E: Any, ctrl_ESL: Array, push_EL: Push | None, ended_E: Array, start: dict[str, Array]) -> Any:
        def one(data: Any, ctrl_SL: Array, push: Push | None) -> Any:
            if push is not None:
                data = data.replace(qvel=data.qvel + push.qvel_kick, xfrc_applied=push.xfrc_applied)
            ctrl_SL = jnp.broadcast_to(ctrl_SL, (core.task.frame_skip, ctrl_SL.shape[1]))
            return jax.lax.scan(lambda d, ctrl: (mjx.step(model, d.replace(ctrl=ctrl)), None), data, ctrl_SL)[0]

        with jax.default_matmul_precision("highest"), contacts_as_in_c():
            data_E = jax.vmap(one)(data_E, ctrl_ESL, push_EL)
        return data_E.replace(
            **{name: jnp.where(ended_E[:, None], value, getattr(data_E, name)) for name, value in start.items()}
        )

    first = jax.vmap(lambda values: data.replace(**values))(_dense(core, recording.start))
    inputs = [
        jax.tree.map(jnp.asarray, (step.ctrl_ESL, step.push_EL, _mask(core, step.reset), _dense(core, step.reset)))
        for step in recording.steps
    ]

    def steps(data_E: Any) -> None:
        for each in inputs:
            data_E = step(data_E, *each)
        jax.block_until_ready(data_E.qpos)

    return lambda: first, steps


def _mask(core: Core, rows: Rows) -> np.ndarray:
    return np.isin(np.arange(core.num_envs), rows.ids)


def _dense(core: Core, rows: Rows) -> dict[str, Array]:
    """The values in arrays for all rows, zero in the others."""
    dense = {name: np.zeros((core.num_envs, *values.shape[1:]), np.float32) for name, values in rows.values.items()}
    for name, values in rows.values.items():
        dense[name][rows.ids] = values
    return jax.tree.map(jnp.asarray, dense)
