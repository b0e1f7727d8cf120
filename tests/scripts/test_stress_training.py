"""A short version of the stress test of training: a real process that is stopped and killed, and resumed each time."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_run_that_was_stopped_and_killed_ends_like_one_that_was_not():
    command = [sys.executable, "-m", "scripts.stress_training", "--stops", "1", "--kills", "2", "--iterations", "100"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0, ended.stderr
    assert "equal those of a whole run" in ended.stdout
