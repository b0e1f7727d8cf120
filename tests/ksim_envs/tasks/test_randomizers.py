"""What the randomizer terms draw, and that the physics feels it."""

import copy
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.actuators import Position
from ksim_envs.tasks.body_randomizers import (
    CollisionBody,
    FloorFriction,
    Inertia,
    MassAddition,
    MassCenter,
    MassMultiplication,
    SiteAlignment,
)
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.randomizers import (
    ActionLatency,
    Armature,
    ContactSoftness,
    EncoderOffset,
    JointDamping,
    JointZeroPosition,
    PositionGain,
    StaticFriction,
    TorqueLimit,
    VelocityGain,
)
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.scales import Ramp
from ksim_envs.tasks.task import Task
from tests import tiny
from tests.ksim_envs.tasks import legged
from tests.ksim_envs.tasks.by_hand import context
from tests.ksim_envs.tasks.legged import GAINS, LEGGED, MODEL, NUM_ENVS, NUM_SUBSTEPS

NUM_DRAWS = 4000
NOMINAL = jnp.array([[0.02, 1.0], [0.05, 0.5], [-1000.0, -10.0]], jnp.float32)


def scaled(spread, key):
    return ContactSoftness(spread)({"geom_solref": NOMINAL}, context(key=key))["geom_solref"]


def test_contact_softness_scales_both_parameters_of_all_geoms_within_its_bounds():
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    values = jax.vmap(lambda key: scaled(0.25, key))(keys)
    factors = np.asarray(values, np.float64) / NOMINAL
    np.testing.assert_allclose(factors, np.tile(factors[:, :1], (1, 3, 1)), rtol=1e-6)
    logs = np.log(factors[:, 0]) / np.log(1.25)
    assert np.abs(logs).max() <= 1 + 1e-5 and (np.abs(logs).max(axis=0) > 0.99).all()
    np.testing.assert_allclose(logs.mean(axis=0), 0, atol=5 / np.sqrt(3 * NUM_DRAWS))
    np.testing.assert_allclose(logs.std(axis=0), 1 / np.sqrt(3), rtol=0.06)
    assert abs(np.corrcoef(logs.T)[0, 1]) < 5 / np.sqrt(NUM_DRAWS)


def test_no_spread_changes_nothing():
    np.testing.assert_array_equal(scaled(0.0, jax.random.key(0)), NOMINAL)


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_with_contact_softness_the_same_start_moves_on_differently_with_every_draw(backend):
    task = replace(tiny.HOPPER_LIKE, resets={}, randomizers={"contacts": ContactSoftness(0.5)})
    core = ksim_envs.make_functional(task, 4, backend=backend)
    key_E = core.keys(0)[jnp.array([0, 0, 1, 2])]
    state, _ = core.programs.reset(core.unreset_state(key_E), np.ones(4, bool))
    for _ in range(5):
        state, _ = core.programs.step(state, np.ones((4, core.num_actions), np.float32))
    assert len(np.unique(state.obs_EL[:2], axis=0)) == 1
    assert len(np.unique(state.obs_EL, axis=0)) == 3


# What the other randomizers draw


def drawn(randomizer, num_draws=2000, **changes):
    """What the randomizer makes of the nominal fields, and these, in many episodes."""
    nominal = {name: jnp.asarray(Model(MODEL).array(name)) for name in randomizer.fields}

    def draw(key):
        return randomizer(nominal, legged.legged(**{"key": key, **changes}))

    return jax.vmap(draw)(jax.random.split(jax.random.key(0), num_draws)), nominal


