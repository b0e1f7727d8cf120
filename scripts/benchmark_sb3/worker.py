"""The process of one job: `python -m scripts.benchmark_sb3.worker JOB`, as `jobs.run` starts it.

It loads the libraries of one contestant only, for they set threads and flags for all of a process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import warnings
from typing import Any

import mujoco

from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.jobs import Job, Row
from scripts.benchmark_sb3.measure import Learner, Recorder, evaluate
from scripts.benchmark_sb3.settings import gymnasium_id

LEARNERS = {"sb3": "sb3_learner.SB3Learner", "sbx": "sb3_learner.SBXLearner", "ksim": "ksim_learner.KsimLearner"}
STEPPING_S = 2.0


def main() -> None:
    """Train and evaluate, then see how fast the envs alone are: by then all is compiled, and paid for."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not for the pipe
    os.register_at_fork(after_in_child=pipe.close)  # or the envs' processes would keep it open if this one dies
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends workers of envs too
    warnings.simplefilter("ignore")  # of the libraries, about themselves
    mujoco.set_mju_user_warning(lambda _: None)  # of Gymnasium's model files

    def tell(row: Row) -> None:
        print(json.dumps(row), file=pipe)

    job = Job(**json.loads(sys.argv[1]))
    module, _, name = LEARNERS[CONTESTANTS[job.contestant].learner].partition(".")
    make: Any = getattr(importlib.import_module(f"scripts.benchmark_sb3.{module}"), name)
    started = time.perf_counter()
    learner: Learner = make(job)
    recorder = Recorder(
        job, lambda: evaluate(gymnasium_id(job.task), learner.policy(), job.num_episodes), tell, started=started
    )
    learner.train(recorder)
    tell({"setup_s": round(recorder.setup_s, 3)})
    if job.num_episodes:
        tell({"step_rate": round(learner.step_rate(STEPPING_S), 1)})
    learner.close()


if __name__ == "__main__":
    main()
