"""When events happen, what they push with, and that the physics feels it as it says."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.events import AngularPush, ForcePush, JointPerturbation, Jump, LinearPush, SixAxisPush
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.scales import Ramp
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import call, init
from ksim_envs.types import Push
from tests import tiny
from tests.ksim_envs.tasks import legged
from tests.ksim_envs.tasks.by_hand import view
from tests.ksim_envs.tasks.legged import DT, LEGGED, MODEL, NUM_ENVS, NUM_SUBSTEPS

EVERY = (DT, DT)
TILTED = [np.cos(0.4), 0, np.sin(0.4), 0]  # 0.8 rad about y
STATE = view(qpos=[0, 0, 1, *TILTED, 0, 0], qvel=np.zeros(MODEL.nv))
NUM_DRAWS = 4000


def pushes(event, num_steps, seed=0, **changes):
    """The pushes of an episode's control steps."""
    ctx = legged.legged(**changes)
    carry = init(event, STATE, replace(ctx, key=jax.random.key(seed)))

    def step(carry, index):
        now = replace(ctx, step=index, key=jax.random.fold_in(jax.random.key(seed + 1), index))
        push, carry = call(event, carry, STATE, now)
        return carry, push

    return jax.tree.map(np.asarray, jax.lax.scan(step, carry, jnp.arange(num_steps))[1])


def kicks(event, **changes):
    """What the event adds to qvel, in many of its occurrences."""
    push = pushes(event, NUM_DRAWS + 1, **changes)
    assert not push.qvel_kick[0].any(), "the first comes after an interval"
    assert not push.xfrc_applied.any()
    return push.qvel_kick[1:]


def assert_uniform(values, low, high):
    assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6 * max(1, abs(high))
    assert values.min() < low + 0.02 * (high - low) and values.max() > high - 0.02 * (high - low)
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=5 * (high - low) / np.sqrt(12 * len(values)))
    np.testing.assert_allclose(values.std(), (high - low) / np.sqrt(12), rtol=0.06)


# When


def test_an_event_happens_after_intervals_that_are_drawn_anew():
    """Intervals between 0.1 and 0.3 s, which are 5 to 15 control steps."""
    push = pushes(LinearPush(interval=(0.1, 0.3), speed=(1.0, 1.0)), 20_000)
    when = np.flatnonzero(push.qvel_kick.any(axis=1))
    assert 5 <= when[0] <= 15
    steps = np.diff(when)
    assert steps.min() == 5 and steps.max() == 15
    np.testing.assert_allclose(steps.mean(), 0.2 / DT, rtol=0.02)
    assert (np.bincount(steps)[6:15] > 0.06 * len(steps)).all()


def test_a_fixed_interval_is_kept_in_the_long_run():
    push = pushes(LinearPush(interval=(0.05, 0.05), speed=(1.0, 1.0)), 1000)  # 2.5 control steps
    when = np.flatnonzero(push.qvel_kick.any(axis=1))
    assert when[:6].tolist() == [3, 5, 8, 10, 13, 15]
    assert len(when) == pytest.approx(1000 / 2.5, abs=1)


def test_envs_are_pushed_at_times_of_their_own():
    first = [
        np.flatnonzero(pushes(Jump(interval=(0.2, 1.0), height=(0.1, 0.1)), 60, seed).qvel_kick.any(axis=1))[0]
        for seed in range(0, 20, 2)
    ]
    assert len(set(first)) > 5


# With what


def test_a_linear_push_is_horizontal_and_of_any_direction():
    kick = kicks(LinearPush(interval=EVERY, speed=(0.5, 2.0)))
    assert not kick[:, 2:].any()
    assert_uniform(np.hypot(kick[:, 0], kick[:, 1]), 0.5, 2.0)
    assert_uniform(np.arctan2(kick[:, 1], kick[:, 0]), -np.pi, np.pi)


def test_an_angular_push_is_about_the_worlds_vertical_however_the_base_is_tilted():
    kick = kicks(AngularPush(interval=EVERY, speed=(0.5, 2.0)))
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.array(TILTED))
    in_world = kick[:, 3:6] @ matrix.reshape(3, 3).T  # qvel has it in the frame of the base
    np.testing.assert_allclose(in_world[:, :2], 0, atol=1e-6)
    assert_uniform(np.abs(in_world[:, 2]), 0.5, 2.0)
    np.testing.assert_allclose((in_world[:, 2] > 0).mean(), 0.5, atol=0.05)
    assert not kick[:, :3].any() and not kick[:, 6:].any()


