"""A task's terms at work, for one env: what they draw, what they return, and what they read.

What a task reads of the physics, and the sizes of what it returns, are found by tracing its terms once, when the task
is built; names of bodies and the like are looked up at that moment too, so a misspelt one is an error before the first
step. Each term has a random stream of its own, which depends on its role and name but not on the other terms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError, unknown_name
from ksim_envs.tasks.actuators import check_latency
from ksim_envs.tasks.context import OWN_FIELDS, Context, Model
from ksim_envs.tasks.randomness import term_key
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import Carry, Drive, call_all, init_all, named
from ksim_envs.types import Push, View


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Controls:
    """What a task puts into the engine for one control step of one env."""

    drive: Drive
    push: Push | None  # the sum of the events
    carry: dict[str, Carry]  # of the actuator and the events, by role and name


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The values of a task's terms at one state of one env."""

    obs: Array  # (num_obs,), float32
    rewards: dict[str, Array]  # (), float32 each; none in an episode's first state
    terminated: Array  # (), bool
    truncated: Array  # (), bool: a truncation of the task holds; the time limit is not one of them
    metrics: dict[str, Array]  # float32 each, any shape; the privileged quantities among them, as one
    commands: dict[str, Array]  # float32 each, any shape: those to answer next
    carry: dict[str, Carry] = field(default_factory=dict)  # what stateful terms remember, by role and name


def draw_start(task: Task, qpos: Array, qvel: Array, ctx: Context) -> tuple[Array, Array, dict[str, Array]]:
    """Draw the state and the model fields that an episode of one env begins with.

    Args:
        task: the task.
        qpos: (nq,), the model's `qpos0`.
        qvel: (nv,), zeros.
        ctx: its `model_fields` hold the nominal values, its key is this row's and episode's.

    Returns:
        qpos, qvel, and the randomized model fields by name.
    """
    for name, randomizer in task.randomizers.items():
        nominal = {each: ctx.field(each) for each in randomizer.fields}
        with named(f"randomizers/{name}", randomizer):
            drawn = randomizer(nominal, ctx.stream(f"randomizers/{name}"))
        if drawn.keys() != nominal.keys():
            raise InvalidConfigError(
                f"randomizer {name!r} returns the fields {sorted(drawn)}; it must return {sorted(nominal)}."
            )
        ctx = replace(ctx, model_fields={**ctx.model_fields, **drawn})
    for name, reset in task.resets.items():
        with named(f"resets/{name}", reset):
            qpos, qvel = reset(qpos, qvel, ctx.stream(f"resets/{name}"))
    return qpos, qvel, ctx.model_fields


def begin(task: Task, view: View, ctx: Context) -> Evaluation:
    """The values of a task's terms in the first state of an episode, and what its stateful terms carry from there.

    Args:
        task: the task.
        view: the physics after the reset.
        ctx: the rest; its commands are ignored, and its key is split by the terms' names.

    Returns:
        The values; there are no rewards yet.
    """
    commands, carry = _commands(task, view, ctx)
    ctx = replace(ctx, commands=commands)
    for role in ("events", "terminations", "truncations", "rewards", "metrics", "privileged", "observations"):
        carry |= init_all(role, getattr(task, role), view, ctx)
    if task.actuator:
        carry |= init_all("actuator", {"": task.actuator}, view, ctx)
    metrics, seen = call_all("metrics", task.metrics, carry, view, ctx)
    shown, privileged, observed = _shown(task, carry, view, ctx)
    return Evaluation(
        obs=shown,
        rewards={},
        terminated=jnp.zeros((), bool),
        truncated=jnp.zeros((), bool),
        metrics=_float32({**metrics, **privileged}),
        commands=_float32(commands),
        carry={**carry, **seen, **observed},
    )


def control(task: Task, view: View, ctx: Context, carry: Mapping[str, Carry]) -> Controls:
    """What a task puts into the engine for one control step: the actuator's controls and the sum of the events."""
    drive, after = Drive(ctrl=ctx.action[None]), {}
    if task.actuator:
        drives, after = call_all("actuator", {"": task.actuator}, carry, view, ctx)
        drive = drives[""]
    pushes, pushed = call_all("events", task.events, carry, view, ctx)
    for name, push in pushes.items():
        if not isinstance(push, Push):
            raise InvalidConfigError(f"event {name!r} gives a {type(push).__name__}; it must give a types.Push.")
    push = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *pushes.values()) if pushes else None
    return Controls(drive=drive, push=push, carry={**after, **pushed})


