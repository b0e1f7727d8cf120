"""What feet do, step by step, against numbers computed by hand. A control step is 0.5 s."""

import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.gait import (
    Airborne,
    FeetTime,
    Impact,
    PhaseCircle,
    SingleContact,
    Slip,
    SwingClearance,
    SwingHeight,
    TouchdownAirTime,
    TouchdownHeight,
)
from ksim_envs.tasks.measures import Commanded, Constant, RampUp, Reduced
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.terms import call, init
from tests.ksim_envs.tasks.by_hand import context, first_value, values, view

CONTACT = Field("sensordata", stop=2)
HEIGHT = Field("sensordata", start=2)


def steps(*contacts):
    """An episode: the first state and three or more steps, each with two contact flags, and heights where given."""
    return [{"sensordata": each} for each in contacts]


WALK = steps((1, 1), (1, 0), (1, 0), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1))


def test_time_in_the_air_runs_until_the_foot_touches():
    assert values(FeetTime(CONTACT), WALK) == [[0, 0.5], [0, 1], [0, 0], [0.5, 0], [1, 0], [1.5, 0], [0, 0]]


def test_time_on_the_ground_is_the_other_state():
    on_ground = [[0.5, 0], [1, 0], [1.5, 0.5], [0, 1], [0, 1.5], [0, 2], [0.5, 2.5]]
    assert values(FeetTime(CONTACT, grounded=True), WALK) == on_ground


def test_time_only_counts_while_the_condition_holds():
    gated = [{**state, "qpos": [moves]} for state, moves in zip(WALK, [1] * 5 + [0, 1, 1], strict=True)]
    term = FeetTime(CONTACT, when=lambda view, ctx: view.qpos[0] > 0.5)
    assert values(term, gated) == [[0, 0.5], [0, 1], [0, 0], [0.5, 0], [0, 0], [0.5, 0], [0, 0]]


@pytest.mark.parametrize(("term", "after"), [(FeetTime(CONTACT), [0.5, 1.0]), (TouchdownAirTime(CONTACT, 0.4), [0.1])])
def test_a_foot_that_begins_in_the_air_has_been_there_for_no_time(term, after):
    """An observation or a metric is read once in the first state; a reward is not, and both are the same."""
    first, *later = steps((1, 0), (1, 0), (1, 1) if len(after) == 1 else (1, 0))
    carry = init(term, view(**first), context(step=jnp.array(0)))
    value, seen = call(term, carry, view(**first), context(step=jnp.array(0)))
    assert not jnp.any(value)
    for carry_t in (carry, seen):
        found = []
        for step, state in enumerate(later, start=1):
            value, carry_t = call(term, carry_t, view(**state), context(step=jnp.array(step)))
            found.append(float(jnp.ravel(value)[-1]))
        np.testing.assert_allclose(found[-len(after) :], after, rtol=1e-6)


def test_air_time_is_rewarded_up_to_its_target_and_ground_time_costs_beyond():
    """ksim's FeetAirTime: a ramp up to the target, then nothing, or the penalty; the best foot counts."""
    air = Reduced(RampUp(FeetTime(CONTACT), until=1.5), "max")
    np.testing.assert_allclose(values(air, WALK), [1 / 3, 2 / 3, 0, 1 / 3, 2 / 3, 0, 0], atol=1e-6)
    ground = RampUp(FeetTime(CONTACT, grounded=True), until=1.5, after=-0.1)
    np.testing.assert_allclose(
        values(ground, WALK),
        [[1 / 3, 0], [2 / 3, 0], [-0.1, 1 / 3], [0, 2 / 3], [0, -0.1], [0, -0.1], [1 / 3, -0.1]],
        atol=1e-6,
    )


def test_air_time_is_paid_at_touchdown():
    expected = [0, 0, 1.0 - 0.4, 0, 0, 0, 1.5 - 0.4]
    np.testing.assert_allclose(values(TouchdownAirTime(CONTACT, 0.4), WALK), expected, rtol=1e-6)
    np.testing.assert_allclose(
        values(TouchdownAirTime(CONTACT, 0.4, maximum=1.2), WALK), [*expected[:6], 0.8], rtol=1e-6
    )
    both = steps((1, 1), (0, 0), (1, 1))
    np.testing.assert_allclose(values(TouchdownAirTime(CONTACT, 0.8), both), [0, -0.6], rtol=1e-6)


