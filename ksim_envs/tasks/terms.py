"""What terms look like, role by role. A term is a frozen dataclass with a pure call for one env.

A term that remembers something from step to step is *stateful*: it has a method `init`, which makes its carry from the
episode's first state, and its call takes the carry first and returns the next one beside its value. Every role that is
called once a step may have such terms:

    call(view, ctx) -> value                    # stateless
    init(view, ctx) -> carry                    # stateful
    call(carry, view, ctx) -> (value, carry)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.errors import InvalidConfigError, KsimError
from ksim_envs.tasks.context import Context, Model
from ksim_envs.types import View

Carry: TypeAlias = Any
"""A pytree of arrays: what a stateful term remembers."""


@runtime_checkable
class Stateful(Protocol):
    """A term that remembers something from step to step."""

    def init(self, view: View, ctx: Context) -> Carry:
        """The carry that an episode begins with."""
        ...

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Any, Carry]:
        """The value, and the next carry."""
        ...


Quantity: TypeAlias = Callable[[View, Context], Array] | Stateful
"""An observation or a metric: any shape, in the unit that its docstring states. In an episode's first state it is
called once, after `init`."""
Reward: TypeAlias = Callable[[View, Context], Array] | Stateful
"""A scalar, already weighted. Costs are negative. Called after each control step."""
Termination: TypeAlias = Callable[[View, Context], Array] | Stateful
"""A scalar bool: true where the episode ends by the state reached. Called after each control step."""
Command: TypeAlias = Callable[[View, Context], Array] | Stateful
"""What the policy is asked to do: any shape. Called once after `init`, then after each control step, when the rewards
have been given for following its last value. In `ctx.commands` it finds the values of those above it in the table."""
Event: TypeAlias = Callable[[View, Context], Any] | Stateful
"""A disturbance, a `types.Push`. Called before each control step."""
Reset: TypeAlias = Callable[[Array, Array, Context], tuple[Array, Array]]
"""From (qpos, qvel) to those that the episode begins with; applied in order, from the model's `qpos0` and zeros."""


