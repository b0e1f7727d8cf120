"""Termination terms: true where the state reached ends the episode.

There are few, because a termination is a quantity beyond its bounds. Those of ksim are:

    NotUpright                     Outside(Inclination(), high=radians)
    PitchTooGreat, RollTooGreat    Outside(RollPitchYaw("xy"), low=-radians, high=radians)
    MinimumHeight, BadZ            Outside(HeightAboveGround(), low=Ramp(0.3, 0.6), high=3.0)
    TerrainBadZ, Fall              Outside(HeightAboveGround(ground=Lowest(BodyPositions(feet))), low=0.35)
    BadVelocity, HighRootVelocity  Outside(Reduced(BaseLinearVelocity(), "norm"), high=100.0)
    FastAcceleration, HighVelocity Outside(BodyVelocities("*"), low=-100.0, high=100.0)
    FarFromOrigin                  Outside(Reduced(BasePosition(), "norm"), high=10.0)
    EpisodeLength                  Outside(Time(), high=24.0)
    IllegalContact                 Contact(("head", "chest"), depth=0.001)

ksim counts some ends as successes, whose future still has a value: FarFromOrigin and EpisodeLength. They are a task's
`truncations`, like its time limit `episode_length`; its `terminations` are ends after which nothing more is to be had.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.scales import Scale, ends
from ksim_envs.tasks.terms import Modifier, Quantity


@dataclass(frozen=True)
class Outside(Modifier):
    """A value of a quantity lies outside (`low`, `high`), or outside [`low`, `high`] where `closed`.

    ksim: NotUprightTermination, PitchTooGreatTermination, RollTooGreatTermination, MinimumHeightTermination,
    BadZTermination, TerrainBadZTermination, FallTermination, BadVelocityTermination, HighRootVelocityTermination,
    FastAccelerationTermination, HighVelocityTermination, FarFromOriginTermination, EpisodeLengthTermination
    """

    quantity: Quantity
    low: Scale = -jnp.inf
    high: Scale = jnp.inf
    closed: bool = False

    def __post_init__(self) -> None:
        if self.low == -jnp.inf and self.high == jnp.inf:
            raise InvalidConfigError("Outside has no bounds; give low, high or both.")
        for low, high in zip(ends(self.low), ends(self.high), strict=True):
            if not low <= high:
                raise InvalidConfigError(
                    f"Outside has low {self.low} and high {self.high}; low must not be above high."
                )

    def change(self, value: Array, ctx: Context) -> Bool[Array, ""]:
        """A scalar bool; true for a value that is not a number."""
        low, high = (bound(ctx.level) if callable(bound) else bound for bound in (self.low, self.high))
        if self.closed:
            return ~jnp.all((low <= value) & (value <= high))
        return ~jnp.all((low < value) & (value < high))
