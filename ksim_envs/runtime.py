"""What a process needs around JAX and MuJoCo: XLA's flags, imports, silence, rest for the garbage collector.

The flags must be set before JAX is imported (XLA reads them when a backend starts). So this module speaks through
environment variables and `sys.modules`, and never imports JAX itself.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import re
import sys
import threading
import warnings
from collections.abc import Generator
from importlib import import_module
from typing import Any

from ksim_envs import program_cache, versions

SCHEDULER_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
FUSION_FLAG = "--xla_cpu_use_fusion_emitters"
SCHEDULER_REMEDY = f"set XLA_FLAGS={SCHEDULER_FLAG}=false, or import ksim_envs before JAX is first used"

_MISSING_WARP = re.compile(r"Failed to import (mujoco_)?warp: No module named .*\n?")


def prepare() -> None:
    """Sets the process up; called once, by `import ksim_envs`. Calling it again changes nothing."""
    _set_xla_flags()
    program_cache.enable()
    if "MUJOCO_GL" in os.environ:
        _import_mujoco()


def usable_processors() -> int:
    """Processors that this process may run on: more busy threads than these would wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def missing_flags() -> list[str]:
    """The CPU flags that this jaxlib (older than 0.11) should be given as false, and of which XLA_FLAGS says nothing.

    One avoids a deadlock: a race in the concurrency-optimized scheduler hangs about half of large MJX programs. The
    other avoids code that computes each body of a kinematic chain anew for all that follow, which made Pusher's arm
    unusable.
    """
    given = {flag.partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    wanted = (SCHEDULER_FLAG, FUSION_FLAG) if _jaxlib_release() < (0, 11) else ()
    return [flag for flag in wanted if flag not in given]


def options_without_physics() -> dict[str, bool]:
    """Compiler options for a CPU program that holds no MJX physics: the code that the second flag switches off for all.

    It vectorizes `exp` and its kin, on which networks spend time between their matrix products.
    """
    return {FUSION_FLAG.removeprefix("--"): True} if _jaxlib_release() < (0, 11) else {}


def scheduler_flag_is_missing() -> bool:
    """Whether this jaxlib can deadlock on CPU and XLA_FLAGS does not say what to do about it."""
    return SCHEDULER_FLAG in missing_flags()


def _set_xla_flags() -> None:
    """Give XLA the missing flags, if it has not read them yet."""
    missing = missing_flags()
    if not missing:
        return
    flags = os.environ.get("XLA_FLAGS", "").strip()
    names_a_file = bool(flags) and not flags.startswith("-")
    if names_a_file or _backend_has_started():
        if SCHEDULER_FLAG in missing:
            _warn_too_late()
        return
    os.environ["XLA_FLAGS"] = " ".join([flags, *(f"{flag}=false" for flag in missing)]).strip()


@functools.cache  # once in a process
def _warn_too_late() -> None:
    message = f"This jaxlib can hang in MJX programs on CPU, which cannot be prevented from here: {SCHEDULER_REMEDY}."
    warnings.warn(message, RuntimeWarning, stacklevel=5)  # 5: the line that imports ksim_envs


def _jaxlib_release() -> tuple[int, ...]:
    """The numbers of jaxlib's version, from its metadata; a missing jaxlib counts as a new one."""
    return versions.release(versions.installed("jaxlib")) or (sys.maxsize,)


def _backend_has_started() -> bool:
    """Whether JAX has read XLA_FLAGS already. JAX has no public question that does not itself start a backend."""
    has_started = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return bool(has_started and has_started())


def _import_mujoco() -> None:
    """Import MuJoCo, which raises where `MUJOCO_GL` names a GL library that is missing or none that there is.

    Then it is imported without GL, as with `MUJOCO_GL=off`: only rendering needs it, and says what is wrong.
    """
    given = os.environ["MUJOCO_GL"]
    try:
        import_module("mujoco")
    except (AttributeError, RuntimeError):
        os.environ["MUJOCO_GL"] = "off"
        try:
            import_module("mujoco")
        finally:
            os.environ["MUJOCO_GL"] = given


@contextlib.contextmanager
def quiet_import() -> Generator[None, None, None]:
    """Keeps `from mujoco import mjx` from printing that the optional warp is not installed; all else is printed."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        others = _MISSING_WARP.sub("", printed.getvalue())
        if others:
            sys.stdout.write(others)


@contextlib.contextmanager
def quiet_mujoco() -> Generator[None, None, None]:
    """Keep MuJoCo's warnings from `MUJOCO_LOG.TXT` and standard error; what matters of them is reported as faults.

    The handler is the process's. Threads share ours, and the last to leave puts the user's back.
    """
    import mujoco

    global _num_quiet, _users_handler
    with _handler_lock:
        if _num_quiet == 0:
            _users_handler = mujoco.get_mju_user_warning()
            mujoco.set_mju_user_warning(_ignore)
        _num_quiet += 1
    try:
        yield
    finally:
        with _handler_lock:
            _num_quiet -= 1
            if _num_quiet == 0:
                mujoco.set_mju_user_warning(_users_handler)


def _ignore(text: str) -> None:
    """A warning handler that does nothing."""


_handler_lock = threading.Lock()
_num_quiet = 0
_users_handler: Any = None


@contextlib.contextmanager
def paused_gc() -> Generator[None, None, None]:
    """Keeps Python's cyclic garbage collector from running meanwhile.

    Tracing an MJX program makes many objects that stay, and the collector would look at them again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
