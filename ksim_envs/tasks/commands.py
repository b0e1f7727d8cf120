"""Command terms: what a policy is asked to do, and how it changes in an episode.

A *draw* is a random value, `(view, ctx) -> array`; `Held` keeps one until it is drawn anew, and `Approached` moves to
it at a limited rate. So a walking task may ask for `Held(Uniform((-1.0, -0.5), (1.0, 0.5)), probability=0.005)`. Ends
of ranges may follow the curriculum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks import scales
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.measures import check_shapes
from ksim_envs.tasks.numbers import check_interval, check_probabilities, is_number
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.scales import Scale, check_probability, check_scale, scale_at
from ksim_envs.tasks.terms import Carry, Command, Quantity, Remembering
from ksim_envs.types import View

Draw: TypeAlias = Callable[[View, Context], Array]
"""A random value, or any stateless quantity."""
Ends: TypeAlias = Scale | tuple[Scale, ...]
"""The lower or the upper ends of ranges: of a scalar, or of each element of a vector."""
LARGEST_INTEGER = 2**24
"""The whole numbers up to it are float32 ones, which all commands are."""


@dataclass(frozen=True)
class Uniform:
    """Uniform in [`low`, `high`), each element by itself.

    ksim: FloatVector, BaseHeight, LinearVelocity, AngularVelocity
    """

    low: Ends
    high: Ends

    def __post_init__(self) -> None:
        check_ends("Uniform", self.low, self.high)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """A scalar for numbers, a vector for tuples."""
        low, high = ends_at(self.low, ctx.level), ends_at(self.high, ctx.level)
        return uniform(ctx.key, low.shape, low, high, low.dtype)


@dataclass(frozen=True)
class UniformInteger:
    """A whole number, uniform from `low` to `high`, both included and whole; each element by itself.

    Between the ends of a scale that follows the curriculum it is rounded.

    ksim: IntVector
    """

    low: Ends
    high: Ends

    def __post_init__(self) -> None:
        check_ends("UniformInteger", self.low, self.high)
        for ends in (self.low, self.high):
            numbers = [end for each in (ends if isinstance(ends, tuple) else (ends,)) for end in scales.ends(each)]
            if not all(number == round(number) and abs(number) < LARGEST_INTEGER for number in numbers):
                raise InvalidConfigError(
                    f"UniformInteger has the end {ends}; it must be whole and within +-{LARGEST_INTEGER:,}."
                )

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """A scalar for numbers, a vector for tuples; as floating-point numbers, which all commands are."""
        low, high = (jnp.round(ends_at(ends, ctx.level)).astype(jnp.int32) for ends in (self.low, self.high))
        return jax.random.randint(ctx.key, low.shape, low, high + 1).astype(jnp.float32)


def ends_at(ends: Ends, level: Array) -> Float[Array, "..."]:
    """The ends of ranges at a level of the curriculum."""
    if isinstance(ends, tuple):
        return jnp.stack([scale_at(end, level) for end in ends])
    return scale_at(ends, level)


def check_ends(what: str, low: Ends, high: Ends) -> None:
    """Refuse ranges that do not fit together, are not finite, or whose high end comes first.

    Raises:
        InvalidConfigError: what is wrong; the message begins with `what`.
    """
    if any(isinstance(ends, list | np.ndarray) for ends in (low, high)):
        raise InvalidConfigError(f"{what} has the ends {low!r} and {high!r}; the ends of a vector must be tuples.")
    sizes = [len(ends) if isinstance(ends, tuple) else None for ends in (low, high)]
    if sizes[0] != sizes[1] or sizes[0] == 0:
        raise InvalidConfigError(f"{what} has the ends {low} and {high}; give two numbers, or two equally long tuples.")
    lows, highs = (ends if isinstance(ends, tuple) else (ends,) for ends in (low, high))
    for one, other in zip(lows, highs, strict=True):
        pairs = list(zip(scales.ends(one), scales.ends(other), strict=True))
        if not all(is_number(a) and is_number(b) and a <= b for a, b in pairs):
            raise InvalidConfigError(f"{what} has the range [{one}, {other}]; it must be finite, the low end first.")


@dataclass(frozen=True)
class EitherSign:
    """A draw with a random sign, the same for all elements: -1 or 1 with equal probability.

    ksim: AngularVelocity
    """

    draw: Draw

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """In the draw's shape."""
        sign = jax.random.rademacher(ctx.stream("sign").key, (), jnp.float32)
        return sign * self.draw(view, ctx.stream("draw"))


