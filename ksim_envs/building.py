"""From a task to its core: one for equal recipes as long as it lives, and none in a forked process."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakValueDictionary

from ksim_envs.core import Core
from ksim_envs.errors import ForkedProcessError, InvalidConfigError
from ksim_envs.physics import (
    check_device,
    check_dynamics,
    choose_backend,
    file_versions,
    load_model,
    make_backend,
    needs_derived_constants,
)
from ksim_envs.tasks.context import Model
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.tracing import find_reads
from ksim_envs.types import Device
from ksim_envs.validate import MAX_NUM_ENVS, positive_integer


def make_core(
    task: Task,
    num_envs: int,
    *,
    backend: str = "auto",
    dynamics: str = "fast",
    num_threads: int | None = None,
    device: Device | None = None,
) -> Core:
    """Build a task on a backend.

    Args:
        task: the task.
        num_envs: number of rows, at least 1.
        backend: `"auto"`, `"native"` or `"mjx"`.
        dynamics: `"fast"` or `"gymnasium"`; see `physics.model.load_model`.
        num_threads: threads of the native backend.
        device: device of the mjx backend.

    Returns:
        The core. As long as an equal one is alive it is the same object, so that programs are compiled once in a
        process.

    Raises:
        KsimError: a name does not exist or a value is not allowed.
    """
    _refuse_after_fork()
    num_envs = positive_integer("num_envs", num_envs, MAX_NUM_ENVS)
    if num_threads is not None:
        num_threads = positive_integer("num_threads", num_threads)
    backend = choose_backend(backend)
    check_dynamics(dynamics)
    device = None if device is None else check_device(device)
    recipe = (task, file_versions(task.model), num_envs, backend, dynamics, num_threads, device)
    if core := _alive.get(recipe):
        return core
    _check_actuator(task)
    reads = find_reads(task, load_model(task.model, dynamics, edit=task.edit_model))
    model = load_model(task.model, dynamics, reads, task.max_contact_points, task.edit_model, task.engine_fields)
    made = make_backend(
        backend,
        model,
        num_envs,
        frame_skip=task.frame_skip,
        reads=reads,
        model_fields=task.engine_fields,
        num_threads=num_threads,
        device=device,
    )
    _alive[recipe] = core = Core(task=task, backend=made, model=Model(model))
    return core


def _check_actuator(task: Task) -> None:
    """Refuse an actuator that sets model fields from which constants follow: these are computed once an episode."""
    drawn = task.actuator.fields if task.actuator else ()
    if wrong := sorted(name for name in drawn if needs_derived_constants(frozenset({name}))):
        raise InvalidConfigError(
            f"The actuator sets the model field {wrong[0]!r} in every step, but constants of the model follow from it; "
            "set it in a randomizer, once an episode."
        )


def _refuse_after_fork() -> None:
    """JAX's threads do not survive a fork: what a child compiled would wait for them for ever."""
    global _pid
    _pid = _pid or os.getpid()
    if _pid != os.getpid():
        raise ForkedProcessError(
            f"JAX was started in process {_pid} and cannot be used in its fork {os.getpid()}. Start workers with the "
            '"spawn" or "forkserver" method (gym.make_vec: vector_kwargs={"context": "spawn"}).'
        )


_pid: int | None = None
"""The process in which the first core was made."""
_alive: WeakValueDictionary[tuple[Any, ...], Core] = WeakValueDictionary()
"""Cores in use. A core is a pure function, so equal envs can share one (on native their steps then take turns)."""
