"""A short version of the stress test of training: a real process that is stopped and killed, and resumed each time."""

import sys

from scripts import stress_training


def test_a_run_that_was_stopped_and_killed_ends_like_one_that_was_not(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stress_training", "--stops", "1", "--kills", "2", "--iterations", "100"])
    assert stress_training.main() == 0
    assert "equal those of a whole run" in capsys.readouterr().out
