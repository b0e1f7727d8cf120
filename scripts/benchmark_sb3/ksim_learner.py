"""Our PPO."""

from __future__ import annotations

import time
from typing import Any

import jax

from agents.ppo import PPOConfig
from agents.ppo.policy import Policy
from agents.ppo.run import training_task
from agents.ppo.trainer import Trainer
from ksim_envs import make_functional
from scripts.benchmark_sb3.contestants import CONTESTANTS
from scripts.benchmark_sb3.jobs import Job
from scripts.benchmark_sb3.measure import Recorder
from scripts.benchmark_sb3.settings import ksim_id


class KsimLearner:
    """A `Learner`."""

    def __init__(self, job: Job) -> None:
        """Make the envs; nothing is compiled yet."""
        task_id, config = ksim_id(job.task), config_of(job)
        core = make_functional(
            training_task(task_id, config), config.num_envs, backend=config.backend, dynamics=config.dynamics
        )
        self._trainer = Trainer(core, config)
        self._state: Any = None

    def train(self, recorder: Recorder) -> None:
        """Train from the beginning to the end of the budget; the first rollout only measures the observations."""
        trainer = self._trainer
        self._state = jax.block_until_ready(trainer.start())
        recorder.collected()
        recorder.learned(trainer.env_steps(self._state))
        while trainer.env_steps(self._state) < trainer.total_env_steps:
            collected = jax.block_until_ready(trainer.collect(self._state))
            recorder.collected()
            self._state, _ = jax.block_until_ready(trainer.learn(*collected))
            recorder.learned(trainer.env_steps(self._state))

    def policy(self) -> Policy:
        """The policy as it is, without noise."""
        return Policy(self._trainer.policies(self._state)[0])

    def step_rate(self, seconds: float) -> float:
        """Env steps per second of the functional core, in a compiled loop."""
        core, length = self._trainer.core, self._trainer.config.rollout_length
        low_A, high_A = core.action_bounds

        @jax.jit
        def run(state: Any, key: Any) -> Any:
            def step(state: Any, key: Any) -> tuple[Any, None]:
                action_EA = jax.random.uniform(key, (core.num_envs, core.num_actions), minval=low_A, maxval=high_A)
                return core.step(state, action_EA)[0], None

            return jax.lax.scan(step, state, jax.random.split(key, length))[0]

        key = jax.random.key(0)
        state = jax.block_until_ready(run(jax.jit(core.reset)(core.keys(0)), key))
        num_steps, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            state = jax.block_until_ready(run(state, jax.random.fold_in(key, num_steps)))
            num_steps += length
        return core.num_envs * num_steps / elapsed

    def close(self) -> None:
        """Nothing was started."""


def config_of(job: Job) -> PPOConfig:
    """The settings of a training."""
    known: dict[str, Any] = job.hyperparameters | {"seed": job.seed, "total_env_steps": job.env_steps}
    if CONTESTANTS[job.contestant].hyperparameters != "preset":
        del known["has_orthogonal_init"]  # ours always has it
        dataset_size, minibatch_size = known.pop("dataset_size"), known.pop("minibatch_size")
        known |= {
            "dynamics": "gymnasium" if job.envs == "ksim_gymnasium" else "fast",
            "num_env_states_per_minibatch": minibatch_size,
            "num_minibatches": dataset_size // minibatch_size,
        }
    return PPOConfig.from_dict(known)
