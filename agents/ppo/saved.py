"""What a run's folder says about it: its settings, and its policies."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import jax
import numpy as np

from agents.checkpoint import Checkpoints
from agents.errors import CheckpointError, CheckpointWarning, DamagedCheckpointError
from agents.ppo.config import PPOConfig
from agents.ppo.learn import TrainState
from agents.ppo.networks import ActorCritic
from agents.ppo.policy import Policy, PolicyState
from agents.run_folder import CHECKPOINTS
from ksim_envs import Core
from ksim_envs.errors import InvalidConfigError
from ksim_envs.moments import Moments


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a checkpoint says about itself: enough to go on, and to use the policy without the env."""

    task_id: str
    config: PPOConfig
    best_seed: int
    """Index of the seed with the best evaluation; 0 where there was none."""
    num_observations: int
    num_privileged: int
    action_low: list[float]
    action_high: list[float]
    elapsed_s: float
    """Wall-clock time of the run so far."""

    @classmethod
    def of(
        cls, task_id: str, config: PPOConfig, core: Core, state: TrainState, elapsed_s: float, best_seed: int
    ) -> RunInfo:
        """That of a run in this state."""
        low_A, high_A = core.action_bounds
        return cls(
            task_id=task_id,
            config=config,
            best_seed=best_seed,
            num_observations=core.num_observations,
            num_privileged=state.moments.mean_L.shape[-1] - core.num_observations,
            action_low=low_A.tolist(),
            action_high=high_A.tolist(),
            elapsed_s=elapsed_s,
        )

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> RunInfo:
        """The inverse of `dataclasses.asdict`.

        Raises:
            CheckpointError: something else saved it; the message names the folder.
        """
        for name, kind in get_type_hints(cls).items():
            if not isinstance(values.get(name), dict if kind is PPOConfig else get_origin(kind) or kind):
                raise CheckpointError(
                    f"{folder} has no checkpoints of PPO: {name} is {values.get(name)!r}. Give the folder of a run of "
                    "`ksim train`."
                )
        values = {**values, "config": PPOConfig.from_dict(values["config"])}
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def read_settings(run_dir: Path | str) -> tuple[str, PPOConfig]:
    """The task and the settings of a run.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    info = read_info(Checkpoints(Path(run_dir) / CHECKPOINTS))
    return info.task_id, info.config


def load(run_dir: Path | str, step: int | None = None, *, seed_index: int | None = None) -> Policy:
    """The policy of a run, also of one that is in progress.

    Args:
        run_dir: the folder of the run.
        step: env steps of the checkpoint; None for that of the best evaluation, or the newest if there was none or that
            one is damaged.
        seed_index: which seed's, of a run with several; None for the one with the best evaluation in that checkpoint,
            the first if it has none.

    Raises:
        CheckpointError: there is no usable checkpoint.
        InvalidConfigError: there is no such seed.
    """
    checkpoints = Checkpoints(Path(run_dir) / CHECKPOINTS)
    best = checkpoints.best_step() if step is None else step
    try:
        return _load(checkpoints, best, seed_index)
    except CheckpointError as error:
        if step is None and checkpoints.best_step() != best:  # there is a better one now, and that one was deleted
            return load(run_dir, seed_index=seed_index)
        if step is not None or best is None or not isinstance(error, DamagedCheckpointError):
            raise
        warnings.warn(f"{error} Taking the newest checkpoint instead.", CheckpointWarning, stacklevel=2)
        return _load(checkpoints, None, seed_index)


def read_info(checkpoints: Checkpoints, step: int | None = None) -> RunInfo:
    """What a checkpoint says about itself, by default the newest that can be read.

    Raises:
        CheckpointError: there is none, or something else saved it.
    """
    return RunInfo.from_json(checkpoints.read_info(step), checkpoints.folder)


def _load(checkpoints: Checkpoints, step: int | None, seed_index: int | None) -> Policy:
    info = read_info(checkpoints, step)
    num_seeds = info.config.num_seeds
    if seed_index is not None and not 0 <= seed_index < num_seeds:
        raise InvalidConfigError(f"seed_index is {seed_index}; the run has {num_seeds} seeds, counted from 0.")
    state, values = checkpoints.load(_policy_template(info), step, partial=True)
    info = RunInfo.from_json(values, checkpoints.folder)  # of an older one, if the newest is damaged
    part = (state.model, state.moments)
    if num_seeds > 1:
        index = info.best_seed if seed_index is None else seed_index
        part = jax.tree.map(lambda leaf: leaf[index], part)
    bounds = (np.asarray(bound, np.float32) for bound in (info.action_low, info.action_high))
    return Policy(PolicyState.of(*part, *bounds))


def _policy_template(info: RunInfo) -> TrainState:
    """A state of which only the model and the statistics are there."""
    config = info.config

    def part(key: jax.Array) -> dict[str, Any]:
        model = ActorCritic(info.num_observations, info.num_privileged, len(info.action_low), config, key)
        return {"model": model, "moments": Moments.empty(info.num_observations + info.num_privileged)}

    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    shapes: Any = jax.eval_shape(jax.vmap(part), keys) if config.num_seeds > 1 else jax.eval_shape(part, keys[0])
    return TrainState(**{field.name: shapes.get(field.name) for field in fields(TrainState)})
