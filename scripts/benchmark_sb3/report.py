"""The report: Markdown, CSV and pictures from the results of a benchmark, complete or not."""

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
from scripts.benchmark_sb3.jobs import Job, Row
from scripts.benchmark_sb3.machine import HARDWARE, VERSIONS
from scripts.benchmark_sb3.plan import Plan
from scripts.benchmark_sb3.results import Result, Results
from scripts.benchmark_sb3.settings import COMMON, TASKS, gymnasium_id

REFERENCE = "sb3"
"""SB3 on Gymnasium's envs with the common hyperparameters: rates are compared with its."""
SHARES = (0.25, 0.5, 1.0)
"""Of a task's env steps, at which returns are compared."""
TIMES = (1, 2, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""s, at which returns are compared, as far as they lie within the trainings."""
Groups = dict[str, list[Result]]
"""By contestant, a result for each seed."""

METHOD = """\
{setting}; worker processes change no number of what it learns. `sb3_zoo` has
rl-baselines3-zoo's hyperparameters (tuned for the v4 tasks, the Humanoid's for 10M env steps), and `ksim_preset` is
`ksim train ID`, with its own number of env steps. All others share one set: {common}. Networks have the same sizes
everywhere. SB3 and SBX normalize observations and rewards (`VecNormalize`); ours normalizes observations, and has its
preset's factor on rewards.

Our envs have `dynamics="fast"` (Euler and Newton's solver, where Gymnasium's may have RK4 and PGS), their preset's
spread of contacts, and staggered first episodes. `sb3_ksim_gymnasium` and `ksim_gymnasium` have the dynamics of
Gymnasium's own model file and no spread of contacts: what they gain on SB3 is not due to cheaper physics, and their
policies have nothing to get used to when they are evaluated. HalfCheetah's own dynamics are the fast ones, and its
preset spreads no contacts, so both learn the same, number for number.

Returns are those of the policy without noise in Gymnasium's own v5 env, whoever trained it: {num_episodes} episodes
from the same first states. Time is wall-clock: set-up, compilation and training, without evaluations and imports (but
with those of SBX, and under SB3 of JAX and ours, 1 to 3 s, which its set-up needs).
Rates of collection and training are those after the first evaluation; the rate of stepping is that of the envs alone
under random actions, for SB3 and SBX through SB3's vector env, for our PPO in a compiled loop, as it is in training.
Cells have the mean over the seeds, and in brackets the range; rates and seconds have the median. A machine may be
twice as fast today as tomorrow, so where a rate is compared with SB3's, both are first divided by their yardstick: what
one core did of C MuJoCo just before the training and just after it (before only, at commits before c5b5589).

The brackets of a task's last table say how many seeds a contestant has: means over different numbers of them are not to
be compared to the digit. The preset of Hopper is the shared set, so its `ksim` and `ksim_preset` learn the same too.
The command that wrote this into {folder} goes on with what is left."""

TRIED = """\
Each contestant trains with the number of torch's threads and, where it has a choice, in the kind of vector env that
were fastest for it in a short trial of each (by the yardstick, or at commits before a4275d9 as they ran)"""
NOT_TRIED = "Settings were not tried: torch has one thread, and SB3's envs are in a `DummyVecEnv`"

DISTURBANCE = 0.1
"""Cores that others may keep busy in a training before the report names it."""


def write(plan: Plan, results: Results, folder: Path) -> str:
    """Write all files, with all seeds that there are; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [f"{job.task} {_name(job)}" for job in plan.trainings(results) if job.key not in results]
    done = sorted((one for one in results.values() if plan.has(one.job)), key=lambda one: _place(plan, one.job))
    found = [one for one in done if one.job.num_episodes]
    _write_csv(folder / "returns.csv", [{**_identity(one), **row} for one in found for row in one.evaluations])
    _write_csv(folder / "runs.csv", [_run(one) for one in done])
    common = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _common().items())
    setting = TRIED if plan.has_trials else NOT_TRIED
    method = METHOD.format(setting=setting, common=common, num_episodes=plan.num_episodes, folder=folder).split("\n\n")
    lines = ["# Training with SB3 and SBX on Gymnasium's envs, and with SB3 and our PPO on ours", ""]
    lines += ["\n\n".join(textwrap.fill(each, 130) for each in method), ""]
    if missing:
        lines += [f"**Not complete: {len(missing)} trainings are missing:** {', '.join(missing)}.", ""]
    if unused := [one.job for one in results.values() if one.job.num_episodes and _is_unused(plan, one.job)]:
        named = ", ".join(f"{job.task} {_name(job)} ({job.env_steps:,} env steps)" for job in unused)
        lines += [f"Not shown, as hyperparameters, env steps or evaluations are not this report's: {named}.", ""]
    for task in plan.tasks:
        groups: Groups = {
            name: group
            for name in plan.contestants
            if (group := [one for one in found if (one.job.task, one.job.contestant) == (task, name)])
        }
        if groups:
            tried = [one for one in done if one.job.task == task and not one.job.num_episodes]
            lines += [*_section(task, groups, tried, plan.env_steps or TASKS[task].env_steps), ""]
            draw(groups, folder / f"{task}.png", gymnasium_id(task))
    lines += ["## Versions", "", *_versions(found), ""]
    text = "\n".join(lines)
    (folder / "report.md").write_text(text, encoding="utf-8")
    return text


