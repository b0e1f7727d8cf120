"""PPO in one file, in the manner of CleanRL, on torch tensors that never leave the device.

    python -m scripts.examples.ppo_torch --env-id ksim/Hopper-v0 --num-envs 512

Observations are normalized, and at a time limit the value of the episode's true last observation is bootstrapped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Normal

import ksim_envs


@dataclass
class Args:
    """Settings."""

    env_id: str = "ksim/Hopper-v0"
    num_envs: int = 512
    num_steps: int = 32
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
    envs = ksim_envs.make(
        args.env_id, args.num_envs, output="torch", autoreset_mode="same_step", stagger_first_episodes=True
    )
    num_obs, num_actions = map(gym.spaces.flatdim, (envs.single_observation_space, envs.single_action_space))
    agent = Agent(num_obs, num_actions).to(envs.device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    obs, _ = envs.reset(seed=args.seed)
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
                next_obs, reward, terminated, truncated, info = envs.step(action)
                # the last observation of an episode that ended, else the same as next_obs
                _, next_value = agent(info["final_obs"])
                log_prob = policy.log_prob(action).sum(-1)
                ended = terminated | truncated
                # a step whose physics failed, with reward 0, is nothing to learn from
                counts = ~info["final_info"]["diverged"]
                steps.append((obs, action, log_prob, value, reward, next_value, terminated, ended, counts))
                episode_returns.append(info["final_info"]["episode_return"])
                obs = next_obs
        *data, counts = [torch.stack(leaves) for leaves in zip(*steps, strict=True)]
        advantages = estimate_advantages(args, *data[3:])
        dataset = [leaf[counts] for leaf in (*data[:3], advantages, advantages + data[3])]
        learn(args, agent, optimizer, dataset)
        agent.observe(dataset[0])
        ended_returns = torch.stack(episode_returns)[data[-1] & counts]
        returns = ended_returns.mean().item() if len(ended_returns) else returns
        num_steps = iteration * args.num_envs * args.num_steps
        print(f"{num_steps:10,} steps, return {returns:8.1f}, {num_steps / (time.time() - started):8,.0f} steps/s")
    envs.close()
    return returns


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
        for index in torch.randperm(len(dataset[0]), device=dataset[0].device).chunk(args.num_minibatches):
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
