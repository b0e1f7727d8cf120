"""A task: a model, two horizons, and named terms for each role.

A term is a frozen dataclass with a pure call for one env. It reads the physics through a `View` and everything else
through a `Context`. What a task reads, and the sizes of what it returns, are found by tracing its terms once, when the
task is built; names of bodies and the like are looked up at that moment too, so a misspelt one is an error before the
first step.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError, unknown_name
from ksim_envs.types import Push, View


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a term may know of one env besides the physics."""

    model: Model  # names and constants of the model
    dt: float  # s, the control period: frame_skip physics timesteps
    action: Array  # (nu,), the action within its bounds, in the actuators' control unit; zero after a reset
    terminated: Array  # (), bool: a termination holds in this step; known to rewards and metrics only
    key: Array  # a PRNG key of this row, episode, step and term, for this one use
    model_fields: dict[str, Array]  # this env's own values of model fields that are randomized

    def field(self, name: str) -> Array:
        """This env's value of a model field, such as `body_mass`; under the field's own name in `MjModel`."""
        return self.model_fields[name] if name in self.model_fields else jnp.asarray(self.model.array(name))


class Model:
    """Look-ups in a compiled model, by name, with the near misses in the error."""

    def __init__(self, mj_model: mujoco.MjModel) -> None:
        """Wrap a model, which must not change afterwards."""
        self._mj_model = mj_model
        self.timestep: float = mj_model.opt.timestep

    def array(self, name: str) -> np.ndarray:
        """The nominal value of a model field, float32 where it is floating point.

        Raises:
            UnknownNameError: the model has no such field.
        """
        value = getattr(self._mj_model, name, None)
        if not isinstance(value, np.ndarray):
            known = (known for known in dir(self._mj_model) if isinstance(getattr(self._mj_model, known), np.ndarray))
            raise unknown_name("array in MjModel", name, known)
        return value.astype(np.float32) if value.dtype.kind == "f" else value

    def body(self, name: str) -> int:
        """The index of a body."""
        return self._index("body", name, self._mj_model.nbody)

    def site(self, name: str) -> int:
        """The index of a site."""
        return self._index("site", name, self._mj_model.nsite)

    def _index(self, kind: str, name: str, count: int) -> int:
        objtype = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        index = mujoco.mj_name2id(self._mj_model, objtype, name)
        if index < 0:
            known = (mujoco.mj_id2name(self._mj_model, objtype, i) for i in range(count))
            raise unknown_name(f"{kind} in the model", name, (name for name in known if name))
        return index


Quantity: TypeAlias = Callable[[View, Context], Array]
"""An observation or a metric: any shape, in the unit that its docstring states."""
Reward: TypeAlias = Callable[[View, Context], Array]
"""A scalar, already weighted. Costs are negative."""
Termination: TypeAlias = Callable[[View, Context], Array]
"""A scalar bool: true where the episode ends by the state reached."""
Reset: TypeAlias = Callable[[Array, Array, Context], tuple[Array, Array]]
"""From (qpos, qvel) to those that the episode begins with; applied in order, from the model's `qpos0` and zeros."""
Event: TypeAlias = Callable[[View, Context], Push]
"""A disturbance, asked for once a control step."""


