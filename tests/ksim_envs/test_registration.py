"""Every id can be made in every way that Gymnasium knows, users' tasks like our own, and means the same as ever."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

import ksim_envs
from ksim_envs import registration
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.single_env import KsimEnv
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny
from tests.bits import assert_same_bits
from tests.ksim_envs.golden import PATH, TOLERANCE, trajectory

SIZES = {
    "ksim/Humanoid-v0": (348, 17, 1000),
    "ksim/HumanoidStandup-v0": (348, 17, 1000),
    "ksim/Ant-v0": (105, 8, 1000),
    "ksim/HalfCheetah-v0": (17, 6, 1000),
    "ksim/Hopper-v0": (11, 3, 1000),
    "ksim/Walker2d-v0": (17, 6, 1000),
    "ksim/Swimmer-v0": (8, 2, 1000),
    "ksim/Reacher-v0": (10, 2, 50),
    "ksim/Pusher-v0": (23, 7, 100),
    "ksim/InvertedPendulum-v0": (4, 1, 1000),
    "ksim/InvertedDoublePendulum-v0": (9, 1, 1000),
}
"""Lengths of observation and action, and the horizon, of Gymnasium's v5 tasks."""
SMALL = "ksim/InvertedPendulum-v0"


@pytest.fixture
def mine():
    """A user's task under an id of its own, which is taken back after the test."""
    id = "ksim/Mine-v0"
    ksim_envs.register(id, tiny.HOPPER_LIKE)
    yield id
    forget(id)


def forget(id):
    gym.registry.pop(id, None)
    registration._tasks.pop(id, None)


def test_the_built_in_ids_exist():
    assert list(registration.GYMNASIUM_TASKS) == list(SIZES)
    assert set(registration.BUILT_IN) <= set(ksim_envs.task_ids())
    assert set(registration.BUILT_IN) <= set(gym.registry)


def test_the_vector_class_has_the_two_bases_that_libraries_look_for():
    assert KsimVectorEnv.__bases__ == (VectorEnv, gym.Env)


@pytest.mark.parametrize("id", SIZES)
def test_every_way_to_ask_for_a_batch_gives_an_unwrapped_vector_env(id):
    by_make, by_make_vec = gym.make(id, num_envs=2), gym.make_vec(id, num_envs=2)
    others = [
        gym.make(by_make.spec),
        gym.make_vec(by_make.spec),
        gym.make(by_make_vec.spec),
        gym.make_vec(by_make_vec.spec),
    ]
    num_observations, num_actions, episode_length = SIZES[id]
    for env in (by_make, by_make_vec, *others):
        assert type(env) is KsimVectorEnv
        assert env.spec.id == id
        assert (env.num_envs, env.episode_length) == (2, episode_length)
        assert env.observation_space.shape == (2, num_observations)
        assert env.action_space.shape == (2, num_actions)
        assert env.metadata["autoreset_mode"] is env.autoreset_mode is AutoresetMode.NEXT_STEP
        assert env.core is by_make.core  # one compilation serves them all


@pytest.mark.parametrize("id", SIZES)
def test_without_num_envs_gym_make_gives_an_unwrapped_single_env(id):
    env = gym.make(id)
    assert type(env) is KsimEnv
    assert env.unwrapped is env
    assert env.observation_space.shape + env.action_space.shape + (env.episode_length,) == SIZES[id]
    assert type(gym.make(env.spec)) is KsimEnv


@pytest.mark.parametrize("id", SIZES)
def test_a_spec_survives_json(id):
    spec = gym.envs.registration.EnvSpec.from_json(gym.spec(id).to_json())
    assert spec == gym.spec(id)
    assert gym.make(spec, num_envs=2).num_envs == 2


