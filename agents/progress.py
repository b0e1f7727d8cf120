"""How a run is doing: a live panel in a terminal, a plain line now and then in a pipe or a log file."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from agents.console import PipeConsole

LINE_SECONDS = 10.0
"""s, between two plain lines."""

# What is shown, column by column: label, kind and name of the metric, format.
_FIELDS = (
    ("eval return", "eval", "return_mean", ",.1f"),
    ("train return", "train", "return_mean", ",.1f"),
    ("episode length", "train", "length_mean", ",.0f"),
    ("diverged rows", "train", "num_diverged", ",.0f"),
    ("skipped updates", "train", "num_skipped_updates", ",.0f"),
    ("policy loss", "train", "policy_loss", ".4f"),
    ("value loss", "train", "value_loss", ".4g"),
    ("entropy", "train", "entropy", ".3f"),
    ("KL", "train", "kl", ".4f"),
    ("env steps/s", "train", "time/env_steps_per_s", ",.0f"),
    ("collecting", "train", "time/share_collect", ".0%"),
    ("learning", "train", "time/share_learn", ".0%"),
    ("learning rate", "train", "learning_rate", ".2e"),
)
_COLUMN_WIDTH = 25


class Progress:
    """Shows how far a run is and its latest numbers, from `with Progress(...)` until that block ends.

    In a terminal a panel is kept up to date below whatever else is printed, warnings included. Elsewhere there is one
    line at least every ten seconds in which rows arrive, and one for each evaluation. What cannot be written, as into a
    closed pipe, to a full disk or on a terminal that is gone, is left out: training goes on, and the log has it all.
    """

    def __init__(
        self, title: str, total_env_steps: int, done_env_steps: int = 0, *, console: Console | None = None
    ) -> None:
        """Set it up; nothing is shown yet.

        Args:
            title: what is being trained.
            total_env_steps: env steps at which the run ends.
            done_env_steps: env steps that a resumed run has behind it.
            console: where to show it; standard output when None.
        """
        self._title = title
        self._console = console or PipeConsole()
        self._values: dict[tuple[str, str], float] = {}
        self._next_line = 0.0
        times = (TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("left"))
        # Two minutes of samples: the time left then includes evaluations, and soon forgets how long compilation took.
        self._bar = Bar(
            BarColumn(None), TaskProgressColumn(), *times, speed_estimate_period=120.0, expand=True, disable=True
        )
        self._task_id = self._bar.add_task(title, total=total_env_steps, completed=done_env_steps)
        self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=2.0)

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            with contextlib.suppress(OSError):
                self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()

    def update(self, env_steps: int, values: Mapping[str, float], kind: str = "train") -> None:
        """Shows a row of the log.

        Args:
            env_steps: env steps taken since the run began.
            values: the numbers by name, as the logger gets them.
            kind: "train" or "eval", as the logger gets it.
        """
        diverged = self._values.get(("train", "num_diverged"), 0.0)
        self._values |= {(kind, name): float(value) for name, value in values.items()}
        if kind == "train":  # a row counts its own; shown is the sum
            self._values[kind, "num_diverged"] = diverged + values.get("num_diverged", 0)
        self._bar.update(self._task_id, completed=env_steps)
        task = self._bar.tasks[0]
        is_due = kind == "eval" or task.finished or time.monotonic() >= self._next_line
        if is_due and not self._live.is_started:
            self._next_line = time.monotonic() + LINE_SECONDS
            with contextlib.suppress(OSError):
                print(self._line(), file=self._console.file, flush=True)

    def _fields(self) -> Iterator[tuple[str, str]]:
        """Labels and what stands beside them; a dash where there is no number, as before the first episode's end."""
        for label, kind, name, form in _FIELDS:
            value = self._values.get((kind, name), math.nan)
            yield label, format(value, form) if math.isfinite(value) else "-"

    def _heading(self) -> str:
        task = self._bar.tasks[0]
        return f"{self._title}: {task.completed:,.0f} / {task.total:,.0f} env steps"

    def _line(self) -> str:
        task = self._bar.tasks[0]
        left = "?" if task.time_remaining is None else f"{task.time_remaining:,.0f}"
        fields = ", ".join(f"{label} {text}" for label, text in self._fields())
        return f"{self._heading()} ({task.percentage:.0f}%), {left} s left, {fields}"

    def _panel(self) -> RenderableType:
        num_columns = max(1, min(3, self._console.width // _COLUMN_WIDTH))
        num_rows = math.ceil(len(_FIELDS) / num_columns)
        table = Table.grid(expand=True, padding=(0, 1))
        for _ in range(num_columns):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        fields = list(self._fields())
        for row in range(num_rows):
            table.add_row(*(cell for field in fields[row::num_rows] for cell in field))
        return Panel(Group(self._bar.get_renderable(), table), title=Text(self._heading()), title_align="left")
