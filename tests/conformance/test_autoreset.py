"""The three auto-reset modes: against a reference written by hand, against each other, and sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import ksim_envs
from ksim_envs.errors import InvalidOptionError, ResetNeededError
from ksim_envs.single_env import KsimEnv
from ksim_envs.tasks.task import Task
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny
from tests.bits import assert_same_bits, rows
from tests.conformance.reference_vectorizer import ReferenceVectorizer, ended_in, play, play_on, valid_rows
from tests.marks import MODES, OUTPUTS, TORCH

pytestmark = pytest.mark.optimized

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
FINAL_KEYS = {"final_obs", "_final_obs", "final_info", "_final_info"}
REFERENCE_RUNS = {  # task, number of envs, number of steps
    "hopper_like": (tiny.HOPPER_LIKE, 4, 1000),
    "randomized": (tiny.RANDOMIZED, 4, 200),
    "ksim/Hopper-v0": ("ksim/Hopper-v0", 16, 300),
}

MakeEnv = Callable[..., KsimVectorEnv]


@pytest.fixture(scope="module")
def make_single_envs() -> Iterator[Callable[[Task, int], list[KsimEnv]]]:
    """Single envs on native, kept so that all tests of the module share their compiled programs."""
    kept: list[KsimEnv] = []

    def make(task: Task, count: int) -> list[KsimEnv]:
        envs = [KsimEnv(task, backend="native") for _ in range(count)]
        kept.extend(envs)
        return envs

    yield make
    for env in kept:
        env.close()


def sample_actions(env: Any, num_steps: int, seed: int = 0) -> np.ndarray:
    """(num_steps, num_envs, num_actions) actions within their bounds."""
    low, high = env.single_action_space.low, env.single_action_space.high
    return np.random.default_rng(seed).uniform(low, high, (num_steps, env.num_envs, low.size)).astype(np.float32)


def masked(env: KsimVectorEnv, *rows: int) -> np.ndarray:
    return np.isin(np.arange(env.num_envs), rows)


def steps(results: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The results of steps, without those of resets."""
    return [result for result in results if len(result) == 5]


# Against the reference


@MODES
@pytest.mark.parametrize("run", REFERENCE_RUNS)
def test_every_result_equals_the_reference_over_single_envs_bit_for_bit(
    run: str, mode: AutoresetMode, make_env: MakeEnv, make_single_envs: Any
) -> None:
    task, num_envs, num_steps = REFERENCE_RUNS[run]
    task = ksim_envs.get_task(task) if isinstance(task, str) else task
    env = make_env(task, num_envs, backend="native", autoreset_mode=mode)
    reference = ReferenceVectorizer(make_single_envs(task, num_envs), mode)
    seeds, actions = list(range(10, 10 + num_envs)), sample_actions(env, num_steps)
    found, expected = play(env, actions, seed=seeds), play(reference, actions, seed=seeds)
    assert_same_bits(found, expected)
    assert sum(ended_in(step).sum() for step in steps(found)) >= num_envs


def test_the_run_against_the_reference_has_each_kind_of_end(make_env: MakeEnv) -> None:
    task, num_envs, num_steps = REFERENCE_RUNS["hopper_like"]
    env = make_env(task, num_envs, backend="native")
    results = play(env, sample_actions(env, num_steps), seed=list(range(10, 10 + num_envs)))
    terminated, truncated = (np.concatenate([result[i] for result in results[1:]]) for i in (2, 3))
    kinds = {
        "terminated": terminated & ~truncated,
        "truncated": truncated & ~terminated,
        "both": terminated & truncated,
    }
    assert {kind: ends.any() for kind, ends in kinds.items()} == dict.fromkeys(kinds, True)


