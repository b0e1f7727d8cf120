"""skrl's PPO on our envs, in torch.

python -m scripts.examples.ppo_skrl --env-id ksim/Hopper-v0 --num-envs 512
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro
from skrl.agents.torch.base import ExperimentCfg
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.memories.torch import RandomMemory
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.model_instantiators.torch import deterministic_model, gaussian_model

import ksim_envs
from ksim_envs.adapters.skrl import wrap_env


@dataclass
class Args:
    """Settings."""

    env_id: str = "ksim/Hopper-v0"
    num_envs: int = 512
    num_steps: int = 32
    """Steps of each env in an iteration."""
    total_timesteps: int = 1_000_000
    learning_rate: float = 1e-3
    log_dir: str = "runs/skrl"
    seed: int = 0


def main(args: Args) -> None:
    """Train; checkpoints and TensorBoard's events are in `log_dir`."""
    set_seed(args.seed)
    env = wrap_env(ksim_envs.make(args.env_id, args.num_envs, stagger_first_episodes=True), "torch")
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [128, 128], "activations": "elu"}]
    models: dict[str, Any] = {
        "policy": gaussian_model(**spaces, network=network, output="ACTIONS", initial_log_std=-0.5),
        "value": deterministic_model(**spaces, network=network, output="ONE"),
    }
    agent = PPO(
        models=models,
        memory=RandomMemory(memory_size=args.num_steps, num_envs=args.num_envs, device=env.device),
        cfg=PPO_CFG(
            rollouts=args.num_steps,
            learning_epochs=5,
            mini_batches=4,
            learning_rate=args.learning_rate,
            time_limit_bootstrap=True,
            observation_preprocessor=RunningStandardScaler,
            observation_preprocessor_kwargs={"size": env.observation_space, "device": env.device},
            value_preprocessor=RunningStandardScaler,
            value_preprocessor_kwargs={"size": 1, "device": env.device},
            experiment=ExperimentCfg(directory=args.log_dir, write_interval=args.num_steps),
        ),
        **spaces,
    )
    trainer = SequentialTrainer(
        cfg={"timesteps": args.total_timesteps // args.num_envs, "headless": True}, env=env, agents=agent
    )
    trainer.train()


if __name__ == "__main__":
    main(tyro.cli(Args))
