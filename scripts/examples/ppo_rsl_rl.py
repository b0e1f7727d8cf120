"""rsl_rl's PPO on our envs, with all of the configuration that it needs.

    python -m scripts.examples.ppo_rsl_rl --env-id ksim/Hopper-v0 --num-envs 512

The actor sees the observations. The critic also sees what `privileged` names: metrics of the task, or `privileged` for
what the task declares as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import tyro
from rsl_rl.runners import OnPolicyRunner

import ksim_envs
from ksim_envs.adapters.rsl_rl import RslRlVecEnv


@dataclass
class Args:
    """Settings."""

    env_id: str = "ksim/Hopper-v0"
    num_envs: int = 512
    num_steps: int = 24
    """Steps of each env in an iteration."""
    total_timesteps: int = 1_000_000
    learning_rate: float = 1e-3
    privileged: tuple[str, ...] = ("x_velocity",)
    log_dir: str = "runs/rsl_rl"
    seed: int = 0


def main(args: Args) -> None:
    """Train; the model and TensorBoard's events are in `log_dir`."""
    torch.manual_seed(args.seed)
    env = RslRlVecEnv(ksim_envs.make(args.env_id, args.num_envs), seed=args.seed, privileged=args.privileged)
    runner = OnPolicyRunner(env, config(args), log_dir=args.log_dir, device=str(env.device))
    runner.learn(args.total_timesteps // (args.num_envs * args.num_steps), init_at_random_ep_len=True)
    runner.save(f"{args.log_dir}/model.pt")
    env.close()


def config(args: Args) -> dict[str, Any]:
    """What rsl_rl 5 asks for."""
    network = {"class_name": "MLPModel", "hidden_dims": [128, 128], "activation": "elu", "obs_normalization": True}
    return {
        "num_steps_per_env": args.num_steps,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["critic" if args.privileged else "policy"]},
        "actor": network | {"distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.5}},
        "critic": network,
        "algorithm": {
            "class_name": "PPO",
            "learning_rate": args.learning_rate,
            "entropy_coef": 0.0,
            "rnd_cfg": None,
            "symmetry_cfg": None,
        },
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
