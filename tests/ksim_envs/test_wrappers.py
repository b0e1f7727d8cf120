"""Our wrappers against plain loops over what a bare batch returns, and against Gymnasium's where that is right too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as gymnasiums

from ksim_envs import check_vector_env, wrappers
from ksim_envs.errors import InvalidActionError, InvalidConfigError, UnknownNameError
from ksim_envs.moments import Moments
from ksim_envs.vector_env import KsimVectorEnv
from ksim_envs.wrappers import (
    ClipAction,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RescaleAction,
    episodes,
)
from ksim_envs.wrappers.normalization import PRIOR_WEIGHT
from tests.marks import DEVICE_OUTPUTS, MODES, OUTPUTS, TORCH

MakeEnv = Callable[..., KsimVectorEnv]
Result = tuple[Any, ...]

NUM_ENVS, LENGTH, STEPS = 8, 25, 80
NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
GYMNASIUM = tuple(int(number) for number in gym.__version__.split(".")[:2])


@pytest.fixture
def make(make_env: MakeEnv) -> MakeEnv:
    return lambda mode=NEXT_STEP, output="numpy", **keywords: make_env(
        num_envs=NUM_ENVS,
        **{"backend": "native", "episode_length": LENGTH} | keywords,
        autoreset_mode=mode,
        output=output,
    )


def actions(num_steps: int = STEPS, bound: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(-bound, bound, (num_steps, NUM_ENVS, 2)).astype(np.float32)


def play(env: Any, table: np.ndarray | None = None, bad_step: int | None = None) -> Iterator[Result]:
    """Results of a seeded reset, of steps, and of the partial resets that DISABLED mode needs and a few more.

    In the bad step env 2 gets an action that is not a number.
    """
    result: Result = env.reset(seed=0)
    yield result
    for t, action in enumerate(actions() if table is None else table):
        mask = ended_in(result) if env.autoreset_mode is DISABLED else np.zeros(NUM_ENVS, bool)
        if t % 17 == 16 and not ended_in(result).any():
            mask = mask | (np.arange(NUM_ENVS) == t % NUM_ENVS)
        if mask.any():
            yield env.reset(options={"reset_mask": mask})
        result = env.step(jnp.asarray(action).at[2].set(jnp.nan) if t == bad_step else action)
        yield result


def ended_in(result: Result) -> np.ndarray:
    return np.asarray(result[2]) | np.asarray(result[3]) if len(result) == 5 else np.zeros(NUM_ENVS, bool)


def to_numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


class Transition:
    """What a slow loop sees of one env in one result of a bare batch."""

    def __init__(self, result: Result, i: int, mode: AutoresetMode) -> None:
        info = result[-1]
        is_step = len(result) == 5
        mask = np.asarray(info.get("_episode_length", np.ones(NUM_ENVS, bool)))
        self.was_reset = bool(mask[i]) if not is_step else mode is NEXT_STEP and info["episode_length"][i] == 0
        self.is_transition = is_step and not self.was_reset
        self.obs = np.asarray(result[0])[i]
        self.first = self.obs if self.was_reset else None
        self.diverged = bool(info["diverged"][i]) if is_step else False
        if not self.is_transition:
            return
        self.reward = float(result[1][i])
        self.terminated = bool(result[2][i])
        self.ended = self.terminated or bool(result[3][i])
        self.last = self.obs
        if self.ended and mode is SAME_STEP:
            self.last, self.first = np.asarray(info["final_obs"])[i], self.obs


def transitions(results: list[Result], mode: AutoresetMode) -> Iterator[list[Transition]]:
    """For each result what it means for each env."""
    for result in results:
        yield [Transition(to_numpy(result), i, mode) for i in range(NUM_ENVS)]


class Running:
    """Mean and variance of all values so far, by NumPy; they begin like Gymnasium's."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        values = np.asarray(self.values, np.float64)
        weights = np.ones(len(values))
        weight = PRIOR_WEIGHT
        total = weights.sum() + weight
        mean = values.sum(axis=0) / total
        var = (((values - mean) ** 2).sum(axis=0) + weight * (1 + mean**2)) / total
        return mean, var


