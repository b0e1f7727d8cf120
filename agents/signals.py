"""Time to finish for a process that is told to stop."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import threading
from collections.abc import Generator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
                os.write(2, b"\nEnding as soon as possible, with a checkpoint; once more to quit at once, without.\n")
        if num_received == 2:
            os._exit(128 + number[0])
