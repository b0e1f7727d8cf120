"""Env steps per second of whole training loops, in one run: our PPO, and SB3's on Gymnasium's own env.

    python -m scripts.training_rate --id ksim/Humanoid-v0

Both have the same network sizes, dataset and epochs. SB3 has 64 envs and minibatches of 1,024, its best setting on two
cores; ours has the task's preset. The bare physics engine takes part too: it replays what our envs did under random
actions, and is what our rollout can at best come near to. Contestants take turns; the median round counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import jax
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from agents.evaluate import gymnasium_id
from agents.ppo import preset
from agents.ppo.config import PPOConfig
from agents.ppo.run import training_task
from agents.ppo.trainer import Trainer
from ksim_envs import bench, make_functional

SB3_NUM_ENVS, SB3_MINIBATCH = 64, 1024


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--id", default="ksim/Humanoid-v0")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = preset(args.id)
    contestants = {
        "bare engine": bare_engine(args.id, config),
        "ours, whole loop": our_loop(args.id, config),
        "SB3, DummyVecEnv, whole loop": sb3_loop(args.id, config, DummyVecEnv),
        "SB3, SubprocVecEnv, whole loop": sb3_loop(args.id, config, SubprocVecEnv),
    }
    rates: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for name, contestant in contestants.items():
            for part, rate in next(contestant).items():
                rates.setdefault(f"{name}{part}", []).append(rate)
    ours = statistics.median(rates["ours, whole loop"])
    for name, values in rates.items():
        rate = statistics.median(values)
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"{name:40} {rate:10,.0f} env steps/s   ({spread})   ours / it {ours / rate:.2f}")
    return 0


def bare_engine(task_id: str, config: PPOConfig) -> Iterator[dict[str, float]]:
    """Physics alone."""
    settings = bench.BenchConfig(
        backend=config.backend,
        num_envs=(config.num_envs,),
        num_steps=config.rollout_length,
        num_rounds=1,
        opponents=False,
    )
    while True:
        (rows,) = bench.run((task_id,), settings)
        yield {"": next(row.steps_per_second for row in rows if row.contestant.startswith("bare engine"))}


def our_loop(task_id: str, config: PPOConfig) -> Iterator[dict[str, float]]:
    """One iteration after the other, as in a run: the rates of the whole, and of collecting alone.

    In each turn the first is not timed: it finds the caches as another contestant left them.
    """
    trainer = Trainer(make_functional(training_task(task_id, config), config.num_envs, backend=config.backend), config)
    state = trainer.start()
    while True:
        state, _ = trainer.iterate(state)
        started = time.perf_counter()
        collected = jax.block_until_ready(trainer.collect(state))
        halfway = time.perf_counter()
        state, _ = jax.block_until_ready(trainer.learn(*collected))
        ended = time.perf_counter()
        size = config.dataset_size
        yield {"": size / (ended - started), ": rollout": size / (halfway - started)}


def sb3_loop(task_id: str, config: PPOConfig, vec_env: type) -> Iterator[dict[str, float]]:
    """One rollout and update after the other."""

    def make_env() -> gym.Env[Any, Any]:
        return gym.make(gymnasium_id(task_id))

    makers: list[Callable[[], gym.Env[Any, Any]]] = [make_env] * SB3_NUM_ENVS
    envs = vec_env(makers) if vec_env is DummyVecEnv else vec_env(makers, start_method="forkserver")
    import torch

    sizes = list(config.hidden_sizes)
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=config.dataset_size // SB3_NUM_ENVS,
        batch_size=SB3_MINIBATCH,
        n_epochs=config.num_epochs,
        device="cpu",
        policy_kwargs={"net_arch": {"pi": sizes, "vf": sizes}, "activation_fn": torch.nn.SiLU},
    )
    while True:
        started = time.perf_counter()
        model.learn(config.dataset_size, reset_num_timesteps=False)
        yield {"": config.dataset_size / (time.perf_counter() - started)}


if __name__ == "__main__":
    sys.exit(main())
