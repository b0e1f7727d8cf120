"""The loop around PPO: iterate, evaluate, save, report, until the steps are done or somebody asks to stop."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents import plots, video
from agents.checkpoint import Checkpoints
from agents.errors import RunFolderError, TrainingStopped
from agents.evaluate import Evaluation, Evaluator
from agents.logger import Logger
from agents.normalize import Moments
from agents.ppo.config import PPOConfig
from agents.ppo.learn import TrainState
from agents.ppo.networks import ActorCritic
from agents.ppo.policy import Policy, PolicyState
from agents.ppo.presets import preset
from agents.ppo.trainer import Trainer
from agents.progress import Progress
from agents.run_folder import graceful_signals, lock
from ksim_envs import Core, make_functional
from ksim_envs.errors import InvalidConfigError

CHECKPOINTS = "checkpoints"
MAY_CHANGE = {
    "total_env_steps",
    "num_threads",
    "eval_interval_env_steps",
    "checkpoint_interval_env_steps",
    "num_checkpoints",
}
"""Settings with which a run may be resumed that differ from those it began with."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a run."""

    run_dir: Path
    policy: Policy
    """The last policy; of several seeds the one with the best evaluation."""
    evaluation: Evaluation
    """Its evaluation: one deterministic episode in each of `num_eval_envs` envs."""
    env_steps: int
    elapsed_s: float
    files: dict[str, str]
    """What was made at the end, or why not."""


def train(
    task_id: str,
    config: PPOConfig | None = None,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    wandb: str | None = None,
) -> Result:
    """Train a policy, and leave checkpoints, metrics, plots and a video in a folder.

    Args:
        task_id: a registered id.
        config: the settings; None for the task's preset, or when resuming for those that the run began with.
        run_dir: the folder; None for a new one, `runs/NAME/TIME`.
        resume: go on from the newest usable checkpoint in `run_dir`, bit for bit; begin if there is none.
        wandb: a Weights & Biases project to log to.

    Returns:
        The policy and its evaluation.

    Raises:
        TrainingStopped: a signal asked to stop; a checkpoint has been saved.
        RunFolderError: the folder is in use, or holds a run and `resume` is false.
        KsimError: a name does not exist or a setting is not allowed.
    """
    folder = new_run_dir(task_id) if run_dir is None else Path(run_dir)
    with lock(folder), graceful_signals() as request:
        checkpoints = Checkpoints(folder / CHECKPOINTS, keep_last=(config or preset(task_id)).num_checkpoints)
        if checkpoints.steps() and not resume:
            raise RunFolderError(f"{folder} holds a run; resume it (--resume), or choose another folder.")
        stored = checkpoints.read_info() if checkpoints.steps() else None
        config = _settings(task_id, config, stored)
        trainer = Trainer(_make(task_id, config, config.num_envs), config)
        evaluator = Evaluator(_make(task_id, config, config.num_eval_envs), config.seed)
        started = time.monotonic()

        # 1 Begin, or go on where the newest checkpoint was.
        if stored is None:
            state, elapsed_s = trainer.start(), 0.0
        else:
            state, stored = checkpoints.load(trainer.template())
            elapsed_s = stored["elapsed_s"]
        env_steps = trainer.env_steps(state)
        checkpoints.discard_after(env_steps)

        def save(score: float | None) -> None:
            seconds = elapsed_s + time.monotonic() - started
            checkpoints.save(env_steps, state, _info(task_id, config, trainer.core, seconds), score)

        if stored is None:
            save(score=None)
        evaluations: list[Evaluation] = []
        with (
            Logger(folder, resume_env_steps=env_steps if resume else None, wandb=wandb, config=asdict(config)) as logger,
            Progress(task_id, trainer.total_env_steps, env_steps) as progress,
        ):
            # 2 Collect and learn; evaluate and save now and then.
            while env_steps < trainer.total_env_steps and request.received is None:
                before = env_steps
                state, metrics = trainer.iterate(state)
                env_steps = trainer.env_steps(state)
                metrics["time/elapsed_s"] = elapsed_s + time.monotonic() - started
                logger.log("train", env_steps, metrics)
                progress.update(env_steps, metrics)
                is_done = env_steps >= trainer.total_env_steps
                evaluations = []
                if is_done or _is_due(config.eval_interval_env_steps, before, env_steps):
                    evaluations = [evaluator(policy) for policy in trainer.policies(state)]
                    values = _mean_metrics(evaluations)
                    values["time/elapsed_s"] = elapsed_s + time.monotonic() - started
                    logger.log("eval", env_steps, values)
                    progress.update(env_steps, values, "eval")
                if evaluations or _is_due(config.checkpoint_interval_env_steps, before, env_steps):
                    save(max((float(e.return_E.mean()) for e in evaluations), default=None))

        # 3 Stop early if asked to.
        if env_steps < trainer.total_env_steps and request.received is not None:
            save(score=None)
            raise TrainingStopped(request.received, folder, env_steps)

        # 4 Show what came of it.
        policies = trainer.policies(state)
        evaluations = evaluations or [evaluator(policy) for policy in policies]
        best = int(np.argmax([evaluation.return_E.mean() for evaluation in evaluations]))
        policy = Policy(policies[best])
        return Result(
            run_dir=folder,
            policy=policy,
            evaluation=evaluations[best],
            env_steps=env_steps,
            elapsed_s=elapsed_s + time.monotonic() - started,
            files={
                "learning curve": str(plots.learning_curve([folder], folder / "learning_curve.png", task_id)),
                "evaluations": str(plots.write_csv(folder, folder / "evaluations.csv")),
                "video": video.record_or_explain(policy, task_id, folder / "policy.mp4", dynamics=config.dynamics),
                "checkpoint": str(folder / CHECKPOINTS),
            },
        )


