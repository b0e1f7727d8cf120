"""What each built-in id does from seed 0, in numbers that are kept beside this file.

They show a change of what an id means that nobody intended: of keys, of the order of draws, of a gain, of a range.
Where one is intended, write them anew:

    python -m tests.ksim_envs.golden
"""

from __future__ import annotations

import json
from pathlib import Path

import mujoco
import numpy as np

import ksim_envs
from ksim_envs.registration import BUILT_IN
from ksim_envs.vector_env import KsimVectorEnv

PATH = Path(__file__).with_name("golden.json")
NUM_STEPS = 10
TOLERANCE = 1e-4
"""Absolute and relative: processors round differently, and contacts multiply that; a change moves numbers by more."""


def trajectory(env: KsimVectorEnv) -> dict[str, list[float]]:
    """What a native env with one row shows after a few steps from seed 0, and what each of them paid.

    Actions go through half of their range.
    """
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    paid = []
    for step in range(NUM_STEPS):
        wave = np.sin(step + np.arange(env.core.num_actions))
        obs, reward, *_ = env.step(0.5 * (low + high) + 0.25 * (high - low) * wave)
        paid.append(reward[0])
    return {
        "observation": _rounded(obs[0]),
        "rewards": _rounded(paid),
        "qpos": _rounded(env.physics_state()["qpos"][0]),
    }


def write() -> None:
    """Write the file, a line for each id."""
    kept = {"mujoco": mujoco.__version__}
    for id in BUILT_IN:
        kept[id] = trajectory(KsimVectorEnv(ksim_envs.get_task(id), 1, backend="native"))
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in kept.items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _rounded(values: np.ndarray | list[float]) -> list[float]:
    """To six digits, so that the file stays small."""
    return [float(f"{value:.6g}") for value in values]


if __name__ == "__main__":
    write()
