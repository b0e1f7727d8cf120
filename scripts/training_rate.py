"""Env steps per second of whole training loops, in one run: our PPO, and SB3's on Gymnasium's own env.

    python -m scripts.training_rate --id ksim/Humanoid-v0

Both have the same network sizes, dataset and epochs. SB3 has 64 envs and minibatches of 1,024, its best setting on two
cores; ours has the task's preset. The bare physics engine takes part too: it replays the physics of our rollout, and is
what our rollout can at best come near to. Contestants take turns; the median round counts, and the median ratio.
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
import jax.numpy as jnp
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from agents.ppo import preset
from agents.ppo.config import PPOConfig
from agents.ppo.distributions import DISTRIBUTIONS, in_control_units
from agents.ppo.run import training_task
from agents.ppo.trainer import Trainer
from ksim_envs import gymnasium_id, make_functional
from ksim_envs.bench import bare_engine

OURS, ROLLOUT, BARE = "ours", "ours, rollout", "bare engine, same physics"
"""What is measured of our loop."""
SB3_NUM_ENVS, SB3_MINIBATCH = 64, 1024


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--id", default="ksim/Humanoid-v0")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = preset(args.id)
    contestants = [our_loop(args.id, config)]
    if name := gymnasium_id(args.id):
        contestants += [
            sb3_loop(name, config, "SB3, DummyVecEnv", DummyVecEnv),
            sb3_loop(name, config, "SB3, SubprocVecEnv", SubprocVecEnv),
        ]
    rates: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for contestant in contestants:
            for name, rate in next(contestant).items():
                rates.setdefault(name, []).append(rate)
    for name, values in rates.items():
        ours = rates[ROLLOUT if name == BARE else OURS]
        ratio = statistics.median(our / its for our, its in zip(ours, values, strict=True))
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"{name:30} {statistics.median(values):10,.0f} env steps/s   ({spread})   ours / it {ratio:.2f}")
    return 0


def our_loop(task_id: str, config: PPOConfig) -> Iterator[dict[str, float]]:
    """One iteration after the other, as in a run: the rates of the whole, of collecting, and of its physics alone.

    In each turn the first is not timed: it finds the caches as another contestant left them.
    """
    trainer = Trainer(make_functional(training_task(task_id, config), config.num_envs, backend=config.backend), config)
    core, state = trainer.core, trainer.start()
    while True:
        state, _ = trainer.iterate(state)
        before = jax.tree.map(jnp.copy, state.actors.env_state)
        started = time.perf_counter()
        collected = jax.block_until_ready(trainer.collect(state))
        halfway = time.perf_counter()
        samples_TEA = jnp.copy(collected[1].sample_TEA)
        resumed = time.perf_counter()
        state, _ = jax.block_until_ready(trainer.learn(*collected))
        ended = time.perf_counter()
        actions_TEA = in_control_units(DISTRIBUTIONS[config.squash].action(samples_TEA), *core.action_bounds)
        prepare, run = bare_engine(core, before, actions_TEA)
        ready = prepare()
        replayed = time.perf_counter()
        run(ready)
        seconds = {
            OURS: halfway - started + ended - resumed,
            ROLLOUT: halfway - started,
            BARE: time.perf_counter() - replayed,
        }
        yield {name: config.dataset_size / value for name, value in seconds.items()}


def sb3_loop(env_id: str, config: PPOConfig, name: str, vec_env: type) -> Iterator[dict[str, float]]:
    """One rollout and update after the other."""

    def make_env() -> gym.Env[Any, Any]:
        return gym.make(env_id)

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
        yield {name: config.dataset_size / (time.perf_counter() - started)}


if __name__ == "__main__":
    sys.exit(main())
