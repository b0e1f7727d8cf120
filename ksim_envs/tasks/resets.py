"""Reset terms: from the model's initial state to the one that an episode begins with, applied one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.floors import Floor
from ksim_envs.tasks.numbers import Range, check_range
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.rotations import from_rotation_vector, multiply
from ksim_envs.tasks.scales import Scale, check_scale, ends, scale_at

Position: TypeAlias = Float[Array, "nq"]
Velocity: TypeAlias = Float[Array, "nv"]


@dataclass(frozen=True)
class UniformPosition:
    """Add uniform noise in [-spread, spread) to qpos (m, rad, and quaternions, which the engine then normalizes)."""

    spread: float

    def __post_init__(self) -> None:
        check_scale("UniformPosition", self.spread)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with the noise, and `qvel`."""
        return qpos + uniform(ctx.key, qpos.shape, -self.spread, self.spread, qpos.dtype), qvel


@dataclass(frozen=True)
class UniformVelocity:
    """Add uniform noise in [-spread, spread) to the elements of qvel (m/s, rad/s) before `stop`."""

    spread: float
    stop: int | None = None

    def __post_init__(self) -> None:
        check_scale("UniformVelocity", self.spread)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos`, and `qvel` with the noise."""
        noise = uniform(ctx.key, qvel[: self.stop].shape, -self.spread, self.spread, qvel.dtype)
        return qpos, qvel.at[: self.stop].add(noise)


@dataclass(frozen=True)
class NormalVelocity:
    """Add normal noise of this standard deviation to qvel (m/s, rad/s)."""

    deviation: float

    def __post_init__(self) -> None:
        check_scale("NormalVelocity", self.deviation)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos`, and `qvel` with the noise."""
        return qpos, qvel + self.deviation * jax.random.normal(ctx.key, qvel.shape, qvel.dtype)


@dataclass(frozen=True)
class TargetInDisk:
    """Put two slide joints, at `index` of qpos, uniformly into a disk of this radius (m) around zero."""

    index: int
    radius: float

    def __post_init__(self) -> None:
        check_scale("TargetInDisk.radius", self.radius)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with the target, and `qvel`."""
        _check_place(self, self.index + 2, qpos)
        area, turn = jax.random.uniform(ctx.key, (2,), qpos.dtype)
        angle = 2 * jnp.pi * turn
        target = self.radius * jnp.sqrt(area) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return qpos.at[self.index : self.index + 2].set(target), qvel


@dataclass(frozen=True)
class ObjectAwayFromGoal:
    """Put an object's two slide joints uniformly into a box (m) but no nearer than `distance` to the goal at zero.

    The object's joints stand at `index` of qpos and the goal's two, which are set to zero, right behind.
    """

    index: int
    low: tuple[float, float]
    high: tuple[float, float]
    distance: float

    def __post_init__(self) -> None:
        for bounds in zip(self.low, self.high, strict=True):
            check_range("ObjectAwayFromGoal's (low, high)", bounds)
        farthest = math.hypot(*(max(abs(low), abs(high)) for low, high in zip(self.low, self.high, strict=True)))
        if not 0 <= self.distance < farthest:
            raise InvalidConfigError(
                f"ObjectAwayFromGoal.distance is {self.distance} m; it must be at least 0, and less than the "
                f"{farthest:.4g} m at which the farthest corner of the box lies."
            )

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with object and goal, and `qvel`."""
        _check_place(self, self.index + 4, qpos)
        low, high = jnp.asarray(self.low, qpos.dtype), jnp.asarray(self.high, qpos.dtype)

        def draw(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            key, use = jax.random.split(carry[0])
            return key, uniform(use, (2,), low, high, qpos.dtype)

        def is_too_near(carry: tuple[Array, Array]) -> Array:
            return jnp.linalg.norm(carry[1]) <= self.distance

        _, position = jax.lax.while_loop(is_too_near, draw, draw((ctx.key, jnp.zeros(2, qpos.dtype))))
        placed = jnp.concatenate([position, jnp.zeros(2, qpos.dtype)])
        return qpos.at[self.index : self.index + 4].set(placed), qvel


@dataclass(frozen=True)
class Keyframe:
    """Begin at the positions and velocities of a keyframe of the model.

    ksim: none
    """

    name: str

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """The keyframe's `qpos` and `qvel`."""
        position, velocity = ctx.model.keyframe(self.name), ctx.model.keyframe(self.name, "qvel")
        return jnp.asarray(position, qpos.dtype), jnp.asarray(velocity, qvel.dtype)


@dataclass(frozen=True)
class JointPositions:
    """Hinge and slide joints get a number in +-`spread`, rad or m, each added, and stay within their ranges.

    ksim: RandomJointPositionReset
    """

    spread: Scale
    joints: Names = "*"

    def __post_init__(self) -> None:
        check_scale("JointPositions", self.spread)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with other joint positions, and `qvel`."""
        joints = ctx.model.joints(self.joints)
        places, _ = ctx.model.joint_addresses(joints)
        low, high = ctx.model.joint_ranges(joints).T
        return qpos.at[places].set(jnp.clip(qpos[places] + _noise(self.spread, places.shape, ctx), low, high)), qvel


@dataclass(frozen=True)
class JointVelocities:
    """Hinge and slide joints get a velocity in +-`spread`, rad/s or m/s, each added.

    ksim: RandomJointVelocityReset
    """

    spread: Scale
    joints: Names = "*"

    def __post_init__(self) -> None:
        check_scale("JointVelocities", self.spread)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos`, and `qvel` with other joint velocities."""
        places = ctx.model.joint_qvel(self.joints)
        return qpos, qvel.at[places].add(_noise(self.spread, places.shape, ctx))


