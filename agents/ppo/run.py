"""The loop around PPO: iterate, evaluate, save, report, until the steps are done or somebody asks to stop."""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import jax
import numpy as np

from agents import plots, video
from agents.checkpoint import Checkpoints
from agents.errors import RunFolderError, TrainingDivergedError, TrainingStopped
from agents.evaluate import Evaluation, Evaluator
from agents.logger import Logger
from agents.ppo.config import PPOConfig
from agents.ppo.health import MAX_IDLE_ITERATIONS, Health
from agents.ppo.learn import TrainState
from agents.ppo.policy import Policy
from agents.ppo.presets import preset
from agents.ppo.saved import RunInfo, read_info
from agents.ppo.trainer import Trainer
from agents.progress import Progress
from agents.run_folder import CHECKPOINTS, lock, name_of, new_run_dir
from agents.signals import graceful_signals
from ksim_envs import Core, Task, get_task, make_functional
from ksim_envs.errors import InvalidConfigError, KsimError
from ksim_envs.tasks.randomizers import ContactSoftness

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
    """Wall-clock time of all its parts, if it was resumed."""
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
        resume: go on from the newest usable checkpoint in `run_dir`, bit for bit; begin if there is none. The
            bits are the same only on the same machine, with the same library versions; on a GPU that is not promised.
        wandb: a Weights & Biases project to log to.

    Returns:
        The policy and its evaluation.

    Raises:
        TrainingStopped: a signal asked to stop; a checkpoint has been saved, unless a warning says why not.
        TrainingDivergedError: no gradient step is finite any more; a checkpoint has been saved.
        RunFolderError: the folder is in use, holds a run and `resume` is false, or the log of one without checkpoints.
        KsimError: a name does not exist or a setting is not allowed.
    """
    get_task(task_id)  # before a folder is made for it
    if resume and run_dir is None:
        raise RunFolderError("resume needs the folder of the run: pass run_dir.")
    folder = new_run_dir(task_id) if run_dir is None else Path(run_dir)
    with lock(folder), graceful_signals() as request:
        run = _Run(task_id, folder, config, resume)
        log_from = run.env_steps or None
        with (
            Logger(folder, resume_env_steps=log_from, wandb=wandb, config=run.config.to_dict()) as logger,
            Progress(f"{task_id} in {folder}", run.trainer.total_env_steps, run.env_steps) as progress,
        ):

            def report(kind: str, values: dict[str, float]) -> None:
                values["time/elapsed_s"] = run.elapsed_s
                logger.log(kind, run.env_steps, values)
                progress.update(run.env_steps, values, kind)

            run.begin()
            while not run.is_done and request.received is None:
                report("train", run.iterate())
                if run.is_done or run.is_due(run.config.eval_interval_env_steps):
                    report("eval", run.evaluate())
                    run.save(logger)
                elif run.is_due(run.config.checkpoint_interval_env_steps):
                    run.save(logger)
                run.end_if_stuck(logger)

            if not run.is_done and request.received is not None:
                run.save(logger)
                command = shlex.join(["ksim", "train", task_id, "--run-dir", str(folder), "--resume"])
                command += f" --wandb {shlex.quote(wandb)}" if wandb else ""
                raise TrainingStopped(request.received, command, run.env_steps, run.saved_env_steps)
        return run.result()


class _Run:
    """A run in its folder: the state, and what can be done with it."""

    def __init__(self, task_id: str, folder: Path, config: PPOConfig | None, resume: bool) -> None:
        """Build what the run needs, and load the newest usable checkpoint if it goes on."""
        self._started = time.monotonic()
        self._task_id, self._folder = task_id, folder
        self._checkpoints = Checkpoints(folder / CHECKPOINTS)
        if self._checkpoints.steps() and not resume:
            raise RunFolderError(f"{folder} holds a run; resume it (--resume), or choose another folder.")
        stored = read_info(self._checkpoints) if self._checkpoints.steps() else None
        self.config = _settings(task_id, config, stored)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, keep_last=self.config.num_checkpoints)
        self.trainer = Trainer(
            _make(training_task(task_id, self.config), self.config, self.config.num_envs), self.config
        )
        self._evaluator = Evaluator(
            _make(get_task(task_id).hardest, self.config, self.config.num_eval_envs), self.config.seed
        )
        self._health = Health(self.config)
        self._evaluations: list[Evaluation] = []
        self._state: TrainState | None = None
        if stored:
            state, values = self._checkpoints.load(self.trainer.template())
            self._state = jax.device_put(state, self.trainer.core.backend.device)
            self._started -= RunInfo.from_json(values, self._checkpoints.folder).elapsed_s
            self._checkpoints.discard_after(self.env_steps)

    def begin(self) -> None:
        """Take the first rollout, unless the run goes on."""
        if self._state is None:
            self._state = self.trainer.start()
            self.save()

    @property
    def state(self) -> TrainState:
        """The complete state, once the run has begun."""
        assert self._state is not None
        return self._state

    @property
    def env_steps(self) -> int:
        """Env steps so far."""
        return 0 if self._state is None else self.trainer.env_steps(self._state)

    @property
    def saved_env_steps(self) -> int:
        """Env steps at the newest checkpoint."""
        return max(self._checkpoints.steps(), default=0)

    @property
    def elapsed_s(self) -> float:
        """Wall-clock time so far, that before an interruption included."""
        return time.monotonic() - self._started

    @property
    def is_done(self) -> bool:
        """Whether all env steps are done."""
        return self.env_steps >= self.trainer.total_env_steps

    def is_due(self, interval: int) -> bool:
        """Whether the last iteration passed a multiple of the interval; it does not matter where a run was resumed."""
        before = self.env_steps - self.config.dataset_size
        return self.env_steps // interval > before // interval

    def iterate(self) -> dict[str, float]:
        """Collect and learn once."""
        self._evaluations = []
        self._state, metrics = self.trainer.iterate(self.state)
        self._health.observe(metrics, self._state)
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Evaluate the policy of each seed: the means over the seeds, and where there are several each one's return."""
        self._evaluations = [self._evaluator(policy) for policy in self.trainer.policies(self.state)]
        rows = [evaluation.metrics() for evaluation in self._evaluations]
        by_seed = {f"return_mean_of_seed_{self.config.seed + i}": row["return_mean"] for i, row in enumerate(rows)}
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | (by_seed if rows[1:] else {})

    def save(self, logger: Logger | None = None) -> None:
        """Save a checkpoint, unless there is one of this very state; first what the log knows of it."""
        if self.env_steps not in self._checkpoints.steps():
            if logger is not None:
                logger.sync()
            best = self._best_seed() if self._evaluations else 0
            info = RunInfo.of(self._task_id, self.config, self.trainer.core, self.state, self.elapsed_s, best)
            score = self._evaluations[best].metrics()["return_mean"] if self._evaluations else None
            self._checkpoints.save(self.env_steps, self.state, asdict(info), score)

    def end_if_stuck(self, logger: Logger) -> None:
        """Save the last parameters and give up, once nothing is learned any more.

        Raises:
            TrainingDivergedError: that is so, and env steps are left.
        """
        if self._health.is_stuck and not self.is_done:
            self.save(logger)
            raise TrainingDivergedError(
                f"the last {MAX_IDLE_ITERATIONS} iterations had no gradient step that is finite; the checkpoint of "
                f"{self.saved_env_steps:,} env steps has the parameters before. Begin a new run with a smaller "
                "learning_rate, or with a reward_scale that suits the task's rewards."
            )

    def result(self) -> Result:
        """The last policy, of the best seed, and the plots and the video of the run."""
        if not self._evaluations:  # a finished run, resumed
            self.evaluate()
        elapsed_s, folder = self.elapsed_s, self._folder
        best = self._best_seed()
        policy = Policy(self.trainer.policies(self.state)[best])
        makers: dict[str, Callable[[], Path]] = {
            "learning curve": lambda: plots.learning_curve([folder], folder / "learning_curve.png", self._task_id),
            "evaluations": lambda: plots.write_csv(folder, folder / "evaluations.csv"),
            "video": lambda: video.record(policy, self._task_id, folder / "policy.mp4", config=self.config),
        }
        files = {name: _path_or_reason(make) for name, make in makers.items()}
        files["checkpoints"] = str(folder / CHECKPOINTS)
        return Result(
            run_dir=folder,
            policy=policy,
            evaluation=self._evaluations[best],
            env_steps=self.env_steps,
            elapsed_s=elapsed_s,
            files=files,
        )

    def _best_seed(self) -> int:
        returns = [evaluation.metrics()["return_mean"] for evaluation in self._evaluations]
        return int(np.argmax(np.nan_to_num(returns, nan=-np.inf)))


