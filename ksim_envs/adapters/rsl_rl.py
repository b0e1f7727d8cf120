"""rsl_rl 5: the batch as its `VecEnv`, in torch tensors that never leave the device.

    from rsl_rl.runners import OnPolicyRunner
    from ksim_envs.adapters.rsl_rl import RslRlVecEnv

    env = RslRlVecEnv(gym.make("ksim_envs:ksim/Ant-v0", num_envs=4096), privileged=("x_velocity",))
    OnPolicyRunner(env, config, device=env.device).learn(1000, init_at_random_ep_len=True)

The observation groups are `"policy"` and, with `privileged` metrics, `"critic"`.
"""

# The runner assigns to what it declares as variables; here they are properties of the batch.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ksim_envs.adapters import check_prepared, prepared, seen_by_critic
from ksim_envs.errors import MissingDependencyError
from ksim_envs.types import Info
from ksim_envs.vector_env import KsimVectorEnv

try:
    import torch
    from rsl_rl.env import VecEnv
    from tensordict import TensorDict
except ImportError as error:
    raise MissingDependencyError('ksim_envs.adapters.rsl_rl needs rsl_rl: pip install "ksim-envs[rsl-rl]".') from error


@dataclass(frozen=True)
class EnvConfig:
    """What rsl_rl logs about the envs."""

    id: str | None
    num_envs: int
    backend: str
    episode_length: int


class RslRlVecEnv(VecEnv):
    """A batch of envs for rsl_rl, which values a time-out (`time_outs`) by the observation before the last step.

    A row whose physics diverged counts as one of these; it is reset, and training goes on.

    Attributes:
        env: the batch.
    """

    def __init__(self, env: KsimVectorEnv, *, seed: int | None = None, privileged: Sequence[str] = ()) -> None:
        """Wrap a batch and reset it, as rsl_rl never does.

        Args:
            env: the batch, whose auto-reset mode and output this sets.
            seed: of the reset.
            privileged: names of metrics of the task that the critic sees behind the observations.

        Raises:
            InvalidConfigError: it is no batch of ours.
            UnknownNameError: the task has no such metric.
        """
        self.env = env = prepared(env, "torch", privileged)
        self._privileged = tuple(privileged)
        self.num_envs, self.num_actions = env.num_envs, env.core.num_actions
        self.device = env.device
        self.cfg = EnvConfig(env.spec.id if env.spec else None, env.num_envs, env.backend, env.episode_length)
        self.reset(seed=seed)

    @property
    def unwrapped(self) -> RslRlVecEnv:
        """This env."""
        return self

    @property
    def step_dt(self) -> float:
        """The control period in s."""
        return self.env.dt

    @property
    def max_episode_length(self) -> int:
        """Control steps after which an episode is truncated."""
        return self.env.episode_length

    @property
    def episode_length_buf(self) -> torch.Tensor:
        """(num_envs,) int64: the env's `episode_steps`; a copy. To move time limits, assign to the whole."""
        return torch.as_tensor(self.env.episode_steps, dtype=torch.long, device=self.device)

    @episode_length_buf.setter
    def episode_length_buf(self, value: torch.Tensor) -> None:
        self.env.episode_steps = value.cpu().numpy()

    def reset(self, *, seed: int | None = None) -> TensorDict:
        """Begin a new episode in every env."""
        self._observations = self._grouped(*self.env.reset(seed=seed))
        return self._observations

    def get_observations(self) -> TensorDict:
        """The current observations; this neither steps nor resets."""
        return self._observations

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """One control step of every env.

        Args:
            actions: (num_envs, num_actions); clipped to the action space.

        Returns:
            Observation groups, reward (num_envs,), dones (num_envs,) int64, and extras: `time_outs` (num_envs,) bool,
            and `log` with the means of the reward terms, and the share of rows that diverged.
        """
        check_prepared(self.env, "torch")
        obs, reward, terminated, truncated, info = self.env.step(actions.detach())
        self._observations = self._grouped(obs, info)
        final = info["final_info"]
        log = {f"Reward/{name}": final[name].mean() for name in self.env.core.task.rewards}
        log["Fault/diverged"] = final["diverged"].float().mean()
        extras = {"time_outs": truncated & ~terminated, "log": log}
        return self._observations, reward, (terminated | truncated).long(), extras

    def close(self) -> None:
        """Close the batch."""
        self.env.close()

    def _grouped(self, obs: torch.Tensor, info: Info) -> TensorDict:
        groups = {"policy": obs}
        if self._privileged:
            groups["critic"] = seen_by_critic(torch.cat, obs, info, self._privileged)
        return TensorDict(groups, batch_size=[self.num_envs], device=self.device)