def test_the_height_of_a_step_is_paid_once_at_touchdown_and_capped():
    hop = steps(
        (1, 1, 0.9, 0.9),
        (0, 1, 0.1, 0.9),
        (0, 1, 0.3, 0.9),
        (0, 1, 0.2, 0.9),
        (1, 1, 0, 0.9),
        (1, 1, 0, 0),
        (0, 0, 9, 0.05),
        (1, 1, 0, 0),
    )
    np.testing.assert_allclose(values(TouchdownHeight(CONTACT, HEIGHT, 0.5), hop), [0, 0, 0, 0.3, 0, 0, 0.5], rtol=1e-6)


def test_a_single_contact_counts_for_a_while():
    hops = steps((1, 1), (1, 1), (1, 0), (1, 1), (1, 1), (0, 1), (0, 0))
    assert values(SingleContact(CONTACT), hops) == [0, 1, 0, 0, 1, 0]
    assert values(SingleContact(CONTACT, grace=0.8), hops) == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("contact", "expected"), [((0, 0), 1), ((1, 0), 0), ((1, 1), 0)])
def test_airborne_is_without_any_contact(contact, expected):
    assert first_value(Airborne(CONTACT), view(sensordata=contact), context()) == expected


def of(shape):
    return lambda view, ctx: jnp.reshape(view.sensordata[2:], shape)


def test_slip_is_the_speed_of_feet_that_touch():
    moving = [3, 4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2]  # 5 and 3
    slip = Slip(CONTACT, of((2, 6)))
    found = [
        float(first_value(slip, view(sensordata=[*flags, *moving]), context())) for flags in ((0, 0), (1, 0), (1, 1))
    ]
    assert found == [0, 5, 8]


def test_clearance_costs_what_moves_at_another_height():
    """Heights 0.1 and 0.3 for a target of 0.2; horizontal speeds 5 and 0, which rotation and rising do not change."""
    moving = [9, 9, 9, 3, -4, 7, 9, 9, 9, 0, 0, 7]
    term = SwingClearance(Constant((0.1, 0.3)), of((2, 6)), 0.2)
    np.testing.assert_allclose(first_value(term, view(sensordata=[1, 1, *moving]), context()), 0.5, rtol=1e-6)


def test_an_impact_is_the_hardest_of_the_feet():
    """Forces 5 and 13 N, 3 N of which are free, for an expected 2 N: 1 and 25."""
    seen = view(sensordata=[0, 0, 3, -4, 0, 12, 0, 5])
    assert first_value(Impact(of((2, 3)), expected=2.0, threshold=3.0), seen, context()) == 25
    assert first_value(Impact(of((2, 3)), expected=2.0, threshold=14.0), seen, context()) == 0


@pytest.mark.parametrize(
    ("term", "phases", "expected"),
    [
        (SwingHeight(Commanded("gait"), 0.2, stance=0.6), [0, 0.6, 0.8, 0.7], [0, 0, 0.2, 0.2 * np.sqrt(0.5)]),
        (SwingHeight(Commanded("gait"), 0.2, stance=0.0), [0, 0.25, 0.5, 1.0], [0, 0.2 * np.sqrt(0.5), 0.2, 0]),
        (SwingHeight(Commanded("gait"), 0.2, stance=0.6, sole=0.03), [0.3, 0.8], [0.03, 0.23]),
        # Playground's gait.get_rz: x^3 + 3 x^2 (1 - x) up to the middle, and back.
        (SwingHeight(Commanded("gait"), 0.2, 0.0, "bezier"), [0.125, 0.25, 0.5, 0.75], [0.03125, 0.1, 0.2, 0.1]),
        (SwingHeight(Commanded("gait"), 0.2, 0.6, "bezier"), [0.6, 0.8, 0.9], [0, 0.2, 0.1]),
    ],
    ids=repr,
)
def test_a_foot_swings_along_its_curve(term, phases, expected):
    found = first_value(term, view(), context(commands={"gait": jnp.array(phases, jnp.float32)}))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_clock_of_a_gait_has_no_jump():
    found = first_value(PhaseCircle("gait"), view(), context(commands={"gait": jnp.array([0.0, 0.25, 0.5])}))
    np.testing.assert_allclose(found, [[1, 0, -1], [0, 1, 0]], atol=1e-6)
    ends = context(commands={"gait": jnp.array([0.0, 0.99999])})
    turn = first_value(PhaseCircle("gait"), view(), ends)
    np.testing.assert_allclose(turn[:, 0], turn[:, 1], atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Impact(CONTACT, expected=0.0),
        lambda: SwingHeight(CONTACT, peak=0.0),
        lambda: SwingHeight(CONTACT, peak=1.0, stance=1.0),
        lambda: SwingHeight(CONTACT, peak=1.0, profile="cubic"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises((InvalidConfigError, UnknownNameError)):
        wrong()
