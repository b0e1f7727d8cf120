"""Watching a policy in MuJoCo's interactive viewer."""

from __future__ import annotations

import contextlib
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import mujoco

import ksim_envs
from ksim_envs.errors import RenderError
from ksim_envs.render.platforms import has_display

if TYPE_CHECKING:
    from agents.ppo.config import PPOConfig
    from agents.ppo.policy import Policy


def play(policy: Policy, task_id: str, *, config: PPOConfig, seed: int = 0) -> None:
    """Let a policy act in real time, episode after episode, until the window is closed.

    Args:
        policy: what acts.
        task_id: the env.
        config: its dynamics are the env's.
        seed: of the first episode.

    Raises:
        RenderError: there is no display, or MuJoCo's viewer cannot be opened.
    """
    if not has_display():
        raise RenderError("there is no display (DISPLAY is not set); record a video instead: ksim video RUN_DIR.")
    task = ksim_envs.get_task(task_id).hardest
    with contextlib.closing(ksim_envs.KsimEnv(task, dynamics=config.dynamics)) as env:
        data = mujoco.MjData(env.mj_model)
        with _viewer(env.mj_model, data) as viewer:
            period = 1.0 / env.metadata["render_fps"]
            obs, _ = env.reset(seed=seed)
            policy.reset()
            while viewer.is_running():
                next_frame = time.monotonic() + period
                obs, _, terminated, truncated, _ = env.step(policy(obs))
                if terminated or truncated:
                    obs, _ = env.reset()
                    policy.reset()
                for name, value in env.physics_state().items():
                    setattr(data, name, value)
                mujoco.mj_forward(env.mj_model, data)
                viewer.sync()
                time.sleep(max(0.0, next_frame - time.monotonic()))


def _viewer(model: mujoco.MjModel, data: mujoco.MjData) -> Any:
    """The window; on macOS there is one only under `mjpython`."""
    try:
        viewers: Any = import_module("mujoco.viewer")
        return viewers.launch_passive(model, data)
    except (ImportError, RuntimeError) as error:
        raise RenderError(f"MuJoCo's viewer does not open: {error} Or record a video: ksim video RUN_DIR.") from error
