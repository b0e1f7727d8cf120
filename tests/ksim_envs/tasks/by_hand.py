"""Small views and contexts with numbers that one can compute with in one's head."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import mujoco

from ksim_envs.tasks.context import Context, Model
from ksim_envs.tasks.terms import call, init
from ksim_envs.types import View

TWO_BODIES = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="cart" pos="1 0 0">
      <joint name="slide" type="slide" axis="1 0 0" ref="1"/>
      <geom size="0.1" mass="3"/>
      <body name="pole" pos="0 0 1">
        <joint name="hinge"/>
        <geom size="0.1" mass="1"/>
        <site name="tip"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide"/><motor joint="hinge"/></actuator>
</mujoco>
"""
"""World 0, cart 1 (3 kg, qpos0[0] = 1 m), pole 2 (1 kg), site 0."""
MODEL = mujoco.MjModel.from_xml_string(TWO_BODIES)


def view(**fields: Any) -> View:
    """A view with these fields, float32."""
    return View(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def context(**changes: Any) -> Context:
    """A context on `TWO_BODIES` with dt = 0.5 s, a zero action, no termination and no randomized fields."""
    standard = {
        "model": Model(MODEL),
        "dt": 0.5,
        "action": jnp.zeros(2),
        "terminated": jnp.array(False),
        "step": jnp.array(1),
        "episode_return": jnp.array(0.0),
        "level": jnp.array(1.0),
        "commands": {},
        "key": jax.random.key(0),
        "run_key": jax.random.key(1),
        "model_fields": {},
    }
    return Context(**standard | changes)


@contextlib.contextmanager
def unchecked_types() -> Iterator[None]:
    """As for users, without the tests' run-time check of annotations, which would be first to refuse a wrong word."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def first_value(term: Any, view: View, ctx: Context) -> Any:
    """The value of a term, stateful or not, in a state that is also the first it sees."""
    return call(term, init(term, view, ctx), view, ctx)[0]


def values(term: Any, states: list[dict[str, Any]], **changes: Any) -> list[Any]:
    """The values of a term in the control steps of an episode.

    Args:
        term: the term, stateful or not.
        states: of the first state and after each step: fields of the view, and under `"ctx"` changes of the context.
        changes: changes of the context in all of them.

    Returns:
        The values after each step, as lists.
    """

    def of(step: int, state: dict[str, Any]) -> tuple[View, Context]:
        own = {name: jnp.asarray(value) for name, value in state.get("ctx", {}).items()}
        fields = {name: value for name, value in state.items() if name != "ctx"}
        keys = {"key": jax.random.fold_in(jax.random.key(0), step)}
        return view(**fields), context(**{"step": jnp.array(step), **keys, **changes, **own})

    carry, found = init(term, *of(0, states[0])), []
    for step, state in enumerate(states[1:], start=1):
        value, carry = call(term, carry, *of(step, state))
        found.append(jnp.asarray(value).tolist())
    return found