def _is_unused(plan: Plan, job: Job) -> bool:
    return job.task in plan.tasks and job.contestant in plan.contestants and not plan.has(job)


def _common() -> Row:
    return {name: value for name, value in asdict(COMMON).items() if name not in ("contact_spread", "reward_scale")}


def _section(task: str, groups: Groups, tried: Sequence[Result], budget: int) -> list[str]:
    """A task's tables."""
    end = max(result.seconds for group in groups.values() for result in group)
    times = [time for time in TIMES if time < end][-4:]
    reference = _relative_rate(groups[REFERENCE]) if REFERENCE in groups else math.nan
    return [
        *(f"## {gymnasium_id(task)}", "", f"![Returns]({task}.png)", ""),
        *("Steps per second of C MuJoCo on one core, in Gymnasium's Humanoid, before and after the trainings:", ""),
        *(*_yardstick([result for group in groups.values() for result in group]), ""),
        *("Env steps per second:", ""),
        *_table(_rates(name, group, reference) for name, group in groups.items()),
        *(("", "Settings that were tried, in short trainings:", "", *_table(map(_trial, tried))) if tried else ()),
        *("", "Return at equal env steps, and on average in the last quarter of each training:", ""),
        *_table(
            {"contestant": name}
            | {
                f"{share * budget:,.0f}": _cell(one.return_at("env_steps", share * budget) for one in group)
                for share in SHARES
            }
            | {"last quarter": _cell(one.late_return() for one in group)}
            for name, group in groups.items()
        ),
        *("", "Return at equal wall-clock (a training that is over by then keeps its last one):", ""),
        *_table(
            {"contestant": name} | {f"{time} s": _cell(one.return_after(time) for one in group) for time in times}
            for name, group in groups.items()
        ),
        *("", "Seconds, and env steps, to a return of (median of the seeds; how many of them got there):", ""),
        *_table(
            {"contestant": name} | {f"{level:,}": _first(group, level) for level in TASKS[task].thresholds}
            for name, group in groups.items()
        ),
    ]


def _yardstick(found: Sequence[Result]) -> list[str]:
    """How fast each machine was, which decides what its seconds and rates are worth."""
    by_machine: Groups = {}
    for one in found:
        by_machine.setdefault(", ".join(f"{name} {one.machine[name]}" for name in HARDWARE), []).append(one)
    return _table(
        {
            "machine": machine,
            "trainings": "all" if len(group) == len(found) else ", ".join(_name(one.job) for one in group),
            "from": f"{min(one.engine_rate for one in group):,.0f}",
            "median": f"{np.median([one.engine_rate for one in group]):,.0f}",
            "to": f"{max(one.engine_rate for one in group):,.0f}",
        }
        for machine, group in by_machine.items()
    )


def _rates(name: str, group: Sequence[Result], reference: float) -> Row:
    """A contestant's setting and rates."""
    job = group[0].job
    return {
        "contestant": name,
        "": CONTESTANTS[name].label,
        "envs": f"{job.num_envs} ({job.envs})",
        "torch threads": job.num_threads or "",
        **{part: _number(_rate(group, part), ",.0f") for part in ("stepping", "collection", "training")},
        "training, SB3 = 1": _number(_relative_rate(group) / reference, ".2f"),
        "env steps": f"{group[0].evaluations[-1]['env_steps']:,}",
        "seconds": f"{np.median([one.seconds for one in group]):,.0f}",
    }


