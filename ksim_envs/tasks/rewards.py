"""Reward terms: scalars, already weighted; what costs is negative. The formulas are those of Gymnasium's v5 tasks."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.numbers import check_not_negative
from ksim_envs.tasks.observations import BodyOffset
from ksim_envs.tasks.scales import Scale, check_scale, scale_at
from ksim_envs.tasks.terms import Modifier, Quantity
from ksim_envs.types import View


@dataclass(frozen=True)
class Scaled(Modifier):
    """`scale` times a scalar quantity; in any range."""

    scale: Scale
    quantity: Quantity

    def __post_init__(self) -> None:
        check_scale("Scaled", self.scale)

    def change(self, value: Float[Array, ""], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return scale_at(self.scale, ctx.level) * value


@dataclass(frozen=True)
class Cost(Modifier):
    """`-scale` times a scalar quantity, which is a measure of what to avoid; at most 0 where that is at least 0."""

    scale: Scale
    quantity: Quantity

    def __post_init__(self) -> None:
        check_scale("Cost", self.scale)

    def change(self, value: Float[Array, ""], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return -scale_at(self.scale, ctx.level) * value


@dataclass(frozen=True)
class Alive:
    """`scale` in each step that does not terminate the episode, 0 in the one that does.

    ksim: StayAlive
    """

    scale: Scale

    def __post_init__(self) -> None:
        check_scale("Alive", self.scale)

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar in {0, scale}."""
        return jnp.where(ctx.terminated, 0.0, scale_at(self.scale, ctx.level))


@dataclass(frozen=True)
class TerminationCost:
    """`-scale` in the step that terminates the episode, 0 in all others. A time limit is no termination.

    ksim: StayAlive, Termination
    """

    scale: Scale

    def __post_init__(self) -> None:
        check_scale("TerminationCost", self.scale)

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar in {-scale, 0}."""
        return jnp.where(ctx.terminated, -scale_at(self.scale, ctx.level), 0.0)


@dataclass(frozen=True)
class ActionCost:
    """`-scale * sum(action ** 2)`; at most 0."""

    scale: float

    def __post_init__(self) -> None:
        check_scale("ActionCost", self.scale)

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return -self.scale * jnp.sum(jnp.square(ctx.action))


@dataclass(frozen=True)
class ContactCost:
    """`-min(scale * sum(clip(cfrc_ext, +-limit) ** 2), maximum)`; in [-maximum, 0]."""

    scale: float
    limit: float = jnp.inf
    maximum: float = jnp.inf

    def __post_init__(self) -> None:
        check_scale("ContactCost", self.scale)
        check_not_negative("ContactCost", limit=self.limit, maximum=self.maximum)

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        force = jnp.clip(view.cfrc_ext, -self.limit, self.limit)
        return -jnp.minimum(self.scale * jnp.sum(jnp.square(force)), self.maximum)


@dataclass(frozen=True)
class DistanceCost:
    """`-scale` times the distance in m between two bodies' frames; at most 0."""

    scale: float
    origin: str
    body: str

    def __post_init__(self) -> None:
        check_scale("DistanceCost", self.scale)

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return -self.scale * jnp.linalg.norm(BodyOffset(self.origin, self.body)(view, ctx))


@dataclass(frozen=True)
class HeightRate:
    """Height of the root, qpos[2], divided by one physics timestep, in m/s: HumanoidStandup's measure of rising."""

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return view.qpos[2] / ctx.model.timestep


@dataclass(frozen=True)
class TipDistanceCost:
    """`-(0.01 x**2 + (z - height)**2)` for a site at (x, z), in m; at most 0."""

    site: str
    height: float

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        x, _, z = view.site_xpos[ctx.model.site(self.site)]
        return -(0.01 * x**2 + (z - self.height) ** 2)


@dataclass(frozen=True)
class JointVelocityCost:
    """`-sum(scale_i * qvel_i**2)` over joint velocities from `start` on, in rad/s; at most 0."""

    scales: tuple[float, ...]
    start: int = 0

    def __post_init__(self) -> None:
        if not self.scales:
            raise InvalidConfigError("JointVelocityCost.scales is empty; give one for each joint.")
        for scale in self.scales:
            check_scale("JointVelocityCost", scale)

    def __call__(self, view: View, ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        velocity = view.qvel[self.start : self.start + len(self.scales)]
        return -jnp.sum(jnp.asarray(self.scales, velocity.dtype) * jnp.square(velocity))