# Episodes


@MODES
def test_episodes_are_counted_as_a_plain_loop_counts_them(mode: AutoresetMode, make: MakeEnv) -> None:
    env = RecordEpisodeStatistics(make(mode), buffer_length=7)
    bare = list(play(make(mode), bad_step=5))
    returns, lengths, ended = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, int), []
    for found, rows in zip(play(env, bad_step=5), transitions(bare, mode), strict=True):
        episodes = {}
        for i, row in enumerate(rows):
            if row.is_transition:
                returns[i] += row.reward
                lengths[i] += 1
                if row.ended and not row.diverged:
                    episodes[i] = returns[i], lengths[i]
            if row.first is not None:
                returns[i], lengths[i] = 0, 0
        ended += episodes.values()
        info = found[-1]
        assert ("episode" in info) == (len(found) == 5 and ended_in(found).any())
        if "episode" in info:
            assert info["_episode"].tolist() == [i in episodes for i in range(NUM_ENVS)]
            expected = [episodes.get(i, (0, 0)) for i in range(NUM_ENVS)]
            np.testing.assert_allclose(info["episode"]["r"], [r for r, _ in expected], rtol=1e-5)
            np.testing.assert_array_equal(info["episode"]["l"], [length for _, length in expected])
            assert ((info["episode"]["t"] > 0) == info["_episode"]).all()
    assert env.episode_count == len(ended) > 2 * NUM_ENVS
    assert min(length for _, length in ended) < LENGTH == max(length for _, length in ended)  # both kinds of ends
    np.testing.assert_allclose(env.return_queue, [r for r, _ in ended[-7:]], rtol=1e-5)
    np.testing.assert_array_equal(env.length_queue, [length for _, length in ended[-7:]])
    assert (env.time_queue > 0).all() and len(env.time_queue) == 7


@pytest.mark.skipif(GYMNASIUM < (1, 4), reason="RecordEpisodeStatistics is right in all modes since Gymnasium 1.4")
@MODES
def test_episodes_equal_gymnasiums(mode: AutoresetMode, make: MakeEnv) -> None:
    ours, theirs = RecordEpisodeStatistics(make(mode), stats_key="own"), make(mode)
    wrapped = gymnasiums.RecordEpisodeStatistics(theirs, stats_key="own")
    wrapped.autoreset_mode = mode
    for found, expected in zip(play(ours), play(wrapped), strict=True):
        assert ("own" in found[-1]) == ("own" in expected[-1])
        if "own" in expected[-1]:
            np.testing.assert_array_equal(found[-1]["_own"], expected[-1]["_own"])
            np.testing.assert_allclose(found[-1]["own"]["r"], expected[-1]["own"]["r"], rtol=1e-5)
            np.testing.assert_array_equal(found[-1]["own"]["l"], expected[-1]["own"]["l"])
    assert ours.episode_count == wrapped.episode_count
    np.testing.assert_allclose(ours.return_queue, wrapped.return_queue, rtol=1e-5)
    np.testing.assert_array_equal(ours.length_queue, wrapped.length_queue)


def test_more_episodes_may_end_at_once_than_are_kept(make: MakeEnv) -> None:
    env = RecordEpisodeStatistics(make(SAME_STEP, episode_length=2), buffer_length=3)
    list(play(env, actions(6)))
    assert env.episode_count == 3 * NUM_ENVS and env.length_queue.tolist() == [2, 2, 2]


# Whose memory it is


