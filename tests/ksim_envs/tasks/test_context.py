"""Look-ups in a model by name, and tables by name."""

import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.context import Model, assigned

ARM = """
<mujoco>
  <option gravity="0 0 -1.6" timestep="0.01"/>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" range="-1 2"/>
      <geom size="0.1"/>
      <body name="arm"><joint name="hinge"/><geom size="0.1"/></body>
      <body><joint type="ball"/><geom name="tip" size="0.1"/></body>
    </body>
    <body name="free"><freejoint name="base"/><geom size="0.1"/></body>
  </worldbody>
  <tendon><fixed name="belt"><joint joint="hinge" coef="1"/></fixed></tendon>
  <actuator><motor name="b" joint="hinge"/><motor name="a" joint="slide"/>{more}</actuator>
</mujoco>
"""


def arm(more=""):
    return Model(mujoco.MjModel.from_xml_string(ARM.format(more=more)))


def test_the_star_stands_for_everything_named_or_not():
    assert arm().bodies("*").tolist() == [0, 1, 2, 3, 4]
    assert arm().geoms("*").tolist() == [0, 1, 2, 3]
    assert arm().geoms(("t*",)).tolist() == [2], "a pattern needs a name"
    assert arm().joints("*").tolist() == [0, 1], "hinges and slides"


def test_a_name_may_hold_brackets():
    model = Model(mujoco.MjModel.from_xml_string(ARM.format(more="").replace('"hinge"', '"hinge[0]"')))
    assert model.joints("hinge[0]").tolist() == [1]


def test_driven_joints_are_in_the_order_of_the_actuators():
    assert arm().driven_joints().tolist() == [1, 0]
    assert arm().driven_names() == ["hinge", "slide"]
    qpos, qvel = arm().joint_addresses(arm().driven_joints())
    assert (qpos.tolist(), qvel.tolist()) == ([1, 0], [1, 0])


@pytest.mark.parametrize(
    "more", ['<motor name="x" tendon="belt"/>', '<motor name="x" joint="base" gear="1 0 0 0 0 0"/>']
)
def test_an_actuator_that_drives_something_else_is_named(more):
    with pytest.raises(InvalidConfigError, match="actuator 'x' drives no hinge or slide joint"):
        arm(more).driven_joints()


def test_joints_without_a_range_have_an_infinite_one():
    np.testing.assert_array_equal(arm().joint_ranges(np.array([1, 0])), [[-np.inf, np.inf], [-1, 2]])


def test_a_model_knows_its_gravity_and_sizes():
    np.testing.assert_allclose(arm().gravity, [0, 0, -1.6])
    assert (arm().num_bodies, arm().num_dofs) == (5, 11)


def test_a_later_entry_of_a_table_overrides_an_earlier_one():
    names = ["left_hip", "left_knee", "right_hip"]
    assert assigned("joint", names, {"*": 1, "*_hip": 2, "left_hip": 3}) == [3, 1, 2]


def test_a_table_must_have_all_names_and_no_others():
    with pytest.raises(InvalidConfigError, match="joint 'b' has no entry among \\['a'\\]; add one"):
        assigned("joint", ["a", "b"], {"a": 1})
    with pytest.raises(UnknownNameError, match="There is no joint 'hipp'. Did you mean 'hip'"):
        assigned("joint", ["hip"], {"*": 1, "hipp": 2})
