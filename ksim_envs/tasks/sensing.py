"""What stands between a quantity and the policy that sees it: noise, bias, delay, history and the like.

All of these go around any quantity, and around each other, the innermost first: `Delayed(Noise(JointPosition(),
0.01), steps=(1, 3))` is a noisy encoder whose readings come late. Each draws from a stream of its own, so chained
noises are independent. What is drawn for an episode is drawn at its first state; before that state there is nothing,
so a delay and a history begin with its value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.tasks import rotations
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.numbers import is_number
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.rotations import Vector
from ksim_envs.tasks.scales import Scale, check_scale, scale_at
from ksim_envs.tasks.terms import Modifier, Quantity, Remembering

Distribution: TypeAlias = Literal["normal", "uniform"]
"""`normal` has the spread as its standard deviation, `uniform` lies in [-spread, spread)."""


class _Remembering(Remembering):
    """A memory of one quantity's values."""

    quantity: Quantity

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The quantity."""
        return (self.quantity,)


@dataclass(frozen=True)
class _Perturbed:
    """A random error of a quantity, around zero: `value + error`, or `value (1 + error)` where it `multiplies`."""

    quantity: Quantity
    spread: Scale
    distribution: Distribution = "normal"
    multiplies: bool = False

    def __post_init__(self) -> None:
        check_scale(type(self).__name__, self.spread)
        check_name("distribution", self.distribution, get_args(Distribution))

    def _draw(self, value: Array, ctx: Context) -> Array:
        """An error for each element of the value."""
        sample = jax.random.normal if self.distribution == "normal" else _symmetric
        return scale_at(self.spread, ctx.level) * sample(ctx.key, value.shape, _float_type(value))

    def _with(self, error: Array, value: Array) -> Array:
        return value * (1 + error) if self.multiplies else value + error


@dataclass(frozen=True)
class Noise(_Perturbed, Modifier):
    """A quantity with an error that is drawn anew in every step, for each element.

    Noises around each other chain.

    ksim: AdditiveGaussianNoise, AdditiveUniformNoise, MultiplicativeGaussianNoise, MultiplicativeUniformNoise
    ksim: ChainedNoise, UniformRandomVariable, GaussianRandomVariable, UniformGaussianRandomVariable
    """

    def change(self, value: Array, ctx: Context) -> Array:
        """The value with the error, in its unit and shape."""
        return self._with(self._draw(value, ctx), value)


@dataclass(frozen=True)
class Bias(_Perturbed, _Remembering):
    """A quantity with an error that stays the same for a whole episode, drawn for each element.

    ksim: AdditiveGaussianBias, AdditiveUniformBias, MultiplicativeGaussianBias, MultiplicativeUniformBias
    """

    def remember(self, value: Array, ctx: Context) -> Array:
        """The error."""
        return self._draw(value, ctx)

    def update(self, memory: Array, value: Array, ctx: Context) -> tuple[Array, Array]:
        """The value with the error, in its unit and shape."""
        return self._with(memory, value), memory


@dataclass(frozen=True)
class Delayed(_Remembering):
    """A quantity as it was some control steps ago; the number is drawn for each episode where it is a range.

    ksim: DelayedJointPositionObservation, DelayedJointVelocityObservation
    """

    quantity: Quantity
    steps: int | tuple[int, int]
    """At least 0; of a range both ends are included."""

    def __post_init__(self) -> None:
        is_pair = len(self._range) == 2 and all(type(each) is int for each in self._range)
        if not (is_pair and 0 <= self._range[0] <= self._range[1]):
            raise InvalidConfigError(
                f"Delayed.steps is {self.steps!r}; it must be whole, at least 0, and (least, most) must not fall."
            )

    @property
    def _range(self) -> tuple[int, int]:
        return self.steps if isinstance(self.steps, tuple) else (self.steps, self.steps)

    def remember(self, value: Array, ctx: Context) -> tuple[Array, Array]:
        """Past values, the newest first, and the delay in steps."""
        least, most = self._range
        delay = jnp.int32(least) if least == most else jax.random.randint(ctx.key, (), least, most + 1)
        return _repeated(value, most + 1), delay

    def update(self, memory: tuple[Array, Array], value: Array, ctx: Context) -> tuple[Array, tuple[Array, Array]]:
        """The old value, in its unit and shape."""
        past, delay = memory
        past = jnp.concatenate([value[None], past[:-1]])
        return past[delay], (past, delay)


@dataclass(frozen=True)
class History(_Remembering):
    """The last `length` values of a quantity, at as many control steps, the oldest first and the current one last.

    ksim: HistoryObservation
    """

    quantity: Quantity
    length: int

    def __post_init__(self) -> None:
        if type(self.length) is not int or self.length < 1:
            raise InvalidConfigError(f"History.length is {self.length!r}; it must be a whole number of at least 1.")

    def remember(self, value: Array, ctx: Context) -> Array:
        """Past values."""
        return _repeated(value, self.length)

    def update(self, memory: Array, value: Array, ctx: Context) -> tuple[Array, Array]:
        """(length, ...), in the quantity's unit."""
        past = jnp.concatenate([memory[1:], value[None]])
        return past, past


