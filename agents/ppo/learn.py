"""One iteration of PPO as pure functions: the state of a run, how it begins, and how it learns from a Trajectory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Key

from agents.ppo.config import PPOConfig
from agents.ppo.gae import estimate_advantages
from agents.ppo.loss import Minibatch, masked_mean, ppo_loss
from agents.ppo.networks import ActorCritic
from agents.ppo.rollout import Actors, Trajectory, begin, collect
from ksim_envs import Core
from ksim_envs.moments import Moments

Metrics = dict[str, Array]

MIN_LEARNING_RATE, MAX_LEARNING_RATE = 1e-5, 1e-2
"""Bounds of the adapted step size."""
KL_STEP = 1.5
"""Factor by which the step size is adapted, and margin around the desired KL divergence within which it stays."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The complete state of a run. Two equal states have equal futures."""

    model: ActorCritic
    opt_state: Any  # of `optimizer`
    moments: Moments  # of the observations
    actors: Actors  # (E, ...)
    key: Array  # (), typed PRNG key
    learning_rate: Array  # (), float32
    iteration: Array  # (), int32: rollouts collected
    num_skipped_updates: Array  # (), int32: gradient steps left out because they were not finite


def optimizer(config: PPOConfig) -> Any:
    """Adam's direction, from gradients of bounded norm; `learn` multiplies it with the learning rate."""
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=1e-5))


def init(core: Core, config: PPOConfig, key: Key[Array, ""]) -> TrainState:
    """The beginning of a run: new networks, reset envs, nothing learned."""
    env_key, model_key, key = jax.random.split(key, 3)
    num_privileged = core.num_privileged(config.privileged)
    model = ActorCritic(core.num_observations, num_privileged, core.num_actions, config, model_key)
    key_E = jax.vmap(jax.random.fold_in, (None, 0))(env_key, jnp.arange(config.num_envs))
    return TrainState(
        model=model,
        opt_state=optimizer(config).init(model),
        moments=Moments.empty(core.num_observations + num_privileged),
        actors=begin(core, model, key_E, stagger_first_episodes=config.stagger_first_episodes),
        key=key,
        learning_rate=jnp.float32(config.learning_rate),
        iteration=jnp.zeros((), jnp.int32),
        num_skipped_updates=jnp.zeros((), jnp.int32),
    )


def advance(core: Core, config: PPOConfig, state: TrainState) -> tuple[TrainState, Trajectory]:
    """Collect the next trajectory with the policy and the statistics as they are; see `collect`."""
    actors, trajectory = collect(
        core,
        state.model,
        state.moments,
        state.actors,
        jax.random.fold_in(state.key, 2 * state.iteration),
        length=config.rollout_length,
        privileged=config.privileged,
    )
    return replace(state, actors=actors, iteration=state.iteration + 1), trajectory


def measure(config: PPOConfig, state: TrainState, trajectory: Trajectory) -> TrainState:
    """The state with the trajectory's observations in its statistics, for the next rollout to be normalized with."""
    if not config.normalize_observations:
        return state
    obs_DL = trajectory.obs_TEL.reshape(-1, trajectory.obs_TEL.shape[-1])
    return replace(state, moments=state.moments.updated(obs_DL, trajectory.is_valid_TE.reshape(-1)))


