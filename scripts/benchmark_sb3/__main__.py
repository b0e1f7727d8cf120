"""SB3 and SBX on Gymnasium's envs, SB3 on ours, and our PPO: how fast they are, and what they learn.

    python -m scripts.benchmark_sb3                    # Hopper, HalfCheetah and Humanoid, 2 seeds: many hours
    python -m scripts.benchmark_sb3 --hours 2.5        # as much of it as ends in that time
    python -m scripts.benchmark_sb3 --quick            # five minutes on two cores; its returns mean nothing
    python -m scripts.benchmark_sb3 --list             # what is done, and how long the rest will take
    python -m scripts.benchmark_sb3 --report-only      # the report of what is there

Each training is a process of its own, one after the other, for most contestants use all cores. Interrupt it at any
time: the same command goes on after the last training that ended, also on another machine with the same versions and a
copy of the folder (`--out`), where `jobs.jsonl` has a line for each. The report is in the same folder: `report.md`, CSV
files and a picture for each task; it says which machine did what. Before a contestant's first training in a task its
settings are tried, and the fastest competes, with all seeds.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

from agents.run_folder import lock
from scripts.benchmark_sb3 import jobs, report, results
from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.jobs import Job, Row
from scripts.benchmark_sb3.machine import check_versions, conditions, engine_rate, machine
from scripts.benchmark_sb3.plan import Plan, estimated_s, left_s
from scripts.benchmark_sb3.results import Results
from scripts.benchmark_sb3.settings import TASKS

FULL: dict[str, Any] = {
    "tasks": tuple(TASKS),
    "contestants": tuple(CONTESTANTS),
    "seeds": (0, 1),
    "env_steps": None,
    "evaluations": 20,
    "episodes": 20,
    "out": Path("runs/benchmark_sb3"),
}
QUICK = FULL | {
    "tasks": ("Hopper",),
    "seeds": (0,),
    "env_steps": 8_192,
    "evaluations": 2,
    "episodes": 3,
    "out": Path("runs/benchmark_sb3_quick"),
}


def main() -> int:
    """Run what is missing, and report; the exit status is 1 when a job failed."""
    args = parsed()
    plan = Plan(
        tasks=tuple(args.tasks),
        contestants=tuple(args.contestants),
        seeds=tuple(args.seeds),
        env_steps=args.env_steps,
        num_evaluations=args.evaluations,
        num_episodes=args.episodes,
        has_trials=not args.quick,
    )
    known = results.load(args.out)
    if args.list:
        show(plan, known)
        return 0
    num_failed = 0 if args.report_only else run_all(plan, known, args.out, 3600 * args.hours)
    print(f"\n{report.write(plan, known, args.out)}")
    return int(num_failed > 0)


def run_all(plan: Plan, known: Results, folder: Path, seconds: float) -> int:
    """Run the jobs that are missing and likely to end in time, add their results, and count those that failed."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(each, lambda number, frame: sys.exit(128 + number))  # which ends the job too
    num_failed, end, facts = 0, time.monotonic() + seconds, machine()
    check_versions(facts, known)
    with lock(folder):
        for job in plan.jobs(known):
            if job.key in known:
                continue
            expected_s = estimated_s(job, known)
            if time.monotonic() + expected_s > end:
                print("The next job would not end in time.")
                break
            left = duration(left_s(plan, known))
            print(f"{words(job)}: {duration(expected_s)}, with all that is left {left}", flush=True)
            row = jobs.run(job, facts | conditions(), lambda row, job=job: progress(job, row))
            if row is None:
                print("    FAILED", flush=True)
                num_failed += 1
            else:
                try:
                    row["machine"]["engine_rate"] += f" {engine_rate():.0f}"
                finally:
                    results.add(folder, row)
                known[job.key] = results.result_of(row)
    return num_failed


def words(job: Job) -> str:
    """What a job is."""
    threads = f", {job.num_threads} threads" if job.num_threads else ""
    kind = f"seed {job.seed}" if job.num_episodes else "trial"
    return f"{job.task}, {CONTESTANTS[job.contestant].label}, {job.num_envs} envs ({job.envs}){threads}, {kind}"


def progress(job: Job, row: Row) -> None:
    """Print a line for an evaluation."""
    if job.num_episodes:
        left = row["seconds"] / row["env_steps"] * max(0, job.env_steps - row["env_steps"])
        print(
            f"    {row['env_steps']:,} of {job.env_steps:,} env steps in {row['seconds']:,.0f} s, "
            f"return {row['return_mean']:,.0f}, {left:,.0f} s left",
            flush=True,
        )


def duration(seconds: float) -> str:
    """About how long."""
    return f"about {seconds / 60:,.1f} min" if seconds < 3600 else f"about {seconds / 3600:,.1f} h"


def show(plan: Plan, known: Results) -> None:
    """Print a line for each job."""
    for job in plan.jobs(known):
        state = "done" if job.key in known else duration(estimated_s(job, known))
        print(f"{words(job)}: {job.env_steps:,} env steps, {state}")
    print(f"left: {duration(left_s(plan, known))}")


def parsed() -> argparse.Namespace:
    """The options; where none is given, those of a quick benchmark or of a full one."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark_sb3",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="short trainings of one task, one seed, no trials")
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--seeds", nargs="+", type=int, help="the trainings' seeds; the report has all that are there")
    parser.add_argument("--env-steps", type=int, help="of every training")
    parser.add_argument("--evaluations", type=int, help="of a training")
    parser.add_argument("--episodes", type=int, help="of an evaluation")
    parser.add_argument("--out", type=Path, help="a folder for what is measured, and the report")
    parser.add_argument("--hours", type=float, default=float("inf"), help="do not begin what would take longer")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


if __name__ == "__main__":
    sys.exit(main())
