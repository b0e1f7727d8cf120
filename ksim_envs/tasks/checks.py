"""Whether the parts of a task, and theirs, are what their annotations say. Terms check their own numbers' ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

import numpy as np
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from ksim_envs.errors import InvalidConfigError


def check_parts(path: str, value: Any) -> None:
    """Refuse NaN, classes in place of terms, and fields of other types than annotated, however deep they are.

    Args:
        path: what the value is called in the message.
        value: a dataclass, or a table or tuple of such; anything else passes.

    Raises:
        InvalidConfigError: what is wrong, and what is allowed.
    """
    if isinstance(value, type):
        raise InvalidConfigError(f"{path} is the class {value.__name__}; make one of it: {value.__name__}(...).")
    if isinstance(value, float | np.floating | np.ndarray):
        array = np.asarray(value)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise InvalidConfigError(f"{path} is {value}; it must be a number.")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            check_parts(f"{path}[{name!r}]", each)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            check_parts(f"{path}[{index}]", each)
    elif is_dataclass(value):
        for name, hint in _hints(type(value)).items():
            check_parts(f"{path}.{name}", getattr(value, name))
            if not _is_of_type(getattr(value, name), hint):
                allowed = re.sub(r"\b\w+\.(?=\w)|<class '|'>", "", str(hint))  # without the modules' names
                raise InvalidConfigError(f"{path}.{name} is {getattr(value, name)!r}; it must be {allowed}.")


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
    try:
        hints = get_type_hints(kind)
    except NameError:
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in fields(kind)}
