"""Our envs as other libraries want them: one module for each, which needs that library and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from gymnasium.vector import AutoresetMode

from ksim_envs.errors import InvalidConfigError, unknown_name
from ksim_envs.tasks.task import Task
from ksim_envs.vector_env import KsimVectorEnv


def prepared(env: Any, output: str, privileged: Sequence[str] = ()) -> KsimVectorEnv:
    """The batch in SAME_STEP mode with this output, if it can be adapted; else it is left as it was.

    Args:
        env: what a user wants to adapt.
        output: of the batch.
        privileged: names of metrics of the task that a critic shall see.

    Raises:
        InvalidConfigError: it is no batch of ours.
        UnknownNameError: the task has no such metric.
    """
    if not isinstance(env, KsimVectorEnv):
        raise InvalidConfigError(
            f"{env} is no batch of ksim_envs; make one with gym.make(id, num_envs=...), unwrapped."
        )
    check_privileged(env.core.task, privileged)
    env.output = output
    env.autoreset_mode = AutoresetMode.SAME_STEP
    return env


def check_privileged(task: Task, names: Sequence[str]) -> None:
    """Raise unless the task has these metrics; what it declares as privileged is one of that name."""
    known = (*task.metrics, *(("privileged",) if task.privileged else ()))
    for name in names:
        if name not in known:
            raise unknown_name("metric of the task", name, known)


def num_privileged(env: KsimVectorEnv, names: Sequence[str]) -> int:
    """How many numbers these metrics of an env are."""
    metrics = jax.eval_shape(lambda: env.core.unreset_state(env.core.keys(0))).metrics
    return sum(metrics[name].size // env.num_envs for name in names)