def test_a_jump_has_the_speed_that_reaches_its_height():
    kick = kicks(Jump(interval=EVERY, height=(0.1, 0.3)))
    assert_uniform(kick[:, 2] ** 2 / (2 * 9.81), 0.1, 0.3)
    assert not np.delete(kick, 2, axis=1).any()


def test_a_jump_is_against_gravity_wherever_that_points():
    model = mujoco.MjModel.from_xml_string(LEGGED)
    model.opt.gravity[:] = (3.0, 0.0, -4.0)
    kick = kicks(Jump(interval=EVERY, height=(0.1, 0.1)), model=Model(model))
    np.testing.assert_allclose(kick[:, :3], np.tile([-0.6, 0.0, 0.8], (NUM_DRAWS, 1)), rtol=1e-5)  # sqrt(2 * 5 * 0.1)


def test_a_push_along_six_axes_has_a_limit_and_a_sign_for_each():
    kick = kicks(SixAxisPush(interval=EVERY, linear=(1.0, 2.0, 0.0), angular=(0.5, 0.0, 3.0), share=(0.2, 1.0)))
    for axis, limit in enumerate((1.0, 2.0, 0.0, 0.5, 0.0, 3.0)):
        if limit == 0:
            assert not kick[:, axis].any()
        else:
            assert_uniform(np.abs(kick[:, axis]), 0.2 * limit, limit)
            np.testing.assert_allclose((kick[:, axis] > 0).mean(), 0.5, atol=0.05)
    assert abs(np.corrcoef(kick[:, 0], kick[:, 1])[0, 1]) < 0.08


def test_a_joint_perturbation_hits_some_joints_with_normal_velocities():
    kick = kicks(JointPerturbation(interval=EVERY, deviation=0.5, probability=0.7))
    assert not kick[:, :6].any()
    hit = kick[:, 6:] != 0
    np.testing.assert_allclose(hit.mean(axis=0), 0.7, atol=0.04)
    np.testing.assert_allclose(kick[:, 6:][hit].std(), 0.5, rtol=0.05)
    only = kicks(JointPerturbation(interval=EVERY, deviation=0.5, joints="ankle"))
    assert not only[:, 6].any() and only[:, 7].all()