def assert_uniform(values, low, high):
    """Each column is uniform between the ends, and independent of the others."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    rounding = 1e-5 * max(abs(low), abs(high))
    assert low - rounding <= values.min() and values.max() <= high + rounding
    np.testing.assert_allclose(values.mean(axis=0), (low + high) / 2, atol=6 * (high - low) / np.sqrt(12 * len(values)))
    np.testing.assert_allclose(values.std(axis=0), (high - low) / np.sqrt(12), rtol=0.1)
    if values.shape[1] > 1 and high > low:
        correlation = np.corrcoef(values.T)
        assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(len(values))


FACTORS = [
    (StaticFriction(), "dof_frictionloss", np.s_[6:7], 0.5, 2.0),
    (Armature(), "dof_armature", np.s_[6:8], 0.95, 1.05),
    (JointDamping(), "dof_damping", np.s_[6:7], 0.9, 1.1),
    (Armature(low=0.5, high=3.0, joints="ankle"), "dof_armature", np.s_[7:8], 0.5, 3.0),
    (MassMultiplication(), "body_mass", np.s_[1:4], 0.95, 1.05),
    (MassMultiplication(bodies="leg", low=0.5, high=1.5), "body_mass", np.s_[2:3], 0.5, 1.5),
    (Inertia(bodies=("torso", "foot")), "body_inertia", np.s_[[1, 3], 0], 0.98, 1.02),
    (PositionGain(), "actuator_gainprm", np.s_[:, 0], 0.9, 1.1),
    (PositionGain(), "actuator_biasprm", np.s_[:, 1], 0.9, 1.1),
    (VelocityGain(low=0.5, high=1.5), "actuator_biasprm", np.s_[:, 2], 0.5, 1.5),
    (TorqueLimit(low=0.5, high=1.0), "actuator_forcerange", np.s_[:, 0], 0.5, 1.0),
]


@pytest.mark.parametrize(
    ("randomizer", "field", "places", "low", "high"), FACTORS, ids=[f"{repr(case[0])} {case[1]}" for case in FACTORS]
)
def test_factors_are_uniform_for_each_place_and_leave_the_others_alone(randomizer, field, places, low, high):
    values, nominal = drawn(randomizer)
    before, after = np.asarray(nominal[field], float), np.asarray(values[field], float)
    assert_uniform(after[(slice(None), *np.index_exp[places])] / before[places], low, high)
    if field not in ("actuator_forcerange", "body_inertia"):  # of which whole rows are scaled
        rest = np.ones(before.shape, bool)
        rest[places] = False
        np.testing.assert_array_equal(after[:, rest], np.tile(before[rest], (len(after), 1)))


def test_mass_and_inertia_of_a_body_are_scaled_alike():
    values, nominal = drawn(MassMultiplication(low=0.5, high=2.0), 50)
    factor = values["body_mass"][:, 1:] / nominal["body_mass"][1:]
    np.testing.assert_allclose(
        values["body_inertia"][:, 1:] / nominal["body_inertia"][1:], np.repeat(factor[..., None], 3, 2), rtol=1e-5
    )


def test_the_gains_of_a_controller_stay_those_of_a_controller():
    values, _ = drawn(PositionGain(low=0.5, high=2.0), 50)
    np.testing.assert_array_equal(values["actuator_gainprm"][:, :, 0], -values["actuator_biasprm"][:, :, 1])


def test_all_of_a_limit_and_all_of_an_inertia_are_scaled_by_one_factor():
    limits, nominal = drawn(TorqueLimit(low=0.5, high=2.0), 50)
    np.testing.assert_array_equal(limits["actuator_forcerange"][:, :, 0], -limits["actuator_forcerange"][:, :, 1])
    inertia, nominal = drawn(Inertia(low=0.5, high=2.0), 50)
    factor = np.asarray(inertia["body_inertia"][:, 1:] / nominal["body_inertia"][1:])
    np.testing.assert_allclose(factor, np.repeat(factor[..., :1], 3, axis=-1), rtol=1e-5)


def test_sums_are_uniform_for_each_place():
    masses, nominal = drawn(MassAddition(bodies="torso", low=-1.0, high=2.0))
    assert_uniform(masses["body_mass"][:, 1] - nominal["body_mass"][1], -1, 2)
    np.testing.assert_array_equal(np.delete(masses["body_mass"], 1, axis=1)[0], np.delete(nominal["body_mass"], 1))
    centers, nominal = drawn(MassCenter(bodies=("leg", "foot"), low=-0.02, high=0.03))
    assert_uniform((centers["body_ipos"] - nominal["body_ipos"])[:, 2:], -0.02, 0.03)
    np.testing.assert_array_equal(centers["body_ipos"][0, :2], nominal["body_ipos"][:2])
    zeros, nominal = drawn(JointZeroPosition(low=-0.02, high=0.01))
    assert_uniform(zeros["qpos0"][:, 7:] - nominal["qpos0"][7:], -0.02, 0.01)
    np.testing.assert_array_equal(zeros["qpos0"][0, :7], nominal["qpos0"][:7])


def test_an_encoder_offset_is_normal_or_uniform_or_both():
    offsets = drawn(EncoderOffset(spread=0.1))[0]["encoder_offset"]
    assert_uniform(offsets[:, 7:], -0.1, 0.1)
    assert not np.asarray(offsets[:, :7]).any()
    np.testing.assert_allclose(drawn(EncoderOffset(deviation=0.1))[0]["encoder_offset"][:, 7:].std(), 0.1, rtol=0.05)
    both = drawn(EncoderOffset(deviation=0.1, spread=0.3))[0]["encoder_offset"]
    np.testing.assert_allclose(both[:, 7:].std(), np.sqrt(0.01 + 0.09 / 3), rtol=0.05)


def test_an_action_latency_is_uniform():
    assert_uniform(drawn(ActionLatency(low=0.003, high=0.01))[0]["action_latency"], 0.003, 0.01)


def test_a_site_is_tilted_turned_and_moved_by_normal_amounts():
    values, _ = drawn(SiteAlignment(site="imu", tilt=0.05, yaw=0.1, shift=0.02), 4000)
    quat = np.asarray(values["site_quat"][:, 0], float)
    turn = np.array([_rotation_vector(each) for each in quat])
    np.testing.assert_allclose(turn.std(axis=0), [0.05, 0.05, 0.1], rtol=0.06)
    np.testing.assert_allclose(np.linalg.norm(quat, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(values["site_pos"][:, 0].std(axis=0), 0.02, rtol=0.06)
    default = np.asarray(drawn(SiteAlignment(site="imu"), 4000)[0]["site_quat"][:, 0], float)
    turn = np.array([_rotation_vector(each) for each in default])
    np.testing.assert_allclose(np.rad2deg(turn.std(axis=0)), [2, 2, 0], rtol=0.06, atol=1e-6)


def _rotation_vector(quat):
    turn = np.empty(3)
    mujoco.mju_quat2Vel(turn, quat, 1.0)
    return turn


def test_the_sizes_and_the_place_of_a_collision_body_vary():
    values, nominal = drawn(CollisionBody(geoms="sole", low=0.9, high=1.2, shift=0.01))
    assert_uniform(values["geom_size"][:, 3, :2] / nominal["geom_size"][3, :2], 0.9, 1.2)
    assert_uniform(values["geom_pos"][:, 3] - nominal["geom_pos"][3], -0.01, 0.01)
    for name in ("geom_size", "geom_pos"):
        np.testing.assert_array_equal(values[name][0, :3], nominal[name][:3])


def test_the_spread_follows_the_curriculum():
    wide = Armature(low=Ramp(1.0, 0.5), high=Ramp(1.0, 2.0))
    for level, low, high in [(0.0, 1.0, 1.0), (0.5, 0.75, 1.5), (1.0, 0.5, 2.0)]:
        values, nominal = drawn(wide, level=jnp.array(level))
        assert_uniform(values["dof_armature"][:, 6:] / nominal["dof_armature"][6:], low, high)
    offsets = drawn(EncoderOffset(spread=Ramp(0.0, 0.2)), level=jnp.array(0.5))[0]["encoder_offset"]
    assert_uniform(offsets[:, 7:], -0.1, 0.1)


EVERY = [
    StaticFriction(),
    Armature(),
    JointDamping(),
    JointZeroPosition(),
    PositionGain(),
    VelocityGain(),
    TorqueLimit(),
    FloorFriction(),
    MassAddition(bodies="torso"),
    MassMultiplication(),
    Inertia(),
    MassCenter(),
    SiteAlignment(site="imu", yaw=0.1, shift=0.01),
    CollisionBody(geoms="sole"),
    EncoderOffset(deviation=0.1, spread=0.1),
    ActionLatency(high=0.1),
]


@pytest.mark.parametrize("randomizer", EVERY, ids=lambda each: type(each).__name__)
def test_each_episode_draws_anew_or_an_env_keeps_its_draw_for_a_run(randomizer):
    nominal = {name: jnp.asarray(Model(MODEL).array(name)) for name in randomizer.fields}
    for per_run in (False, True):
        each = replace(randomizer, per_run=per_run)
        one, two, other = (
            each(nominal, legged.legged(key=jax.random.key(key), run_key=jax.random.key(run_key)))
            for key, run_key in [(1, 9), (2, 9), (2, 8)]
        )
        same = all((one[name] == two[name]).all() for name in one)
        assert same is per_run
        assert any((two[name] != other[name]).any() for name in two) is per_run
        assert {name: value.dtype for name, value in one.items()} == {n: v.dtype for n, v in nominal.items()}


# Without effect, or impossible

NO_DAMPING = LEGGED.replace('damping="0.5"', "").replace('frictionloss="0.3"', "")
WITHOUT_EFFECT = [
    (JointDamping(), NO_DAMPING, "JointDamping scales dof_damping, which is zero"),
    (StaticFriction(), NO_DAMPING, "StaticFriction scales dof_frictionloss, which is zero"),
    (StaticFriction(joints="ankle"), LEGGED, "StaticFriction scales dof_frictionloss, which is zero"),
    (PositionGain(), LEGGED, "PositionGain scales actuator_biasprm, which is zero"),
    (VelocityGain(), LEGGED, "VelocityGain scales actuator_biasprm, which is zero"),
    (TorqueLimit(), LEGGED, "TorqueLimit scales actuator_forcerange, which is zero"),
    (MassAddition(bodies="foot"), LEGGED, "of which 'foot' has only 0.3 kg"),
    (FloorFriction(floor="hull"), LEGGED, "nothing can touch the geom 'hull' with friction"),
    (FloorFriction(), LEGGED.replace("<geom ", '<geom condim="1" '), "nothing can touch the geom 'floor'"),
    (CollisionBody(geoms=("sole", "floor")), LEGGED, "holds a plane, height field or mesh"),
    (EncoderOffset(deviation=0.1), LEGGED, "draws 'encoder_offset', but no term of the task reads it"),
]


@pytest.mark.parametrize(
    ("randomizer", "model", "message"), WITHOUT_EFFECT, ids=[f"{case[0]}"[:40] for case in WITHOUT_EFFECT]
)
@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_a_randomizer_that_would_change_nothing_is_refused_when_the_task_is_built(backend, randomizer, model, message):
    task = replace(TASK, model=model, actuator=None, randomizers={"it": randomizer})
    with pytest.raises(InvalidConfigError, match=message):
        ksim_envs.make_functional(task, 2, backend=backend)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Armature(low=2.0, high=1.0),
        lambda: Armature(low=-0.5, high=1.0),
        lambda: Armature(low=Ramp(1.0, 3.0), high=2.0),
        lambda: MassMultiplication(low=0.0, high=1.0),  # as ksim's default by name
        lambda: Inertia(low=0.0, high=1.0),
        lambda: CollisionBody(geoms="sole", low=0.0),
        lambda: CollisionBody(geoms="sole", shift=-0.1),
        lambda: MassCenter(low=0.1, high=np.nan),
        lambda: ActionLatency(low=-0.01, high=0.01),
        lambda: EncoderOffset(deviation=-0.1),
        lambda: SiteAlignment(site="imu", tilt=-0.1),
        lambda: FloorFriction(low=-0.1),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(InvalidConfigError):
        make()


@pytest.mark.parametrize(
    ("randomizer", "near"),
    [
        (Armature(joints="hipp"), "hip"),
        (MassAddition(bodies="torsoo"), "torso"),
        (MassCenter(bodies="leggs"), "leg"),
        (SiteAlignment(site="imus"), "imu"),
        (CollisionBody(geoms="soles"), "sole"),
        (FloorFriction(floor="flor"), "floor"),
        (TorqueLimit(actuators="ankel"), "ankle"),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_misspelt_name_gets_the_near_miss(randomizer, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        drawn(randomizer, 1)


@dataclass(frozen=True)
class Unchanged:
    """A randomizer that leaves a field as it is."""

    field: str

    @property
    def fields(self):
        return (self.field,)

    def __call__(self, values, ctx):
        return values


@pytest.mark.parametrize("backend", ["native", "mjx"])
@pytest.mark.parametrize("field", ["geom_type", "geom_rbound", "body_subtreemass", "jnt_limited", "cam_fovy"])
def test_a_field_that_cannot_differ_from_env_to_env_is_refused_when_the_task_is_built(backend, field):
    task = replace(TASK, actuator=None, randomizers={"it": Unchanged(field)})
    with pytest.raises(InvalidConfigError, match=f"'{field}' cannot differ from env to env; those that can: actuator_"):
        ksim_envs.make_functional(task, 2, backend=backend)


# Floor friction

PAIRS = LEGGED.replace(
    "<sensor>",
    '<contact><pair geom1="floor" geom2="sole" condim="3" friction="0.9 0.9 0.01 0.001 0.001"/>'
    '<pair geom1="shin" geom2="sole" condim="3" friction="0.7 0.7 0.01 0.001 0.001"/></contact><sensor>',
)


def friction_of_contacts(model, values):
    """The sliding friction of the contacts of a model with these fields, as it lies on the floor in C MuJoCo."""
    model = copy.copy(model)
    for name, value in values.items():
        getattr(model, name)[:] = value
    data = mujoco.MjData(model)
    data.qpos[2] = 0.435
    mujoco.mj_forward(model, data)
    with_floor = [contact.friction[0] for contact in data.contact if 0 in contact.geom]
    assert with_floor
    return with_floor


@pytest.mark.parametrize(
    "model",
    [
        LEGGED,
        LEGGED.replace('friction="0.8', 'priority="1" friction="0.8'),
        LEGGED.replace('name="floor"', 'name="floor" priority="1"'),
        LEGGED.replace('name="floor"', 'name="floor" condim="1"'),
        PAIRS,
    ],
    ids=["equal priorities", "foot decides", "floor decides", "foot has the dimensions", "explicit pairs"],
)
@pytest.mark.parametrize("friction", [0.1, 0.5, 1.5])
def test_contacts_with_the_floor_have_the_friction_that_was_drawn(model, friction):
    model = mujoco.MjModel.from_xml_string(model)
    randomizer = FloorFriction(low=friction, high=friction)
    nominal = {name: jnp.asarray(getattr(model, name), jnp.float32) for name in randomizer.fields}
    values = randomizer(nominal, legged.legged(model=Model(model)))
    np.testing.assert_allclose(friction_of_contacts(model, values), friction, rtol=1e-6)
    np.testing.assert_array_equal(values["geom_friction"][:, 1:], nominal["geom_friction"][:, 1:])
    if model.npair:
        np.testing.assert_array_equal(values["pair_friction"][1], nominal["pair_friction"][1])


# What the physics makes of it


def recompiled(randomizer, values):
    """The model that the compiler makes of the changed numbers, for what it takes shortcuts with."""
    spec = mujoco.MjSpec.from_string(LEGGED)
    legged.edit(spec)
    for index, body in enumerate(spec.bodies):
        if "body_ipos" in values and index:
            body.ipos, body.mass, body.explicitinertial = values["body_ipos"][index], MODEL.body_mass[index], True
            body.inertia, body.iquat = MODEL.body_inertia[index], MODEL.body_iquat[index]
    if "site_quat" in values:
        spec.site("imu").quat, spec.site("imu").pos = values["site_quat"][0], values["site_pos"][0]
    return spec.compile()


def changed(randomizer, values):
    """C MuJoCo's model with these fields and what follows from them."""
    if not {"body_ipos", "site_quat"}.isdisjoint(values):
        return recompiled(randomizer, values)
    model = copy.copy(MODEL)
    for name, value in values.items():
        getattr(model, name)[:] = value
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


