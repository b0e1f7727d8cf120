"""What a run leaves behind: a policy that anybody can call, without an env and without the rest of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from agents.ppo.distributions import in_control_units
from agents.ppo.networks import ActorCritic, Carry, forget
from ksim_envs.errors import InvalidConfigError
from ksim_envs.moments import Moments


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PolicyState:
    """A deterministic policy as a pytree, for use under `jit`; of the critic it makes no use."""

    model: ActorCritic
    moments: Moments
    low_A: Float[Array, "A"]  # bounds of the controls
    high_A: Float[Array, "A"]

    @classmethod
    def of(cls, model: ActorCritic, moments: Moments, low_A: ArrayLike, high_A: ArrayLike) -> PolicyState:
        """The policy of a model, with the statistics of what its actor sees."""
        moments = moments.of_first(model.num_observations)
        return cls(model=model, moments=moments, low_A=jnp.asarray(low_A), high_A=jnp.asarray(high_A))

    def initial_carry(self, num_rows: int) -> Carry:
        """Empty memories of so many rows."""
        return jax.tree.map(lambda leaf: jnp.tile(leaf, (num_rows, 1)), self.model.actor.initial_carry())

    def act(
        self, carry_EL: Carry, obs_EL: Float[Array, "E L"], is_start_E: Bool[Array, "E"]
    ) -> tuple[Carry, Float[Array, "E A"]]:
        """One step of every row.

        Args:
            carry_EL: memories.
            obs_EL: (E, L) observations as the env gives them.
            is_start_E: (E,) whether it is the first of an episode.

        Returns:
            The memories, and (E, A) controls: those that the distribution's mean stands for.
        """
        carry_EL = jax.vmap(forget)(is_start_E, carry_EL)
        carry_EL, mean_EA = jax.vmap(self.model.actor)(carry_EL, self.moments.normalized(obs_EL))
        action_EA = self.model.distribution(mean_EA).action(mean_EA)
        control_EA = in_control_units(action_EA, self.low_A, self.high_A)
        return carry_EL, jnp.clip(control_EA, self.low_A, self.high_A)


class Policy:
    """A trained policy: `action = policy(obs)`, deterministic, with NumPy in and out.

    Give it one observation or a batch. With a memory it remembers what it saw: call `reset` when an episode begins.
    """

    def __init__(self, state: PolicyState) -> None:
        """Wrap the pytree."""
        self.state = state
        self._act = jax.jit(PolicyState.act)
        self._carry_EL: Any = None
        self._is_start_E: np.ndarray | None = None

    @property
    def num_observations(self) -> int:
        """Length of an observation."""
        return len(self.state.moments.mean_L)

    def reset(self, mask_E: np.ndarray | None = None) -> None:
        """Forget, in all rows or in those of a mask."""
        if mask_E is None or self._is_start_E is None:
            self._is_start_E = None
            return
        mask_E = np.asarray(mask_E, bool)
        if mask_E.shape != self._is_start_E.shape:
            raise InvalidConfigError(f"mask_E has shape {mask_E.shape}; the policy has {self._is_start_E.shape} rows.")
        self._is_start_E = self._is_start_E | mask_E

    def __call__(self, obs: Any) -> np.ndarray:
        """The action for an observation.

        Args:
            obs: (L,) or (E, L) finite numbers of any library, as the env gives them.

        Returns:
            (A,) or (E, A) float32 controls within their bounds.

        Raises:
            InvalidConfigError: it is no observation of this policy's task, or with a memory it has another number of
                rows than the call before.
        """
        obs_EL = self._checked(obs)
        is_single = obs_EL.ndim == 1
        obs_EL = np.atleast_2d(obs_EL)
        if self._is_start_E is None or not jax.tree.leaves(self._carry_EL):  # without a memory every step is the first
            self._carry_EL = self.state.initial_carry(len(obs_EL))
            self._is_start_E = np.ones(len(obs_EL), bool)
        if len(self._is_start_E) != len(obs_EL):
            raise InvalidConfigError(
                f"obs has {len(obs_EL)} rows and the call before had {len(self._is_start_E)}; call reset() in between."
            )
        self._carry_EL, action_EA = self._act(self.state, self._carry_EL, obs_EL, self._is_start_E)
        self._is_start_E = np.zeros(len(obs_EL), bool)
        return np.array(action_EA[0] if is_single else action_EA)

    def _checked(self, obs: Any) -> np.ndarray:
        size = self.num_observations
        try:
            obs_EL = np.asarray(obs, np.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidConfigError(f"obs is a {type(obs).__name__} that NumPy cannot take: {error}") from error
        if obs_EL.ndim not in (1, 2) or obs_EL.shape[-1] != size:
            raise InvalidConfigError(
                f"obs has shape {obs_EL.shape}; this policy takes ({size},) or (num_envs, {size})."
            )
        if not np.isfinite(obs_EL).all():
            raise InvalidConfigError("obs has numbers that are not finite; an observation of the task never has.")
        return obs_EL