@MODES
def test_the_reference_agrees_with_gymnasiums_own_vectorizer(mode: AutoresetMode, make_single_envs: Any) -> None:
    envs = make_single_envs(tiny.HOPPER_LIKE, 3)
    sync = SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)
    actions, seeds = sample_actions(sync, 100), [1, 2, 3]
    from_sync = play(sync, actions, seed=seeds)
    from_reference = play(ReferenceVectorizer(envs, mode), actions, seed=seeds)
    for theirs, ours in zip(from_sync, from_reference, strict=True):
        for a, b in zip(theirs[:-1], ours[:-1], strict=True):
            np.testing.assert_array_equal(a, b)
        assert FINAL_KEYS & theirs[-1].keys() == FINAL_KEYS & ours[-1].keys()
        for row in np.flatnonzero(ours[-1].get("_final_obs", [])):
            np.testing.assert_array_equal(theirs[-1]["final_obs"][row], ours[-1]["final_obs"][row])


# Against each other


def episodes_of(env: KsimVectorEnv, action_table: np.ndarray, num_steps: int) -> list[list[list[tuple[Any, ...]]]]:
    """For each env its episodes: (obs after the step, reward, terminated, truncated), begun by the first obs.

    The action depends on the env, the episode and the step in it (the table's axes), whatever the mode.
    """
    obs, _ = env.reset(seed=3)
    episodes = [[[(obs[i].tobytes(),)]] for i in range(env.num_envs)]
    ended = np.zeros(env.num_envs, bool)
    for _ in range(num_steps):
        if env.autoreset_mode is DISABLED and ended.any():
            obs, _ = env.reset(options={"reset_mask": ended})
            for i in np.flatnonzero(ended):
                episodes[i].append([(obs[i].tobytes(),)])
            ended = np.zeros(env.num_envs, bool)
        action = np.stack([action_table[i, len(runs) - 1, len(runs[-1]) - 1] for i, runs in enumerate(episodes)])
        was_ended = ended
        obs, reward, terminated, truncated, info = (to_numpy(part) for part in env.step(action))
        ended = terminated | truncated
        for i, runs in enumerate(episodes):
            if env.autoreset_mode is NEXT_STEP and was_ended[i]:
                assert (reward[i], terminated[i], truncated[i]) == (0, False, False)
                runs.append([(obs[i].tobytes(),)])
                continue
            shows_final = env.autoreset_mode is SAME_STEP and ended[i]
            last = info["final_obs"][i] if shows_final else obs[i]
            runs[-1].append((last.tobytes(), reward[i], terminated[i], truncated[i]))
            if shows_final:
                runs.append([(obs[i].tobytes(),)])
    return episodes


def to_numpy(value: Any) -> Any:
    return value if isinstance(value, dict) else np.asarray(value)


def test_the_modes_show_the_same_episodes_after_realignment(backend: str, make_env: MakeEnv) -> None:
    env = make_env(backend=backend)
    action_table = np.random.default_rng(1).uniform(-1, 1, (env.num_envs, 40, 31, 2)).astype(np.float32)
    episodes = {}
    for mode in AutoresetMode:
        env.autoreset_mode = mode
        episodes[mode] = episodes_of(env, action_table, 120)
    for runs in zip(*episodes.values(), strict=True):
        for same_episode in list(zip(*runs, strict=False))[:-1]:  # the last one may be cut at another step
            assert same_episode[0] == same_episode[1] == same_episode[2]
        assert min(len(episodes_of_mode) for episodes_of_mode in runs) >= 4


# Ends


@MODES
def test_all_envs_may_end_in_every_step(mode: AutoresetMode, make_env: MakeEnv) -> None:
    env = make_env(backend="native", autoreset_mode=mode, episode_length=1)
    results = steps(play(env, sample_actions(env, 6), seed=0))
    ended = np.array([result[3] for result in results])
    assert ended[0].all() and (ended == ended[:, :1]).all()
    assert ended[:, 0].tolist() == [True, False] * 3 if mode is NEXT_STEP else [True] * 6
    assert all(("final_obs" in result[4]) == (mode is SAME_STEP) for result in results)


