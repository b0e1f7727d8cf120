"""What the reset terms draw: bounds, distributions, and which coordinates they leave alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.keys import episode_key
from ksim_envs.tasks.evaluation import draw_start
from ksim_envs.tasks.floors import FlatFloor
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.randomness import term_key
from ksim_envs.tasks.resets import (
    BasePlace,
    BaseVelocity,
    Heading,
    Height,
    JointPositions,
    JointVelocities,
    Keyframe,
    MotionFrame,
    NormalVelocity,
    ObjectAwayFromGoal,
    PitchRoll,
    TargetInDisk,
    UniformPosition,
    UniformVelocity,
)
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.scales import Ramp
from ksim_envs.tasks.task import Task
from tests import tiny
from tests.ksim_envs.tasks import legged
from tests.ksim_envs.tasks.by_hand import context
from tests.ksim_envs.tasks.legged import MODEL, NUM_ENVS

NUM_DRAWS = 4000
QPOS, QVEL = jnp.arange(10.0), jnp.arange(8.0) / 10


def draws(term):
    """What the term adds to `QPOS` and `QVEL`, in `NUM_DRAWS` episodes."""
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    qpos, qvel = jax.vmap(lambda key: term(QPOS, QVEL, context(key=key)))(keys)
    return np.asarray(qpos, np.float64) - QPOS, np.asarray(qvel, np.float64) - QVEL


def assert_uniform(values, scale):
    """Within [-scale, scale), with the moments of a uniform distribution, and no two elements or draws alike."""
    rounding = 1e-6  # of the sum with QPOS, in float32
    assert np.abs(values).max() <= scale + rounding and np.abs(values).max() > 0.99 * scale
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=5 * scale / np.sqrt(3 * NUM_DRAWS))
    np.testing.assert_allclose(values.std(axis=0), scale / np.sqrt(3), rtol=0.06)
    assert_independent(values)


def assert_independent(values):
    correlation = np.corrcoef(values.T) if values.shape[1] > 1 else np.eye(1)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(NUM_DRAWS)


def test_uniform_position_moves_every_coordinate_of_qpos():
    position, velocity = draws(UniformPosition(0.1))
    assert_uniform(position, 0.1)
    assert not velocity.any()


@pytest.mark.parametrize("stop", [None, 3])
def test_uniform_velocity_changes_qvel_before_its_stop(stop):
    position, velocity = draws(UniformVelocity(0.2, stop=stop))
    assert_uniform(velocity[:, :stop], 0.2)
    assert not position.any() and not velocity[:, len(QVEL[:stop]) :].any()


def test_normal_velocity_has_its_standard_deviation():
    position, velocity = draws(NormalVelocity(0.1))
    assert not position.any()
    np.testing.assert_allclose(velocity.mean(axis=0), 0, atol=5 * 0.1 / np.sqrt(NUM_DRAWS))
    np.testing.assert_allclose(velocity.std(axis=0), 0.1, rtol=0.06)
    np.testing.assert_allclose((np.abs(velocity) < 0.1).mean(axis=0), 0.683, atol=0.04)
    assert_independent(velocity)


def test_the_target_lies_uniformly_in_its_disk():
    position, velocity = draws(TargetInDisk(index=2, radius=0.2))
    target = position[:, 2:4] + QPOS[2:4]  # a position, whatever stood there
    radius, angle = np.hypot(*target.T), np.arctan2(*target.T)
    assert 0.19 < radius.max() <= 0.2 + 1e-6
    np.testing.assert_allclose((radius < 0.1).mean(), 0.25, atol=0.04)  # a quarter of the area
    np.testing.assert_allclose(np.histogram(angle, 4, (-np.pi, np.pi))[0] / NUM_DRAWS, 0.25, atol=0.04)
    assert not np.delete(position, [2, 3], axis=1).any() and not velocity.any()


def test_the_object_lies_in_its_box_away_from_the_goal_which_is_at_zero():
    low, high, distance = np.array([-0.3, -0.2]), np.array([0.0, 0.2]), 0.17
    position, velocity = draws(ObjectAwayFromGoal(5, tuple(low), tuple(high), distance))
    place, goal = position[:, 5:7] + QPOS[5:7], position[:, 7:9] + QPOS[7:9]
    assert (place >= low - 1e-6).all() and (place < high + 1e-6).all()
    assert np.linalg.norm(place, axis=1).min() > distance
    assert not goal.any()
    assert not np.delete(position, range(5, 9), axis=1).any() and not velocity.any()
    in_box = np.random.default_rng(0).uniform(low, high, (100_000, 2))
    expected = in_box[np.linalg.norm(in_box, axis=1) > distance]
    np.testing.assert_allclose(place.mean(axis=0), expected.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(place.std(axis=0), expected.std(axis=0), atol=0.01)


@pytest.mark.parametrize(
    "term",
    [
        UniformPosition(0.1),
        UniformVelocity(0.1),
        NormalVelocity(0.1),
        TargetInDisk(2, 0.2),
        ObjectAwayFromGoal(5, (-0.3, -0.2), (0.0, 0.2), 0.17),
    ],
    ids=lambda term: type(term).__name__,
)
def test_the_same_key_draws_the_same_and_another_key_another(term):
    def draw(seed):
        return jnp.concatenate(term(QPOS, QVEL, context(key=jax.random.key(seed))))

    assert (draw(1) == draw(1)).all()
    assert (draw(1) != draw(2)).any()
    assert draw(1).dtype == QPOS.dtype


# On a legged robot


def legged_draws(term, num_draws=NUM_DRAWS, qpos=MODEL.qpos0, qvel=0.0, **changes):
    """qpos and qvel after the term, in many episodes."""
    qpos, qvel = jnp.asarray(qpos, jnp.float32), jnp.broadcast_to(jnp.float32(qvel), MODEL.nv)
    keys = jax.random.split(jax.random.key(0), num_draws)
    drawn = jax.vmap(lambda key: term(qpos, qvel, legged.legged(**{"key": key, **changes})))(keys)
    return tuple(np.asarray(each, np.float64) for each in drawn)


def test_joint_positions_are_uniform_around_what_they_were_and_stay_within_the_ranges():
    standing = MODEL.key_qpos[0]
    position, velocity = legged_draws(JointPositions(0.3), qpos=standing)
    assert_uniform(position[:, 7:] - standing[7:], 0.3)
    np.testing.assert_array_equal(position[:, :7], np.tile(np.float32(standing[:7]), (NUM_DRAWS, 1)))
    assert not velocity.any()
    wide, _ = legged_draws(JointPositions(9.0))
    low, high = MODEL.jnt_range[1:].T
    np.testing.assert_allclose(wide[:, 7:].min(axis=0), low, rtol=1e-6)
    np.testing.assert_allclose(wide[:, 7:].max(axis=0), high, rtol=1e-6)
    only, _ = legged_draws(JointPositions(0.3, joints="ankle"))
    assert not only[:, 7].any() and only[:, 8].any()


def test_joint_velocities_are_uniform_and_leave_the_base_at_rest():
    position, velocity = legged_draws(JointVelocities(0.5))
    assert_uniform(velocity[:, 6:], 0.5)
    assert not velocity[:, :6].any()
    np.testing.assert_array_equal(position, np.tile(np.float32(MODEL.qpos0), (NUM_DRAWS, 1)))


def test_the_base_velocity_is_uniform_along_x_and_y():
    _, velocity = legged_draws(BaseVelocity(0.5))
    assert_uniform(velocity[:, :2], 0.5)
    assert not velocity[:, 2:].any()


def test_the_base_stands_in_its_box_as_high_as_it_was():
    position, velocity = legged_draws(BasePlace(x=(-1.0, 1.0), y=(-3.0, 3.0)))
    assert_uniform(position[:, :2] / [1, 3], 1.0)
    np.testing.assert_array_equal(position[:, 2:], np.tile(np.float32(MODEL.qpos0[2:]), (NUM_DRAWS, 1)))
    assert not velocity.any()


@dataclass(frozen=True)
class Slope:
    """A floor that rises by 0.1 in x and falls by 0.2 in y."""

    def __call__(self, place, ctx):
        return 1.0 + 0.1 * place[0] - 0.2 * place[1]


def test_the_base_is_higher_by_the_floor_below_it():
    position, _ = legged_draws(BasePlace(x=(-1.0, 1.0), y=(-3.0, 3.0), floor=Slope()))
    expected = MODEL.qpos0[2] + 1.0 + 0.1 * position[:, 0] - 0.2 * position[:, 1]
    np.testing.assert_allclose(position[:, 2], expected, rtol=1e-5)


def test_the_height_is_uniform_above_what_it_was():
    position, _ = legged_draws(Height(low=0.1, high=0.3))
    assert_uniform(position[:, 2:3] - MODEL.qpos0[2] - 0.2, 0.1)
    np.testing.assert_array_equal(np.delete(position, 2, axis=1)[0], np.float32(np.delete(MODEL.qpos0, 2)))


TURNED = np.array([*MODEL.qpos0[:3], 0.8, 0.36, 0.48, 0.0, 0.0, 0.0])


def turned_vectors(position, vector):
    """A vector of the base in the world, in every episode."""
    result = np.empty((len(position), 3))
    for row, qpos in enumerate(position):
        mujoco.mju_rotVecQuat(result[row], np.asarray(vector, float), qpos[3:7])
    return result


def test_a_heading_turns_the_base_about_the_worlds_vertical():
    """Each of its axes keeps its height and its angle to the vertical; the heading is uniform."""
    position, velocity = legged_draws(Heading(), qpos=TURNED, qvel=np.arange(8.0))
    for axis in np.eye(3):
        before, after = turned_vectors(TURNED[None], axis), turned_vectors(position, axis)
        np.testing.assert_allclose(after[:, 2], before[0, 2], atol=1e-6)
        turn = np.arctan2(after[:, 1], after[:, 0]) - np.arctan2(before[:, 1], before[:, 0])
        assert_uniform(((turn + np.pi) % (2 * np.pi) - np.pi)[:, None], np.pi)
    np.testing.assert_allclose(np.linalg.norm(position[:, 3:7], axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(velocity, np.tile(np.arange(8.0), (NUM_DRAWS, 1)))
    narrow, _ = legged_draws(Heading(0.2, 0.4))
    assert_uniform(2 * np.arctan2(narrow[:, 6], narrow[:, 3])[:, None] - 0.3, 0.1)


def test_pitch_and_roll_are_uniform_in_the_frame_of_the_base():
    position, _ = legged_draws(PitchRoll(0.2), qpos=TURNED)
    relative = np.empty((NUM_DRAWS, 4))
    inverse = TURNED[3:7] * [1, -1, -1, -1]
    for row in range(NUM_DRAWS):
        mujoco.mju_mulQuat(relative[row], inverse, position[row, 3:7])
    w, x, y, z = relative.T
    roll, pitch = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x**2 + y**2)), np.arcsin(2 * (w * y - z * x))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))
    assert_uniform(np.stack([roll, pitch], axis=1), 0.2)
    np.testing.assert_allclose(yaw, 0, atol=1e-6)


def test_a_keyframe_gives_positions_and_velocities():
    position, velocity = legged_draws(Keyframe("stand"), 2)
    np.testing.assert_array_equal(position[0], np.float32(MODEL.key_qpos[0]))
    np.testing.assert_array_equal(velocity[0], np.float32(MODEL.key_qvel[0]))


def test_frames_of_a_motion_are_equally_frequent():
    qpos = MODEL.qpos0 + np.arange(5)[:, None]
    qvel = np.tile(np.arange(5)[:, None], (1, MODEL.nv))
    position, velocity = legged_draws(MotionFrame(qpos=qpos, qvel=qvel))
    frame = np.round(position[:, 0]).astype(int)
    np.testing.assert_allclose(position, qpos[frame], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(velocity, qvel[frame])
    np.testing.assert_allclose(np.bincount(frame, minlength=5) / NUM_DRAWS, 0.2, atol=0.03)
    assert not legged_draws(MotionFrame(qpos=qpos), 3)[1].any()


def test_a_motion_of_another_robot_is_refused():
    with pytest.raises(InvalidConfigError, match="this model needs \\(frames, 9\\) and \\(frames, 8\\)"):
        legged_draws(MotionFrame(qpos=np.zeros((5, 7))), 1)


def test_the_spread_follows_the_curriculum():
    half = {"level": jnp.array(0.5)}
    assert_uniform(legged_draws(JointPositions(Ramp(0.0, 0.4)), **half)[0][:, 7:], 0.2)
    assert_uniform(legged_draws(JointVelocities(Ramp(0.0, 0.4)), **half)[1][:, 6:], 0.2)
    assert_uniform(legged_draws(BaseVelocity(Ramp(0.0, 0.4)), **half)[1][:, :2], 0.2)
    height = legged_draws(Height(low=0.0, high=Ramp(0.0, 0.4)), **half)[0][:, 2:3] - MODEL.qpos0[2]
    assert_uniform(height - 0.1, 0.1)
    tilt = legged_draws(PitchRoll(Ramp(0.0, 0.4)), **half)[0]
    assert 0.19 < np.arcsin(2 * (tilt[:, 3] * tilt[:, 5] - tilt[:, 6] * tilt[:, 4])).max() < 0.2001


START = {
    "place": BasePlace(x=(-1.0, 1.0), y=(-1.0, 1.0), floor=FlatFloor(0.1)),
    "heading": Heading(),
    "tilt": PitchRoll(0.1),
    "height": Height(low=0.3, high=0.5),
    "joints": JointPositions(0.2),
    "joint_velocity": JointVelocities(1.0),
    "base_velocity": BaseVelocity(0.5),
}


def test_an_episode_begins_with_what_was_drawn_velocities_included(backend):
    task = Task(
        model=legged.LEGGED,
        frame_skip=1,
        episode_length=5,
        observations={"qpos": Field("qpos"), "qvel": Field("qvel")},
        rewards={"alive": Alive(1.0)},
        resets=START,
    )
    core = ksim_envs.make_functional(task, NUM_ENVS, backend=backend)
    state = core.reset(core.keys(0))
    physics = core.backend.state_dict(state.physics)
    ctx = replace(legged.legged(model=core.model), level=jnp.array(1.0))
    for row in range(NUM_ENVS):
        key = term_key(episode_key(state.key_E[row], state.episode_E[row]))
        qpos, qvel, _ = draw_start(
            task, jnp.asarray(MODEL.qpos0, jnp.float32), jnp.zeros(MODEL.nv), replace(ctx, key=key)
        )
        np.testing.assert_allclose(physics["qpos"][row], qpos, atol=1e-6)
        np.testing.assert_allclose(physics["qvel"][row], qvel, atol=1e-6)
    assert np.abs(physics["qvel"][:, [0, 1, 6, 7]]).min() > 1e-4
    np.testing.assert_array_equal(np.asarray(state.obs_EL), np.concatenate([*physics.values()][:2], axis=1).astype("f"))
    moved, _ = jax.jit(core.step)(state, jnp.zeros((NUM_ENVS, 2)))
    way = np.asarray(moved.obs_EL[:, :2] - state.obs_EL[:, :2])
    np.testing.assert_allclose(way, physics["qvel"][:, :2] * legged.TIMESTEP, atol=2e-4)


@pytest.mark.parametrize(
    "term",
    [BaseVelocity(0.1), BasePlace(x=(0.0, 1.0), y=(0.0, 1.0)), Height(), Heading(), PitchRoll()],
    ids=lambda term: type(term).__name__,
)
def test_terms_of_the_base_need_a_base_that_can_move(term):
    with pytest.raises(InvalidConfigError, match="has no free joint"):
        ksim_envs.make_functional(replace(tiny.HOPPER_LIKE, resets={"it": term}), 2, backend="native")


def test_joints_of_a_fixed_base_are_drawn_too():
    resets = {"position": JointPositions(0.1), "velocity": JointVelocities(0.1)}
    core = ksim_envs.make_functional(replace(tiny.HOPPER_LIKE, resets=resets), 4, backend="native")
    physics = core.backend.state_dict(core.reset(core.keys(0)).physics)
    assert (np.abs(physics["qpos"]) > 1e-5).all() and (np.abs(physics["qvel"]) > 1e-5).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: JointPositions(-0.1),
        lambda: JointVelocities(np.nan),
        lambda: BaseVelocity(-0.1),
        lambda: BasePlace(x=(1.0, 0.0), y=(0.0, 1.0)),
        lambda: Height(low=0.2, high=0.1),
        lambda: Heading(1.0, 0.0),
        lambda: PitchRoll(-0.1),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(InvalidConfigError):
        make()


@pytest.mark.parametrize(
    ("term", "near"), [(Keyframe("stad"), "stand"), (JointPositions(0.1, joints="hipp"), "hip")], ids=repr
)
def test_a_misspelt_name_gets_the_near_miss(term, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        legged_draws(term, 1)
