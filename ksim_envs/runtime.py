"""What `import ksim_envs` sets up in the process: XLA flags, JAX's compilation cache, and quiet imports.

This must work before JAX is imported (XLA reads its flags when a backend starts, JAX its variables when it is imported)
and after. So it speaks through environment variables and `sys.modules`, and never imports JAX itself.

Compiled programs, and traced ones of MJX, are kept in the user's cache folder. `KSIM_CACHE_DIR` names another one, or
switches that off (`off`); whoever has set `JAX_COMPILATION_CACHE_DIR` or `jax.config` keeps that. JAX never caches a
program that calls back into Python, so the native backend's are compiled in each process.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import re
import shutil
import sys
import warnings
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "KSIM_CACHE_DIR"
SCHEDULER_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
FUSION_FLAG = "--xla_cpu_use_fusion_emitters"
SCHEDULER_REMEDY = f"set XLA_FLAGS={SCHEDULER_FLAG}=false, or import ksim_envs before JAX is first used"

_JAX_CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# The folder that we put into JAX's variable. A child process inherits both, and so can tell our choice from the user's.
_OUR_CACHE_VARIABLE = "_KSIM_JAX_COMPILATION_CACHE_DIR"
TRACED_SUFFIX = "-traced"
"""Of the names of the files beside JAX's in which traced programs are kept (`physics.traced`)."""
_CACHE_ENTRIES = ("*-cache", "*-atime", "xla_gpu_*", f"*{TRACED_SUFFIX}")
_MISSING_WARP = re.compile(r"Failed to import (mujoco_)?warp: No module named .*\n?")


def prepare() -> None:
    """Sets the process up; called once, by `import ksim_envs`. Calling it again changes nothing."""
    _set_xla_flags()
    _enable_compilation_cache()


def usable_processors() -> int:
    """Processors that this process may run on: more busy threads than these would wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# XLA flags


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
    """The first two numbers of jaxlib's version, from its metadata; a missing jaxlib counts as a new one."""
    try:
        return tuple(int(number) for number in re.findall(r"\d+", metadata.version("jaxlib"))[:2])
    except metadata.PackageNotFoundError:
        return (sys.maxsize,)


def _backend_has_started() -> bool:
    """Whether JAX has read XLA_FLAGS already. JAX has no public question that does not itself start a backend."""
    has_started = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return bool(has_started and has_started())


# The compilation cache


def cache_dir() -> Path | None:
    """The folder where programs are kept, or None when none are."""
    folder = _configured_cache()
    return Path(folder) if folder and _cache_is_enabled() else None


def cache_size() -> tuple[int, int]:
    """The number of files in the compilation cache, and their size in bytes."""
    sizes = [path.stat().st_size for entry in _cache_entries() for path in (entry, *entry.rglob("*")) if path.is_file()]
    return len(sizes), sum(sizes)


def clear_cache() -> int:
    """Deletes the programs, and nothing else that the folder may hold.

    Returns:
        The number of bytes that were freed.
    """
    _, num_bytes = cache_size()
    for entry in _cache_entries():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return num_bytes


def requested_cache_dir() -> Path | None:
    """The folder that KSIM_CACHE_DIR names, else the user's cache folder; None for `off`, or without a home folder."""
    request = os.environ.get(CACHE_VARIABLE, "").strip()
    if request.lower() == "off":
        return None
    try:
        return Path(request).expanduser().absolute() if request else _user_cache_dir() / "ksim_envs" / "xla"
    except RuntimeError:  # no home folder
        return None


def is_usable(folder: Path) -> bool:
    """Whether the folder exists, or can be made, and takes files. JAX runs what lies in it, so others get no access."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _enable_compilation_cache() -> None:
    configured = _configured_cache()
    if configured is not None and configured != os.environ.get(_OUR_CACHE_VARIABLE):
        return  # the user's own choice
    folder = requested_cache_dir()
    _configure_cache(str(folder) if folder and is_usable(folder) else None)


def _configured_cache() -> str | None:
    config = _jax_config()
    return os.environ.get(_JAX_CACHE_VARIABLE) if config is None else config.jax_compilation_cache_dir


def _configure_cache(folder: str | None) -> None:
    """Tells JAX, or the JAX that is yet to be imported here and in child processes, where its cache is."""
    for variable in (_JAX_CACHE_VARIABLE, _OUR_CACHE_VARIABLE):
        if folder is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = folder
    config = _jax_config()
    if config is not None:
        config.update("jax_compilation_cache_dir", folder)


def _jax_config() -> Any | None:
    return getattr(sys.modules.get("jax"), "config", None)


def _cache_is_enabled() -> bool:
    config = _jax_config()
    if config is not None:
        return bool(config.jax_enable_compilation_cache)
    return os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "on").lower() not in ("0", "f", "false", "n", "no", "off")


def _user_cache_dir() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification: a relative path counts as none
        return Path(xdg)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


def _cache_entries() -> list[Path]:
    """What is ours and JAX's in the cache folder: programs, their access times, and XLA's GPU tuning results."""
    folder = cache_dir()
    return [entry for pattern in _CACHE_ENTRIES for entry in folder.glob(pattern)] if folder else []


# Imports


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