def learn(config: PPOConfig, state: TrainState, trajectory: Trajectory) -> tuple[TrainState, Metrics]:
    """Some epochs of minibatch gradient steps on one trajectory.

    Args:
        config: the settings.
        state: its `iteration` counts this trajectory already.
        trajectory: collected with `state.model`.

    Returns:
        The state with the policy and value function improved, and metrics by name.
    """
    reward_TE = config.reward_scale * trajectory.reward_TE
    advantage_TE, return_TE = estimate_advantages(
        reward_TE,
        trajectory.value_TE,
        trajectory.next_value_TE,
        trajectory.terminated_TE,
        trajectory.truncated_TE,
        trajectory.is_valid_TE,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    dataset = _segments(config, trajectory, state.moments.normalized(trajectory.obs_TEL), advantage_TE, return_TE)
    num_segments = len(dataset.value_BT)
    scheduled = optax.linear_schedule(config.learning_rate, config.final_learning_rate, config.num_iterations)
    if config.desired_kl is None:
        state = replace(state, learning_rate=jnp.float32(scheduled(state.iteration)))

    def epoch(state: TrainState, key: Array) -> tuple[TrainState, Metrics]:
        order_MB = jax.random.permutation(key, num_segments).reshape(config.num_minibatches, -1)
        state, metrics = jax.lax.scan(gradient_step, state, order_MB)
        return _with_adapted_rate(config, state, metrics["kl"].mean()), metrics

    def gradient_step(state: TrainState, index_B: Array) -> tuple[TrainState, Metrics]:
        batch = jax.tree.map(lambda leaf: leaf[index_B], dataset)
        return _improved(config, state, batch)

    keys = jax.random.split(jax.random.fold_in(state.key, 2 * state.iteration + 1), config.num_epochs)
    state, metrics = jax.lax.scan(epoch, state, keys)
    return state, {
        **_episode_metrics(trajectory),
        **jax.tree.map(jnp.mean, metrics),
        "explained_variance": _explained_variance(trajectory.value_TE, return_TE, trajectory.is_valid_TE),
        "action_std": jnp.exp(state.model.log_std).mean(),
        "learning_rate": state.learning_rate,
        "num_skipped_updates": state.num_skipped_updates,
    }


def _improved(config: PPOConfig, state: TrainState, batch: Minibatch) -> tuple[TrainState, Metrics]:
    """The state after one gradient step, or as it was where the step is not finite."""
    (loss, metrics), grads = jax.value_and_grad(ppo_loss, has_aux=True)(state.model, batch, config)
    grad_norm = optax.tree.norm(grads)
    direction, opt_state = optimizer(config).update(grads, state.opt_state)
    model = jax.tree.map(lambda value, step: value - state.learning_rate * step, state.model, direction)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    model, opt_state = jax.tree.map(
        lambda new, old: jnp.where(is_finite, new, old), (model, opt_state), (state.model, state.opt_state)
    )
    num_skipped_updates = state.num_skipped_updates + ~is_finite
    state = replace(state, model=model, opt_state=opt_state, num_skipped_updates=num_skipped_updates)
    return state, {**metrics, "grad_norm": grad_norm}


def _with_adapted_rate(config: PPOConfig, state: TrainState, kl: Array) -> TrainState:
    """The state with a learning rate that keeps an epoch's mean KL divergence near the desired one, if there is one."""
    if config.desired_kl is None:
        return state
    is_too_large = ~(kl <= KL_STEP * config.desired_kl)  # also where it is not a number
    is_too_small = kl < config.desired_kl / KL_STEP
    factor = jnp.where(is_too_large, 1.0 / KL_STEP, jnp.where(is_too_small, KL_STEP, 1.0))
    low, high = min(MIN_LEARNING_RATE, config.learning_rate), max(MAX_LEARNING_RATE, config.learning_rate)
    return replace(state, learning_rate=jnp.clip(state.learning_rate * factor, low, high))


def _segments(
    config: PPOConfig, trajectory: Trajectory, seen_TEL: Array, advantage_TE: Array, return_TE: Array
) -> Minibatch:
    """The dataset: single states in any order, or with a memory every env's whole sequence."""
    length = 1 if config.memory == "none" else config.rollout_length

    def cut(leaf_TEL: Array) -> Array:
        rest = leaf_TEL.shape[2:]
        leaf_NTEL = leaf_TEL.reshape(-1, length, *leaf_TEL.shape[1:])
        return jnp.moveaxis(leaf_NTEL, 2, 1).reshape(-1, length, *rest)

    return Minibatch(
        obs_BTL=cut(seen_TEL),
        sample_BTA=cut(trajectory.sample_TEA),
        log_prob_BT=cut(trajectory.log_prob_TE),
        value_BT=cut(trajectory.value_TE),
        advantage_BT=cut(advantage_TE),
        return_BT=cut(return_TE),
        is_valid_BT=cut(trajectory.is_valid_TE),
        is_start_BT=cut(trajectory.is_start_TE),
        carry_BL_t_0=trajectory.carry_EL_t_0,
    )


def _episode_metrics(trajectory: Trajectory) -> Metrics:
    """What the episodes that ended in this rollout came to; not a number where none did."""
    ended_TE = (trajectory.terminated_TE | trajectory.truncated_TE) & trajectory.is_valid_TE
    num_episodes = ended_TE.sum()

    def mean(value_TE: Array) -> Array:
        return jnp.where(num_episodes > 0, masked_mean(value_TE, ended_TE), jnp.nan)

    return {
        "return_mean": mean(trajectory.return_TE),
        "length_mean": mean(trajectory.length_TE),
        "num_episodes": num_episodes,
        "num_diverged": (~trajectory.is_valid_TE).sum(),
    }


def _explained_variance(value_TE: Array, return_TE: Array, is_valid_TE: Array) -> Array:
    """`1 - var(return - value) / var(return)`: 1 for a perfect value function, 0 for a constant one."""

    def variance(x_TE: Array) -> Array:
        return masked_mean((x_TE - masked_mean(x_TE, is_valid_TE)) ** 2, is_valid_TE)

    return 1.0 - variance(return_TE - value_TE) / jnp.maximum(variance(return_TE), 1e-8)
