"""The actor and the critic: separate networks, each with an optional memory, written for one environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Key

from agents.ppo.config import PPOConfig
from agents.ppo.distributions import DISTRIBUTIONS, Normal

Carry: TypeAlias = Any
"""What a memory remembers: a tuple of (memory_size,) arrays; empty without a memory."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
}


class Linear(eqx.Module):
    """`x W^T + b`.

    Not `eqx.nn.Linear`: under `vmap` its `W x` puts the batch last, which makes gradient steps on a CPU slower.
    """

    weight_ML: Float[Array, "M L"]
    bias_M: Float[Array, "M"]

    def __init__(self, num_inputs: int, num_outputs: int, gain: float, key: Key[Array, ""]) -> None:
        """Draw an orthogonal weight with this gain; the bias is zero."""
        self.weight_ML = jax.nn.initializers.orthogonal(gain)(key, (num_outputs, num_inputs))
        self.bias_M = jnp.zeros(num_outputs)

    def __call__(self, x: Float[Array, "L"]) -> Float[Array, "M"]:
        """The output for one input."""
        return x @ self.weight_ML.T + self.bias_M


class Network(eqx.Module):
    """An optional recurrent cell, then fully connected layers."""

    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell | None
    layers: tuple[Linear, ...]
    activation: str = eqx.field(static=True)

    def __init__(
        self, num_inputs: int, num_outputs: int, output_gain: float, config: PPOConfig, key: Key[Array, ""]
    ) -> None:
        """Draw the layers' weights, orthogonal, with gain sqrt(2) in the hidden ones; a cell's as Equinox does.

        Args:
            num_inputs: length of the input.
            num_outputs: length of the output.
            output_gain: gain of the last layer.
            config: its `hidden_sizes`, `activation`, `memory` and `memory_size`.
            key: for the draw.
        """
        cell_key, key = jax.random.split(key)
        cell = {"none": None, "gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[config.memory]
        self.cell = cell and cell(num_inputs, config.memory_size, key=cell_key)
        sizes = (config.memory_size if self.cell else num_inputs, *config.hidden_sizes, num_outputs)
        gains = (2.0**0.5,) * len(config.hidden_sizes) + (output_gain,)
        keys = jax.random.split(key, len(gains))
        self.layers = tuple(map(Linear, sizes[:-1], sizes[1:], gains, keys))
        self.activation = config.activation

    def initial_carry(self) -> Carry:
        """The memory at the start of an episode: zeros."""
        if self.cell is None:
            return ()
        return tuple(
            jnp.zeros(self.cell.hidden_size) for _ in range(2 if isinstance(self.cell, eqx.nn.LSTMCell) else 1)
        )

    def __call__(self, carry: Carry, x: Float[Array, "L"]) -> tuple[Carry, Float[Array, "M"]]:
        """One step: the next memory, and the output."""
        if isinstance(self.cell, eqx.nn.LSTMCell):
            carry = self.cell(x, carry)
            x = carry[0]
        elif self.cell is not None:
            carry = (self.cell(x, carry[0]),)
            x = carry[0]
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return carry, self.layers[-1](x)

    def unroll(
        self, carry: Carry, x_TL: Float[Array, "T L"], is_start_T: Bool[Array, "T"]
    ) -> tuple[Carry, Float[Array, "T M"]]:
        """Consecutive steps, forgetting at the start of each episode."""
        if self.cell is None:
            return carry, jax.vmap(lambda x: self(carry, x)[1])(x_TL)

        def step(carry: Carry, t: tuple[Array, Array]) -> tuple[Carry, Array]:
            x, is_start = t
            return self(forget(is_start, carry), x)

        return jax.lax.scan(step, carry, (x_TL, is_start_T))


class ActorCritic(eqx.Module):
    """The policy and the value function, sharing nothing."""

    actor: Network  # sees the first `num_observations` of an input
    critic: Network  # sees all of it: the privileged metrics too
    log_std: Float[Array, "A"]
    num_observations: int = eqx.field(static=True)
    squash: str = eqx.field(static=True)

    def __init__(
        self, num_observations: int, num_privileged: int, num_actions: int, config: PPOConfig, key: Key[Array, ""]
    ) -> None:
        """Draw the weights. The actor begins near the middle of the action range."""
        actor_key, critic_key = jax.random.split(key)
        self.actor = Network(num_observations, num_actions, 0.01, config, actor_key)
        self.critic = Network(num_observations + num_privileged, 1, 1.0, config, critic_key)
        self.num_observations = num_observations
        self.log_std = jnp.full(num_actions, jnp.log(config.initial_std), jnp.float32)
        self.squash = config.squash

    def initial_carry(self) -> tuple[Carry, Carry]:
        """The memories of actor and critic at the start of an episode."""
        return self.actor.initial_carry(), self.critic.initial_carry()

    def distribution(self, mean: Float[Array, "*B A"]) -> Normal:
        """The distribution of actions around the actor's output."""
        return DISTRIBUTIONS[self.squash](mean, self.log_std)


def forget(is_start: Bool[Array, ""], carry: Carry) -> Carry:
    """The memory, emptied where an episode starts."""
    return jax.tree.map(lambda leaf: jnp.where(is_start, 0.0, leaf), carry)
