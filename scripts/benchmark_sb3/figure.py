"""The learning curves of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, ScalarFormatter

from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.results import Result


def draw(groups: Mapping[str, Sequence[Result]], path: Path, title: str) -> None:
    """Return over env steps, and over time: the mean of the seeds, and a band from the worst to the best."""
    figure = Figure(figsize=(12, 5.5), dpi=120, layout="constrained")
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    for name, group in groups.items():
        color = f"C{list(CONTESTANTS).index(name)}"
        _curve(by_steps, group, "env_steps", color, CONTESTANTS[name].label)
        _curve(by_time, group, "seconds", color, None)
    # a preset may take many more env steps than the others
    usual = [group[0].job.env_steps for name, group in groups.items() if name != "ksim_preset"]
    if usual:
        by_steps.set_xlim(0, max(usual))
    by_steps.set_xlabel("env steps")
    by_steps.xaxis.set_major_formatter(EngFormatter(sep=""))
    by_steps.set_ylabel("return in Gymnasium's env, without noise")
    by_time.set_xlabel("wall-clock time without evaluations [s]")
    by_time.set_xscale("log")
    by_time.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    by_time.xaxis.set_major_formatter(ScalarFormatter())
    by_time.xaxis.set_minor_formatter(NullFormatter())
    for axes in (by_steps, by_time):
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontweight="bold")
    figure.legend(*by_steps.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)


def _curve(axes: Axes, group: Sequence[Result], axis: str, color: str, label: str | None) -> None:
    """One contestant, from the first evaluation of all its seeds to the last."""
    known = [[row[axis] for row in result.evaluations] for result in group]
    marks = np.linspace(max(each[0] for each in known), min(each[-1] for each in known), 200)
    returns = np.array([[result.return_at(axis, mark) for mark in marks] for result in group])
    axes.plot(marks, returns.mean(axis=0), color=color, label=label)
    axes.fill_between(marks, returns.min(axis=0), returns.max(axis=0), color=color, alpha=0.15, linewidth=0)
