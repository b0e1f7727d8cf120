"""What a run, or several, looks like: the learning curve as a picture, the evaluations as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from agents import logger
from agents.logger import Row

_CSV_COLUMNS: tuple[str, ...] = (
    "env_steps",
    "time/elapsed_s",
    "return_mean",
    "return_std",
    "return_min",
    "return_max",
    "length_mean",
)


def learning_curve(run_dirs: Sequence[Path], path: Path, title: str) -> Path:
    """Draws runs over each other: return in evaluation, episodes in training, and how critic and exploration fare.

    Args:
        run_dirs: folders of runs, each with a metrics.jsonl.
        path: the picture; its suffix is the format (.png, .svg, .pdf).
        title: what stands above it.

    Returns:
        The path.

    Raises:
        RunFolderError: a folder holds no log.
    """
    figure = Figure(figsize=(10, 7), dpi=150, layout="constrained")
    panels = figure.subplot_mosaic([["evaluation", "evaluation"], ["training", "learning"]], height_ratios=(3, 2))
    lengths = panels["training"].twinx()
    for number, (run_dir, label) in enumerate(zip(run_dirs, _labels(run_dirs), strict=True)):
        rows, color = logger.read(run_dir), f"C{number % 10}"
        train = [row for row in rows if row["kind"] == "train"]
        _draw_evaluation(panels["evaluation"], rows, label, color)
        _draw(panels["training"], train, "return_mean", color, "-")
        _draw(lengths, train, "length_mean", color, ":")
        _draw(panels["learning"], train, "explained_variance", color, "-")
        _draw(panels["learning"], train, "action_std", color, ":")
    figure.suptitle(title, fontweight="bold", parse_math=False)
    panels["evaluation"].set_title("Evaluation return: mean, and a band from the worst episode to the best")
    panels["evaluation"].legend(loc="best")
    panels["training"].set_title("Training episodes: return —, length ⋯")
    panels["training"].set_ylabel("return")
    lengths.set_ylabel("length [steps]")
    lengths.set_ylim(bottom=0)
    panels["learning"].set_title("Explained variance of the critic —, action std ⋯")
    panels["learning"].set_ylim(bottom=-0.1)  # a critic worse than a constant is off the scale
    for axes in panels.values():
        axes.set_xlabel("env steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def write_csv(run_dir: Path, path: Path) -> Path:
    """Writes the evaluations of a run as CSV, one line each; a value that was not finite is an empty cell.

    Args:
        run_dir: the folder of the run.
        path: the file.

    Returns:
        The path.

    Raises:
        RunFolderError: the folder holds no log.
    """
    rows = [row for row in logger.read(run_dir) if row["kind"] == "eval"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _labels(run_dirs: Sequence[Path]) -> list[str]:
    """The folders' names where they differ, else their paths."""
    names = [run_dir.resolve().name for run_dir in run_dirs]
    return names if len(set(names)) == len(names) else [str(run_dir) for run_dir in run_dirs]


def _draw_evaluation(axes: Axes, rows: Sequence[Row], label: str, color: str) -> None:
    evaluations = [row for row in rows if row["kind"] == "eval" and row.get("return_mean") is not None]
    rates = _points([row for row in rows if row["kind"] == "train"], "time/env_steps_per_s")[1]
    if evaluations:
        label += f": {evaluations[-1]['return_mean']:,.0f} at the end"
    if rates:
        label += f", {sorted(rates)[len(rates) // 2]:,.0f} env steps/s"
    _draw(axes, evaluations, "return_mean", color, ".-", label)
    lowest, highest = _points(evaluations, "return_min"), _points(evaluations, "return_max")
    axes.fill_between(lowest[0], lowest[1], highest[1], color=color, alpha=0.15, linewidth=0)


def _draw(axes: Axes, rows: Sequence[Row], name: str, color: str, style: str, label: str | None = None) -> None:
    axes.plot(*_points(rows, name), style, color=color, linewidth=1.0, label=label)


def _points(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Env steps and values, where there is one: no episode may have ended, and then there is no mean."""
    found = [(row["env_steps"], row[name]) for row in rows if row.get(name) is not None]
    return [env_steps for env_steps, _ in found], [value for _, value in found]
