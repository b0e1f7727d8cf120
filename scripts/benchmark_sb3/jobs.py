"""Jobs: each is a process that leaves a file of JSON lines.

The first line says what was asked for, and one at the end that all is there. A job that has ended is not run again; one
that was interrupted begins anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmark_sb3.contestants import CONTESTANTS, Recipe
from scripts.benchmark_sb3.settings import COMMON, TASKS, Hyperparameters

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process does."""

    task: str
    contestant: str

    @property
    def name(self) -> str:
        """Of its file."""
        raise NotImplementedError

    @cached_property
    def settings(self) -> Row:
        """All that its numbers depend on but the machine, as JSON has it."""
        hyperparameters = hyperparameters_of(self.task, self.contestant)
        return json.loads(json.dumps({**asdict(self), "hyperparameters": hyperparameters and asdict(hyperparameters)}))

    def path(self, folder: Path) -> Path:
        """Its file in the folder of a benchmark."""
        return folder / self.task / f"{self.name}.jsonl"

    def rows(self, folder: Path) -> list[Row]:
        """The lines of its file; a last one that was cut is left out."""
        path = self.path(folder)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def result(self, folder: Path) -> list[Row] | None:
        """All its lines, or None when it has not ended.

        Raises:
            SystemExit: they were measured with other settings.
        """
        rows = self.rows(folder)
        if not any(row["kind"] == "end" for row in rows):
            return None
        if rows[0]["settings"] != self.settings:
            sys.exit(
                f"{self.path(folder)} was measured with {rows[0]['settings']}, and now {self.settings} are asked for. "
                "Choose another folder with --out, or remove the file."
            )
        return rows


@dataclass(frozen=True, kw_only=True)
class Training(Job):
    """A training of one contestant."""

    seed: int
    env_steps: int
    num_evaluations: int
    num_episodes: int
    """Of an evaluation."""
    num_envs: int | None
    num_threads: int | None

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.contestant}_seed{self.seed}"

    def recipe(self) -> Recipe:
        """What its learner is made from."""
        return Recipe(
            task=self.task,
            hyperparameters=hyperparameters_of(self.task, self.contestant),
            num_envs=self.num_envs,
            seed=self.seed,
            env_steps=self.env_steps,
        )


@dataclass(frozen=True, kw_only=True)
class Sweep(Job):
    """The search for the fastest setting of one contestant: short trainings in each."""

    num_envs: tuple[int | None, ...]
    num_threads: tuple[int | None, ...]
    num_iterations: int
    """That are timed."""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.contestant}_sweep"


def hyperparameters_of(task: str, contestant: str) -> Hyperparameters | None:
    """Those of a contestant; None for our preset."""
    if CONTESTANTS[contestant].has_common_hyperparameters:
        return COMMON
    return TASKS[task].published if contestant == "sb3_zoo" else None


def run(job: Job, folder: Path, machine: Row) -> bool:
    """Run a job to its end, in a process that shares nothing with this one.

    Compiled programs are not kept, so that every seed pays for them.

    Args:
        job: what to do.
        folder: of the benchmark.
        machine: what the file says about it.

    Returns:
        Whether it ended well.
    """
    words = {"kind": type(job).__name__, "job": asdict(job), "path": str(job.path(folder)), "machine": machine}
    command = [sys.executable, "-m", "scripts.benchmark_sb3.job", json.dumps(words)]
    started, busy = time.monotonic(), _busy_s()
    child = subprocess.Popen(command, env={**os.environ, "KSIM_CACHE_DIR": "off"})
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:  # an interrupt ends the job too
        child.terminate()
        child.wait()
        raise
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode == 0:
        wall_s, cpu_s = time.monotonic() - started, usage.ru_utime + usage.ru_stime
        row = {"kind": "process", "wall_s": wall_s, "cpu_s": cpu_s}
        if busy is not None:
            row["cores_of_others"] = max(0.0, (_busy_s() or 0.0) - busy - cpu_s) / wall_s
        with job.path(folder).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return child.returncode == 0


def best(sweep: list[Row]) -> Row:
    """The fastest setting that a sweep has found, by the median iteration: `num_envs`, `num_threads` and `rate`."""
    tried = [{**row, "rate": float(np.median(row["rates"]))} for row in sweep if row["kind"] == "setting"]
    return max(tried, key=lambda row: row["rate"])


@contextlib.contextmanager
def new_file(path: Path) -> Generator[Callable[[Row], None]]:
    """A function that appends rows to a new file; an orphan that still writes to an old one harms nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8", buffering=1) as file:
        yield lambda row: print(json.dumps(row), file=file)


def _busy_s() -> float | None:
    """Seconds for which the machine's cores have worked since it started; None where the kernel does not tell."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
