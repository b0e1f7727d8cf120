"""Which jobs a benchmark has, in which order, and how long they will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agents.ppo import preset
from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.jobs import Row, Sweep, Training, best
from scripts.benchmark_sb3.settings import TASKS, ksim_id

OVERHEAD = 1.2
"""Of evaluations, on the seconds of a training."""
START_S = 20.0
"""Of a process: imports, compilation, and the envs' own rate."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked for."""

    folder: Path
    """Where the jobs' files are."""
    tasks: tuple[str, ...]
    contestants: tuple[str, ...]
    num_seeds: int
    env_steps: int | None
    """None for each task's."""
    num_evaluations: int
    num_episodes: int
    num_envs: int | None
    """None to measure which is fastest."""
    num_threads: int | None
    """The same for torch's threads."""
    num_iterations: int
    """Of a setting in that measurement."""

    def sweeps(self) -> Iterator[Sweep]:
        """Those that have anything to choose from."""
        for task in self.tasks:
            for contestant in self.contestants:
                sweep = self._sweep(task, contestant)
                if len(sweep.num_envs) * len(sweep.num_threads) > 1:
                    yield sweep

    def entries(self) -> Iterator[tuple[int, str, str]]:
        """Seed, task and contestant of every training, in the order in which they run.

        A machine that drifts then does so under all contestants, and whoever stops early has whole seeds.
        """
        for seed in range(self.num_seeds):
            for task in self.tasks:
                for contestant in self.contestants:
                    yield seed, task, contestant

    def training(self, seed: int, task: str, contestant: str) -> Training | None:
        """The job; None while its fastest setting is not known."""
        choice = self.choice(task, contestant)
        if choice is None:
            return None
        return Training(
            task=task,
            contestant=contestant,
            seed=seed,
            env_steps=self.budget(task, contestant),
            num_evaluations=self.num_evaluations,
            num_episodes=self.num_episodes,
            num_envs=choice["num_envs"],
            num_threads=choice["num_threads"],
        )

    def choice(self, task: str, contestant: str) -> Row | None:
        """`num_envs`, `num_threads`, and if it was measured the `rate`, of a contestant; None if it was not yet."""
        sweep = self._sweep(task, contestant)
        if len(sweep.num_envs) * len(sweep.num_threads) == 1:
            return {"num_envs": sweep.num_envs[0], "num_threads": sweep.num_threads[0]}
        rows = sweep.result(self.folder)
        return best(rows) if rows else None

    def budget(self, task: str, contestant: str) -> int:
        """Env steps of a training."""
        if contestant != "ksim_preset":
            return self.env_steps or TASKS[task].env_steps
        config = preset(ksim_id(task))
        return max(self.env_steps, 2 * config.dataset_size) if self.env_steps else config.total_env_steps

    def estimated_s(self, task: str, contestant: str) -> float | None:
        """Seconds of a training: those that one with another seed took, or what the rate lets expect."""
        for seed in range(self.num_seeds):
            training = self.training(seed, task, contestant)
            for row in (training and training.result(self.folder)) or []:
                if row["kind"] == "process":
                    return row["wall_s"]
        rate = (self.choice(task, contestant) or {}).get("rate")
        return rate and START_S + OVERHEAD * self.budget(task, contestant) / rate

    def _sweep(self, task: str, contestant: str) -> Sweep:
        known = CONTESTANTS[contestant]
        has_choice = len(known.num_envs) > 1
        uses_torch = known.num_threads != (None,)
        return Sweep(
            task=task,
            contestant=contestant,
            num_envs=(self.num_envs,) if self.num_envs and has_choice else known.num_envs,
            num_threads=(self.num_threads,) if self.num_threads and uses_torch else known.num_threads,
            num_iterations=self.num_iterations,
        )
