"""Changes of a model before it is compiled."""

from dataclasses import dataclass, replace

import mujoco
import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import UnknownNameError
from ksim_envs.tasks.actuators import Position
from ksim_envs.tasks.contacts import Contact
from ksim_envs.tasks.edits import WithoutSensors
from ksim_envs.tasks.motors import Gains
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.resets import UniformVelocity
from ksim_envs.tasks.task import Task
from tests.ksim_envs.tasks.walker import WALKER

GAINS = {"*": Gains(kp=50.0, kd=1.0)}


@dataclass(frozen=True)
class Motors:
    """Gives every hinge a motor, as a URDF needs it."""

    def edit_model(self, spec):
        for joint in spec.joints:
            if joint.type == mujoco.mjtJoint.mjJNT_HINGE:
                motor = spec.add_actuator(name=f"{joint.name}_motor", target=joint.name)
                motor.trntype = mujoco.mjtTrn.mjTRN_JOINT


@dataclass(frozen=True)
class Pad:
    """Puts a pad below a foot."""

    def edit_model(self, spec):
        spec.body("left_foot").add_geom(name="pad", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0])


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


@pytest.mark.parametrize("names", ["imu_quat", "*_quat", ("imu_quat",)], ids=str)
def test_sensors_are_left_out_by_name_and_pattern_and_the_others_read_as_before(names):
    lean, whole = make(WithoutSensors(names)), make()
    assert (lean.backend.model.nsensor, whole.backend.model.nsensor) == (1, 2)
    obs, lean_obs = (np.asarray(core.reset(core.keys(0)).obs_EL) for core in (whole, lean))
    assert (obs != 0).all()
    np.testing.assert_array_equal(lean_obs, obs)


def test_a_sensor_that_was_left_out_is_missed_by_name():
    with pytest.raises(UnknownNameError, match="no sensor in the model 'imu_gyro'"):
        make(WithoutSensors("*"))


def test_other_terms_find_what_an_edit_has_added():
    without_motors = WALKER.split("<actuator>")[0] + WALKER.split("</actuator>")[1]
    task = replace(
        TASK,
        model=without_motors,
        observations={"qpos": Field("qpos")},
        actuator=Position(gains=GAINS),
        metrics={"touches": Contact("pad")},
        edits=(Motors(), Pad()),
    )
    model = ksim_envs.make_functional(task, 2, backend="native").backend.model
    assert model.nu == 4
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], 50.0)
    assert model.geom("pad").bodyid == model.body("left_foot").id
    assert model.nsensor == 3, "the model's two, and that of the contact"


def test_an_edit_leaves_the_sensors_of_terms_alone():
    task = replace(
        TASK, observations={"qpos": Field("qpos")}, metrics={"touches": Contact("chest")}, edits=(WithoutSensors("*"),)
    )
    assert ksim_envs.make_functional(task, 2, backend="native").backend.model.nsensor == 1
