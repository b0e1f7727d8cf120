"""Gymnasium's own vector wrappers around `KsimVectorEnv`: with which output and mode they work, and how right.

A wrapped env and a bare twin get the same seed and the same actions; each wrapper's `check` compares their results.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers
from imageio_ffmpeg import get_ffmpeg_exe

from ksim_envs.errors import RenderError
from ksim_envs.vector_env import KsimVectorEnv
from tests.marks import MODES, OUTPUTS, needs_torch

MakeEnv = Callable[..., KsimVectorEnv]
Result = tuple[Any, ...]

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
GYMNASIUM = tuple(int(number) for number in gym.__version__.split(".")[:2])
INFINITE_BOUNDS = "ignore:overflow encountered in cast:RuntimeWarning"  # of DtypeObservation
REFUSED = (ValueError, AssertionError)  # since Gymnasium 1.4 and before it
needs_array_api = pytest.mark.skipif(
    GYMNASIUM < (1, 2) or importlib.util.find_spec("array_api_compat") is None,
    reason="Gymnasium 1.2 or array-api-compat is not installed",
)


def close_to(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-4, atol=1e-5)


def same(wrapper: Any, found: Result, bare: Result) -> None:
    for a, b in zip(found[:-1], bare[:-1], strict=True):
        close_to(a, b)


def same_but_flat(wrapper: Any, found: Result, bare: Result) -> None:
    assert np.asarray(found[0]).shape == wrapper.observation_space.shape
    same(wrapper, found, bare)


def same_as_float64(wrapper: Any, found: Result, bare: Result) -> None:
    assert found[0].dtype == wrapper.observation_space.dtype == np.float64
    same(wrapper, found, bare)


def doubled_observation(wrapper: Any, found: Result, bare: Result) -> None:
    same(wrapper, found, (2 * np.asarray(bare[0]), *bare[1:]))


def normalized_observation(wrapper: Any, found: Result, bare: Result) -> None:
    rms = wrapper.obs_rms
    close_to(np.asarray(found[0]) * np.sqrt(rms.var + wrapper.epsilon) + rms.mean, bare[0])


def normalized_reward(wrapper: Any, found: Result, bare: Result) -> None:
    close_to(found[0], bare[0])
    if len(found) == 5:
        close_to(np.asarray(found[1]) * np.sqrt(wrapper.return_rms.var + wrapper.epsilon), bare[1])


def list_of_infos(wrapper: Any, found: Result, bare: Result) -> None:
    infos, info = found[-1], bare[-1]
    assert len(infos) == wrapper.num_envs
    for name in [name for name in info if not name.startswith("_") and name != "final_info"]:
        mask = info.get(f"_{name}", np.ones(wrapper.num_envs, bool))
        assert [name in one for one in infos] == mask.tolist()
        for i in np.flatnonzero(mask):
            close_to(infos[i][name], info[name][i])


def episode_statistics(wrapper: Any, found: Result, bare: Result) -> None:
    ended = ended_in(bare)
    assert ("episode" in found[-1]) == ended.any()
    if ended.any():
        ours = bare[-1].get("final_info", bare[-1])
        np.testing.assert_array_equal(found[-1]["_episode"], ended)
        close_to(found[-1]["episode"]["r"][ended], np.asarray(ours["episode_return"])[ended])
        np.testing.assert_array_equal(found[-1]["episode"]["l"][ended], np.asarray(ours["episode_length"])[ended])


def identity(action: np.ndarray) -> np.ndarray:
    return action


@dataclass(frozen=True, kw_only=True)
class Row:
    """A wrapper, and what is known of it."""

    wrap: Callable[[Any], Any]
    check: Callable[[Any, Result, Result], None]
    modes: tuple[AutoresetMode, ...] = tuple(AutoresetMode)  # Gymnasium refuses the others
    fails: Mapping[str, type[Exception]] = field(default_factory=dict)  # by output, or by output and mode
    bare_action: Callable[[np.ndarray], np.ndarray] = identity  # what the wrapper makes of an action in [-3, 3]
    since: tuple[int, int] = (1, 1)  # version of Gymnasium in which it is right
    why: str = ""


OBSERVATION_MODES = (NEXT_STEP, DISABLED)
TABLE = {
    "RecordEpisodeStatistics": Row(
        wrap=wrappers.RecordEpisodeStatistics,
        check=episode_statistics,
        fails={"jax, SAME_STEP": TypeError, "torch": TypeError},  # it writes into masks in place
    ),
    "NormalizeObservation": Row(
        wrap=wrappers.NormalizeObservation,
        check=normalized_observation,
        modes=(NEXT_STEP,),
        fails={"torch": TypeError},
    ),
    "NormalizeReward": Row(
        wrap=wrappers.NormalizeReward,
        check=normalized_reward,
        fails={"torch": RuntimeError},  # 1 - mask
    ),
    "ClipAction": Row(wrap=wrappers.ClipAction, check=same, bare_action=lambda action: np.clip(action, -1, 1)),
    "RescaleAction": Row(
        wrap=lambda env: wrappers.RescaleAction(env, np.float32(-3), np.float32(3)),
        check=same,
        bare_action=lambda action: action / 3,
    ),
    "FlattenObservation": Row(
        wrap=wrappers.FlattenObservation,
        check=same_but_flat,
        modes=OBSERVATION_MODES,
        fails={"jax": TypeError, "torch": TypeError},  # it concatenates into a NumPy array
    ),
    "DtypeObservation": Row(
        wrap=lambda env: wrappers.DtypeObservation(env, np.float64), check=same_as_float64, modes=OBSERVATION_MODES
    ),
    "TransformObservation": Row(
        wrap=lambda env: wrappers.TransformObservation(env, lambda obs: 2 * obs),
        check=doubled_observation,
        modes=OBSERVATION_MODES,
    ),
    "DictInfoToList": Row(
        wrap=wrappers.DictInfoToList,
        check=list_of_infos,
        fails={"jax": AssertionError, "torch": AssertionError},  # it wants NumPy arrays
        since=(1, 2),
        why="DictInfoToList of Gymnasium 1.1 needs a mask for every key of info",
    ),
}


def results(wrapper: Any, twin: Any, row: Row, num_steps: int = 30) -> Iterator[tuple[Result, Result]]:
    """Results of a wrapped env and of its bare twin, from resets and steps."""
    rng = np.random.default_rng(0)
    ended = np.zeros(twin.num_envs, bool)
    yield wrapper.reset(seed=0), twin.reset(seed=0)
    for _ in range(num_steps):
        if twin.autoreset_mode is DISABLED and ended.any():
            yield partial_resets(wrapper, twin, ended)
        action = rng.uniform(-3, 3, twin.action_space.shape).astype(np.float32)
        found, bare = wrapper.step(action), twin.step(row.bare_action(action))
        yield found, bare
        ended = ended_in(bare)


def ended_in(result: Result) -> np.ndarray:
    """(num_envs,) bool: which episodes ended; none in a reset."""
    return np.asarray(result[2]) | np.asarray(result[3]) if len(result) == 5 else np.zeros(len(result[0]), bool)


def partial_resets(wrapper: Any, twin: Any, mask: np.ndarray) -> tuple[Result, Result]:
    return wrapper.reset(options={"reset_mask": mask}), twin.reset(options={"reset_mask": mask})


def make_twins(make_env: MakeEnv, output: str, mode: AutoresetMode) -> tuple[KsimVectorEnv, KsimVectorEnv]:
    made = [make_env(backend="native", output=output, autoreset_mode=mode, episode_length=20) for _ in range(2)]
    return made[0], made[1]


def skip_if_too_old(row: Row, mode: AutoresetMode) -> None:
    if row.since > GYMNASIUM:
        pytest.skip(row.why)
    if row.wrap is wrappers.RecordEpisodeStatistics and mode is SAME_STEP and GYMNASIUM < (1, 4):
        pytest.skip("RecordEpisodeStatistics counts SAME_STEP right since Gymnasium 1.4")


@pytest.mark.filterwarnings(INFINITE_BOUNDS)
@OUTPUTS
@MODES
@pytest.mark.parametrize("name", TABLE)
def test_a_wrapper_works_as_the_table_says(name: str, mode: AutoresetMode, output: str, make_env: MakeEnv) -> None:
    row = TABLE[name]
    skip_if_too_old(row, mode)
    env, twin = make_twins(make_env, output, mode)
    failure = row.fails.get(output) or row.fails.get(f"{output}, {mode.name}")
    assert_as_expected(row, env, twin, failure)


def assert_as_expected(row: Row, env: Any, twin: KsimVectorEnv, failure: type[Exception] | None) -> None:
    """The wrapper refuses the mode, fails as given, or works and is right."""
    if twin.autoreset_mode not in row.modes:
        with pytest.raises(REFUSED):
            row.wrap(env)
        return
    wrapper = row.wrap(env)
    if failure:
        with pytest.raises(failure):
            list(results(wrapper, twin, row))
        return
    num_ends = 0
    for found, bare in results(wrapper, twin, row):
        row.check(wrapper, found, bare)
        num_ends += ended_in(bare).sum()
    assert num_ends >= twin.num_envs


@pytest.mark.parametrize(
    ("output", "mode"), [("numpy", mode) for mode in AutoresetMode] + [("jax", NEXT_STEP), ("jax", DISABLED)]
)
def test_episode_statistics_stay_right_over_partial_resets(output: str, mode: AutoresetMode, make_env: MakeEnv) -> None:
    row = TABLE["RecordEpisodeStatistics"]
    skip_if_too_old(row, mode)
    env, twin = make_twins(make_env, output, mode)
    wrapper = row.wrap(env)
    num_ends = 0
    for t, (found, bare) in enumerate(results(wrapper, twin, row, num_steps=45)):
        episode_statistics(wrapper, found, bare)
        ended = ended_in(bare)
        num_ends += ended.sum()
        if t % 7 == 6 and not ended.any():
            partial_resets(wrapper, twin, np.arange(env.num_envs) % 5 == t % 5)
    assert num_ends >= env.num_envs


@pytest.mark.filterwarnings("ignore:.*Recorded episodes will not contain the last frame:UserWarning")  # SAME_STEP
@OUTPUTS
@MODES
def test_record_video_writes_a_film_of_what_render_shows(
    mode: AutoresetMode, output: str, make_env: MakeEnv, tmp_path: Path
) -> None:
    pytest.importorskip("moviepy")
    settings = {"render_mode": "rgb_array", "num_rendered_envs": 2, "width": 64, "height": 48}
    env = make_env(num_envs=2, backend="native", output=output, autoreset_mode=mode, **settings)
    env.reset(seed=0)
    try:
        env.render()
    except RenderError as error:
        pytest.skip(str(error).splitlines()[0])
    wrapper = wrappers.RecordVideo(env, str(tmp_path / "films"), step_trigger=lambda step: step == 0, video_length=5)
    wrapper.reset(seed=0)
    for _ in range(8):
        wrapper.step(np.full(env.action_space.shape, (0.0, 1.0), np.float32))  # turns the poles
    wrapper.close()
    [film] = (tmp_path / "films").iterdir()
    assert film.suffix == ".mp4"
    frames_TL = pixels_of(film).reshape(-1, 2 * 64 * 48 * 3).astype(int)
    assert len(frames_TL) >= 5
    assert frames_TL.mean(axis=1).min() > 5 and frames_TL.std(axis=1).min() > 1, "black, or of one color"
    assert np.abs(frames_TL[-1] - frames_TL[0]).max() > 10, "nothing moves"


def pixels_of(film: Path) -> np.ndarray:
    """The film's pixels, one frame after the other."""
    decoded = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-i", str(film), *decoded]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)


