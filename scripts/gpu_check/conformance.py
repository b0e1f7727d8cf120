"""Envs on this device against the contract of vector envs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import ksim_envs
from scripts.gpu_check.checks import Checks, Verdict
from scripts.gpu_check.device import place
from scripts.gpu_check.envs import make
from scripts.gpu_check.parity import spread

KINDS = [
    ("next_step", "numpy"),
    ("disabled", "numpy"),
    ("same_step", "numpy"),
    ("same_step", "jax"),
    ("same_step", "torch"),
]
"""Auto-reset modes and outputs."""


def checks(ids: Sequence[str]) -> Checks:
    """`check_vector_env` in every mode and with every kind of output; and where native envs compute."""
    return {
        "a native env stays on the CPU": partial(native_device, ids[0]),
        **{f"{id}, {mode}, {output}": partial(conforms, id, mode, output) for id in ids for mode, output in KINDS},
    }


def conforms(id: str, mode: str, output: str) -> Verdict:
    """An mjx env against the contract; equal runs are compared only where the device repeats bits."""
    if output == "torch":
        place()
    skip = ("same seed",) if spread(id) else ()
    env = make(id, autoreset_mode=mode, output=output, episode_length=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ksim_envs.check_vector_env(env, num_steps=100, skip=skip)
    return True, f"left out: {skip}" if skip else "no fault", "; ".join(str(warning.message) for warning in caught)


def native_device(id: str) -> Verdict:
    """Where a native env's first observation lies on a machine whose default device may be an accelerator."""
    env = make(id, backend="native", output="jax")
    device = env.reset(seed=0)[0].device
    return device.platform == env.device, str(device), f"env.device is {env.device!r}"
