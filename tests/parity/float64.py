"""Run in a process of its own, with JAX's x64 mode on: how far MJX is from C MuJoCo when rounding is out of the way.

    JAX_ENABLE_X64=1 python -m tests.parity.float64 '{"reset": [ID, ...], "fast": [ID, ...], "gymnasium": [ID, ...]}'

Prints JSON with an error for each id: of the first observation, or of rollouts with these dynamics.
"""

from __future__ import annotations

import copy
import json
import sys
from functools import partial

import jax
import mujoco
import numpy as np

from ksim_envs.physics.mjx import MjxBackend, SolverCaps
from ksim_envs.physics.model import load_model
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny
from tests.parity.oracle import error, gymnasium_twin, task_of

NUM_ROWS = 4
NUM_STEPS = 100
EXACT = SolverCaps(iterations=100, line_search=50, tolerance=0.0)  # as far as the model's own options allow
LIKE_HUMANOIDS = "a tiny model with RK4 and PGS"
"""In place of an id: Gymnasium's humanoids have both, and take long to compile with them."""


def reset_error(id: str) -> float:
    """Of the first observation on mjx, from states that random actions reach in Gymnasium's env."""
    twin, task = gymnasium_twin(id), task_of(id)
    twin.reset(seed=0)
    model, data = twin.unwrapped.model, twin.unwrapped.data
    starts, observations = [], []
    for _ in range(NUM_ROWS):
        for _ in range(7):
            twin.step(twin.action_space.sample())
        starts.append((data.qpos.copy(), data.qvel.copy()))
        mujoco.mj_resetData(model, data)
        twin.unwrapped.set_state(*starts[-1])
        observations.append(twin.unwrapped._get_obs())
    env = KsimVectorEnv(task, NUM_ROWS, backend="mjx", dynamics="gymnasium")
    qpos, qvel = map(np.array, zip(*starts, strict=True))
    obs, _ = env.reset(seed=0, options={"qpos": qpos, "qvel": qvel})
    return error(obs, observations)


def rollout_error(id: str, dynamics: str) -> float:
    """Of qpos and qvel over physics steps under random controls, with the solver run to its tolerance on both sides."""
    model = load_model(source_of(id), dynamics)
    backend = MjxBackend(model, NUM_ROWS, frame_skip=1, reads=frozenset({"qpos", "qvel"}), caps=EXACT)
    model = copy.copy(model)
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON  # MJX has no PGS
    rng = np.random.default_rng(0)
    qpos = model.qpos0 + rng.uniform(-0.01, 0.01, (NUM_ROWS, model.nq))
    qvel = rng.uniform(-0.1, 0.1, (NUM_ROWS, model.nv))
    rows, active = np.arange(NUM_ROWS), np.ones(NUM_ROWS, bool)
    state = jax.jit(backend.reset_rows)(backend.empty(), rows, backend.exact(qpos), backend.exact(qvel), {})
    step = jax.jit(backend.step)
    twins = [mujoco.MjData(model) for _ in rows]
    for i, data in enumerate(twins):
        data.qpos[:], data.qvel[:] = qpos[i], qvel[i]
    worst, contacts = 0.0, 0
    for _ in range(NUM_STEPS):
        ctrl = rng.uniform(*model.actuator_ctrlrange.T, (NUM_ROWS, model.nu))
        state, fault = step(state, ctrl[:, None], active, None, {})
        for i, data in enumerate(twins):
            data.ctrl[:] = ctrl[i]
            mujoco.mj_step(model, data)
            contacts += data.ncon
        found = backend.state_dict(state)
        assert not np.any(fault)
        worst = max(worst, *(error(found[name], [getattr(data, name) for data in twins]) for name in ("qpos", "qvel")))
    assert contacts > 0
    return worst


def source_of(id: str) -> str:
    """The model of an id."""
    if id == LIKE_HUMANOIDS:
        return tiny.BALL_ON_STICK.replace("<option", '<option integrator="RK4" solver="PGS"')
    return task_of(id).model


MEASURES = {
    "reset": reset_error,
    "fast": partial(rollout_error, dynamics="fast"),
    "gymnasium": partial(rollout_error, dynamics="gymnasium"),
}

if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    print(json.dumps({name: {id: MEASURES[name](id) for id in ids} for name, ids in wanted.items()}))
