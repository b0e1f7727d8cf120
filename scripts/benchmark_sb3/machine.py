"""What a reader must know to compare numbers: the machine and the versions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import gymnasium
import mujoco

from ksim_envs import bench, versions
from scripts.benchmark_sb3.results import Results

HARDWARE = ("processor", "cores")
KNOWN_VERSIONS = ("python", "mujoco", "gymnasium", "jax", "jaxlib", "numpy")
"""Those that `bench.method` tells."""
PACKAGES = ("torch", "stable-baselines3", "sbx-rl")
VERSIONS = (*KNOWN_VERSIONS, *PACKAGES)


def machine() -> dict[str, str]:
    """Facts by name, those in `HARDWARE` and `VERSIONS` and this package's commit."""
    known = bench.method()
    return {
        **{name: known[name] for name in (*HARDWARE, *KNOWN_VERSIONS)},
        **{name: versions.installed(name) for name in PACKAGES},
        "ksim-envs": _commit(),
    }


def conditions() -> dict[str, str]:
    """What differs on one machine from one training to the next."""
    return {
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "engine_rate": f"{engine_rate():.0f}",
    }


def engine_rate(seconds: float = 1.0) -> float:
    """Steps per second of C MuJoCo on one core, in Gymnasium's Humanoid as it falls: a yardstick.

    One machine may be twice as fast today as tomorrow, where it shares its processor with others.

    Args:
        seconds: about how long to measure.
    """
    model = gymnasium.make("Humanoid-v5").unwrapped.model  # pyright: ignore[reportAttributeAccessIssue]
    data = mujoco.MjData(model)
    num_steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        mujoco.mj_resetData(model, data)
        mujoco.mj_step(model, data, nstep=200)
        num_steps += 200
    return num_steps / passed


def check_versions(facts: dict[str, str], results: Results) -> None:
    """Exit if there are results of other versions.

    Raises:
        SystemExit: there are.
    """
    for result in results.values():
        differing = [name for name in VERSIONS if result.machine[name] != facts[name]]
        if differing:
            there, here = ({name: known[name] for name in differing} for known in (result.machine, facts))
            sys.exit(f"The results are those of other versions: there {there}, here {here}. Choose another --out.")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("ksim-envs")