# Gymnasium's converters

CONVERTERS = {"NumpyToTorch": ("numpy", "torch"), "JaxToNumpy": ("jax", "numpy"), "JaxToTorch": ("jax", "torch")}
"""Converters: from which output, to what."""


@needs_array_api
@needs_torch
@MODES
@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_converter_converts_every_leaf_and_changes_no_value(
    converter: str, mode: AutoresetMode, make_env: MakeEnv
) -> None:
    source, target = CONVERTERS[converter]
    env, twin = make_twins(make_env, source, mode)
    wrapper = getattr(wrappers, converter)(env)
    for found, bare in results(wrapper, twin, Row(wrap=identity, check=same)):
        assert jax.tree.structure(found) == jax.tree.structure(bare)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(bare), strict=True):
            assert type(a).__module__.partition(".")[0] == target
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@needs_array_api
@needs_torch
@pytest.mark.filterwarnings(INFINITE_BOUNDS)
@MODES
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_wrapper_around_a_converter_works_as_with_that_output(
    converter: str, name: str, mode: AutoresetMode, make_env: MakeEnv
) -> None:
    row = TABLE[name]
    skip_if_too_old(row, mode)
    source, target = CONVERTERS[converter]
    env, twin = make_twins(make_env, source, mode)
    failure = row.fails.get(target)
    if (converter, name) == ("JaxToNumpy", "FlattenObservation"):
        failure = ValueError  # what JaxToNumpy returns is read-only
    assert_as_expected(row, getattr(wrappers, converter)(env), twin, failure)
