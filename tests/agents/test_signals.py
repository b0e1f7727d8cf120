"""Time to finish for a process that is told to stop."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from agents.signals import SIGNALS, graceful_signals
from tests.agents.children import HEED, start

# Computes for a minute or more inside one call of a C function, as JAX does when it compiles.
BUSY = """
import hashlib
from agents.signals import graceful_signals
with graceful_signals():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""

NOTE = """
import os
from agents.signals import SIGNALS, graceful_signals
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
from agents.signals import graceful_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with graceful_signals() as note:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
assert note.received is None
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
print("ended")
"""


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
