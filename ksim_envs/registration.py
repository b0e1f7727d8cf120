"""The table of ids, and how an id becomes an environment."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

import gymnasium as gym

from ksim_envs import versions
from ksim_envs.errors import InvalidConfigError, UnknownNameError, unknown_keyword, unknown_name

if TYPE_CHECKING:
    from ksim_envs.core import Core
    from ksim_envs.single_env import KsimEnv
    from ksim_envs.tasks.task import Task
    from ksim_envs.types import Device
    from ksim_envs.vector_env import KsimVectorEnv

NAMESPACE = "ksim/"

GYMNASIUM_TASKS = {
    "ksim/Humanoid-v0": "humanoid:HUMANOID",
    "ksim/HumanoidStandup-v0": "humanoid:HUMANOID_STANDUP",
    "ksim/Ant-v0": "ant:ANT",
    "ksim/HalfCheetah-v0": "planar:HALF_CHEETAH",
    "ksim/Hopper-v0": "planar:HOPPER",
    "ksim/Walker2d-v0": "planar:WALKER2D",
    "ksim/Swimmer-v0": "planar:SWIMMER",
    "ksim/Reacher-v0": "arms:REACHER",
    "ksim/Pusher-v0": "arms:PUSHER",
    "ksim/InvertedPendulum-v0": "pendulums:INVERTED_PENDULUM",
    "ksim/InvertedDoublePendulum-v0": "pendulums:INVERTED_DOUBLE_PENDULUM",
}
"""Ids of Gymnasium's MuJoCo v5 tasks, and where each stands under `ksim_envs.tasks`."""
ROBOT_TASKS = {
    "ksim/HumanoidStand-v0": "walkers:HUMANOID_STAND",
    "ksim/HumanoidWalk-v0": "walkers:HUMANOID_WALK",
    "ksim/KBotStand-v0": "walkers:KBOT_STAND",
    "ksim/KBotWalk-v0": "walkers:KBOT_WALK",
    "ksim/ZBotWalk-v0": "walkers:ZBOT_WALK",
    "ksim/ArmReach-v0": "arms:ARM_REACH",
    "ksim/CartPoleSwingUp-v0": "pendulums:CART_POLE_SWING_UP",
}
"""Those of tasks of our own."""
BUILT_IN = GYMNASIUM_TASKS | ROBOT_TASKS
"""Those of all tasks that come with the package."""

_tasks: dict[str, str | Task] = {}


def register(id: str, task: Task, *, replace: bool = False) -> None:
    """Add a task, so that `gym.make(id)`, `gym.make(id, num_envs=N)` and `make_functional(id)` build it.

    Args:
        id: the new id, such as `"ksim/MyRobot-v0"`.
        task: the task.
        replace: whether an id may be taken, as when a notebook's cell runs again; envs that exist keep their task.

    Raises:
        InvalidConfigError: the id is not in the namespace `ksim/`, is taken or malformed, or `task` is not a task.
    """
    from ksim_envs.tasks.task import Task

    if not isinstance(id, str) or not isinstance(task, Task):
        raise InvalidConfigError(
            f"register({id!r}, ...) got a {type(id).__name__} and a {type(task).__name__}; give an id and a Task."
        )
    if not id.startswith(NAMESPACE):
        raise InvalidConfigError(
            f"id {id!r} is outside the namespace {NAMESPACE!r}; call it {NAMESPACE + id.split('/')[-1]!r}."
        )
    if id in _tasks and (not replace or id in BUILT_IN):
        remedy = "" if id in BUILT_IN else ", or give replace=True"
        raise InvalidConfigError(f"id {id!r} is taken; choose another name or version{remedy}.")
    if id in _tasks:
        _tasks[id] = task
    else:
        _add(id, task)


def register_built_in() -> None:
    """Register the package's own tasks; called once, by `import ksim_envs`."""
    for id, place in BUILT_IN.items():
        if id not in _tasks:
            _add(id, place)


def task_ids() -> list[str]:
    """All registered ids, in the order of registration."""
    return list(_tasks)


def get_task(id: str) -> Task:
    """The task of an id; `"module:ksim/NAME-v0"` imports the module first, which registers it, as in `gym.make`.

    Raises:
        UnknownNameError: there is no such id, or no such module.
    """
    if isinstance(id, str) and ":" in id:
        module, _, id = id.partition(":")
        _import(module)
    if not isinstance(id, str) or id not in _tasks:
        raise unknown_name("task", str(id), _tasks)
    task = _tasks[id]
    if isinstance(task, str):
        module, name = task.split(":")
        task = _tasks[id] = getattr(import_module(f"ksim_envs.tasks.{module}"), name)
    return task


def gymnasium_id(id: str) -> str | None:
    """The id of Gymnasium's own version of a task; None for one that Gymnasium does not have."""
    id = id.rpartition(":")[2]
    return f"{id.removeprefix(NAMESPACE).removesuffix('-v0')}-v5" if id in GYMNASIUM_TASKS else None


