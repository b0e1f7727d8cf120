"""PPO of SB3 or SBX, on Gymnasium's envs or on ours through the adapter, with SB3's own normalization."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize

from scripts.benchmark_sb3.jobs import Job
from scripts.benchmark_sb3.measure import Policy, Recorder
from scripts.benchmark_sb3.settings import Hyperparameters, gymnasium_id, ksim_id

NUM_RANDOM_ACTIONS = 64
SEED_STRIDE = 1000
"""SB3 gives env i the seed plus i: with strides, trainings of different seeds share no env's."""


class SB3Learner:
    """A `Learner`."""

    def __init__(self, job: Job) -> None:
        """Make envs and networks."""
        settings = Hyperparameters(**job.hyperparameters)
        self._env_steps = job.env_steps
        self._envs = _envs(job, settings)  # before torch and JAX have threads, which a fork would not copy
        if job.num_threads is not None:
            torch.set_num_threads(job.num_threads)
        self._normalized = VecNormalize(self._envs, gamma=settings.gamma)
        actions, sizes = self._envs.action_space, list(settings.hidden_sizes)
        assert isinstance(actions, gym.spaces.Box)
        algorithm, activations = self._algorithm()
        self._model = algorithm(
            "MlpPolicy",
            self._normalized,
            n_steps=settings.dataset_size // job.num_envs,
            batch_size=settings.minibatch_size,
            n_epochs=settings.num_epochs,
            learning_rate=_schedule(settings),
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_ratio,
            ent_coef=settings.entropy_coef,
            vf_coef=settings.value_loss_coef,
            max_grad_norm=settings.max_grad_norm,
            policy_kwargs={
                "net_arch": {"pi": sizes, "vf": sizes},
                "activation_fn": activations[settings.activation],
                "ortho_init": settings.has_orthogonal_init,
                "log_std_init": math.log(settings.initial_std * float(actions.high[0])),
            },
            seed=SEED_STRIDE * job.seed,
            device="cpu",
        )

    def train(self, recorder: Recorder) -> None:
        """Train from the beginning to the end of the budget."""
        self._model.learn(self._env_steps, callback=_Reporter(recorder))

    def policy(self) -> Policy:
        """The policy as it is, without noise, with the statistics of the observations as they are."""
        return lambda obs_EL: self._model.predict(self._normalized.normalize_obs(obs_EL), deterministic=True)[0]

    def step_rate(self, seconds: float) -> float:
        """Env steps per second of the envs alone, not normalized."""
        num_envs, space = self._envs.num_envs, self._envs.action_space
        assert isinstance(space, gym.spaces.Box)
        shape = (NUM_RANDOM_ACTIONS, num_envs, *space.shape)
        actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)
        self._envs.reset()
        self._envs.step(actions[0])
        num_steps, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            for action in actions:
                self._envs.step(action)
            num_steps += len(actions)
        return num_envs * num_steps / elapsed

    def close(self) -> None:
        """Close the envs."""
        self._envs.close()

    def _algorithm(self) -> tuple[Any, dict[str, Any]]:
        """PPO, and its activations by name."""
        return PPO, {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


class SBXLearner(SB3Learner):
    """A `Learner`."""

    def _algorithm(self) -> tuple[Any, dict[str, Any]]:
        from flax import linen
        from sbx import PPO

        return PPO, {"tanh": linen.tanh, "relu": linen.relu}


class _Reporter(BaseCallback):
    """Tells a recorder of iterations: SB3 says when a rollout begins and ends, and when training does."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._is_collected = False

    def _on_rollout_start(self) -> None:
        if self._is_collected:
            self._recorder.learned(self.num_timesteps)

    def _on_rollout_end(self) -> None:
        self._is_collected = True
        self._recorder.collected()

    def _on_training_end(self) -> None:
        self._recorder.learned(self.num_timesteps)

    def _on_step(self) -> bool:
        return True


def _envs(job: Job, settings: Hyperparameters) -> VecEnv:
    if job.envs == "dummy":
        return make_vec_env(gymnasium_id(job.task), job.num_envs, vec_env_cls=DummyVecEnv)
    if job.envs == "subproc":
        # The workers start at once, and the kernel counts their time as this process's: not so with "forkserver".
        options = {"start_method": "fork"}
        return make_vec_env(gymnasium_id(job.task), job.num_envs, vec_env_cls=SubprocVecEnv, vec_env_kwargs=options)
    from agents.ppo import PPOConfig
    from agents.ppo.run import training_task
    from ksim_envs import KsimVectorEnv
    from ksim_envs.adapters.sb3 import KsimVecEnv

    task = training_task(ksim_id(job.task), PPOConfig(contact_spread=settings.contact_spread))
    dynamics = "gymnasium" if job.envs == "ksim_gymnasium" else "fast"
    return KsimVecEnv(KsimVectorEnv(task, job.num_envs, dynamics=dynamics, stagger_first_episodes=True))


def _schedule(settings: Hyperparameters) -> Callable[[float], float]:
    """The learning rate for a share of the training that remains."""
    first, last = settings.learning_rate, settings.final_learning_rate
    return lambda remaining: last + (first - last) * max(remaining, 0.0)
