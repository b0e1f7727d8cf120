"""PPO's loss against a reference in NumPy, float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppo.config import PPOConfig
from agents.ppo.loss import Minibatch, ppo_loss
from agents.ppo.networks import ActorCritic

NUM_OBS, NUM_ACTIONS, B = 5, 3, 64
CONFIG = PPOConfig(hidden_sizes=(8, 8), num_envs=1)


@pytest.fixture(scope="module")
def model():
    return ActorCritic(NUM_OBS, 0, NUM_ACTIONS, CONFIG, jax.random.key(3))


def make_batch(seed=0, valid_share=0.8):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return Minibatch(
        obs_BTL=normal(B, 1, NUM_OBS),
        sample_BTA=normal(B, 1, NUM_ACTIONS),
        log_prob_BT=normal(B, 1) * 0.3 - 3.0,
        value_BT=normal(B, 1),
        advantage_BT=normal(B, 1) * 2.0 + 1.0,
        return_BT=normal(B, 1),
        is_valid_BT=jnp.asarray(rng.random((B, 1)) < valid_share),
        is_start_BT=jnp.zeros((B, 1), bool),
        carry_BL_t_0=((), ()),
    )


def forward(network, x):
    """The multi-layer perceptron in NumPy, with SiLU."""
    for layer in network.layers[:-1]:
        x = x @ np.asarray(layer.weight_ML, np.float64).T + np.asarray(layer.bias_M, np.float64)
        x = x / (1.0 + np.exp(-x))
    last = network.layers[-1]
    return x @ np.asarray(last.weight_ML, np.float64).T + np.asarray(last.bias_M, np.float64)


def reference(model, batch, config):
    valid = np.asarray(batch.is_valid_BT)[:, 0]
    obs, sample, old_log_prob, old_value, advantage, target = (
        np.asarray(leaf, np.float64)[:, 0][valid]
        for leaf in (
            batch.obs_BTL,
            batch.sample_BTA,
            batch.log_prob_BT,
            batch.value_BT,
            batch.advantage_BT,
            batch.return_BT,
        )
    )
    mean, value = forward(model.actor, obs), forward(model.critic, obs)[:, 0]
    log_std = np.asarray(model.log_std, np.float64)
    log_prob = (-0.5 * ((sample - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    entropy = (log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()
    if config.squash == "tanh":
        log_prob -= np.log(1 - np.tanh(sample) ** 2).sum(axis=1)
        entropy += np.log(1 - np.tanh(sample) ** 2).sum(axis=1).mean()
    if config.normalize_advantages:
        advantage = (advantage - advantage.mean()) / advantage.std()
    ratio = np.exp(log_prob - old_log_prob)
    clipped = np.clip(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio)
    square = (value - target) ** 2
    if config.clip_value is not None:
        near = old_value + np.clip(value - old_value, -config.clip_value, config.clip_value)
        square = np.maximum(square, (near - target) ** 2)
    policy_loss = -np.minimum(ratio * advantage, clipped * advantage).mean()
    return {
        "policy_loss": policy_loss,
        "value_loss": square.mean(),
        "entropy": entropy,
        "kl": (ratio - 1 - np.log(ratio)).mean(),
        "clip_fraction": (np.abs(ratio - 1) > config.clip_ratio).mean(),
    }, policy_loss + config.value_loss_coef * square.mean() - config.entropy_coef * entropy


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip_value": 0.3}, {"normalize_advantages": False}, {"squash": "tanh"}, {"entropy_coef": 0.0}],
    ids=str,
)
def test_loss_equals_the_reference(model, changes):
    config = replace(CONFIG, **changes)
    model = ActorCritic(NUM_OBS, 0, NUM_ACTIONS, config, jax.random.key(3))
    batch = make_batch()
    loss, metrics = ppo_loss(model, batch, config)
    expected_metrics, expected = reference(model, batch, config)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)


def test_dropped_transitions_change_no_bit_of_loss_or_gradient(model):
    batch = make_batch()
    column = batch.is_valid_BT

    def with_dropped(fill):
        def filled(leaf):
            return jnp.where(column.reshape(column.shape + (1,) * (leaf.ndim - 2)), leaf, fill)

        names = ("obs_BTL", "sample_BTA", "log_prob_BT", "value_BT", "advantage_BT", "return_BT")
        changed = replace(batch, **{name: filled(getattr(batch, name)) for name in names})
        return jax.value_and_grad(ppo_loss, has_aux=True)(model, changed, CONFIG)

    jax.tree.map(np.testing.assert_array_equal, with_dropped(0.0), with_dropped(7.0))


def test_a_minibatch_without_a_valid_transition_has_no_gradient(model):
    _, grads = jax.value_and_grad(ppo_loss, has_aux=True)(model, make_batch(valid_share=0.0), CONFIG)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads))
