"""The tasks of K-Bot can be built, and have what their docstrings say."""

import pytest

import ksim_envs
from ksim_envs.tasks.kbot import KBOT_STAND, KBOT_WALK


@pytest.mark.parametrize(("task", "num_observations"), [(KBOT_STAND, 66), (KBOT_WALK, 73)], ids=["stand", "walk"])
def test_it_is_controlled_at_50_hz_by_20_joints(task, num_observations):
    core = ksim_envs.make_functional(task, 2, backend="native")
    assert (core.num_observations, core.num_actions) == (num_observations, 20)
    assert core.dt == pytest.approx(0.02)
    assert core.slices()["gravity"] == slice(3, 6)