def load(run_dir: Path | str, step: int | None = None, *, seed_index: int = 0) -> Policy:
    """The policy of a run, also of one that is in progress.

    Args:
        run_dir: the folder of the run.
        step: env steps of the checkpoint; None for that of the best evaluation, or the newest if there was none.
        seed_index: which seed's, of a run with several.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    checkpoints = Checkpoints(Path(run_dir) / CHECKPOINTS)
    step = checkpoints.best_step() if step is None else step
    info = checkpoints.read_info(step)
    config = PPOConfig.from_dict(info["config"])

    def blank(key: jax.Array) -> dict[str, Any]:
        model = ActorCritic(info["num_observations"], len(info["action_low"]), config, key)
        return {"model": model, "moments": Moments.empty(info["num_observations"])}

    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    shapes = jax.eval_shape(jax.vmap(blank), keys) if config.num_seeds > 1 else jax.eval_shape(blank, keys[0])
    rest = dict.fromkeys((field.name for field in fields(TrainState) if field.name not in shapes), None)
    state, _ = checkpoints.load(TrainState(**shapes, **rest), step, partial=True)
    part: dict[str, Any] = {"model": state.model, "moments": state.moments}
    if config.num_seeds > 1:
        part = jax.tree.map(lambda leaf: leaf[seed_index], part)
    bounds = {name: jnp.asarray(info[f"action_{name}"], jnp.float32) for name in ("low", "high")}
    return Policy(PolicyState(**part, low_A=bounds["low"], high_A=bounds["high"]))


def read_settings(run_dir: Path | str) -> tuple[str, PPOConfig]:
    """The task and the settings of a run.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    info = Checkpoints(Path(run_dir) / CHECKPOINTS).read_info()
    return info["task_id"], PPOConfig.from_dict(info["config"])


def new_run_dir(task_id: str) -> Path:
    """A folder for a new run, under `runs/` where the process is: the task's name and the time."""
    name = task_id.removeprefix("ksim/").replace("/", "_")
    return Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _make(task_id: str, config: PPOConfig, num_envs: int) -> Core:
    return make_functional(
        task_id, num_envs, backend=config.backend, dynamics=config.dynamics, num_threads=config.num_threads
    )


def _settings(task_id: str, config: PPOConfig | None, stored: dict[str, Any] | None) -> PPOConfig:
    """The settings to go on with, which fit those that the run began with."""
    if stored is None:
        return config or preset(task_id)
    began_with = PPOConfig.from_dict(stored["config"])
    if stored["task_id"] != task_id:
        raise InvalidConfigError(f"the run is of {stored['task_id']}, not of {task_id}; choose another folder.")
    for field in fields(PPOConfig):
        was, now = getattr(began_with, field.name), getattr(config or began_with, field.name)
        if was != now and field.name not in MAY_CHANGE:
            raise InvalidConfigError(
                f"{field.name} is {now!r} and was {was!r} when the run began; only {', '.join(sorted(MAY_CHANGE))} may "
                "change. Leave it out, or begin a new run."
            )
    return config or began_with


def _info(task_id: str, config: PPOConfig, core: Core, elapsed_s: float) -> dict[str, Any]:
    """What a checkpoint says about itself: enough to go on, and to use the policy without the env."""
    low_A, high_A = core.action_bounds
    return {
        "task_id": task_id,
        "config": config.to_dict(),
        "backend": core.backend.name,
        "num_observations": core.num_observations,
        "action_low": low_A.tolist(),
        "action_high": high_A.tolist(),
        "elapsed_s": elapsed_s,
    }


def _is_due(interval: int, before: int, now: int) -> bool:
    """Whether a multiple of the interval has been passed; it does not depend on where a run was resumed."""
    return now // interval > before // interval


def _mean_metrics(evaluations: list[Evaluation]) -> dict[str, float]:
    """The means over the seeds, and each seed's return where there are several."""
    rows = [evaluation.metrics() for evaluation in evaluations]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    if len(rows) == 1:
        return means
    return means | {f"return_mean_of_seed_{seed}": row["return_mean"] for seed, row in enumerate(rows)}
