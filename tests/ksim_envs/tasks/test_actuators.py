"""What each actuator makes of an action, by hand; and the torques that come of it, substep by substep, in C MuJoCo."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.physics import load_model
from ksim_envs.tasks.actuators import DelayedControl, Noisy, Position, SpeedLimited, Torque, TorqueNoise
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.motors import FEETECH_STS3250, Gains, Motor
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.randomizers import ActionLatency, EncoderOffset
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.scales import Ramp
from ksim_envs.tasks.targets import Angles, AroundPose, WithVelocity
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import call, init
from ksim_envs.types import View
from tests.ksim_envs.tasks import legged
from tests.ksim_envs.tasks.by_hand import view
from tests.ksim_envs.tasks.legged import GAINS, LEGGED, MODEL, MOTORS, NUM_ENVS, NUM_SUBSTEPS, TIMESTEP

KP, KD = np.array([30.0, 20.0]), np.array([1.5, 0.8])
LIMIT = np.array([4.0, 3.0])
POSITION = Position(gains=GAINS, targets=AroundPose(scale=0.5))
STANDING = view(qpos=MODEL.qpos0, qvel=np.zeros(MODEL.nv))
MOTOR = Motor(
    peak_torque=3.5,
    rated_torque=1.0,
    rated_speed=1.0,
    no_load_speed=1.5,
    armature=0.01,
    frictionloss=0.1,
    gear_ratio=9.0,
    mass=1.0,
)


def drives(actuator, actions, ctx=None, seen=STANDING):
    """The drives of the control steps of an episode."""
    ctx = ctx or legged.legged()
    carry, found = init(actuator, seen, replace(ctx, action=jnp.zeros_like(jnp.asarray(actions[0])))), []
    for step, action in enumerate(actions):
        now = replace(ctx, action=jnp.asarray(action), step=jnp.array(step), key=jax.random.key(step))
        drive, carry = call(actuator, carry, seen, now)
        found.append(drive)
    return found


def controls(*args, **keywords):
    """Their controls, (steps * substeps, nu)."""
    steps = [np.broadcast_to(drive.ctrl, (NUM_SUBSTEPS, 2)) for drive in drives(*args, **keywords)]
    return np.concatenate(steps)


def stepped_with_torque(qpos, qvel, law):
    """C MuJoCo's qpos and qvel after a control step in which `law(substep, angles, speeds)` is the torque."""
    data = legged.in_c(MOTORS, qpos, qvel)
    for substep in range(NUM_SUBSTEPS):
        data.qfrc_applied[6:] = law(substep, data.qpos[7:].copy(), data.qvel[6:].copy())
        mujoco.mj_step(MOTORS, data)
    return np.concatenate([data.qpos, data.qvel])


def assert_torques(backend, actuator, action_EA, law, **fields):
    """A control step of every row on a backend has the effect of these torques in C MuJoCo.

    Args:
        backend: the backend's name.
        actuator: the actuator.
        action_EA: an action for each row.
        law: torques from the row, the substep, the angles and the speeds.
        fields: this episode's own model fields, each for every row.
    """
    engine, (qpos, qvel) = legged.engine(backend), legged.moving()

    def drive(action, qpos, qvel, fields, key):
        ctx, seen = legged.legged(action=action, key=key, model_fields=fields), View(qpos=qpos, qvel=qvel)
        return call(actuator, init(actuator, seen, ctx), seen, replace(ctx, step=jnp.array(0)))[0]

    keys = jax.random.split(jax.random.key(0), NUM_ENVS)
    fields = {name: jnp.asarray(value, jnp.float32) for name, value in fields.items()}
    made = jax.vmap(drive)(jnp.asarray(action_EA, jnp.float32), qpos, qvel, fields, keys)
    engine_fields = {name: value for name, value in {**fields, **made.model_fields}.items() if name in legged.FIELDS}
    after = legged.rows(engine.step(engine.start(qpos, qvel, engine_fields), made.ctrl, fields=engine_fields))
    expected = np.stack(
        [stepped_with_torque(qpos[row], qvel[row], lambda *now, row=row: law(row, *now)) for row in range(NUM_ENVS)]
    )
    found = np.concatenate([after.qpos, after.qvel], axis=1)
    np.testing.assert_allclose(found, expected, rtol=engine.tolerance, atol=engine.tolerance)
    return made


