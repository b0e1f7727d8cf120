"""What a training process needs around its files: a lock on its run folder, and time to finish when told to stop."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import os
import signal
import socket
import threading
from collections.abc import Generator
from datetime import datetime
from pathlib import Path

from agents.errors import RunFolderError

CHECKPOINTS = "checkpoints"
"""The folder of checkpoints in that of a run."""
LOCK = ".lock"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def name_of(task_id: str) -> str:
    """The id without its namespace, nor the module that registers it: `Humanoid-v0`."""
    return task_id.rpartition(":")[2].removeprefix("ksim/")


def runs_of(task_id: str) -> Path:
    """The folder of a task's runs, under `runs/` where the process is."""
    return Path("runs") / name_of(task_id).replace("/", "_")


def new_run_dir(task_id: str) -> Path:
    """A folder for a new run, named after the time."""
    first = runs_of(task_id) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    others = (first.with_name(f"{first.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], others) if not path.exists())


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


@dataclasses.dataclass
class ReceivedSignal:
    """The request to stop, if there was one."""

    received: signal.Signals | None = None
    """The first signal that came."""


@contextlib.contextmanager
def graceful_signals() -> Generator[ReceivedSignal]:
    """Lets a loop end in its own time: the first SIGINT, SIGTERM or SIGHUP is only noted, the second ends the process.

    A signal that the process was told to ignore stays ignored, as SIGHUP under `nohup`. Outside the main thread, where
    Python handles no signals, this does nothing.

    A thread counts them: Python's own handlers wait until the main thread comes back from XLA, which can take minutes
    while it compiles, and two signals of one kind would be one by then.

    Yields:
        Where the signal is noted. After the second one, the exit status is 128 plus that signal's number.
    """
    note = ReceivedSignal()
    if threading.current_thread() is not threading.main_thread():
        yield note
        return

    def handle(number: int, frame: object) -> None:
        note.received = note.received or signal.Signals(number)

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_quit_at_the_second, args=(reader,), name="signals", daemon=True)
    watcher.start()
    wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield note
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set from Python
        signal.set_wakeup_fd(before_fd)
        writer.close()
        watcher.join()
        reader.close()


def _quit_at_the_second(reader: socket.socket) -> None:
    """Reads the numbers of the signals that come, one byte each, until the other end closes."""
    num_received = 0
    while number := reader.recv(1):
        num_received += number[0] in SIGNALS
        if num_received == 1:
            with contextlib.suppress(OSError):  # whoever read it may be gone
                os.write(2, b"\nStopping after this iteration; once more to quit at once, without a checkpoint.\n")
        if num_received == 2:
            os._exit(128 + number[0])
