"""A video of a policy in one of our envs."""

from __future__ import annotations

import contextlib
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ksim_envs

if TYPE_CHECKING:
    from agents.ppo.config import PPOConfig
    from agents.ppo.policy import Policy


def record(policy: Policy, task_id: str, path: Path, *, config: PPOConfig, num_steps: int = 500, seed: int = 0) -> Path:
    """Record one episode as MP4, in real time.

    Args:
        policy: what acts.
        task_id: the env.
        path: the file to write; its folder is made if need be.
        config: its dynamics are the env's.
        num_steps: the most control steps to show.
        seed: of the env.

    Returns:
        The path.

    Raises:
        RenderError: there is no GL library; the message names the remedy.
    """
    task = ksim_envs.get_task(task_id).hardest
    env = ksim_envs.KsimEnv(task, render_mode="rgb_array", dynamics=config.dynamics)
    imageio: Any = import_module("imageio")  # its types do not tell what a writer can do
    with contextlib.closing(env):
        stride = max(1, round(env.metadata["render_fps"] / 30))  # drawn without a GPU, a frame takes up to 0.1 s
        frames_per_s = env.metadata["render_fps"] / stride
        obs, _ = env.reset(seed=seed)
        policy.reset()
        first_frame = env.render()  # before the file is made: without GL there is none
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), imageio.get_writer(path, fps=frames_per_s, macro_block_size=1) as writer:
            # the encoder is a process of its own, forked before JAX could be harmed
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            writer.append_data(first_frame)
            for step in range(1, num_steps + 1):
                obs, _, terminated, truncated, _ = env.step(policy(obs))
                if step % stride == 0:
                    writer.append_data(env.render())
                if terminated or truncated:
                    break
    policy.reset()
    return path
