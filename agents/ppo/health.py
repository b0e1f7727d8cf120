"""Whether a run is worth going on with: it warns of rows that diverge, and notices when nothing is learned any more."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from agents.errors import DivergenceWarning
from agents.ppo.config import PPOConfig
from agents.ppo.learn import TrainState
from ksim_envs.guard import Fault

MAX_DIVERGED = 0.01
"""The share of an iteration's env steps beyond which a run warns that they diverged."""
MAX_IDLE_ITERATIONS = 3
"""Iterations in a row without a finite gradient step, after which a run has nothing to hope for."""


class Health:
    """What the iterations of a run say about it."""

    def __init__(self, config: PPOConfig) -> None:
        """Nothing has been seen yet."""
        self._env_steps = config.num_seeds * config.dataset_size
        self._num_updates = config.num_seeds * config.num_epochs * config.num_minibatches
        self._num_skipped: float | None = None  # by the end of the last iteration, once there is one
        self._num_idle_iterations = 0
        self._has_warned = False

    @property
    def is_stuck(self) -> bool:
        """Whether the last iterations were without a finite gradient step."""
        return self._num_idle_iterations >= MAX_IDLE_ITERATIONS

    def observe(self, metrics: Mapping[str, float], state: TrainState) -> None:
        """Take note of an iteration, and warn the first time that many of its env steps diverged."""
        skipped = metrics["num_skipped_updates"]
        is_idle = self._num_skipped is not None and skipped - self._num_skipped == self._num_updates
        self._num_skipped = skipped
        self._num_idle_iterations = self._num_idle_iterations + 1 if is_idle else 0
        share = metrics["num_diverged"] / self._env_steps
        if share > MAX_DIVERGED and not self._has_warned:
            self._has_warned = True
            count_C = np.asarray(state.actors.env_state.fault_count_EC).reshape(-1, len(Fault)).sum(axis=0)
            most = Fault(int(count_C.argmax()))
            warnings.warn(
                f"{share:.1%} of an iteration's env steps diverged, most of all so far by {most.name} ({most.reason}). "
                "Nothing is learned from them. `ksim check ID` looks closer.",
                DivergenceWarning,
                stacklevel=3,
            )
