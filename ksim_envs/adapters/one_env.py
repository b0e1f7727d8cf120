"""One env as pure functions, of which `jax.vmap` makes those of a batch.

To map what steps one env would call the engine once for each env, and reset all of them where one ended. So the mapped
functions are replaced by a batch's own, which do neither. (`jax.grad` cannot go through the replacement; see
`Core.step` for where it can.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from ksim_envs.core import Core
from ksim_envs.registration import make_functional
from ksim_envs.tasks.task import Task
from ksim_envs.types import Autoreset, EnvState, StepResult


class OneEnv:
    """A task whose states have no env axis, until they are mapped.

    Attributes:
        core: the core for one row: the task, its model and sizes.
    """

    def __init__(self, task: str | Task, *, backend: str, dynamics: str, autoreset: Autoreset) -> None:
        """Build it.

        Args:
            task: a registered id, or a task.
            backend: `"auto"`, `"native"` or `"mjx"`.
            dynamics: `"fast"` or `"gymnasium"`.
            autoreset: what `step` does where an episode ends.

        Raises:
            KsimError: a name does not exist or a value is not allowed.
        """
        self.core = make_functional(task, 1, backend=backend, dynamics=dynamics)
        self._dynamics = dynamics
        self._cores = {1: self.core}

        def begin(core: Core, key_E: Array) -> EnvState:
            return core.reset(key_E)

        def advance(core: Core, state: EnvState, action_EA: Array, limit_E: Array) -> tuple[EnvState, StepResult]:
            return core.step(state, action_EA, autoreset, limit_E)

        self._reset, self._step = self._mappable(begin), self._mappable(advance)

    def reset(self, key: Array) -> EnvState:
        """Begin an episode; the key, typed or not, is the root of the env's randomness from here on."""
        return self._reset(key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key))

    def step(
        self, state: EnvState, action: Array, episode_length: int | Array | None = None
    ) -> tuple[EnvState, StepResult]:
        """One control step.

        Args:
            state: of the env.
            action: (num_actions,) in the engine's control unit; clipped to its bounds.
            episode_length: control steps after which the episode is truncated; None for the task's.

        Returns:
            See `Core.step`, without the env axis.
        """
        limit = self.core.task.episode_length if episode_length is None else episode_length
        return self._step(state, jnp.asarray(action, jnp.float32), jnp.asarray(limit, jnp.int32))

    def reset_rows(self, state: EnvState, mask_E: Array) -> EnvState:
        """Begin a new episode in some envs of a mapped state; see `Core.reset_rows`."""
        return self._core_for(len(mask_E)).reset_rows(state, mask_E)

    def _core_for(self, num_rows: int) -> Core:
        if num_rows not in self._cores:
            with jax.ensure_compile_time_eval():  # what a core holds outlives the trace that happens to need it
                self._cores[num_rows] = make_functional(
                    self.core.task, num_rows, backend=self.core.backend.name, dynamics=self._dynamics
                )
        return self._cores[num_rows]

    def _mappable(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of a core and rows, as a function of one row that is called only once however it is mapped."""

        @custom_vmap
        def one(*row: Any) -> Any:
            results = function(self.core, *jax.tree.map(lambda leaf: leaf[None], row))
            return jax.tree.map(lambda leaf: leaf[0], results)

        @one.def_vmap
        def _(num_rows: int, is_mapped: Sequence[Any], *rows: Any) -> tuple[Any, Any]:
            rows = jax.tree.map(
                lambda leaf, mapped: leaf if mapped else jnp.broadcast_to(leaf, (num_rows, *leaf.shape)),
                rows,
                tuple(is_mapped),
            )
            results = function(self._core_for(num_rows), *rows)
            return results, jax.tree.map(lambda _: True, results)

        return one
