"""Envs side by side, in threads and processes, copied, changed while they run, and closed."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import select
import signal
import threading
import weakref
from dataclasses import replace

import gymnasium as gym
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from ksim_envs.building import make_core
from ksim_envs.errors import ClosedEnvError, ForkedProcessError, InvalidConfigError, KsimError
from ksim_envs.guard import Fault
from ksim_envs.physics.native import NativeBackend
from ksim_envs.runtime import quiet_mujoco
from ksim_envs.vector_env import KsimVectorEnv
from ksim_envs.wrappers import NormalizeObservation, RecordEpisodeStatistics
from tests import tiny
from tests.bits import assert_same_bits

SMALL = "ksim/InvertedPendulum-v0"
NUM_ENVS = 4
ACTION = np.full((NUM_ENVS, 2), 0.3, np.float32)


@pytest.fixture
def make(make_env):
    """Builds tiny native envs, all on one core."""

    def make(num_envs=NUM_ENVS, **keywords):
        env = make_env(num_envs=num_envs, backend="native", **keywords)
        env.reset(seed=0)
        return env

    return make


def actions_of(seed, num_steps, num_envs=NUM_ENVS):
    return np.random.default_rng(seed).uniform(-1, 1, (num_steps, num_envs, 2)).astype(np.float32)


def in_threads(*jobs):
    """Runs the jobs at once, each in a thread of its own, and returns what they returned; an error is raised here."""
    results, start = [None] * len(jobs), threading.Barrier(len(jobs))

    def work(i):
        start.wait()
        try:
            results[i] = jobs[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a thread hangs"
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


# Envs side by side


@pytest.mark.parametrize("other_num_envs", [NUM_ENVS, 1], ids=["same_core", "other_core"])
def test_stepping_one_env_leaves_another_bit_identical_to_a_lone_one(make, other_num_envs):
    actions = actions_of(0, 60)
    lone = make()
    expected = [lone.step(action) for action in actions]
    env, other = make(), make(other_num_envs)
    assert (env.core is other.core) == (other_num_envs == NUM_ENVS)
    for i, (action, disturbance) in enumerate(zip(actions, actions_of(1, 60, other_num_envs), strict=True)):
        other.step(disturbance)
        if i % 20 == 0:
            other.reset(seed=i)
        assert_same_bits(env.step(action), expected[i])
    assert_same_bits(env._state, lone._state)


def test_closing_one_env_leaves_another_on_the_same_core_alone(make):
    env, twin, closed = make(), make(), make()
    closed.close()
    assert_same_bits(env.step(ACTION), twin.step(ACTION))


# Threads


def test_steps_of_8_threads_serialise(make):
    threads, steps = 8, 25
    env, sequential = make(), make()
    results = in_threads(*[lambda: [env.step(ACTION)[0].tobytes() for _ in range(steps)]] * threads)
    expected = [sequential.step(ACTION)[0].tobytes() for _ in range(threads * steps)]
    assert sorted(sum(results, [])) == sorted(expected)
    assert_same_bits(env._state, sequential._state)


def test_envs_that_are_stepped_in_threads_of_their_own_do_not_meet(make):
    envs, lone = [make(), make(), make(1), make(1)], [make(), make(), make(1), make(1)]
    actions = [actions_of(i, 50, env.num_envs) for i, env in enumerate(envs)]

    def run(env, actions):
        return lambda: [env.step(action) for action in actions]

    found = in_threads(*map(run, envs, actions))
    assert_same_bits(found, [run(env, action)() for env, action in zip(lone, actions, strict=True)])


@pytest.mark.parametrize("call", [lambda env: env.step(ACTION), lambda env: env.reset()], ids=["step", "reset"])
def test_a_call_that_waited_while_another_thread_closed_the_env_is_refused(make, call):
    env, outcome = make(), []
    waiting = threading.Thread(target=lambda: outcome.append(raised_by(lambda: call(env))))
    closing = threading.Thread(target=env.close)
    with env._lock:
        for thread in (waiting, closing):
            thread.start()
            thread.join(timeout=0.3)  # it waits for the lock, or is done
    waiting.join()
    closing.join()
    assert outcome in ([ClosedEnvError], [None])
    assert env._state is None


def raised_by(call):
    """The type of what the call raises, or None."""
    try:
        call()
    except BaseException as error:
        return type(error)
    return None


# Closing


def test_close_may_be_called_twice_and_with_closes(make):
    env = make()
    with env as entered:
        assert entered is env
    assert env.closed
    env.close()
    env.close()


def test_a_single_env_may_be_closed_twice(make_env):
    make_env(SMALL, num_envs=1)
    env = gym.make(SMALL)
    with env:
        env.reset(seed=0)
    env.close()
    with pytest.raises(ClosedEnvError):
        env.reset()


def test_an_env_that_is_dropped_unclosed_frees_its_physics():
    env = KsimVectorEnv(replace(tiny.HOPPER_LIKE), NUM_ENVS, backend="native")
    env.reset(seed=0)
    physics = weakref.ref(env.core.backend)
    del env
    gc.collect()
    assert physics() is None


# Processes


def in_child(call, limit=30):
    """The name of the error that the call raises in a forked child; "hangs" after `limit` seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        error = raised_by(call)
        os.write(write, error.__name__.encode() if error else b"nothing")
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], limit)
    outcome = os.read(read, 100).decode() if ready else "hangs"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    return outcome


