"""Differences over the steps of an episode, forces and powers, against numbers computed by hand."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.bodies import MeanBodyVelocities
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.joints import Action
from ksim_envs.tasks.measures import Reduced
from ksim_envs.tasks.observations import Coordinate
from ksim_envs.tasks.rewards import Cost
from ksim_envs.tasks.smoothness import Difference, JointPower, RelativeForce, Unreachable
from tests.ksim_envs.tasks import biped
from tests.ksim_envs.tasks.by_hand import context, first_value, values, view

CUBES = [{"qpos": [step**3]} for step in range(-7, 2)]  # -343 -216 -125 -64 -27 -8 -1 0 1


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (1, [0, 91, 61, 37, 19, 7, 1, 1]),
        (2, [0, 0, -30, -24, -18, -12, -6, 0]),
        (3, [0, 0, 0, 6, 6, 6, 6, 6]),
    ],
)
def test_a_difference_begins_as_soon_as_it_has_enough_steps(order, expected):
    assert values(Difference(Coordinate(0), order), CUBES) == expected


def test_no_difference_reaches_across_a_reset():
    """The carry begins anew with `init`, so another episode's last actions are out of reach."""
    actions = [{"ctx": {"action": [x, -x]}} for x in (0.0, 9.0, 1.0, 2.0)]  # none was taken before the first step
    rate = Cost(0.5, Reduced(Difference(Action()), "mean_square"))
    assert values(rate, actions) == [0, -32, -0.5]
    assert values(rate, actions) == [0, -32, -0.5]


def test_a_difference_of_flags_counts():
    flags = [{"qpos": [x]} for x in (0, 0, 1, 1, 0)]
    above = lambda view, ctx: view.qpos > 0.5  # noqa: E731
    assert values(Difference(above), flags) == [[0], [1], [0], [-1]]


ARM = """
<mujoco>
  <worldbody>
    <body><joint name="a"/><geom size="0.1"/></body>
    <body><joint name="b"/><geom size="0.1"/></body>
    <body><joint name="c"/><geom size="0.1"/></body>
  </worldbody>
  <actuator>
    <motor name="motor" joint="a" gear="5" ctrlrange="-4 2"/>
    <position name="servo" joint="b" kp="100" ctrlrange="-1 1" forcerange="-50 20"/>
    <general name="gain" joint="c" gainprm="3" ctrlrange="-1 1"/>
    {more}
  </actuator>
</mujoco>
"""


def arm(more=""):
    return Model(mujoco.MjModel.from_xml_string(ARM.format(more=more)))


def test_forces_are_relative_to_the_largest_that_the_actuator_can_give():
    seen = view(actuator_force=[2, -25, 1.5])
    np.testing.assert_allclose(first_value(RelativeForce(), seen, context(model=arm())), [0.5, -0.5, 0.5])
    np.testing.assert_allclose(first_value(RelativeForce("servo"), seen, context(model=arm())), [-0.5])


@pytest.mark.parametrize(
    ("more", "shown"),
    [('<motor name="free" joint="a"/>', "'free'"), ('<position joint="a" kp="10" ctrlrange="-1 1"/>', "3")],
)
def test_an_actuator_without_a_largest_force_is_refused(more, shown):
    with pytest.raises(InvalidConfigError, match=f"Actuator {shown} has no largest force; give it a forcerange"):
        first_value(RelativeForce(), view(actuator_force=[0, 0, 0, 0]), context(model=arm(more)))


def test_an_actuator_without_a_largest_force_does_not_matter_to_others():
    seen = view(actuator_force=[2, -25, 1.5, 9])
    found = first_value(RelativeForce("servo"), seen, context(model=arm('<motor name="gripper" joint="a"/>')))
    np.testing.assert_allclose(found, [-0.5])


def test_the_power_is_that_of_c_mujoco():
    """Over a substep, the work that the actuators do is what the kinetic energy gains, in zero gravity."""
    model = mujoco.MjModel.from_xml_string(ARM.format(more=""))
    model.opt.gravity[:] = 0
    model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    model.opt.timestep = 1e-5
    data = mujoco.MjData(model)
    data.qvel[:], data.ctrl[:] = [1.0, -2.0, 3.0], [2.0, 0.1, -1.0]
    mujoco.mj_forward(model, data)
    before = data.energy[1]
    seen = view(qvel=data.qvel, qfrc_actuator=data.qfrc_actuator)
    power = first_value(JointPower(), seen, context(model=Model(model)))
    np.testing.assert_allclose(power, [10 * 1, 10 * -2, -3 * 3], rtol=1e-6)
    mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(np.sum(power), (data.energy[1] - before) / model.opt.timestep, rtol=5e-3)


def test_links_are_all_bodies_but_the_world_in_metres_per_second():
    seen = view(xpos_change=[[9, 9, 9], [1, 2, 3], [0, 0, -1]])
    np.testing.assert_allclose(first_value(MeanBodyVelocities(), seen, context()), [[2, 4, 6], [0, 0, -2]])
    np.testing.assert_allclose(first_value(MeanBodyVelocities("pole"), seen, context()), [[0, 0, -2]])


def test_a_link_that_circles_at_constant_speed_accelerates():
    circle = [{"xpos_change": [[0, 0, 0], [0, 0, 0], each]} for each in ([1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0])]
    size = Reduced(Difference(MeanBodyVelocities("pole")), "norm")
    np.testing.assert_allclose(values(size, circle), [0, np.sqrt(8), 0], rtol=1e-6)


def test_what_is_out_of_reach_is_measured_from_the_position_before_the_step():
    """Reach in 0.5 s at 1 rad/s and 4 rad/s^2: 0.5 + 0.5 = 1 rad."""
    term = Unreachable(max_velocity=1.0, max_acceleration=4.0)
    seen = view(qpos=[2, 0], qpos_change=[2, -1])  # from 0 and from 1
    found = first_value(term, seen, context(action=jnp.array([1.5, 0.5])))
    np.testing.assert_allclose(found, [0.5, 0], rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Difference(Coordinate(0), order=0),
        lambda: Unreachable(max_velocity=0.0, max_acceleration=1.0),
        lambda: Unreachable(max_velocity=1.0, max_acceleration=0.0),
        lambda: first_value(Unreachable(1.0, 1.0, joints="slide"), view(qpos=[0, 0], qpos_change=[0, 0]), context()),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidConfigError):
        wrong()


def test_joints_and_bodies_of_a_floating_robot_stand_behind_its_root():
    force = np.arange(10.0)
    seen = view(qvel=np.full(10, 2.0), qfrc_actuator=force)
    floating = context(model=Model(biped.MODEL))
    np.testing.assert_allclose(first_value(JointPower(), seen, floating), [12, 14, 16, 18])
