"""The mjx backend on this device against C MuJoCo, against itself, and with a broken row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from unittest import SkipTest

import jax
import jax.numpy as jnp
import numpy as np

from ksim_envs import EnvState, KsimVectorEnv
from scripts.gpu_check.checks import Checks, Verdict
from scripts.gpu_check.envs import BATCH, core, make, random_actions

NUM_STATES, TOLERANCE = 64, 5e-4  # of a control step on mjx, absolute and relative
NUM_STEPS, SPOILT_STEP, SPOILT_ROW = 200, 10, 5
RIGHT_AFTER = slice(SPOILT_STEP, SPOILT_STEP + 5)
"""The steps in which another row would show a fault before rounding errors have grown to the size of one."""
ROUNDING = 1e-5
"""A difference that a few steps of rounding make, also where two runs happen to agree."""
MEASURABLE = 1e-2
"""The largest difference of two equal runs there with which a fault can be told from it."""


def checks(ids: Sequence[str]) -> Checks:
    """Three for each id."""
    made: Checks = {}
    for id in ids:
        made[f"{id}: one step from {NUM_STATES} states, mjx against native"] = partial(one_step, id)
        made[f"{id}: two equal runs of {NUM_STEPS} steps"] = partial(determinism, id)
        made[f"{id}: NaN in one row"] = partial(isolation, id)
    return made


def one_step(id: str) -> Verdict:
    """The error of mjx in one control step from states that a native env reaches."""
    native, mjx = make(id, "native"), make(id)
    with jax.default_device(jax.devices("cpu")[0]):
        starts = reached(native, id)
        expected = [stepped(native, *start) for start in starts]
    found, value = [stepped(mjx, *start) for start in starts], {}
    for name in ("qpos", "qvel"):
        one, other = (np.stack([state[name] for state in states]) for states in (found, expected))
        value[f"{name}, absolute"] = float(np.abs(one - other).max())
        value[f"{name}, relative"] = float((np.abs(one - other) / (1 + np.abs(other))).max())
    passed = max(value["qpos, relative"], value["qvel, relative"]) <= TOLERANCE
    return passed, value, f"relative to 1 + |x|; bound {TOLERANCE}"


def reached(env: KsimVectorEnv, id: str) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """The physics after every tenth step, and that step's actions; in all `NUM_STATES` rows."""
    env.reset(seed=0)
    starts: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
    for t, action in enumerate(random_actions(id, 10 * NUM_STATES // BATCH), 1):
        env.step(action)
        if t % 10 == 0:
            starts.append((env.physics_state(), action))
    return starts


def stepped(env: KsimVectorEnv, state: dict[str, np.ndarray], action: np.ndarray) -> dict[str, np.ndarray]:
    """The physics one control step after a state, which is rounded to float32 for both backends."""
    env.reset(seed=0, options={name: state[name].astype(np.float32) for name in ("qpos", "qvel")})
    env.step(action)
    return env.physics_state()


def rollout(id: str, is_spoilt: bool = False) -> dict[str, np.ndarray]:
    """What a run returns, (T, E, ...) by name; if so asked, with NaN put into one row's state."""
    state, _ = core(id).programs.reset(core(id).unreset_state(core(id).keys(0)), np.ones(BATCH, bool))
    results: list[dict[str, jax.Array]] = []
    for t, action in enumerate(random_actions(id, NUM_STEPS)):
        if is_spoilt and t == SPOILT_STEP:
            state = spoilt(state)
        action = jax.device_put(action, core(id).backend.device)
        state, result = core(id).programs.step(state, action)
        results.append({"obs": result.obs_EL, "reward": result.reward_E, "diverged": result.info["diverged"]})
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(results))


def spoilt(state: EnvState) -> EnvState:
    """The batch with NaN in one row's first position."""
    integration = state.physics.integration
    qpos = integration["qpos"].at[SPOILT_ROW, 0].set(jnp.nan)
    return replace(state, physics=replace(state.physics, integration={**integration, "qpos": qpos}))


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of two runs; 0 where they are the same bits, NaN where one holds a NaN."""
    if all(one[name].tobytes() == other[name].tobytes() for name in one):
        return 0.0
    return float(np.max([np.abs(np.subtract(one[name], other[name], dtype=np.float64)).max() for name in one]))


@cache
def equal_runs(id: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two runs that nothing tells apart."""
    return rollout(id), rollout(id)


def spread(id: str) -> float:
    """The difference of two equal runs."""
    return difference(*equal_runs(id))


def determinism(id: str) -> Verdict:
    """Bits are promised on the CPU; on an accelerator the spread is reported."""
    passed = not spread(id) or (math.isfinite(spread(id)) and jax.default_backend() != "cpu")
    return passed, spread(id), "the largest difference; 0: the same bits"


def isolation(id: str) -> Verdict:
    """The row is reported once, and the others keep every bit; where equal runs do not, almost as little changes.

    Raises:
        SkipTest: equal runs differ too much to tell.
    """
    (clean, again), broken = equal_runs(id), rollout(id, is_spoilt=True)
    change = difference(other_rows(clean), other_rows(broken))
    reported = np.argwhere(broken["diverged"]).tolist()
    value = {"change of other rows": change, "reported at": reported}
    is_sound = reported == [[SPOILT_STEP, SPOILT_ROW]] and bool(np.isfinite(broken["obs"]).all())
    if not is_sound or not spread(id):
        return is_sound and not change, value, f"equal runs differ by {spread(id):.1e}"
    early, usual = (difference(other_rows(clean, RIGHT_AFTER), other_rows(run, RIGHT_AFTER)) for run in (broken, again))
    detail = f"right after the fault equal runs differ by {usual:.1e}, in all steps by {spread(id):.1e}"
    if not usual <= MEASURABLE:
        raise SkipTest(f"not measurable: {detail}")
    passed = early <= 10 * max(usual, ROUNDING) and math.isfinite(change)
    return passed, value | {"right after the fault": early}, detail


def other_rows(run: dict[str, np.ndarray], steps: slice = slice(None)) -> dict[str, np.ndarray]:
    """What a run returns of the rows that hold no NaN."""
    others = np.arange(BATCH) != SPOILT_ROW
    return {name: leaf[steps, others] for name, leaf in run.items()}
