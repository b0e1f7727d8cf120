"""Changes of a model before it is compiled."""

from dataclasses import replace

import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import UnknownNameError
from ksim_envs.tasks.edits import WithoutSensors
from ksim_envs.tasks.resets import UniformVelocity
from ksim_envs.tasks.task import Task
from tests.ksim_envs.tasks.walker import WALKER

TASK = Task(
    model=WALKER,
    frame_skip=1,
    episode_length=5,
    observations={"gyro": lambda view, ctx: view.sensordata[ctx.model.sensor("imu_gyro")]},
    rewards={"none": lambda view, ctx: 0.0},
    resets={"moving": UniformVelocity(1.0)},
)


def make(*edits):
    return ksim_envs.make_functional(replace(TASK, edits=edits), 2, backend="native")


@pytest.mark.parametrize("names", ["imu_quat", "*_quat", ("imu_quat", "no_such_*")], ids=str)
def test_sensors_are_left_out_by_name_and_pattern_and_the_others_read_as_before(names):
    lean, whole = make(WithoutSensors(names)), make()
    assert (lean.backend.model.nsensor, whole.backend.model.nsensor) == (1, 2)
    obs, lean_obs = (np.asarray(core.reset(core.keys(0)).obs_EL) for core in (whole, lean))
    assert (obs != 0).all()
    np.testing.assert_array_equal(lean_obs, obs)


def test_a_sensor_that_was_left_out_is_missed_by_name():
    with pytest.raises(UnknownNameError, match="no sensor in the model 'imu_gyro'"):
        make(WithoutSensors("*"))
