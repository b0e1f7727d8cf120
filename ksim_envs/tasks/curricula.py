"""Curriculum terms: how hard the task is for each env, from 0 to 1, learnt at the end of each of its episodes.

Every env has a level of its own. What a level means is up to the other terms' scales (`scales.Ramp`).
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.numbers import check_within, is_number
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.terms import Carry, Quantity, call, init
from ksim_envs.types import View

Level = Float[Array, ""]


@dataclass(frozen=True)
class ConstantLevel:
    """The same level always.

    ksim: ConstantCurriculum
    """

    constant: float = 1.0
    """In [0, 1]."""

    def __post_init__(self) -> None:
        check_within("ConstantLevel.constant", self.constant, 0.0, 1.0)

    def init(self) -> Carry:
        """Nothing."""
        return ()

    def level(self, carry: Carry) -> Level:
        """The level."""
        return jnp.float32(self.constant)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> Carry:
        """Nothing."""
        return carry


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The level rises with the control steps that the env has done: `clip((steps - delay) / steps_to_top, start, 1)`.

    It changes between episodes. In a run of `num_envs` envs, n steps of each are `n * num_envs` steps of the run; what
    ksim calls `step_size` every n iterations of T steps is `steps_to_top = n * T / step_size`.

    ksim: LinearCurriculum
    """

    steps_to_top: int
    """Positive."""
    delay: int = 0
    """At least 0."""
    start: float = 0.0
    """The lowest level, in [0, 1]."""

    def __post_init__(self) -> None:
        check_within("Linear.start", self.start, 0.0, 1.0)
        are_numbers = is_number(self.steps_to_top) and is_number(self.delay)
        if not (are_numbers and 1 <= self.steps_to_top < 2**31 and 0 <= self.delay < 2**31):
            raise InvalidConfigError(
                f"{self}: steps_to_top must be positive, and delay at least 0, both whole and below 2**31."
            )

    def init(self) -> Carry:
        """No step done."""
        return jnp.zeros((), jnp.int32)

    def level(self, carry: Carry) -> Level:
        """The level after so many steps."""
        return jnp.clip((carry - self.delay) / self.steps_to_top, self.start, 1.0)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> Carry:
        """The steps done."""
        return carry + ctx.step


class AdaptiveCarry(NamedTuple):
    """Where an adaptive curriculum stands with one env."""

    level: Array  # (), float32 in [0, 1]
    average: Array  # (), float32, of the measure, over past episodes
    episodes: Array  # (), int32, so far
    last_change: Array  # (), int32: how many there had been when the level changed


