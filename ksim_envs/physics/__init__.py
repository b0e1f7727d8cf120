"""Physics engines behind one interface: a model goes in, batched pure functions come out."""

from __future__ import annotations

from typing import Any

import jax
import mujoco

from ksim_envs.errors import InvalidConfigError, check_name
from ksim_envs.physics.backend import Backend
from ksim_envs.physics.model import check_dynamics, file_versions, load_model
from ksim_envs.physics.model_fields import check_per_env, needs_derived_constants
from ksim_envs.types import Device

__all__ = [
    "BACKENDS",
    "Backend",
    "check_device",
    "check_dynamics",
    "choose_backend",
    "file_versions",
    "load_model",
    "make_backend",
    "needs_derived_constants",
]

BACKENDS = ("native", "mjx")


def choose_backend(name: str) -> str:
    """The backend that a name stands for; `"auto"` is native on a CPU and mjx on an accelerator.

    Raises:
        UnknownNameError: there is no such backend.
    """
    if name == "auto":
        return "native" if jax.default_backend() == "cpu" else "mjx"
    return check_name("backend", name, ("auto", *BACKENDS))


def check_device(device: Device) -> Device:
    """The device, which must be one of JAX's.

    Raises:
        InvalidConfigError: it is something else, such as a name.
    """
    if not isinstance(device, jax.Device):
        raise InvalidConfigError(f"device is {device!r}; it must be one of {jax.devices()}.")
    return device


def make_backend(
    name: str,
    model: mujoco.MjModel,
    num_envs: int,
    *,
    frame_skip: int,
    reads: frozenset[str],
    model_fields: frozenset[str] = frozenset(),
    num_threads: int | None = None,
    device: Device | None = None,
) -> Backend:
    """Compile a model for a backend.

    Args:
        name: `"auto"` or one of `BACKENDS`.
        model: the model to simulate.
        num_envs: number of rows.
        frame_skip: physics substeps in a control step.
        reads: the fields of `View` to compute.
        model_fields: names of the model's fields that differ from row to row.
        num_threads: native only; None for one thread for each processor.
        device: mjx only; None for JAX's first device.

    Returns:
        The backend.

    Raises:
        UnknownNameError: there is no such backend.
        InvalidConfigError: an argument belongs to another backend, or a model field cannot differ from row to row.
    """
    chosen = choose_backend(name)
    check_per_env(model_fields)
    shape: dict[str, Any] = {"frame_skip": frame_skip, "reads": reads, "model_fields": model_fields}
    if chosen == "native":
        if device is not None:
            raise InvalidConfigError("device= is for the mjx backend; native runs on the CPU (see num_threads=).")
        from ksim_envs.physics.native import NativeBackend

        return NativeBackend(model, num_envs, **shape, num_threads=num_threads)
    if num_threads is not None:
        raise InvalidConfigError("num_threads= is for the native backend; mjx runs where device= says.")
    from ksim_envs.physics.mjx import MjxBackend

    return MjxBackend(model, num_envs, **shape, device=device)
