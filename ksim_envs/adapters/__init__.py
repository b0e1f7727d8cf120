"""Our envs as other libraries want them: one module for each, which needs that library and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from ksim_envs.errors import InvalidConfigError
from ksim_envs.types import Info
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
            f"{env} is no batch of ksim_envs; make one with gym.make(id, num_envs=...), unwrapped (to normalize or "
            "stack, take the library's own means)."
        )
    env.core.num_privileged(privileged)  # raises where one is unknown
    env.output = output
    env.autoreset_mode = AutoresetMode.SAME_STEP
    return env


def check_prepared(env: KsimVectorEnv, output: str) -> None:
    """Refuse to go on with a batch that is no longer as `prepared` left it.

    Raises:
        InvalidConfigError: somebody has set another auto-reset mode or output.
    """
    mode = env.autoreset_mode
    if mode is not AutoresetMode.SAME_STEP or env.output != output:
        raise InvalidConfigError(
            f"the batch has autoreset_mode={mode.name.lower()!r} and output={env.output!r} now, and its adapter needs "
            f"'same_step' and {output!r}: set them back, or use another batch for what needs others."
        )


def seen_by_critic(concatenate: Any, obs: Any, info: Info, privileged: Sequence[str]) -> Any:
    """(num_envs, L): the observations, and behind them these metrics of each env."""
    return concatenate([obs, *(info[name].reshape(len(obs), -1) for name in privileged)], 1)


def critic_space(env: KsimVectorEnv, privileged: Sequence[str]) -> Box | None:
    """(L,): of a row of what `seen_by_critic` returns; None without metrics."""
    size = env.core.num_observations + env.core.num_privileged(privileged)
    return Box(-np.inf, np.inf, (size,), np.float32) if privileged else None