EFFECTIVE = [
    StaticFriction(low=0.0, high=4.0),
    Armature(low=0.5, high=3.0),
    JointDamping(low=0.0, high=5.0),
    JointZeroPosition(low=-0.1, high=0.1),
    PositionGain(low=0.3, high=2.0),
    VelocityGain(low=0.0, high=3.0),
    TorqueLimit(low=0.1, high=1.0),
    FloorFriction(low=0.05, high=0.5),
    MassAddition(bodies="torso", low=-1.0, high=3.0),
    MassMultiplication(low=0.5, high=2.0),
    Inertia(low=0.3, high=3.0),
    MassCenter(low=-0.05, high=0.05),
    SiteAlignment(site="imu", tilt=0.3, yaw=0.5, shift=0.05),
    CollisionBody(geoms="sole", low=0.8, high=1.2, shift=0.01),
]


@pytest.mark.parametrize("randomizer", EFFECTIVE, ids=lambda each: type(each).__name__)
def test_a_step_with_the_drawn_fields_is_that_of_c_mujoco(backend, randomizer):
    engine, (qpos, qvel) = legged.engine(backend), legged.moving()
    qpos[:, 2] = 0.432  # the foot touches the floor in most rows
    values, nominal = drawn(randomizer, NUM_ENVS)
    ctrl = np.tile([0.5, -0.4], (NUM_ENVS, 1, 1))
    plain = legged.rows(engine.step(engine.start(qpos, qvel), ctrl))
    after = legged.rows(engine.step(engine.start(qpos, qvel, values), ctrl, fields=values))
    for row in range(NUM_ENVS):
        model = changed(randomizer, {name: np.asarray(value[row]) for name, value in values.items()})
        data = legged.in_c(model, qpos[row], qvel[row])
        data.ctrl[:] = ctrl[row, 0]
        mujoco.mj_step(model, data, NUM_SUBSTEPS)
        for name in ("qpos", "qvel", "sensordata"):
            np.testing.assert_allclose(
                getattr(after, name)[row],
                getattr(data, name),
                rtol=5 * engine.tolerance,
                atol=5 * engine.tolerance,
                err_msg=name,
            )
    assert max(np.abs(getattr(after, name) - getattr(plain, name)).max() for name in ("qvel", "sensordata")) > 1e-3


