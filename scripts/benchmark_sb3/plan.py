"""Which jobs a benchmark has, in which order, and how long they will take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from agents.ppo import preset
from scripts.benchmark_sb3.contestants import CONTESTANTS, Setting
from scripts.benchmark_sb3.jobs import Job, Row
from scripts.benchmark_sb3.results import Results
from scripts.benchmark_sb3.settings import COMMON, TASKS, ksim_id

TRIAL_ENV_STEPS = 16_384
NUM_TRIAL_MARKS = 4
"""Times that a trial tells; what is before the first one is not counted."""
OVERHEAD = 1.2
"""Of evaluations, on the seconds of a training."""
START_S = 15.0
"""Of a process: imports, compilation, and the envs' own rate."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked for."""

    tasks: tuple[str, ...]
    contestants: tuple[str, ...]
    seeds: tuple[int, ...]
    env_steps: int | None
    """None for each task's."""
    num_evaluations: int
    num_episodes: int
    has_trials: bool
    """Whether contestants compete in their fastest setting, or in their first."""

    def jobs(self, results: Results) -> Iterator[Job]:
        """All jobs in the order in which they run.

        A machine that drifts does so under all contestants, and whoever stops early has whole tasks and seeds.
        """
        for task in self.tasks:
            for seed in self.seeds:
                for contestant in self.contestants:
                    if seed == self.seeds[0] and not self._settled(task, contestant, results):
                        yield from self.trials(task, contestant)
                    yield self.training(seed, task, contestant, results)

    def trials(self, task: str, contestant: str) -> list[Job]:
        """Short trainings, one in each setting, if there is anything to choose from."""
        settings = CONTESTANTS[contestant].settings if self.has_trials else ()
        return [_trial(task, contestant, setting) for setting in settings] if len(settings) > 1 else []

    def training(self, seed: int, task: str, contestant: str, results: Results) -> Job:
        """The training of a contestant, in the setting of one that is there, or in the fastest that was tried.

        So all seeds have one, also where a machine with other processors goes on.
        """
        if settled := self._settled(task, contestant, results):
            return replace(max(settled, key=lambda job: job.seed == seed), seed=seed)
        tried = [trial for trial in self.trials(task, contestant) if trial.key in results]
        fastest = max(
            tried,
            key=lambda trial: results[trial.key].relative_rate(),
            default=_trial(task, contestant, CONTESTANTS[contestant].settings[0]),
        )
        return self._training(seed, fastest)

    def has(self, job: Job) -> bool:
        """Whether a job is one of this plan, in whatever setting and with whatever seed."""
        if job.task not in self.tasks or job.contestant not in self.contestants:
            return False
        trial = _trial(job.task, job.contestant, Setting(envs=job.envs, num_threads=job.num_threads))
        return job == self._training(job.seed, trial) or (self.has_trials and job == trial)

    def trainings(self, results: Results) -> list[Job]:
        """The jobs that are no trials."""
        return [job for job in self.jobs(results) if job.num_episodes]

    def budget(self, task: str, contestant: str) -> int:
        """Env steps of a training."""
        if CONTESTANTS[contestant].hyperparameters != "preset":
            return self.env_steps or TASKS[task].env_steps
        config = preset(ksim_id(task))
        return max(self.env_steps, 2 * config.dataset_size) if self.env_steps else config.total_env_steps

    def _settled(self, task: str, contestant: str, results: Results) -> list[Job]:
        """The trainings of a contestant that are there: their setting is that of all others."""
        alike = [one.job for one in results.values() if (one.job.task, one.job.contestant) == (task, contestant)]
        return [job for job in alike if job.num_episodes and self.has(job)]

    def _training(self, seed: int, trial: Job) -> Job:
        """A whole training in a trial's setting."""
        return replace(
            trial,
            seed=seed,
            env_steps=self.budget(trial.task, trial.contestant),
            num_evaluations=self.num_evaluations,
            num_episodes=self.num_episodes,
        )


def estimated_s(job: Job, results: Results) -> float:
    """Seconds of a job: those that equal ones took, or what the best known rate lets expect."""
    alike = [one for one in results.values() if (one.job.task, one.job.contestant) == (job.task, job.contestant)]
    times = [one.wall_s for one in alike if one.job.env_steps == job.env_steps]
    if times:
        return float(np.median(times))
    guess = TASKS[job.task].usual_rate * CONTESTANTS[job.contestant].usual_speed
    rate = max((one.rates()["training"] for one in alike), default=guess)
    return START_S + OVERHEAD * job.env_steps / rate


def left_s(plan: Plan, results: Results) -> float:
    """Seconds of all jobs that are left."""
    return sum(estimated_s(job, results) for job in plan.jobs(results) if job.key not in results)


def _trial(task: str, contestant: str, setting: Setting) -> Job:
    return Job(
        task=task,
        contestant=contestant,
        envs=setting.envs,
        num_threads=setting.num_threads,
        hyperparameters=_hyperparameters(task, contestant, setting),
        seed=0,
        env_steps=TRIAL_ENV_STEPS,
        num_evaluations=NUM_TRIAL_MARKS,
        num_episodes=0,
    )


def _hyperparameters(task: str, contestant: str, setting: Setting) -> Row:
    """Those of a contestant, with what is needed to learn from our envs."""
    known, usual = CONTESTANTS[contestant], preset(ksim_id(task))
    if known.hyperparameters == "preset":
        return json.loads(json.dumps(usual.to_dict()))
    given = TASKS[task].published if known.hyperparameters == "zoo" else COMMON
    given = replace(
        given,
        contact_spread=usual.contact_spread if setting.envs == "ksim" else 0.0,
        reward_scale=usual.reward_scale if known.learner == "ksim" else None,
    )
    return json.loads(json.dumps(asdict(given)))
