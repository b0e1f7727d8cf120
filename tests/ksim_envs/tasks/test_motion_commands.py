"""Commands that move by themselves, step by step. A control step is 0.5 s."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.motion_commands import GaitPhase, MovingJoints, MovingPoint, Playback
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.scales import Ramp
from tests.ksim_envs.tasks.by_hand import view
from tests.ksim_envs.tasks.test_commands import assert_share, assert_uniform, episodes

# Points


def test_a_point_moves_straight_at_its_speed_inside_the_box():
    low, high = np.array([-1.0, 0.0, 2.0]), np.array([1.0, 4.0, 3.0])
    found = episodes(MovingPoint(tuple(low.tolist()), tuple(high.tolist()), slow=0.2, fast=0.6), num_steps=100)
    assert (found >= low - 1e-5).all() and (found <= high + 1e-5).all()
    moves = np.diff(found, axis=1)
    lengths = np.linalg.norm(moves, axis=2)
    assert lengths.max() <= 0.3 + 1e-5  # 0.6 m/s in 0.5 s
    same = np.isclose(lengths[:, 1:], lengths[:, :-1], rtol=1e-3)
    straight = np.sum(moves[:, 1:] * moves[:, :-1], axis=2) / np.maximum(lengths[:, 1:] * lengths[:, :-1], 1e-9)
    assert same.mean() > 0.6 and (straight[same] > 0.99).mean() > 0.99
    full_steps = lengths[:, 1:][same]
    assert full_steps.min() >= 0.1 - 1e-5


def test_a_point_starts_anywhere_and_goes_anywhere_in_the_box():
    found = episodes(MovingPoint(0.0, 1.0, slow=100.0, fast=100.0))  # arrives within a step
    assert_uniform(found[:, 0], 0, 1)
    assert_uniform(found[:, -1], 0, 1)


def test_a_point_waits_at_its_target_until_it_goes():
    found = episodes(MovingPoint(0.0, 1.0, slow=100.0, fast=100.0, go_probability=0.2, turn_probability=0.9))
    assert_share(np.diff(found, axis=1) != 0, 0.2)


def test_a_point_may_turn_on_its_way():
    slow = episodes(MovingPoint(0.0, 1.0, slow=0.02, fast=0.02), num_steps=20)
    turning = episodes(MovingPoint(0.0, 1.0, slow=0.02, fast=0.02, turn_probability=0.3), num_steps=20)
    turns = [np.diff(np.sign(np.diff(found, axis=1)), axis=1) != 0 for found in (slow, turning)]
    assert turns[0].mean() < 0.05 < 0.1 < turns[1].mean()


def test_the_box_may_follow_the_curriculum():
    found = episodes(MovingPoint(Ramp(0.0, -1.0), Ramp(0.0, 1.0)), level=jnp.array(0.1))
    assert np.abs(found).max() <= 0.1 + 1e-6


# Joints

ARM = Model(
    mujoco.MjModel.from_xml_string("""
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body><joint name="a" range="-1 3"/><geom size="0.1"/></body>
    <body><joint name="b" range="-2 0"/><geom size="0.1"/></body>
    <body><joint name="c"/><geom size="0.1"/></body>
  </worldbody>
