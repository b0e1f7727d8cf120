"""Look at a task as its author should before training on it: `check_task(task)` runs it under random actions.

The report is a table of all terms with the ranges that their values took, and findings: *faults*, with which training
would not work, and *notes*, which an author may or may not have meant (an observation that never changes, a reward that
is always zero, contacts that only one engine can compute).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ksim_envs import validate
from ksim_envs.building import make_core
from ksim_envs.core import Core
from ksim_envs.errors import InvalidConfigError
from ksim_envs.guard import Fault
from ksim_envs.physics.model import MAX_GEOM_PAIRS, mjx_limit
from ksim_envs.registration import get_task
from ksim_envs.tasks.checks import parts
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.scales import AfterStart, Ramp
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import call, init
from ksim_envs.types import View

LARGE_REWARD = 1e3
"""A reward term beyond this, in one step, is not of the order that learning algorithms are made for."""
UNSTABLE = 2.0
"""Accelerations that are so many times those at half the timestep are the integrator's own."""
STEPS_AT_HALF = 50
"""Control steps that are enough to compare them."""
ACCELERATION = "check_task:qacc"
"""Name of the metric that is added to a task to see its accelerations."""
WATCHED = {"terminations": "never held", "truncations": "never held", "events": "never happened"}
"""Roles of terms that do something now and then, and what is said of one that was not seen to do it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A term, and what it was seen to do."""

    role: str
    name: str
    term: str  # as an author would write it
    shape: tuple[int, ...] | None = None  # None for a term whose values are not reported
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What `check_task` found."""

    summary: str
    terms: tuple[Seen, ...]
    faults: tuple[str, ...]
    """With these, training would not work."""
    notes: tuple[str, ...]
    """These may or may not be meant."""

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Role, name, shape, range and term of every term, as text."""
        return [
            (
                seen.role,
                seen.name,
                "" if seen.shape is None else str(seen.shape),
                "" if seen.shape is None else f"{seen.low:.4g} to {seen.high:.4g}",
                seen.term,
            )
            for seen in self.terms
        ]


