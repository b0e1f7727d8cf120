"""Checks on the host, before any state changes: what users pass in, and what they get told when it cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from ksim_envs import guard
from ksim_envs.errors import (
    InvalidActionError,
    InvalidConfigError,
    InvalidOptionError,
    InvalidSeedError,
    ResetNeededError,
    unknown_name,
)
from ksim_envs.types import Autoreset

MAX_NUM_ENVS = 2**24
OUTPUTS = ("numpy", "jax", "torch")
RENDER_MODES = ("rgb_array",)
_LARGEST = np.finfo(np.float32).max


def positive_integer(name: str, value: Any, maximum: int = 2**31 - 1) -> int:
    """The value as an int; numpy integers are fine, bools, floats and strings are not."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not 1 <= value <= maximum:
        raise InvalidConfigError(f"{name} is {value!r}; it must be an integer from 1 to {maximum}.")
    return int(value)


def boolean(name: str, value: Any) -> bool:
    """The value, True or False and nothing that only counts as such."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidConfigError(f"{name} is {value!r}; it must be True or False.")
    return bool(value)


def episode_steps(value: Any, num_envs: int, episode_length: int) -> np.ndarray:
    """The value as (num_envs,) int32 counts of control steps, each less than the episode's length."""
    steps_E = _array("episode_steps", value, InvalidOptionError)
    if steps_E.shape != (num_envs,) or steps_E.dtype.kind not in "iu":
        raise InvalidOptionError(
            f"episode_steps has shape {steps_E.shape} and dtype {steps_E.dtype}; it must be ({num_envs},) integers."
        )
    if steps_E.min() < 0 or steps_E.max() >= episode_length:
        raise InvalidOptionError(
            f"episode_steps lies in [{steps_E.min()}, {steps_E.max()}]; it must lie in [0, {episode_length - 1}]."
        )
    return steps_E.astype(np.int32)


def autoreset_mode(value: AutoresetMode | str) -> AutoresetMode:
    """The mode, from a member of Gymnasium's enum, its value ("NextStep") or its name ("next_step", in any case)."""
    if isinstance(value, AutoresetMode):
        return value
    if isinstance(value, Autoreset):
        return AutoresetMode[value.name]
    for mode in AutoresetMode:
        if str(value).lower() in (mode.value.lower(), mode.name.lower()):
            return mode
    raise unknown_name("autoreset_mode", str(value), (mode.name.lower() for mode in AutoresetMode))


def seeds(seed: Any, num_envs: int) -> int | list[int | None] | None:
    """The seed as Python integers.

    Args:
        seed: None, one integer in [0, 2**64) for the batch, or a list of such integers and None, one for each env.
        num_envs: number of envs.

    Returns:
        None, the integer, or a list of `num_envs` integers and None; None stands for going on with what the env has.

    Raises:
        InvalidSeedError: anything else.
    """
    if seed is None:
        return None
    if isinstance(seed, (list, tuple)) or isinstance(seed, np.ndarray) and seed.ndim:
        if len(seed) != num_envs:
            raise InvalidSeedError(
                f"seed has {len(seed)} entries; this env expects one for each of its {num_envs} envs."
            )
        return [None if one is None else one_seed(one, f"seed[{i}]") for i, one in enumerate(seed)]
    return one_seed(seed, "seed")


def one_seed(value: Any, name: str) -> int:
    """The seed as a Python integer."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InvalidSeedError(f"{name} is {value!r} of type {type(value).__name__}; it must be an integer.")
    if not 0 <= value < 2**64:
        raise InvalidSeedError(f"{name} is {value}; it must lie in [0, 2**64).")
    return int(value)


def reset_options(
    options: Mapping[str, Any] | None, num_envs: int, sizes: Mapping[str, int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The mask of the rows to reset, and the states to put them in; the caller's dictionary is only read.

    Args:
        options: None, or a mapping with any of `"reset_mask"`, `"qpos"` and `"qvel"`.
        num_envs: number of envs.
        sizes: lengths of one env's `"qpos"` and `"qvel"`.

    Returns:
        (num_envs,) bool, and (num_envs, size) float64 arrays by name for those given.

    Raises:
        InvalidOptionError: a value that cannot be used.
        UnknownNameError: an option that does not exist.
    """
    if options is not None and not isinstance(options, Mapping):
        raise InvalidOptionError(f"options is a {type(options).__name__}; it must be a dictionary or None.")
    options = options or {}
    for name in options:
        if name not in ("reset_mask", *sizes):
            raise unknown_name("reset option", str(name), ("reset_mask", *sizes))
    mask = _reset_mask(options["reset_mask"], num_envs) if "reset_mask" in options else np.ones(num_envs, bool)
    start = {name: _start(name, options[name], num_envs, sizes[name]) for name in sizes if name in options}
    return mask, start


