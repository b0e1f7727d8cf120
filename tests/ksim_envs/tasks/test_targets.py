"""What joints are asked for by an action, against numbers computed by hand."""

from dataclasses import replace

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.filters import AccelerationLimit, LowPass, TrapezoidalPlan, WithinRange
from ksim_envs.tasks.targets import Angles, AroundPose, Integrated, TanhOfRange, WholeRange, WithVelocity
from ksim_envs.tasks.terms import call, init
from tests.ksim_envs.tasks.by_hand import view
from tests.ksim_envs.tasks.legged import DT, LEGGED, MODEL, TIMESTEP, legged

LOW, HIGH = np.deg2rad([-60, -40]), np.deg2rad([90, 40])
STANDING = view(qpos=MODEL.qpos0, qvel=np.zeros(MODEL.nv))
MOVING = view(qpos=[0, 0, 1, 1, 0, 0, 0, 0.2, -0.1], qvel=[0, 0, 0, 0, 0, 0, 1.0, -2.0])


def targets(term, actions, seen=STANDING, **changes):
    """The targets of the control steps of an episode, and their velocities."""
    ctx = legged(**changes)
    carry, positions, velocities = init(term, seen, replace(ctx, action=jnp.zeros(len(actions[0])))), [], []
    for action in actions:
        target, carry = call(term, carry, seen, replace(ctx, action=jnp.asarray(action, jnp.float32)))
        positions.append(target.position)
        velocities.append(target.velocity)
    return np.concatenate(positions), velocities


def bounds(term):
    return [side.tolist() for side in term.bounds(Model(MODEL))]


def test_targets_lie_around_the_initial_pose_or_a_keyframe():
    assert bounds(AroundPose()) == [[-1, -1], [1, 1]]
    np.testing.assert_allclose(targets(AroundPose(scale=0.5), [[1.0, -0.5]])[0], [[0.5, -0.25]])
    by_joint = AroundPose(scale={"*": 0.5, "ankle": 0.1}, keyframe="stand")
    np.testing.assert_allclose(targets(by_joint, [[1.0, 1.0]])[0], [[0.7, 0.0]], atol=1e-7)


def test_angles_are_the_action_within_the_joints_ranges():
    np.testing.assert_allclose(bounds(Angles()), [LOW, HIGH], rtol=1e-6)
    np.testing.assert_allclose(targets(Angles(), [[1.2, -0.5]])[0], [[1.2, -0.5]])


def test_the_whole_range_is_spanned_by_actions_from_minus_one_to_one():
    assert bounds(WholeRange()) == [[-1, -1], [1, 1]]
    found, _ = targets(WholeRange(), [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(found, [LOW, (LOW + HIGH) / 2, HIGH], rtol=1e-6, atol=1e-7)


def test_tanh_stays_within_the_range_and_is_its_middle_at_zero():
    """Not from `lower - (upper - lower)` to upper, as in ksim."""
    assert bounds(TanhOfRange()) == [[-3, -3], [3, 3]]
    found, _ = targets(TanhOfRange(), [[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0], [0.5, 0.5]])
    half = (HIGH - LOW) / 2
    middle = (LOW + HIGH) / 2
    np.testing.assert_allclose(found[1], middle, atol=1e-7)
    assert (found[0] > LOW).all() and (found[0] < LOW + 0.01 * half).all()
    assert (found[2] < HIGH).all() and (found[2] > HIGH - 0.01 * half).all()
    np.testing.assert_allclose(found[3], middle + half * 0.46211716, rtol=1e-6)


@pytest.mark.parametrize("term", [Angles(), WholeRange(), TanhOfRange()], ids=lambda term: type(term).__name__)
def test_a_range_is_needed_where_targets_span_it(term):
    model = Model(mujoco.MjModel.from_xml_string(LEGGED.replace('range="-40 40"', "")))
    with pytest.raises(InvalidConfigError, match="joint 'ankle' has no range"):
        term.bounds(model) if isinstance(term, Angles) else targets(term, [[0.0, 0.0]], model=model)


def test_target_velocities_are_the_second_half_of_the_action():
    term = WithVelocity(positions=AroundPose(scale=0.5), max_velocity=3.0)
    assert bounds(term) == [[-1] * 4, [1] * 4]
    position, (velocity,) = targets(term, [[1.0, 0.5, -1.0, 0.2]])
    np.testing.assert_allclose(position, [[0.5, 0.25]])
    np.testing.assert_allclose(velocity, [[-3.0, 0.6]], rtol=1e-6)


def test_an_integrated_velocity_starts_at_the_measured_positions():
    offset = {"encoder_offset": jnp.zeros(MODEL.nq).at[7].set(0.05)}
    found, _ = targets(Integrated(order=1, scale=2.0), [[1.0, -0.5], [1.0, 0.0]], MOVING, model_fields=offset)
    np.testing.assert_allclose(found, [[0.25 + 2 * DT, -0.1 - DT], [0.25 + 4 * DT, -0.1 - DT]], rtol=1e-5)


def test_an_integrated_acceleration_reaches_at_most_the_highest_velocity():
    """Velocities 1, 2, 2.5, 2.5 rad/s for an acceleration of 50 rad/s^2 and dt = 0.02 s."""
    found, _ = targets(Integrated(order=2, scale=50.0, max_velocity=2.5), [[1.0, 0.0]] * 4)
    np.testing.assert_allclose(found[:, 0], np.cumsum([1, 2, 2.5, 2.5]) * DT, rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-7)


def test_an_integrated_jerk_adds_up_three_times():
    """Accelerations 2, 4, 6 rad/s^2, velocities 0.04, 0.12, 0.24 rad/s."""
    found, _ = targets(Integrated(order=3, scale=100.0), [[1.0, 0.0]] * 3)
    np.testing.assert_allclose(found[:, 0], np.cumsum([0.04, 0.12, 0.24]) * DT, rtol=1e-5)


def test_integrated_targets_stay_within_the_joints_ranges_and_come_back_at_once():
    found, _ = targets(Integrated(order=1, scale=9.0), [[1.0, -1.0]] * 20 + [[-1.0, 1.0]])
    np.testing.assert_allclose(found[19], [HIGH[0], LOW[1]], rtol=1e-6)
    np.testing.assert_allclose(found[20], [HIGH[0] - 9 * DT, LOW[1] + 9 * DT], rtol=1e-5)


# Filters


def test_targets_are_clipped_to_the_joints_ranges():
    found, _ = targets(WithinRange(AroundPose(scale=5.0)), [[1.0, -1.0], [0.1, 0.1]])
    np.testing.assert_allclose(found, [[HIGH[0], LOW[1]], [0.5, 0.5]], rtol=1e-6)


def test_a_low_pass_filter_has_one_pole():
    """alpha = 0.02 / (0.02 + 1 / (2 pi 5 Hz)) = 0.385870."""
    found, _ = targets(LowPass(AroundPose(scale=1.0), cutoff=5.0), [[1.0, 0.0]] * 2, MOVING)
    first = 0.2 + 0.385870 * 0.8
    np.testing.assert_allclose(found[:, 0], [first, first + 0.385870 * (1 - first)], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], [-0.1 * 0.614130, -0.1 * 0.614130**2], rtol=1e-5)


def test_an_acceleration_limit_bounds_the_change_of_velocity():
    """At most 10 rad/s^2 * 0.02 s = 0.2 rad/s more in each control step."""
    term = AccelerationLimit(AroundPose(scale=1.0), max_acceleration=10.0)
    found, _ = targets(term, [[1.0, 0.001]] * 3)
    np.testing.assert_allclose(found[:, 0], np.cumsum([0.2, 0.4, 0.6]) * DT, rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], 0.001, rtol=1e-5)


