"""Everything that asks, at once, in one task on each backend: documented ranges, effects, and the same values."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.building import make_core
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.resets import UniformPosition, UniformVelocity
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from tests.ksim_envs.tasks.biped import BIPED
from tests.ksim_envs.tasks.ksim_terms import COMMANDS, MORE_REWARDS, REWARDS

KSIM_COMMANDS = {
    "FloatVector",
    "IntVector",
    "StartPosition",
    "StartQuaternion",
    "LinearVelocity",
    "AngularVelocity",
    "CartesianCoordinate",
    "SinusoidalGait",
    "BaseHeight",
    "JointPosition",
}
KSIM_REWARDS = {
    "StayAlive",
    "LinearVelocity",
    "AngularVelocity",
    "OffAxisVelocity",
    "BaseHeight",
    "BaseHeightRange",
    "ActionVelocity",
    "ActionAcceleration",
    "ActionJerk",
    "SmallJointVelocity",
    "SmallJointAcceleration",
    "SmallJointJerk",
    "AvoidLimits",
    "Torque",
    "Energy",
    "JointDeviation",
    "FlatBody",
    "PositionTracking",
    "Upright",
    "NoRoll",
    "LinkAcceleration",
    "LinkJerk",
    "Symmetry",
    "PairwiseSymmetry",
    "Reachability",
    "FeetAirTime",
    "FeetSlip",
    "SparseTargetHeight",
    "MotionlessAtRest",
    "Force",
    "SinusoidalGait",
    "JointPosition",
    "Intersection",
}
MODULES = ("commands", "gait", "measures", "motion_commands", "posture", "rewards", "smoothness", "tracking")
ALL_REWARDS = {**REWARDS, **MORE_REWARDS}
NUM_ENVS = 8
NUM_STEPS = 80
TASK = Task(
    model=BIPED,
    frame_skip=4,
    episode_length=30,
    observations={"qpos": Field("qpos")},
    commands={name: term for name, (term, _) in COMMANDS.items()},
    rewards={f"reward {name}": term for name, (term, _) in ALL_REWARDS.items()},
    terminations={"fell": Outside(Coordinate(2), low=0.3)},
    resets={"position": UniformPosition(0.03), "velocity": UniformVelocity(0.3)},
)


# The names


def test_every_command_and_reward_of_ksim_has_a_counterpart():
    assert set(COMMANDS) >= KSIM_COMMANDS
    assert {name.split("/")[0] for name in REWARDS} == KSIM_REWARDS


def test_every_counterpart_is_named_in_the_docstring_of_a_term():
    named: set[str] = set()
    for module in MODULES:
        for _, term in inspect.getmembers(import_module(f"ksim_envs.tasks.{module}"), inspect.isclass):
            for names in re.findall(r"ksim: ([\w\s,]+)", inspect.getdoc(term) or ""):
                named |= {name.strip() for name in names.split(",")}
    assert named >= KSIM_COMMANDS | KSIM_REWARDS


# At work


@pytest.fixture(scope="module")
def rollouts() -> dict[str, dict[str, np.ndarray]]:
    """By backend and name, (NUM_STEPS, NUM_ENVS, ...) rewards and commands, through falls and time limits."""
    rng = np.random.default_rng(0)
    actions = np.repeat(rng.uniform(-1, 1, (NUM_STEPS // 4, NUM_ENVS, 4)), 4, axis=0)
    return {backend: _rollout(backend, actions) for backend in ("native", "mjx")}


def _rollout(backend: str, actions: np.ndarray) -> dict[str, np.ndarray]:
    core = make_core(TASK, NUM_ENVS, backend=backend)
    state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(NUM_ENVS, bool))
    found: list[dict[str, Any]] = []
    for action_EA in actions:
        state, result = core.programs.step(state, jnp.asarray(action_EA, jnp.float32))
        rewards = {name: result.final_info[name] for name in TASK.rewards}
        found.append({**rewards, **{name: result.info[name] for name in TASK.commands}})
        found[-1] |= {"diverged": result.info["diverged"], "terminated": result.terminated_E}
        found[-1] |= {"truncated": result.truncated_E}
    return {name: np.stack([np.asarray(step[name]) for step in found]) for name in found[0]}


def test_the_robots_fall_and_reach_the_time_limit_but_do_not_diverge(rollouts):
    for found in rollouts.values():
        assert found["terminated"].any() and found["truncated"].any() and not found["diverged"].any()


@pytest.mark.parametrize("backend", ["native", "mjx"])
@pytest.mark.parametrize("name", ALL_REWARDS)
def test_a_reward_has_its_range_and_an_effect(rollouts, backend, name):
    found, (low, high) = rollouts[backend][f"reward {name}"], ALL_REWARDS[name][1]
    assert (found >= low - 1e-5).all() and (found <= high + 1e-5).all()
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize("backend", ["native", "mjx"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_range_and_changes_from_episode_to_episode(rollouts, backend, name):
    found, (low, high) = rollouts[backend][name], COMMANDS[name][1]
    assert (found >= low - 1e-5).all() and (found <= high + 1e-5).all()
    assert (np.ptp(found.reshape(NUM_STEPS, NUM_ENVS, -1), axis=0) > 0).any(axis=-1).all()


@pytest.mark.parametrize("name", ALL_REWARDS)
def test_a_reward_is_the_same_on_both_backends(rollouts, name):
    """In the first steps, before float32 and the solvers' tolerances tell them apart: by a share of its range there.

    A term about what has not happened by then, such as a fall or another action, is just one number in all of them.
    """
    native, mjx = (rollouts[backend][f"reward {name}"][:4].astype(np.float64) for backend in ("native", "mjx"))
    difference, span = np.abs(mjx - native), np.ptp(native)
    tolerance = np.minimum(0.01 + 0.02 * np.abs(native), 1e-6 + 0.03 * span)
    assert (difference <= tolerance).all(), f"they differ by {difference.max():.2g} in a range of {span:.2g}"


@pytest.mark.parametrize("name", ["ActionVelocity", "ActionAcceleration", "ActionJerk"])
def test_a_reward_of_actions_alone_is_the_same_until_an_episode_ends(rollouts, name):
    ends = [found["terminated"] | found["truncated"] for found in rollouts.values()]
    ended = ends[0] | ends[1]
    is_first = np.cumsum(ended, axis=0) - ended == 0
    native, mjx = (rollouts[backend][f"reward {name}"][is_first] for backend in ("native", "mjx"))
    assert len(np.unique(native)) > 5
    np.testing.assert_allclose(mjx, native, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_same_on_both_backends(rollouts, name):
    native, mjx = (rollouts[backend][name][:4] for backend in ("native", "mjx"))
    np.testing.assert_allclose(mjx, native, rtol=1e-3, atol=1e-3)


def test_nothing_leaks_across_a_reset(rollouts):
    """A difference of order 3 is zero in the first three steps of every episode, whatever the last one ended with."""
    for found in rollouts.values():
        ended = found["terminated"] | found["truncated"]
        first = np.zeros_like(ended)
        for steps in range(1, 4):
            first[steps:] |= ended[:-steps]
        first[:3] = True
        assert (found["reward ActionJerk"][first] == 0).all()
        assert (found["reward ActionJerk"][~first] != 0).mean() > 0.5