@pytest.mark.parametrize("output", ("numpy", TORCH))
@MODES
def test_whatever_is_returned_may_be_written_to(mode: AutoresetMode, output: str, make: MakeEnv) -> None:
    env, twin = (
        FrameStackObservation(NormalizeReward(NormalizeObservation(RecordEpisodeStatistics(make(mode, output)))), 2)
        for _ in range(2)
    )
    num_finals = 0
    for result, expected in zip(play(env), play(twin), strict=True):
        for found, wanted in zip(result[:-1], expected[:-1], strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
        arrays = list(map(np.asarray, jax.tree.leaves(result)))
        assert len({array.ctypes.data for array in arrays}) == len(arrays)
        num_finals += "final_obs" in result[-1]
        ended = ended_in(result)
        for array in arrays:
            array[...] = True if array.dtype == bool else 77
        for flags in result[2:4]:  # `play` looks at them
            np.asarray(flags)[...] = ended
    assert (num_finals > 0) == (mode is SAME_STEP)
    np.testing.assert_array_equal(env.env.env.obs_rms.mean, twin.env.env.obs_rms.mean)
    np.testing.assert_array_equal(env.env.return_rms.var, twin.env.return_rms.var)
    np.testing.assert_array_equal(env.env.env.env.return_queue, twin.env.env.env.return_queue)


def test_rewards_are_not_handed_out_before_statistics_have_read_them(
    make: MakeEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = episodes._counted

    def counted_late(state: Any, reward_E: jax.Array, *rest: Any) -> Any:
        late = jax.lax.fori_loop(0, 30, lambda _, matrix: jnp.tanh(matrix @ matrix), jnp.zeros((400, 400)))
        return counted(state, reward_E + late[0, 0], *rest)

    monkeypatch.setattr(episodes, "_counted", jax.jit(counted_late))
    env = RecordEpisodeStatistics(make())
    env.reset(seed=0)
    for action in actions(3):
        env.step(action)[1][...] = 1e6
    assert (env._episodes.return_E < 100).all()


# Normalization


@MODES
def test_observations_are_normalized_by_all_that_were_seen(mode: AutoresetMode, make: MakeEnv) -> None:
    env = NormalizeObservation(make(mode))
    bare = list(play(make(mode), bad_step=5))
    seen = Running()
    for found, expected, rows in zip(play(env, bad_step=5), bare, transitions(bare, mode), strict=True):
        seen.values += [row.first for row in rows if row.first is not None]
        seen.values += [row.last for row in rows if row.is_transition and not row.diverged and row.ended]
        seen.values += [row.obs for row in rows if row.is_transition and not row.diverged and not row.ended]
        mean, var = seen.scale()
        np.testing.assert_allclose(found[0], (expected[0] - mean) / np.sqrt(var + 1e-8), rtol=1e-3, atol=1e-4)
        assert found[0].dtype == np.float32
        if "final_obs" in expected[-1]:
            final = (expected[-1]["final_obs"] - mean) / np.sqrt(var + 1e-8)
            np.testing.assert_allclose(found[-1]["final_obs"], final, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(env.obs_rms.count, len(seen.values), rtol=1e-6)
    np.testing.assert_allclose(env.obs_rms.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(env.obs_rms.var, var, rtol=1e-4)


@MODES
def test_rewards_are_normalized_by_the_discounted_returns(mode: AutoresetMode, make: MakeEnv) -> None:
    env = NormalizeReward(make(mode), gamma=0.9)
    bare = list(play(make(mode), bad_step=5))
    seen, returns = Running(), np.zeros(NUM_ENVS)
    for found, expected, rows in zip(play(env, bad_step=5), bare, transitions(bare, mode), strict=True):
        for i, row in enumerate(rows):
            if row.is_transition:
                returns[i] = 0.9 * returns[i] * (not row.terminated) + row.reward
                seen.values += [] if row.diverged else [returns[i]]
            if row.first is not None:
                returns[i] = 0
        np.testing.assert_array_equal(found[0], expected[0])
        if len(found) == 5:
            _, var = seen.scale()
            np.testing.assert_allclose(found[1], expected[1] / np.sqrt(var + 1e-8), rtol=1e-3)
    np.testing.assert_allclose(env.return_rms.count, len(seen.values), rtol=1e-6)
    np.testing.assert_allclose(env.return_rms.var, var, rtol=1e-4)


def same_results(ours: Any, theirs: Any, table: np.ndarray, mode: AutoresetMode) -> None:
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for action in table:
        found, expected = ours.step(action), theirs.step(action.copy())
        for a, b in zip(found[:4], expected[:4], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        if mode is DISABLED and (mask := ended_in(expected)).any():
            ours.reset(options={"reset_mask": mask})
            theirs.reset(options={"reset_mask": mask})


def test_normalized_observations_equal_gymnasiums(make: MakeEnv) -> None:
    ours, theirs = NormalizeObservation(make()), gymnasiums.NormalizeObservation(make())
    same_results(ours, theirs, actions(), NEXT_STEP)
    np.testing.assert_allclose(ours.obs_rms.mean, theirs.obs_rms.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.obs_rms.var, theirs.obs_rms.var, rtol=1e-3)
    np.testing.assert_allclose(ours.obs_rms.count, theirs.obs_rms.count)
    assert ours.observation_space == theirs.observation_space


@pytest.mark.skipif(GYMNASIUM < (1, 4), reason="NormalizeReward knows SAME_STEP since Gymnasium 1.4")
def test_normalized_rewards_equal_gymnasiums(make: MakeEnv) -> None:
    ours, theirs = NormalizeReward(make(SAME_STEP)), gymnasiums.NormalizeReward(make(SAME_STEP))
    same_results(ours, theirs, actions(), SAME_STEP)
    np.testing.assert_allclose(ours.return_rms.var[0], theirs.return_rms.var, rtol=1e-3)


def test_statistics_can_be_frozen_and_handed_on(make: MakeEnv) -> None:
    env, other = (NormalizeReward(NormalizeObservation(make(SAME_STEP))) for _ in range(2))
    list(play(env))
    other.return_rms, other.env.obs_rms = env.return_rms, env.env.obs_rms
    other.update_running_mean = other.env.update_running_mean = False
    bare, found = make(SAME_STEP), list(play(other))
    assert (other.env.obs_rms.count, other.return_rms.count) == (env.env.obs_rms.count, env.return_rms.count)
    mean, var = np.asarray(env.env.obs_rms.mean), np.asarray(env.env.obs_rms.var)
    for (obs, *_), (plain, *_) in zip(found, play(bare), strict=True):
        np.testing.assert_allclose(obs, (plain - mean) / np.sqrt(var + 1e-8), rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidConfigError, match=r"must be Moments of shape \(5,\)"):
        env.env.obs_rms = Moments.empty(3)


# Actions and stacks


@MODES
@pytest.mark.parametrize("name", ["ClipAction", "RescaleAction"])
def test_actions_are_changed_as_gymnasium_does(name: str, mode: AutoresetMode, make: MakeEnv) -> None:
    arguments = {"ClipAction": (), "RescaleAction": (np.float32(-3), np.float32(3))}[name]
    ours, theirs = (getattr(module, name)(make(mode), *arguments) for module in (wrappers, gymnasiums))
    assert ours.single_action_space == theirs.single_action_space
    assert ours.action_space == theirs.action_space
    same_results(ours, theirs, actions(bound=3.0), mode)


@OUTPUTS
def test_actions_of_any_library_are_taken(output: str, make: MakeEnv) -> None:
    env, twin = RescaleAction(make(output=output), -2.0, 2.0), make(output=output)
    for one in (env, twin):
        one.reset(seed=0)
    action = actions(1)[0]
    given = jnp.asarray(2 * action) if output == "jax" else 2 * action
    if output == "torch":
        import torch

        given = torch.from_numpy(given)
    np.testing.assert_allclose(np.asarray(env.step(given)[0]), np.asarray(twin.step(action)[0]), rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidActionError, match=r"\(num_envs, num_actions\) = \(8, 2\)"):
        env.step(given[:, :1])


@pytest.mark.parametrize("padding", ["reset", "zero", np.arange(5, dtype=np.float32)], ids=["reset", "zero", "given"])
@MODES
def test_stacks_are_those_of_gymnasiums_wrapper_around_each_env(
    padding: Any, mode: AutoresetMode, make: MakeEnv
) -> None:
    env = FrameStackObservation(make(mode), 3, padding_type=padding)
    bare = list(play(make(mode), bad_step=5))
    singles = [gym.wrappers.FrameStackObservation(Replayed(), 3, padding_type=padding) for _ in range(NUM_ENVS)]
    assert env.single_observation_space == singles[0].observation_space
    stacks = [np.zeros((3, 5))] * NUM_ENVS
    for found, rows in zip(play(env, bad_step=5), transitions(bare, mode), strict=True):
        for i, row in enumerate(rows):
            if row.is_transition:
                singles[i].unwrapped.obs = row.last
                stacks[i] = singles[i].step(None)[0]
                if row.ended and mode is SAME_STEP:
                    np.testing.assert_array_equal(found[-1]["final_obs"][i], stacks[i])
            if row.first is not None:
                singles[i].unwrapped.obs = row.first
                stacks[i] = singles[i].reset()[0]
        np.testing.assert_array_equal(found[0], np.stack(stacks))


class Replayed(gym.Env):
    """Shows the observation that it is told to show."""

    observation_space = gym.spaces.Box(-1e10, 1e10, (5,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    obs = np.zeros(5, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.obs, {}

    def step(self, action: Any) -> Any:
        return self.obs, 0.0, False, False, {}


# All of them, in all outputs and modes


def wrapped(env: KsimVectorEnv) -> Any:
    env = RecordEpisodeStatistics(ClipAction(env), buffer_length=50)
    return FrameStackObservation(NormalizeReward(NormalizeObservation(env)), 2)


@DEVICE_OUTPUTS
@MODES
def test_every_output_holds_the_same_values_in_its_own_arrays(mode: AutoresetMode, output: str, make: MakeEnv) -> None:
    if output == "torch":
        import torch
    kind = jax.Array if output == "jax" else torch.Tensor
    env = wrapped(make(mode, output))
    for found, expected in zip(play(env), play(wrapped(make(mode))), strict=True):
        for a, b in zip(found[:-1], expected[:-1], strict=True):
            assert isinstance(a, kind)
            np.testing.assert_array_equal(np.asarray(a), b)
        info, expected_info = found[-1], expected[-1]
        own = {"episode", "_episode"} if len(found) == 5 else set()
        final = {"final_obs", "_final_obs", "final_info", "_final_info"} if own and mode is SAME_STEP else set()
        assert info.keys() == expected_info.keys() | own | final
        assert all(isinstance(info[name], kind) for name in info if not isinstance(info[name], dict | np.ndarray))
        if own:
            np.testing.assert_array_equal(np.asarray(info["_episode"]), ended_in(expected))
    assert env.output == output and env.metadata["jax"] == (output == "jax")


@MODES
def test_no_value_is_read_while_a_step_is_computed(mode: AutoresetMode, make: MakeEnv) -> None:
    stacked = partial(FrameStackObservation, stack_size=2)
    for wrap in (RecordEpisodeStatistics, NormalizeObservation, NormalizeReward, stacked):
        env = make(mode, "jax")
        wrapper = wrap(env)
        wrapper.reset(seed=0)
        jax.eval_shape(wrapper._after_step, *env.step(actions(1)[0]))  # with arrays that have no values


@DEVICE_OUTPUTS
@MODES
def test_no_step_waits_for_the_device(
    mode: AutoresetMode, output: str, make: MakeEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = wrapped(make(mode, output))
    env.reset(seed=0)
    looks: list[tuple[int, ...]] = []

    def spied(function: Callable[..., Any]) -> Callable[..., Any]:
        def spy(value: Any, *args: Any, **keywords: Any) -> Any:
            if isinstance(value, jax.Array):
                looks.append(value.shape)
            return function(value, *args, **keywords)

        return spy

    array = type(jnp.zeros(1))
    for name in ("__array__", "__bool__", "__float__", "__int__", "__index__", "block_until_ready"):
        monkeypatch.setattr(array, name, spied(getattr(array, name)))
    for name in ("array", "asarray"):  # which on a CPU need none of these
        monkeypatch.setattr(np, name, spied(getattr(np, name)))
    for action in actions(10):
        env.step(action)
    # On a CPU the clipped actions are copied at once; they depend on no step. DISABLED mode refuses ended episodes.
    assert looks == [(NUM_ENVS, 2), *([(NUM_ENVS,)] if mode is DISABLED else [])] * 10


@MODES
def test_a_wrapped_batch_keeps_the_contract_of_vector_envs(mode: AutoresetMode, make: MakeEnv) -> None:
    env = wrapped(make(mode))
    list(play(env, actions(30)))
    env.env.update_running_mean = env.env.env.update_running_mean = False  # lest equal seeds show different numbers
    check_vector_env(env)


def test_gymnasiums_wrappers_go_outside_of_ours(make: MakeEnv) -> None:
    env = gymnasiums.TransformReward(NormalizeObservation(make()), lambda reward: 2 * reward)
    assert env.reset(seed=0)[0].shape == (NUM_ENVS, 5)
    with pytest.raises(InvalidConfigError, match="put Gymnasium's wrappers outside of these"):
        NormalizeReward(env)


BAD_ARGUMENTS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "no env": (lambda env: ClipAction(None), InvalidConfigError, "ClipAction is for a batch of ksim_envs"),
    "buffer": (lambda env: RecordEpisodeStatistics(env, 0), InvalidConfigError, "buffer_length"),
    "key": (lambda env: RecordEpisodeStatistics(env, stats_key="alive"), InvalidConfigError, "'alive'.*info has"),
    "twice": (lambda env: RecordEpisodeStatistics(RecordEpisodeStatistics(env)), InvalidConfigError, "choose another"),
    "epsilon": (lambda env: NormalizeObservation(env, 0.0), InvalidConfigError, "epsilon is 0.0"),
    "gamma": (lambda env: NormalizeReward(env, gamma=1.5), InvalidConfigError, "gamma is 1.5"),
    "no number": (lambda env: NormalizeReward(env, gamma="0.9"), InvalidConfigError, "gamma is '0.9'"),
    "no epsilon": (lambda env: NormalizeObservation(env, None), InvalidConfigError, "epsilon is None"),
    "range": (lambda env: RescaleAction(env, 1.0, -1.0), InvalidConfigError, "min_action is 1.0"),
    "infinite": (lambda env: RescaleAction(env, -np.inf, 1.0), InvalidConfigError, "min_action is -inf.*finite"),
    "numbers": (lambda env: RescaleAction(env, [-1.0] * 3, 1.0), InvalidConfigError, "one for each of 2 actions"),
    "bounds": (lambda env: RescaleAction(ClipAction(env), -1, 1), InvalidConfigError, "put ClipAction around"),
    "stack": (lambda env: FrameStackObservation(env, 0), InvalidConfigError, "stack_size"),
    "padding": (
        lambda env: FrameStackObservation(env, 2, padding_type="zeros"),
        UnknownNameError,
        "Did you mean 'zero'",
    ),
    "shape": (lambda env: FrameStackObservation(env, 2, padding_type=[1.0]), InvalidConfigError, r"\(1,\).*\(5,\)"),
}


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(kind: str, make: MakeEnv) -> None:
    wrap, error, words = BAD_ARGUMENTS[kind]
    env = make()
    with pytest.raises(error, match=words):
        wrap(env)
    assert env.output == "numpy" and isinstance(env.reset(seed=0)[0], np.ndarray)
