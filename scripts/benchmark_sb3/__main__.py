"""SB3 and SBX on Gymnasium's envs, SB3 on ours, and our PPO: how fast they are, and what they learn.

    python -m scripts.benchmark_sb3                    # Hopper, HalfCheetah and Humanoid, 3 seeds: hours
    python -m scripts.benchmark_sb3 --quick            # five minutes on two cores; its returns mean nothing
    python -m scripts.benchmark_sb3 --list             # what is done, and how long the rest will take
    python -m scripts.benchmark_sb3 --report-only      # the report of what is there
    python -m scripts.benchmark_sb3 --adapter-cost     # what SB3's adapter adds to a step of 2,048 Humanoids

Each training is a process of its own, one after the other; interrupt it at any time, and the same command goes on.
First the fastest number of envs, and of torch's threads, is measured for each contestant and task. Files go to a folder
(`--out`), and so does the report when all is done: `report.md`, CSV files and a picture for each task.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from agents.run_folder import lock
from scripts.benchmark_sb3 import jobs, report
from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.jobs import Job
from scripts.benchmark_sb3.machine import machine
from scripts.benchmark_sb3.plan import Plan
from scripts.benchmark_sb3.settings import TASKS

FULL: dict[str, Any] = {
    "tasks": tuple(TASKS),
    "contestants": tuple(CONTESTANTS),
    "seeds": 3,
    "env_steps": None,
    "evaluations": 20,
    "episodes": 20,
    "num_envs": None,
    "num_threads": None,
    "iterations": 5,
    "out": Path("runs/benchmark_sb3"),
}
QUICK = FULL | {
    "tasks": ("Hopper",),
    "seeds": 1,
    "env_steps": 8_192,
    "evaluations": 2,
    "episodes": 3,
    "num_envs": 8,
    "num_threads": 1,
    "out": Path("runs/benchmark_sb3_quick"),
}


def main() -> int:
    """Run what is missing, and report; the exit status is 1 when a job failed."""
    args = parsed()
    if args.adapter_cost:
        from scripts.benchmark_sb3 import adapter_cost

        return adapter_cost.main("ksim/Humanoid-v0", args.num_envs or 2048, args.pairs)
    plan = Plan(
        folder=args.out,
        tasks=tuple(args.tasks),
        contestants=tuple(args.contestants),
        num_seeds=args.seeds,
        env_steps=args.env_steps,
        num_evaluations=args.evaluations,
        num_episodes=args.episodes,
        num_envs=args.num_envs,
        num_threads=args.num_threads,
        num_iterations=args.iterations,
    )
    if args.list:
        show(plan)
        return 0
    failed = [] if args.report_only else run_all(plan)
    print(f"\n{report.write(plan, args.report or args.out)}")
    for name in failed:
        print(f"FAILED: {name}")
    return int(bool(failed))


def run_all(plan: Plan) -> list[str]:
    """Run every job that has not ended, and return the names of those that failed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # which ends the job too
    facts, failed = machine(), list[str]()

    def run(job: Job | None, words: str) -> None:
        if job is None or job.result(plan.folder) is not None:
            return
        print(f"{job.task}, {CONTESTANTS[job.contestant].label}, {words}", flush=True)
        if not jobs.run(job, plan.folder, facts):
            failed.append(f"{job.task} {job.name}")

    with lock(plan.folder):
        for sweep in plan.sweeps():
            run(sweep, "looking for its fastest setting")
        for seed, task, contestant in plan.entries():
            times = f"{minutes(plan.estimated_s(task, contestant))}; with all that is left {minutes(left_s(plan))}"
            run(plan.training(seed, task, contestant), f"seed {seed}: {times}")
    return failed


def left_s(plan: Plan) -> float | None:
    """Seconds of all trainings that have not ended; None if some cannot be estimated."""
    times = [
        plan.estimated_s(task, contestant)
        for seed, task, contestant in plan.entries()
        if not is_done(plan, seed, task, contestant)
    ]
    return None if None in times else sum(time for time in times if time is not None)


def is_done(plan: Plan, seed: int, task: str, contestant: str) -> bool:
    """Whether a training has ended."""
    training = plan.training(seed, task, contestant)
    return training is not None and training.result(plan.folder) is not None


def minutes(seconds: float | None) -> str:
    """About how long."""
    return "? min" if seconds is None else f"about {seconds / 60:,.1f} min"


def show(plan: Plan) -> None:
    """Print a line for each training."""
    for seed, task, contestant in plan.entries():
        state = "done" if is_done(plan, seed, task, contestant) else minutes(plan.estimated_s(task, contestant))
        print(f"{task:12} {contestant:12} seed {seed}  {plan.budget(task, contestant):12,} env steps  {state}")
    print(f"left: {minutes(left_s(plan))}")


def parsed() -> argparse.Namespace:
    """The options; where none is given, those of a quick benchmark or of a full one."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark_sb3",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="short trainings of one task, one seed, no search")
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--env-steps", type=int, help="of every training")
    parser.add_argument("--evaluations", type=int, help="of a training")
    parser.add_argument("--episodes", type=int, help="of an evaluation")
    parser.add_argument("--num-envs", type=int, help="instead of the fastest")
    parser.add_argument("--num-threads", type=int, help="torch's, instead of the fastest")
    parser.add_argument("--iterations", type=int, help="to time in each setting")
    parser.add_argument("--out", type=Path, help="a folder for what is measured")
    parser.add_argument("--report", type=Path, help="another folder for the report")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--adapter-cost", action="store_true")
    parser.add_argument("--pairs", type=int, default=200, help="of steps, to measure the adapter's cost")
    args = parser.parse_args()
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


if __name__ == "__main__":
    sys.exit(main())