ACTIONS = np.array([[0.3, -0.2], [1.0, 1.0], [-1.0, 0.5], [0.0, 0.0]], np.float32)


# PD control


def pd(target, angle, speed, target_speed=0.0, kp=KP, kd=KD, limit=LIMIT, more=0.0):
    return np.clip(kp * (target - angle) + kd * (target_speed - speed) + more, -limit, limit)


def test_position_control_is_a_pd_law_in_newton_metres_in_every_substep(backend):
    assert_torques(backend, POSITION, ACTIONS, lambda row, _, angle, speed: pd(0.5 * ACTIONS[row], angle, speed))


def test_position_control_limits_the_torque_and_not_the_error(backend):
    gains = {"*": Gains(kp=500.0, kd=0.1, max_torque=2.0)}
    stiff = Position(gains=gains, targets=AroundPose(scale=0.5))
    given = {
        "actuator_gainprm": legged.nominal("actuator_gainprm"),
        "actuator_biasprm": legged.nominal("actuator_biasprm"),
        "actuator_forcerange": np.tile([-2.0, 2.0], (NUM_ENVS, 2, 1)),
    }
    given["actuator_gainprm"][..., 0], given["actuator_biasprm"][..., 1:3] = 500.0, (-500.0, -0.1)
    assert_torques(
        backend,
        stiff,
        ACTIONS,
        lambda row, _, angle, speed: pd(0.5 * ACTIONS[row], angle, speed, kp=500.0, kd=0.1, limit=2.0),
        **given,
    )


def test_a_target_velocity_enters_the_pd_law(backend):
    actuator = Position(gains=GAINS, targets=WithVelocity(positions=AroundPose(scale=0.5), max_velocity=2.0))
    speeds = np.array([[0.5, -0.5], [1.0, 0.0], [-1.0, 1.0], [0.2, 0.3]])
    assert_torques(
        backend,
        actuator,
        np.concatenate([ACTIONS, speeds], axis=1),
        lambda row, _, angle, speed: pd(0.5 * ACTIONS[row], angle, speed, 2.0 * speeds[row]),
    )


def test_a_single_env_takes_as_many_actions_as_the_targets_want():
    actuator = Position(gains=GAINS, targets=WithVelocity(positions=AroundPose(scale=0.5), max_velocity=2.0))
    with contextlib.closing(
        ksim_envs.KsimEnv(replace(TASK, actuator=actuator, randomizers={}), backend="native")
    ) as env:
        env.reset(seed=0)
        assert env.action_space.shape == (4,)
        env.step(env.action_space.sample())


def test_position_control_sees_what_the_encoder_reads(backend):
    offset = np.zeros((NUM_ENVS, MODEL.nq))
    offset[:, 7:] = np.random.default_rng(1).uniform(-0.1, 0.1, (NUM_ENVS, 2))
    assert_torques(
        backend,
        POSITION,
        ACTIONS,
        lambda row, _, angle, speed: pd(0.5 * ACTIONS[row], angle + offset[row, 7:], speed),
        encoder_offset=offset,
    )


def test_the_edited_model_has_the_gains_and_joint_torques_and_a_second_edit_changes_nothing():
    def edited(times):
        spec = mujoco.MjSpec.from_string(LEGGED)
        for _ in range(times):
            Position(gains={"*": Gains(kp=7.0, kd=0.5), "ankle": Gains(kp=9.0, kd=0.25, max_torque=2.0)}).edit_model(
                spec
            )
        return spec.compile()

    once, twice = edited(1), edited(2)
    assert once.actuator_gear[:, 0].tolist() == [1, 1]
    assert once.actuator_gainprm[:, 0].tolist() == [7, 9]
    assert once.actuator_biasprm[:, :3].tolist() == [[0, -7, -0.5], [0, -9, -0.25]]
    assert once.actuator_forcerange.tolist() == [[-20, 20], [-2, 2]], "20 N m is the motor's own: gear times control"
    assert once.actuator_forcelimited.all() and not once.actuator_ctrllimited.any()
    for name in ("gear", "gainprm", "biasprm", "forcerange", "forcelimited", "ctrllimited"):
        np.testing.assert_array_equal(getattr(once, f"actuator_{name}"), getattr(twice, f"actuator_{name}"))


