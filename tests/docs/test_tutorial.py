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
from ksim_envs.tasks.actuators import Position
from ksim_envs.tasks.base_motion import ProjectedGravity
from ksim_envs.tasks.joints import JointPosition
from ksim_envs.tasks.motors import Gains
from ksim_envs.tasks.resets import Keyframe
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.targets import AroundPose
from tests.marks import without_video

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
FEW_STEPS = "--num-envs 8 --num-env-states-per-minibatch 64 --num-minibatches 2 --total-env-steps 256 --num-eval-envs 2"
USE = """
import gymnasium as gym
from agents import ppo
from agents.cli import main

envs = gym.make("pup:ksim/Pup-v0", num_envs=4)
obs, info = envs.reset(seed=0)
policy = ppo.load("runs/pup")
for _ in range(5):
    obs, reward, terminated, truncated, info = envs.step(policy(obs))
print(sorted(info))
assert main(["eval", "runs/pup", "--episodes", "2"]) == 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the robot's two files, and the id as the reader's process registers it."""
    folder = tmp_path_factory.mktemp("pup")
    for name in ("pup.py", "pup.xml"):
        shutil.copy(TUTORIAL / name, folder)
    return folder


def run(folder, program):
    child = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=without_video(), capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def ksim(folder, *commands):
    """What these commands print, one after the other."""
    lines = [f"assert main({command.split()}) == 0" for command in commands]
    return run(folder, "\n".join(["from agents.cli import main", *lines]))


def test_the_task_is_one_page():
    assert len((TUTORIAL / "pup.py").read_text().splitlines()) <= 60


def test_a_reader_checks_trains_evaluates_and_uses_it(folder):
    check = "check pup:ksim/Pup-v0 --num-envs 4 --num-steps 25"
    assert "no fault found" in ksim(folder, check, f"train pup:ksim/Pup-v0 --run-dir runs/pup {FEW_STEPS}")
    used = run(folder, USE)
    assert "reward_velocity" in used and "terminated_share" in used


@pytest.fixture(scope="module")
def names():
    """What the page's snippets define."""
    snippets = re.findall(r"^( *)```python\n(.*?)```", (TUTORIAL / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    found: dict = {}
    for indent, snippet in snippets:
        exec(re.sub(f"^{indent}", "", snippet, flags=re.MULTILINE), found)
    return found


def test_a_urdf_becomes_a_robot_that_can_be_driven(names, tmp_path):
    file = tmp_path / "spider.urdf"
    file.write_text(spider(num_legs=8))
    task = ksim_envs.Task(
        model=str(file),
        frame_skip=5,
        episode_length=10,
        observations={"gravity": ProjectedGravity(), "joints": JointPosition()},
        rewards={"alive": Alive(1.0)},
        actuator=Position(gains={"*": Gains(kp=20.0, kd=0.5)}, targets=AroundPose(keyframe="standing")),
        resets={"start": Keyframe("standing")},
        edits=(names["Drivable"](),),
    )
    core = ksim_envs.make_functional(task, 2, backend="native")
    assert (core.num_actions, core.backend.model.nq, core.backend.model.ngeom) == (8, 15, 10)
    np.testing.assert_allclose(core.reset(core.keys(0)).obs_EL[0], [0, 0, -1, *[0] * 8], atol=1e-6)


def spider(num_legs):
    """A URDF of a box with legs."""
    inertial = '<inertial><mass value="1"/><inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial>'
    collision = '<collision><geometry><sphere radius="0.05"/></geometry></collision>'
    legs = "".join(
        f"""<link name="leg{i}">{inertial}{collision}</link>
        <joint name="hip{i}" type="revolute"><parent link="base"/><child link="leg{i}"/><axis xyz="0 1 0"/>
        <limit lower="-1" upper="1" effort="20" velocity="10"/></joint>"""
        for i in range(num_legs)
    )
    return f'<robot name="spider"><link name="base">{inertial}{collision}</link>{legs}</robot>'


def test_the_snippet_is_a_term_that_works(names, make_env):
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
