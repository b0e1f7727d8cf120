"""What goes around a quantity: values by hand, spreads measured, and a random stream of its own for each."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.tasks.measures import Clipped
from ksim_envs.tasks.observations import Field
from ksim_envs.tasks.scales import Ramp
from ksim_envs.tasks.sensing import Affine, Bias, Delayed, History, Noise, Smoothed, Tilted
from ksim_envs.tasks.terms import call, init
from tests.ksim_envs.tasks.by_hand import context, unchecked_types, view

QVEL = Field("qvel")
NUM_DRAWS = 4000
KEYS = jax.random.split(jax.random.key(7), NUM_DRAWS)


@dataclass(frozen=True)
class Counter:
    """A quantity that remembers: how often it was called."""

    def init(self, view, ctx):
        return jnp.array(0.0)

    def __call__(self, carry, view, ctx):
        return carry, carry + 1


def episode(term, values, **changes):
    """A term's values in an episode in which qvel takes these, with a key for each step."""
    keys = jax.random.split(jax.random.key(3), len(values))
    carry = init(term, view(qvel=values[0]), context(key=keys[0], **changes))
    shown = []
    for value, key in zip(values, keys, strict=True):
        out, carry = call(term, carry, view(qvel=value), context(key=key, **changes))
        shown.append(np.asarray(out))
    return np.array(shown)


def drawn(term, value, **changes):
    """(NUM_DRAWS, ...) first values of a term, each with a key of its own."""

    def first(key):
        ctx = context(key=key, **changes)
        return call(term, init(term, view(qvel=value), ctx), view(qvel=value), ctx)[0]

    return np.asarray(jax.vmap(first)(KEYS))


ERRORS = {
    "normal": lambda cls: (cls(QVEL, 0.5), 0.5),
    "uniform": lambda cls: (cls(QVEL, 0.5, "uniform"), 0.5 / np.sqrt(3)),
    "normal, chained with uniform": lambda cls: (cls(cls(QVEL, 0.5), 0.6, "uniform"), np.hypot(0.5, 0.6 / np.sqrt(3))),
}


@pytest.mark.parametrize("cls", [Noise, Bias])
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("multiplies", [False, True])
def test_an_error_has_its_spread_around_zero_and_is_independent_for_each_element(cls, name, multiplies):
    if multiplies and "chained" in name:
        term, deviation = cls(QVEL, 0.5, multiplies=True), 0.5
    else:
        term, deviation = ERRORS[name](lambda *args: cls(*args, multiplies=multiplies))
    errors = drawn(term, [2.0, -4.0]) - [2.0, -4.0]
    if multiplies:
        errors /= [2.0, -4.0]
    # 4000 draws tell a mean to deviation / 63 and a deviation to 1.1 %; four times that is never missed
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=4 * deviation / 63)
    np.testing.assert_allclose(errors.std(axis=0), deviation, rtol=0.05)
    assert abs(np.corrcoef(errors.T)[0, 1]) < 4 / 63


def test_chained_noises_are_independent_of_each_other():
    """The reference drew both with the same key."""
    both = drawn(Noise(Noise(QVEL, 1.0, "uniform"), 1.0, "uniform"), [0.0])[:, 0]
    assert abs(both).max() > 1.5 and abs(both).max() <= 2
    assert abs(both.std() - np.sqrt(2 / 3)) < 0.05, "twice the same error would have a deviation of 1.15"


@pytest.mark.parametrize("cls", [Noise, Bias])
def test_a_uniform_error_stays_within_its_spread(cls):
    errors = drawn(cls(QVEL, 0.25, "uniform"), [0.0])
    assert errors.min() >= -0.25 and errors.max() < 0.25 and np.ptp(errors) > 0.49


@pytest.mark.parametrize("cls", [Noise, Bias])
@pytest.mark.parametrize(("level", "deviation"), [(0.0, 0.0), (0.5, 0.2), (1.0, 0.4)])
def test_a_spread_follows_the_curriculum(cls, level, deviation):
    errors = drawn(cls(QVEL, Ramp(0.0, 0.4)), [0.0], level=jnp.array(level))
    np.testing.assert_allclose(errors.std(), deviation, rtol=0.05)


def test_noise_changes_from_step_to_step_and_a_bias_does_not():
    noise, bias = (episode(cls(QVEL, 1.0), [[0.0, 0.0]] * 10) for cls in (Noise, Bias))
    assert len(np.unique(noise)) == 20
    assert len(np.unique(bias)) == 2 and (bias == bias[0]).all()


def test_a_bias_that_multiplies_is_the_same_share_of_every_value():
    shown = episode(Bias(QVEL, 0.5, multiplies=True), [[1.0], [2.0], [-3.0]])[:, 0]
    np.testing.assert_allclose(shown / [1, 2, -3], shown[0], rtol=1e-6)


NUMBERS = [[float(i), 10.0 * i] for i in range(6)]


@pytest.mark.parametrize(("steps", "first"), [(0, [0, 1, 2, 3]), (1, [0, 0, 1, 2]), (3, [0, 0, 0, 0])])
def test_a_delay_shows_what_was_and_before_that_the_first_value(steps, first):
    shown = episode(Delayed(QVEL, steps), NUMBERS)
    assert shown[:4, 0].tolist() == first and (shown[:, 1] == 10 * shown[:, 0]).all()


