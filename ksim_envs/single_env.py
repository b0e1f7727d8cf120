"""`KsimEnv`: one environment as a plain Gymnasium `Env`. The same core with one row, whose axis is removed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from ksim_envs import dlpack
from ksim_envs.errors import InvalidSeedError, ResetNeededError
from ksim_envs.tasks.task import Task
from ksim_envs.types import Device, Info
from ksim_envs.vector_env import KsimVectorEnv


class KsimEnv(gym.Env[np.ndarray, np.ndarray]):
    """Any task, one env. Observations are float32 NumPy arrays; reward, flags and info are Python scalars (or arrays).

    Like any Gymnasium env it must be reset after an episode has ended; a step before that raises `ResetNeededError`.
    The core and the counts of faults are those of a batch: `gym.make` with `num_envs=1` gives one that has them.
    """

    def __init__(
        self,
        task: Task,
        *,
        backend: str = "auto",
        dynamics: str = "fast",
        episode_length: int | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        num_threads: int | None = None,
        device: Device | None = None,
    ) -> None:
        """Build the env. The arguments are those of `KsimVectorEnv`, and so are the errors.

        But with `"auto"` one env runs natively also where there is an accelerator, unless `device` names it: an
        accelerator is of use to many envs.
        """
        self._batch = KsimVectorEnv(
            task,
            1,
            backend="native" if backend == "auto" and device is None else backend,
            dynamics=dynamics,
            autoreset_mode=AutoresetMode.DISABLED,
            episode_length=episode_length,
            render_mode=render_mode,
            width=width,
            height=height,
            num_threads=num_threads,
            device=device,
        )
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self.metadata = {name: self._batch.metadata[name] for name in ("render_modes", "render_fps")}
        self.render_mode = render_mode

    @property
    def backend(self) -> str:
        """The physics engine in use."""
        return self._batch.backend

    @property
    def episode_length(self) -> int:
        """Control steps after which an episode is truncated."""
        return self._batch.episode_length

    @property
    def mj_model(self) -> Any:
        """The `MjModel` that is simulated."""
        return self._batch.mj_model

    @property
    def dt(self) -> float:
        """The control period in s."""
        return self._batch.dt

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Info]:
        """Begin a new episode.

        Args:
            seed: an integer in [0, 2**64); the episode is that of env 0 of a batch with this seed. None to go on.
            options: `"qpos"` (nq,) and `"qvel"` (nv,), the state to begin with.

        Returns:
            The observation (num_obs,), and info as `step` gives it, with rewards 0.

        Raises:
            KsimError: an argument cannot be used; nothing has changed.
        """
        if isinstance(seed, (list, tuple, np.ndarray)):
            raise InvalidSeedError(f"seed is {seed!r}; a single env takes one integer or None.")
        obs, info = self._batch.reset(seed=seed, options=options)
        super().reset(seed=None if seed is None else int(seed))
        return obs[0], _first(info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Info]:
        """One control step.

        Args:
            action: (num_actions,) numbers; clipped to the action space, as MuJoCo does.

        Returns:
            obs (num_obs,), reward, terminated, truncated, info.

        Raises:
            KsimError: the action cannot be used, or the env must be reset first; the env is as it was.
        """
        core = self._batch.core
        private = dlpack.private_actions(action, (core.num_actions,), "(num_actions,)", core.backend.device)
        try:
            obs, reward, terminated, truncated, info = self._batch.step(private[None])
        except ResetNeededError:
            raise ResetNeededError(
                "no episode has begun, or it has ended; call reset() before the next step."
            ) from None
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)

    def render(self) -> np.ndarray | None:
        """A frame, (height, width, 3) uint8; None without a render mode."""
        frames = self._batch.render()
        return None if frames is None else frames[0]

    def physics_state(self) -> dict[str, np.ndarray]:
        """`"qpos"` (nq,), `"qvel"` (nv,) and `"time"` (): NumPy copies at the engine's precision."""
        return {name: values[0] for name, values in self._batch.physics_state().items()}

    def close(self) -> None:
        """Release the state and the renderer. Closing twice is fine."""
        self._batch.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the recipe, like `KsimVectorEnv`."""
        self._batch.spec = self.spec
        return *self._batch.__reduce__()[:2], {"episode_length": self.episode_length}

    def __setstate__(self, settings: dict[str, Any]) -> None:
        """Take over the episode length, which may be that of a `TimeLimit` around the other env."""
        self._batch.episode_length = settings["episode_length"]


def _first(info: Info) -> Info:
    """The first env's values: scalars as Python scalars."""
    return {name: value[0].item() if value.ndim == 1 else value[0] for name, value in info.items()}
