"""What several files of tests share: marks, and how a child process is spared what its test is not about."""

import os
from importlib.util import find_spec

import pytest
from gymnasium.vector import AutoresetMode

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
TORCH = pytest.param("torch", marks=needs_torch)
OUTPUTS = pytest.mark.parametrize("output", ("numpy", "jax", TORCH))
DEVICE_OUTPUTS = pytest.mark.parametrize("output", ("jax", TORCH))
MODES = pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name.lower())


def without_video() -> dict[str, str]:
    """The environment of a child that trains: without a GPU its video may take longer to draw than all else."""
    return os.environ | {"MUJOCO_GL": "off"}
