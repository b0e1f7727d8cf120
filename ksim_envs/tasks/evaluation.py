"""A task's terms at work, for one env: what they draw, and what they return.

Each term has a random stream of its own, which depends on its role and name but not on the other terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jax import Array

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context
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
class TermValues:
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


def begin(task: Task, view: View, ctx: Context) -> TermValues:
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
    return TermValues(
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


def evaluate(task: Task, view: View, ctx: Context, carry: Mapping[str, Carry]) -> TermValues:
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
    return TermValues(
        obs=shown,
        rewards=_float32({name: shaped(f"reward {name!r}", value, ()) for name, value in rewards.items()}),
        terminated=ctx.terminated,
        truncated=_any("truncation", cuts),
        metrics=_float32({**metrics, **privileged}),
        commands=_float32(commands),
        carry={**carry, **ended, **cut, **rewarded, **seen, **commanded, **observed},
    )


def _any(kind: str, values: Mapping[str, Array]) -> Array:
    """Whether one of the values holds."""
    flags = [shaped(f"{kind} {name!r}", value, ()) for name, value in values.items()]
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


def shaped(what: str, value: Array, shape: tuple[int, ...]) -> Array:
    """The value, which must have the shape."""
    if jnp.shape(value) != shape:
        raise InvalidConfigError(f"{what} has shape {jnp.shape(value)}; it must have shape {shape}.")
    return jnp.asarray(value)
