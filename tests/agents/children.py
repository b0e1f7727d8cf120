"""Processes that a test starts and looks at from outside."""

import subprocess
import sys

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
