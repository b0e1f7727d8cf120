"""What terms ask of the numbers that they are given."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeAlias

from ksim_envs.errors import InvalidConfigError


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_positive(what: str, **values: Any) -> None:
    """Refuse numbers that are not positive.

    Raises:
        InvalidConfigError: one is not; the message names it.
    """
    for name, value in values.items():
        if not (is_number(value) and value > 0):
            raise InvalidConfigError(f"{what}.{name} is {value!r}; it must be finite and positive.")


def check_not_negative(what: str, **values: float) -> None:
    """Refuse numbers that are below 0, or none at all; infinity is one.

    Raises:
        InvalidConfigError: one is; the message names it.
    """
    for name, value in values.items():
        if not (isinstance(value, Real) and value >= 0):
            raise InvalidConfigError(f"{what}.{name} is {value!r}; it must be at least 0.")


def check_within(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is no finite number within [low, high].

    Raises:
        InvalidConfigError: it is none; the message begins with `what`.
    """
    if not (is_number(value) and low <= value <= high):
        raise InvalidConfigError(f"{what} is {value!r}; it must be finite and within [{low}, {high}].")


Range: TypeAlias = tuple[float, float]
"""A lower and an upper end, between which something is drawn uniformly."""


def check_range(what: str, bounds: Range, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse ends that are not finite, not in order or not within [low, high].

    Raises:
        InvalidConfigError: they are; the message begins with `what`.
    """
    is_pair = isinstance(bounds, tuple) and len(bounds) == 2 and all(map(is_number, bounds))
    if not (is_pair and low <= bounds[0] <= bounds[1] <= high):
        raise InvalidConfigError(
            f"{what} is {bounds}; it must be (lowest, highest), in this order, finite and within [{low}, {high}]."
        )


def check_interval(what: str, interval: tuple[float, float]) -> None:
    """Refuse a range of times that are not positive and finite, the shorter one first.

    Raises:
        InvalidConfigError: it is one; the message begins with `what`.
    """
    is_pair = isinstance(interval, tuple) and len(interval) == 2 and all(map(is_number, interval))
    if not (is_pair and 0 < interval[0] <= interval[1]):
        raise InvalidConfigError(f"{what} is {interval}; it must be two positive times in s, the shorter one first.")


def check_probabilities(what: str, probabilities: tuple[float, ...], count: int) -> None:
    """Refuse probabilities that are not one for each of `count` choices, or do not add up to 1.

    Raises:
        InvalidConfigError: what is wrong; the message begins with `what`.
    """
    if not count:
        raise InvalidConfigError(f"{what} has nothing to choose from; give at least one.")
    are_some = len(probabilities) == count and all(is_number(each) and each >= 0 for each in probabilities)
    if not (are_some and math.isclose(sum(probabilities), 1.0, abs_tol=1e-6)):
        raise InvalidConfigError(
            f"{what}.probabilities is {probabilities}; it must be {count} numbers of at least 0 with the sum 1."
        )