def test_a_motor_without_a_limit_stays_without_one():
    spec = mujoco.MjSpec.from_string(LEGGED.replace('ctrlrange="-1 1"', ""))
    Position(gains={"*": Gains(kp=7.0, kd=0.5)}).edit_model(spec)
    assert not spec.compile().actuator_forcelimited.any()


@pytest.mark.parametrize(
    ("gains", "error", "message"),
    [
        ({"hip": Gains(kp=1.0, kd=0.0)}, InvalidConfigError, "'ankle' has no entry among"),
        ({"*": Gains(kp=1.0, kd=0.0), "hipp": Gains(kp=1.0, kd=0.0)}, UnknownNameError, "Did you mean 'hip'"),
    ],
    ids=["too few", "misspelt"],
)
def test_every_joint_needs_gains_and_every_name_a_joint(gains, error, message):
    with pytest.raises(error, match=message):
        load_model(LEGGED, "fast", edit=Position(gains=gains).edit_model)


@pytest.mark.parametrize("wrong", [{"kp": 0.0}, {"kd": -1.0}, {"kp": np.nan}, {"max_torque": 0.0}], ids=str)
def test_gains_that_are_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError, match="kp and max_torque must be positive"):
        Gains(**{"kp": 1.0, "kd": 1.0, **wrong})


def test_position_control_needs_joints_to_drive():
    tendon = LEGGED.replace(
        "<actuator>", '<tendon><fixed name="t"><joint joint="hip" coef="1"/></fixed></tendon><actuator>'
    ).replace('joint="hip" gear="20"', 'tendon="t"')
    with pytest.raises(InvalidConfigError, match="actuator 'hip' drives no hinge or slide joint"):
        Model(mujoco.MjModel.from_xml_string(tendon)).driven_joints()


# Torque


def test_torque_control_is_the_scaled_action_within_the_control_range():
    actuator = Torque(scale=0.25)
    low, high = actuator.bounds(Model(MOTORS))
    assert (low.tolist(), high.tolist()) == ([-4, -4], [4, 4])
    (drive,) = drives(actuator, [[2.0, -1.0]])
    np.testing.assert_allclose(drive.ctrl, [[0.5, -0.25]])


def test_torque_control_gives_gear_times_control_to_the_joint(backend):
    """The engine's PD controllers are made plain motors of gear 1 by their fields."""
    gain, law = legged.nominal("actuator_gainprm"), legged.nominal("actuator_biasprm")
    gain[..., 0], law[...] = 1.0, 0.0
    assert_torques(
        backend,
        Torque(scale=2.0),
        ACTIONS,
        lambda row, *_: 2.0 * ACTIONS[row],
        actuator_gainprm=gain,
        actuator_biasprm=law,
    )


# Noise


def test_action_noise_and_bias_have_their_deviations_and_the_bias_stays_for_an_episode():
    actuator = Noisy(actuator=Torque(), noise=0.1, bias=Ramp(0.0, 0.6))

    def episode(key):
        ctx = legged.legged(key=key, level=jnp.array(0.5))
        return jnp.stack(
            [
                call(actuator, init(actuator, STANDING, ctx.stream("init")), STANDING, ctx.stream(str(step)))[0].ctrl[0]
                for step in range(2)
            ]
        )

    found = np.asarray(jax.vmap(episode)(jax.random.split(jax.random.key(0), 4000)))
    noise, bias = (found[:, 0] - found[:, 1]) / np.sqrt(2), found.mean(axis=1)
    np.testing.assert_allclose(noise.std(axis=0), 0.1, rtol=0.06)
    np.testing.assert_allclose(bias.std(axis=0), np.sqrt(0.3**2 + 0.1**2 / 2), rtol=0.06)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), 0, atol=0.02)


def test_torque_noise_is_a_torque_before_the_limit(backend):
    noisy = TorqueNoise(actuator=POSITION, noise=1.0, bias=0.5)
    made = {}

    def law(row, _, angle, speed):
        return pd(0.5 * ACTIONS[row], angle, speed, more=made["torque"][row])

    keys = jax.random.split(jax.random.key(0), NUM_ENVS)

    def torque(key):
        ctx = legged.legged(key=key)
        return call(noisy, init(noisy, STANDING, ctx), STANDING, ctx)[0].model_fields["actuator_biasprm"][:, 0]

    made["torque"] = np.asarray(jax.vmap(torque)(keys), float)
    assert np.abs(made["torque"]).max() > 1
    drive = assert_torques(backend, noisy, ACTIONS, law)
    np.testing.assert_array_equal(drive.model_fields["actuator_biasprm"][:, :, 0], np.float32(made["torque"]))


