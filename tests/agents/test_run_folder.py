"""One process for one run folder, and time to finish for a process that is told to stop."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from agents.errors import RunFolderError
from agents.run_folder import LOCK, SIGNALS, graceful_signals, lock

HOLD = """
import sys
from pathlib import Path
from agents.run_folder import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""

# Computes for a minute or more inside one call of a C function, as JAX does when it compiles.
BUSY = """
import hashlib
from agents.run_folder import graceful_signals
with graceful_signals():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""

NOTE = """
import os
from agents.run_folder import SIGNALS, graceful_signals
before = [signal.getsignal(number) for number in SIGNALS]
for number in SIGNALS:
    with graceful_signals() as note:
        assert note.received is None
        os.kill(os.getpid(), number)
        assert note.received is number, note
assert [signal.getsignal(number) for number in SIGNALS] == before
assert signal.set_wakeup_fd(-1) == -1
print("ended")
"""

IGNORE = """
import os
from agents.run_folder import graceful_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with graceful_signals() as note:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
assert note.received is None
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
print("ended")
"""


# Whoever runs the tests may ignore signals, as nohup does, and processes inherit that.
HEED = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
"""


def start(program, *args):
    """A Python process, after it has said its first word."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [sys.executable, "-c", HEED + program, *args], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert child.stdout.readline(), child.communicate()[1]
    return child


# The lock


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path):
    with start(HOLD, str(tmp_path / "run")) as holder:
        with (
            pytest.raises(RunFolderError, match=rf"is in use by process {holder.pid} on ") as caught,
            lock(tmp_path / "run"),
        ):
            pass
        assert "choose another folder" in str(caught.value)
        holder.communicate("\n", timeout=60)
    assert holder.returncode == 0
    with lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path):
    for _ in range(3):
        with start(HOLD, str(tmp_path)) as holder:
            holder.kill()
            holder.communicate()
        with lock(tmp_path):
            pass


def test_the_lock_holds_within_a_process_and_ends_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} "), lock(tmp_path):
            pass
        raise ZeroDivisionError
    with lock(tmp_path):
        pass


def test_a_forked_child_that_lives_on_does_not_keep_the_lock(tmp_path):
    with lock(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_place_that_cannot_be_a_run_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / LOCK).symlink_to(tmp_path / "file")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "linked"):
        with pytest.raises(RunFolderError, match=f"{folder} cannot be a run folder: "), lock(folder):
            pass


# Signals


@pytest.mark.parametrize("program", [NOTE, IGNORE], ids=["first is noted", "ignored stays ignored"])
def test_a_signal_does_not_end_the_process(program):
    child = subprocess.run([sys.executable, "-c", HEED + program], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (0, "ended\n"), child.stderr


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_quits_at_once_even_inside_a_long_call(first, second):
    with start(BUSY) as child:
        child.send_signal(first)
        time.sleep(0.2)  # were both there before the first is delivered, they would be one
        assert child.poll() is None
        child.send_signal(second)
        began = time.monotonic()
        assert child.wait(timeout=30) == 128 + second
        assert time.monotonic() - began < 10


def test_nothing_happens_outside_the_main_thread():
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def body():
        with graceful_signals() as note:
            seen.extend([note.received, [signal.getsignal(number) for number in SIGNALS]])

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [None, before]


def test_an_error_inside_restores_the_handlers_and_ends_the_thread():
    before, threads = [signal.getsignal(number) for number in SIGNALS], threading.active_count()
    with pytest.raises(ZeroDivisionError), graceful_signals():
        assert threading.active_count() == threads + 1
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert threading.active_count() == threads
