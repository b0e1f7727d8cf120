"""The compiled programs of a run, and the time that each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import numpy as np

from agents.ppo.config import PPOConfig
from agents.ppo.learn import Metrics, TrainState, advance, init, learn, measure
from agents.ppo.policy import PolicyState
from agents.ppo.rollout import Trajectory
from ksim_envs import Core
from ksim_envs.runtime import options_without_physics, paused_gc

TIMED_ITERATIONS = 10
"""Every so many iterations the host waits between collecting and learning, to see how long each takes."""


class Trainer:
    """Iterations of PPO on one batch of envs: two programs, each compiled once.

    `collect(state)` gives the next state and a trajectory, `learn` takes these two to a state and metrics; what goes
    in is used up. `iterate` does both.

    With `num_seeds` the programs are mapped over the seeds, and every leaf of the state has them as its first axis.
    """

    def __init__(self, core: Core, config: PPOConfig) -> None:
        """Compile nothing yet; the first iteration does."""
        self.core, self.config = core, config
        options = options_without_physics()
        steps_options = options if core.backend.name == "native" else None
        self._init = jax.jit(self._mapped(partial(init, core, config)))
        self.collect = jax.jit(
            self._mapped(partial(advance, core, config)), donate_argnums=0, compiler_options=steps_options
        )
        self._measure = jax.jit(self._mapped(partial(measure, config)), donate_argnums=0)
        self.learn = jax.jit(self._mapped(self._learn_and_measure), donate_argnums=0, compiler_options=options)
        self._num_iterations = 0
        self._share_collect = float("nan")

    def template(self) -> TrainState:
        """Shapes and dtypes of a state."""
        return jax.eval_shape(self._init, self._keys())

    def start(self) -> TrainState:
        """The state after the first rollout, which only measures the observations: nothing is learned from it."""
        with paused_gc():  # it compiles
            return self._measure(*self.collect(self._init(self._keys())))

    def iterate(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Collect and learn once; the state that goes in is used up.

        Returns:
            The next state, and metrics by name: means over seeds, sums of what starts with `num_`, and wall-clock
            figures under `time/`.
        """
        self._num_iterations += 1
        is_timed = self._num_iterations % TIMED_ITERATIONS == 2  # not the first, which compiles
        started = time.perf_counter()
        with paused_gc():  # the first time, both calls compile
            collected = self.collect(state)
            if is_timed:
                jax.block_until_ready(collected)
            halfway = time.perf_counter()
            state, metrics = self.learn(*collected)
        values = {name: _over_seeds(name, value) for name, value in jax.device_get(metrics).items()}
        seconds = time.perf_counter() - started
        if is_timed:
            self._share_collect = (halfway - started) / seconds
        return state, {
            **values,
            "time/env_steps_per_s": self.config.num_seeds * self.config.dataset_size / seconds,
            "time/share_collect": self._share_collect,
            "time/share_learn": 1.0 - self._share_collect,
        }

    @property
    def total_env_steps(self) -> int:
        """Env steps of the whole run, of each seed: those of the settings, rounded up to whole iterations."""
        return self.config.num_iterations * self.config.dataset_size

    def env_steps(self, state: TrainState) -> int:
        """Env steps taken so far, by each seed."""
        return int(np.max(state.iteration)) * self.config.dataset_size

    def policies(self, state: TrainState) -> list[PolicyState]:
        """The policy of each seed."""
        parts = [(state.model, state.moments)]
        if self.config.num_seeds > 1:
            parts = [jax.tree.map(itemgetter(seed), parts[0]) for seed in range(self.config.num_seeds)]
        return [PolicyState.of(model, moments, *self.core.action_bounds) for model, moments in parts]

    def _learn_and_measure(self, state: TrainState, trajectory: Trajectory) -> tuple[TrainState, Metrics]:
        learned, metrics = learn(self.config, state, trajectory)
        return measure(self.config, learned, trajectory), metrics

    def _keys(self) -> jax.Array:
        keys_S = self.core.keys_of(range(self.config.seed, self.config.seed + self.config.num_seeds))
        keys_S = jax.device_put(keys_S, self.core.backend.device)  # and all that comes of them, whatever JAX's default
        return keys_S if self.config.num_seeds > 1 else keys_S[0]

    def _mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(function) if self.config.num_seeds > 1 else function


def _over_seeds(name: str, value_S: np.ndarray) -> float:
    """The sum of a count, else the mean over the seeds that have a value; not a number if none has."""
    if name.startswith("num_"):
        return float(np.sum(value_S))
    has_value_S = np.isfinite(value_S)  # without an episode that ended there is no return
    return float(np.mean(value_S, where=has_value_S)) if np.any(has_value_S) else float("nan")