@dataclass(frozen=True)
class PolarVelocity:
    """A horizontal velocity in m/s: a speed uniform in [`low`, `high`), a direction uniform in +-`max_direction` rad.

    The direction is measured from straight ahead, and with `backward_probability` from straight back.

    ksim: LinearVelocity
    """

    low: Scale
    high: Scale
    max_direction: Scale = 0.0
    backward_probability: Scale = 0.0

    def __post_init__(self) -> None:
        check_ends("PolarVelocity", self.low, self.high)
        check_scale("PolarVelocity.low", self.low)
        check_scale("PolarVelocity.max_direction", self.max_direction)
        check_probability("PolarVelocity.backward_probability", self.backward_probability)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "2"]:
        """Ahead and to the left."""
        speed = Uniform(self.low, self.high)(view, ctx.stream("speed"))
        turn = uniform(ctx.stream("direction").key, (), -1.0, 1.0)
        angle = turn * scale_at(self.max_direction, ctx.level)
        backward = happens(self.backward_probability, ctx.stream("backward"))
        return jnp.where(backward, -speed, speed) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


@dataclass(frozen=True)
class Choice:
    """One of several draws, each with its own probability; all have the same shape.

    ksim: LinearVelocityStep, AngularVelocityStep, UnifiedCommand
    """

    draws: tuple[Draw, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        check_probabilities("Choice", self.probabilities, len(self.draws))

    def __call__(self, view: View, ctx: Context) -> Float[Array, "..."]:
        """In the draws' shape."""
        drawn = [draw(view, ctx.stream(str(index))) for index, draw in enumerate(self.draws)]
        if len(shapes := {jnp.shape(value) for value in drawn}) > 1:
            raise InvalidConfigError(f"Choice has draws of the shapes {sorted(shapes)}; they must all have the same.")
        values = jnp.stack(drawn)
        return values[jax.random.choice(ctx.stream("choice").key, len(values), p=jnp.asarray(self.probabilities))]


@dataclass(frozen=True, kw_only=True)
class Joystick:
    """What someone with a joystick may ask for: velocity ahead and to the left (m/s) and yaw rate (rad/s).

    One of the modes in `JOYSTICK_MODES` is drawn with its probability, at the speed that belongs to it. The velocity is
    in the base's heading frame: ahead is where the robot looks at that moment.

    ksim: Joystick, EasyJoystick
    """

    walk: Scale  # m/s, ahead, and back
    run: Scale  # m/s, ahead
    strafe: Scale  # m/s, to either side
    turn: Scale  # rad/s, to either side
    probabilities: tuple[float, ...] = (0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)

    def __post_init__(self) -> None:
        for name in ("walk", "run", "strafe", "turn"):
            check_scale(f"Joystick.{name}", getattr(self, name))
        check_probabilities("Joystick", self.probabilities, len(JOYSTICK_MODES))

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        """Ahead, to the left, and turning to the left."""
        walk, run, strafe, turn = (scale_at(each, ctx.level) for each in (self.walk, self.run, self.strafe, self.turn))
        no = jnp.zeros(())
        modes = jnp.array(
            [
                [no, no, no],
                [walk, no, no],
                [run, no, no],
                [-walk, no, no],
                [no, no, turn],
                [no, no, -turn],
                [no, strafe, no],
                [no, -strafe, no],
            ]
        )
        return modes[jax.random.choice(ctx.key, len(modes), p=jnp.asarray(self.probabilities))]


JOYSTICK_MODES = ("stand", "walk", "run", "back", "turn left", "turn right", "strafe left", "strafe right")
"""In the order of the probabilities."""


@dataclass(frozen=True)
class UniformRotation:
    """A unit quaternion, uniform over all rotations.

    ksim: GlobalBodyQuaternion
    """

    def __call__(self, view: View, ctx: Context) -> Float[Array, "4"]:
        """In the order w x y z."""
        quat = jax.random.normal(ctx.key, (4,), jnp.float32)
        return quat / jnp.linalg.norm(quat)


@dataclass(frozen=True)
class Held:
    """A draw that is kept: from the start of an episode on, until it is drawn anew.

    That happens in each control step with `probability`, and when `interval` s have passed since the last draw, a time
    that is itself uniform in this range. A draw is replaced by zeros with `zero_probability`. What decides on these is
    independent of what is drawn. A quantity that is not random is held as it was in the episode's first state.

    ksim: FloatVector, IntVector, StartPosition, StartQuaternion, BaseHeight, Position
    """

    draw: Draw
    probability: Scale = 0.0
    interval: tuple[float, float] | None = None
    zero_probability: Scale = 0.0

    def __post_init__(self) -> None:
        check_probability("Held.probability", self.probability)
        check_probability("Held.zero_probability", self.zero_probability)
        if self.interval is not None:
            check_interval("Held.interval", self.interval)

    def init(self, view: View, ctx: Context) -> Carry:
        """Room for the value, and for the control steps until it is drawn anew; the first call fills both."""
        shape = jax.eval_shape(lambda: self.draw(view, ctx)).shape
        return jnp.zeros(shape), jnp.zeros((), jnp.int32)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Float[Array, "..."], Carry]:
        """In the draw's shape."""
        value, left = carry
        changes = (ctx.step == 0) | happens(self.probability, ctx.stream("switch"))
        if self.interval:
            left = left - 1
            changes |= left <= 0
            left = jnp.where(changes, whole_steps(self.interval, ctx.stream("interval")), left)
        drawn = jnp.asarray(self.draw(view, ctx.stream("draw")), jnp.float32)
        drawn = jnp.where(happens(self.zero_probability, ctx.stream("zero")), 0.0, drawn)
        value = jnp.where(changes, drawn, value)
        return value, (value, left)