def check_task(task: str | Task, *, num_envs: int = 16, num_steps: int = 200, seed: int = 0) -> TaskReport:
    """Run a task under random actions, on C MuJoCo, and say what is odd about it.

    Args:
        task: a registered id, or a task.
        num_envs: envs to run, at least 1.
        num_steps: control steps of each, at least 1.
        seed: of the envs and of the actions.

    Returns:
        The report.

    Raises:
        KsimError: a number is not allowed, or the task cannot be built at all.
    """
    num_steps = validate.positive_integer("num_steps", num_steps)
    seed = validate.one_seed(seed, "seed")
    built = task if isinstance(task, Task) else get_task(task)
    watched = {f"{role}/{name}": _Watched(term) for role in WATCHED for name, term in getattr(built, role).items()}
    watching = replace(built.hardest, metrics={**built.metrics, **watched, ACCELERATION: Field("qacc")})
    core = make_core(watching, num_envs, backend="native")
    record = _run(core, num_steps, seed)
    halved = replace(
        built.hardest,
        frame_skip=2 * built.frame_skip,
        edits=(*built.edits, _HalfTimestep()),
        metrics={ACCELERATION: Field("qacc")},
    )
    finer = _run(make_core(halved, num_envs, backend="native"), min(num_steps, STEPS_AT_HALF), seed)
    faults = [*_faults(record), *_unstable(record, finer)]
    notes = [
        *_constants(core, record),
        *_rewards(built, record),
        *_idle(built, record),
        *_starts(core),
        *_mjx(core.backend.model),
    ]
    model = core.backend.model
    return TaskReport(
        summary=f"{core.num_observations} observations, {core.num_actions} actions, control at {1 / core.dt:.4g} Hz "
        f"({built.frame_skip} x {model.opt.timestep:.4g} s), episodes of {built.episode_length * core.dt:.4g} s",
        terms=tuple(_terms(built, core, record)),
        faults=tuple(faults),
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What a rollout returned, as NumPy."""

    obs_TEL: np.ndarray
    info_TE: Mapping[str, np.ndarray]  # rewards, metrics and commands by name, (T, E, ...)
    terminated_TE: np.ndarray
    length_TE: np.ndarray
    fault_count_C: np.ndarray


def _run(core: Core, num_steps: int, seed: int) -> _Record:
    low, high = core.action_bounds

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        action_EA = jax.random.uniform(key, (core.num_envs, core.num_actions), minval=low, maxval=high)
        state, result = core.step(state, action_EA)
        return state, (result.final_obs_EL, result.final_info, result.terminated_E)

    def run() -> Any:
        keys_T = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(num_steps))
        return jax.lax.scan(step, core.reset(core.keys(seed)), keys_T)

    state, (obs_TEL, info_TE, terminated_TE) = jax.device_get(jax.jit(run)())
    return _Record(
        obs_TEL=obs_TEL,
        info_TE=info_TE,
        terminated_TE=terminated_TE,
        length_TE=info_TE["episode_length"],
        fault_count_C=state.fault_count_EC.sum(axis=0),
    )


def _faults(record: _Record) -> Iterator[str]:
    num_steps = record.terminated_TE.size
    for kind in Fault:
        if count := int(record.fault_count_C[kind]):
            yield f"{count} of {num_steps} env steps ended as diverged: {kind.name} ({kind.reason})."
    ended = record.terminated_TE.sum()
    if ended and (record.length_TE[record.terminated_TE] <= 1).mean() > 0.5:
        yield "Most episodes end in their first step; a termination holds in the state that the resets lead to."


def _unstable(record: _Record, finer: _Record) -> Iterator[str]:
    """Accelerations that grow with the timestep."""
    found, expected = (_rms(each.info_TE[ACCELERATION][: len(finer.obs_TEL)]) for each in (record, finer))
    if not found <= UNSTABLE * expected:
        yield (
            f"Accelerations are {found / expected:.3g} times those at half the timestep: the physics is not stable. "
            "Take a shorter timestep, lower gains, more damping or more armature."
        )


@dataclass(frozen=True)
class _Watched:
    """Whether a termination holds, or an event pushes."""

    term: Any

    def init(self, view: View, ctx: Context) -> Any:
        return init(self.term, view, ctx)

    def __call__(self, carry: Any, view: View, ctx: Context) -> tuple[Any, Any]:
        value, carry = call(self.term, carry, view, ctx)
        return jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(value)]).any(), carry


@dataclass(frozen=True)
class _HalfTimestep:
    def edit_model(self, spec: mujoco.MjSpec) -> None:
        spec.option.timestep /= 2


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _constants(core: Core, record: _Record) -> Iterator[str]:
    packed = {"observations": record.obs_TEL}
    if core.task.privileged:
        packed["privileged"] = record.info_TE["privileged"]
    for role, values_TEL in packed.items():
        is_constant_L = np.ptp(values_TEL, axis=(0, 1)) == 0
        for name, place in core.slices(role).items():
            count, size = int(is_constant_L[place].sum()), place.stop - place.start
            if count:
                which = "it" if count == size else f"{count} of its {size} numbers"
                yield f"{role.removesuffix('s')} {name!r}: {which} never changed."


def _rewards(task: Task, record: _Record) -> Iterator[str]:
    for name in task.rewards:
        low, high = record.info_TE[name].min(), record.info_TE[name].max()
        if low == high:
            yield f"reward {name!r} was always {low + 0.0:g}: it had no effect."
        if max(-low, high) > LARGE_REWARD:
            yield f"reward {name!r} reached {max(-low, high):.4g} in a step; scale it down, or set reward_scale in PPO."


def _idle(task: Task, record: _Record) -> Iterator[str]:
    """Terms that were not seen to do anything."""
    for role, nothing in WATCHED.items():
        for name in getattr(task, role):
            if not record.info_TE[f"{role}/{name}"].any():
                yield f"{role.removesuffix('s')} {name!r} {nothing}."
    for name in task.commands:
        if not np.ptp(record.info_TE[name], axis=(0, 1)).any():
            yield f"command {name!r} never changed."
    if task.curriculum and not any(isinstance(part, Ramp | AfterStart) for _, part in parts("Task", task)):
        yield "curriculum: no scale in the task follows it, so it has no effect unless a term of yours reads ctx.level."


def _starts(core: Core) -> Iterator[str]:
    """Resets and randomizers without which all would be the same."""
    task = core.task
    for role in ("resets", "randomizers"):
        terms = getattr(task, role)
        for name in terms:
            others = {each: term for each, term in terms.items() if each != name}
            drawn, without = (_drawn(core, each) for each in (task, replace(task, **{role: others})))
            nominal = {field: np.asarray(core.model.array(field)) for field in drawn[2]}
            fields = {field: without[2].get(field, nominal[field]) for field in drawn[2]}
            same = jax.tree.map(lambda x, y: bool(np.all(x == y)), drawn, (*without[:2], fields))
            if all(jax.tree.leaves(same)):
                yield f"{role.removesuffix('s')} {name!r} changed nothing: it has no effect on this model."


def _drawn(core: Core, task: Task) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """qpos, qvel and model fields that the first episodes begin with."""
    core = replace(core, task=task)
    state = core.unreset_state(core.keys(0))
    first = replace(state, physics=None, carry={}, episode_E=state.episode_E + 1)
    return jax.device_get(jax.vmap(core.first_state)(first))


def _mjx(model: mujoco.MjModel) -> Iterator[str]:
    from ksim_envs.physics.mjx import MjxBackend

    try:
        MjxBackend(model, 1, frame_skip=1, reads=frozenset({"qpos"}))
    except InvalidConfigError as error:
        yield str(error)
    if (limit := mjx_limit(model, MAX_GEOM_PAIRS)) >= 0:
        yield (
            f"{MAX_GEOM_PAIRS} is {limit}: of each two types of geom MJX looks at so many pairs only, the nearest, and "
            "does not say when it misses a contact; C MuJoCo looks at all."
        )


def _terms(task: Task, core: Core, record: _Record) -> Iterator[Seen]:
    places = core.slices()
    for name, term in task.observations.items():
        yield _seen("observations", name, term, record.obs_TEL[..., places[name]])
    for role in ("rewards", "commands", "metrics"):
        for name, term in getattr(task, role).items():
            yield _seen(role, name, term, record.info_TE[name])
    if task.privileged:
        hidden = record.info_TE["privileged"]
        for name, place in core.slices("privileged").items():
            yield _seen("privileged", name, task.privileged[name], hidden[..., place])
    for role in ("terminations", "truncations", "resets", "events", "randomizers"):  # not reported in info
        for name, term in getattr(task, role).items():
            yield Seen(role=role, name=name, term=written(term))
    for edit in task.edits:
        yield Seen(role="edits", name="", term=written(edit))
    for role in ("actuator", "curriculum"):
        if term := getattr(task, role):
            yield Seen(role=role, name="", term=written(term))


def _seen(role: str, name: str, term: Callable[..., Any], values: np.ndarray) -> Seen:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))
    return Seen(role=role, name=name, term=written(term), shape=values.shape[2:], low=low, high=high)


def written(term: Any) -> str:
    """A term as its author would write it: without the fields that are as by default."""
    if isinstance(term, Mapping):
        return "{" + ", ".join(f"{key!r}: {written(value)}" for key, value in term.items()) + "}"
    if isinstance(term, tuple):
        return "(" + ", ".join(map(written, term)) + ("," if len(term) == 1 else "") + ")"
    if not is_dataclass(term) or isinstance(term, type):
        return f"{type(term).__name__}{term.shape}" if isinstance(term, np.ndarray) else repr(term)
    arguments: list[str] = []
    for field in fields(term):
        value = getattr(term, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.init and value is not default and written(value) != written(default):
            needs_name = field.kw_only or default is not MISSING
            arguments.append(f"{field.name}={written(value)}" if needs_name else written(value))
    return f"{type(term).__name__}({', '.join(arguments)})"
