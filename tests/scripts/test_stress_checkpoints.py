"""The stress test of checkpoints fails where its kills prove nothing; `agents/test_checkpoint` has what it finds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys, time
from scripts import stress_checkpoints

def ends(folder, step, writer):
    os._exit(7)

def raises(folder, step, writer):
    stress_checkpoints.tree = None
    original(folder, step, writer)

def saves_nothing(folder, step, writer):
    time.sleep(60.0)

def saves_once(folder, step, writer):
    stress_checkpoints.Checkpoints(folder).save(step + 1, stress_checkpoints.tree(step + 1), {"step": step + 1})
    os.write(writer, (step + 1).to_bytes(8, "little"))
    time.sleep(60.0)

original, stress_checkpoints.save_forever = stress_checkpoints.save_forever, KIND
stress_checkpoints.LIMIT = 0.5 if KIND is saves_nothing else 30.0
sys.exit(stress_checkpoints.main())
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ends", "the process ended by itself, with status 7"),
        ("raises", "TypeError"),
        ("saves_nothing", "the process saved nothing in 0.5 s"),
        ("saves_once", "none of 2 kills came in the midst of a save"),
    ],
)
def test_kills_that_prove_nothing_are_a_failure(kind, message):
    command = [sys.executable, "-c", PROGRAM.replace("KIND", kind), "--kills", "2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1 and message in ended.stderr, ended.stderr