class Randomizer(Protocol):
    """Draws model fields anew for each episode."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of model fields in `MjModel`, or of `context.OWN_FIELDS`."""
        ...

    def __call__(self, values: dict[str, Array], ctx: Context) -> dict[str, Array]:
        """The fields' new values, from their nominal ones (or from what the randomizers before made of them)."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Drive:
    """What an actuator makes of an action, for one control step."""

    ctrl: Array  # (S, nu) or (1, nu): the engine's controls in each physics substep, or one for all of them
    model_fields: dict[str, Array] = field(default_factory=dict)  # model fields that hold for this step


@runtime_checkable
class Actuator(Stateful, Protocol):
    """From an action, `ctx.action`, to the engine's controls. Its value is a `Drive`."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the model fields that its drives set."""
        ...

    def bounds(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """(num_actions,) float32 lower and upper bounds of the action."""
        ...


@runtime_checkable
class Curriculum(Protocol):
    """How hard the task is for one env, learnt from one episode to the next."""

    def init(self) -> Carry:
        """What it knows before the first episode."""
        ...

    def level(self, carry: Carry) -> Array:
        """(), float32 in [0, 1]."""
        ...

    def __call__(self, carry: Carry, view: View, ctx: Context) -> Carry:
        """What it knows after an episode, whose last state this is."""
        ...


@runtime_checkable
class ModelEdit(Protocol):
    """A part of a task that needs something in the model, such as a sensor, and adds it before the model is compiled.

    Any term may have this method, and so may any term inside it.
    """

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Change the model. A term can be in a task twice: a second call must change nothing more."""
        ...


STRUCTURED = ("actuator", "events")
"""Roles whose values are a `Drive` and a `types.Push`; those of all others are arrays."""


def is_stateful(term: Any) -> TypeGuard[Stateful]:
    """Whether a term has a carry."""
    return hasattr(term, "init")


def init(term: Any, view: View, ctx: Context) -> Carry:
    """The carry of a term that may be stateful, with keys of its own; empty for one that is not."""
    return term.init(view, ctx.stream("init")) if is_stateful(term) else ()


def call(term: Any, carry: Carry, view: View, ctx: Context) -> tuple[Any, Carry]:
    """The value and the next carry of a term that may be stateful."""
    return term(carry, view, ctx) if is_stateful(term) else (term(view, ctx), ())


def call_all(
    role: str, terms: Mapping[str, Any], carry: Mapping[str, Carry], view: View, ctx: Context
) -> tuple[dict[str, Any], dict[str, Carry]]:
    """Call the terms of a role, each with the stream that its role and name give it.

    Args:
        role: the role's name.
        terms: the terms by name.
        carry: the stateful terms' carries, by `role/name`; others in it are left alone.
        view: the physics.
        ctx: the rest.

    Returns:
        The values by name, and the stateful terms' carries by `role/name`.
    """
    values, carries = {}, {}
    for name, term in terms.items():
        path = f"{role}/{name}"
        with named(path, term):
            value, after = call(term, carry.get(path, ()), view, ctx.stream(path))
            values[name] = value if role in STRUCTURED else jnp.asarray(value)
        if is_stateful(term):
            carries[path] = after
    return values, carries


def init_all(role: str, terms: Mapping[str, Any], view: View, ctx: Context) -> dict[str, Carry]:
    """The carries that the stateful terms of a role begin an episode with, by `role/name`."""
    carries = {}
    for name, term in terms.items():
        path = f"{role}/{name}"
        if is_stateful(term):
            with named(path, term):
                carries[path] = init(term, view, ctx.stream(path))
    return carries


@contextmanager
def named(path: str, term: Any) -> Generator[None]:
    """Say which term it is that cannot be traced.

    Raises:
        KsimError: one of the kind that is raised inside.
        InvalidConfigError: instead of any other error, such as those that come from a wrong shape, type or index.
    """
    try:
        yield
    except KsimError as error:
        raise type(error)(f"{error} This is in {path}.") from error
    except Exception as error:
        raise InvalidConfigError(
            f"{path} is {term!r}, which cannot be evaluated: {error}. Check the shapes, types and indices of what "
            "it is made of."
        ) from error


class Modifier:
    """A term around a quantity, which may be stateful: its value is what `change` makes of the quantity's.

    Both may draw: the quantity has a stream of its own.
    """

    quantity: Quantity

    def init(self, view: View, ctx: Context) -> Carry:
        """The quantity's carry."""
        return init(self.quantity, view, ctx.stream("quantity"))

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Array, Carry]:
        """The changed value, and the quantity's next carry."""
        value, carry = call(self.quantity, carry, view, ctx.stream("quantity"))
        return self.change(value, ctx), carry

    def change(self, value: Array, ctx: Context) -> Array:
        """What becomes of the quantity's value."""
        raise NotImplementedError


class Combination:
    """A term made of quantities, each of which may be stateful: its value is what `combine` makes of theirs."""

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The quantities, in the order in which `combine` takes their values. Each draws from a stream of its own."""
        raise NotImplementedError

    def init(self, view: View, ctx: Context) -> Carry:
        """The parts' carries."""
        return tuple(init(part, view, ctx.stream(str(index))) for index, part in enumerate(self.parts))

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Any, Carry]:
        """The combined value, and the parts' next carries."""
        values, carry = self._values(carry, view, ctx)
        return self.combine(*values, ctx), carry

    def combine(self, *args: Any, **kwargs: Any) -> Any:
        """What becomes of the parts' values, which come first; the context is last. Subclasses name them one by one."""
        raise NotImplementedError

    def _values(self, carry: Carry, view: View, ctx: Context) -> tuple[list[Any], Carry]:
        parts = zip(self.parts, carry, strict=True)
        called = [call(part, each, view, ctx.stream(str(index))) for index, (part, each) in enumerate(parts)]
        return [value for value, _ in called], tuple(after for _, after in called)


class Remembering(Combination):
    """A combination with a memory of its own: an array, or a pytree of arrays."""

    def init(self, view: View, ctx: Context) -> Carry:
        """The parts' carries, and the memory that an episode begins with."""
        parts = super().init(view, ctx)
        values, _ = self._values(parts, view, ctx)
        return parts, self.remember(*values, ctx)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Any, Carry]:
        """The value, the parts' next carries and the next memory."""
        parts, memory = carry
        values, parts = self._values(parts, view, ctx)
        value, memory = self.update(memory, *values, ctx)
        return value, (parts, memory)

    def remember(self, *args: Any, **kwargs: Any) -> Carry:
        """The first memory, from the parts' values in the episode's first state and the context."""
        raise NotImplementedError

    def update(self, *args: Any, **kwargs: Any) -> tuple[Any, Carry]:
        """The value and the next memory, from the memory, the parts' values and the context."""
        raise NotImplementedError
