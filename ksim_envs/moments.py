"""Running mean and variance of observations or rewards, blind to dropped rows."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

CLIP = 10.0
"""Normalized observations are clipped to this many standard deviations."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean and variance of all observations seen so far."""

    count: Float[Array, ""]
    mean_L: Float[Array, "L"]
    var_L: Float[Array, "L"]

    @classmethod
    def empty(cls, size: int, weight: float = 0.0) -> Moments:
        """Of no observation: `normalized` then leaves them as they are.

        Args:
            size: L.
            weight: or of so many observations with mean 0 and variance 1; some make up for a first batch of equals.
        """
        mean_L, var_L = jnp.zeros(size, jnp.float32), jnp.ones(size, jnp.float32)
        return cls(count=jnp.full((), weight, jnp.float32), mean_L=mean_L, var_L=var_L)

    @classmethod
    def of(cls, obs_DL: Float[Array, "D L"], is_valid_D: Bool[Array, "D"]) -> Moments:
        """The moments of some observations.

        Args:
            obs_DL: (D, L) observations.
            is_valid_D: (D,) False for those to ignore, whatever they hold.
        """
        column = is_valid_D[:, None]
        count = is_valid_D.sum().astype(jnp.float32)
        scale = 1.0 / jnp.maximum(count, 1.0)
        mean_L = jnp.where(column, obs_DL, 0.0).sum(axis=0) * scale
        var_L = (jnp.where(column, obs_DL - mean_L, 0.0) ** 2).sum(axis=0) * scale
        return cls(count=count, mean_L=mean_L, var_L=var_L)

    @property
    def mean(self) -> Float[Array, "L"]:
        """`mean_L` under the name that Gymnasium's wrappers have for it."""
        return self.mean_L

    @property
    def var(self) -> Float[Array, "L"]:
        """`var_L` under the name that Gymnasium's wrappers have for it."""
        return self.var_L

    def of_first(self, size: int) -> Moments:
        """The moments of the first numbers of each observation alone."""
        return Moments(count=self.count, mean_L=self.mean_L[:size], var_L=self.var_L[:size])

    def merged(self, other: Moments) -> Moments:
        """The moments of the observations of both (Chan et al. 1979, pairwise update)."""
        count = self.count + other.count
        share = other.count / jnp.where(count > 0, count, 1.0)
        shift_L = other.mean_L - self.mean_L
        merged = Moments(
            count=count,
            mean_L=self.mean_L + share * shift_L,
            var_L=(1.0 - share) * self.var_L + share * other.var_L + share * (1.0 - share) * shift_L**2,
        )
        return jax.tree.map(lambda new, old: jnp.where(other.count > 0, new, old), merged, self)

    def updated(self, obs_DL: Float[Array, "D L"], is_valid_D: Bool[Array, "D"]) -> Moments:
        """The moments of these observations too; see `of`."""
        return self.merged(Moments.of(obs_DL, is_valid_D))

    def normalized(
        self, obs: Float[Array, "*B L"], epsilon: float | Array = 1e-8, clip: float = CLIP
    ) -> Float[Array, "*B L"]:
        """The observations with mean 0 and standard deviation 1, clipped.

        Args:
            obs: (..., L) observations.
            epsilon: added to the variances.
            clip: the largest absolute value, in standard deviations.
        """
        normalized = jnp.clip((obs - self.mean_L) * jax.lax.rsqrt(self.var_L + epsilon), -clip, clip)
        return jnp.where(self.count > 0, normalized, obs)
