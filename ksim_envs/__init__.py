"""ksim_envs: vectorized robot environments on MuJoCo physics, as real Gymnasium environments.

    import gymnasium as gym
    import ksim_envs

    envs = gym.make("ksim/Humanoid-v0", num_envs=2048)
    obs, info = envs.reset(seed=0)
    obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())

Importing it registers the ids and prepares the process (`runtime`). JAX and MuJoCo are loaded with the first env;
MuJoCo at once where `MUJOCO_GL` is set, for it may name a library that is missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ksim_envs import runtime
from ksim_envs.errors import KsimError
from ksim_envs.registration import get_task, gymnasium_id, make, make_functional, register, register_built_in, task_ids

if TYPE_CHECKING:
    from ksim_envs.checker import check_vector_env
    from ksim_envs.core import Core
    from ksim_envs.single_env import KsimEnv
    from ksim_envs.task_checker import check_task
    from ksim_envs.tasks.task import Task
    from ksim_envs.types import Autoreset, EnvState, StepResult, View
    from ksim_envs.vector_env import KsimVectorEnv

__version__ = "0.1.0"
__all__ = [
    "Autoreset",
    "Core",
    "EnvState",
    "KsimEnv",
    "KsimError",
    "KsimVectorEnv",
    "StepResult",
    "Task",
    "View",
    "check_task",
    "check_vector_env",
    "get_task",
    "gymnasium_id",
    "make",
    "make_functional",
    "register",
    "task_ids",
]

_LAZY = {
    "Autoreset": "types",
    "Core": "core",
    "EnvState": "types",
    "KsimEnv": "single_env",
    "KsimVectorEnv": "vector_env",
    "StepResult": "types",
    "Task": "tasks.task",
    "View": "types",
    "check_task": "task_checker",
    "check_vector_env": "checker",
}


def __getattr__(name: str) -> Any:
    """Load a public name that needs JAX when it is first used."""
    if name in _LAZY:
        try:
            return getattr(import_module(f"ksim_envs.{_LAZY[name]}"), name)
        except AttributeError as error:  # Python would take it for a missing name
            raise ImportError(f"ksim_envs.{_LAZY[name]} cannot be imported: {error}.") from error
    raise AttributeError(f"module 'ksim_envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})


runtime.prepare()
register_built_in()
