"""The table of motors, what follows from its figures, and the line along which torque falls with speed."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.motors import (
    FEETECH_STS3215,
    FEETECH_STS3250,
    MOTORS,
    ROBSTRIDE_03,
    ROBSTRIDE_04,
    JointFigures,
    Motor,
    torque_limits,
)
from tests.ksim_envs.tasks.legged import LEGGED

ROBSTRIDE = {
    "robstride_00": (14.0, 5.0, 27.227, 32.9867, 0.001, 0.1, 10.0, 0.31),
    "robstride_02": (17.0, 6.0, 37.699, 42.9351, 0.0042, 0.1, 7.75, 0.38),
    "robstride_03": (60.0, 20.0, 18.849, 20.944, 0.02, 0.2, 9.0, 0.88),
    "robstride_04": (120.0, 40.0, 17.488, 20.944, 0.04, 0.2, 9.0, 1.42),
}


@pytest.mark.parametrize("name", ROBSTRIDE)
def test_the_robstride_motors_have_the_figures_of_the_k_bot(name):
    motor = MOTORS[name]
    figures = (motor.peak_torque, motor.rated_torque, motor.rated_speed, motor.no_load_speed)
    assert (*figures, motor.armature, motor.frictionloss, motor.gear_ratio, motor.mass) == ROBSTRIDE[name]


@pytest.mark.parametrize(
    ("servo", "per_duty", "limit"), [(FEETECH_STS3250, 8.71613, 8.45465), (FEETECH_STS3215, 5.46609, 5.44641)]
)
def test_the_feetech_servos_have_the_torque_that_was_identified(servo, per_duty, limit):
    np.testing.assert_allclose(servo.torque_per_duty, per_duty, rtol=1e-5)
    np.testing.assert_allclose(servo.gains(16.0, 0.0).max_torque, limit, rtol=1e-5)


def test_registers_of_a_servo_become_gains_in_si_units():
    """A unit of kp is 1.42017 N m/rad and one of kd 8.71613 N m s/rad, as the identification derives them."""
    gains = FEETECH_STS3250.gains(22.0, 12.0)
    np.testing.assert_allclose((gains.kp, gains.kd), (22 * 1.42017, 12 * 8.71613), rtol=1e-5)


@pytest.mark.parametrize(
    ("motor", "speed", "limits"),
    [
        (ROBSTRIDE_04, 0.0, (-120, 120)),
        (ROBSTRIDE_04, 17.488, (-120, 40)),  # the rated point
        (ROBSTRIDE_04, -17.488, (-40, 120)),
        (ROBSTRIDE_04, 19.216, (-120, 20)),  # half the way from the rated to the no-load point
        (ROBSTRIDE_04, 20.944, (-120, 0)),
        (ROBSTRIDE_04, 30.0, (-120, 0)),
        (ROBSTRIDE_03, 15.0, (-60, 20 * 5.944 / 2.095)),
    ],
)
def test_torque_falls_with_speed_along_the_line_through_the_rated_and_the_no_load_point(motor, speed, limits):
    found = torque_limits([motor, motor], jnp.array([speed, -speed]))
    np.testing.assert_allclose(found[0], limits, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[1], -np.flip(limits), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"peak_torque": 1.0}, {"rated_speed": 30.0}, {"armature": -0.1}, {"mass": np.inf}], ids=str
)
def test_figures_that_no_motor_has_are_refused(wrong):
    fields = {name: getattr(ROBSTRIDE_03, name) for name in ROBSTRIDE_03.__dataclass_fields__}
    with pytest.raises(InvalidConfigError, match="figures must be finite"):
        Motor(**{**fields, **wrong})


def test_joints_get_the_figures_of_their_motors():
    spec = mujoco.MjSpec.from_string(LEGGED)
    JointFigures({"*": FEETECH_STS3250, "hip": ROBSTRIDE_04}).edit_model(spec)
    model = spec.compile()
    np.testing.assert_allclose(model.dof_armature[6:], [0.04, 0.0399998])
    np.testing.assert_allclose(model.dof_frictionloss[6:], [0.2, 0.199995])
    np.testing.assert_allclose(model.dof_damping[6:], [0, 1.3464])
    assert not model.dof_armature[:6].any()