@OUTPUTS
@MODES
def test_final_keys_are_there_only_in_same_step_mode(mode: AutoresetMode, output: str, make_env: MakeEnv) -> None:
    env = make_env(backend="native", autoreset_mode=mode, output=output, episode_length=3)
    for result in play(env, sample_actions(env, 8), seed=0):
        ended = ended_in(result) if len(result) == 5 else np.zeros(env.num_envs, bool)
        is_due = mode is SAME_STEP and len(result) == 5 and (output != "numpy" or ended.any())
        assert FINAL_KEYS & result[-1].keys() == (FINAL_KEYS if is_due else set())
        if is_due:
            np.testing.assert_array_equal(result[-1]["_final_obs"], ended)
            np.testing.assert_array_equal(result[-1]["_final_info"], ended)


@MODES
def test_termination_and_truncation_in_the_same_step_are_both_reported_and_end_one_episode(
    mode: AutoresetMode, make_env: MakeEnv
) -> None:
    env = make_env(backend="native", episode_length=1000)
    actions = np.ones((100, env.num_envs, 2), np.float32)
    terminated = np.array([result[2] for result in play(env, actions, seed=0)[1:]])
    env.episode_length = length = int(terminated[:, 0].argmax()) + 1
    env.autoreset_mode = mode
    results = steps(play(env, actions[: length + 2], seed=0))
    assert [bool(result[2][0]) for result in results[-3:]] == [True, False, False]
    assert [bool(result[3][0]) for result in results[-3:]] == [True, False, False]
    assert results[-1][4]["episode_length"][0] == (1 if mode is NEXT_STEP else 2)


def test_next_step_ignores_the_action_of_the_step_that_resets(make_env: MakeEnv) -> None:
    env = make_env(backend="native", autoreset_mode=NEXT_STEP)
    actions = sample_actions(env, 100)
    expected = play(env, actions, seed=0)
    ended = np.array([ended_in(step) for step in expected[1:]])
    others = actions.copy()
    others[1:][ended[:-1]] = 1e6
    assert (others != actions).any()
    assert_same_bits(play(env, others, seed=0), expected)


@pytest.mark.parametrize("mode", (NEXT_STEP, DISABLED), ids=lambda mode: mode.name.lower())
def test_the_last_observation_is_shown_until_the_reset(mode: AutoresetMode, make_env: MakeEnv) -> None:
    env = make_env(backend="native", episode_length=5, autoreset_mode=SAME_STEP)
    actions = sample_actions(env, 5)
    final_obs = play(env, actions, seed=0)[-1][4]["final_obs"]
    env.autoreset_mode = mode
    assert_same_bits(play(env, actions, seed=0)[-1][0], final_obs)


def test_first_states_differ_from_env_to_env_and_from_episode_to_episode(backend: str, make_env: MakeEnv) -> None:
    env = make_env(backend=backend, autoreset_mode=SAME_STEP, episode_length=2)
    actions = sample_actions(env, 6)
    first_states = [result[0] for result in play(env, actions, seed=0)[::2]]
    first_states += [env.reset()[0] for _ in range(3)] + [env.reset(seed=1)[0]]
    values = np.stack(first_states)  # (episodes, envs, 5)
    for column in range(values.shape[2]):
        assert len(np.unique(values[:, :, column])) == values[:, :, column].size


# Partial resets


