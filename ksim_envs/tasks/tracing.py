"""What a task's terms read and return, found by tracing them once, when the task is built.

Names of bodies and the like are looked up at that moment too, so a misspelt one is an error before the first step.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError, unknown_name
from ksim_envs.tasks.actuators import Torque, check_latency
from ksim_envs.tasks.context import OWN_FIELDS, Context, Model
from ksim_envs.tasks.evaluation import begin, control, draw_start, evaluate, shaped
from ksim_envs.tasks.randomness import term_key
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import Carry, Drive, call_all, init_all, named
from ksim_envs.types import View


def find_reads(task: Task, mj_model: mujoco.MjModel) -> frozenset[str]:
    """The fields of `View` that a task's terms read, found by tracing them.

    Raises:
        KsimError: a term names something that the model does not have, or returns a wrong shape.
    """
    recorder = _Recorder(_first_view(mj_model))
    ctx = _RecordingContext(**vars(blank_context(task, mj_model)), read=set())
    jax.eval_shape(lambda: _trace(task, recorder, ctx, mj_model))
    return frozenset(recorder.names)


def slices(task: Task, mj_model: mujoco.MjModel, role: str = "observations") -> dict[str, slice]:
    """Where each term's values stand in `obs`, or with the role `"privileged"` in `info["privileged"]`."""
    view = _Recorder(_first_view(mj_model))

    def values() -> dict[str, Array]:
        ctx = blank_context(task, mj_model)
        ctx = replace(ctx, commands=begin(task, view, ctx).commands)
        terms = getattr(task, role)
        return call_all(role, terms, init_all(role, terms, view, ctx), view, ctx)[0]

    shapes = jax.eval_shape(values)  # sorted by name, unlike the table
    sizes = {name: math.prod(shapes[name].shape) for name in getattr(task, role)}
    stops = itertools.accumulate(sizes.values())
    return {name: slice(stop - size, stop) for (name, size), stop in zip(sizes.items(), stops, strict=True)}


def _first_view(mj_model: mujoco.MjModel) -> View:
    """A view of the right shapes."""
    data = mujoco.MjData(mj_model)
    sources = {name: name.removesuffix("_change") for name in View.__dataclass_fields__}
    values: dict[str, Any] = {name: np.asarray(getattr(data, source), np.float32) for name, source in sources.items()}
    return View(**values)


def blank_context(task: Task, mj_model: mujoco.MjModel) -> Context:
    """A context for tracing the terms of a task."""
    model = Model(mj_model)
    return Context(
        model=model,
        dt=task.frame_skip * mj_model.opt.timestep,
        action=jnp.zeros(len(action_bounds(task, mj_model)[0])),
        terminated=jnp.zeros((), bool),
        step=jnp.zeros((), jnp.int32),
        episode_return=jnp.zeros(()),
        level=jnp.zeros(()),
        commands={},
        key=term_key(jax.random.key(0)),
        run_key=term_key(jax.random.key(0)),
        model_fields={},
    )


def action_bounds(task: Task, mj_model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """(num_actions,) float32 lower and upper bounds of the action; +-1 for an engine's actuator without a range."""
    low, high = (task.actuator or Torque()).bounds(Model(mj_model))
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def _trace(task: Task, view: View, ctx: _RecordingContext, mj_model: mujoco.MjModel) -> None:
    """Call everything once, in an order in which it can be called, and check the shapes."""
    check_latency(task)
    qpos, qvel, drawn = draw_start(task, jnp.asarray(mj_model.qpos0), jnp.zeros(mj_model.nv), ctx)
    shaped("qpos after the resets", qpos, (mj_model.nq,))
    shaped("qvel after the resets", qvel, (mj_model.nv,))
    for name, value in drawn.items():
        shaped(f"the randomized {name}", value, ctx.model.array(name).shape)
    ctx.read.clear()  # what the randomizers read does not count
    first = begin(task, view, ctx)
    ctx = replace(ctx, commands=first.commands)
    if task.curriculum:
        before = task.curriculum.init()
        with named("curriculum", task.curriculum):
            after_episode = task.curriculum(before, view, ctx)
        shaped("the curriculum's level", task.curriculum.level(after_episode), ())
        _same_structure("the curriculum", before, after_episode)
    controls = control(task, view, ctx, first.carry)
    if controls.push is not None:
        shaped("qvel_kick of the events", controls.push.qvel_kick, (mj_model.nv,))
        shaped("xfrc_applied of the events", controls.push.xfrc_applied, (mj_model.nbody, 6))
    substeps = jnp.shape(controls.drive.ctrl)[0]
    shaped("the actuator's ctrl", controls.drive.ctrl, (1 if substeps == 1 else task.frame_skip, mj_model.nu))
    _check_fields_of_drive(task, controls.drive, ctx)
    after = evaluate(task, view, ctx, {**first.carry, **controls.carry})
    for name, value in first.carry.items():
        _same_structure(name, value, after.carry[name])
    if unread := sorted(drawn.keys() & OWN_FIELDS.keys() - ctx.read):
        raise InvalidConfigError(
            f"A randomizer draws {unread[0]!r}, but no term of the task reads it, so it has no effect; add a term that "
            "does, or leave the randomizer out."
        )


def _check_fields_of_drive(task: Task, drive: Drive, ctx: Context) -> None:
    """An actuator must set the model fields that it says it sets, in their shapes."""
    promised = set(task.actuator.fields) if task.actuator else set()
    if drive.model_fields.keys() != promised:
        raise InvalidConfigError(
            f"The actuator sets the model fields {sorted(drive.model_fields)}; its `fields` say {sorted(promised)}."
        )
    for name, value in drive.model_fields.items():
        shaped(f"the actuator's {name}", value, ctx.model.array(name).shape)


def _same_structure(name: str, old: Carry, new: Carry) -> None:
    """A carry must keep its structure, shapes and dtypes, or the next step would be another program."""

    def layout(tree: Carry) -> Any:
        return jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{jnp.shape(leaf)}", tree)

    if layout(old) != layout(new):
        raise InvalidConfigError(
            f"{name} begins with the carry {layout(old)} and returns {layout(new)}; structure, shapes and dtypes must "
            "stay the same."
        )


@dataclass(frozen=True, kw_only=True)
class _RecordingContext(Context):
    """A context that notes which model fields are read."""

    read: set[str]

    def field(self, name: str) -> Array:
        self.read.add(name)
        return super().field(name)


class _Recorder(View):
    """A view that notes which of its fields are read."""

    names: set[str]

    def __init__(self, view: View) -> None:
        object.__setattr__(self, "_view", view)
        object.__setattr__(self, "names", set())

    def __getattribute__(self, name: str) -> Any:
        if name not in View.__dataclass_fields__:
            return object.__getattribute__(self, name)
        self.names.add(name)
        return jnp.asarray(getattr(self._view, name))

    def __getattr__(self, name: str) -> Any:
        raise unknown_name("field of View", name, (field.name for field in fields(View)))
