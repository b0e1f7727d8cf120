"""What the commands print: text that can be copied and searched."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console


class PipeConsole(Console):
    """Rich's console, but a pipe that was closed is for the caller to deal with; Rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError during whose handling Rich calls this."""
        raise


def print_plain(text: str, *, stderr: bool = False) -> None:
    """Prints text as it is, and unwrapped.

    Args:
        text: what to print.
        stderr: to standard error, in place of standard output.
    """
    PipeConsole(stderr=stderr, soft_wrap=True).print(text, markup=False, highlight=False)


def final_table(rows: Mapping[str, str]) -> None:
    """Prints what a run came to, one name and value per line.

    Args:
        rows: values by name, in the order in which to print them.
    """
    width = max(map(len, rows), default=0)
    print_plain("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
