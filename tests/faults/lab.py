"""A lab for faults: a tiny task with a tap wherever a number can go bad, and one program that opens the taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs.core import Core
from ksim_envs.physics.backend import Backend
from ksim_envs.tasks.context import Context
from ksim_envs.types import Autoreset, EnvState, Push, StepResult, View
from tests import tiny
from tests.bits import host

VALUES = {"nan": np.nan, "inf": np.inf, "huge": 1e12}
STATES = ("qpos", "qvel", "act", "qacc_warmstart")
PLACES = (
    "nowhere",
    *STATES,
    "action",
    "kick",
    "force",
    "body_mass",
    "geom_friction",
    "reward",
    "observation",
    "metric",
    "command",
)
FAULTS = [(place, value) for place in PLACES[1:] for value in VALUES]

FIRST, GAP, AFTERWARDS = 4, 4, 200
"""The first fault's step, the steps from one to the next, and those after the last."""
MODEL = tiny.BALL_ON_STICK.replace("</worldbody>", '<site name="tap"/></worldbody>').replace(
    '<motor name="turn"', '<general dyntype="filter" dynprm="0.02" name="turn"'
)
"""The tap: x of this site, which nothing depends on, tells a row's terms which fault to make. One motor has
an activation."""


@dataclass(frozen=True)
class Tap:
    """A scalar that is 0, and bad where the row's tap stands at this place."""

    place: str

    def __call__(self, view: View, ctx: Context) -> Array:
        return _bad_value(ctx.field("site_pos")[ctx.model.site("tap"), 0].astype(jnp.int32), self.place)


@dataclass(frozen=True)
class TappedPush:
    """A push that is zero, and bad where the row's tap stands at `kick` or `force`."""

    def __call__(self, view: View, ctx: Context) -> Push:
        kick, force = Tap("kick")(view, ctx), Tap("force")(view, ctx)
        return Push(
            qvel_kick=jnp.zeros_like(view.qvel).at[0].set(kick),
            xfrc_applied=jnp.zeros((3, 6)).at[ctx.model.body("cart"), 0].set(force),
        )


@dataclass(frozen=True)
class Unchanged:
    """A randomizer that keeps the nominal value, so that the field is one that may differ from row to row."""

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,)

    def __call__(self, values: dict[str, Array], ctx: Context) -> dict[str, Array]:
        return values


TAPPED = replace(
    tiny.RANDOMIZED,
    model=MODEL,
    observations={**tiny.RANDOMIZED.observations, "tap": Tap("observation")},
    rewards={**tiny.RANDOMIZED.rewards, "tap_reward": Tap("reward")},
    metrics={**tiny.RANDOMIZED.metrics, "tap_metric": Tap("metric")},
    commands={"tap_command": Tap("command")},
    events={"tap": TappedPush()},
    randomizers={**tiny.RANDOMIZED.randomizers, "tap": Unchanged("site_pos")},
)


@dataclass(frozen=True)
class Run:
    """What happened, on the host."""

    start: EnvState  # (E, ...)
    state: EnvState  # (T, E, ...), after each step
    result: StepResult  # (T, E, ...)