def test_every_id_can_be_made_in_a_new_process_that_imports_only_gymnasium(tmp_path):
    code = f"""
import sys
import gymnasium as gym
for id in {list(SIZES)}:
    env = gym.make("ksim_envs:" + id, num_envs=2)
    print(type(env).__name__, env.spec.id, env.num_envs)
print("torch" in sys.modules)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == [*(f"KsimVectorEnv {id} 2" for id in SIZES), "False"]
    assert not list(tmp_path.iterdir())


def test_sync_vectorization_gives_the_rows_of_a_batch_with_these_seeds(make_env):
    make_env(SMALL, num_envs=1)
    sync, batch = gym.make_vec(SMALL, num_envs=3, vectorization_mode="sync"), gym.make(SMALL, num_envs=3)
    assert type(sync) is SyncVectorEnv
    assert_same_bits(sync.reset(seed=5)[0], batch.reset(seed=[5, 6, 7])[0])
    for _ in range(100):
        actions = batch.action_space.sample()
        found, expected = sync.step(actions), batch.step(actions)
        assert_same_bits(found[0], expected[0])
        assert_same_bits(found[1].astype(np.float32), expected[1])
        assert_same_bits(found[2:4], expected[2:4])


# Gymnasium's and SB3's checkers. pytest makes every warning an error.


BEYOND_1 = pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space:UserWarning")
"""Gymnasium says so of its own task, too: our actions have the same bounds, which are +-2 or +-3."""
NOT_1 = pytest.mark.filterwarnings(
    "ignore:We recommend you to use a symmetric and normalized Box action space:UserWarning"
)
"""SB3 says so of bounds of +-0.4 as well."""


def ids_with(mark, *marked):
    """All ids, these ones with the mark."""
    return [pytest.param(id, marks=mark if id in marked else ()) for id in registration.BUILT_IN]


@pytest.mark.parametrize("id", ids_with(BEYOND_1, "ksim/Pusher-v0", SMALL))
def test_gymnasiums_check_env_finds_nothing(make_env, id):
    make_env(id, num_envs=1, backend="native")  # keeps the compiled core for the tests that follow
    check_env(gym.make(id, backend="native"), skip_render_check=True)


@pytest.mark.parametrize("id", ids_with(NOT_1, "ksim/Humanoid-v0", "ksim/HumanoidStandup-v0", "ksim/Pusher-v0", SMALL))
def test_stable_baselines3s_check_env_finds_nothing(make_env, id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    make_env(id, num_envs=1, backend="native")
    checker.check_env(gym.make(id, backend="native"), warn=True, skip_render_check=True)


@pytest.mark.parametrize("id", registration.BUILT_IN)
def test_an_id_stands_for_the_same_trajectory_as_ever(make_env, id):
    """Where a change is meant, `python -m tests.ksim_envs.golden` writes the numbers anew."""
    golden = json.loads(PATH.read_text())
    if golden["mujoco"] != mujoco.__version__:
        pytest.skip(f"the numbers are those of MuJoCo {golden['mujoco']}")
    found = trajectory(make_env(id, num_envs=1, backend="native"))
    assert found.keys() == golden[id].keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, golden[id][name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


# The time limit


@pytest.mark.parametrize("steps", [1, 5, 1000])
def test_gym_make_refuses_max_episode_steps_for_a_batch_and_names_the_remedy(steps):
    with pytest.raises(InvalidConfigError, match=f"TimeLimit.*Pass episode_length={steps} instead"):
        gym.make(SMALL, num_envs=2, max_episode_steps=steps)
    with pytest.raises(InvalidConfigError, match=f"Pass episode_length={steps} instead"):
        gym.make(gym.make_vec(SMALL, num_envs=1).spec, max_episode_steps=steps)


def test_max_episode_steps_of_minus_1_means_no_wrapper():
    assert type(gym.make(SMALL, num_envs=2, max_episode_steps=-1)) is KsimVectorEnv


def test_max_episode_steps_of_a_single_env_is_gymnasiums_time_limit(make_env):
    make_env(SMALL, num_envs=1)
    env = gym.make(SMALL, max_episode_steps=3)
    assert isinstance(env, TimeLimit)
    env.reset(seed=0)
    assert [env.step(np.zeros(1))[3] for _ in range(3)] == [False, False, True]


def test_max_episode_steps_of_a_single_env_can_be_more_than_the_tasks(make_env):
    make_env(SMALL, num_envs=1)
    limit = ksim_envs.get_task(SMALL).episode_length + 5
    env = gym.make(SMALL, max_episode_steps=limit)
    for made in (env, gym.make(env.spec)):
        assert made.unwrapped.episode_length == limit
    assert gym.make(SMALL, max_episode_steps=-1).unwrapped.episode_length == limit - 5
    assert gym.make(SMALL, max_episode_steps=9, episode_length=4).unwrapped.episode_length == 4


@pytest.mark.parametrize("name", ["max_episode_steps", "episode_length"])
def test_gym_make_vec_takes_both_names_of_the_episode_length(make_env, name):
    make_env(SMALL, num_envs=2)
    env = gym.make_vec(SMALL, num_envs=2, **{name: 3})
    assert env.episode_length == 3
    assert gym.make(env.spec).episode_length == gym.make_vec(env.spec).episode_length == 3
    env.reset(seed=0)
    assert [env.step(np.zeros((2, 1)))[3].tolist() for _ in range(3)] == [[False] * 2, [False] * 2, [True] * 2]


def test_gym_make_vec_refuses_both_names_at_once():
    with pytest.raises(InvalidConfigError, match="mean the same; give only episode_length"):
        gym.make_vec(SMALL, num_envs=2, max_episode_steps=3, episode_length=4)


# num_envs of 1 and None


def test_one_env_in_a_batch_stays_a_batch():
    env = gym.make_vec(SMALL)
    for made in (env, gym.make(env.spec), gym.make_vec(env.spec), gym.make(SMALL, num_envs=1)):
        assert (type(made), made.num_envs) == (KsimVectorEnv, 1)


def test_gym_make_vec_without_a_number_is_refused():
    with pytest.raises(InvalidConfigError, match="num_envs is None"):
        gym.make_vec(SMALL, num_envs=None)


@pytest.mark.parametrize("make", [ksim_envs.make, gym.make, gym.make_vec])
def test_an_unknown_keyword_is_refused_with_the_near_miss(make):
    with pytest.raises(
        UnknownNameError,
        match="KsimVectorEnv got an unexpected keyword argument 'autoreset_mod'. Did you mean 'autoreset_mode'",
    ):
        make(SMALL, num_envs=2, autoreset_mod="same_step")


@pytest.mark.parametrize("wrong", ["num_env", "n_envs"])
@pytest.mark.parametrize("make", [ksim_envs.make, gym.make])
def test_the_number_of_envs_is_a_near_miss_too(make, wrong):
    with pytest.raises(UnknownNameError, match="Did you mean 'num_envs'"):
        make(SMALL, **{wrong: 2})


def test_keywords_reach_the_env_and_its_spec():
    keywords = {
        "num_envs": 2,
        "autoreset_mode": "SAME_STEP",
        "episode_length": 7,
        "backend": "native",
        "num_threads": 1,
    }
    env = gym.make(SMALL, **keywords)
    for made in (env, gym.make(env.spec), gym.make_vec(SMALL, **keywords), ksim_envs.make(SMALL, **keywords)):
        assert (made.autoreset_mode, made.episode_length, made.backend) == (AutoresetMode.SAME_STEP, 7, "native")


# Users' tasks


def test_a_users_task_is_made_like_our_own(mine):
    assert ksim_envs.get_task(mine) is tiny.HOPPER_LIKE
    assert ksim_envs.task_ids()[-1] == mine
    assert type(gym.make(mine)) is KsimEnv
    assert ksim_envs.make_functional(mine, 3).num_envs == 3
    for env in (gym.make(mine, num_envs=2), gym.make_vec(mine, num_envs=2), ksim_envs.make(mine, 2)):
        assert type(env) is KsimVectorEnv
        assert env.action_space.shape == (2, 2)


def test_a_users_task_passes_gymnasiums_check_env(mine):
    check_env(gym.make(mine), skip_render_check=True)


@pytest.mark.parametrize("id", ["ksim/Mine-v0", "ksim/Hopper-v0"])
def test_an_id_that_is_taken_is_refused_and_keeps_its_task(mine, id):
    before = ksim_envs.get_task(id)
    with pytest.raises(InvalidConfigError, match="is taken; choose another name or version"):
        ksim_envs.register(id, tiny.PUSHED)
    assert ksim_envs.get_task(id) is before


def test_a_users_own_task_may_be_replaced_and_envs_that_exist_keep_theirs(mine):
    before = ksim_envs.make(mine, 2)
    ksim_envs.register(mine, tiny.PUSHED, replace=True)
    assert ksim_envs.get_task(mine) is tiny.PUSHED
    assert before.core.task is not tiny.PUSHED
    with pytest.raises(InvalidConfigError, match="'ksim/Hopper-v0' is taken"):
        ksim_envs.register("ksim/Hopper-v0", tiny.PUSHED, replace=True)


@pytest.mark.parametrize("id", ["Mine-v1", "other/Mine-v1", "ksim_envs/Mine-v1", "Ksim/Mine-v1", ""])
def test_an_id_outside_the_namespace_is_refused_with_the_right_one(id):
    with pytest.raises(
        InvalidConfigError, match=f"outside the namespace 'ksim/'; call it 'ksim/{'Mine-v1' if id else ''}'"
    ):
        ksim_envs.register(id, tiny.HOPPER_LIKE)


@pytest.mark.parametrize(
    "id, task",
    [
        ("ksim/My Robot-v0", tiny.HOPPER_LIKE),
        ("ksim/", tiny.HOPPER_LIKE),
        ("ksim/a/b-v0", tiny.HOPPER_LIKE),
        ("ksim/Hopper", tiny.HOPPER_LIKE),  # the versioned id exists
        (5, tiny.HOPPER_LIKE),
        (None, tiny.HOPPER_LIKE),
        ("ksim/Text-v0", "tiny:HOPPER_LIKE"),
        ("ksim/Nothing-v0", None),
    ],
    ids=str,
)
def test_an_unusable_registration_is_refused_and_leaves_no_trace(id, task):
    ids, registry = ksim_envs.task_ids(), set(gym.registry)
    with pytest.raises(InvalidConfigError):
        ksim_envs.register(id, task)
    assert ksim_envs.task_ids() == ids
    assert set(gym.registry) == registry


def test_a_new_version_stands_beside_the_old_one():
    id = "ksim/Hopper-v7"
    ksim_envs.register(id, tiny.HOPPER_LIKE)
    try:
        assert gym.make(id).action_space.shape == (2,)
        assert ksim_envs.make("ksim/Hopper-v0").action_space.shape == (3,)
    finally:
        forget(id)


@pytest.fixture
def module_of_a_user(tmp_path, monkeypatch):
    """The name of a module that registers a task when it is imported."""
    (tmp_path / "my_robot.py").write_text(
        "import ksim_envs\nksim_envs.register('ksim/OfModule-v0', ksim_envs.get_task('ksim/Hopper-v0'))\n"
    )
    (tmp_path / "my_broken_robot.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_robot"
    sys.modules.pop("my_robot", None)
    registration._tasks.pop("ksim/OfModule-v0", None)
    gym.registry.pop("ksim/OfModule-v0", None)


def test_an_id_may_name_the_module_that_registers_it(module_of_a_user):
    for _ in range(2):  # the second time it has been imported
        task = ksim_envs.get_task(f"{module_of_a_user}:ksim/OfModule-v0")
    assert task is ksim_envs.get_task("ksim/Hopper-v0")


def test_a_module_that_is_not_there_is_told_from_one_that_does_not_import(module_of_a_user):
    with pytest.raises(UnknownNameError, match="There is no module 'my_robott' to register the task"):
        ksim_envs.get_task("my_robott:ksim/OfModule-v0")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        ksim_envs.get_task("my_broken_robot:ksim/OfModule-v0")


def test_gymnasiums_id_is_that_of_its_own_tasks_only():
    ours = list(registration.GYMNASIUM_TASKS)
    assert all(ksim_envs.gymnasium_id(id) in gym.registry for id in ours)
    assert ksim_envs.gymnasium_id("some_module:ksim/Humanoid-v0") == "Humanoid-v5"
    assert ksim_envs.gymnasium_id("ksim/KBotWalk-v0") is None
    assert ksim_envs.gymnasium_id("ksim/Hopper-v1") is None  # a user's, though Gymnasium has a Hopper