</mujoco>""")
)


def joints(**keywords):
    return episodes(MovingJoints("[ab]", **keywords), seen=lambda step: view(qpos=[0.5, -1.5, 9]), model=ARM)


def test_joints_start_where_they_are_and_stay_in_their_ranges():
    found = joints(time=(1.0, 3.0))
    assert found.shape == (200, 61, 2, 2)
    np.testing.assert_allclose(found[:, 0, 0], np.tile([0.5, -1.5], (200, 1)))
    assert (found[:, :, 0] >= np.array([-1, -2]) - 1e-5).all()
    assert (found[:, :, 0] <= np.array([3, 0]) + 1e-5).all()


def test_the_commanded_velocity_is_the_rate_at_which_the_position_changes():
    """Also downwards: ksim took every way down for one at its end, and drew a new target in each step."""
    found = joints(time=(1.0, 3.0))
    position, velocity = found[:, :, 0], found[:, :, 1]
    np.testing.assert_allclose(np.diff(position, axis=1) / 0.5, velocity[:, :-1], atol=1e-4)
    changes = (np.diff(velocity, axis=1) != 0).any(axis=2)
    gaps = np.concatenate([np.diff(np.flatnonzero(row)) for row in changes])
    assert set(gaps) == {2, 3, 4, 5, 6}, "each way takes its time, 1 to 3 s"


def test_the_poses_are_anywhere_in_the_share_of_the_ranges():
    found = joints(time=(0.5, 0.5), share=0.5)  # a pose in each step
    assert_uniform(found[:, -1, 0, 0], 0, 2)
    assert_uniform(found[:, -1, 0, 1], -1.5, -0.5)


def test_joints_without_limits_have_no_pose_to_go_to():
    with pytest.raises(InvalidConfigError, match="joints without limits"):
        episodes(MovingJoints(), seen=lambda step: view(qpos=[0, 0, 0]), model=ARM)


# Gaits


def test_a_gait_runs_through_its_period_with_an_offset_for_each_foot():
    found = episodes(GaitPhase((2.0, 2.0)), rows=1, num_steps=5)[0]  # 4 steps
    np.testing.assert_allclose(
        found, [[0, 0.5], [0.25, 0.75], [0.5, 0], [0.75, 0.25], [0, 0.5], [0.25, 0.75]], atol=1e-6
    )


def test_the_period_is_drawn_for_an_episode():
    found = episodes(GaitPhase((1.5, 4.0), offsets=(0.0,)), num_steps=1)[:, 1, 0]
    assert_uniform(0.5 / found, 1.5, 4)


def test_a_gait_that_stood_runs_again():
    """ksim's clock stopped for good at the first slow step, and a robot is always slow right after a reset."""
    moves = jnp.array([0, 0, 1, 1, 0, 1, 1, 1.0])
    gait = GaitPhase((2.0, 2.0), when=lambda view, ctx: view.qpos[0] > 0.5)
    found = episodes(gait, rows=1, num_steps=7, seen=lambda step: view(qpos=[moves[step]]))[0]
    runs = [[0, 0], [0, 0], [0.25, 0.75], [0.5, 0], [0, 0], [0.25, 0.75], [0.5, 0], [0.75, 0.25]]
    np.testing.assert_allclose(found, runs, atol=1e-6)


# Recordings

FRAMES = np.array([[0.0, 0], [1, 10], [2, 20], [3, 30]])


def test_a_recording_is_interpolated_and_loops():
    found = episodes(Playback(FRAMES, rate=1.0), rows=1, num_steps=9)[0]
    expected = [0, 0.5, 1, 1.5, 2, 2.5, 3, 1.5, 0, 0.5]  # from the last frame it goes back to the first
    np.testing.assert_allclose(found, np.outer(expected, [1, 10]), atol=1e-5)


def test_a_recording_may_end():
    found = episodes(Playback(FRAMES, rate=2.0, loops=False), rows=1, num_steps=5)[0]
    np.testing.assert_allclose(found, np.outer([0, 1, 2, 3, 3, 3], [1, 10]), atol=1e-6)


def test_a_recording_may_be_played_faster():
    found = episodes(Playback(FRAMES, rate=1.0, speed=Ramp(1.0, 3.0)), rows=1, num_steps=1, level=jnp.array(0.5))
    np.testing.assert_allclose(found[0, 1], [1, 10])


def test_a_recording_starts_where_the_robot_is():
    start = Playback(FRAMES, rate=1.0, start=Field("qpos"))
    found = episodes(start, rows=1, num_steps=1, seen=lambda step: view(qpos=[1.6, 21 + 50 * step]))[0]
    np.testing.assert_allclose(found, [[2, 20], [2.5, 25]], atol=1e-6)


def test_points_of_bodies_can_be_recorded_too():
    points = np.arange(24.0).reshape(2, 4, 3)
    found = episodes(
        Playback(points, rate=2.0, start=Field("xpos")), rows=1, num_steps=0, seen=lambda step: view(xpos=points[1])
    )
    np.testing.assert_allclose(found[0, 0], points[1])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MovingPoint(1.0, 0.0),
        lambda: MovingPoint(0.0, 1.0, slow=2.0, fast=1.0),
        lambda: MovingPoint(0.0, 1.0, slow=-1.0),
        lambda: MovingPoint(0.0, 1.0, go_probability=2.0),
        lambda: MovingPoint(0.0, 1.0, turn_probability=-1.0),
        lambda: MovingJoints(time=(0.0, 1.0)),
        lambda: MovingJoints(share=1.5),
        lambda: GaitPhase((0.0, 1.0)),
        lambda: GaitPhase((1.0, 1.0), offsets=()),
        lambda: Playback(FRAMES, rate=0.0),
        lambda: Playback(FRAMES[:1], rate=1.0),
        lambda: Playback(np.full((3, 2), np.nan), rate=1.0),
        lambda: Playback(FRAMES, rate=1.0, speed=-1.0),
        lambda: episodes(Playback(FRAMES, rate=1.0, start=Coordinate(0))),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidConfigError):
        wrong()