class Lab:
    """`TAPPED` on one backend, and the one program that all runs share."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._program = jax.jit(self._scan)

    @cached_property
    def unreset(self) -> EnvState:
        """A batch of which every row waits for its first reset."""
        return self.core.unreset_state(self.core.keys(0))

    def run(
        self,
        faults: Sequence[tuple[str, str]],
        mask_E: np.ndarray,
        mode: Autoreset = Autoreset.SAME_STEP,
        state: EnvState | None = None,
    ) -> Run:
        """Step through the schedule: the faults one by one in the rows of the mask, then `AFTERWARDS` clean steps.

        Args:
            faults: what to inject, at `step_of(0)`, `step_of(1)`, ...; at most `FAULTS` of them.
            mask_E: the rows that the faults befall.
            mode: the auto-reset mode.
            state: the batch to begin with; None for one freshly reset.
        """
        code_T = np.zeros(step_of(len(FAULTS)) + AFTERWARDS, np.int32)
        code_T[[step_of(i) for i in range(len(faults))]] = [_code(*fault) for fault in faults]
        return Run(*host(self._program(self.unreset if state is None else state, code_T, mask_E, int(mode))))

    def _scan(
        self, state: EnvState, code_T: Array, mask_E: Array, mode: Array
    ) -> tuple[EnvState, EnvState, StepResult]:
        start = self.core.reset_rows(state, state.needs_reset_E)
        shape = (len(code_T), self.core.num_envs, self.core.num_actions)
        action_TEA = jax.random.uniform(jax.random.key(1), shape, minval=-1.0, maxval=1.0)

        def step(state: EnvState, inputs: tuple[Array, Array]) -> tuple[EnvState, tuple[EnvState, StepResult]]:
            state, action_EA = self._spoiled(state, inputs[1], jnp.where(mask_E, inputs[0], 0))
            state, result = self.core.step(state, action_EA, mode)
            return state, (state, result)

        return start, *jax.lax.scan(step, start, (code_T, action_TEA))[1]

    def _spoiled(self, state: EnvState, action_EA: Array, code_E: Array) -> tuple[EnvState, Array]:
        """The state and the actions with each row's fault in its place."""
        fields = dict(state.model_fields)
        fields["site_pos"] = fields["site_pos"].at[:, self.core.model.site("tap"), 0].set(code_E.astype(jnp.float32))
        for name in ("body_mass", "geom_friction"):
            fields[name] = _put(fields[name], (1,) + (0,) * (fields[name].ndim - 2), code_E, name)
        integration = dict(state.physics.integration)
        for name in STATES:
            integration = _spoil_state(self.core.backend, integration, code_E, name)
        physics = replace(state.physics, integration=integration)
        return replace(state, model_fields=fields, physics=physics), _put(action_EA, (0,), code_E, "action")


def step_of(fault: int) -> int:
    """The step in which the fault of this number is injected."""
    return FIRST + GAP * fault


def _code(place: str, value: str) -> int:
    return PLACES.index(place) * len(VALUES) + list(VALUES).index(value)


def _is_at(code: Array, place: str) -> Array:
    return code // len(VALUES) == PLACES.index(place)


def _bad_value(code: Array, place: str) -> Array:
    """0, and the bad value where the code is of this place."""
    return jnp.where(_is_at(code, place), jnp.array([*VALUES.values()], jnp.float32)[code % len(VALUES)], 0.0)


def _put(array: Array, index: tuple[int, ...], code_E: Array, place: str) -> Array:
    """The array with the bad value at `index` of the rows whose code is of this place."""
    where = (slice(None), *index)
    return array.at[where].set(jnp.where(_is_at(code_E, place), _bad_value(code_E, place), array[where]))


def _spoil_state(backend: Backend, integration: dict[str, Array], code_E: Array, name: str) -> dict[str, Array]:
    """The integration state with the bad value in the first element of one of `STATES`."""
    if name in integration:
        return {**integration, name: _put(integration[name], (0,), code_E, name)}
    bits = integration["state"]
    column = 2 * _first_column(backend.model, name)
    bad_bits = jnp.asarray(np.array([*VALUES.values()]).view(np.uint32).reshape(-1, 2))[code_E % len(VALUES)]
    kept = bits[:, column : column + 2]
    spoilt = jnp.where(_is_at(code_E, name)[:, None], bad_bits, kept)
    return {**integration, "state": bits.at[:, column : column + 2].set(spoilt)}


def _first_column(model: mujoco.MjModel, name: str) -> int:
    """Where a component begins in MuJoCo's state vector: behind those with a lower bit."""
    component = {"qpos": "QPOS", "qvel": "QVEL", "act": "ACT", "qacc_warmstart": "WARMSTART"}[name]
    bit: Any = getattr(mujoco.mjtState, f"mjSTATE_{component}")
    return mujoco.mj_stateSize(model, bit.value - 1)
