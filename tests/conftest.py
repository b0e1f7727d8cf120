"""Shared by all tests: envs whose compiled programs live as long as the session."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

import ksim_envs
from ksim_envs.building import make_core
from ksim_envs.core import Core
from ksim_envs.tasks.task import Task
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads in one worker would wait for those in the other
gc.set_threshold(50_000, 20, 20)  # JAX traces with many small objects: do not look for garbage so often

BACKENDS = ("native", "mjx")
_cores: deque[Core] = deque(maxlen=24)
"""The cores used last. Equal envs share one while it is alive: keeping it saves compiling again, but takes memory."""


LONGEST = ("scripts", "parity", "docs")
"""Folders with files that take a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that in the end neither worker waits for the other."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each physics backend in turn."""
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _optimizations(request: pytest.FixtureRequest) -> None:
    """Compile without LLVM's optimizations, because most tests compile more than they compute.

    Not where modules are marked `optimized`: they compare bits of different programs, which are promised to be equal
    only with optimizations, or whole episodes with Gymnasium's, for which the programs should be those that users run.
    """
    disabled = request.node.get_closest_marker("optimized") is None
    if disabled != jax.config.read("jax_disable_most_optimizations"):
        _cores.clear()  # this module would find their programs
        gc.collect()
        jax.config.update("jax_disable_most_optimizations", disabled)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(disabled))  # of child processes


@pytest.fixture
def make_env() -> Iterator[Callable[..., KsimVectorEnv]]:
    """Builds vector envs from a task or an id, and closes them after the test."""
    envs: list[KsimVectorEnv] = []

    def make(task: Task | str = tiny.HOPPER_LIKE, num_envs: int = 16, **keywords: Any) -> KsimVectorEnv:
        task = ksim_envs.get_task(task) if isinstance(task, str) else task
        env = KsimVectorEnv(task, num_envs, **keywords)
        _cores.append(env.core)
        envs.append(env)
        return env

    yield make
    for env in envs:
        env.close()


@pytest.fixture
def make_tiny_core() -> Callable[..., Core]:
    """Builds cores of tiny tasks, kept for the session."""

    def make(task: Task = tiny.HOPPER_LIKE, num_envs: int = 16, **keywords: Any) -> Core:
        core = make_core(task, num_envs, **keywords)
        _cores.append(core)
        return core

    return make
