"""The folder in which compiled programs, and traced ones of MJX, outlive the process.

It is the user's cache folder. `KSIM_CACHE_DIR` names another one, or switches that off (`off`); whoever has set
`JAX_COMPILATION_CACHE_DIR` or `jax.config` keeps that. JAX never caches a program that calls back into Python, so the
native backend's are compiled in each process.

This must work before JAX is imported (it reads its variables then) and after, and never imports it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

VARIABLE = "KSIM_CACHE_DIR"
TRACED_SUFFIX = "-traced"
"""Of the names of the files beside JAX's in which traced programs are kept (`physics.traced`)."""

_JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_OUR_VARIABLE = "_KSIM_JAX_COMPILATION_CACHE_DIR"
"""The folder that we put into JAX's variable. A child process inherits both, and so can tell our choice from the
user's."""
_ENTRIES = ("*-cache", "*-atime", "xla_gpu_*", f"*{TRACED_SUFFIX}")


def location() -> Path | None:
    """The folder where programs are kept, or None when none are."""
    folder = _configured()
    return Path(folder) if folder and _is_enabled() else None


def size() -> tuple[int, int]:
    """The number of files in the compilation cache, and their size in bytes."""
    sizes = [path.stat().st_size for entry in _entries() for path in (entry, *entry.rglob("*")) if path.is_file()]
    return len(sizes), sum(sizes)


def clear() -> None:
    """Delete the programs, and nothing else that the folder may hold."""
    for entry in _entries():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def requested_location() -> Path | None:
    """The folder that KSIM_CACHE_DIR names, else the user's cache folder; None for `off`, or without a home folder."""
    request = os.environ.get(VARIABLE, "").strip()
    if request.lower() == "off":
        return None
    try:
        return Path(request).expanduser().absolute() if request else _users_folder() / "ksim_envs" / "xla"
    except RuntimeError:  # no home folder
        return None


def is_usable(folder: Path) -> bool:
    """Whether the folder exists, or can be made, and takes files. JAX runs what lies in it, so others get no access."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def enable() -> None:
    """Have JAX use the folder, unless the user has chosen another one."""
    configured = _configured()
    if configured is not None and configured != os.environ.get(_OUR_VARIABLE):
        return  # the user's own choice
    folder = requested_location()
    _configure(str(folder) if folder and is_usable(folder) else None)


def _configured() -> str | None:
    config = _jax_config()
    return os.environ.get(_JAX_VARIABLE) if config is None else config.jax_compilation_cache_dir


def _configure(folder: str | None) -> None:
    """Tells JAX, or the JAX that is yet to be imported here and in child processes, where its cache is."""
    for variable in (_JAX_VARIABLE, _OUR_VARIABLE):
        if folder is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = folder
    config = _jax_config()
    if config is not None:
        config.update("jax_compilation_cache_dir", folder)


def _jax_config() -> Any | None:
    return getattr(sys.modules.get("jax"), "config", None)


def _is_enabled() -> bool:
    config = _jax_config()
    if config is not None:
        return bool(config.jax_enable_compilation_cache)
    return os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "on").lower() not in ("0", "f", "false", "n", "no", "off")


def _users_folder() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification: a relative path counts as none
        return Path(xdg)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"


def _entries() -> list[Path]:
    """What is ours and JAX's in the cache folder: programs, their access times, and XLA's GPU tuning results."""
    folder = location()
    return [entry for pattern in _ENTRIES for entry in folder.glob(pattern)] if folder else []