@MODES
@pytest.mark.parametrize("seed", (None, 5))
def test_a_partial_reset_leaves_the_other_envs_bit_identical(
    seed: int | None, mode: AutoresetMode, backend: str, make_env: MakeEnv
) -> None:
    env, twin = (make_env(backend=backend, autoreset_mode=mode, output="jax") for _ in range(2))
    before, after = np.split(sample_actions(env, 50), 2)
    last = play(env, before, seed=0)[-1]
    play(twin, before, seed=0)
    mask = masked(env, 0, 3, 15)
    obs, info = env.reset(seed=seed, options={"reset_mask": mask})
    assert ((np.asarray(obs) != last[0]).any(axis=1) == mask).all()
    assert (info["episode_length"][mask] == 0).all()
    ended = ended_in(last)
    found, expected = steps(play_on(env, after, ended & ~mask)), steps(play_on(twin, after, ended))
    assert_same_bits(rows(found, np.flatnonzero(~mask)), rows(expected, np.flatnonzero(~mask)))
    assert (found[0][4]["episode_length"][mask] == 1).all()


@MODES
def test_a_diverged_env_is_truncated_and_then_reset_as_the_mode_says(
    mode: AutoresetMode, backend: str, make_env: MakeEnv
) -> None:
    env, twin = (make_env(backend=backend, autoreset_mode=mode, output="jax") for _ in range(2))
    actions, others = sample_actions(env, 12), np.flatnonzero(~masked(env, 5))
    bad_action = jnp.asarray(actions[0]).at[5].set(jnp.nan)
    found, expected = steps(play(env, [bad_action, *actions[1:]], seed=0)), steps(play(twin, actions, seed=0))
    assert_same_bits(rows(found, others), rows(expected, others))
    _, reward, terminated, truncated, info = found[0]
    assert (reward[5], terminated[5], truncated[5], info["diverged"][5]) == (0, False, True, True)
    lengths = [int(step[4]["episode_length"][5]) for step in found]
    assert lengths[:3] == {NEXT_STEP: [1, 0, 1], SAME_STEP: [0, 1, 2], DISABLED: [1, 1, 2]}[mode]
    assert all(np.isfinite(leaf).all() for step in found[1:] for leaf in jax.tree.leaves(step))
    assert not any(step[4]["diverged"].any() for step in found[1:])


@MODES
def test_a_partial_reset_equals_that_of_the_single_envs(
    mode: AutoresetMode, make_env: MakeEnv, make_single_envs: Any
) -> None:
    env = make_env(tiny.HOPPER_LIKE, 4, backend="native", autoreset_mode=mode)
    actions = sample_actions(env, 40)

    def results(vectorized: Any) -> list[Any]:
        played = play(vectorized, actions[:-1], seed=[1, 2, 3, 4])
        to_reset = masked(env, 1) | ended_in(played[-1])
        first = vectorized.reset(options={"reset_mask": to_reset})
        second = vectorized.reset(seed=[5, 6, 7, 8], options={"reset_mask": masked(env, 2)})
        return [*played, valid_rows(first), valid_rows(second), vectorized.step(actions[-1])]

    expected = results(ReferenceVectorizer(make_single_envs(tiny.HOPPER_LIKE, 4), mode))
    assert_same_bits(results(env), expected)


def test_a_partial_reset_of_a_waiting_env_takes_the_place_of_its_reset_in_the_next_step(make_env: MakeEnv) -> None:
    env = make_env(backend="native", autoreset_mode=NEXT_STEP, episode_length=3)
    actions = sample_actions(env, 4)
    ended = play(env, actions[:3], seed=0)[-1][3]
    assert ended.all()
    env.reset(options={"reset_mask": masked(env, 0, 1)})
    *_, info = env.step(actions[3])
    assert info["episode_length"].tolist() == [1, 1] + [0] * (env.num_envs - 2)


def test_a_partial_reset_masks_its_info(make_env: MakeEnv) -> None:
    env = make_env(backend="native")
    _, whole = env.reset(seed=0)
    mask = masked(env, 2, 5)
    _, info = env.reset(options={"reset_mask": mask})
    assert info.keys() == whole.keys() | {f"_{name}" for name in whole}
    for name in whole:
        np.testing.assert_array_equal(info[f"_{name}"], mask)


