"""MJX against C MuJoCo on the same model: single steps in float32, and many in float64, without the rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ksim_envs.physics import load_model
from ksim_envs.physics.mjx import MjxBackend
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.task import Task
from tests.parity.float64 import LIKE_HUMANOIDS
from tests.parity.oracle import IDS, error, short_task_of

ROOT = Path(__file__).parents[2]
NUM_ENVS = 4  # as in tests/conformance, so that programs are compiled once for both
NUM_STATES = 64
STEP_BOUND = 5e-4
"""Of qpos and qvel, absolute or relative, in float32. It is upstream's own bar for one physics step; most tasks keep it
over a whole control step, the others over the one of `short_task_of`."""
ROLLED_OUT = {
    "fast": ("ksim/HalfCheetah-v0", "ksim/Hopper-v0", "ksim/Walker2d-v0", "ksim/Humanoid-v0"),
    "gymnasium": (LIKE_HUMANOIDS,),
}
"""By dynamics."""


@pytest.mark.parametrize("id", IDS)
def test_one_step_from_reachable_states_is_that_of_c(id, make_env):
    task = short_task_of(id)
    walker = make_env(id, NUM_ENVS, backend="native", autoreset_mode="same_step")
    native, mjx = (
        make_env(task, NUM_ENVS, backend=backend, autoreset_mode="disabled") for backend in ("native", "mjx")
    )
    walker.reset(seed=0)
    walker.action_space.seed(0)
    for _ in range(NUM_STATES // NUM_ENVS):
        for _ in range(7):
            walker.step(walker.action_space.sample())
        state, action = walker.physics_state(), walker.action_space.sample()
        start = {name: state[name] for name in ("qpos", "qvel")}
        after = []
        for env in (native, mjx):
            env.reset(seed=0, options=start)
            *_, info = env.step(action)
            assert not info["diverged"].any()
            after.append(env.physics_state())
        for name in start:
            assert error(after[1][name], after[0][name]) < STEP_BOUND, name


TABLE = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 0.1"/>
    <body pos="0 0 0.099">
      <joint name="lift" type="slide" axis="0 0 1"/>
      <geom type="sphere" size="0.1" pos="0.5 0.5 0"/>
      <geom type="sphere" size="0.1" pos="0.5 -0.5 0"/>
      <geom type="sphere" size="0.1" pos="-0.5 0.5 0"/>
      <geom type="sphere" size="0.1" pos="-0.5 -0.5 0"/>
    </body>
  </worldbody>
  <actuator><motor joint="lift" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


@pytest.mark.parametrize(("kept", "is_fault"), [(3, True), (None, False)])
def test_a_row_that_touches_in_as_many_places_as_mjx_keeps_is_quarantined(kept, is_fault, make_env):
    table = Task(
        model=TABLE,
        frame_skip=1,
        episode_length=10,
        observations={"qpos": Field("qpos")},
        rewards={"alive": Alive(1.0)},
        max_contact_points=kept,
    )
    env = make_env(table, 1, backend="mjx")
    env.reset(seed=0)
    *_, info = env.step(np.zeros((1, 1)))
    assert info["diverged"] == [is_fault]
    assert env.fault_counts()["overflow"] == [is_fault]


POSE = '<custom><numeric name="pose" data="0 0 0"/>{}</custom><worldbody>'


@pytest.mark.parametrize(
    ("numerics", "given", "kept"), [("", 3, 3), ('<numeric name="max_contact_points" data="2"/>', None, 2)]
)
def test_mjx_keeps_the_contacts_it_is_told_to_whatever_numbers_stand_before(numerics, given, kept):
    """MJX 3.17 reads `numeric_data` at the number's index instead of its address (as behind Ant's `init_qpos`)."""
    model = load_model(TABLE.replace("<worldbody>", POSE.format(numerics)), "fast", max_contact_points=given)
    backend = MjxBackend(model, 1, frame_skip=1, reads=frozenset({"qpos"}))
    assert backend.mjx_data._impl.ncon == kept


def test_first_observations_equal_gymnasium_in_float64(errors_in_float64):
    found = errors_in_float64["reset"]
    assert found.keys() == set(IDS)
    assert max(found.values()) < 1e-6, found


@pytest.mark.parametrize("dynamics", ROLLED_OUT)
def test_100_steps_equal_c_in_float64(dynamics, errors_in_float64):
    found = errors_in_float64[dynamics]
    assert found.keys() == set(ROLLED_OUT[dynamics])
    assert max(found.values()) < 1e-9, found


@pytest.fixture(scope="module")
def errors_in_float64() -> dict[str, dict[str, float]]:
    """By measure and id, from a process in which JAX computes in float64."""
    wanted = json.dumps({"reset": IDS, **ROLLED_OUT})
    command = [sys.executable, "-W", "ignore", "-m", "tests.parity.float64", wanted]
    environment = os.environ | {"JAX_ENABLE_X64": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    return json.loads(child.stdout)


def test_the_error_measure_sees_a_difference():
    assert error([1.0, 1e6], [1.0, 1e6 + 1]) == pytest.approx(1e-6)
    assert error(np.array([0.0]), [1e-3]) == pytest.approx(1e-3)
