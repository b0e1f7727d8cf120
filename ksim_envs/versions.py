"""The versions of the libraries around us: which are installed, and which `ksim_envs` is made for."""

from __future__ import annotations

import functools
import re
import warnings
from importlib import metadata

NOT_INSTALLED = "not installed"


def installed(package: str) -> str:
    """The version of a package, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def requirements(*, extras: bool = True) -> dict[str, str]:
    """Version ranges by package name, such as `<3.18,>=3.17`, as the installed metadata of `ksim-envs` states them."""
    try:
        lines = metadata.requires("ksim-envs") or []
    except metadata.PackageNotFoundError:
        return {}
    lines = [line for line in lines if extras or "extra ==" not in line]
    parts = (re.match(r"([\w.-]+)(?:\[[^]]*\])?([^;]*)", line) for line in lines)
    return {part[1]: part[2].strip() for part in parts if part and part[2].strip()}


def is_allowed(version: str, allowed: str) -> bool:
    """Whether a version lies in a range of `>=` and `<` bounds."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", allowed)
    return all((release(version) >= release(bound)) == (sign == ">=") for sign, bound in bounds)


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()


@functools.cache  # once in a process
def warn_of_others() -> None:
    """Warn of libraries in versions that `ksim_envs` is not made for: what then breaks does so with obscure errors."""
    found = {name: (installed(name), allowed) for name, allowed in requirements(extras=False).items()}
    others = {name: pair for name, pair in found.items() if pair[0] != NOT_INSTALLED and not is_allowed(*pair)}
    if others:
        listed = ", ".join(f"{name} {version} (not {allowed})" for name, (version, allowed) in others.items())
        remedy = " ".join(f"'{name}{allowed}'" for name, (_, allowed) in others.items())
        warnings.warn(
            f"ksim_envs is not made for {listed}, and may fail. To mend it: pip install {remedy}",
            RuntimeWarning,
            stacklevel=3,
        )
