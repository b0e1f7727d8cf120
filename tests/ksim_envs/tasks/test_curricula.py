"""How levels move from episode to episode, by hand; and that each env of a task has its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ksim_envs
from ksim_envs import Core, EnvState
from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.curricula import (
    Adaptive,
    ConstantLevel,
    DistanceTravelled,
    EpisodeLength,
    EpisodeReturn,
    Linear,
    Survival,
)
from ksim_envs.tasks.observations import Coordinate
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.terminations import Outside
from ksim_envs.types import Autoreset, StepResult
from tests import tiny
from tests.ksim_envs.tasks.by_hand import view
from tests.ksim_envs.tasks.legged import legged

STATE = view(qpos=[3.0, 4.0, 0, 1, 0, 0, 0, 0, 0], qvel=np.zeros(8))
BASE = {"up": 2.0, "down": 1.0, "num_levels": 10, "decay": 0.0}


def levels(curriculum, episodes, seen=STATE, ctx=None):
    """The level before each episode and after the last, with the context's changes of each."""
    carry = curriculum.init()
    found = [float(curriculum.level(carry))]
    for changes in episodes:
        carry = curriculum(carry, seen, replace(ctx or legged(), **{k: jnp.asarray(v) for k, v in changes.items()}))
        assert curriculum.level(carry).dtype == jnp.float32
        found.append(float(curriculum.level(carry)))
    return found


def of_lengths(*seconds):
    """Episodes of these lengths, at 0.02 s for a control step."""
    return [{"step": round(length / 0.02)} for length in seconds]


def test_a_constant_level_stays():
    assert levels(ConstantLevel(0.25), of_lengths(1.0, 2.0)) == [0.25] * 3
    assert levels(ConstantLevel(), []) == [1.0]


def test_a_linear_level_follows_the_steps_that_the_env_has_done():
    curriculum = Linear(steps_to_top=200, delay=50, start=0.1)
    found = levels(curriculum, [{"step": 40}, {"step": 60}, {"step": 100}, {"step": 40}, {"step": 500}])
    np.testing.assert_allclose(found, [0.1, 0.1, 0.25, 0.75, 0.95, 1.0], rtol=1e-6)


def test_the_level_rises_with_long_episodes_and_falls_with_short_ones():
    found = levels(EpisodeLength(**BASE), of_lengths(3, 3, 1.5, 0.5, 0.5, 0.5))
    np.testing.assert_allclose(found, [0, 0.1, 0.2, 0.2, 0.1, 0, 0], atol=1e-6)


def test_the_level_stays_within_its_ends():
    found = levels(EpisodeLength(**{**BASE, "num_levels": 2, "start": 0.25}), of_lengths(3, 3, 3, 0.5, 0.5, 0.5))
    np.testing.assert_allclose(found, [0.25, 0.75, 1, 1, 0.5, 0.25, 0.25])


def test_the_average_begins_with_the_first_episode_and_moves_on():
    """Averages 3, 0.5 * 3 + 0.5 * 0.6 = 1.8, 0.5 * 1.8 + 0.5 * 0 = 0.9."""
    found = levels(EpisodeLength(**{**BASE, "decay": 0.5}), of_lengths(3, 0.6, 0.0))
    np.testing.assert_allclose(found, [0, 0.1, 0.1, 0], atol=1e-6)


def test_the_level_waits_for_some_episodes_after_a_change():
    found = levels(EpisodeLength(**{**BASE, "patience": 3}), of_lengths(*[3] * 7))
    np.testing.assert_allclose(found, [0, 0, 0, 0.1, 0.1, 0.1, 0.2, 0.2], atol=1e-6)


def test_the_distance_is_horizontal_and_from_the_origin_or_a_command():
    """5 m from the origin, 1 m from (3, 3); the height does not count, as it does in ksim."""
    high = view(qpos=[3.0, 4.0, 50.0, 1, 0, 0, 0, 0, 0], qvel=np.zeros(8))
    base = {"num_levels": 10, "decay": 0.0}
    assert levels(DistanceTravelled(up=4.9, down=0.0, **base), [{}], high)[1] == pytest.approx(0.1)
    assert levels(DistanceTravelled(up=5.1, down=0.0, **base), [{}], high)[1] == 0
    ctx = legged(commands={"spawn": jnp.array([3.0, 3.0, 0.4])})
    assert levels(DistanceTravelled(up=0.9, down=0.0, origin="spawn", **base), [{}], high, ctx)[1] > 0
    assert levels(DistanceTravelled(up=1.1, down=0.0, origin="spawn", **base), [{}], high, ctx)[1] == 0


