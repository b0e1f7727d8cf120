"""The tutorial's robot, tried as its reader would: copied into a folder of one's own, checked, trained and used."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import UnknownNameError

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
FEW_STEPS = "--num-envs 8 --num-env-states-per-minibatch 64 --num-minibatches 2 --total-env-steps 256 --num-eval-envs 2"
USE = """
import gymnasium as gym
from agents import ppo

envs = gym.make("pup:ksim/Pup-v0", num_envs=4)
obs, info = envs.reset(seed=0)
policy = ppo.load("runs/pup")
for _ in range(5):
    obs, reward, terminated, truncated, info = envs.step(policy(obs))
print(sorted(info))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the robot's two files, and the id as the reader's process registers it."""
    folder = tmp_path_factory.mktemp("pup")
    for name in ("pup.py", "pup.xml"):
        shutil.copy(TUTORIAL / name, folder)
    return folder


def run(folder, *command):
    child = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return child.stdout


def ksim(folder, *words):
    return run(folder, "-c", "import sys; from agents.cli import main; sys.exit(main())", *words)


def test_the_task_is_one_page():
    assert len((TUTORIAL / "pup.py").read_text().splitlines()) <= 60


def test_a_reader_checks_trains_evaluates_and_uses_it(folder):
    assert "no fault found" in ksim(folder, "check", "pup:ksim/Pup-v0", "--num-envs", "4", "--num-steps", "25")
    ksim(folder, "train", "pup:ksim/Pup-v0", "--run-dir", "runs/pup", *FEW_STEPS.split())
    assert "terminated_share" in ksim(folder, "eval", "runs/pup", "--episodes", "2")
    assert "reward_velocity" in run(folder, "-c", USE)


def test_the_snippet_is_a_term_that_works(make_env):
    text = (TUTORIAL / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec("from dataclasses import dataclass\n" + re.sub("^  ", "", snippet, flags=re.M), names)
    task = ksim_envs.Task(
        model=str(TUTORIAL / "pup.xml"),
        frame_skip=5,
        episode_length=10,
        observations={"height": names["FootHeight"]("rear_left_foot")},
        rewards={"height": names["FootHeight"]("rear_left_foot")},
    )
    obs, _ = make_env(task, 2, backend="native").reset(seed=0)
    np.testing.assert_allclose(obs, 0.25 - 0.28, atol=1e-6)


def test_a_wrong_name_gets_the_message_that_the_tutorial_shows(make_env):
    from ksim_envs.tasks.observations import Sensor

    task = ksim_envs.Task(
        model=str(TUTORIAL / "pup.xml"),
        frame_skip=5,
        episode_length=10,
        observations={"gyro": Sensor("gyr")},
        rewards={"gyro": Sensor("gyr")},
    )
    with pytest.raises(UnknownNameError) as error:
        make_env(task, 2, backend="native")
    shown = re.search(r"`(no sensor .*?\?)`", " ".join((TUTORIAL / "README.md").read_text().split())).group(1)
    assert shown.removeprefix("no ") in str(error.value)
