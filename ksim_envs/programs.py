"""A core's reset and step as compiled programs: what stands between the pure functions and those who call them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ksim_envs import dlpack
from ksim_envs.types import RESET_ALL, Autoreset, EnvState, Info, StepResult

if TYPE_CHECKING:
    from ksim_envs.core import Core


class Programs:
    """Compiled once for all who share a core. They can be neither mapped nor differentiated.

    A state that goes in is used up.
    """

    def __init__(self, core: Core) -> None:
        """Compile nothing yet."""
        self._core = core = replace(core, backend=core.backend.traced_once())

        def reset(state: EnvState, mask_E: Array, start: dict[str, Array]) -> tuple[EnvState, tuple[Array, Info]]:
            state = core.reset_rows(state, mask_E, start)
            return state, (state.obs_EL, core.info(state))

        # numbers stay on the device: to bring them there takes longer than a step of some tasks
        self._number = functools.lru_cache(lambda value: jax.device_put(np.int32(value), core.backend.device))
        self._step, self._reset = jax.jit(core.step, donate_argnums=0), jax.jit(reset, donate_argnums=0)

    def step(
        self,
        state: EnvState,
        action_EA: ArrayLike,
        autoreset: int = Autoreset.SAME_STEP,
        episode_length: int | None = None,
    ) -> tuple[EnvState, StepResult]:
        """`Core.step`."""
        limit = self._core.task.episode_length if episode_length is None else episode_length
        return self._step(state, action_EA, self._number(autoreset), self._number(limit))

    def reset(
        self, state: EnvState, mask_E: np.ndarray, start: dict[str, Array] | None = None
    ) -> tuple[EnvState, tuple[Array, Info]]:
        """`Core.reset_rows`; returns the state and (obs_EL, info).

        All rows are reset to drawn states by the program that steps, so most users never compile another. Its terms see
        the old states then, and what they say is thrown away.
        """
        if start or not mask_E.all():
            return self._reset(state, mask_E, start or {})
        shape, device = (self._core.num_envs, self._core.num_actions), self._core.backend.device
        idle_EA = dlpack.private_actions(np.zeros(shape, np.float32), shape, "", device)  # as those of a step are
        state, result = self.step(state, idle_EA, RESET_ALL)
        return state, (result.obs_EL, result.info)
