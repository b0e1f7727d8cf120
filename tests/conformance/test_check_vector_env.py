"""Gymnasium's tasks pass the package's own conformance suite, on both backends and in all auto-reset modes.

Those of the robots are tested where they are compiled anyway, in `test_robot_tasks.py`. On mjx tasks with many contacts
have control steps of one physics step, which compile faster.

The mode and the episode length are no part of a compiled program, so an id is compiled once for all its tests; those of
parity on mjx have the same tasks and `NUM_ENVS`, so that they find the program in the compilation cache.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gymnasium.vector import AutoresetMode

from ksim_envs import check_vector_env
from ksim_envs.registration import GYMNASIUM_TASKS
from ksim_envs.vector_env import KsimVectorEnv
from tests.marks import DEVICE_OUTPUTS, MODES
from tests.parity.oracle import short_task_of

NUM_ENVS = 4
EPISODE_LENGTH = 20  # an episode must end for the check to be complete, and it says so where none did


@MODES
@pytest.mark.parametrize("id", GYMNASIUM_TASKS)
@pytest.mark.parametrize("backend", ("native", "mjx"))
def test_gymnasiums_tasks_pass(
    backend: str, id: str, mode: AutoresetMode, make_env: Callable[..., KsimVectorEnv]
) -> None:
    task = short_task_of(id) if backend == "mjx" else id
    check_vector_env(make_env(task, NUM_ENVS, backend=backend, autoreset_mode=mode, episode_length=EPISODE_LENGTH))


@MODES
@DEVICE_OUTPUTS
def test_every_output_passes(output: str, mode: AutoresetMode, make_env: Callable[..., KsimVectorEnv]) -> None:
    check_vector_env(make_env(backend="native", output=output, autoreset_mode=mode, episode_length=EPISODE_LENGTH))
