"""A check is a function that finds something out and judges it; here is what becomes of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from unittest import SkipTest

Verdict: TypeAlias = tuple[bool, Any, str]
"""Whether it passed, what was found, and what that means."""
Checks: TypeAlias = dict[str, Callable[[], Verdict]]
"""Checks by name."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a check."""

    part: str
    name: str
    status: Literal["ok", "skip", "fail"]
    value: Any = None
    """What was found: anything that JSON can hold."""
    detail: str = ""
    """Why it was skipped or failed, or what the value means."""


def judge(part: str, name: str, check: Callable[[], Verdict]) -> Result:
    """Run a check. Whatever it raises is a result too; `SkipTest` names what the machine lacks."""
    try:
        passed, value, detail = check()
        return Result(part=part, name=name, status="ok" if passed else "fail", value=value, detail=detail)
    except SkipTest as reason:
        return Result(part=part, name=name, status="skip", detail=str(reason))
    except Exception as error:
        return Result(part=part, name=name, status="fail", detail=f"{type(error).__name__}: {error}")


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, from a process that starts JAX anew, and may even crash."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
