"""Advantages and returns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float


def estimate_advantages(
    reward_TE: Float[Array, "T E"],
    value_TE: Float[Array, "T E"],
    next_value_TE: Float[Array, "T E"],
    terminated_TE: Bool[Array, "T E"],
    truncated_TE: Bool[Array, "T E"],
    is_valid_TE: Bool[Array, "T E"],
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Float[Array, "T E"], Float[Array, "T E"]]:
    """Generalized advantage estimation (Schulman et al. 2016, eq. 11-16), exact at every kind of end.

        delta_t = r_t + gamma * (1 - terminated_t) * v'_t - v_t
        a_t     = delta_t + gamma * lambda * (1 - terminated_t) * (1 - truncated_t) * a_{t+1}

    A transition that is not valid has advantage 0, and nothing of it or of what follows reaches the one before, which
    bootstraps from its own next value.

    Args:
        reward_TE: (T, E) rewards.
        value_TE: (T, E) `v_t`, the value of the state that the action was taken in.
        next_value_TE: (T, E) `v'_t`, the value of the state that the action led to, before any reset.
        terminated_TE: (T, E) whether that state was an end of the task; its value counts as 0.
        truncated_TE: (T, E) whether the episode was cut there; its value counts.
        is_valid_TE: (T, E) False for transitions to drop.
        gamma: discount, in [0, 1].
        gae_lambda: decay, in [0, 1].

    Returns:
        (T, E) advantages, and (T, E) returns `a_t + v_t`: the targets of the value function.
    """
    goes_on_TE = ~(terminated_TE | truncated_TE)
    delta_TE = reward_TE + gamma * jnp.where(terminated_TE, 0.0, next_value_TE) - value_TE
    delta_TE = jnp.where(is_valid_TE, delta_TE, 0.0)
    decay_TE = jnp.where(is_valid_TE & goes_on_TE, gamma * gae_lambda, 0.0)

    def step_back(advantage_E_t_plus_1: Array, t: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_E, decay_E = t
        advantage_E = delta_E + decay_E * advantage_E_t_plus_1
        return advantage_E, advantage_E

    _, advantage_TE = jax.lax.scan(step_back, jnp.zeros_like(value_TE[0]), (delta_TE, decay_TE), reverse=True)
    return advantage_TE, advantage_TE + value_TE