@dataclass(frozen=True)
class Smoothed(_Remembering):
    """A quantity behind a filter, `y[t] = lag y[t-1] + (1 - lag) x[t]`, which begins at the first value.

    The lag is drawn in [low, high) for each episode. Filters of attitude in IMUs are like this.

    ksim: ProjectedGravityObservation
    """

    quantity: Quantity
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (is_number(self.low) and is_number(self.high) and 0 <= self.low <= self.high < 1):
            raise InvalidConfigError(
                f"Smoothed has lags from {self.low} to {self.high}; it must be 0 <= low <= high < 1."
            )

    def remember(self, value: Array, ctx: Context) -> tuple[Array, Array]:
        """The filter's last value, and the lag."""
        value = value.astype(_float_type(value))
        return value, uniform(ctx.key, (), self.low, self.high, value.dtype)

    def update(self, memory: tuple[Array, Array], value: Array, ctx: Context) -> tuple[Array, tuple[Array, Array]]:
        """The filter's value, in the quantity's unit and shape."""
        last, lag = memory
        last = lag * last + (1 - lag) * value
        return last, (last, lag)


@dataclass(frozen=True)
class Tilted(_Remembering):
    """A vector as a crooked sensor sees it: turned about each axis by an angle that is normal with `deviation` rad.

    The rotation vector is drawn for each episode and is the same for all vectors of the quantity. (To turn all sensors
    of one site together, randomize `site_quat`.)

    ksim: ProjectedGravityObservation
    """

    quantity: Quantity
    deviation: Scale

    def __post_init__(self) -> None:
        check_scale("Tilted", self.deviation)

    def remember(self, value: Vector, ctx: Context) -> Float[Array, "4"]:
        """The sensor's orientation in the frame of the vectors."""
        angles = scale_at(self.deviation, ctx.level) * jax.random.normal(ctx.key, (3,), value.dtype)
        return rotations.from_rotation_vector(angles)

    def update(self, memory: Float[Array, "4"], value: Vector, ctx: Context) -> tuple[Vector, Array]:
        """(..., 3), in the quantity's unit and of its length."""
        return rotations.rotate_back(jnp.broadcast_to(memory, (*value.shape[:-1], 4)), value), memory


@dataclass(frozen=True)
class Affine(Modifier):
    """`factor * value + offset`, for a sensor in units of its own or to bring a quantity to the size of 1."""

    quantity: Quantity
    factor: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (is_number(self.factor) and is_number(self.offset)):
            raise InvalidConfigError(f"Affine has factor {self.factor} and offset {self.offset}; both must be finite.")

    def change(self, value: Array, ctx: Context) -> Array:
        """In the value's shape."""
        return self.factor * value + self.offset


def _repeated(value: Array, times: int) -> Array:
    return jnp.broadcast_to(value, (times, *value.shape))


def _symmetric(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    return uniform(key, shape, -1.0, 1.0, dtype)


def _float_type(value: Array) -> jnp.dtype:
    return jnp.result_type(value, jnp.float32)
