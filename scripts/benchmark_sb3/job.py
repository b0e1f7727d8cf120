"""The process of one job: `python -m scripts.benchmark_sb3.job JSON`, as `jobs.run` starts it."""

from __future__ import annotations

import json
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.jobs import Sweep, Training, hyperparameters_of, new_file
from scripts.benchmark_sb3.measure import Laps, Recorder, Row, Write, evaluate
from scripts.benchmark_sb3.settings import gymnasium_id

NUM_WARM_UPS = 2
"""Iterations of a sweep that are not timed: they compile, and ours learns nothing in its first."""
STEPPING_S = 2.0


def main() -> None:
    """Do the job, and write its file line by line."""
    words: dict[str, Any] = json.loads(sys.argv[1])
    job = {"Training": Training, "Sweep": Sweep}[words["kind"]](**words["job"])
    warnings.simplefilter("ignore")  # of the libraries, about themselves
    with new_file(Path(words["path"])) as write:
        write({"kind": "start", "settings": job.settings, "machine": words["machine"], "time": time.time()})
        if isinstance(job, Training):
            train(job, write)
        else:
            sweep(job, write)
        write({"kind": "end"})


def train(job: Training, write: Write) -> None:
    """Train and evaluate, then see how fast the envs alone are: by then all is compiled, and paid for."""
    make = CONTESTANTS[job.contestant].load()
    use_threads(job.num_threads)
    started = time.perf_counter()
    learner = make(job.recipe())

    def report(row: Row) -> None:
        write(row)
        left = row["seconds"] / row["env_steps"] * max(0, job.env_steps - row["env_steps"])
        print(
            f"    {row['env_steps']:,} of {job.env_steps:,} env steps in {row['seconds']:,.0f} s, "
            f"return {row['return_mean']:,.0f}, {left:,.0f} s left",
            flush=True,
        )

    recorder = Recorder(
        report,
        lambda: evaluate(gymnasium_id(job.task), learner.policy(), job.num_episodes),
        env_steps=job.env_steps,
        num_evaluations=job.num_evaluations,
        started=started,
    )
    learner.train(recorder)
    write({"kind": "envs", "setup_s": recorder.setup_s, "step_rate": learner.step_rate(STEPPING_S)})
    learner.close()


def sweep(job: Sweep, write: Write) -> None:
    """Train for some iterations in each setting."""
    make = CONTESTANTS[job.contestant].load()
    recipe = partial(Training, task=job.task, contestant=job.contestant, seed=0, num_evaluations=1, num_episodes=1)
    for num_envs in job.num_envs:
        hyperparameters = hyperparameters_of(job.task, job.contestant)
        dataset_size = hyperparameters.dataset_size if hyperparameters else preset_dataset_size(job.task)
        env_steps = (NUM_WARM_UPS + job.num_iterations) * dataset_size
        learner = make(recipe(num_envs=num_envs, num_threads=None, env_steps=env_steps).recipe())
        for num_threads in job.num_threads:
            use_threads(num_threads)
            laps = Laps()
            learner.train(laps)
            rates = [dataset_size / seconds for seconds in laps.seconds[NUM_WARM_UPS:]]
            write({"kind": "setting", "num_envs": num_envs, "num_threads": num_threads, "rates": rates})
        learner.close()


def use_threads(num_threads: int | None) -> None:
    """Let torch compute with so many."""
    if num_threads is not None:
        import torch

        torch.set_num_threads(num_threads)


def preset_dataset_size(task: str) -> int:
    """Env steps in one iteration of our preset."""
    from agents.ppo import preset
    from scripts.benchmark_sb3.settings import ksim_id

    return preset(ksim_id(task)).dataset_size


if __name__ == "__main__":
    main()