def _trial(result: Result) -> Row:
    """How fast a contestant is in a setting."""
    job = result.job
    return {
        "contestant": job.contestant,
        "envs": f"{job.num_envs} ({job.envs})",
        "torch threads": job.num_threads or "",
        "training": f"{result.rates()['training']:,.0f}",
        "steps per step of the yardstick": f"{result.relative_rate():.4f}",
    }


def _rate(group: Sequence[Result], part: str) -> float:
    """The median over the seeds."""
    return float(np.nanmedian([one.rates()[part] for one in group]))


def _relative_rate(group: Sequence[Result]) -> float:
    """Of training, in units of the yardstick; the median over the seeds."""
    return float(np.median([one.relative_rate() for one in group]))


def _first(group: Sequence[Result], level: float) -> str:
    """When a return was first seen."""
    times = [result.first_at(level, "seconds") for result in group]
    steps = [result.first_at(level, "env_steps") for result in group]
    num_reached = int(np.isfinite(times).sum())
    if not num_reached:
        return "–"
    time, step = np.median(times), np.median(steps)
    at = f"{time:,.0f} s, {step:,.0f}" if math.isfinite(time) else "–"
    return f"{at} ({num_reached} of {len(times)})"


def _cell(values: Iterable[float]) -> str:
    """Mean and range, of seeds that all have a value."""
    found = list(values)
    spread = f" ({min(found):,.0f} to {max(found):,.0f})" if len(found) > 1 else ""
    return f"{np.mean(found):,.0f}{spread}" if np.isfinite(found).all() else "–"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _versions(found: Sequence[Result]) -> list[str]:
    """The versions that the numbers are from, and what else kept the machine busy."""
    lines: list[str] = []
    if found:
        lines += ["; ".join(f"{name} {found[0].machine[name]}" for name in VERSIONS) + ".", ""]
        commits = dict.fromkeys(one.machine["ksim-envs"] for one in found)
        lines += [f"ksim-envs at {', '.join(commits)}."]
    others = [one.cores_of_others for one in found if one.cores_of_others is not None]
    if others:
        middle, most = np.median(others), max(others)
        lines += [f"Other processes kept {middle:.2f} cores busy in the median training, {most:.2f} at most."]
    disturbed = [f"{one.job.task} {_name(one.job)}" for one in found if (one.cores_of_others or 0.0) > DISTURBANCE]
    lines += [f"They kept more than {DISTURBANCE} busy in {', '.join(disturbed)}."] if disturbed else []
    return lines


def _place(plan: Plan, job: Job) -> tuple[int, int, int]:
    """Where it stands in the order of jobs."""
    return plan.tasks.index(job.task), job.seed, plan.contestants.index(job.contestant)


def _name(job: Job) -> str:
    return f"{job.contestant} seed {job.seed}"


def _identity(result: Result) -> Row:
    return {"task": result.job.task, "contestant": result.job.contestant, "seed": result.job.seed}


def _run(result: Result) -> Row:
    """A line of runs.csv."""
    job, last = result.job, result.evaluations[-1]
    return {
        **_identity(result),
        "is_trial": not job.num_episodes,
        **{name: getattr(job, name) for name in ("envs", "num_envs", "num_threads")},
        **{f"{part}_rate": rate for part, rate in result.rates().items()},
        **{name: last.get(name) for name in ("env_steps", "seconds", "collect_s", "return_mean")},
        **{name: getattr(result, name) for name in ("setup_s", "wall_s", "cpu_s", "cores_of_others")},
        "engine_rate": result.engine_rate,
        **{name: result.machine[name] for name in ("load", "ksim-envs")},
    }


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _rounded(value) for name, value in row.items()} for row in rows)


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _table(rows: Iterable[Row]) -> list[str]:
    """The lines of a Markdown table."""
    listed = list(rows)
    cells = [list(listed[0]), ["---"] * len(listed[0]), *(row.values() for row in listed)]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in cells]