def test_a_plan_speeds_up_and_brakes_with_its_acceleration_and_stops_at_the_target():
    term = TrapezoidalPlan(AroundPose(scale=1.0), max_velocity=2.0, max_acceleration=20.0)
    position, velocity = targets(term, [[0.5, -0.5]] * 30)
    velocity = np.concatenate(velocity)
    assert position.shape == velocity.shape == (150, 2)
    np.testing.assert_allclose(velocity[:24, 0], np.arange(1, 25) * 20 * TIMESTEP, rtol=1e-5)
    assert np.abs(velocity).max() <= 2.0
    np.testing.assert_allclose(np.diff(position[:, 0]), velocity[1:, 0] * TIMESTEP, atol=1e-6)
    assert np.abs(np.diff(velocity[:80], axis=0)).max() <= 20 * TIMESTEP * 1.0001
    # 0.1 s up, 0.15 s at 2 rad/s, 0.1 s down: it arrives after 0.35 s, which are 88 substeps
    assert abs(position[70, 0] - 0.5) > 0.03
    np.testing.assert_allclose(position[95:, 0], 0.5, atol=0.005)
    np.testing.assert_allclose(position[:, 1], -position[:, 0], atol=1e-6)
    np.testing.assert_allclose(velocity[-1], 0, atol=1e-2)


def test_a_plan_begins_with_the_measured_positions_and_velocities():
    position, (velocity,) = targets(TrapezoidalPlan(AroundPose(scale=1.0), max_acceleration=10.0), [[1.0, 0.0]], MOVING)
    np.testing.assert_allclose(velocity[0], [1 + 10 * TIMESTEP, -2 + 10 * TIMESTEP], rtol=1e-5)
    np.testing.assert_allclose(position[0], [0.2 + velocity[0, 0] * TIMESTEP, -0.1 + velocity[0, 1] * TIMESTEP])


@pytest.mark.parametrize(
    "make",
    [
        lambda: AroundPose(scale=-1.0),
        lambda: AroundPose(scale={"*": np.nan}),
        lambda: WithVelocity(positions=Angles(), max_velocity=0.0),
        lambda: Integrated(order=4, scale=1.0),
        lambda: Integrated(order=1, scale=0.0),
        lambda: LowPass(Angles(), cutoff=0.0),
        lambda: AccelerationLimit(Angles(), max_acceleration=-1.0),
        lambda: TrapezoidalPlan(Angles(), max_velocity=0.0),
        lambda: TrapezoidalPlan(Angles(), deadband=-0.1),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(InvalidConfigError, match="must be"):
        make()


def test_a_scale_for_a_joint_that_does_not_exist_gets_the_near_miss():
    with pytest.raises(UnknownNameError, match="Did you mean 'ankle'"):
        targets(AroundPose(scale={"*": 0.5, "ankel": 0.1}), [[0.0, 0.0]])
