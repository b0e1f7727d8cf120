"""Measures of how feet meet the ground.

What they are made of are quantities with one row for each foot: `contact` (num_feet,) is true, or above 0.5, where a
foot touches; a `height` (num_feet,) is in m above the ground beneath (`posture.HeightAboveGround` knows that of the
terrain); a `velocity` (num_feet, 6) is in the world, in rad/s and m/s, rotation first.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.measures import Constant, Error, Target, check_shapes
from ksim_envs.tasks.numbers import check_not_negative, check_positive, check_within
from ksim_envs.tasks.terms import Combination, Quantity, Remembering
from ksim_envs.types import View


def _touches(contact: Array) -> Bool[Array, "feet"]:
    return contact > 0.5


@dataclass(frozen=True)
class FeetTime(Remembering):
    """How long each foot has been in the air, or where `grounded` on the ground, in s; 0 while it is not.

    It only counts while the condition `when` holds, and begins anew after it did not.

    ksim: FeetAirTime, FeetNoContact, FeetGroundedAtRest, LongContact
    """

    contact: Quantity
    grounded: bool = False
    when: Quantity | None = None

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The contacts and the condition."""
        return self.contact, Constant(1.0) if self.when is None else self.when

    def remember(self, contact: Array, holds: Array, ctx: Context) -> Array:
        """(num_feet,) control steps."""
        return jnp.zeros(contact.shape, jnp.int32)

    def update(self, memory: Array, contact: Array, holds: Array, ctx: Context) -> tuple[Array, Array]:
        """(num_feet,)."""
        counts = (_touches(contact) == self.grounded) & (holds > 0.5)
        memory = jnp.where(counts, memory + (ctx.step > 0), 0)
        return memory * ctx.dt, memory


@dataclass(frozen=True)
class TouchdownAirTime(Remembering):
    """Sum over the feet that touch down in this step of `min(air time, maximum) - threshold`, in s.

    Negative for steps that are shorter than the threshold (K-Bot's 0.4 s; legged_gym's 0.5 s).

    ksim: FeetAirTime
    """

    contact: Quantity
    threshold: float
    maximum: float = jnp.inf

    def __post_init__(self) -> None:
        check_within("TouchdownAirTime.threshold", self.threshold, low=0.0)
        check_not_negative("TouchdownAirTime", maximum=self.maximum)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The contacts."""
        return (self.contact,)

    def remember(self, contact: Array, ctx: Context) -> Array:
        """(num_feet,) control steps in the air."""
        return jnp.zeros(contact.shape, jnp.int32)

    def update(self, memory: Array, contact: Array, ctx: Context) -> tuple[Float[Array, ""], Array]:
        """A scalar."""
        lands = _touches(contact) & (memory > 0)
        paid = jnp.minimum(memory * ctx.dt, self.maximum) - self.threshold
        return jnp.sum(jnp.where(lands, paid, 0.0)), jnp.where(_touches(contact), 0, memory + (ctx.step > 0))


@dataclass(frozen=True)
class TouchdownHeight(Remembering):
    """The highest that a foot which touches down in this step was in the air, in m; in [0, `maximum`].

    Of several feet the one that was higher; 0 in a step without a touchdown.

    ksim: SparseTargetHeight, FeetHeight
    """

    contact: Quantity
    height: Quantity
    maximum: float

    def __post_init__(self) -> None:
        check_positive("TouchdownHeight", maximum=self.maximum)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The contacts and the heights."""
        return self.contact, self.height

    def remember(self, contact: Array, height: Array, ctx: Context) -> Array:
        """(num_feet,), m: the highest since the last contact."""
        return jnp.zeros(contact.shape)

    def update(self, memory: Array, contact: Array, height: Array, ctx: Context) -> tuple[Float[Array, ""], Array]:
        """A scalar."""
        reached = jnp.where(_touches(contact), jnp.clip(memory, 0.0, self.maximum), 0.0)
        return jnp.max(reached), jnp.where(_touches(contact), 0.0, jnp.maximum(memory, height))


@dataclass(frozen=True)
class SingleContact(Remembering):
    """1 where exactly one foot touches the ground, or did less than `grace` s ago; else 0.

    ksim: SingleFootContact
    """

    contact: Quantity
    grace: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative("SingleContact", grace=self.grace)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The contacts."""
        return (self.contact,)

    def remember(self, contact: Array, ctx: Context) -> Array:
        """(), control steps since there was a single contact; as many as is too long before the first."""
        return jnp.full((), _FOREVER, jnp.int32)

    def update(self, memory: Array, contact: Array, ctx: Context) -> tuple[Float[Array, ""], Array]:
        """A scalar in {0, 1}."""
        is_single = jnp.sum(_touches(contact)) == 1
        memory = jnp.where(is_single, 0, jnp.minimum(memory + 1, _FOREVER))
        return (is_single | (memory * ctx.dt < self.grace)).astype(jnp.float32), memory


_FOREVER = 2**30
"""Control steps."""


@dataclass(frozen=True)
class Airborne(Combination):
    """1 where no foot touches the ground, else 0.

    ksim: NoContact
    """

    contact: Quantity

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The contacts."""
        return (self.contact,)

    def combine(self, contact: Array, ctx: Context) -> Float[Array, ""]:
        """A scalar in {0, 1}."""
        return (~jnp.any(_touches(contact))).astype(jnp.float32)


