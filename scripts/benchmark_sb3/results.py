"""What finished trainings came to, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.benchmark_sb3.jobs import Row, Training
from scripts.benchmark_sb3.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Result:
    """A training that has ended."""

    job: Training
    rows: list[Row]

    def of_kind(self, kind: str) -> list[Row]:
        """The rows of one kind."""
        return [row for row in self.rows if row["kind"] == kind]

    @property
    def evaluations(self) -> list[Row]:
        """In order; at least one."""
        return self.of_kind("evaluation")

    @property
    def seconds(self) -> float:
        """Of all of it but evaluations: set-up, compilation, training."""
        return self.evaluations[-1]["seconds"]

    @property
    def cores_of_others(self) -> float:
        """How many cores other processes kept busy meanwhile; not a number where the kernel does not tell."""
        return self.of_kind("process")[0].get("cores_of_others", math.nan)

    def rates(self) -> dict[str, float]:
        """Env steps per second: of the envs alone, of collecting, and of training.

        The latter two from the first evaluation to the last, where there are two: compilation is over by then.
        """
        first, last = self.evaluations[0], self.evaluations[-1]
        if first is last:
            first = {"env_steps": 0, "collect_s": 0.0, "learn_s": 0.0}
        steps, collect_s, learn_s = (last[name] - first[name] for name in ("env_steps", "collect_s", "learn_s"))
        return {
            "stepping": self.of_kind("envs")[0]["step_rate"],
            "collection": steps / collect_s,
            "training": steps / (collect_s + learn_s),
        }

    def return_at(self, axis: str, mark: float) -> float:
        """The return at so many `"env_steps"` or `"seconds"`: a line between two evaluations; not a number outside."""
        at = [row[axis] for row in self.evaluations]
        returns = [row["return_mean"] for row in self.evaluations]
        return float(np.interp(mark, at, returns, left=math.nan, right=math.nan))

    def return_after(self, seconds: float) -> float:
        """The return when so much time has passed, which is the last one if the training is over by then."""
        return self.return_at("seconds", min(seconds, self.seconds))

    def first_at(self, threshold: float, axis: str) -> float:
        """Seconds or env steps at the first evaluation of at least this return; infinite if there is none."""
        return next((row[axis] for row in self.evaluations if row["return_mean"] >= threshold), math.inf)


def results(plan: Plan) -> tuple[list[Result], list[str]]:
    """Trainings that have ended, and the names of those that are missing."""
    found, missing = list[Result](), list[str]()
    for seed, task, contestant in plan.entries():
        job = plan.training(seed, task, contestant)
        rows = job and job.result(plan.folder)
        if job is None or rows is None:
            missing.append(f"{task} {contestant} seed {seed}")
        else:
            found.append(Result(job=job, rows=rows))
    return found, missing


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The difference of two means, and its standard error (Welch's): not a number without two values in each."""
    groups = [np.asarray(group, float) for group in (values, others)]
    errors = [group.var(ddof=1) / len(group) if len(group) > 1 else math.nan for group in groups]
    return float(groups[0].mean() - groups[1].mean()), math.sqrt(sum(errors))


def by_contestant(found: Sequence[Result], task: str) -> dict[str, list[Result]]:
    """The results of a task, by contestant."""
    groups: dict[str, list[Any]] = {}
    for result in found:
        if result.job.task == task:
            groups.setdefault(result.job.contestant, []).append(result)
    return groups
