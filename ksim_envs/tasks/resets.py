"""Reset terms: from the model's initial state to the one that an episode begins with, applied one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.tasks.context import Context

Position: TypeAlias = Float[Array, "nq"]
Velocity: TypeAlias = Float[Array, "nv"]


@dataclass(frozen=True)
class UniformPosition:
    """Add uniform noise in [-scale, scale) to qpos (m, rad, and quaternions, which the engine then normalizes)."""

    scale: float

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with the noise, and `qvel`."""
        return qpos + jax.random.uniform(ctx.key, qpos.shape, qpos.dtype, -self.scale, self.scale), qvel


@dataclass(frozen=True)
class UniformVelocity:
    """Add uniform noise in [-scale, scale) to the elements of qvel (m/s, rad/s) before `stop`."""

    scale: float
    stop: int | None = None

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos`, and `qvel` with the noise."""
        noise = jax.random.uniform(ctx.key, qvel[: self.stop].shape, qvel.dtype, -self.scale, self.scale)
        return qpos, qvel.at[: self.stop].add(noise)


@dataclass(frozen=True)
class NormalVelocity:
    """Add normal noise of this standard deviation to qvel (m/s, rad/s)."""

    deviation: float

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos`, and `qvel` with the noise."""
        return qpos, qvel + self.deviation * jax.random.normal(ctx.key, qvel.shape, qvel.dtype)


@dataclass(frozen=True)
class TargetInDisk:
    """Put two slide joints, at `index` of qpos, uniformly into a disk of this radius (m) around zero."""

    index: int
    radius: float

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with the target, and `qvel`."""
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

    def __call__(self, qpos: Position, qvel: Velocity, ctx: Context) -> tuple[Position, Velocity]:
        """`qpos` with object and goal, and `qvel`."""
        low, high = jnp.asarray(self.low, qpos.dtype), jnp.asarray(self.high, qpos.dtype)

        def draw(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            key, use = jax.random.split(carry[0])
            return key, jax.random.uniform(use, (2,), qpos.dtype, low, high)

        def is_too_near(carry: tuple[Array, Array]) -> Array:
            return jnp.linalg.norm(carry[1]) <= self.distance

        _, position = jax.lax.while_loop(is_too_near, draw, draw((ctx.key, jnp.zeros(2, qpos.dtype))))
        placed = jnp.concatenate([position, jnp.zeros(2, qpos.dtype)])
        return qpos.at[self.index : self.index + 4].set(placed), qvel