def test_a_force_push_lasts_for_its_duration_and_keeps_its_direction():
    """Durations of 2 to 4 control steps, every 10 of them."""
    event = ForcePush(interval=(0.2, 0.2), body="leg", duration=(0.04, 0.08), force=(10.0, 30.0), torque=(1.0, 2.0))
    push = pushes(event, 10 * 1000 + 1)
    assert not push.qvel_kick.any()
    assert not np.delete(push.xfrc_applied, 2, axis=1).any()
    wrench = push.xfrc_applied[1:, 2].reshape(1000, 10, 6)[:, [9, *range(9)]]  # from the moment on
    lengths = wrench.any(axis=2).sum(axis=1)
    wrench = push.xfrc_applied[:, 2]
    starts = np.flatnonzero(wrench.any(axis=1) & ~np.roll(wrench.any(axis=1), 1))
    assert np.diff(starts).min() == np.diff(starts).max() == 10
    for start in starts[:-1]:
        length = int(wrench[start : start + 10].any(axis=1).sum())
        assert 2 <= length <= 4
        assert (wrench[start : start + length] == wrench[start]).all()
    assert set(lengths) <= {0, 1, 2, 3, 4}
    at_start = wrench[starts]
    assert_uniform(np.linalg.norm(at_start[:, :3], axis=1), 10, 30)
    assert_uniform(np.linalg.norm(at_start[:, 3:], axis=1), 1, 2)
    direction = at_start[:, :3] / np.linalg.norm(at_start[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(direction.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose((direction**2).mean(axis=0), 1 / 3, atol=0.04)


def test_the_shortest_force_push_acts_for_one_control_step():
    push = pushes(ForcePush(interval=(0.1, 0.1), body="leg", duration=(0.0, 0.001), force=(1.0, 1.0)), 100)
    acting = push.xfrc_applied[:, 2].any(axis=1)
    assert acting.sum() == 19 and not (acting[1:] & acting[:-1]).any()


SCALED = {
    "linear": LinearPush(interval=EVERY, speed=(1.0, 1.0), scale=Ramp(0.0, 4.0)),
    "angular": AngularPush(interval=EVERY, speed=(1.0, 1.0), scale=Ramp(0.0, 4.0)),
    "six axes": SixAxisPush(interval=EVERY, linear=(1.0, 0.0, 0.0), share=(1.0, 1.0), scale=Ramp(0.0, 4.0)),
    "force": ForcePush(interval=EVERY, body="leg", duration=EVERY, force=(1.0, 1.0), scale=Ramp(0.0, 4.0)),
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize(("level", "strength"), [(0.0, 0.0), (0.25, 1.0), (1.0, 4.0)])
def test_the_strength_follows_the_curriculum(name, level, strength):
    push = pushes(SCALED[name], 20, level=jnp.array(level))
    found = np.linalg.norm(push.qvel_kick, axis=1) + np.linalg.norm(push.xfrc_applied[:, 2], axis=1)
    np.testing.assert_allclose(found[1:], strength, rtol=1e-5)


def test_the_height_of_a_jump_and_the_deviation_of_joints_follow_the_curriculum():
    half = {"level": jnp.array(0.5)}
    jump = kicks(Jump(interval=EVERY, height=(0.4, 0.4), scale=Ramp(0.0, 1.0)), **half)
    np.testing.assert_allclose(jump[:, 2], np.sqrt(2 * 9.81 * 0.2), rtol=1e-5)
    joints = kicks(JointPerturbation(interval=EVERY, deviation=0.4, scale=Ramp(0.0, 1.0)), **half)
    np.testing.assert_allclose(joints[:, 6:].std(), 0.2, rtol=0.05)


# What the physics makes of it


def test_kicks_add_to_the_velocities_and_forces_act_for_the_whole_step(backend):
    """As C MuJoCo has it that gets the same velocities and forces."""
    engine, (qpos, qvel) = legged.engine(backend), legged.moving()
    events = [
        LinearPush(interval=EVERY, speed=(1.0, 2.0)),
        AngularPush(interval=EVERY, speed=(1.0, 2.0)),
        JointPerturbation(interval=EVERY, deviation=1.0),
        ForcePush(interval=EVERY, body="torso", duration=EVERY, force=(20.0, 40.0), torque=(1.0, 2.0)),
    ]
    each = [jax.tree.map(lambda leaf: leaf[1:], pushes(event, NUM_ENVS + 1, seed)) for seed, event in enumerate(events)]
    push = Push(qvel_kick=sum(one.qvel_kick for one in each), xfrc_applied=sum(one.xfrc_applied for one in each))
    after = legged.rows(engine.step(engine.start(qpos, qvel), push=push))
    for row in range(NUM_ENVS):
        data = legged.in_c(MODEL, qpos[row], qvel[row] + push.qvel_kick[row])
        data.xfrc_applied[:] = push.xfrc_applied[row]
        mujoco.mj_step(MODEL, data, NUM_SUBSTEPS)
        np.testing.assert_allclose(after.qpos[row], data.qpos, rtol=engine.tolerance, atol=engine.tolerance)
        np.testing.assert_allclose(after.qvel[row], data.qvel, rtol=engine.tolerance, atol=engine.tolerance)


def test_a_jump_lifts_the_robot_by_its_height(backend):
    engine = legged.engine(backend)
    qpos = np.tile(MODEL.qpos0, (NUM_ENVS, 1))
    qpos[:, 2] = 1.0
    jump = pushes(Jump(interval=EVERY, height=(0.3, 0.3)), NUM_ENVS + 1)
    state = engine.step(engine.start(qpos), push=jax.tree.map(lambda leaf: leaf[1:], jump))
    heights = [legged.rows(state).qpos[:, 2]]
    for _ in range(14):  # it flies up for 0.247 s
        state = engine.step(state)
        heights.append(legged.rows(state).qpos[:, 2])
    np.testing.assert_allclose(np.max(heights, axis=0), 1.3, atol=0.006)


# In a task


def task(**events):
    return Task(
        model=LEGGED,
        frame_skip=NUM_SUBSTEPS,
        episode_length=50,
        observations={"qpos": Field("qpos"), "qvel": Field("qvel")},
        rewards={"alive": Alive(1.0)},
        events=events,
    )


def test_a_task_pushes_its_robot_and_only_when_it_is_time():
    pushed = task(push=LinearPush(interval=(0.06, 0.06), speed=(5.0, 5.0)))
    obs = {}
    for name, each in {"pushed": pushed, "calm": task()}.items():
        core = ksim_envs.make_functional(each, 2, backend="native")
        state, step = core.reset(core.keys(0)), jax.jit(core.step)
        obs[name] = []
        for _ in range(5):
            state, _ = step(state, jnp.zeros((2, 2)))
            obs[name].append(np.asarray(state.obs_EL))
    differs = [not np.array_equal(one, other) for one, other in zip(obs["pushed"], obs["calm"], strict=True)]
    assert differs == [False, False, False, True, True]
    speed = np.linalg.norm((obs["pushed"][3] - obs["calm"][3])[:, 9:11], axis=1)
    assert (speed > 3).all()


@pytest.mark.parametrize(
    "event",
    [
        LinearPush(interval=(1.0, 2.0), speed=(0.0, 1.0)),
        AngularPush(interval=(1.0, 2.0), speed=(0.0, 1.0)),
        Jump(interval=(1.0, 2.0), height=(0.0, 1.0)),
        SixAxisPush(interval=(1.0, 2.0), linear=(1.0, 0.0, 0.0)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_pushes_of_the_base_need_a_base_that_can_move(event):
    with pytest.raises(InvalidConfigError, match="has no free joint"):
        ksim_envs.make_functional(replace(tiny.HOPPER_LIKE, events={"push": event}), 2, backend="native")


def test_joints_and_bodies_of_a_fixed_base_can_be_pushed():
    events = {
        "joints": JointPerturbation(interval=(0.03, 0.06), deviation=1.0),
        "force": ForcePush(interval=(0.03, 0.06), body="pole", duration=(0.03, 0.03), force=(1.0, 2.0)),
    }
    core = ksim_envs.make_functional(replace(tiny.HOPPER_LIKE, events=events, resets={}), 8, backend="native")
    state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(8, bool))
    for _ in range(4):
        state, _ = core.programs.step(state, np.zeros((8, 2), np.float32))
    assert len(np.unique(np.asarray(state.obs_EL), axis=0)) == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearPush(interval=(2.0, 1.0), speed=(0.0, 1.0)),
        lambda: LinearPush(interval=(1.0, 2.0), speed=(-1.0, 1.0)),
        lambda: LinearPush(interval=(1.0, 2.0), speed=(0.0, 1.0), scale=-1.0),
        lambda: AngularPush(interval=(1.0, np.inf), speed=(0.0, 1.0)),
        lambda: Jump(interval=(1.0, 2.0), height=(-0.1, 0.1)),
        lambda: SixAxisPush(interval=(1.0, 2.0), linear=(-1.0, 0.0, 0.0)),
        lambda: JointPerturbation(interval=(1.0, 2.0), deviation=-0.1),
        lambda: JointPerturbation(interval=(1.0, 2.0), deviation=0.1, probability=1.1),
        lambda: ForcePush(interval=(1.0, 2.0), body="leg", duration=(0.5, 1.5)),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(InvalidConfigError):
        make()


def test_an_interval_shorter_than_a_control_step_is_refused_when_the_task_is_built():
    with pytest.raises(InvalidConfigError, match="must be at least a control step, 0.02 s"):
        ksim_envs.make_functional(task(push=LinearPush(interval=(0.01, 1.0), speed=(0.0, 1.0))), 2, backend="native")


def test_a_misspelt_body_gets_the_near_miss():
    with pytest.raises(UnknownNameError, match="Did you mean 'leg'"):
        pushes(ForcePush(interval=(1.0, 1.0), body="legg", duration=(0.1, 0.1)), 1)
