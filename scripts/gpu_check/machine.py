"""Devices, versions, flags and memory; and whether JAX uses the accelerator."""

from __future__ import annotations

import os
import re
import subprocess
from functools import partial
from typing import Any
from unittest import SkipTest

import jax

from ksim_envs import bench
from scripts.gpu_check.checks import Checks, Verdict
from scripts.gpu_check.device import torch


def checks() -> Checks:
    """A fact each, which is only stated, and the accelerator."""
    device = jax.devices()[0]
    facts = {
        **bench.method(),
        "torch": torch.__version__ if torch else "not installed",
        "runtime": device.client.platform_version,
        "GPUs and driver": nvidia_smi(),
        "variables": {name: value for name, value in os.environ.items() if re.match("XLA_|JAX_|CUDA_V|KSIM_", name)},
        "memory": device.memory_stats() or "not reported",
    }
    return {**{name: partial(stated, value) for name, value in facts.items()}, "accelerator": accelerator}


def stated(value: Any) -> Verdict:
    """A fact."""
    return True, value, ""


def accelerator() -> Verdict:
    """Whether JAX uses the accelerator, where there is one."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return True, str(device), ""
    if nvidia_smi() and "JAX_PLATFORMS" not in os.environ:
        return False, str(device), "JAX does not use the GPU: pip install 'jax[cuda13]'"
    raise SkipTest("JAX runs on the CPU")


def nvidia_smi() -> str:
    """Name, driver and memory of each GPU; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
