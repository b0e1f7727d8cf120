"""The mjx backend on this device against C MuJoCo, against itself, and with a broken row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from ksim_envs import EnvState, KsimVectorEnv
from scripts.gpu_check.checks import Checks, Verdict
from scripts.gpu_check.envs import BATCH, core, make, random_actions

NUM_STATES, TOLERANCE = 64, 5e-4  # of a control step on mjx, absolute and relative
NUM_STEPS, SPOILT_STEP, SPOILT_ROW = 200, 10, 5


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
    return float(max(np.abs(np.subtract(one[name], other[name], dtype=np.float64)).max() for name in one))


@cache
def spread(id: str) -> float:
    """The difference of two equal runs."""
    return difference(rollout(id), rollout(id))


def determinism(id: str) -> Verdict:
    """Bits are promised on the CPU; on an accelerator the spread is reported."""
    passed = not spread(id) or (math.isfinite(spread(id)) and jax.default_backend() != "cpu")
    return passed, spread(id), "the largest difference; 0: the same bits"


def isolation(id: str) -> Verdict:
    """The other rows keep every bit, or where equal runs differ anyway, stay finite; the row is reported once."""
    clean, broken = rollout(id), rollout(id, is_spoilt=True)
    others = np.arange(BATCH) != SPOILT_ROW
    change = difference(*({name: run[name][:, others] for name in run} for run in (clean, broken)))
    reported = np.argwhere(broken["diverged"]).tolist()
    is_kept = not change or (spread(id) > 0 and math.isfinite(change))
    passed = is_kept and reported == [[SPOILT_STEP, SPOILT_ROW]] and bool(np.isfinite(broken["obs"]).all())
    return passed, {"change of other rows": change, "reported at": reported}, f"equal runs differ by {spread(id):.1e}"
