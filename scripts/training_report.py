"""Add runs to `docs/benchmarks/training.md`: evaluate what they learned, and write the table and the curves anew.

    python -m scripts.training_report runs/Hopper-v0/* --mjx
    python -m scripts.training_report runs/KBotWalk-v0/* --mjx --episodes 256 --out docs/benchmarks/robots

A run's best policy is evaluated anew, deterministically, in our envs as it was trained, in Gymnasium's own where
there is one, and with `--mjx` on the other engine: one episode in each of so many envs whose first states it has not
seen. What the report says of earlier runs stays: it is made from the files in its folder, `runs.csv` and a CSV of
evaluations for each.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

import ksim_envs
from agents import logger, plots, ppo
from agents.evaluate import REPORT_STREAM, Evaluator, evaluate_in_gymnasium
from agents.ppo import preset
from agents.ppo.config import PPOConfig
from agents.run_folder import name_of

COLUMNS: tuple[str, ...] = (
    "command",
    "env steps",
    "minutes",
    "return",
    "falls",
    "velocity error",
    "in Gymnasium's v5 env",
    "on mjx",
)
"""Of `runs.csv`. The table has those that any run has something in."""
FILE = "file"
"""Column of `runs.csv` that is not shown: the name of the run's CSV of evaluations, which begins with the task's."""
PLATFORM = {"seed", "backend", "num_threads"}
"""Settings that do not make a command another one, or stand in it anyway."""
Row = dict[str, str]


def main() -> None:
    """Evaluate, and write the files, the curves and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dirs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training"))
    parser.add_argument("--mjx", action="store_true")
    parser.add_argument("--episodes", type=int, default=64)
    args = parser.parse_args()
    rows = {row[FILE]: row for row in read_rows(args.out)}
    for folder in args.run_dirs:
        task_id, config = ppo.read_settings(folder)
        row = describe(task_id, config, folder, args.episodes, args.mjx)
        plots.write_csv(folder, args.out / f"{row[FILE]}.csv")
        rows[row[FILE]] = row
        write_rows(args.out, sorted(rows.values(), key=lambda row: row[FILE]))
    draw(args.out)
    document = args.out.with_suffix(".md")
    document.write_text(with_table(document.read_text(encoding="utf-8"), read_rows(args.out)), encoding="utf-8")


def describe(task_id: str, config: PPOConfig, folder: Path, num_episodes: int, on_mjx: bool) -> Row:
    """What the report says of a run."""
    policy = ppo.load(folder)
    task = ksim_envs.get_task(task_id).hardest
    last = logger.read(folder)[-1]

    def evaluate(backend: str) -> dict[str, float]:
        core = ksim_envs.make_functional(task, num_episodes, backend=backend, dynamics=config.dynamics)
        return Evaluator(core, 0, REPORT_STREAM)(policy.state).metrics()

    def share(found: dict[str, float]) -> str:
        value, here = found["return_mean"], ours["return_mean"]
        return f"{value:,.1f}" + (f" ({value / here:.0%})" if here > 0 else "")

    ours = evaluate(config.backend)
    row = dict.fromkeys(COLUMNS, "") | {
        FILE: f"{name_of(task_id)}_{folder.name}",
        "command": f"`{command(task_id, config)}`",
        "env steps": f"{last['env_steps'] / 1e6:.1f}M",
        "minutes": f"{last['time/elapsed_s'] / 60:.1f}",
        "return": f"{ours['return_mean']:,.1f}",
    }
    if "fall" in task.terminations:
        row["falls"] = f"{ours['terminated_share']:.1%}"
    if "velocity_error" in ours:
        row["velocity error"] = f"{ours['velocity_error']:.3f} m/s"
    if ksim_envs.gymnasium_id(task_id):
        theirs = evaluate_in_gymnasium(policy, task_id, num_episodes, seed=0)
        row["in Gymnasium's v5 env"] = share(theirs.metrics())
    if on_mjx:
        row["on mjx"] = share(evaluate("mjx"))
    return row


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


def read_rows(folder: Path) -> list[Row]:
    """The runs that the report knows."""
    path = folder / "runs.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, rows: list[Row]) -> None:
    """The inverse of `read_rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "runs.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, (FILE, *COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def with_table(document: str, rows: list[Row]) -> str:
    """The document with this table in place of its first."""
    columns = [name for name in COLUMNS if any(row[name] for row in rows)]
    cells = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    lines = document.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    table = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([*lines[:start], *table, *lines[end:]]) + "\n"


def draw(folder: Path) -> None:
    """A panel for each task, a line for each run: the mean return in evaluation, and from worst episode to best."""
    curves: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(path for path in folder.glob("*.csv") if path.name != "runs.csv"):
        curves[path.name.partition("_")[0]].append(path)
    columns = min(3, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(5 * columns, 3.2 * lines), dpi=110, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, (name, paths) in zip(panels, curves.items(), strict=False):
        panel.set_title(name)
        panel.set_xlabel("env steps")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.grid(alpha=0.3)
        for path in paths:
            draw_curve(panel, path, path.stem.partition("_")[2])
        panel.legend(loc="lower right", fontsize="small")
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    figure.savefig(folder / "curves.png")


def draw_curve(panel: Axes, path: Path, label: str) -> None:
    """One run."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["return_mean"]]
    env_steps = [float(row["env_steps"]) for row in rows]
    mean, low, high = ([float(row[f"return_{name}"]) for row in rows] for name in ("mean", "min", "max"))
    (line,) = panel.plot(env_steps, mean, ".-", linewidth=1.0, label=label)
    panel.fill_between(env_steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


if __name__ == "__main__":
    main()
