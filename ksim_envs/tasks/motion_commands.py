"""Command terms that move by themselves: points, joints, the clock of a gait, and recorded motions."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.commands import Ends, Uniform, check_ends, ends_at, happens, whole_steps
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.measures import Constant, check_shapes
from ksim_envs.tasks.numbers import check_interval, check_positive
from ksim_envs.tasks.randomness import uniform
from ksim_envs.tasks.scales import Scale, check_probability, check_scale, scale_at
from ksim_envs.tasks.terms import Carry, Quantity, Remembering
from ksim_envs.types import View


@dataclass(frozen=True)
class MovingPoint:
    """A point, in m, that moves in straight lines inside a box, to one random target after the other.

    Each way has a speed of its own, uniform in [`slow`, `fast`) m/s. At its target the point waits until it moves on,
    in each control step with `go_probability`, and it turns to a new target on the way with `turn_probability`.

    ksim: CartesianCoordinate, Position, CartesianBodyTarget
    """

    low: Ends
    high: Ends
    slow: Scale = 0.5
    fast: Scale = 3.0
    go_probability: Scale = 1.0
    turn_probability: Scale = 0.0

    def __post_init__(self) -> None:
        check_scale("MovingPoint.slow", self.slow)
        check_probability("MovingPoint.go_probability", self.go_probability)
        check_probability("MovingPoint.turn_probability", self.turn_probability)
        for low, high in ((self.low, self.high), (self.slow, self.fast)):
            check_ends("MovingPoint", low, high)

    def init(self, view: View, ctx: Context) -> Carry:
        """Room for the point, its target and its speed; the first call fills them."""
        point = jnp.zeros_like(ends_at(self.low, ctx.level))
        return point, point, jnp.zeros(())

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Float[Array, "..."], Carry]:
        """The point, in the shape of the box's ends."""
        point, target, speed = carry
        starts, arrived = ctx.step == 0, jnp.all(point == target)
        goes = arrived & happens(self.go_probability, ctx.stream("go"))
        turns = ~arrived & happens(self.turn_probability, ctx.stream("turn"))
        changes = starts | goes | turns
        new_target = Uniform(self.low, self.high)(view, ctx.stream("target"))
        new_speed = Uniform(self.slow, self.fast)(view, ctx.stream("speed"))
        target, speed = jnp.where(changes, new_target, target), jnp.where(changes, new_speed, speed)
        length = jnp.sqrt(jnp.sum(jnp.square(target - point)))
        reach = speed * ctx.dt
        moved = point + (target - point) * (reach / jnp.maximum(length, 1e-9))
        point = jnp.where(starts | (length <= reach), target, moved)
        return point, (point, target, speed)


@dataclass(frozen=True)
class MovingJoints:
    """Positions, and the velocities at which they change, of joints that move to one random pose after the other.

    From where the joints are at the start of an episode they go straight to a pose in their ranges, in a time uniform
    in `time` s, and from there to the next. Of each joint's range it is the share `share` about the middle.

    ksim: JointPosition
    """

    joints: Names = "*"
    time: tuple[float, float] = (0.1, 1.0)
    share: Scale = 1.0

    def __post_init__(self) -> None:
        check_interval("MovingJoints.time", self.time)
        check_probability("MovingJoints.share", self.share)

    def init(self, view: View, ctx: Context) -> Carry:
        """The positions, their changes in a step, and the control steps left; the first call sets off."""
        position = view.qpos[ctx.model.joint_qpos(self.joints)]
        return position, jnp.zeros_like(position), jnp.zeros((), jnp.int32)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[Float[Array, "2 joints"], Carry]:
        """The positions in rad and m, and below them the velocities in rad/s and m/s."""
        position, change, left = carry
        position, left = position + change, left - 1
        next_change, next_left = self._way(position, ctx)
        arrived = left <= 0
        change, left = jnp.where(arrived, next_change, change), jnp.where(arrived, next_left, left)
        return jnp.stack([position, change / ctx.dt]), (position, change, left)

    def _way(self, position: Array, ctx: Context) -> tuple[Array, Array]:
        low, high = self._ranges(ctx)
        target = uniform(ctx.stream("target").key, position.shape, low, high, position.dtype)
        steps = whole_steps(self.time, ctx.stream("time"))
        return (target - position) / steps, steps

    def _ranges(self, ctx: Context) -> tuple[Array, Array]:
        chosen = ctx.model.joints(self.joints)
        if not (ctx.model.array("jnt_limited")[chosen] != 0).all():
            raise InvalidConfigError(f"MovingJoints has joints without limits among {self.joints!r}; name others.")
        low, high = ctx.field("jnt_range")[chosen].T
        middle, half = (low + high) / 2, (high - low) / 2 * scale_at(self.share, ctx.level)
        return middle - half, middle + half