@dataclass(frozen=True)
class Slip(Combination):
    """Sum over the feet that touch the ground of the norm of their velocity; at least 0.

    The norm is over all that `velocity` has for a foot. ksim takes rotation (rad/s) and translation (m/s) together.

    ksim: FeetSlip, FootSlip
    """

    contact: Quantity
    velocity: Quantity

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The contacts, (num_feet,), and the velocities, (num_feet, any)."""
        return self.contact, self.velocity

    def combine(self, contact: Array, velocity: Float[Array, "feet any"], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        speed = jnp.linalg.norm(velocity, axis=-1)
        check_shapes(speed, contact)
        return jnp.sum(jnp.where(_touches(contact), speed, 0.0))


@dataclass(frozen=True)
class SwingClearance(Combination):
    """Sum over the feet of `|height - target|` in m by their horizontal speed in m/s; at least 0.

    A foot that moves shall do so at the target's height; one that stands costs nothing (Playground's
    `feet_clearance`, with the speed instead of its root).

    ksim: FeetClearance
    """

    height: Quantity
    velocity: Quantity
    target: Target

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The heights' errors, (num_feet,), and the velocities, (num_feet, 6)."""
        return Error(self.height, self.target), self.velocity

    def combine(self, error: Float[Array, "feet"], velocity: Float[Array, "feet 6"], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        if velocity.shape[-1:] != (6,):
            raise InvalidConfigError(f"SwingClearance has velocities of shape {velocity.shape}, not (num_feet, 6).")
        check_shapes(error, velocity[:, 0])
        return jnp.sum(jnp.abs(error) * jnp.linalg.norm(velocity[:, 3:5], axis=-1))


@dataclass(frozen=True)
class Impact(Combination):
    """The largest over the feet of `(max(0, |force| - threshold) / expected)**2`; at least 0.

    ksim: Force, ContactForce
    """

    force: Quantity  # (num_feet, 3), N
    expected: float  # N
    threshold: float = 0.0  # N

    def __post_init__(self) -> None:
        check_positive("Impact", expected=self.expected)
        check_not_negative("Impact", threshold=self.threshold)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The forces."""
        return (self.force,)

    def combine(self, force: Float[Array, "feet 3"], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        excess = jnp.maximum(jnp.linalg.norm(force, axis=-1) - self.threshold, 0.0)
        return jnp.max(jnp.square(excess / self.expected))


PROFILES = ("sine", "bezier")
"""The curves of `SwingHeight`."""


@dataclass(frozen=True)
class SwingHeight(Combination):
    """The height in m at which each foot ought to be at its phase of a gait; in [`sole`, `sole + peak`].

    It is lowest for phases in [0, `stance`], then rises and falls: as half a sine, or as the cubic Bezier curve of
    MuJoCo Playground's `gait.get_rz` (there with no stance), which leaves and meets the ground at rest. `sole` is how
    far above the sole the point lies whose height is measured.

    ksim: SinusoidalGait, FeetPhase
    """

    phase: Quantity  # (num_feet,), in [0, 1): Commanded("gait") for a command `GaitPhase` of this name
    peak: float
    stance: float = 0.6
    profile: str = "sine"
    sole: float = 0.0

    def __post_init__(self) -> None:
        check_positive("SwingHeight", peak=self.peak)
        if not 0 <= self.stance < 1:
            raise InvalidConfigError(f"SwingHeight.stance is {self.stance}; it must be in [0, 1).")
        check_name("swing profile", self.profile, PROFILES)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The phases."""
        return (self.phase,)

    def combine(self, phase: Float[Array, "feet"], ctx: Context) -> Float[Array, "feet"]:
        """(num_feet,)."""
        swung = jnp.clip((phase - self.stance) / (1.0 - self.stance), 0.0, 1.0)
        if self.profile == "sine":
            return self.sole + self.peak * jnp.sin(jnp.pi * swung)
        risen = 1.0 - jnp.abs(2.0 * swung - 1.0)
        return self.sole + self.peak * (3.0 * jnp.square(risen) - 2.0 * risen**3)


@dataclass(frozen=True)
class PhaseCircle:
    """Cosines, then sines of the feet's phases under a command `GaitPhase`, in [-1, 1]: a clock without a jump.

    ksim: TimestepPhaseObservation
    """

    command: str

    def __call__(self, view: View, ctx: Context) -> Float[Array, "2 feet"]:
        """(2, num_feet)."""
        angle = 2 * jnp.pi * ctx.command(self.command)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)])
