"""A job is one training in a process of its own; what comes of it is a line in a file of the benchmark's folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.benchmark_sb3.contestants import Envs

Row = dict[str, Any]
NOT_INHERITED = ("XLA_", "JAX_", "KSIM_", "_KSIM_", "OMP_", "MKL_", "OPENBLAS_")
"""Beginnings of variables that steer libraries. `import ksim_envs` sets some of them, which SBX must not inherit."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a training depends on but the machine and the versions."""

    task: str
    contestant: str
    envs: Envs
    num_threads: int | None
    hyperparameters: Row
    """`Hyperparameters`, or of a preset `PPOConfig`, as JSON has them."""
    seed: int
    env_steps: int
    num_evaluations: int
    num_episodes: int
    """Of an evaluation; 0 in a trial, which is only timed."""

    @property
    def num_envs(self) -> int:
        """All hyperparameters have it."""
        return self.hyperparameters["num_envs"]

    @property
    def key(self) -> str:
        """Equal for equal jobs."""
        return json.dumps(asdict(self), sort_keys=True)


def run(job: Job, machine: dict[str, str], show: Callable[[Row], None]) -> Row | None:
    """Run a job to its end.

    It tells what it measures through a pipe, so it ends soon if this process is killed. Compiled programs are not kept:
    every training pays for them.

    Args:
        job: what to do.
        machine: what the result says about it.
        show: takes each evaluation when it is there.

    Returns:
        The line for the file, as `results.Result` reads it; None if the training failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    command = [sys.executable, "-m", "scripts.benchmark_sb3.worker", job.key]
    before, busy_s = os.times(), _busy_s()
    evaluations: list[Row] = []
    facts: Row = {"step_rate": None}
    environment["KSIM_CACHE_DIR"] = "off"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, process_group=0) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                row: Row = json.loads(line)
                if "env_steps" in row:
                    evaluations.append(row)
                    show(row)
                else:
                    facts |= row
        except BaseException:  # an interrupt ends the job too
            child.terminate()
            raise
        finally:
            child.wait()
            with contextlib.suppress(ProcessLookupError):  # processes of envs whose parent was killed
                os.killpg(child.pid, signal.SIGKILL)
    if "setup_s" not in facts:  # which is told when the training is over
        return None
    if child.returncode:
        print(f"    The process ended with status {child.returncode} after the training.", flush=True)
    after = os.times()
    wall_s = after.elapsed - before.elapsed
    cpu_s = sum(after[2:4]) - sum(before[2:4])  # of children
    return {
        "job": asdict(job),
        "machine": machine,
        **facts,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "cores_of_others": busy_s and round(max(0.0, (_busy_s() or 0.0) - busy_s - cpu_s) / wall_s, 2),
        "evaluations": evaluations,
    }


def _busy_s() -> float | None:
    """Seconds for which the machine's cores have worked since it started; None where the kernel does not tell."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