def happens(probability: Scale, ctx: Context) -> Array:
    """Whether something of this probability happens, (), bool. For 0 and 1 no number is drawn."""
    if probability in (0, 1):
        return jnp.full((), bool(probability))
    return jax.random.bernoulli(ctx.key, scale_at(probability, ctx.level))


def whole_steps(interval: tuple[float, float], ctx: Context) -> Array:
    """A number of control steps, at least 1, whose time is uniform in a range in s."""
    time = uniform(ctx.key, (), *interval)
    return jnp.maximum(jnp.round(time / ctx.dt).astype(jnp.int32), 1)


@dataclass(frozen=True)
class Approached(Remembering):
    """A command that is approached by no more than `rate` units in a second, from `start` on.

    Of a vector it is the length of the way that is limited, so a velocity is approached with that acceleration. It
    starts at a quantity, such as the real velocity, and without one at the command itself.

    ksim: LinearVelocity, AngularVelocity
    """

    command: Command
    rate: Scale
    start: Quantity | None = None

    def __post_init__(self) -> None:
        check_scale("Approached.rate", self.rate)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The command, and where it starts if it is told."""
        return (self.command,) if self.start is None else (self.command, self.start)

    def remember(self, *args: Any) -> Array:
        """The value."""
        *values, _ = args
        check_shapes(values[-1], values[0])
        return values[-1]

    def update(self, *args: Any) -> tuple[Float[Array, "..."], Array]:
        """In the command's shape."""
        memory, target, *_, ctx = args
        if self.start is None:
            memory = jnp.where(ctx.step == 0, target, memory)
        way = target - memory
        length = jnp.sqrt(jnp.sum(jnp.square(way)))
        reach = jnp.where(ctx.step > 0, scale_at(self.rate, ctx.level) * ctx.dt, 0.0)
        memory = memory + way * jnp.minimum(1.0, reach / jnp.maximum(length, 1e-9))
        return memory, memory
