"""The typed exceptions. Each message says what was found, what is allowed, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import gymnasium as gym


class KsimError(Exception):
    """Base class of every error that this package raises on purpose."""


class InvalidActionError(KsimError, ValueError):
    """An action has the wrong shape or type, or is not finite."""


class InvalidSeedError(KsimError, ValueError):
    """A seed is not an integer in [0, 2**64), or not one such integer for each env."""


class InvalidOptionError(KsimError, ValueError):
    """A reset option is unknown, or its value cannot be used."""


class InvalidConfigError(KsimError, ValueError):
    """An argument, a setting or a task is not valid; raised before anything is built or changed."""


class UnknownNameError(KsimError, ValueError):
    """A name (id, backend, keyword, body, sensor, ...) does not exist; the message lists near misses."""


class UnknownKeywordError(UnknownNameError, TypeError):
    """An argument's name does not exist; a `TypeError` too, as libraries expect that try one and go on without."""


class ResetNeededError(KsimError, gym.error.ResetNeeded):
    """`step` was called before `reset`, or on a row whose episode has ended without auto-reset."""


class ClosedEnvError(KsimError, gym.error.ClosedEnvironmentError):
    """The environment was used after `close`."""


class ForkedProcessError(KsimError, RuntimeError):
    """The environment was made in another process; JAX and thread pools do not survive a fork."""


class MissingDependencyError(KsimError, ImportError):
    """An optional library is needed for this; the message names the extra to install."""


class RenderError(KsimError, RuntimeError):
    """A frame cannot be drawn; the message names the GL library to install or the mode to ask for."""


class ConformanceError(KsimError, AssertionError):
    """A vector env breaks its contract; the message lists every fault found."""


def check_name(kind: str, name: Any, known: Iterable[str]) -> str:
    """The name, which must be one of the known ones.

    Raises:
        UnknownNameError: it is not.
    """
    if not isinstance(name, str) or name not in (known := tuple(known)):
        raise unknown_name(kind, str(name), known)
    return name


def unknown_name(kind: str, name: str, known: Iterable[str], note: str = "") -> UnknownNameError:
    """The error for a name that does not exist, with near misses first and all known names after.

    Args:
        kind: what the name stands for, such as "backend" or "body".
        name: the name that was given.
        known: the names that exist.
        note: a sentence on the name itself.

    Returns:
        The exception, to be raised by the caller.
    """
    note = f" {note}" if note else ""
    return UnknownNameError(f"There is no {kind} {name!r}.{note}{_hint(name, known)}")


def unknown_keyword(callee: str, name: str, known: Iterable[str]) -> UnknownKeywordError:
    """The error for an argument's name that does not exist, in Python's own words."""
    return UnknownKeywordError(f"{callee} got an unexpected keyword argument {name!r}.{_hint(name, known)}")


def _hint(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    return f"{hint} Known: {', '.join(known) or 'none'}."
