"""What training runs came to, for `docs/benchmarks/training.md`: a table, learning curves, and evaluations as CSV.

    python -m scripts.training_report runs/Hopper-v0/* --mjx

A run's best policy is evaluated anew, deterministically, in our envs as it was trained, in Gymnasium's own, and with
`--mjx` on the other engine: one episode in each of 64 envs whose first states it has not seen.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import fields
from pathlib import Path
from typing import Any

import ksim_envs
from agents import logger, plots, ppo
from agents.evaluate import REPORT_STREAM, Evaluator, evaluate_in_gymnasium
from agents.ppo import preset
from agents.ppo.config import PPOConfig
from agents.ppo.policy import Policy

NUM_EPISODES = 64
COLUMNS = ("command", "env steps", "minutes", "return", "in Gymnasium's v5 env", "on mjx")
PLATFORM = {"seed", "backend", "num_threads"}
"""Settings that do not make a command another one, or stand in it anyway."""


def main() -> None:
    """Evaluate, write the files, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dirs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training"))
    parser.add_argument("--mjx", action="store_true")
    args = parser.parse_args()
    runs = sorted(
        ((*ppo.read_settings(folder), folder) for folder in args.run_dirs), key=lambda run: (run[0], run[1].seed)
    )
    print("|".join(["", *COLUMNS, ""]))
    print("|".join(["", *["---"] * len(COLUMNS), ""]))
    for task_id, group in itertools.groupby(runs, key=lambda run: run[0]):
        of_task, name = list(group), task_id.removeprefix("ksim/")
        plots.learning_curve([folder for *_, folder in of_task], args.out / f"{name}.png", task_id)
        for _, config, folder in of_task:
            plots.write_csv(folder, args.out / f"{name}_{folder.name}.csv")
            print("|".join(["", *row(task_id, config, folder, args.mjx), ""]), flush=True)


def row(task_id: str, config: PPOConfig, folder: Path, on_mjx: bool) -> list[str]:
    """The cells of a run."""
    policy = ppo.load(folder)
    last = logger.read(folder)[-1]
    returns = {
        "ours": evaluate(policy, task_id, config.backend, config.dynamics),
        "gymnasium": evaluate_in_gymnasium(policy, task_id, NUM_EPISODES, seed=0).metrics()["return_mean"],
    }
    if on_mjx:
        returns["mjx"] = evaluate(policy, task_id, "mjx", config.dynamics)
    ours = returns["ours"]
    share = {name: f"{value:,.1f}" + (f" ({value / ours:.0%})" if ours > 0 else "") for name, value in returns.items()}
    return [
        f"`{command(task_id, config)}`",
        f"{last['env_steps'] / 1e6:.1f}M",
        f"{last['time/elapsed_s'] / 60:.1f}",
        f"{ours:,.1f}",
        share["gymnasium"],
        share.get("mjx", ""),
    ]


def evaluate(policy: Policy, task_id: str, backend: str, dynamics: str) -> float:
    """The mean return in our envs."""
    core = ksim_envs.make_functional(task_id, NUM_EPISODES, backend=backend, dynamics=dynamics)
    return Evaluator(core, 0, REPORT_STREAM)(policy.state).metrics()["return_mean"]


def command(task_id: str, config: PPOConfig) -> str:
    """What began the run."""
    usual = preset(task_id)
    differing = [field.name for field in fields(PPOConfig) if getattr(config, field.name) != getattr(usual, field.name)]
    flags = [flag(name.replace("_", "-"), getattr(config, name)) for name in differing if name not in PLATFORM]
    return " ".join([f"ksim train {task_id} --seed {config.seed}", *flags])


def flag(name: str, value: Any) -> str:
    """As `ksim train` reads it."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"


if __name__ == "__main__":
    main()