def _reset_mask(value: Any, num_envs: int) -> np.ndarray:
    mask = np.array(_array("reset_mask", value, InvalidOptionError))
    if mask.dtype != np.bool_ or mask.shape != (num_envs,):
        raise InvalidOptionError(
            f"reset_mask has dtype {mask.dtype} and shape {mask.shape}; it must be bool of shape ({num_envs},)."
        )
    if not mask.any():
        raise InvalidOptionError("reset_mask selects no env; set at least one entry, or leave the reset out.")
    return mask


def _start(name: str, value: Any, num_envs: int, size: int) -> np.ndarray:
    array = _numeric(name, value, InvalidOptionError).astype(np.float64)
    if array.shape not in ((size,), (num_envs, size)):
        raise InvalidOptionError(f"{name} has shape {array.shape}; it must be ({size},) or ({num_envs}, {size}).")
    usable = np.abs(array) <= guard.MAX_VALUE
    if not usable.all():
        where = np.argwhere(~usable)[0].tolist()
        raise InvalidOptionError(
            f"{name}{where} is {array[tuple(where)]}; positions and velocities must be finite and, as in MuJoCo, "
            f"within +-{guard.MAX_VALUE:.0e}."
        )
    return np.ascontiguousarray(np.broadcast_to(array, (num_envs, size)))


def actions(value: Any, shape: tuple[int, ...], axes: str) -> np.ndarray:
    """A private float32 copy of host actions; any values but NaN and infinities (out of bounds ones are clipped later).

    Args:
        value: anything that NumPy makes a real numeric array of.
        shape: the shape that it must have.
        axes: that shape in words, for the message.

    Returns:
        The copy.

    Raises:
        InvalidActionError: another shape or type, or a value that is not finite.
    """
    array = _numeric("action", value, InvalidActionError)
    if array.shape != shape:
        raise InvalidActionError(f"action has shape {array.shape}; this env expects {axes} = {shape}.")
    finite = np.isfinite(array)
    if not finite.all():
        where = np.argwhere(~finite)[0].tolist()
        raise InvalidActionError(
            f"action{where} is {array[tuple(where)]}; actions must be finite (found {(~finite).sum()} that are not)."
        )
    return np.clip(array, -_LARGEST, _LARGEST).astype(np.float32, copy=False)  # clip copies; a cast could overflow


def _numeric(name: str, value: Any, error: type[Exception]) -> np.ndarray:
    array = _array(name, value, error)
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):  # bfloat16 is fine
        raise error(f"{name} has dtype {array.dtype}; it must be real numbers (integers or floating point).")
    return array


def _array(name: str, value: Any, error: type[Exception]) -> np.ndarray:
    torch = sys.modules.get("torch")
    try:
        return value.numpy(force=True) if torch and isinstance(value, torch.Tensor) else np.asarray(value)
    except Exception as reason:
        raise error(f"{name} is a {type(value).__name__} that NumPy cannot read: {reason}") from reason


def refuse_ended(needs_reset: np.ndarray) -> None:
    """Refuse to step where an episode has ended and auto-reset is off."""
    if needs_reset.any():
        rows = np.flatnonzero(needs_reset)
        raise ResetNeededError(
            f"the episodes of envs {rows[:8].tolist()}{'...' if len(rows) > 8 else ''} have ended and autoreset_mode "
            'is DISABLED; call reset(options={"reset_mask": terminated | truncated}) before the next step.'
        )
