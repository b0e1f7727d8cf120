"""The subcommands of `ksim` that train policies and show what they have learned."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

import ksim_envs
from agents.console import final_table, print_plain
from agents.ppo.config import PPOConfig
from agents.ppo.presets import preset
from agents.run_folder import CHECKPOINTS, runs_of
from ksim_envs.errors import InvalidConfigError, InvalidSeedError

RunDir = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]


def train_command(words: Sequence[str]) -> Callable[..., int]:
    """The `train` subcommand, whose flags have the values of the task or of the run that the words name as defaults."""
    named = _named(words)
    config = _default_settings(named.task_id, named.run_dir if named.resume else None)

    def train(
        task_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")],
        /,
        run_dir: Path | None = None,
        resume: bool = False,
        wandb: str | None = None,
        *,
        config: tyro.conf.OmitArgPrefixes[PPOConfig] = config,
    ) -> int:
        """Train a policy with PPO: progress here; metrics, checkpoints, plots and a video in the run's folder.

        Args:
            task_id: the environment, such as ksim/Humanoid-v0; module:ID imports the module that registers it first.
            run_dir: the run's folder; a new one under runs/ when not given, or with --resume the newest of this task.
            resume: go on where the run in the folder was stopped; begin if there is none.
            wandb: a Weights & Biases project to log to.
            config: the settings, by default the task's preset or those of the run to resume.
        """
        from agents import ppo

        folder = run_dir or named.run_dir  # with --resume the newest
        result = ppo.train(task_id, config, run_dir=folder, resume=resume and folder is not None, wandb=wandb)
        metrics = result.evaluation.metrics()
        final_table(
            {
                "task": task_id,
                "env steps": f"{result.env_steps:,} in {result.elapsed_s / 60:.1f} min",
                "return": f"{metrics['return_mean']:,.1f} +- {metrics['return_std']:,.1f} "
                f"(min {metrics['return_min']:,.1f}, max {metrics['return_max']:,.1f})",
                "episode length": f"{metrics['length_mean']:,.0f}",
                **result.files,
            }
        )
        return 0

    return train


def evaluate(
    run_dir: RunDir,
    /,
    episodes: int = 64,
    gymnasium: bool = False,
    backend: Literal["native", "mjx"] | None = None,
    dynamics: Literal["fast", "gymnasium"] | None = None,
    seed: int = 0,
) -> int:
    """Evaluate a run's best policy: deterministic actions, one whole episode in each of a batch of envs.

    Args:
        run_dir: the run's folder.
        episodes: how many.
        gymnasium: evaluate in Gymnasium's own v5 envs instead of ours.
        backend: the physics engine of our envs, if not the one that the run was trained on.
        dynamics: their integrator and solver, if not those that the run was trained with.
        seed: of the envs.
    """
    from agents import ppo
    from agents.evaluate import REPORT_STREAM, Evaluator, evaluate_in_gymnasium

    if gymnasium and (backend or dynamics):
        raise InvalidConfigError("--backend and --dynamics are of our envs; leave them or --gymnasium out.")
    task_id, config = ppo.read_settings(run_dir)
    policy = ppo.load(run_dir)
    if not 0 <= seed < 2**31:
        raise InvalidSeedError(f"seed is {seed}; it must lie in [0, 2**31).")
    if episodes < 1:
        raise InvalidConfigError(f"episodes is {episodes}; at least 1 is needed.")
    if gymnasium:
        evaluation = evaluate_in_gymnasium(policy, task_id, episodes, seed)
    else:
        core = ksim_envs.make_functional(
            ksim_envs.get_task(task_id).hardest,
            episodes,
            backend=backend or config.backend,
            dynamics=dynamics or config.dynamics,
            num_threads=config.num_threads if backend in (None, config.backend) else None,
        )
        evaluation = Evaluator(core, seed, REPORT_STREAM)(policy.state)
    final_table(
        {name: f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}" for name, value in evaluation.metrics().items()}
    )
    return 0


def video(run_dir: RunDir, /, path: Path | None = None, steps: int = 500, seed: int = 0) -> int:
    """Record a run's best policy.

    Args:
        run_dir: the run's folder.
        path: the MP4 file to write; policy.mp4 in the run's folder when not given.
        steps: the most control steps to show.
        seed: of the env.
    """
    from agents import ppo
    from agents.video import record

    task_id, config = ppo.read_settings(run_dir)
    path = path or run_dir / "policy.mp4"
    made = record(ppo.load(run_dir), task_id, path, config=config, num_steps=steps, seed=seed)
    print_plain(str(made))
    return 0


def play(run_dir: RunDir, /, seed: int = 0) -> int:
    """Watch a run's best policy in an interactive window.

    Args:
        run_dir: the run's folder.
        seed: of the first episode.
    """
    from agents import ppo
    from agents.play import play as show

    task_id, config = ppo.read_settings(run_dir)
    show(ppo.load(run_dir), task_id, config=config, seed=seed)
    return 0


def _named(words: Sequence[str]) -> argparse.Namespace:
    """The task and the run that a command line names, read before its flags can have defaults."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--run-dir", "--run_dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    try:
        known, rest = parser.parse_known_args(list(words))
    except argparse.ArgumentError:  # the real parser will say what is wrong
        known, rest = argparse.Namespace(run_dir=None, resume=False), list(words)
    known.task_id = next((word for word in rest if word in ksim_envs.task_ids() or ":ksim/" in word), None)
    if known.resume and known.run_dir is None and known.task_id is not None:
        known.run_dir = _newest_run(known.task_id)
    return known


def _default_settings(task_id: str | None, run_dir: Path | None) -> PPOConfig:
    if run_dir is not None and any((run_dir / CHECKPOINTS).glob("step_*")):
        from agents import ppo

        return ppo.read_settings(run_dir)[1]
    return PPOConfig() if task_id is None else preset(task_id)


def _newest_run(task_id: str) -> Path | None:
    """The newest folder under `runs/` with a run of this task; None if there is none."""
    checkpoints = runs_of(task_id).glob(f"*/{CHECKPOINTS}/step_*")
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    return newest and newest.parents[1]
