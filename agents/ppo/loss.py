"""PPO's loss on one minibatch."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from agents.ppo.config import PPOConfig
from agents.ppo.networks import ActorCritic, Carry


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """B segments of T consecutive states; T is 1 without a memory."""

    obs_BTL: Float[Array, "B T L"]  # normalized; privileged ones last
    sample_BTA: Float[Array, "B T A"]
    log_prob_BT: Float[Array, "B T"]  # when the sample was drawn
    value_BT: Float[Array, "B T"]  # as estimated then
    advantage_BT: Float[Array, "B T"]
    return_BT: Float[Array, "B T"]  # target of the value function
    is_valid_BT: Bool[Array, "B T"]  # False for transitions to drop
    is_start_BT: Bool[Array, "B T"]  # the state is the first of an episode
    carry_BL_t_0: tuple[Carry, Carry]  # memories of actor and critic before the segment


def ppo_loss(model: ActorCritic, batch: Minibatch, config: PPOConfig) -> tuple[Array, dict[str, Array]]:
    """The clipped surrogate, the value loss and the entropy (Schulman et al. 2017, eq. 7 and 9).

        loss = -mean(min(ratio * a, clip(ratio, 1 - eps, 1 + eps) * a)) + c_v mean((v - ret)**2) - c_e mean(entropy)

    Means are over valid transitions only. With `clip_value`, the value loss is the larger of that of v and of v clipped
    to `clip_value` around the old value.

    Args:
        model: the policy and value function.
        batch: the data.
        config: coefficients and ranges.

    Returns:
        The loss, and its parts and diagnostics by name. `kl` is Schulman's estimate `mean(ratio - 1 - log(ratio))`.
    """
    seen_BTL = batch.obs_BTL[..., : model.num_observations]
    _, mean_BTA = jax.vmap(model.actor.unroll)(batch.carry_BL_t_0[0], seen_BTL, batch.is_start_BT)
    _, value_BT1 = jax.vmap(model.critic.unroll)(batch.carry_BL_t_0[1], batch.obs_BTL, batch.is_start_BT)
    value_BT, policy = value_BT1[..., 0], model.distribution(mean_BTA)

    def mean(value_BT: Array) -> Array:
        return masked_mean(value_BT, batch.is_valid_BT)

    advantage_BT = batch.advantage_BT
    if config.normalize_advantages:
        centred_BT = advantage_BT - mean(advantage_BT)
        advantage_BT = centred_BT / jnp.sqrt(mean(centred_BT**2) + 1e-8)
    log_ratio_BT = jnp.where(batch.is_valid_BT, policy.log_prob(batch.sample_BTA) - batch.log_prob_BT, 0.0)
    ratio_BT = jnp.exp(log_ratio_BT)
    clipped_BT = jnp.clip(ratio_BT, 1.0 - config.clip_ratio, 1.0 + config.clip_ratio)
    policy_loss = -mean(jnp.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT))

    square_BT = (value_BT - batch.return_BT) ** 2
    if config.clip_value is not None:
        change_BT = jnp.clip(value_BT - batch.value_BT, -config.clip_value, config.clip_value)
        square_BT = jnp.maximum(square_BT, (batch.value_BT + change_BT - batch.return_BT) ** 2)
    value_loss = mean(square_BT)

    entropy = mean(policy.entropy(batch.sample_BTA))
    return policy_loss + config.value_loss_coef * value_loss - config.entropy_coef * entropy, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "kl": mean(ratio_BT - 1.0 - log_ratio_BT),
        "clip_fraction": mean((jnp.abs(ratio_BT - 1.0) > config.clip_ratio).astype(jnp.float32)),
    }


def masked_mean(value: Array, is_valid: Array) -> Array:
    """The mean over valid entries, whatever stands in the others; 0 where there is none."""
    total = jnp.where(is_valid, value, 0.0).sum()
    return total / jnp.maximum(is_valid.sum(), 1)
