"""PPO of SB3 or SBX, on Gymnasium's envs or on ours through the adapter, with SB3's own normalization."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize

from scripts.benchmark_sb3.contestants import Listener, Policy, Recipe
from scripts.benchmark_sb3.settings import Hyperparameters, gymnasium_id, ksim_id

NUM_RANDOM_ACTIONS = 64


class SB3Learner:
    """A `Learner`."""

    def __init__(self, recipe: Recipe, *, algorithm: type[Any], make_envs: Callable[[Recipe], VecEnv]) -> None:
        """Make envs and networks.

        Args:
            recipe: which.
            algorithm: SB3's or SBX's PPO.
            make_envs: one of `VEC_ENVS`.
        """
        settings = recipe.hyperparameters
        assert settings is not None and recipe.num_envs is not None
        self._env_steps = recipe.env_steps
        self._envs = make_envs(recipe)
        self._normalized = VecNormalize(self._envs, gamma=settings.gamma)
        self._model = algorithm(
            "MlpPolicy",
            self._normalized,
            n_steps=settings.dataset_size // recipe.num_envs,
            batch_size=settings.minibatch_size,
            n_epochs=settings.num_epochs,
            learning_rate=_schedule(settings),
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_ratio,
            ent_coef=settings.entropy_coef,
            vf_coef=settings.value_loss_coef,
            max_grad_norm=settings.max_grad_norm,
            policy_kwargs=_policy(settings, self._envs.action_space, is_torch=algorithm is PPO),
            seed=recipe.seed,
            device="cpu",
        )

    def train(self, listener: Listener) -> None:
        """Train from the beginning to the end of the budget."""
        self._model.learn(self._env_steps, callback=_Reporter(listener))

    def policy(self) -> Policy:
        """The policy as it is, without noise, with the statistics of the observations as they are."""
        return lambda obs_EL: self._model.predict(self._normalized.normalize_obs(obs_EL), deterministic=True)[0]

    def step_rate(self, seconds: float) -> float:
        """Env steps per second of the envs alone, not normalized."""
        num_envs, space = self._envs.num_envs, self._envs.action_space
        shape = (NUM_RANDOM_ACTIONS, num_envs, *(space.shape or ()))
        actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)  # type: ignore[attr-defined]
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


class _Reporter(BaseCallback):
    """Tells a listener of iterations: SB3 says when a rollout begins and ends, and when training does."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self._is_collected = False

    def _on_rollout_start(self) -> None:
        if self._is_collected:
            self._listener.learned(self.num_timesteps)

    def _on_rollout_end(self) -> None:
        self._is_collected = True
        self._listener.collected()

    def _on_training_end(self) -> None:
        self._listener.learned(self.num_timesteps)

    def _on_step(self) -> bool:
        return True


def _dummy(recipe: Recipe) -> VecEnv:
    assert recipe.num_envs is not None
    return make_vec_env(gymnasium_id(recipe.task), recipe.num_envs, seed=recipe.seed, vec_env_cls=DummyVecEnv)


def _subproc(recipe: Recipe) -> VecEnv:
    assert recipe.num_envs is not None
    # Not "forkserver": the time that its workers take would not be counted as this process's, but as others'.
    return make_vec_env(
        gymnasium_id(recipe.task),
        recipe.num_envs,
        seed=recipe.seed,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": "spawn"},
    )


def _ksim(recipe: Recipe) -> VecEnv:
    from ksim_envs.adapters.sb3 import KsimVecEnv

    envs = KsimVecEnv(
        gym.make(f"ksim_envs:{ksim_id(recipe.task)}", num_envs=recipe.num_envs, stagger_first_episodes=True)  # type: ignore[arg-type]
    )
    envs.seed(recipe.seed)
    return envs


VEC_ENVS: dict[str, Callable[[Recipe], VecEnv]] = {"dummy": _dummy, "subproc": _subproc, "ksim": _ksim}


def _schedule(settings: Hyperparameters) -> Callable[[float], float]:
    """The learning rate for a share of the training that remains."""
    first, last = settings.learning_rate, settings.final_learning_rate
    return lambda remaining: last + (first - last) * max(remaining, 0.0)


def _policy(settings: Hyperparameters, actions: gym.Space[Any], *, is_torch: bool) -> dict[str, Any]:
    assert isinstance(actions, gym.spaces.Box)
    if is_torch:
        from torch import nn

        activation: Any = {"tanh": nn.Tanh, "relu": nn.ReLU}[settings.activation]
    else:
        from flax import linen

        activation = {"tanh": linen.tanh, "relu": linen.relu}[settings.activation]
    sizes = list(settings.hidden_sizes)
    return {
        "net_arch": {"pi": sizes, "vf": sizes},
        "activation_fn": activation,
        "ortho_init": settings.has_orthogonal_init,
        "log_std_init": math.log(settings.initial_std * float(actions.high[0])),
    }