def test_a_delay_is_drawn_for_each_episode_with_both_ends():
    def after_five(key):
        term, ctx = Delayed(QVEL, (1, 3)), context(key=key)
        carry = init(term, view(qvel=NUMBERS[0]), ctx)
        for value in NUMBERS:
            shown, carry = call(term, carry, view(qvel=value), ctx)
        return 5 - shown[0]

    delays, counts = np.unique(jax.vmap(after_five)(KEYS), return_counts=True)
    assert delays.tolist() == [1, 2, 3]
    np.testing.assert_allclose(counts / NUM_DRAWS, 1 / 3, atol=0.03)


def test_a_history_has_the_oldest_value_first_and_begins_with_copies_of_the_first():
    shown = episode(History(QVEL, 3), NUMBERS)
    assert shown.shape == (6, 3, 2)
    assert shown[0, :, 0].tolist() == [0, 0, 0]
    assert shown[1, :, 0].tolist() == [0, 0, 1]
    assert shown[5, :, 0].tolist() == [3, 4, 5]


def test_a_filter_follows_its_formula_from_the_first_value_on():
    shown = episode(Smoothed(QVEL, 0.75, 0.75), [[4.0], [0.0], [8.0]])[:, 0]
    np.testing.assert_allclose(shown, [4, 3, 0.75 * 3 + 0.25 * 8], rtol=1e-6)


def test_a_filter_has_a_lag_within_its_range():
    def second(key):
        term, ctx = Smoothed(QVEL, 0.2, 0.6), context(key=key)
        carry = init(term, view(qvel=[1.0]), ctx)
        return call(term, carry, view(qvel=[0.0]), ctx)[0][0]

    lags = np.asarray(jax.vmap(second)(KEYS))
    assert lags.min() >= 0.2 and lags.max() < 0.6 and np.ptp(lags) > 0.39


def test_a_tilt_turns_all_vectors_alike_by_angles_of_its_deviation():
    term = Tilted(lambda view, ctx: jnp.stack([view.qvel, 2 * view.qvel]), 0.02)
    tilted = drawn(term, [0.0, 0.0, -1.0])
    np.testing.assert_allclose(np.linalg.norm(tilted[:, 0], axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(tilted[:, 1], 2 * tilted[:, 0], rtol=1e-5, atol=1e-6)
    # for small angles (a, b, c) a sensor turned by them sees (0, 0, -1) as (b, -a, -1)
    np.testing.assert_allclose(tilted[:, 0, :2].std(axis=0), 0.02, rtol=0.05)
    assert (np.ptp(episode(Tilted(QVEL, 0.5), [[0.0, 0.0, -1.0]] * 3), axis=0) == 0).all(), "as long as the episode"


def test_units_and_saturation():
    assert episode(Affine(QVEL, factor=2.0, offset=-1.0), [[3.0, -4.0]]).tolist() == [[5, -9]]
    assert episode(Clipped(QVEL, -1.0, 2.5), [[3.0, -4.0, 0.5]]).tolist() == [[2.5, -1, 0.5]]


AROUND = {
    "noise": lambda quantity: Noise(quantity, 0.0),
    "bias": lambda quantity: Bias(quantity, 0.0),
    "delay": lambda quantity: Delayed(quantity, 0),
    "history": lambda quantity: History(quantity, 1),
    "filter": lambda quantity: Smoothed(quantity, 0.0, 0.0),
    "affine": Affine,
    "clipped": lambda quantity: Clipped(quantity, -1e9, 1e9),
}


@pytest.mark.parametrize("name", AROUND)
def test_a_quantity_that_remembers_is_called_once_a_step(name):
    shown = episode(AROUND[name](Counter()), [[0.0]] * 4)
    assert shown.ravel().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", AROUND)
def test_flags_become_numbers_where_they_must_and_keep_their_shape(name):
    flags = lambda view, ctx: view.qvel > 0  # noqa: E731
    shown = episode(AROUND[name](flags), [[1.0, -1.0]])
    assert shown.ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Noise(QVEL, -0.1), InvalidConfigError, "Noise has the scale -0.1"),
        (lambda: Bias(QVEL, Ramp(0.0, -1.0)), InvalidConfigError, "Bias has the scale"),
        (lambda: Tilted(QVEL, np.inf), InvalidConfigError, "Tilted has the scale inf"),
        (lambda: Noise(QVEL, 0.1, "gaussian"), UnknownNameError, "no distribution 'gaussian'"),
        (lambda: Delayed(QVEL, -1), InvalidConfigError, "Delayed.steps is -1"),
        (lambda: Delayed(QVEL, (2, 1)), InvalidConfigError, r"Delayed.steps is \(2, 1\)"),
        (lambda: History(QVEL, 0), InvalidConfigError, "History.length is 0"),
        (lambda: Smoothed(QVEL, 0.5, 1.0), InvalidConfigError, "lags from 0.5 to 1.0"),
        (lambda: Smoothed(QVEL, 0.5, 0.4), InvalidConfigError, "lags from 0.5 to 0.4"),
        (lambda: Clipped(QVEL, 1.0, -1.0), InvalidConfigError, "low 1.0 and high -1.0"),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        make()
