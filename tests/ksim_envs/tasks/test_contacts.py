"""What contact terms add to a model, and what they make of the sensors; test_quantities_on_backends has the physics."""

import mujoco
import numpy as np
import pytest

from ksim_envs.building import make_core
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.contacts import Contact, FeetContact, FeetForce, FeetTorque
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.sensing import Noise
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from tests.ksim_envs.tasks.by_hand import context, unchecked_types, view
from tests.ksim_envs.tasks.walker import FEET, WALKER


def edited(*terms, source=WALKER):
    """The model with what the terms add, each of them twice, as it may happen."""
    spec = mujoco.MjSpec.from_string(source)
    for term in (*terms, *terms):
        term.edit_model(spec)
    return spec.compile()


def with_sensors(model, **values):
    """A view in which each sensor has its value and the others are zero."""
    data = np.zeros(model.nsensordata)
    for name, value in values.items():
        data[Model(model).sensor(name)] = value
    return view(
        sensordata=data,
        xpos=[[0, 0, 0]] * (model.nbody - 1) + [[0, 0, 1]],
        geom_xpos=np.zeros((model.ngeom, 3)),
    )


def names_of(model):
    return sorted(name for name in Model(model).names("sensor") if name.startswith("ksim"))


def test_a_sensor_is_added_once_for_each_geom_that_can_touch_something():
    model = edited(FeetContact(FEET), FeetForce(FEET), Contact("right_toe"))
    unnamed = next(name for name in Model(model).names("geom") if name.startswith("ksim_geom"))
    geoms = sorted([unnamed, "right_sole", "right_toe"])
    assert names_of(model) == sorted(
        [f"ksim touch {geom!r}" for geom in geoms] + [f"ksim wrench {geom!r} 8" for geom in geoms]
    )
    assert Model(model).sensor("imu_quat") == slice(0, 4), "the model's own sensors stay where they were"


def test_a_sensor_is_added_for_each_pair_and_none_for_a_geom_with_itself():
    model = edited(Contact(("chest", "right_sole", "right_toe"), ("right_toe", "chest", "right_sole")))
    assert names_of(model) == [
        "ksim touch 'chest' 'right_sole'",
        "ksim touch 'chest' 'right_toe'",
        "ksim touch 'right_sole' 'right_toe'",
    ]


def test_a_geom_in_an_explicit_pair_counts_whatever_its_bits_are():
    source = WALKER.replace("<actuator>", '<contact><pair geom1="left_cover" geom2="ground"/></contact><actuator>')
    term = FeetContact("left_cover", kind="geom")
    assert names_of(edited(term, source=source)) == ["ksim touch 'left_cover'"]
    with pytest.raises(InvalidConfigError, match="geom 'left_cover' can touch nothing; give it"):
        term(with_sensors(edited(term)), context(model=Model(edited(term))))


def test_what_can_touch_nothing_is_skipped_within_a_pattern_but_is_no_foot():
    model = edited(Contact("*"), FeetContact("right_leg"))
    assert len(names_of(model)) == 6, "ground, step, chest, a foot without a name, sole and toe"
    Contact("right_*")(with_sensors(model), context(model=Model(model)))
    with pytest.raises(InvalidConfigError, match="geom 'right_thigh' can touch nothing"):
        Contact("right_thigh")(with_sensors(model), context(model=Model(model)))
    with pytest.raises(InvalidConfigError, match="body 'right_leg' can touch nothing"):
        FeetContact(("right_foot", "right_leg"))(with_sensors(model), context(model=Model(model)))


@pytest.mark.parametrize(
    ("distance", "depth", "expected"),
    [(-0.002, 0.0, True), (0.001, 0.0, True), (-0.002, 0.001, True), (-0.0005, 0.001, False), (0.001, 0.001, False)],
)
def test_a_contact_counts_from_its_depth_on(distance, depth, expected):
    term = Contact("chest", depth=depth)
    model = edited(term)
    value = term(with_sensors(model, **{"ksim touch 'chest'": [1, distance]}), context(model=Model(model)))
    assert value.shape == () and value.dtype == bool and bool(value) is expected
    assert not term(with_sensors(model), context(model=Model(model)))


