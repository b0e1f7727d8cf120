"""rl_games 1.6: the batch as its `IVecEnv`, in torch tensors that never leave the device.

    import ksim_envs.adapters.rl_games  # registers the env name "ksim"

and in the configuration of a run:

    config:
      env_name: ksim
      env_config: {id: ksim/Ant-v0, privileged: [x_velocity]}  # what else is here goes to gym.make
      device: cpu  # rl_games' own, "cuda:0" unless one says so

Where the policy is on another device than the envs, `env_config` names it too: `policy_device: cuda:0`.

The observations are what its policies see, and with `privileged` metrics the states for its `central_value_config`.
"""

# rl_games is not there where types are checked.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from ksim_envs.adapters import check_prepared, critic_space, prepared, seen_by_critic
from ksim_envs.errors import MissingDependencyError
from ksim_envs.types import Info

try:
    import torch
    from rl_games.common import env_configurations, vecenv
    from rl_games.common.ivecenv import IVecEnv
except ImportError as error:
    raise MissingDependencyError(
        'ksim_envs.adapters.rl_games needs rl_games: pip install "ksim-envs[rl-games]".'
    ) from error


class RlGamesVecEnv(IVecEnv):
    """A batch of envs for rl_games, which values a time-out (`time_outs`) by the observation before the last step.

    A row whose physics diverged counts as one of these; it is reset, and training goes on.

    Attributes:
        env: the batch.
    """

    def __init__(
        self,
        num_actors: int,
        *,
        id: str,
        seed: int | None = None,
        privileged: Sequence[str] = (),
        policy_device: str | None = None,
        **keywords: Any,
    ) -> None:
        """Make a batch.

        Args:
            num_actors: number of envs.
            id: of the task.
            seed: of the first reset.
            privileged: names of metrics of the task that a central value function sees behind the observations.
            policy_device: where tensors go to, as torch spells it; None for where the envs are.
            **keywords: of `gym.make`.

        Raises:
            KsimError: a name does not exist or a value is not allowed.
        """
        self.env = prepared(gym.make(id, num_envs=num_actors, **keywords).unwrapped, "torch", privileged)
        self._seed, self._privileged = seed, tuple(privileged)
        self._device = torch.device(policy_device or self.env.device)

    @property
    def observation_space(self) -> gym.Space[Any]:
        """One env's, for rl_games' player."""
        return self.env.single_observation_space

    @property
    def action_space(self) -> gym.Space[Any]:
        """One env's, for rl_games' player."""
        return self.env.single_action_space

    def reset(self) -> Any:
        """Begin a new episode in every env."""
        obs, info = self.env.reset(seed=self._seed)
        self._seed = None
        return self._grouped(obs, info)

    def step(self, actions: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor, Info]:
        """One control step of every env: observations, reward, whether the episode ended, and `time_outs`."""
        check_prepared(self.env, "torch")
        obs, reward, terminated, truncated, info = self.env.step(actions.detach().to(self.env.device))
        done, time_outs = terminated | truncated, truncated & ~terminated
        reward, done, time_outs = (leaf.to(self._device) for leaf in (reward, done, time_outs))
        return self._grouped(obs, info), reward, done, {"time_outs": time_outs}

    def get_env_info(self) -> Info:
        """The spaces of one env."""
        space = critic_space(self.env, self._privileged)
        states = {} if space is None else {"state_space": space}
        return {"observation_space": self.observation_space, "action_space": self.action_space, **states}

    def render(self, mode: str | None = None) -> Any:
        """Frames of the first envs; what is asked for is always `"rgb_array"`, as no window is opened."""
        return self.env.render()

    def close(self) -> None:
        """Close the batch."""
        self.env.close()

    def _grouped(self, obs: torch.Tensor, info: Info) -> Any:
        if not self._privileged:
            return obs.to(self._device)
        states = seen_by_critic(torch.cat, obs, info, self._privileged)
        return {"obs": obs.to(self._device), "states": states.to(self._device)}


vecenv.register("KSIM", lambda _, num_actors, **keywords: RlGamesVecEnv(num_actors, **keywords))
env_configurations.register(
    "ksim", {"vecenv_type": "KSIM", "env_creator": lambda **keywords: RlGamesVecEnv(1, **keywords)}
)
