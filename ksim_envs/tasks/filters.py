"""Filters around the targets of joints: they smooth, limit or plan what an action asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context, Model
from ksim_envs.tasks.numbers import check_positive
from ksim_envs.tasks.targets import (
    Bounds,
    JointTarget,
    Targets,
    measured_positions,
    measured_velocities,
)
from ksim_envs.tasks.terms import Carry, call, init
from ksim_envs.types import View


class Filter:
    """Targets around other targets, which it changes; what it remembers, if anything, begins with `start`."""

    targets: Targets

    def bounds(self, model: Model) -> Bounds:
        """Those of the targets."""
        return self.targets.bounds(model)

    def init(self, view: View, ctx: Context) -> Carry:
        """The targets' carry, and the filter's own state."""
        return init(self.targets, view, ctx), self.start(view, ctx)

    def __call__(self, carry: Carry, view: View, ctx: Context) -> tuple[JointTarget, Carry]:
        """The changed target, and the next carry."""
        inner, state = carry
        target, inner = call(self.targets, inner, view, ctx)
        target, state = self.change(target, state, ctx)
        return target, (inner, state)

    def start(self, view: View, ctx: Context) -> Carry:
        """What the filter remembers at an episode's start."""
        return ()

    def change(self, target: JointTarget, state: Carry, ctx: Context) -> tuple[JointTarget, Carry]:
        """The changed target, and what to remember."""
        raise NotImplementedError


@dataclass(frozen=True)
class WithinRange(Filter):
    """Target positions clipped to the joints' ranges.

    ksim: ClipPositions
    """

    targets: Targets

    def change(self, target: JointTarget, state: Carry, ctx: Context) -> tuple[JointTarget, Carry]:
        """The clipped target."""
        low, high = ctx.model.joint_ranges(ctx.model.driven_joints()).T
        return replace(target, position=jnp.clip(target.position, low, high)), state


@dataclass(frozen=True)
class LowPass(Filter):
    """Target positions behind a one-pole low-pass filter: `y += alpha * (x - y)`.

    `alpha = dt / (dt + 1 / (2 pi cutoff))`. It begins at the measured positions.

    ksim: lowpass_one_pole, lowpass_one_pole_scan
    """

    targets: Targets
    cutoff: float
    """Hz, positive."""

    def __post_init__(self) -> None:
        check_positive("LowPass", cutoff=self.cutoff)

    def start(self, view: View, ctx: Context) -> Carry:
        """The measured positions."""
        return measured_positions(view, ctx)

    def change(self, target: JointTarget, state: Carry, ctx: Context) -> tuple[JointTarget, Carry]:
        """The smoothed target."""
        alpha = ctx.dt / (ctx.dt + 1 / (2 * math.pi * self.cutoff))
        state = state + alpha * (target.position[-1] - state)
        return replace(target, position=state[None]), state


@dataclass(frozen=True)
class AccelerationLimit(Filter):
    """Target positions that change with at most this acceleration.

    The velocity towards the target changes by at most `max_acceleration * dt` in a control step: `v += clip((x - y) /
    dt - v, +-max_acceleration * dt); y += v * dt`. It begins at the measured positions, at rest.

    ksim: clip_acceleration
    """

    targets: Targets
    max_acceleration: float
    """rad/s^2 or m/s^2, positive."""

    def __post_init__(self) -> None:
        check_positive("AccelerationLimit", max_acceleration=self.max_acceleration)

    def start(self, view: View, ctx: Context) -> Carry:
        """The measured positions, and no velocity."""
        position = measured_positions(view, ctx)
        return position, jnp.zeros_like(position)

    def change(self, target: JointTarget, state: Carry, ctx: Context) -> tuple[JointTarget, Carry]:
        """The limited target."""
        position, velocity = state
        limit = self.max_acceleration * ctx.dt
        velocity += jnp.clip((target.position[-1] - position) / ctx.dt - velocity, -limit, limit)
        position += velocity * ctx.dt
        return replace(target, position=position[None]), (position, velocity)


@dataclass(frozen=True)
class TrapezoidalPlan(Filter):
    """Positions and velocities on the way to the target, as a Feetech servo plans them, for every physics substep.

    Farther than `deadband` from the target it speeds up with `max_acceleration`, up to `max_velocity`, as long as the
    way left is longer than the braking distance `v^2 / (2 max_acceleration)`, and brakes otherwise; nearer, the
    velocity is multiplied by 0.8 in each substep. The plan begins at the measured positions and velocities.

    ksim: FeetechActuators
    """

    targets: Targets
    max_velocity: float = 5.0
    """rad/s, positive."""
    max_acceleration: float = 39.0
    """rad/s^2, positive."""
    deadband: float = 0.00303687
    """rad, at least 0: two counts of the encoder."""

    def __post_init__(self) -> None:
        check_positive("TrapezoidalPlan", max_velocity=self.max_velocity, max_acceleration=self.max_acceleration)
        if not 0 <= self.deadband < math.inf:
            raise InvalidConfigError(f"TrapezoidalPlan.deadband is {self.deadband}; it must be finite and at least 0.")

    def start(self, view: View, ctx: Context) -> Carry:
        """The measured positions and velocities."""
        return measured_positions(view, ctx), measured_velocities(view, ctx)

    def change(self, target: JointTarget, state: Carry, ctx: Context) -> tuple[JointTarget, Carry]:
        """The plan for the substeps of this control step."""
        goal, timestep = target.position[-1], ctx.model.timestep

        def substep(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            position, velocity = state
            way = goal - position
            is_far = jnp.abs(way) > velocity**2 / (2 * self.max_acceleration)
            direction = jnp.where(is_far, jnp.sign(way), -jnp.sign(velocity))
            faster = velocity + direction * self.max_acceleration * timestep
            faster = jnp.clip(faster, -self.max_velocity, self.max_velocity)
            velocity = jnp.where(jnp.abs(way) > self.deadband, faster, 0.8 * velocity)
            position = position + velocity * timestep
            return (position, velocity), (position, velocity)

        state, (positions, velocities) = jax.lax.scan(substep, state, length=ctx.num_substeps)
        return JointTarget(position=positions, velocity=velocities), state
