"""What finished trainings came to, in numbers, and the file that has them: `jobs.jsonl`, a line for each."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmark_sb3.jobs import Job, Row

FILE = "jobs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A training that has ended."""

    job: Job
    machine: dict[str, str]
    evaluations: list[Row]
    """In order; at least one. Those of trials have times, and no returns."""
    setup_s: float
    step_rate: float | None
    """Env steps per second of the envs alone; None in a trial, and where it could not be measured any more."""
    wall_s: float
    """Of the whole process, with imports and evaluations."""
    cpu_s: float
    cores_of_others: float | None
    """How many cores other processes kept busy meanwhile; None where the kernel does not tell."""

    @property
    def seconds(self) -> float:
        """Of all of it but imports and evaluations: set-up, compilation, training."""
        return self.evaluations[-1]["seconds"]

    @property
    def engine_rate(self) -> float:
        """Steps per second of C MuJoCo on one core, the mean of just before the training and just after it.

        See `machine.engine_rate`. The oldest results have that of before only.
        """
        return float(np.mean([float(rate) for rate in self.machine["engine_rate"].split()]))

    def rates(self) -> dict[str, float]:
        """Env steps per second: of the envs alone, of collecting, and of training.

        The latter two from the first evaluation to the last, where there are two: compilation is over by then.
        """
        first, last = self.evaluations[0], self.evaluations[-1]
        if first is last:
            first = {"env_steps": 0, "collect_s": 0.0, "seconds": self.setup_s}
        steps, collect_s, seconds = (last[name] - first[name] for name in ("env_steps", "collect_s", "seconds"))
        stepping = math.nan if self.step_rate is None else self.step_rate
        return {"stepping": stepping, "collection": steps / collect_s, "training": steps / seconds}

    def relative_rate(self) -> float:
        """The rate of training in units of the yardstick."""
        return self.rates()["training"] / self.engine_rate

    def return_at(self, axis: str, mark: float) -> float:
        """The return at so many `"env_steps"` or `"seconds"`: a line between two evaluations; not a number outside."""
        at = [row[axis] for row in self.evaluations]
        returns = [row["return_mean"] for row in self.evaluations]
        return float(np.interp(mark, at, returns, left=math.nan, right=math.nan))

    def late_return(self) -> float:
        """The mean of the last quarter of the evaluations, which says more than the last one alone."""
        returns = [row["return_mean"] for row in self.evaluations]
        return float(np.mean(returns[-max(1, len(returns) // 4) :]))

    def return_after(self, seconds: float) -> float:
        """The return when so much time has passed, which is the last one if the training is over by then."""
        return self.return_at("seconds", min(seconds, self.seconds))

    def first_at(self, threshold: float, axis: str) -> float:
        """Seconds or env steps at the first evaluation of at least this return; infinite if there is none."""
        return next((row[axis] for row in self.evaluations if row["return_mean"] >= threshold), math.inf)


Results = dict[str, Result]
"""By the keys of their jobs."""


def load(folder: Path) -> Results:
    """All that a folder has."""
    path = folder / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {result.job.key: result for result in map(result_of, map(json.loads, lines))}


def result_of(row: Row) -> Result:
    """The result that a line of the file holds."""
    known: dict[str, Any] = row | {"job": Job(**row["job"])}
    return Result(**known)


def add(folder: Path, row: Row) -> None:
    """Append a line; the file is at all times one that `load` can read."""
    path = folder / FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    new = path.with_suffix(".new")
    new.write_text(f"{before}{json.dumps(row)}\n", encoding="utf-8")
    os.replace(new, path)
