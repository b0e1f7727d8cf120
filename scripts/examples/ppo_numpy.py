"""PPO in one file, in the manner of CleanRL, on NumPy arrays: for our envs and for Gymnasium's own.

    python -m scripts.examples.ppo_numpy --env-id ksim_envs:ksim/Hopper-v0
    python -m scripts.examples.ppo_numpy --env-id Hopper-v5

The two differ in nothing but the id: both reset an env in the step after the one that ended its episode, Gymnasium's
default. So what a step shows is always what the action led to, whose value is bootstrapped at a time limit; and the
step that only resets, whose action goes nowhere, is left out of the loss, as is one in which an env's physics diverged.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor, nn
from torch.distributions import Normal


@dataclass
class Args:
    """Settings."""

    env_id: str = "ksim_envs:ksim/Hopper-v0"
    num_envs: int = 64
    num_steps: int = 64
    """Steps of each env in an iteration."""
    total_timesteps: int = 1_000_000
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    num_minibatches: int = 8
    update_epochs: int = 4
    clip_coef: float = 0.2
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    reward_scale: float = 0.1
    seed: int = 0


class Agent(nn.Module):
    """A Gaussian policy and a value function, on normalized observations."""

    def __init__(self, num_obs: int, num_actions: int) -> None:
        super().__init__()
        self.critic = mlp(num_obs, 1, gain=1.0)
        self.actor = mlp(num_obs, num_actions, gain=0.01)
        self.log_std = nn.Parameter(torch.full((num_actions,), -0.5))
        self.register_buffer("mean", torch.zeros(num_obs))
        self.register_buffer("var", torch.ones(num_obs))
        self.register_buffer("count", torch.tensor(1e-4))

    def observe(self, obs: Tensor) -> None:
        """Take a batch into the running mean and variance (Chan et al. 1979)."""
        var, mean = torch.var_mean(obs, dim=0, correction=0)
        total = self.count + len(obs)
        delta = mean - self.mean
        self.var = (self.var * self.count + var * len(obs) + delta**2 * self.count * len(obs) / total) / total
        self.mean = self.mean + delta * len(obs) / total
        self.count = total

    def forward(self, obs: Tensor) -> tuple[Normal, Tensor]:
        """The distribution of the actions, and the value."""
        seen = ((obs - self.mean) / (self.var + 1e-8).sqrt()).clamp(-10, 10)
        return Normal(self.actor(seen), self.log_std.exp()), self.critic(seen).squeeze(-1)


def mlp(num_in: int, num_out: int, gain: float) -> nn.Sequential:
    """Two hidden layers, initialized orthogonally."""
    layers = [nn.Linear(num_in, 64), nn.Linear(64, 64), nn.Linear(64, num_out)]
    for layer, one in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, one)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def main(args: Args) -> float:
    """Train, and return the mean return of the last episodes."""
    torch.manual_seed(args.seed)
    envs = RecordEpisodeStatistics(gym.make_vec(args.env_id, args.num_envs))
    space = envs.single_action_space
    assert isinstance(space, gym.spaces.Box)
    low, high = tensor(space.low), tensor(space.high)
    agent = Agent(gym.spaces.flatdim(envs.single_observation_space), len(low))
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    obs = tensor(envs.reset(seed=args.seed)[0])
    ended = torch.zeros(args.num_envs, dtype=torch.bool)
    num_iterations = args.total_timesteps // (args.num_envs * args.num_steps)
    returns, started = float("nan"), time.time()
    for iteration in range(1, num_iterations + 1):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - (iteration - 1) / num_iterations)
        steps: list[tuple[Tensor, ...]] = []
        episode_returns: list[Tensor] = []
        with torch.no_grad():
            for _ in range(args.num_steps):
                policy, value = agent(obs)
                action = policy.sample()
                array, reward, terminated, truncated, info = envs.step(action.clamp(low, high).numpy())
                next_obs, only_resets, ended = tensor(array), ended, torch.tensor(terminated | truncated)
                if ended.any():
                    episode_returns.append(tensor(info["episode"]["r"])[ended])
                _, next_value = agent(next_obs)
                log_prob = policy.log_prob(action).sum(-1)
                is_dropped = only_resets | torch.tensor(info.get("diverged", np.zeros(args.num_envs, bool)))
                flags = torch.tensor(terminated), ended, is_dropped
                steps.append((obs, action, log_prob, value, tensor(reward), next_value, *flags))
                obs = next_obs
        *data, is_dropped = [torch.stack(leaves) for leaves in zip(*steps, strict=True)]
        advantages = estimate_advantages(args, *data[3:])
        dataset = [leaf[~is_dropped] for leaf in (*data[:3], advantages, advantages + data[3])]
        learn(args, agent, optimizer, dataset)
        agent.observe(dataset[0])
        returns = torch.cat(episode_returns).mean().item() if episode_returns else returns
        num_steps = iteration * args.num_envs * args.num_steps
        print(f"{num_steps:10,} steps, return {returns:8.1f}, {num_steps / (time.time() - started):8,.0f} steps/s")
    envs.close()
    return returns


def tensor(array: np.ndarray) -> Tensor:
    """The array as a float32 tensor of its own."""
    return torch.tensor(array, dtype=torch.float32)


def estimate_advantages(
    args: Args, value: Tensor, reward: Tensor, next_value: Tensor, terminated: Tensor, ended: Tensor
) -> Tensor:
    """GAE (Schulman et al. 2016) over (T, E)."""
    delta = args.reward_scale * reward + args.gamma * next_value * ~terminated - value
    advantages, last = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        advantages[t] = last = delta[t] + args.gamma * args.gae_lambda * last * ~ended[t]
    return advantages


def learn(args: Args, agent: Agent, optimizer: torch.optim.Optimizer, dataset: list[Tensor]) -> None:
    """Some epochs of PPO's clipped loss."""
    for _ in range(args.update_epochs):
        for index in torch.randperm(len(dataset[0])).chunk(args.num_minibatches):
            obs, action, old_log_prob, advantage, target = (leaf[index] for leaf in dataset)
            policy, value = agent(obs)
            ratio = (policy.log_prob(action).sum(-1) - old_log_prob).exp()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
            policy_loss = -torch.min(advantage * ratio, advantage * clipped).mean()
            loss = policy_loss + args.vf_coef * (value - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
            optimizer.step()


if __name__ == "__main__":
    main(tyro.cli(Args))