@dataclass(frozen=True, kw_only=True)
class _Adaptive:
    """A level that goes up or down by `1 / num_levels`, as the episodes of the env went.

    A measure is taken of each episode in its last state. Its moving average, `a = decay * a + (1 - decay) * measure`
    from the first measure on, moves the level up when it is above `up` and down when it is below `down`, but only when
    `patience` episodes have passed since the last change.
    """

    up: float
    """The level rises above this average, in the measure's unit."""
    down: float
    """The level falls below this average, at most `up`; -inf for never."""
    num_levels: int = 100
    """Steps from level 0 to level 1, positive."""
    decay: float = 0.9
    """In [0, 1); 0 for the last episode alone."""
    patience: int = 1
    """Episodes, positive."""
    start: float = 0.0
    """The first and lowest level, in [0, 1]."""
    mixes_at_top: bool = False
    """Whether an env that would rise above level 1 gets a level at random instead, so that it does not forget the lower
    ones (Rudin et al. 2022, "Learning to Walk in Minutes Using Massively Parallel Deep Reinforcement Learning")."""

    def __post_init__(self) -> None:
        check_within(f"{type(self).__name__}.start", self.start, 0.0, 1.0)
        numbers = self.up, self.num_levels, self.decay, self.patience
        if not (
            all(map(is_number, numbers))
            and isinstance(self.down, Real)
            and self.down <= self.up
            and self.num_levels >= 1
            and 0 <= self.decay < 1
            and self.patience >= 1
        ):
            raise InvalidConfigError(
                f"{self}: down must be at most up, up finite, num_levels and patience positive, decay in [0, 1)."
            )

    def measure(self, view: View, ctx: Context) -> Array:
        """How the episode went, whose last state this is; a scalar, the more the better."""
        raise NotImplementedError

    def init(self) -> Carry:
        """The lowest level."""
        none = jnp.zeros((), jnp.int32)
        return AdaptiveCarry(level=jnp.float32(self.start), average=jnp.float32(0.0), episodes=none, last_change=none)

    def level(self, carry: AdaptiveCarry) -> Level:
        """The level."""
        return carry.level

    def __call__(self, carry: AdaptiveCarry, view: View, ctx: Context) -> AdaptiveCarry:
        """The level after an episode."""
        measure = jnp.asarray(self.measure(view, ctx), jnp.float32)
        average = self.decay * carry.average + (1 - self.decay) * measure
        average = jnp.where(carry.episodes == 0, measure, average)
        episodes = carry.episodes + 1
        is_time = episodes - carry.last_change >= self.patience
        rises, falls = is_time & (average > self.up), is_time & (average < self.down)
        level = carry.level + (rises.astype(jnp.float32) - falls) / self.num_levels
        if self.mixes_at_top:
            is_done = rises & (carry.level >= 1.0)
            level = jnp.where(is_done, uniform(ctx.stream("mix").key, (), self.start, 1.0), level)
        return AdaptiveCarry(
            level=jnp.clip(level, self.start, 1.0),
            average=average,
            episodes=episodes,
            last_change=jnp.where(rises | falls, episodes, carry.last_change),
        )


@dataclass(frozen=True, kw_only=True)
class EpisodeLength(_Adaptive):
    """An adaptive level that rises with long episodes; the measure is their length in s.

    ksim: EpisodeLengthCurriculum
    """

    def measure(self, view: View, ctx: Context) -> Array:
        """In s."""
        return ctx.step * ctx.dt


@dataclass(frozen=True, kw_only=True)
class DistanceTravelled(_Adaptive):
    """An adaptive level that rises with the horizontal distance at the episode's end, in m, of the free base.

    It is measured from the world's origin, or from the position that the command `origin` holds.

    ksim: DistanceFromOriginCurriculum
    """

    origin: str | None = None
    """The name of a command whose first two numbers are x and y to measure from."""

    def measure(self, view: View, ctx: Context) -> Array:
        """In m."""
        qpos, _, _ = ctx.model.root()
        origin = jnp.zeros(2) if self.origin is None else ctx.command(self.origin)[:2]
        return jnp.linalg.norm(view.qpos[qpos : qpos + 2] - origin)


@dataclass(frozen=True, kw_only=True)
class Survival(_Adaptive):
    """An adaptive level that rises while few episodes are terminated; the measure is 1 for one that was not, else 0.

    With ksim's thresholds, which count ends, `up = 1 - increase_threshold` and `down = 1 - decrease_threshold`.

    ksim: StepWhenSaturated
    """

    def measure(self, view: View, ctx: Context) -> Array:
        """0 or 1."""
        return 1.0 - ctx.terminated


@dataclass(frozen=True, kw_only=True)
class EpisodeReturn(_Adaptive):
    """An adaptive level that rises with the sum of an episode's rewards.

    ksim: RewardLevelCurriculum
    """

    def measure(self, view: View, ctx: Context) -> Array:
        """In the unit of the rewards."""
        return ctx.episode_return


@dataclass(frozen=True, kw_only=True)
class Adaptive(_Adaptive):
    """An adaptive level that rises with any scalar quantity, read in an episode's last state.

    ksim: none
    """

    quantity: Quantity
    """Without memory."""

    def measure(self, view: View, ctx: Context) -> Array:
        """In the quantity's unit."""
        return call(self.quantity, init(self.quantity, view, ctx), view, ctx)[0]