FORKED = {
    "step": lambda env: env.step(ACTION),
    "reset": lambda env: env.reset(),
    "seeded_reset": lambda env: env.reset(seed=1),
    "physics_state": lambda env: env.physics_state(),
    "fault_counts": lambda env: env.fault_counts(),
}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
@pytest.mark.parametrize("call", FORKED.values(), ids=FORKED)
def test_a_forked_child_gets_a_typed_error_and_its_parent_goes_on(make, call):
    env, twin = make(), make()
    for _ in range(4):
        assert_same_bits(env.step(ACTION), twin.step(ACTION))
        assert in_child(lambda: call(env)) == ForkedProcessError.__name__
    assert_same_bits(env.step(ACTION), twin.step(ACTION))


@needs_fork
def test_a_child_that_is_forked_while_a_thread_steps_gets_a_typed_error(make):
    env, stop = make(), threading.Event()

    def step():
        while not stop.is_set():
            env.step(ACTION)

    thread = threading.Thread(target=step)
    thread.start()
    try:
        outcomes = [in_child(lambda: env.step(ACTION)) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert outcomes == [ForkedProcessError.__name__] * 5


@needs_fork
def test_a_forked_child_may_close_the_env_and_its_parent_goes_on(make):
    env, twin = make(), make()
    assert in_child(env.close) == "nothing"
    assert_same_bits(env.step(ACTION), twin.step(ACTION))


@needs_fork
def test_making_an_env_in_a_forked_child_is_refused_and_does_not_hang(make):
    make().step(ACTION)
    child = in_child(lambda: KsimVectorEnv(tiny.HOPPER_LIKE, 2, backend="native").reset(seed=0))
    assert child == ForkedProcessError.__name__


def test_spawned_workers_step_like_the_rows_of_a_batch(make_env):
    batch = make_env(SMALL, num_envs=2)
    workers = gym.make_vec(SMALL, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"})
    try:
        workers.reset_async(seed=5)
        assert_same_bits(workers.reset_wait(timeout=120)[0], batch.reset(seed=[5, 6])[0])
        for action in np.linspace(-3, 3, 10, dtype=np.float32):
            workers.step_async(np.full((2, 1), action))
            found, expected = workers.step_wait(timeout=120), batch.step(np.full((2, 1), action))
            assert_same_bits((found[0], found[2], found[3]), (expected[0], expected[2], expected[3]))
    finally:
        workers.close(terminate=True)


# Copies

COPIES = {"pickle": lambda env: pickle.loads(pickle.dumps(env)), "copy": copy.copy, "deepcopy": copy.deepcopy}
MADE = {
    "make": lambda: gym.make(SMALL, num_envs=2, episode_length=7),
    "make_vec": lambda: gym.make_vec(SMALL, num_envs=2, max_episode_steps=7),
    "single": lambda: gym.make(SMALL, episode_length=7),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make_from_id", MADE.values(), ids=MADE)
def test_a_copy_of_an_env_with_an_id_is_a_fresh_env_of_the_same_kind(make_env, make_from_id, duplicate):
    for num_envs in (1, 2):
        make_env(SMALL, num_envs=num_envs)  # keeps the compiled cores for the session
    env = make_from_id()
    env.reset(seed=1)
    other = duplicate(env)
    assert type(other) is type(env)
    assert other.spec == env.spec
    assert other.episode_length == 7
    assert_same_bits(other.reset(seed=3), env.reset(seed=3))
    action = np.full(env.action_space.shape, 0.5, np.float32)
    assert_same_bits(other.step(action), env.step(action))
    env.close()
    other.step(action)


@pytest.mark.parametrize("name", ["pickle", "deepcopy"])  # a shallow copy of the wrapper has the same env
def test_a_copy_of_an_env_in_a_time_limit_has_episodes_as_long(name):
    other = COPIES[name](gym.make(SMALL, max_episode_steps=12_345))
    assert other.unwrapped.episode_length == 12_345


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_settings_that_were_changed(duplicate):
    env = gym.make(SMALL, num_envs=2, autoreset_mode="disabled")
    env.autoreset_mode, env.output, env.episode_length = "same_step", "jax", 9
    other = duplicate(env)
    assert (other.autoreset_mode, other.output, other.episode_length) == (AutoresetMode.SAME_STEP, "jax", 9)


@pytest.mark.parametrize("output", ["numpy", "jax"])
def test_a_wrapped_batch_can_be_copied(output):
    env = NormalizeObservation(RecordEpisodeStatistics(gym.make(SMALL, num_envs=2, output=output)))
    other = pickle.loads(pickle.dumps(env))
    assert_same_bits(other.reset(seed=3)[0], env.reset(seed=3)[0])


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_an_env_without_an_id_refuses_to_be_copied(make, duplicate):
    with pytest.raises(KsimError, match="not made by gym.make, so it cannot be pickled; make it with gym.make"):
        duplicate(make())


# Changes while the env runs


def test_step_and_reset_are_compiled_once_for_1000_steps_with_changes_of_mode_length_and_seed():
    env = KsimVectorEnv(replace(tiny.HOPPER_LIKE), NUM_ENVS, backend="native")  # a new task: a core of its own
    env.reset(seed=0)
    for i, action in enumerate(actions_of(0, 1000)):
        env.autoreset_mode = ("next_step", AutoresetMode.SAME_STEP)[i % 2]
        env.episode_length = 3 + i % 11
        env.step((action, action.tolist(), jnp.array(action), action.astype(np.float64))[i % 4])
        some = action[:, 0] >= action[:, 0].mean()
        if i % 20 == 0:
            env.reset(seed=(None, i, [i] * NUM_ENVS)[i % 3], options={"reset_mask": some} if i % 40 else None)
    assert env.core.programs._step._cache_size() == 1
    assert env.core.programs._reset._cache_size() == 1
    env.close()


def test_resets_of_all_envs_need_no_program_of_their_own():
    env = KsimVectorEnv(replace(tiny.HOPPER_LIKE), NUM_ENVS, backend="native")
    env.reset(seed=0)
    env.step(np.zeros((NUM_ENVS, 2)))
    env.reset(seed=1)
    assert env.core.programs._step._cache_size() == 1
    assert env.core.programs._reset._cache_size() == 0
    env.close()


def test_a_new_episode_length_holds_from_the_next_step_on(make):
    env = make(autoreset_mode="disabled")
    env.step(ACTION)
    env.episode_length = 3
    assert [env.step(ACTION)[3].all() for _ in range(2)] == [False, True]


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_episode_steps_move_time_limits_and_nothing_else(make_env, mode):
    still = replace(tiny.HOPPER_LIKE, terminations={})
    env = make_env(still, NUM_ENVS, backend="native", episode_length=8, autoreset_mode=mode)
    env.reset(seed=0)
    env.step(ACTION)
    env.episode_steps = [0, 3, 6, 7]
    assert env.episode_steps.tolist() == [0, 3, 6, 7]
    *_, truncated, info = env.step(ACTION)
    assert truncated.tolist() == [False, False, False, True]
    assert env.episode_steps.tolist() == [1, 4, 7, 0 if mode == "same_step" else 8]
    assert (info["final_info"] if mode == "same_step" else info)["episode_length"].tolist() == [2] * NUM_ENVS
    env.reset(seed=0)
    assert env.episode_steps.tolist() == [0] * NUM_ENVS
    assert [env.step(ACTION)[3].any() for _ in range(8)] == [False] * 7 + [True]


def test_episodes_that_are_staggered_begin_with_some_steps(make_env):
    env = make_env(tiny.HOPPER_LIKE, NUM_ENVS, backend="native", episode_length=8, stagger_first_episodes=True)
    env.reset(seed=0)
    assert env.episode_steps.tolist() == [6, 4, 2, 0]


def test_head_starts_stay_as_they_were_when_the_episode_length_changes(make_env):
    still = replace(tiny.HOPPER_LIKE, terminations={})
    env = make_env(still, NUM_ENVS, backend="native", episode_length=8, stagger_first_episodes=True)
    env.reset(seed=0)
    env.episode_length = 12
    assert env.episode_steps.tolist() == [6, 4, 2, 0]
    assert np.stack([env.step(ACTION)[3] for _ in range(12)]).argmax(axis=0).tolist() == [5, 7, 9, 11]


def test_an_edited_model_file_makes_another_core(tmp_path):
    path = tmp_path / "robot.xml"
    path.write_text(tiny.BALL_ON_STICK)
    task = replace(tiny.HOPPER_LIKE, model=str(path))
    core = make_core(task, 2, backend="native")
    assert make_core(task, 2, backend="native") is core
    path.write_text(tiny.BALL_ON_STICK.replace('mass="1"', 'mass="3"'))
    edited = make_core(task, 2, backend="native")
    assert edited is not core and edited.backend.model.body("cart").mass == 3


def test_an_edited_file_of_a_model_makes_another_core_too(tmp_path):
    (tmp_path / "robot.xml").write_text('<mujoco><include file="parts.xml"/></mujoco>')
    (tmp_path / "parts.xml").write_text(tiny.BALL_ON_STICK)
    task = replace(tiny.HOPPER_LIKE, model=str(tmp_path / "robot.xml"))
    core = make_core(task, 2, backend="native")
    assert make_core(task, 2, backend="native") is core
    (tmp_path / "parts.xml").write_text(tiny.BALL_ON_STICK.replace('mass="1"', 'mass="3"'))
    assert make_core(task, 2, backend="native").backend.model.body("cart").mass == 3


def test_a_row_that_is_reset_alone_is_not_staggered_again(make_env):
    still = replace(tiny.HOPPER_LIKE, terminations={})
    env = make_env(still, NUM_ENVS, backend="native", episode_length=8, stagger_first_episodes=True)
    for _ in range(3):
        env.reset(seed=0)
    env.reset(seed=5, options={"reset_mask": np.arange(NUM_ENVS) == 0})
    ended = np.stack([env.step(ACTION)[3] for _ in range(9)])
    assert ended[:, 0].tolist() == [False] * 7 + [True, False]
    assert ended.argmax(axis=0).tolist() == [7, 3, 5, 7]


def test_a_new_autoreset_mode_holds_from_the_next_step_on(make):
    env = make(autoreset_mode="next_step", episode_length=1)
    assert env.step(ACTION)[3].all()
    assert env.step(ACTION)[4]["episode_length"].tolist() == [0] * NUM_ENVS  # the step that resets
    env.autoreset_mode = "same_step"
    _, _, _, truncated, info = env.step(ACTION)
    assert truncated.all()
    assert info["_final_obs"].all()
    assert info["episode_length"].tolist() == [0] * NUM_ENVS
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_a_change_of_one_env_does_not_reach_another_on_the_same_core(make):
    env, other = make(), make()
    env.set_attr("autoreset_mode", "same_step")
    env.set_attr("episode_length", 1)
    assert (other.autoreset_mode, other.episode_length) == (AutoresetMode.NEXT_STEP, 30)


# Counters and attributes


def test_fault_counts_grow_over_episodes_until_the_row_is_seeded(make):
    env = make(autoreset_mode="same_step")
    names = {fault.name.lower() for fault in Fault}
    assert {name: counts.tolist() for name, counts in env.fault_counts().items()} == dict.fromkeys(
        names, [0] * NUM_ENVS
    )
    bad = jnp.array(ACTION).at[1].set(jnp.nan)
    for _ in range(3):
        env.step(bad)
    env.step(ACTION)
    env.reset()
    counts = env.fault_counts()
    assert counts["action"].tolist() == [0, 3, 0, 0]
    assert sum(counts.values()).sum() == 3
    env.reset(seed=[None, None, 5, None])
    assert env.fault_counts()["action"].tolist() == [0, 3, 0, 0]
    env.reset(seed=[None, 5, None, None])
    assert env.fault_counts()["action"].tolist() == [0] * NUM_ENVS


def test_what_an_env_reports_is_a_copy(make):
    env, twin = make(), make()
    for report in (env.physics_state(), env.fault_counts()):
        for values in report.values():
            values[:] = 77
    assert_same_bits((env.physics_state(), env.fault_counts()), (twin.physics_state(), twin.fault_counts()))
    assert_same_bits(env.step(ACTION), twin.step(ACTION))


def test_get_attr_and_call_answer_once_for_each_env(make):
    env = make()
    assert env.get_attr("episode_length") == (30,) * NUM_ENVS
    assert env.get_attr("backend") == ("native",) * NUM_ENVS
    assert env.call("render") == (None,) * NUM_ENVS
    assert len(env.call("physics_state")) == NUM_ENVS


@pytest.mark.parametrize("values", [9, [9] * NUM_ENVS, (9,) * NUM_ENVS], ids=str)
def test_set_attr_takes_one_value_or_equal_ones(make, values):
    env = make()
    env.set_attr("episode_length", values)
    assert env.episode_length == 9


@pytest.mark.parametrize("values", [[9, 9, 9, 8], [9] * 3, []], ids=str)
def test_set_attr_refuses_values_that_differ_and_changes_nothing(make, values):
    env = make()
    with pytest.raises(InvalidConfigError, match="the 4 envs share one object, so give one value"):
        env.set_attr("episode_length", values)
    assert env.episode_length == 30


@pytest.mark.parametrize("ask", [lambda env: env.get_attr("epsode_length"), lambda env: env.call("stpe")])
def test_an_unknown_attribute_is_an_attribute_error(make, ask):
    with pytest.raises(AttributeError):
        ask(make())


# Quiet

DIVERGING = {"qvel": np.full(3, 1e8)}


def test_divergence_leaves_no_log_file_and_prints_nothing(make, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    env = make()
    for _ in range(3):
        env.reset(options=DIVERGING)
        assert env.step(ACTION)[4]["diverged"].all()
    assert env.fault_counts()["physics"].tolist() == [3] * NUM_ENVS
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def users_handler():
    """A warning handler of the user's own."""
    heard = []
    mujoco.set_mju_user_warning(heard.append)
    yield heard
    mujoco.set_mju_user_warning(None)


def test_the_users_own_warning_handler_is_put_back_and_hears_nothing_of_ours(make, users_handler):
    env = make()
    env.reset(options=DIVERGING)
    env.step(ACTION)
    assert mujoco.get_mju_user_warning() == users_handler.append
    assert users_handler == []


def test_the_users_own_warning_handler_is_put_back_when_two_envs_overlap(users_handler):
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(quiet_mujoco())
    second.enter_context(quiet_mujoco())
    first.close()
    assert mujoco.get_mju_user_warning() != users_handler.append  # the second is still quiet
    second.close()
    assert mujoco.get_mju_user_warning() == users_handler.append


def test_after_an_error_inside_a_step_reset_begins_anew(make, monkeypatch):
    env, twin = make(), make()

    def broken(*_):
        raise RuntimeError("out of paper")

    with monkeypatch.context() as patch, pytest.raises(Exception, match="out of paper"):
        patch.setattr(NativeBackend, "_collect", broken)
        env.step(ACTION)
    assert_same_bits(env.reset(seed=5), twin.reset(seed=5))
    assert_same_bits(env.step(ACTION), twin.step(ACTION))


def test_100_envs_leave_neither_arrays_nor_threads(make):
    keeper = make()  # keeps the core

    def use():
        gc.collect()
        return len(jax.live_arrays()), threading.active_count(), num_threads()

    def cycle(count):
        for _ in range(count):
            with contextlib.closing(make()) as env:
                env.step(ACTION)

    cycle(3)
    before = use()
    cycle(100)
    assert all(now <= then for now, then in zip(use(), before, strict=True))
    assert keeper.core is make().core


def num_threads():
    """Those of the process that Python has not started, where the system tells."""
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
