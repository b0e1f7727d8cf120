"""Our envs as other libraries want them: one module for each, which needs that library and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from ksim_envs.errors import unknown_name
from ksim_envs.vector_env import KsimVectorEnv


def privileged_metrics(env: KsimVectorEnv, names: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics for a critic to see.

    Raises:
        UnknownNameError: the task has no such metric.
    """
    known = env.core.task.metrics
    for name in names:
        if name not in known:
            raise unknown_name("metric of the task", name, known)
    return tuple(names)