def test_survival_raises_the_level_while_few_episodes_are_terminated():
    """Averages 1, 0.5, 0.75, 0.375 with a decay of a half."""
    curriculum = Survival(up=0.7, down=0.4, num_levels=10, decay=0.5)
    found = levels(curriculum, [{"terminated": end} for end in (False, True, False, True)])
    np.testing.assert_allclose(found, [0, 0.1, 0.1, 0.2, 0.1], atol=1e-6)


def test_the_return_raises_the_level():
    found = levels(EpisodeReturn(**BASE), [{"episode_return": value} for value in (2.5, 1.5, 0.5)])
    np.testing.assert_allclose(found, [0, 0.1, 0.1, 0], atol=1e-6)


def test_any_quantity_can_raise_the_level():
    found = levels(Adaptive(quantity=Coordinate(1), **BASE), [{}, {}])  # qpos[1] is 4
    np.testing.assert_allclose(found, [0, 0.1, 0.2], atol=1e-6)


def test_who_has_solved_the_hardest_level_goes_on_anywhere():
    curriculum = EpisodeLength(**{**BASE, "num_levels": 1, "mixes_at_top": True, "start": 0.5})
    assert levels(curriculum, of_lengths(3)) == [0.5, 1.0]
    ends = [
        levels(curriculum, [*of_lengths(3), {"step": 150, "key": key}])[-1]
        for key in jax.random.split(jax.random.key(0), 200)
    ]
    assert min(ends) < 0.52 and 0.5 <= min(ends) and max(ends) > 0.97
    assert np.mean(ends) == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConstantLevel(1.5),
        lambda: Linear(steps_to_top=0),
        lambda: Linear(steps_to_top=10, delay=-1),
        lambda: Linear(steps_to_top=10, start=2.0),
        lambda: EpisodeLength(up=1.0, down=2.0),
        lambda: EpisodeLength(up=2.0, down=1.0, num_levels=0),
        lambda: EpisodeLength(up=2.0, down=1.0, decay=1.0),
        lambda: EpisodeLength(up=2.0, down=1.0, patience=0),
        lambda: EpisodeLength(up=2.0, down=1.0, start=-0.1),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(InvalidConfigError):
        make()


# In a task


@dataclass(frozen=True)
class OwnLength:
    """A quantity that grows by one in each step, and by more in rows with heavier carts."""

    def __call__(self, view, ctx):
        return ctx.step * ctx.field("body_mass")[1]


FALLING = replace(
    tiny.HOPPER_LIKE,
    observations={"x": Coordinate(0), "level": lambda view, ctx: ctx.level},
    randomizers={"mass": tiny.ScaledField("body_mass", 0.5, 2.0)},
    rewards={"alive": Alive(1.0)},
    terminations={"heavy": Outside(OwnLength(), high=8.0)},
    resets={},
    episode_length=10,
)
"""Episodes of 5 to 10 steps of 0.03 s, of another length in every row and time."""


def run(curriculum, num_steps, num_envs=8, mode=Autoreset.SAME_STEP, **changes):
    """Levels (steps, envs), and where episodes ended."""
    core = ksim_envs.make_functional(replace(FALLING, curriculum=curriculum, **changes), num_envs, backend="native")
    state, step = core.reset(core.keys(0)), jax.jit(core.step)
    level, ends, lengths = [], [], []
    for _ in range(num_steps):
        state, result = step(state, jnp.zeros((num_envs, 2)), mode)
        level.append(np.asarray(state.obs_EL[:, 1]))
        ends.append(np.asarray(result.terminated_E | result.truncated_E))
        lengths.append(np.asarray(result.final_info["episode_length"]))
    assert step._cache_size() == 1, "a change of level compiled the step anew"
    return np.array(level), np.array(ends), np.array(lengths)


@pytest.mark.parametrize("mode", [Autoreset.SAME_STEP, Autoreset.NEXT_STEP], ids=lambda mode: mode.name)
def test_each_env_learns_its_level_from_its_own_episodes(mode):
    curriculum = EpisodeLength(up=0.2, down=0.2, num_levels=10, decay=0.0)  # 0.2 s: more than 6 steps, or fewer
    level, ends, lengths = run(curriculum, 60, mode=mode)
    expected = np.zeros(8)
    for step in range(60):
        if mode == Autoreset.SAME_STEP or step == 0:
            done = ends[step] if mode == Autoreset.SAME_STEP else np.zeros(8, bool)
            at = step
        else:
            done, at = ends[step - 1], step - 1
        longer = lengths[at] * 0.03 > 0.2
        expected = np.where(done, np.clip(expected + np.where(longer, 0.1, -0.1), 0, 1), expected)
        np.testing.assert_allclose(level[step], expected, atol=1e-5)
    assert len(np.unique(level[-1].round(3))) > 2