def evaluate(task: Task, view: View, ctx: Context, carry: Mapping[str, Carry]) -> Evaluation:
    """Call every termination, truncation, reward, metric, command and observation of a task for one env, in this order.

    Args:
        task: the task.
        view: the physics after the step.
        ctx: the rest; its `terminated` is ignored, its commands are those that the action answered to, and its key is
            split by the terms' names.
        carry: the stateful terms' carries, by role and name.

    Returns:
        The values; rewards and metrics saw whether a termination holds, observations saw the next commands.
    """
    ends, ended = call_all("terminations", task.terminations, carry, view, ctx)
    cuts, cut = call_all("truncations", task.truncations, carry, view, ctx)
    ctx = replace(ctx, terminated=_any("termination", ends))
    rewards, rewarded = call_all("rewards", task.rewards, carry, view, ctx)
    metrics, seen = call_all("metrics", task.metrics, carry, view, ctx)
    commands, commanded = _commands(task, view, ctx, carry)
    shown, privileged, observed = _shown(task, carry, view, replace(ctx, commands=commands))
    return Evaluation(
        obs=shown,
        rewards=_float32({name: _shaped(f"reward {name!r}", value, ()) for name, value in rewards.items()}),
        terminated=ctx.terminated,
        truncated=_any("truncation", cuts),
        metrics=_float32({**metrics, **privileged}),
        commands=_float32(commands),
        carry={**carry, **ended, **cut, **rewarded, **seen, **commanded, **observed},
    )


def _any(kind: str, values: Mapping[str, Array]) -> Array:
    """Whether one of the values holds."""
    flags = [_shaped(f"{kind} {name!r}", value, ()) for name, value in values.items()]
    for name, flag in zip(values, flags, strict=True):
        if flag.dtype != bool:
            raise InvalidConfigError(
                f"{kind} {name!r} is of type {flag.dtype}; it must be bool. Outside(quantity, low, high) makes a bool "
                "of a number."
            )
    return jnp.stack(flags).any() if flags else jnp.zeros((), bool)


def _commands(
    task: Task, view: View, ctx: Context, carry: Mapping[str, Carry] | None = None
) -> tuple[dict[str, Array], dict[str, Carry]]:
    """The commands to answer next, each made with sight of those above it, and their carries; without `carry` anew."""
    commands, carries = {}, {}
    for name, term in task.commands.items():
        ctx = replace(ctx, commands=commands)
        before = init_all("commands", {name: term}, view, ctx) if carry is None else carry
        value, after = call_all("commands", {name: term}, before, view, ctx)
        commands, carries = {**commands, **value}, {**carries, **after}
    return commands, carries


def _shown(
    task: Task, carry: Mapping[str, Carry], view: View, ctx: Context
) -> tuple[Array, dict[str, Array], dict[str, Carry]]:
    """The observation, the privileged one by name where there is one, and the carries."""
    values, carries = call_all("observations", task.observations, carry, view, ctx)
    hidden, more = call_all("privileged", task.privileged, carry, view, ctx)
    return _packed(values), {"privileged": _packed(hidden)} if hidden else {}, {**carries, **more}


def _packed(values: Mapping[str, Array]) -> Array:
    for name, value in values.items():
        if not jnp.size(value):
            raise InvalidConfigError(f"{name!r} has shape {jnp.shape(value)}, which holds nothing; check its range.")
    return jnp.concatenate([jnp.ravel(value) for value in values.values()]).astype(jnp.float32)


def _float32(values: Mapping[str, Array]) -> dict[str, Array]:
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


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
    if task.actuator:
        low, high = task.actuator.bounds(Model(mj_model))
    else:
        low, high = np.where(mj_model.actuator_ctrllimited[:, None] != 0, mj_model.actuator_ctrlrange, (-1.0, 1.0)).T
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def _trace(task: Task, view: View, ctx: _RecordingContext, mj_model: mujoco.MjModel) -> None:
    """Call everything once, in an order in which it can be called, and check the shapes."""
    check_latency(task)
    qpos, qvel, drawn = draw_start(task, jnp.asarray(mj_model.qpos0), jnp.zeros(mj_model.nv), ctx)
    _shaped("qpos after the resets", qpos, (mj_model.nq,))
    _shaped("qvel after the resets", qvel, (mj_model.nv,))
    for name, value in drawn.items():
        _shaped(f"the randomized {name}", value, ctx.model.array(name).shape)
    ctx.read.clear()  # what the randomizers read does not count
    first = begin(task, view, ctx)
    ctx = replace(ctx, commands=first.commands)
    if task.curriculum:
        before = task.curriculum.init()
        with named("curriculum", task.curriculum):
            after_episode = task.curriculum(before, view, ctx)
        _shaped("the curriculum's level", task.curriculum.level(after_episode), ())
        _same_structure("the curriculum", before, after_episode)
    controls = control(task, view, ctx, first.carry)
    if controls.push is not None:
        _shaped("qvel_kick of the events", controls.push.qvel_kick, (mj_model.nv,))
        _shaped("xfrc_applied of the events", controls.push.xfrc_applied, (mj_model.nbody, 6))
    substeps = jnp.shape(controls.drive.ctrl)[0]
    _shaped("the actuator's ctrl", controls.drive.ctrl, (1 if substeps == 1 else task.frame_skip, mj_model.nu))
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
        _shaped(f"the actuator's {name}", value, ctx.model.array(name).shape)


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


def _shaped(what: str, value: Array, shape: tuple[int, ...]) -> Array:
    if jnp.shape(value) != shape:
        raise InvalidConfigError(f"{what} has shape {jnp.shape(value)}; it must have shape {shape}.")
    return jnp.asarray(value)