@pytest.mark.parametrize("library", ("numpy", "jax", TORCH))
def test_reset_leaves_the_options_and_the_mask_as_they_were(library: str, make_env: MakeEnv) -> None:
    env = make_env(backend="native")
    env.reset(seed=0)
    mask = masked(env, 1)
    if library == "jax":
        mask = jnp.asarray(mask)
    elif library == "torch":
        import torch

        mask = torch.from_numpy(mask)
    options = {"reset_mask": mask, "qvel": np.zeros(3)}
    env.reset(options=options)
    assert options.keys() == {"reset_mask", "qvel"} and options["reset_mask"] is mask
    np.testing.assert_array_equal(mask, masked(env, 1))
    np.testing.assert_array_equal(options["qvel"], np.zeros(3))


BAD_MASKS = {
    "too short": np.ones(15, bool),
    "too long": np.ones(17, bool),
    "two axes": np.ones((16, 1), bool),
    "a scalar": True,
    "integers": np.ones(16, int),
    "floats": np.ones(16),
    "objects": np.array([True, None] * 8),
    "none selected": np.zeros(16, bool),
    "None": None,
}


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_a_bad_mask_is_refused_and_changes_nothing(kind: str, make_env: MakeEnv) -> None:
    env, twin = make_env(backend="native"), make_env(backend="native")
    actions = sample_actions(env, 8)
    play(env, actions[:4], seed=0)
    with pytest.raises(InvalidOptionError, match="reset_mask"):
        env.reset(seed=9, options={"reset_mask": BAD_MASKS[kind]})
    found = [env.step(action) for action in actions[4:]]
    assert_same_bits(found, play(twin, actions, seed=0)[5:])


def test_the_first_reset_must_be_of_all_envs(make_env: MakeEnv) -> None:
    env = make_env(backend="native")
    with pytest.raises(ResetNeededError, match="all envs"):
        env.reset(seed=0, options={"reset_mask": masked(env, 0)})
    env.reset(seed=0, options={"reset_mask": np.ones(env.num_envs, bool)})
    env.step(np.zeros(env.action_space.shape))


# DISABLED


@pytest.fixture
def ended_env(make_env: MakeEnv) -> KsimVectorEnv:
    """A DISABLED env whose rows 0 and 1 have ended, and the others not."""
    env = make_env(backend="native", autoreset_mode=DISABLED, episode_length=5)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    env.step(action)
    env.reset(options={"reset_mask": ~masked(env, 0, 1)})
    for _ in range(4):
        *_, truncated, _ = env.step(action)
    assert truncated.tolist() == masked(env, 0, 1).tolist()
    return env


def test_disabled_refuses_to_step_envs_that_have_ended_and_names_them(ended_env: KsimVectorEnv) -> None:
    before = ended_env.physics_state()
    with pytest.raises(ResetNeededError, match=r"envs \[0, 1\] have ended.*reset_mask"):
        ended_env.step(np.zeros(ended_env.action_space.shape))
    assert_same_bits(ended_env.physics_state(), before)


def test_disabled_refuses_to_step_until_every_ended_env_is_reset(ended_env: KsimVectorEnv) -> None:
    ended_env.reset(options={"reset_mask": masked(ended_env, 0, 7)})
    with pytest.raises(ResetNeededError, match=r"envs \[1\] have ended"):
        ended_env.step(np.zeros(ended_env.action_space.shape))
    ended_env.reset(options={"reset_mask": masked(ended_env, 1)})
    *_, info = ended_env.step(np.zeros(ended_env.action_space.shape))
    assert info["episode_length"].tolist() == [1, 1] + [5] * 5 + [1] + [5] * 8


@pytest.mark.parametrize("seed", (None, 0))
def test_disabled_goes_on_after_a_reset_of_all(seed: int | None, ended_env: KsimVectorEnv) -> None:
    ended_env.reset(seed=seed)
    *_, info = ended_env.step(np.zeros(ended_env.action_space.shape))
    assert (info["episode_length"] == 1).all()
