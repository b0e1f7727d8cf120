"""Distributions of actions: an independent normal for each actuator, plain or squashed.

Everything is in units of half the action range: 0 is the middle of an actuator's range, +-1 are its bounds. A sample is
kept as drawn, before any squashing, so that its probability can be computed again without inverting anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Key

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Normal:
    """`x ~ N(mean, std)`, and the action is x; what lies out of bounds is clipped by the env."""

    mean: Float[Array, "*B A"]
    log_std: Float[Array, "A"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*B A"]:
        """One sample for each row."""
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, sample: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """Log-density of the actions that these samples stand for."""
        z = (sample - self.mean) * jnp.exp(-self.log_std)
        return -(0.5 * z**2 + self.log_std + HALF_LOG_2_PI).sum(axis=-1)

    def entropy(self, sample: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """Differential entropy in nats: exact here; a subclass may estimate it at the sample."""
        return jnp.broadcast_to((self.log_std + 0.5 + HALF_LOG_2_PI).sum(), sample.shape[:-1])

    @staticmethod
    def action(sample: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
        """The action, in half ranges, that a sample stands for; that of the mean is the deterministic policy's."""
        return sample


class TanhNormal(Normal):
    """`x ~ N(mean, std)`, and the action is tanh(x), which never leaves its bounds."""

    def log_prob(self, sample: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """That of the normal, less the log-determinant of tanh."""
        return super().log_prob(sample) - _log_slope(sample).sum(axis=-1)

    def entropy(self, sample: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """That of the normal plus the expected log-determinant of tanh, estimated at the sample.

        The sample is taken for one of this distribution; while the policy moves away from the one that drew it, the
        estimate drifts, as much as clipping lets it.
        """
        z = jax.lax.stop_gradient((sample - self.mean) * jnp.exp(-self.log_std))
        return super().entropy(sample) + _log_slope(self.mean + jnp.exp(self.log_std) * z).sum(axis=-1)

    @staticmethod
    def action(sample: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
        """See `Normal.action`."""
        return jnp.tanh(sample)


DISTRIBUTIONS: dict[str, type[Normal]] = {"none": Normal, "tanh": TanhNormal}
"""The distribution for each value of `PPOConfig.squash`."""


def in_control_units(
    action: Float[Array, "*B A"], low: Float[ArrayLike, "A"], high: Float[ArrayLike, "A"]
) -> Float[Array, "*B A"]:
    """Actions in half ranges as controls, given the bounds of these."""
    low, high = jnp.asarray(low), jnp.asarray(high)
    return 0.5 * (low + high) + 0.5 * (high - low) * action


def _log_slope(x: Array) -> Array:
    """`log(d tanh(x) / dx) = log(1 - tanh(x)**2)`, without cancellation."""
    return 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))