def test_feet_stand_in_the_order_of_their_names():
    term = FeetContact(("right_foot", "left_foot"))
    model = edited(term)
    state = with_sensors(model, **{"ksim touch 'right_sole'": [2, -0.1]})
    assert term(state, context(model=Model(model))).tolist() == [True, False]


def test_forces_are_those_on_the_foot_in_the_world_and_torques_are_about_its_frame():
    terms = FeetForce("right_foot"), FeetTorque("right_foot")
    model = edited(*terms)
    down, forward = [0, 0, -1], [1, 0, 0]  # the normal points away from the foot: down, for one that stands
    # each contact: force and torque in its own axes, position, normal, tangent; the third axis is (0, -1, 0)
    first = [10, 1, 2, 0, 0, 0.5, 2, 0, 1, *down, *forward]
    second = [20, 0, 0, 0, 0, 0, 0, 0, 0, *down, *forward]
    state = with_sensors(
        model,
        **{
            "ksim wrench 'right_sole' 8": [*first, *second, *[0] * 90],
            "ksim wrench 'right_toe' 8": [*second, *[0] * 105],
        },
    )
    ctx = context(model=Model(model))
    np.testing.assert_allclose(terms[0](state, ctx), [[-1, 2, 10 + 20 + 20]])
    # about (0, 0, 1): (2, 0, 0) x (-1, 2, 10) = (0, -20, 4), and (0, 0.5, 0); (0, 0, -1) x (0, 0, 20) = 0
    np.testing.assert_allclose(terms[1](state, ctx), [[0, -19.5, 4]])


def test_a_robot_on_a_fixed_base_has_contacts_too():
    arm = """
    <mujoco>
      <worldbody>
        <geom name="table" type="plane" size="1 1 1"/>
        <body name="arm" pos="0 0 0.09"><joint name="lift" type="slide" axis="0 0 1" damping="50"/>
          <geom name="hand" size="0.1" mass="2"/></body>
      </worldbody>
      <actuator><motor joint="lift"/></actuator>
    </mujoco>
    """
    task = Task(
        model=arm,
        frame_skip=100,
        episode_length=100,
        observations={"noisy": Noise(FeetForce("arm"), 0.0), "lift": Field("qpos")},
        rewards={"alive": Alive(1.0)},
        terminations={"touch": Outside(FeetContact("arm", floor="table"), high=0.5)},
    )
    core = make_core(task, 1, backend="native")
    state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(1, bool))
    for _ in range(5):
        state, result = core.programs.step(state, np.zeros((1, 1), np.float32))
    assert result.terminated_E.all()
    np.testing.assert_allclose(result.final_obs_EL[0, :3], [0, 0, 2 * 9.81], atol=0.1)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (FeetContact("right_fot"), "no body in the model 'right_fot'. Did you mean 'right_foot'"),
        (FeetContact(FEET, floor="grund"), "no geom in the model 'grund'. Did you mean 'ground'"),
        (FeetForce("left_fot"), "no body in the model 'left_fot'. Did you mean 'left_foot'"),
        (FeetTorque("chset", kind="geom"), "no geom in the model 'chset'. Did you mean 'chest'"),
        (Contact("chest", "grond"), "no geom in the model 'grond'. Did you mean 'ground'"),
    ],
    ids=repr,
)
def test_a_misspelt_name_gets_the_near_miss(term, message):
    model = edited(term)
    with pytest.raises(UnknownNameError, match=message):
        term(with_sensors(model), context(model=Model(model)))


@pytest.mark.parametrize("term", [Contact, FeetContact, FeetForce, FeetTorque])
def test_a_misspelt_kind_is_refused(term):
    with unchecked_types(), pytest.raises(UnknownNameError, match="no kind 'bodi'. Did you mean 'body'"):
        term("torso", kind="bodi")


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidConfigError, match="max_contacts is 0; it must be at least 1"):
        FeetForce("torso", max_contacts=0)
    alone = Contact("chest", "chest")
    model = edited(alone)
    with pytest.raises(InvalidConfigError, match="one geom with itself"):
        alone(with_sensors(model), context(model=Model(model)))