def test_torque_noise_has_its_deviation():
    noisy = TorqueNoise(actuator=Torque(), noise=0.3, bias=0.4)

    def torque(key):
        ctx = legged.legged(key=key)
        return call(noisy, init(noisy, STANDING, ctx), STANDING, ctx)[0].model_fields["actuator_biasprm"][:, 0]

    found = np.asarray(jax.vmap(torque)(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(found.std(axis=0), 0.5, rtol=0.06)


# Motors whose torque falls with speed


def test_a_motor_gives_less_torque_the_faster_its_joint_turns(backend):
    """Highest torque 2 (1.5 - speed) up to 3.5 N m; the speed is that at the control step's start."""
    _, qvel = legged.moving()
    start = qvel[:, 6:].astype(float)
    highest, lowest = np.clip(2 * (1.5 - start), 0, 3.5), -np.clip(2 * (1.5 + start), 0, 3.5)
    limits = np.minimum(highest, LIMIT), np.maximum(lowest, -LIMIT)
    assert ((limits[0] < LIMIT) | (limits[1] > -LIMIT)).all()

    def law(row, _, angle, speed):
        torque = KP * (0.5 * ACTIONS[row] - angle) - KD * speed
        return np.clip(torque, limits[1][row], limits[0][row])

    assert_torques(backend, SpeedLimited(actuator=POSITION, motors={"*": MOTOR}), ACTIONS, law)


def test_the_limits_of_a_motor_are_before_its_gear_also_where_that_is_negative():
    limited = SpeedLimited(actuator=Torque(), motors={"*": MOTOR})
    model = load_model(LEGGED, "fast", edit=limited.edit_model)
    np.testing.assert_allclose(model.actuator_forcerange, [[-3.5 / 20, 3.5 / 20], [-0.35, 0.35]])
    seen = view(qpos=MODEL.qpos0, qvel=[0, 0, 0, 0, 0, 0, 1.0, 1.0])  # torque in [-3.5, 1.0] N m
    (drive,) = drives(limited, [[0.0, 0.0]], legged.legged(model=Model(model)), seen)
    np.testing.assert_allclose(
        drive.model_fields["actuator_forcerange"], [[-3.5 / 20, 1.0 / 20], [-1.0 / 10, 3.5 / 10]], rtol=1e-6
    )


def test_a_servo_is_no_motor_to_limit():
    with pytest.raises(InvalidConfigError, match="SpeedLimited has a servo for 'ankle'"):
        SpeedLimited(actuator=Torque(), motors={"hip": MOTOR, "ankle": FEETECH_STS3250})


# Latency and lost actions


def ramp(num_steps):
    """An action in each control step that tells which one it is."""
    return [[float(step), -float(step)] for step in range(num_steps)]


@pytest.mark.parametrize("late", [0, 1, 4, 5, 7, 12])
def test_controls_arrive_so_many_substeps_late_also_more_than_a_control_step(late):
    actuator = DelayedControl(actuator=Torque(), longest=12 * TIMESTEP)  # the queue holds what rounding makes of it
    ctx = legged.legged(model_fields={"action_latency": jnp.float32(late * TIMESTEP + 0.3 * TIMESTEP)})
    found = controls(actuator, ramp(6), ctx)[:, 0]
    sent = np.arange(6 * NUM_SUBSTEPS) // NUM_SUBSTEPS
    np.testing.assert_array_equal(found, np.concatenate([np.zeros(late), sent[: len(sent) - late]]))


def test_the_first_action_arrives_at_once():
    actuator = DelayedControl(actuator=Torque(), longest=0.02)
    ctx = legged.legged(model_fields={"action_latency": jnp.float32(0.02)})
    found = controls(actuator, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], ctx)
    np.testing.assert_array_equal(found[::NUM_SUBSTEPS], [[1, 2], [1, 2], [3, 4]])


def test_a_latency_that_the_queue_cannot_hold_is_no_number():
    actuator = DelayedControl(actuator=Torque(), longest=0.01)
    ctx = legged.legged(model_fields={"action_latency": jnp.float32(0.02)})
    assert np.isnan(controls(actuator, ramp(1), ctx)).all()


def test_lost_actions_leave_a_joint_with_the_one_before():
    actuator = DelayedControl(actuator=Torque(), drop=Ramp(0.0, 0.5))
    found = controls(actuator, ramp(400), legged.legged(level=jnp.array(0.5)))[::NUM_SUBSTEPS]
    kept = np.concatenate([[[True, True]], np.diff(np.abs(found), axis=0) > 0])
    assert (np.abs(found)[kept] == np.repeat(np.arange(400.0)[:, None], 2, axis=1)[kept]).all()
    lost = 1 - kept.mean(axis=0)
    np.testing.assert_allclose(lost, 0.25, atol=0.09)
    assert (kept[:, 0] != kept[:, 1]).any(), "joints lose actions by themselves"


@pytest.mark.parametrize("wrong", [{"longest": -0.1}, {"longest": np.inf}, {"drop": 1.5}, {"drop": -0.1}], ids=str)
def test_delays_that_are_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError):
        DelayedControl(actuator=Torque(), **wrong)


