"""Draws and how they are kept: distributions, resampling, and the defects that ksim's commands have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.commands import (
    JOYSTICK_MODES,
    Approached,
    Choice,
    EitherSign,
    Held,
    Joystick,
    PolarVelocity,
    Uniform,
    UniformInteger,
    UniformRotation,
)
from ksim_envs.tasks.measures import CommandAbove, Commanded, Constant
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.scales import AfterStart, Ramp
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import call, init
from ksim_envs.tasks.tracing import find_reads
from tests.ksim_envs.tasks.by_hand import MODEL, TWO_BODIES, context, view

NUM_ROWS = 2000
NUM_STEPS = 60
SEEN = view(qpos=[1, 2], qvel=[3, 4])


def draws(draw, count=NUM_ROWS, **changes):
    """(count, ...) values of a draw, each from a key of its own."""
    return np.asarray(
        jax.vmap(lambda key: draw(SEEN, context(key=key, **changes)))(jax.random.split(jax.random.key(0), count))
    )


def episodes(command, rows=200, num_steps=NUM_STEPS, seen=lambda step: SEEN, **changes):
    """(rows, 1 + num_steps, ...) values of a command: in the first state, then after each step. dt is 0.5 s."""

    def one(key):
        def ctx(step):
            return context(key=jax.random.fold_in(key, step), step=step, **changes)

        def advance(carry, step):
            value, carry = call(command, carry, seen(step), ctx(step))
            return carry, value

        carry = init(command, seen(0), ctx(jnp.array(0)))
        return jax.lax.scan(advance, carry, jnp.arange(num_steps + 1))[1]

    return np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(1), rows)))


def assert_uniform(found, low, high):
    """Deciles of a sample within 5 standard errors of those of the uniform distribution."""
    share = (np.sort(np.ravel(found)) - low) / (high - low)
    assert share[0] >= 0 and share[-1] <= 1
    deciles = np.linspace(0.1, 0.9, 9)
    error = 5 * np.sqrt(deciles * (1 - deciles) / len(share))
    np.testing.assert_array_less(np.abs(np.quantile(share, deciles) - deciles), error)


def assert_share(flags, probability):
    """A share of true flags within 5 standard errors of a probability."""
    error = np.sqrt(probability * (1 - probability) / np.size(flags))
    assert abs(np.mean(flags) - probability) <= 5 * error


# Draws


def test_a_uniform_draw_fills_its_box_evenly_and_element_by_element():
    found = draws(Uniform((-1.0, 5.0), (2.0, 7.0)))
    assert_uniform(found[:, 0], -1, 2)
    assert_uniform(found[:, 1], 5, 7)
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / np.sqrt(NUM_ROWS)


def test_a_range_may_follow_the_curriculum():
    wide = Uniform(Ramp(0.0, -2.0), Ramp(0.0, 4.0))
    assert_uniform(draws(wide, level=jnp.array(0.5)), -1, 2)
    assert (draws(wide, level=jnp.array(0.0)) == 0).all()
    assert draws(wide).shape == (NUM_ROWS,)


def test_integers_include_both_ends_evenly():
    found = draws(UniformInteger((0, -2), (3, -2)))
    assert found.dtype == np.float32 and (found[:, 1] == -2).all()
    for each in range(4):
        assert_share(found[:, 0] == each, 0.25)


def test_either_sign_is_as_likely():
    found = draws(EitherSign(Uniform(0.5, 1.5)))
    assert_share(found < 0, 0.5)
    assert_uniform(np.abs(found), 0.5, 1.5)


def test_a_polar_velocity_has_the_speed_the_direction_and_the_share_of_backward_ones():
    found = draws(PolarVelocity(0.5, 1.5, max_direction=0.4, backward_probability=0.25))
    assert_uniform(np.linalg.norm(found, axis=1), 0.5, 1.5)
    assert_share(found[:, 0] < 0, 0.25)
    assert_uniform(np.arctan(found[:, 1] / found[:, 0]), -0.4, 0.4)


def test_a_choice_takes_each_draw_with_its_probability():
    found = draws(Choice((Constant((0.0, 0.0)), Uniform((1.0, 1.0), (2.0, 3.0))), (0.3, 0.7)))
    assert_share((found == 0).all(axis=1), 0.3)
    assert_uniform(found[found[:, 0] > 0, 1], 1, 3)


def test_a_joystick_has_all_its_modes_at_their_speeds_and_probabilities():
    probabilities = (0.05, 0.3, 0.15, 0.1, 0.05, 0.1, 0.15, 0.1)
    found = draws(Joystick(walk=1.0, run=Ramp(2.0, 3.0), strafe=0.5, turn=0.7, probabilities=probabilities))
    values = [(0, 0, 0), (1, 0, 0), (3, 0, 0), (-1, 0, 0), (0, 0, 0.7), (0, 0, -0.7), (0, 0.5, 0), (0, -0.5, 0)]
    assert len(values) == len(JOYSTICK_MODES)
    for value, probability in zip(np.float32(values), probabilities, strict=True):
        assert_share((found == value).all(axis=1), probability)


def test_rotations_are_unit_quaternions_in_all_directions():
    found = draws(UniformRotation())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.T @ found / NUM_ROWS, np.eye(4) / 4, atol=0.03)


# Held


def test_a_draw_is_kept_for_the_whole_episode_unless_told_otherwise():
    found = episodes(Held(Uniform(0.0, 1.0)))
    assert (found == found[:, :1]).all() and len(np.unique(found)) > 100


def test_a_quantity_is_held_as_it_was_in_the_first_state():
    """StartPosition and StartQuaternion."""
    found = episodes(Held(Field("qpos")), rows=1, seen=lambda step: view(qpos=[step + 1, 2]))
    assert (found == [1, 2]).all()


def test_a_command_switches_with_its_probability_and_then_to_anywhere_in_its_range():
    """ksim's BaseHeight drew the switch and the height with one key: only the lowest heights were ever switched to."""
    found = episodes(Held(Uniform(0.7, 0.9), probability=0.1))
    changed = np.diff(found, axis=1) != 0
    assert_share(changed, 0.1)
    assert_uniform(found[:, 1:][changed], 0.7, 0.9)