@overload
def make(id: str, num_envs: None = None, **keywords: Any) -> KsimEnv: ...
@overload
def make(id: str, num_envs: int, **keywords: Any) -> KsimVectorEnv: ...
def make(id: str, num_envs: int | None = None, **keywords: Any) -> KsimEnv | KsimVectorEnv:
    """Build an env: a single one, or with `num_envs` a batch. `gym.make` and `gym.make_vec` end here.

    Args:
        id: a registered id.
        num_envs: number of envs, or None for a single env.
        **keywords: of `KsimVectorEnv` (or `KsimEnv`).

    Returns:
        The env.

    Raises:
        UnknownNameError: the id or a keyword does not exist; the message names the nearest.
        KsimError: an argument is not allowed.
    """
    versions.warn_of_others()
    from ksim_envs.single_env import KsimEnv
    from ksim_envs.vector_env import KsimVectorEnv

    task = get_task(id)
    if num_envs is None:
        _check_keywords(KsimEnv, keywords, batch=KsimVectorEnv)
        return KsimEnv(task, **keywords)
    _check_keywords(KsimVectorEnv, keywords)
    return KsimVectorEnv(task, num_envs, **keywords)


def make_functional(
    task: str | Task,
    num_envs: int,
    *,
    backend: str = "auto",
    dynamics: str = "fast",
    num_threads: int | None = None,
    device: Device | None = None,
) -> Core:
    """Build the pure core of a task: `reset(key_E) -> EnvState` and `step(state, action_EA) -> (EnvState, StepResult)`.

    Args:
        task: a registered id, or a task.
        num_envs: number of rows.
        backend: `"auto"`, `"native"` or `"mjx"`.
        dynamics: `"fast"` or `"gymnasium"`.
        num_threads: native only; None for one for each processor that the process may use.
        device: mjx only; None for JAX's first device.

    Returns:
        The core, whose methods may be used under `jit` and `scan`.

    Raises:
        KsimError: a name does not exist or a value is not allowed.
    """
    versions.warn_of_others()
    from ksim_envs.building import make_core
    from ksim_envs.tasks.task import Task

    built = task if isinstance(task, Task) else get_task(task)
    return make_core(built, num_envs, backend=backend, dynamics=dynamics, num_threads=num_threads, device=device)


def make_for_gymnasium(task_id: str, num_envs: int | None = None, **keywords: Any) -> KsimEnv | KsimVectorEnv:
    """The entry point of `gym.make`, which would wrap a batch in a wrapper for single envs if asked to."""
    if (
        keywords.get("vectorization_mode") == "vector_entry_point"
    ):  # the spec of what gym.make_vec made: it leaves out 1
        keywords = _without_synonym({name: keywords[name] for name in keywords if name != "vectorization_mode"})
        num_envs = 1 if num_envs is None else num_envs
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    limit = caller.f_locals.get("max_episode_steps")  # an argument of gym.make itself; no env ever sees it
    if limit is None:
        limit = getattr(caller.f_locals.get("env_spec"), "max_episode_steps", None)  # of an env that is made anew
    if limit not in (None, -1):
        if num_envs is not None:
            raise InvalidConfigError(
                f"gym.make({task_id!r}, num_envs={num_envs}, max_episode_steps={limit}) would wrap the batch in "
                f"Gymnasium's TimeLimit, which is made for a single env. Pass episode_length={limit} instead."
            )
        keywords.setdefault("episode_length", limit)  # or the env would end a longer one itself
    return make(task_id, num_envs, **keywords)


def make_vec_for_gymnasium(task_id: str, num_envs: int | None, **keywords: Any) -> KsimEnv | KsimVectorEnv:
    """The entry point of `gym.make_vec`, which hands its `max_episode_steps` over as a keyword."""
    if num_envs is None:
        raise InvalidConfigError(
            "num_envs is None; gym.make_vec needs a number of envs. For a single env use gym.make."
        )
    return make(task_id, num_envs, **_without_synonym(keywords))


def _without_synonym(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords with `max_episode_steps` under our own name for it."""
    if "max_episode_steps" not in keywords:
        return keywords
    if "episode_length" in keywords:
        raise InvalidConfigError("max_episode_steps and episode_length mean the same; give only episode_length.")
    return {{"max_episode_steps": "episode_length"}.get(name, name): value for name, value in keywords.items()}


def _import(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and needs one that is not
        raise UnknownNameError(
            f"There is no module {module!r} to register the task. Give its name without '.py', as in "
            "'my_robot:ksim/MyRobot-v0', and run where Python finds it."
        ) from error


def _add(id: str, task: str | Task) -> None:
    try:
        gym.register(
            id,
            entry_point="ksim_envs.registration:make_for_gymnasium",
            vector_entry_point="ksim_envs.registration:make_vec_for_gymnasium",
            kwargs={"task_id": id},
            order_enforce=False,
            disable_env_checker=True,
        )
    except gym.error.Error as error:
        raise InvalidConfigError(
            f"Gymnasium does not accept the id {id!r}; call it {NAMESPACE}NAME-v0. {error}"
        ) from error
    _tasks[id] = task


def _check_keywords(made: type, keywords: Mapping[str, Any], batch: type | None = None) -> None:
    known = _keywords(made)
    for name in keywords:
        if batch and name not in known and name in _keywords(batch):
            raise InvalidConfigError(
                f"{name}= is for a batch of envs; pass num_envs= too (to SB3's make_vec_env, in vec_env_kwargs)."
            )
        if name not in known:
            raise unknown_keyword(made.__name__, name, [*known, "num_envs"])


def _keywords(made: type) -> list[str]:
    return [name for name in inspect.signature(made).parameters if name not in ("task", "num_envs")]
