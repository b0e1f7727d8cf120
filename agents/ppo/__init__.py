"""PPO that runs on the device from physics to gradient step: `train` a policy, `load` one that was trained."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agents.ppo.config import PPOConfig
from agents.ppo.presets import preset

if TYPE_CHECKING:
    from agents.ppo.policy import Policy, PolicyState
    from agents.ppo.run import Result, train
    from agents.ppo.saved import load, read_settings

__all__ = ["PPOConfig", "Policy", "PolicyState", "Result", "load", "preset", "read_settings", "train"]

_LAZY = {
    "Policy": "policy",
    "PolicyState": "policy",
    "Result": "run",
    "load": "saved",
    "read_settings": "saved",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    """Load a public name that needs JAX when it is first used."""
    if name in _LAZY:
        return getattr(import_module(f"agents.ppo.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'agents.ppo' has no attribute {name!r}")
