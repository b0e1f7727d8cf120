"""What the commands print: text that can be copied and searched."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console


def print_plain(text: str, *, stderr: bool = False) -> None:
    """Prints text as it is, and unwrapped.

    Args:
        text: what to print.
        stderr: to standard error, in place of standard output.
    """
    Console(stderr=stderr, soft_wrap=True).print(text, markup=False, highlight=False)


def final_table(rows: Mapping[str, str]) -> None:
    """Prints what a run came to, one name and value per line.

    Args:
        rows: values by name, in the order in which to print them.
    """
    width = max(map(len, rows), default=0)
    print_plain("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
