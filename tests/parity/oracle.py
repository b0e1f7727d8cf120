"""Gymnasium's own v5 environments as the oracle, and how close is equal."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

import ksim_envs
from ksim_envs.registration import GYMNASIUM_TASKS
from ksim_envs.runtime import quiet_mujoco

IDS = tuple(GYMNASIUM_TASKS)
MANY_CONTACTS = ("ksim/Humanoid-v0", "ksim/HumanoidStandup-v0", "ksim/Ant-v0")
"""Tasks in which a contact that begins within a control step multiplies the rounding before it."""


def gymnasium_twin(id: str) -> gym.Env[Any, Any]:
    """The v5 task that a built-in id reproduces, with its time limit and without checks."""
    with quiet_mujoco(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HalfCheetah's file uses a deprecated attribute
        return gym.make(id.removeprefix("ksim/").replace("-v0", "-v5"), disable_env_checker=True)


def error(found: Any, expected: Any) -> float:
    """The largest deviation, absolute or relative, whichever is smaller, element by element."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = np.abs(found - expected)
    return float(np.max(np.minimum(difference, difference / np.maximum(np.abs(expected), 1e-300)), initial=0.0))


def random_action(env: gym.Env[Any, Any], rng: np.random.Generator) -> np.ndarray:
    """A uniform action, float32."""
    return rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)


def task_of(id: str) -> ksim_envs.Task:
    """The task of an id."""
    return ksim_envs.get_task(id)


def short_task_of(id: str) -> ksim_envs.Task:
    """The task of an id, its control step a single physics step where there are many contacts."""
    task = task_of(id)
    return replace(task, frame_skip=1) if id in MANY_CONTACTS else task