def test_a_command_is_zero_with_its_probability_and_otherwise_as_if_there_were_no_zeros():
    """ksim's FloatVector drew both with one key, which cut the first element's range."""
    found = episodes(Held(Uniform((-1.0, -1.0), (1.0, 1.0)), probability=1.0, zero_probability=0.3), num_steps=20)
    is_zero = (found == 0).all(axis=2)
    assert_share(is_zero, 0.3)
    assert_uniform(found[~is_zero][:, 0], -1, 1)
    assert_uniform(found[~is_zero][:, 1], -1, 1)


def test_probabilities_may_follow_the_curriculum():
    command = Held(Uniform(0.0, 1.0), probability=AfterStart(0.0, 1.0))
    assert (np.diff(episodes(command), axis=1) != 0).all()
    assert (np.diff(episodes(command, level=jnp.array(0.0)), axis=1) == 0).all()


def test_a_command_is_drawn_anew_when_its_time_is_up():
    found = episodes(Held(Uniform(0.0, 1.0), interval=(2.0, 2.0)), rows=3)  # every 4 steps
    switches = np.diff(found, axis=1) != 0
    assert (switches == (np.arange(1, NUM_STEPS + 1) % 4 == 0)).all()


def test_the_time_between_draws_is_uniform_in_its_range():
    found = episodes(Held(Uniform(0.0, 1.0), interval=(1.0, 3.0)))
    gaps = np.concatenate([np.diff(np.flatnonzero(row)) for row in np.diff(found, axis=1) != 0])
    assert set(gaps) == {2, 3, 4, 5, 6}  # steps of 0.5 s
    assert_share(gaps == 4, 0.25)


# Approached


def test_a_command_is_approached_at_its_rate_from_where_the_robot_is():
    """From (3, 4) to the origin at 2 m/s^2: 1 m/s in each step along the straight way."""
    found = episodes(Approached(Held(Constant((0.0, 0.0))), rate=2.0, start=Field("qvel")), rows=1, num_steps=7)[0]
    expected = [[3 * share, 4 * share] for share in (1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_approach_without_a_start_begins_at_the_command_and_follows_its_switches():
    command = Held(EitherSign(Constant(1.0)), probability=0.2)
    found = episodes(Approached(command, rate=1.0), num_steps=30)
    assert set(np.abs(found[:, 0])) == {1}
    assert np.abs(np.diff(found, axis=1)).max() <= 0.5 + 1e-6
    assert set(np.unique(found.round(5))) == {-1.0, -0.5, 0.0, 0.5, 1.0} and np.abs(found).max() <= 1


# In a task


def task(**commands):
    return Task(
        model=TWO_BODIES,
        frame_skip=1,
        episode_length=10,
        observations={"o": Coordinate(0)},
        rewards={"alive": Alive(1.0)},
        commands=commands,
    )


def test_a_command_may_depend_on_those_above_it():
    above = {"speed": Held(Uniform(0.0, 1.0)), "moves": CommandAbove("speed", 0.5), "twice": Commanded("speed")}
    assert find_reads(task(**above), MODEL) == {"qpos"}
    with pytest.raises(UnknownNameError, match="no command of the task 'speed'"):
        find_reads(task(moves=above["moves"], speed=above["speed"]), MODEL)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Uniform(1.0, 0.0),
        lambda: Uniform((0.0, 1.0), (1.0,)),
        lambda: Uniform((0.0,), 1.0),
        lambda: Uniform((), ()),
        lambda: Uniform(0.0, np.inf),
        lambda: Uniform(Ramp(0.0, 1.0), 0.5),
        lambda: UniformInteger(2, 1),
        lambda: PolarVelocity(-1.0, 1.0),
        lambda: PolarVelocity(0.0, 1.0, max_direction=-1.0),
        lambda: PolarVelocity(0.0, 1.0, backward_probability=1.1),
        lambda: Choice((Constant(1.0),), (0.5, 0.5)),
        lambda: Choice((Constant(1.0), Constant(2.0)), (0.5, 0.6)),
        lambda: Choice((Constant(1.0), Constant(2.0)), (-0.5, 1.5)),
        lambda: Choice((Constant(1.0), Constant((2.0,))), (0.5, 0.5))(SEEN, context()),
        lambda: Joystick(walk=-1.0, run=1.0, strafe=1.0, turn=1.0),
        lambda: Joystick(walk=1.0, run=1.0, strafe=1.0, turn=1.0, probabilities=(0.5, 0.5)),
        lambda: Held(Constant(1.0), probability=1.5),
        lambda: Held(Constant(1.0), zero_probability=Ramp(0.0, 2.0)),
        lambda: Held(Constant(1.0), interval=(2.0, 1.0)),
        lambda: Held(Constant(1.0), interval=(0.0, 1.0)),
        lambda: Approached(Held(Constant(1.0)), rate=-1.0),
        lambda: episodes(Approached(Held(Constant(1.0)), rate=1.0, start=Field("qvel"))),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidConfigError):
        wrong()
