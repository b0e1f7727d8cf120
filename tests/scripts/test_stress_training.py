"""A short version of the stress test of training: a real process that is stopped and killed, and resumed each time."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import stress_training
from tests.marks import without_video

ROOT = Path(__file__).parents[2]


def test_a_run_that_was_stopped_and_killed_ends_like_one_that_was_not():
    command = [sys.executable, "-m", "scripts.stress_training", "--stops", "1", "--kills", "1", "--iterations", "400"]
    ended = subprocess.run(command, cwd=ROOT, env=without_video(), capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0, ended.stderr
    assert "2 of 2 blows found the run at work" in ended.stdout, ended.stdout
    assert "equal those of a whole run" in ended.stdout


@pytest.mark.parametrize("missing", ["stop", "kill"])
def test_blows_of_which_none_found_the_run_at_work_are_a_failure(monkeypatch, missing):
    monkeypatch.setattr(sys, "argv", ["stress_training", "--stops", "2", "--kills", "4"])
    monkeypatch.setattr(stress_training, "strike", lambda blow, *_: not blow.startswith(missing))
    with pytest.raises(AssertionError, match=f"no {missing} found the run at work"):
        stress_training.main()


def test_no_blows_at_all_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stress_training", "--stops", "0", "--kills", "0"])
    with pytest.raises(SystemExit, match="2"):
        stress_training.main()
    assert "nothing to strike with" in capsys.readouterr().err


@pytest.mark.parametrize(("blow", "status"), [("stop", 3), ("kill", 143), ("kill in a save", 1)])
def test_a_run_that_ends_by_itself_is_a_failure(monkeypatch, tmp_path, blow, status):
    command = [sys.executable, "-c", f"raise SystemExit({status})"]
    monkeypatch.setattr(stress_training, "start", lambda *_: subprocess.Popen(command))
    with pytest.raises(AssertionError, match=f"ended by itself, with status {status}"):
        stress_training.strike(blow, tmp_path, 1, random.Random(0))


def test_a_blow_after_the_end_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setattr(stress_training, "start", lambda *_: subprocess.Popen([sys.executable, "-c", ""]))
    assert not stress_training.strike("kill", tmp_path, 1, random.Random(0))