@dataclass(frozen=True)
class BaseVelocity:
    """The free base gets velocities in +-`spread`, m/s, along the world's x and y each added.

    ksim: RandomBaseVelocityXYReset
    """

    spread: Scale

    def __post_init__(self) -> None:
        check_scale("BaseVelocity", self.spread)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos`, and `qvel` with another horizontal velocity of the base."""
        _, base, _ = ctx.model.root()
        return qpos, qvel.at[base : base + 2].add(_noise(self.spread, (2,), ctx))


@dataclass(frozen=True, kw_only=True)
class BasePlace:
    """The free base is put at x and y drawn uniformly from two ranges, m, and higher by the height of the floor there.

    ksim: PlaneXYPositionReset, HFieldXYPositionReset, get_xy_position_reset
    """

    x: Range
    y: Range
    floor: Floor | None = None
    """What the height of the base counts from; None for leaving it as it is. See `floors`."""

    def __post_init__(self) -> None:
        check_range("BasePlace.x", self.x)
        check_range("BasePlace.y", self.y)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with another place of the base, and `qvel`."""
        base, _, _ = ctx.model.root()
        low, high = jnp.asarray((self.x, self.y), qpos.dtype).T
        place = uniform(ctx.key, (2,), low, high, qpos.dtype)
        if self.floor is not None:
            qpos = qpos.at[base + 2].add(self.floor(place, ctx).astype(qpos.dtype))
        return qpos.at[base : base + 2].set(place), qvel


@dataclass(frozen=True, kw_only=True)
class Height:
    """The free base is lifted by a height in [low, high], m.

    ksim: RandomHeightReset
    """

    low: Scale = 0.0
    high: Scale = 0.1

    def __post_init__(self) -> None:
        for bounds in zip(ends(self.low), ends(self.high), strict=True):
            check_range("Height's (low, high)", bounds)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with a higher base, and `qvel`."""
        base, _, _ = ctx.model.root()
        low, high = (scale_at(end, ctx.level).astype(qpos.dtype) for end in (self.low, self.high))
        return qpos.at[base + 2].add(uniform(ctx.key, (), low, high, qpos.dtype)), qvel


@dataclass(frozen=True)
class Heading:
    """The free base is turned about the world's vertical by an angle in [low, high], rad.

    Velocities stay as they are: linear ones are in the world, angular ones in the frame of the base.

    ksim: RandomHeadingReset
    """

    low: float = -math.pi
    high: float = math.pi

    def __post_init__(self) -> None:
        check_range("Heading's (low, high)", (self.low, self.high))

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with a turned base, and `qvel`."""
        angle = uniform(ctx.key, (), self.low, self.high, qpos.dtype)
        turn = from_rotation_vector(jnp.zeros(3, qpos.dtype).at[2].set(angle))
        return _turned(qpos, ctx, lambda base: multiply(turn, base)), qvel


@dataclass(frozen=True)
class PitchRoll:
    """The free base is pitched about its y axis, then rolled about its x axis, by angles in +-`spread`, rad.

    ksim: RandomPitchRollReset
    """

    spread: Scale = 0.1

    def __post_init__(self) -> None:
        check_scale("PitchRoll", self.spread)

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with a tilted base, and `qvel`."""
        pitch, roll = _noise(self.spread, (2,), ctx).astype(qpos.dtype)
        about_y = from_rotation_vector(jnp.zeros(3, qpos.dtype).at[1].set(pitch))
        about_x = from_rotation_vector(jnp.zeros(3, qpos.dtype).at[0].set(roll))
        return _turned(qpos, ctx, lambda base: multiply(base, multiply(about_y, about_x))), qvel


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionFrame:
    """Begin in a frame of a reference motion, drawn uniformly.

    ksim: InitialMotionStateReset
    """

    qpos: np.ndarray
    """(frames, nq)."""
    qvel: np.ndarray | None = None
    """(frames, nv); None for rest."""

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """The frame's `qpos` and `qvel`.

        Raises:
            InvalidConfigError: the motion is not one of this model.
        """
        frames, still = len(self.qpos), np.zeros((len(self.qpos), *qvel.shape))
        velocities = still if self.qvel is None else self.qvel
        if frames < 1 or np.shape(self.qpos)[1:] != qpos.shape or np.shape(velocities) != still.shape:
            raise InvalidConfigError(
                f"MotionFrame has qpos {np.shape(self.qpos)} and qvel {np.shape(velocities)}; this model needs "
                f"(frames, {len(qpos)}) and (frames, {len(qvel)})."
            )
        frame = jax.random.randint(ctx.key, (), 0, frames)
        return jnp.asarray(self.qpos, qpos.dtype)[frame], jnp.asarray(velocities, qvel.dtype)[frame]


def _check_place(term: TargetInDisk | ObjectAwayFromGoal, stop: int, qpos: Position) -> None:
    """Refuse joints that end behind the last coordinate."""
    if not 0 <= term.index <= stop <= len(qpos):
        raise InvalidConfigError(f"{term} sets qpos[{term.index}:{stop}], of only {len(qpos)} coordinates.")


def _noise(spread: Scale, shape: tuple[int, ...], ctx: Context) -> Array:
    return scale_at(spread, ctx.level) * uniform(ctx.key, shape, -1.0, 1.0)


def _turned(qpos: Position, ctx: Context, turn: Callable[[Array], Array]) -> Position:
    """`qpos` with another orientation of the free base."""
    base, _, _ = ctx.model.root()
    place = slice(base + 3, base + 7)
    return qpos.at[place].set(turn(qpos[place]))
