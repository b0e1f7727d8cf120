"""Each quantity of joints and actuators against numbers computed by hand, on a robot with a fixed base."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.joints import Action, ActuatorForce, JointAcceleration, JointPosition, JointVelocity
from tests.ksim_envs.tasks.by_hand import context, view

STATE = view(qpos=[4, 5], qvel=[6, 7], qacc=[8, 9], actuator_force=[10, 11])
DRAWN = context(
    action=jnp.array([0.25, -0.5]),
    model_fields={"encoder_offset": jnp.array([0.5, -0.25]), "qpos0": jnp.array([2.0, 0.0])},
)
WITH_BALLS = """
<mujoco>
  <worldbody>
    <body name="base"><freejoint/><geom size="0.1"/>
      <body><joint name="shoulder" type="ball"/><geom size="0.1"/>
        <body><joint name="elbow"/><joint axis="1 0 0"/><geom size="0.1"/></body></body></body>
  </worldbody>
  <actuator><motor joint="elbow"/><motor name="curl" joint="elbow"/></actuator>
</mujoco>
"""


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (JointPosition(), [4.5, 4.75]),
        (JointPosition(relative=True), [2.5, 4.75]),
        (JointPosition(("hinge", "slide")), [4.75, 4.5]),
        (JointVelocity("hinge"), [7]),
        (JointAcceleration(), [8, 9]),
        (Action(), [0.25, -0.5]),
        (Action(start=1), [-0.5]),
        (Action(stop=1), [0.25]),
    ],
    ids=repr,
)
def test_the_value_is_that_computed_by_hand(term, expected):
    value = term(STATE, DRAWN)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_actuators_are_found_by_name():
    ctx = context(model=Model(mujoco.MjModel.from_xml_string(WITH_BALLS)))
    assert ActuatorForce()(view(actuator_force=[10, 11]), ctx).tolist() == [10, 11]
    assert ActuatorForce("curl")(view(actuator_force=[10, 11]), ctx).tolist() == [11]
    with pytest.raises(UnknownNameError, match="no actuator in the model 'curls'. Did you mean 'curl'"):
        ActuatorForce("curls")(view(actuator_force=[10, 11]), ctx)


def test_without_a_randomizer_encoders_read_the_truth():
    assert JointPosition()(STATE, context()).tolist() == [4, 5]


def test_free_and_ball_joints_are_left_out_and_refused_by_name():
    ctx = context(model=Model(mujoco.MjModel.from_xml_string(WITH_BALLS)))
    state = view(qpos=np.arange(13), qvel=np.arange(11))
    assert JointPosition()(state, ctx).tolist() == [11, 12]
    assert JointVelocity()(state, ctx).tolist() == [9, 10], "those without a name too"
    with pytest.raises(InvalidConfigError, match="'shoulder' is free or a ball"):
        JointPosition("shoulder")(state, ctx)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (JointPosition("hinges"), "no joint in the model 'hinges'. Did you mean 'hinge'"),
        (JointVelocity("slid"), "no joint in the model 'slid'. Did you mean 'slide'"),
    ],
    ids=repr,
)
def test_a_misspelt_name_gets_the_near_miss(term, message):
    with pytest.raises(UnknownNameError, match=message):
        term(STATE, context())