def _path_or_reason(make: Callable[[], Path]) -> str:
    """What was made, or why not: a run is not lost for want of disk space, of GL or of an encoder."""
    try:
        return str(make())
    except (OSError, ImportError, RuntimeError, KsimError) as error:
        return f"none: {error}"


def training_task(task_id: str, config: PPOConfig) -> Task:
    """The task with what the settings add to it for training."""
    task = get_task(task_id)
    return _with_contact_spread(task, config.contact_spread) if config.contact_spread else task


@functools.lru_cache(maxsize=16)  # so that the same task finds its compiled programs again
def _with_contact_spread(task: Task, spread: float) -> Task:
    return replace(task, randomizers={**task.randomizers, "contact_spread": ContactSoftness(spread)})


def _make(task: str | Task, config: PPOConfig, num_envs: int) -> Core:
    return make_functional(
        task, num_envs, backend=config.backend, dynamics=config.dynamics, num_threads=config.num_threads
    )


def _settings(task_id: str, config: PPOConfig | None, stored: RunInfo | None) -> PPOConfig:
    """The settings to go on with, which fit those that the run began with."""
    if stored is None:
        config = config or preset(task_id)
        return replace(config, backend=_make(task_id, config, 1).backend.name)  # what "auto" is on this machine
    began_with = stored.config
    if name_of(stored.task_id) != name_of(task_id):
        raise InvalidConfigError(f"the run is of {stored.task_id}, not of {task_id}; choose another folder.")
    for field in fields(PPOConfig):
        was, now = getattr(began_with, field.name), getattr(config or began_with, field.name)
        if was != now and field.name not in MAY_CHANGE and (field.name, now) != ("backend", "auto"):
            raise InvalidConfigError(
                f"{field.name} is {now!r} and was {was!r} when the run began; only {', '.join(sorted(MAY_CHANGE))} may "
                "change. Leave it out, or begin a new run."
            )
    return replace(config or began_with, backend=began_with.backend)
