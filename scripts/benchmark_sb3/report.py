"""The report: Markdown, CSV and pictures from the files of a benchmark, complete or not."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.figure import draw
from scripts.benchmark_sb3.jobs import Row
from scripts.benchmark_sb3.plan import Plan
from scripts.benchmark_sb3.results import Result, by_contestant, difference, results
from scripts.benchmark_sb3.settings import COMMON, TASKS, gymnasium_id

REFERENCES = ("sb3_dummy", "sb3_subproc")
"""SB3 on Gymnasium's envs with the common hyperparameters: the faster of the two is what others are compared with."""
SHARES = (0.25, 0.5, 1.0)
"""Of a task's env steps, at which returns are compared."""
TIMES = (15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""s, at which returns are compared, as far as they lie within the trainings."""
Group = dict[str, list[Result]]

METHOD = """\
Each contestant has the number of envs, and of torch's threads, with which it trains fastest on this machine (see
`settings.csv`), if none was asked for. `sb3_zoo` has rl-baselines3-zoo's hyperparameters, and `ksim_preset` is
`ksim train ID`, with its own number of env steps. All others share one set: {common}. Networks have the same sizes
everywhere. SB3 and SBX normalize observations and rewards (`VecNormalize`); ours normalizes observations, and has its
preset's factor on rewards and spread of contacts. Our envs have `dynamics="fast"` and staggered first episodes.

Returns are those of the policy without noise in Gymnasium's own v5 env, whoever trained it, from the same first states.
Time is wall-clock: set-up, compilation and training, without imports and evaluations. Rates of collection and training
are those after compilation; the rate of stepping is that of the envs alone, under random actions. Cells have the mean
over the seeds, and in brackets the range; rates and seconds have the median."""


def write(plan: Plan, folder: Path) -> str:
    """Write all files; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    found, missing = results(plan)
    _write_csv(folder / "returns.csv", [{**_identity(one), **row} for one in found for row in one.evaluations])
    _write_csv(folder / "runs.csv", [_run(one) for one in found])
    _write_csv(folder / "settings.csv", list(_settings(plan)))
    common = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(COMMON).items())
    method = [textwrap.fill(each, 130) for each in METHOD.format(common=common).split("\n\n")]
    lines = [
        "# Training with SB3 and SBX on Gymnasium's envs, and with SB3 and our PPO on ours",
        "",
        "\n\n".join(method),
        "",
    ]
    if missing:
        lines += [f"**Not complete: {len(missing)} trainings are missing:** {', '.join(missing)}.", ""]
    for task in plan.tasks:
        if groups := by_contestant(found, task):
            lines += [*_section(task, groups, plan.env_steps or TASKS[task].env_steps), ""]
            draw(groups, folder / f"{task}.png", gymnasium_id(task))
    lines += ["## Machine", "", *_machines(found), ""]
    text = "\n".join(lines)
    (folder / "report.md").write_text(text, encoding="utf-8")
    return text


def _section(task: str, groups: Group, budget: int) -> list[str]:
    """A task's tables."""
    end = max(result.seconds for group in groups.values() for result in group)
    times = [time for time in TIMES if time < end][-4:]
    reference = min(
        (name for name in REFERENCES if name in groups), key=lambda name: _seconds(groups[name]), default=None
    )
    lines = [f"## {gymnasium_id(task)}", "", f"![Returns]({task}.png)", "", "Env steps per second:", ""]
    lines += _table(_rates(name, group) for name, group in groups.items())
    if reference:
        lines += [
            "",
            f"Return minus that of {CONTESTANTS[reference].label} (± standard error), and speed over its:",
            "",
        ]
        lines += _table(_against(name, groups[name], groups[reference], budget) for name in groups)
    lines += ["", "Return at equal env steps:", ""]
    steps = {f"{share * budget:,.0f}": share * budget for share in SHARES}
    lines += _table(
        {"contestant": name}
        | {head: _cell(one.return_at("env_steps", mark) for one in group) for head, mark in steps.items()}
        for name, group in groups.items()
    )
    lines += ["", "Return at equal wall-clock (a training that is over by then keeps its last one):", ""]
    lines += _table(
        {"contestant": name} | {f"{time} s": _cell(one.return_after(time) for one in group) for time in times}
        for name, group in groups.items()
    )
    lines += ["", "Seconds, and env steps, to a return of (median of the seeds; how many of them got there):", ""]
    return lines + _table(
        {"contestant": name} | {f"{level:,}": _first(group, level) for level in TASKS[task].thresholds}
        for name, group in groups.items()
    )


