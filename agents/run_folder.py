"""The folder of a run: what it is called, where it is, and a lock on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Generator
from datetime import datetime
from pathlib import Path

from agents.errors import RunFolderError

CHECKPOINTS = "checkpoints"
"""The folder of checkpoints in that of a run."""
LOCK = ".lock"


def name_of(task_id: str) -> str:
    """The id without its namespace, nor the module that registers it: `Humanoid-v0`."""
    return task_id.rpartition(":")[2].removeprefix("ksim/")


def runs_of(task_id: str) -> Path:
    """The folder of a task's runs, under `runs/` where the process is."""
    return Path("runs") / name_of(task_id).replace("/", "_")


def new_run_dir(task_id: str) -> Path:
    """Makes a folder for a new run, named after the time; runs that begin together get one each.

    Raises:
        RunFolderError: it cannot be made.
    """
    folder, now = runs_of(task_id), datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = folder / now, 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
            number += 1
            path = folder / f"{now}_{number}"
    except OSError as error:
        raise RunFolderError(f"{folder} cannot hold run folders: {error}. Choose another folder.") from error


@contextlib.contextmanager
def lock(folder: Path) -> Generator[None]:
    """Keeps other processes out of a run folder, which is made if there is none.

    The lock is the kernel's: it ends with the process, however that ends. The file stays, and its text is only for the
    message: process id and host.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: another process holds the lock, or there can be no lock in this place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be a run folder: {error}. Choose another folder.") from error
    try:
        _take(descriptor, folder)
        try:
            yield
        finally:
            # Not left to close(): a forked child that still runs holds a copy of the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 1_000, 0).decode(errors="replace") or "another process"
        raise RunFolderError(
            f"{folder} is in use by {holder}. Wait for it to end, stop it, or choose another folder."
        ) from None
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be locked: {error}. Choose a folder on a local disk.") from error
