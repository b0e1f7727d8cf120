"""What a run shows of itself, in a terminal and in a pipe."""

import errno
import io
import math
import os
import re
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console

from agents import progress
from agents.console import PipeConsole
from agents.progress import Progress

TRAIN = {
    "return_mean": 4010.24,
    "length_mean": 987.0,
    "policy_loss": -0.0123,
    "value_loss": 0.532,
    "entropy": 3.21,
    "kl": 0.0102,
    "learning_rate": 3e-4,
    "num_diverged": 2,
    "num_skipped_updates": 3,
    "time/env_steps_per_s": 412_000.3,
    "time/share_collect": 0.61,
    "time/share_learn": 0.38,
}
EVAL = {"return_mean": 5123.4, "length_mean": 1000.0, "num_diverged": 70}
SHOWN = {
    "eval return": "5,123.4",
    "train return": "4,010.2",
    "episode length": "987",
    "diverged rows": "2",
    "skipped updates": "3",
    "policy loss": "-0.0123",
    "value loss": "0.532",
    "entropy": "3.210",
    "KL": "0.0102",
    "env steps/s": "412,000",
    "collecting": "61%",
    "learning": "38%",
    "learning rate": "3.00e-04",
}


@pytest.fixture
def pipe():
    return Console(file=io.StringIO(), force_terminal=False)


@pytest.fixture(params=[110, 80, 50])
def terminal(request, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), force_terminal=True, width=request.param, height=30)


def lines(console):
    return console.file.getvalue().splitlines()


def plain(text):
    """Text without the control sequences of terminals."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_pipe_gets_one_line_with_all_numbers(pipe):
    with Progress("ksim/Ant-v0 [mjx]", 1_000_000, console=pipe) as display:
        display.update(250_000, TRAIN)
        display.update(250_000, EVAL, "eval")
    line = lines(pipe)[-1]
    assert line.startswith("ksim/Ant-v0 [mjx]: 250,000 / 1,000,000 env steps (25%), ? s left, ")
    assert all(f", {label} {text}" in line for label, text in SHOWN.items())


def test_a_pipe_gets_a_line_every_ten_seconds_and_for_each_evaluation_and_the_end(pipe, monkeypatch):
    clock = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    with Progress("Ant", 10_000, console=pipe) as display:
        for second in range(25):
            clock = 100.0 + second
            display.update(second, TRAIN)
        assert [re.findall(r"Ant: (\d+)", line) for line in lines(pipe)] == [["0"], ["10"], ["20"]]
        display.update(24, EVAL, "eval")
        display.update(25, TRAIN)
        assert len(lines(pipe)) == 4
        display.update(10_000, TRAIN)
    assert len(lines(pipe)) == 5
    assert "\x1b" not in pipe.file.getvalue()


def test_the_time_left_follows_from_the_rate_since_the_run_was_resumed(pipe):
    display = Progress("Ant", 10_000, 4_000, console=pipe)
    clock = 0.0
    display._bar.get_time = lambda: clock
    display._bar.reset(display._task_id, completed=4_000)  # starts the task by this clock
    for second in range(1, 11):
        clock = float(second)
        display.update(4_000 + 100 * second, TRAIN)
    display.update(5_000, EVAL, "eval")
    assert ", 50 s left, " in lines(pipe)[-1]


def test_a_number_that_is_not_there_is_a_dash(pipe):
    with Progress("Ant", 100, console=pipe) as display:
        display.update(1, TRAIN | {"return_mean": math.nan})
    assert "eval return -, train return -, episode length 987" in lines(pipe)[0]


def test_diverged_rows_of_training_add_up(pipe):
    with Progress("Ant", 100, console=pipe) as display:
        for env_steps in (50, 100):
            display.update(env_steps, TRAIN)
            display.update(env_steps, EVAL, "eval")
    assert "diverged rows 4" in lines(pipe)[-1]


def test_a_terminal_shows_all_numbers_in_a_panel_of_its_width(terminal):
    with Progress("Ant [mjx]", 1_000_000, console=terminal) as display:
        display.update(250_000, TRAIN)
        display.update(250_000, EVAL, "eval")
    shown = plain(terminal.file.getvalue())
    panel = shown[shown.rindex("╭") : shown.rindex("╯") + 1].splitlines()
    assert "Ant [mjx]: 250,000 / 1,000,000 env steps" in panel[0]
    assert "25%" in panel[1] and "elapsed" in panel[1] and "left" in panel[1]
    assert all(re.search(rf"{label} +{re.escape(text)} ", "\n".join(panel)) for label, text in SHOWN.items())
    assert {len(line.rstrip()) for line in panel} == {terminal.width}


def test_a_terminal_gets_its_cursor_and_streams_back_after_an_error(terminal):
    streams = sys.stdout, sys.stderr
    with pytest.raises(KeyError), Progress("Ant", 100, console=terminal):
        assert sys.stderr is not streams[1]
        raise KeyError
    assert (sys.stdout, sys.stderr) == streams
    assert terminal.file.getvalue().rindex("\x1b[?25h") > terminal.file.getvalue().rindex("\x1b[?25l")


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "gone")])
@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("num_written", [0, 1, 2])
def test_training_goes_on_when_nothing_can_be_written(error, is_terminal, num_written, monkeypatch):
    class Unwritable(io.StringIO):
        left = num_written

        def write(self, text):
            self.left -= 1
            if self.left < 0:
                raise error

    monkeypatch.setenv("TERM", "xterm-256color")
    streams = sys.stdout, sys.stderr
    console = PipeConsole(file=Unwritable(), force_terminal=is_terminal)
    with Progress("Ant", 100, console=console) as display:
        display.update(50, TRAIN)
        display.update(50, EVAL, "eval")
        display.update(100, TRAIN)
    assert (sys.stdout, sys.stderr) == streams
    with pytest.raises(OSError, match=re.escape(str(error)) or None):
        console.print("anything")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_a_warning_in_a_terminal_stands_whole_above_the_panel():
    import pty

    code = """
    import warnings
    from agents.progress import Progress
    with Progress("Ant", 100) as display:
        display.update(50, {})
        warnings.warn("beware [bold]of[/bold] the row")
        display.update(100, {})
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    while chunk := read(ours):
        output += chunk
    assert child.wait(timeout=60) == 0
    os.close(ours)
    shown = plain(output.decode())
    assert re.search(r"\n?<string>:\d+: UserWarning: beware \[bold\]of\[/bold\] the row\r\n", shown)
    assert shown.rindex("UserWarning") < shown.rindex("╭")


def read(descriptor):
    """What a pseudo-terminal holds; Linux reports its end as an error."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
