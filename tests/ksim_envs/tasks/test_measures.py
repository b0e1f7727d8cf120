"""What turns quantities into others, against numbers computed by hand."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.joints import Action
from ksim_envs.tasks.measures import (
    REDUCTIONS,
    Clipped,
    CommandAbove,
    Commanded,
    Constant,
    Error,
    RampUp,
    Reduced,
    When,
    Within,
)
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.rewards import Cost, Scaled
from ksim_envs.tasks.terminations import Outside
from ksim_envs.tasks.terms import Remembering
from tests.ksim_envs.tasks.by_hand import context, first_value, values, view

COMMANDS = {"commands": {"speed": jnp.array(2.0), "pose": jnp.array([3.0, -4.0]), "none": jnp.zeros(2)}}
QVEL = Field("qvel")  # (1, -20)
CASES = [
    (Commanded("speed"), 2),
    (Commanded("pose"), [3, -4]),
    (Commanded("pose", 1), -4),
    (Commanded("pose", (1, 2)), [-4]),
    (Constant(1.5), 1.5),
    (Constant((1.0, 2.0)), [1, 2]),
    (Action(), [0.5, -0.5]),
    (Error(QVEL), [1, -20]),
    (Error(QVEL, 1.0), [0, -21]),
    (Error(QVEL, (2.0, 3.0)), [-1, -23]),
    (Error(QVEL, "pose"), [-2, -16]),
    (Error(QVEL, Field("qpos")), [-4, -27]),
    (Reduced(QVEL, "sum"), -19),
    (Reduced(QVEL, "mean"), -9.5),
    (Reduced(QVEL, "max"), 1),
    (Reduced(QVEL, "min"), -20),
    (Reduced(QVEL, "sum_square"), 401),
    (Reduced(QVEL, "mean_square"), 200.5),
    (Reduced(QVEL, "sum_abs"), 21),
    (Reduced(QVEL, "mean_abs"), 10.5),
    (Reduced(QVEL, "max_abs"), 20),
    (Reduced(Commanded("pose"), "norm"), 5),
    (When(CommandAbove("pose", 4.9), QVEL), [1, -20]),
    (When(CommandAbove("pose", 5.1), QVEL), [0, 0]),
    (When(CommandAbove("pose", 5.1), QVEL, negated=True), [1, -20]),
    (CommandAbove("pose", 3.5, part=0), False),
    (CommandAbove("pose", 3.5, part=(1, 2)), True),
    (CommandAbove("none", 0.0), False),
    (Clipped(QVEL, -10.0, 0.5), [0.5, -10]),
    (Clipped(QVEL, high=0.5), [0.5, -20]),
    (Within(Coordinate(0), low=4.0, high=6.0, dropoff=0.5), 1),  # qpos is (5, 7)
    (Within(Coordinate(0), low=6.0, high=7.0, dropoff=0.25), 0.75),
    (Within(Coordinate(0), low=1.0, high=3.0, dropoff=0.25), 0.5),
    (Within(Coordinate(0), low=1.0, high=3.0, dropoff=2.0), 0),
    (RampUp(Coordinate(0), until=10.0), 0.5),
    (RampUp(Coordinate(0), until=5.0), 0),
    (RampUp(Coordinate(0), until=4.0, after=-0.1), -0.1),
]


@pytest.mark.parametrize(("term", "expected"), CASES, ids=[repr(case[0]) for case in CASES])
def test_the_value_is_that_computed_by_hand(term, expected):
    ctx = context(action=jnp.array([0.5, -0.5]), **COMMANDS)
    value = first_value(term, view(qpos=[5, 7], qvel=[1, -20]), ctx)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_every_reduction_has_a_case():
    assert {case[0].by for case in CASES if isinstance(case[0], Reduced)} == set(REDUCTIONS)


@pytest.mark.parametrize("target", [(1.0,), "speed", Coordinate(0)], ids=repr)
def test_a_target_of_another_shape_is_refused_instead_of_broadcast(target):
    with pytest.raises(InvalidConfigError, match=r"shape \(2,\) has a target of shape"):
        first_value(Error(QVEL, target), view(qpos=[5, 7], qvel=[1, -20]), context(**COMMANDS))


def test_a_command_that_the_task_does_not_have_gets_the_near_miss():
    with pytest.raises(UnknownNameError, match="Did you mean 'speed'"):
        first_value(Error(Coordinate(0), "sped"), view(qpos=[5, 7]), context(**COMMANDS))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Reduced(QVEL, "sums"),
        lambda: Within(QVEL, low=2.0, high=1.0, dropoff=1.0),
        lambda: Within(QVEL, low=1.0, high=2.0, dropoff=-1.0),
        lambda: RampUp(QVEL, until=0.0),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises((InvalidConfigError, UnknownNameError)):
        wrong()


@dataclass(frozen=True)
class Noise:
    def __call__(self, view, ctx):
        return jax.random.normal(ctx.key)


@dataclass(frozen=True)
class Total(Remembering):
    """The sum of a quantity over an episode, its first state included."""

    quantity: object

    @property
    def parts(self):
        return (self.quantity,)

    def remember(self, value, ctx):
        return value

    def update(self, memory, value, ctx):
        return memory + value, memory + value


def test_parts_of_a_combination_draw_from_streams_of_their_own():
    value = first_value(Error(Noise(), Noise()), view(), context())
    assert value != 0


def test_parts_may_remember_something_themselves():
    states = [{"qpos": [each, 0]} for each in (1, 2, 3)]
    total = Total(Coordinate(0))
    assert values(total, states) == [3, 6]
    assert values(Total(total), states) == [2 + 3, 2 + 3 + 6]  # the inner one is called in the first state too: 1 + 1
    assert values(Error(total, Coordinate(0)), states) == [1, 3]
    assert values(Scaled(2.0, Reduced(total, "sum")), states) == [6, 12]
    assert values(Cost(2.0, When(Outside(Coordinate(0), low=9.0), total)), states) == [-6, -12]