@dataclass(frozen=True)
class GaitPhase(Remembering):
    """The phase of each foot in its gait, in [0, 1): a clock with a period uniform in `period` s, drawn for an episode.

    A foot's phase is the clock's plus its own of `offsets`; `gait.SwingHeight` says how high it ought to be then. While
    the condition `when` does not hold, all phases are 0, where all feet stand, and whenever it holds again the clock
    starts anew. The condition may be that a command above this one in the task's table asks for motion.

    ksim: SinusoidalGait, EasyJoystick
    """

    period: tuple[float, float]
    offsets: tuple[float, ...] = (0.0, 0.5)
    when: Quantity | None = None

    def __post_init__(self) -> None:
        check_interval("GaitPhase.period", self.period)
        if not self.offsets:
            raise InvalidConfigError("GaitPhase.offsets is empty; give one offset for each foot.")

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The condition."""
        return (Constant(1.0) if self.when is None else self.when,)

    def remember(self, holds: Array, ctx: Context) -> tuple[Array, Array]:
        """The clock, in [0, 1), and its period in s."""
        low, high = self.period
        return jnp.zeros(()), uniform(ctx.key, (), low, high)

    def update(self, memory: tuple[Array, Array], holds: Array, ctx: Context) -> tuple[Float[Array, "feet"], Carry]:
        """One for each foot."""
        clock, period = memory
        runs = holds > 0.5
        clock = jnp.where(runs & (ctx.step > 0), (clock + ctx.dt / period) % 1.0, jnp.where(runs, clock, 0.0))
        return jnp.where(runs, (clock + jnp.asarray(self.offsets)) % 1.0, 0.0), (clock, period)


@dataclass(frozen=True, eq=False)
class Playback(Remembering):
    """A recording, played at its own pace: the frame at the time of the episode, interpolated, in the frames' unit.

    Frames are of any shape: joint positions, or points of bodies. It plays in a loop, or stays at the last frame. It
    starts with the first one, or with the frame that is nearest to the quantity `start`, so that an episode may begin
    anywhere in a motion.

    ksim: QposReferenceMotion, ReferenceMotion, TimeWarpedReferenceMotion
    """

    frames: np.ndarray  # (num_frames, ...)
    rate: float  # frames/s
    loops: bool = True
    speed: Scale = 1.0  # times as fast
    start: Quantity | None = None

    def __post_init__(self) -> None:
        check_positive("Playback", rate=self.rate)
        check_scale("Playback.speed", self.speed)
        if len(self.frames) < 2 or not np.isfinite(self.frames).all():
            raise InvalidConfigError(f"Playback has {len(self.frames)} frames; it needs two or more, all finite.")

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """Where the robot is."""
        return (self.start or Constant(0.0),)

    def remember(self, position: Array, ctx: Context) -> Array:
        """The place in the recording, in frames."""
        if self.start is None:
            return jnp.zeros(())
        frames = jnp.asarray(self.frames, jnp.float32)
        check_shapes(position, frames[0])
        distance = jnp.sum(jnp.square(frames - position).reshape(len(frames), -1), axis=1)
        return jnp.argmin(distance).astype(jnp.float32)

    def update(self, memory: Array, position: Array, ctx: Context) -> tuple[Float[Array, "..."], Array]:
        """In the shape of a frame."""
        count = len(self.frames)
        pace = scale_at(self.speed, ctx.level) * self.rate * ctx.dt
        place = memory + jnp.where(ctx.step > 0, pace, 0.0)
        place = place % count if self.loops else jnp.minimum(place, count - 1.0)
        before = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, count - 1)
        after = (before + 1) % count if self.loops else jnp.minimum(before + 1, count - 1)
        frames = jnp.asarray(self.frames, jnp.float32)
        return frames[before] + (place - before) * (frames[after] - frames[before]), place