def _rates(name: str, group: Sequence[Result]) -> Row:
    """A contestant's setting and rates: medians over the seeds."""
    job, rates = group[0].job, [result.rates() for result in group]
    return {
        "contestant": name,
        "": CONTESTANTS[name].label,
        "envs": job.num_envs or "preset",
        "torch threads": job.num_threads or "",
        **{part: f"{np.median([rate[part] for rate in rates]):,.0f}" for part in rates[0]},
        "env steps": f"{group[0].evaluations[-1]['env_steps']:,}",
        "seconds": f"{_seconds(group):,.0f}",
    }


def _against(name: str, group: Sequence[Result], reference: Sequence[Result], budget: int) -> Row:
    """A contestant and the reference: returns when the reference ends, and how much faster it is."""
    ends = _seconds(reference)

    def compared(values: Iterable[float], others: Iterable[float]) -> str:
        mean, error = difference(list(values), list(others))
        return _number(mean, "+,.0f") + (f" ± {error:,.0f}" if math.isfinite(error) else "")

    rate, usual = (np.median([one.rates()["training"] for one in runs]) for runs in (group, reference))
    at_end = [one.return_at("env_steps", budget) for one in reference]
    return {
        "contestant": name,
        f"return at {budget:,} env steps": compared((one.return_at("env_steps", budget) for one in group), at_end),
        f"return after {ends:,.0f} s": compared(
            (one.return_after(ends) for one in group), (one.return_after(ends) for one in reference)
        ),
        "rate of training": f"x {rate / usual:.2f}",
        "seconds of all": f"x {_seconds(group) / ends:.2f}",
    }


def _first(group: Sequence[Result], level: float) -> str:
    """When a return was first seen."""
    times = [result.first_at(level, "seconds") for result in group]
    steps = [result.first_at(level, "env_steps") for result in group]
    num_reached = int(np.isfinite(times).sum())
    if not num_reached:
        return "–"
    middle = np.argsort(times)[(len(times) - 1) // 2]
    at = f"{times[middle]:,.0f} s, {steps[middle]:,}" if math.isfinite(times[middle]) else "–"
    return f"{at} ({num_reached} of {len(times)})"


def _seconds(group: Sequence[Result]) -> float:
    """The median over the seeds."""
    return float(np.median([result.seconds for result in group]))


def _cell(values: Iterable[float]) -> str:
    """Mean and range, of seeds that all have a value."""
    found = list(values)
    if not np.isfinite(found).all():
        return "–"
    spread = f" ({min(found):,.0f} to {max(found):,.0f})" if len(found) > 1 else ""
    return f"{np.mean(found):,.0f}{spread}"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _machines(found: Sequence[Result]) -> list[str]:
    """The machines and versions that the numbers are from, and what else kept them busy."""
    known: list[dict[str, str]] = []
    for result in found:
        facts = result.rows[0]["machine"]
        if facts not in known:
            known.append(facts)
    lines = ["; ".join(f"{name} {value}" for name, value in facts.items()) + "." for facts in known]
    others = [result.cores_of_others for result in found if math.isfinite(result.cores_of_others)]
    if others:
        busiest = max(others)
        lines.append(
            f"Other processes kept {np.median(others):.2f} cores busy in the median training, {busiest:.2f} at most."
        )
    return "\n\n".join(lines).splitlines()


def _identity(result: Result) -> Row:
    return {"task": result.job.task, "contestant": result.job.contestant, "seed": result.job.seed}


def _run(result: Result) -> Row:
    """A line of runs.csv."""
    last = result.evaluations[-1]
    return {
        **_identity(result),
        "num_envs": result.job.num_envs,
        "num_threads": result.job.num_threads,
        **{f"{part}_rate": rate for part, rate in result.rates().items()},
        "setup_s": result.of_kind("envs")[0]["setup_s"],
        **{name: last[name] for name in ("collect_s", "learn_s", "seconds", "env_steps", "return_mean")},
        **{name: value for name, value in result.of_kind("process")[0].items() if name != "kind"},
    }


def _settings(plan: Plan) -> Iterable[Row]:
    """A line of settings.csv for each setting that was tried."""
    for sweep in plan.sweeps():
        for row in sweep.result(plan.folder) or []:
            if row["kind"] == "setting":
                rate = float(np.median(row["rates"]))
                at = {name: row[name] for name in ("num_envs", "num_threads")}
                yield {"task": sweep.task, "contestant": sweep.contestant, **at, "training_rate": rate}


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    names = dict.fromkeys(name for row in rows for name in row if name != "kind")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _rounded(value) for name, value in row.items()} for row in rows)


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _table(rows: Iterable[Row]) -> list[str]:
    """The lines of a Markdown table."""
    listed = list(rows)
    cells = [list(listed[0]), ["---"] * len(listed[0]), *(row.values() for row in listed)]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in cells]
