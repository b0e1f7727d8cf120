"""Whether the parts of a task, and theirs, are what their annotations say. Terms check their own numbers' ranges."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

import numpy as np
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from ksim_envs.errors import InvalidConfigError


def parts(path: str, value: Any) -> Generator[tuple[str, Any]]:
    """What a task, a term or a table of terms is made of, itself first, however deep inside; each with its path."""
    yield path, value
    if isinstance(value, Mapping):
        inside = {f"{path}[{name!r}]": each for name, each in value.items()}
    elif isinstance(value, list | tuple):
        inside = {f"{path}[{index}]": each for index, each in enumerate(value)}
    elif is_dataclass(value):
        inside = {f"{path}.{each.name}": getattr(value, each.name) for each in fields(value)}
    else:
        return
    for name, each in inside.items():
        yield from parts(name, each)


def check_parts(path: str, value: Any) -> None:
    """Refuse NaN, classes in place of terms, and fields of other types than annotated, however deep they are.

    Args:
        path: what the value is called in the message.
        value: a task, a term or a table of terms.

    Raises:
        InvalidConfigError: what is wrong, and what is allowed.
    """
    for place, part in parts(path, value):
        if isinstance(part, type):
            raise InvalidConfigError(f"{place} is the class {part.__name__}; make one of it: {part.__name__}(...).")
        if isinstance(part, float | np.floating | np.ndarray) and np.any(part != part):
            raise InvalidConfigError(f"{place} is {part}; it must be a number.")
        for name, hint in _hints(type(part)).items():
            if not _is_of_type(getattr(part, name), hint):
                allowed = re.sub(r"\b\w+\.(?=\w)|<class '|'>", "", str(hint))  # without the modules' names
                raise InvalidConfigError(f"{place}.{name} is {getattr(part, name)!r}; it must be {allowed}.")


def _is_of_type(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; unlike in Python, True and False are no numbers."""
    if isinstance(value, bool) and "bool" not in str(hint) and hint is not Any:
        return False
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields; any where an annotation cannot be looked up, as inside a function."""
    if not is_dataclass(kind):
        return {}
    try:
        hints = get_type_hints(kind)
    except NameError:
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in fields(kind)}