TASK = Task(
    model=LEGGED,
    frame_skip=NUM_SUBSTEPS,
    episode_length=4,
    observations={"qpos": Field("qpos"), "qvel": Field("qvel"), "gyro": Field("sensordata")},
    rewards={"alive": Alive(1.0)},
    actuator=Position(gains=GAINS),
    randomizers={
        "friction": FloorFriction(),
        "mass": MassMultiplication(per_run=True),
        "payload": MassAddition(bodies="torso"),
        "centre": MassCenter(),
        "armature": Armature(),
        "gain": PositionGain(),
        "imu": SiteAlignment(site="imu"),
    },
)


def test_all_at_once_move_both_backends_alike_over_episodes():
    found = {}
    for name in ("native", "mjx"):
        core = ksim_envs.make_functional(TASK, NUM_ENVS, backend=name)
        state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(NUM_ENVS, bool))
        for _ in range(6):
            state, result = core.programs.step(state, np.full((NUM_ENVS, 2), 0.3, np.float32))
            assert not result.info["diverged"].any()
        found[name] = state
    np.testing.assert_allclose(found["mjx"].obs_EL, found["native"].obs_EL, rtol=2e-3, atol=2e-3)
    for name, values in found["native"].model_fields.items():
        np.testing.assert_allclose(found["mjx"].model_fields[name], values, rtol=1e-6, err_msg=name)


def test_a_run_keeps_what_a_randomizer_per_run_drew_over_resets():
    per_run = replace(TASK, randomizers={"run": MassMultiplication(per_run=True, low=0.5, high=2.0)})
    per_episode = replace(TASK, randomizers={"episode": MassMultiplication(low=0.5, high=2.0)})
    for task, is_kept in [(per_run, True), (per_episode, False)]:
        core = ksim_envs.make_functional(task, NUM_ENVS, backend="native")
        state, step = core.reset(core.keys(0)), jax.jit(core.step)
        first = np.asarray(state.model_fields["body_mass"])
        for _ in range(5):
            state, _ = step(state, jnp.zeros((NUM_ENVS, 2)))
        assert (state.episode_E == 2).all()
        assert np.array_equal(first, state.model_fields["body_mass"]) is is_kept
        assert len(np.unique(first[:, 1])) == NUM_ENVS
