"""Deterministic evaluation: one whole episode in each of a batch of envs, ours or Gymnasium's own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs import Autoreset, Core, EnvState, gymnasium_id
from ksim_envs.errors import InvalidConfigError
from ksim_envs.runtime import quiet_mujoco

if TYPE_CHECKING:
    from agents.ppo.policy import Policy, PolicyState

SELECTION_STREAM, REPORT_STREAM = 0x73656C65, 0x7265706F
"""Set the envs of evaluations apart from those of training with the same seed: those during training, which choose the
best policy, and those afterwards."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One episode of each env."""

    return_E: np.ndarray  # (E,) undiscounted
    length_E: np.ndarray  # (E,) control steps
    terminated_E: np.ndarray  # (E,) bool: a termination of the task ended it
    diverged_E: np.ndarray  # (E,) bool: a fault of the physics cut the episode short
    metric_E: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # (E,) by name: the task's metrics, means over time

    def metrics(self) -> dict[str, float]:
        """The episodes' mean, spread and length by name, without those that diverged; not a number if all did."""
        is_whole_E = ~self.diverged_E

        def whole(row_E: np.ndarray) -> np.ndarray:
            return row_E[is_whole_E] if is_whole_E.any() else np.array([np.nan])

        return_E, length_E = whole(self.return_E), whole(self.length_E)
        return {
            "return_mean": float(return_E.mean()),
            "return_std": float(return_E.std()),
            "return_min": float(return_E.min()),
            "return_max": float(return_E.max()),
            "length_mean": float(length_E.mean()),
            "terminated_share": float(whole(self.terminated_E).mean()),
            "num_diverged": float(self.diverged_E.sum()),
            **{name: float(whole(row_E).mean()) for name, row_E in self.metric_E.items()},
        }


class Evaluator:
    """Evaluates policies in one batch of our envs, always from the same first states."""

    def __init__(self, core: Core, seed: int, stream: int = SELECTION_STREAM) -> None:
        """Compile nothing yet; the first evaluation does."""
        self._device = core.backend.device
        self._key_E = jax.device_put(jax.vmap(jax.random.fold_in, (0, None))(core.keys(seed), stream), self._device)
        self._run = jax.jit(partial(_episodes, core))

    def __call__(self, policy: PolicyState) -> Evaluation:
        """One episode of each env."""
        final, sums = self._run(jax.device_put(policy, self._device), self._key_E)
        length_E = np.array(final.step_E)
        return Evaluation(
            return_E=np.array(final.return_E),
            length_E=length_E,
            terminated_E=np.array(final.terminated_E),
            diverged_E=np.array(final.fault_count_EC).sum(axis=1) > 0,
            metric_E={name: np.array(sum_E) / length_E for name, sum_E in sums.items()},
        )


def _episodes(core: Core, policy: PolicyState, key_E: Array) -> tuple[EnvState, dict[str, Array]]:
    """The state in which every row has ended its episode and stands still, and sums of the task's scalar metrics."""
    begun = core.reset(key_E)
    scalars = [name for name in core.task.metrics if begun.metrics[name].ndim == 1]

    def step(loop: tuple[EnvState, Any, Array, dict[str, Array]]) -> tuple[EnvState, Any, Array, dict[str, Array]]:
        state, carry_EL, is_start_E, sums = loop
        carry_EL, action_EA = policy.act(carry_EL, state.obs_EL, is_start_E)
        runs_E = ~state.needs_reset_E
        state, _ = core.step(state, action_EA, Autoreset.DISABLED)
        sums = {name: sum_E + jnp.where(runs_E, state.metrics[name], 0.0) for name, sum_E in sums.items()}
        return state, carry_EL, jnp.zeros_like(is_start_E), sums

    zeros = {name: jnp.zeros(core.num_envs) for name in scalars}
    loop = begun, policy.initial_carry(core.num_envs), jnp.ones(core.num_envs, bool), zeros
    state, _, _, sums = jax.lax.while_loop(lambda loop: ~loop[0].needs_reset_E.all(), step, loop)
    return state, sums


def evaluate_in_gymnasium(policy: Policy, task_id: str, num_episodes: int, seed: int) -> Evaluation:
    """One episode in each of `num_episodes` of Gymnasium's own v5 envs.

    Args:
        policy: the policy.
        task_id: our id of the task.
        num_episodes: how many.
        seed: of the first env; the others' follow.

    Raises:
        InvalidConfigError: Gymnasium does not have the task.
    """
    name = gymnasium_id(task_id)
    if name is None:
        raise InvalidConfigError(f"Gymnasium has no env of its own for {task_id!r}.")
    modes = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
    zeros = np.zeros(num_episodes)
    never = zeros.astype(bool)
    result = Evaluation(return_E=zeros, length_E=zeros.astype(int), terminated_E=never, diverged_E=never)
    with (
        quiet_mujoco(),
        contextlib.closing(gym.make_vec(name, num_episodes, vectorization_mode="sync", vector_kwargs=modes)) as envs,
    ):
        obs, _ = envs.reset(seed=seed)
        policy.reset()
        runs_E = np.ones(num_episodes, bool)
        while runs_E.any():
            obs, reward, terminated, truncated, _ = envs.step(policy(obs))
            result = replace(
                result,
                return_E=result.return_E + np.where(runs_E, reward, 0.0),
                length_E=result.length_E + runs_E,
                terminated_E=result.terminated_E | (runs_E & terminated),
            )
            runs_E &= ~(terminated | truncated)
    return result