def test_a_measure_that_is_no_number_teaches_nothing():
    def often_nan(view, ctx):
        return jnp.where(ctx.field("body_mass")[1] > 1.2, jnp.nan, 1.0)

    level, _, _ = run(Adaptive(quantity=often_nan, up=0.5, down=0.5, num_levels=100, decay=0.5), 60)
    assert ((level[-1] > 0.01) & (level[-1] < 0.1)).all()


def test_the_return_of_an_episode_is_all_of_it():
    """At 1 for each step but the last, which is terminated: a return of 4 or more is an episode of 5 steps or more."""
    level, ends, lengths = run(EpisodeReturn(up=5.5, down=5.5, num_levels=100, decay=0.0), 40)
    expected = np.zeros(8)
    for step in range(40):
        returned = np.where(lengths[step] == 10, 10, lengths[step] - 1)
        expected = np.where(ends[step], np.clip(expected + np.where(returned > 5.5, 0.01, -0.01), 0, 1), expected)
        np.testing.assert_allclose(level[step], expected, atol=1e-5)


@dataclass(frozen=True)
class Rising:
    """Four envs whose level rises with every episode, and what is done with them, compiled."""

    core: Core
    reset: Callable[..., EnvState]
    step: Callable[..., tuple[EnvState, StepResult]]
    reset_rows: Callable[..., EnvState]


@pytest.fixture(scope="module")
def rising():
    task = replace(FALLING, curriculum=EpisodeLength(up=0.0, down=-1.0, num_levels=10, decay=0.0))
    core = ksim_envs.make_functional(task, 4, backend="native")
    return Rising(core, jax.jit(core.reset), jax.jit(core.step), jax.jit(core.reset_rows))


def test_an_episode_that_a_reset_breaks_off_teaches_nothing(rising):
    state, _ = rising.step(rising.reset(rising.core.keys(0)), jnp.zeros((4, 2)))
    again = rising.reset_rows(state, jnp.array([True, True, False, False]))
    assert again.obs_EL[:, 1].tolist() == [0, 0, 0, 0]
    ended = replace(state, needs_reset_E=jnp.ones(4, bool))
    np.testing.assert_allclose(rising.reset_rows(ended, jnp.arange(4) < 2).obs_EL[:, 1], [0.1, 0.1, 0, 0])


def test_an_episode_that_diverged_teaches_nothing(rising):
    state, result = rising.step(rising.reset(rising.core.keys(0)), jnp.zeros((4, 2)).at[0].set(jnp.nan))
    assert result.final_info["diverged"].tolist() == [True, False, False, False]
    ended = replace(state, needs_reset_E=jnp.ones(4, bool))
    np.testing.assert_allclose(rising.reset_rows(ended, jnp.arange(4) < 2).obs_EL[:, 1], [0, 0.1, 0, 0])


def test_the_hardest_task_is_that_of_the_last_level():
    assert FALLING.hardest is FALLING
    harder = replace(FALLING, curriculum=EpisodeLength(up=0.0, down=-1.0))
    assert harder.hardest.curriculum is None and harder.hardest is harder.hardest
    core = ksim_envs.make_functional(harder.hardest, 4, backend="native")
    assert core.reset(core.keys(0)).obs_EL[:, 1].tolist() == [1, 1, 1, 1]


def test_a_new_seed_begins_the_curriculum_anew(rising):
    core, state = rising.core, rising.reset(rising.core.keys(0))
    for _ in range(12):
        state, _ = rising.step(state, jnp.zeros((4, 2)))
    assert (state.obs_EL[:, 1] > 0).all()
    mask = jnp.array([True, False, False, False])
    fresh = rising.reset_rows(core.reseeded(state, core.keys(1), mask), mask)
    assert fresh.obs_EL[0, 1] == 0 and (fresh.obs_EL[1:, 1] == state.obs_EL[1:, 1]).all()


def test_a_curriculum_whose_memory_changes_its_shape_is_refused():
    class Growing(ConstantLevel):
        def init(self):
            return jnp.zeros(1)

        def __call__(self, carry, view, ctx):
            return jnp.zeros(2)

    with pytest.raises(InvalidConfigError, match="the curriculum begins with the carry"):
        run(Growing(), 1)