class Randomizer(Protocol):
    """Draws a model field anew for each episode."""

    @property
    def field(self) -> str:
        """The model field's name in `MjModel`."""
        ...

    def __call__(self, value: Array, ctx: Context) -> Array:
        """The field's new value, from its nominal one (or from what the randomizers before this one made of it)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A complete task. Build it from terms; register it with `ksim_envs.register`."""

    model: str
    """Path of an MJCF file, `"gymnasium:NAME.xml"`, or MJCF text."""
    frame_skip: int
    """Physics substeps in a control step."""
    episode_length: int
    """Control steps after which an episode is truncated."""
    observations: Mapping[str, Quantity]
    """Concatenated, flattened, in this order."""
    rewards: Mapping[str, Reward]
    """Summed up; each is reported in `info` under its name."""
    terminations: Mapping[str, Termination] = field(default_factory=dict)
    resets: Mapping[str, Reset] = field(default_factory=dict)
    events: Mapping[str, Event] = field(default_factory=dict)
    randomizers: Mapping[str, Randomizer] = field(default_factory=dict)
    metrics: Mapping[str, Quantity] = field(default_factory=dict)
    """Reported in `info` under their names."""
    max_contact_points: int | None = None
    """MJX keeps this many contacts of each dimension, the deepest; None for all. Fewer are faster. A row that touches
    in as many may have lost one: it is quarantined (`guard.Fault.OVERFLOW`). C MuJoCo takes no notice."""
    camera: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `mujoco.MjvCamera` that differ from the model's default view."""

    def __post_init__(self) -> None:
        """Check the numbers and that the roles' names do not collide in `info`.

        Raises:
            InvalidConfigError: what is wrong, and what is allowed.
        """
        for name in ("frame_skip", "episode_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidConfigError(f"Task.{name} is {value!r}; it must be a positive integer.")
        for name in ("observations", "rewards"):
            if not getattr(self, name):
                raise InvalidConfigError(f"Task.{name} is empty; give at least one term.")
        if clash := sorted((self.rewards.keys() & self.metrics.keys()) | (RESERVED & {*self.rewards, *self.metrics})):
            raise InvalidConfigError(
                f"Names in info must be unique and not among {sorted(RESERVED)}; found {clash} twice."
            )

    @property
    def model_fields(self) -> frozenset[str]:
        """Names of the model fields that differ from env to env."""
        return frozenset(randomizer.field for randomizer in self.randomizers.values())


RESERVED = frozenset({"episode", "episode_return", "episode_length", "diverged", "final_obs", "final_info"})
"""Keys of `info` that the core fills."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The values of a task's terms at one state of one env."""

    obs: Array  # (num_obs,), float32
    rewards: dict[str, Array]  # (), float32 each
    terminated: Array  # (), bool
    metrics: dict[str, Array]  # float32 each, any shape


def evaluate(task: Task, view: View, ctx: Context) -> Evaluation:
    """Call every observation, termination, reward and metric of a task for one env.

    Args:
        task: the task.
        view: the physics after the step, or after the reset.
        ctx: the rest; its `terminated` is ignored, and its key is split by the terms' names.

    Returns:
        The values; rewards and metrics saw whether a termination holds.
    """
    obs = [jnp.ravel(term(view, _keyed(ctx, f"observations/{name}"))) for name, term in task.observations.items()]
    ends = [
        _shaped(f"termination {name!r}", term(view, _keyed(ctx, f"terminations/{name}")), ())
        for name, term in task.terminations.items()
    ]
    ctx = replace(ctx, terminated=jnp.stack(ends).any() if ends else jnp.zeros((), bool))
    return Evaluation(
        obs=jnp.concatenate(obs).astype(jnp.float32),
        rewards={
            name: _shaped(f"reward {name!r}", term(view, _keyed(ctx, f"rewards/{name}")), ()).astype(jnp.float32)
            for name, term in task.rewards.items()
        },
        terminated=ctx.terminated,
        metrics={
            name: jnp.asarray(term(view, _keyed(ctx, f"metrics/{name}")), jnp.float32)
            for name, term in task.metrics.items()
        },
    )


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
        value = randomizer(ctx.field(randomizer.field), _keyed(ctx, f"randomizers/{name}"))
        ctx = replace(ctx, model_fields={**ctx.model_fields, randomizer.field: value})
    for name, reset in task.resets.items():
        qpos, qvel = reset(qpos, qvel, _keyed(ctx, f"resets/{name}"))
    return qpos, qvel, ctx.model_fields


def total_push(task: Task, view: View, ctx: Context) -> Push:
    """The sum of a task's events in this step, for one env; the task must have at least one."""
    pushes = [event(view, _keyed(ctx, f"events/{name}")) for name, event in task.events.items()]
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *pushes)


def find_reads(task: Task, mj_model: mujoco.MjModel) -> frozenset[str]:
    """The fields of `View` that a task's terms read, found by tracing them.

    Raises:
        KsimError: a term names something that the model does not have, or returns a wrong shape.
    """
    data = mujoco.MjData(mj_model)
    changes = {name: name.removesuffix("_change") for name in View.__dataclass_fields__}
    values: dict[str, Any] = {name: np.asarray(getattr(data, source), np.float32) for name, source in changes.items()}
    recorder = _Recorder(View(**values))

    def trace() -> None:
        ctx = Context(
            model=Model(mj_model),
            dt=task.frame_skip * mj_model.opt.timestep,
            action=jnp.zeros(mj_model.nu),
            terminated=jnp.zeros((), bool),
            key=jax.random.key(0),
            model_fields={},
        )
        evaluate(task, recorder, ctx)
        qpos, qvel, drawn = draw_start(task, jnp.asarray(mj_model.qpos0), jnp.zeros(mj_model.nv), ctx)
        _shaped("qpos after the resets", qpos, (mj_model.nq,))
        _shaped("qvel after the resets", qvel, (mj_model.nv,))
        for name, value in drawn.items():
            _shaped(f"the randomized {name}", value, ctx.model.array(name).shape)
        if task.events:
            push = total_push(task, recorder, ctx)
            _shaped("qvel_kick of the events", push.qvel_kick, (mj_model.nv,))
            _shaped("xfrc_applied of the events", push.xfrc_applied, (mj_model.nbody, 6))

    jax.eval_shape(trace)
    return frozenset(recorder.names)


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


def _keyed(ctx: Context, name: str) -> Context:
    """The context with the term's own stream, which depends on its role and name but not on the other terms."""
    return replace(ctx, key=jax.random.fold_in(ctx.key, zlib.crc32(name.encode())))


def _shaped(what: str, value: Array, shape: tuple[int, ...]) -> Array:
    if jnp.shape(value) != shape:
        raise InvalidConfigError(f"{what} has shape {jnp.shape(value)}; it must have shape {shape}.")
    return jnp.asarray(value)
