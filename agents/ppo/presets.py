"""Settings for each task: what `ksim train ID` uses when no flag says otherwise."""

from __future__ import annotations

from typing import Any

from agents.ppo.config import PPOConfig

PRESETS: dict[str, dict[str, Any]] = {
    "ksim/Humanoid-v0": {"total_env_steps": 20_000_000, "contact_spread": 0.3},
    "ksim/Hopper-v0": {
        "total_env_steps": 6_000_000,
        "num_envs": 512,
        "contact_spread": 0.3,
        "gamma": 0.997,  # falling soon while jumping far is a trap for shorter horizons
        "reward_scale": 0.03,
    },
}
"""For each task, the settings that differ from the defaults."""


def preset(task_id: str) -> PPOConfig:
    """The settings of a task; the defaults for a task that has none of its own."""
    return PPOConfig(**PRESETS.get(task_id.rpartition(":")[2], {}))