# In a task

STACK = DelayedControl(
    actuator=SpeedLimited(
        actuator=TorqueNoise(actuator=Noisy(actuator=POSITION, noise=0.01), noise=0.1), motors={"*": MOTOR}
    ),
    longest=0.01,
    drop=0.1,
)
TASK = Task(
    model=LEGGED,
    frame_skip=NUM_SUBSTEPS,
    episode_length=50,
    observations={"qpos": Field("qpos"), "qvel": Field("qvel")},
    rewards={"alive": Alive(1.0)},
    actuator=STACK,
    randomizers={
        "latency": ActionLatency(low=0.003, high=0.01),
        "encoders": EncoderOffset(deviation=0.01),
    },
)


def test_a_stack_of_actuators_moves_both_backends_alike():
    found = {}
    for backend in ("native", "mjx"):
        core = ksim_envs.make_functional(TASK, NUM_ENVS, backend=backend)
        state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(NUM_ENVS, bool))
        for index in range(4):
            state, result = core.programs.step(state, ACTIONS[(np.arange(NUM_ENVS) + index) % NUM_ENVS])
            assert not result.info["diverged"].any()
        found[backend] = np.asarray(state.obs_EL)
    assert len(np.unique(found["native"], axis=0)) == NUM_ENVS
    np.testing.assert_allclose(found["mjx"], found["native"], rtol=2e-3, atol=2e-3)


def test_a_latency_longer_than_the_queue_is_a_fault_of_its_row_from_the_start():
    class Late:
        fields = ("action_latency",)

        def __call__(self, values, ctx):
            return {"action_latency": jnp.float32(0.02)}

    core = ksim_envs.make_functional(
        replace(TASK, randomizers={"latency": Late()}, actuator=STACK), NUM_ENVS, backend="native"
    )
    state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(NUM_ENVS, bool))
    assert core.programs.step(state, np.zeros((NUM_ENVS, 2), np.float32))[1].info["diverged"].all()


@pytest.mark.parametrize("name", ["latency", "encoders"])
def test_a_drawn_quantity_that_no_term_reads_is_refused(name):
    task = replace(TASK, actuator=Torque(), randomizers={name: TASK.randomizers[name]})
    with pytest.raises(InvalidConfigError, match="no term of the task reads it, so it has no effect"):
        ksim_envs.make_functional(task, NUM_ENVS, backend="native")


def test_an_actuator_may_not_set_fields_from_which_constants_follow():
    class Geared(Torque):
        fields = ("actuator_gear",)

    with pytest.raises(InvalidConfigError, match="'actuator_gear' in every step, but constants"):
        ksim_envs.make_functional(replace(TASK, actuator=Geared(), randomizers={}), 1, backend="native")


def test_an_actuator_must_set_the_fields_that_it_promises():
    class Forgetful(Torque):
        fields = ("actuator_forcerange",)

    with pytest.raises(InvalidConfigError, match="sets the model fields \\[\\]; its `fields` say"):
        ksim_envs.make_functional(replace(TASK, actuator=Forgetful(), randomizers={}), 1, backend="native")


def test_bounds_are_those_of_the_joints_where_actions_are_angles():
    core = ksim_envs.make_functional(
        replace(TASK, actuator=Position(gains=GAINS, targets=Angles()), randomizers={}), 1, backend="native"
    )
    np.testing.assert_allclose(np.rad2deg(core.action_bounds), [[-60, -40], [90, 40]], rtol=1e-6)
