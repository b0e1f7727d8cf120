"""What a run's folder says about it: its settings, and its policies."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

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

_DESCRIPTION = {
    "task_id": str,
    "config": dict,
    "best_seed": int,
    "num_observations": int,
    "num_privileged": int,
    "action_low": list,
    "action_high": list,
    "elapsed_s": float,
}
"""The names and types of what a checkpoint says about itself."""


def describe(
    task_id: str, config: PPOConfig, core: Core, state: TrainState, elapsed_s: float, best_seed: int
) -> dict[str, Any]:
    """What a checkpoint says about itself: enough to go on, and to use the policy without the env."""
    low_A, high_A = core.action_bounds
    return {
        "task_id": task_id,
        "config": config.to_dict(),
        "best_seed": best_seed,
        "num_observations": core.num_observations,
        "num_privileged": state.moments.mean_L.shape[-1] - core.num_observations,
        "action_low": low_A.tolist(),
        "action_high": high_A.tolist(),
        "elapsed_s": elapsed_s,
    }


def read_settings(run_dir: Path | str) -> tuple[str, PPOConfig]:
    """The task and the settings of a run.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    info = read_description(Checkpoints(Path(run_dir) / CHECKPOINTS))
    return info["task_id"], PPOConfig.from_dict(info["config"])


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


def read_description(checkpoints: Checkpoints, step: int | None = None) -> dict[str, Any]:
    """What `describe` said of a checkpoint.

    Raises:
        CheckpointError: something else saved it.
    """
    info = checkpoints.read_info(step)
    for name, kind in _DESCRIPTION.items():
        if not isinstance(info.get(name), kind):
            raise CheckpointError(
                f"{checkpoints.folder} has no checkpoints of PPO: {name} is {info.get(name)!r}. Give the folder of a "
                "run of `ksim train`."
            )
    return info


def _load(checkpoints: Checkpoints, step: int | None, seed_index: int | None) -> Policy:
    info = read_description(checkpoints, step)
    num_seeds = PPOConfig.from_dict(info["config"]).num_seeds
    if seed_index is not None and not 0 <= seed_index < num_seeds:
        raise InvalidConfigError(f"seed_index is {seed_index}; the run has {num_seeds} seeds, counted from 0.")
    state, info = checkpoints.load(_policy_template(info), step, partial=True)  # an older one, if the newest is damaged
    index: int = info["best_seed"] if seed_index is None else seed_index
    part = (state.model, state.moments)
    if num_seeds > 1:
        part = jax.tree.map(lambda leaf: leaf[index], part)
    bounds = (np.asarray(info[name], np.float32) for name in ("action_low", "action_high"))
    return Policy(PolicyState.of(*part, *bounds))


def _policy_template(info: dict[str, Any]) -> TrainState:
    """A state of which only the model and the statistics are there."""
    config = PPOConfig.from_dict(info["config"])

    def part(key: jax.Array) -> dict[str, Any]:
        num_seen, num_privileged = info["num_observations"], info["num_privileged"]
        model = ActorCritic(num_seen, num_privileged, len(info["action_low"]), config, key)
        return {"model": model, "moments": Moments.empty(num_seen + num_privileged)}

    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    shapes: Any = jax.eval_shape(jax.vmap(part), keys) if config.num_seeds > 1 else jax.eval_shape(part, keys[0])
    return TrainState(**{field.name: shapes.get(field.name) for field in fields(TrainState)})
