"""The same seed gives the same bits: again, in a new process, with any number of threads and whatever `num_envs` is."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from ksim_envs.building import make_core
from ksim_envs.registration import BUILT_IN, get_task
from ksim_envs.single_env import KsimEnv
from ksim_envs.tasks.context import Context
from ksim_envs.types import Push, View
from tests import tiny
from tests.bits import assert_same_bits, rows

pytestmark = pytest.mark.optimized

NUM_STEPS = 100


def actions_of(num_actions, num_steps=NUM_STEPS, num_envs=64):
    """Actions of the first envs do not depend on how many there are."""
    drawn = np.random.default_rng(0).uniform(-1, 1, (num_envs, num_steps, num_actions))
    return drawn.astype(np.float32).swapaxes(0, 1)


def run(env, seed=0, num_steps=NUM_STEPS):
    """All that a reset and some steps return, stacked over steps, and the physics state after them."""
    start = env.reset(seed=seed)
    actions = actions_of(env.single_action_space.shape[0], num_steps)[:, : env.num_envs]
    steps = [env.step(action)[:5] for action in actions]
    return start, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *steps), env.physics_state()


# A task that draws random numbers in every role


@dataclass(frozen=True)
class Noise:
    """A random number: an observation, a reward, a metric."""

    def __call__(self, view: View, ctx: Context) -> Array:
        """A scalar."""
        return jax.random.normal(ctx.key)


@dataclass(frozen=True)
class Coin:
    """A termination at random."""

    probability: float

    def __call__(self, view: View, ctx: Context) -> Array:
        """A scalar bool."""
        return jax.random.uniform(ctx.key) < self.probability


@dataclass(frozen=True)
class Gust:
    """An event: a random kick of the cart."""

    scale: float

    def __call__(self, view: View, ctx: Context) -> Push:
        """The push."""
        kick = self.scale * jax.random.normal(ctx.key)
        return Push(qvel_kick=jnp.zeros_like(view.qvel).at[0].set(kick), xfrc_applied=jnp.zeros((3, 6)))


@dataclass(frozen=True)
class Shift:
    """A reset that moves the cart at random."""

    scale: float

    def __call__(self, qpos: Array, qvel: Array, ctx: Context) -> tuple[Array, Array]:
        """qpos, moved, and qvel."""
        return qpos.at[0].add(self.scale * jax.random.normal(ctx.key)), qvel


NOISY = replace(
    tiny.RANDOMIZED,
    observations={**tiny.RANDOMIZED.observations, "noise": Noise()},
    rewards={**tiny.RANDOMIZED.rewards, "luck": Noise()},
    terminations={**tiny.RANDOMIZED.terminations, "coin": Coin(0.02)},
    events={"gust": Gust(0.05)},
    metrics={**tiny.RANDOMIZED.metrics, "dice": Noise()},
)
EXTENDED = replace(
    NOISY,
    observations={"extra": Noise(), **NOISY.observations},
    rewards={"extra_luck": Noise(), **NOISY.rewards},
    terminations={"extra": Coin(-1.0), **NOISY.terminations},
    events={"extra": Gust(0.0), **NOISY.events},
    resets={"extra": Shift(0.0), **NOISY.resets},
    randomizers={"extra": tiny.ScaledField("body_mass", 1.0, 1.0), **NOISY.randomizers},
    metrics={"extra_dice": Noise(), **NOISY.metrics},
)
"""The same with one more term of each kind, in front of the others; what the physics sees is multiplied away."""


TASKS = {"native": NOISY, "mjx": tiny.HOPPER_LIKE}


# The same again


@pytest.fixture
def make_noisy(make_env):
    """Builds native envs of `NOISY`."""

    def make(num_envs=16, **keywords):
        return make_env(NOISY, num_envs, backend="native", **keywords)

    return make


def test_the_same_seed_twice_gives_the_same_bits(make_env, backend):
    one, other = (make_env(TASKS[backend], backend=backend) for _ in range(2))
    other.reset(seed=5)
    other.step(np.zeros((16, 2)))  # what an env did before its seed has no effect
    expected = run(one)
    assert_same_bits(run(other), expected)
    assert_same_bits(run(one), expected)
    assert expected[1][2].any(), "no episode ended: the run does not show resets to be equal"


def test_a_reset_without_a_seed_goes_on_alike_after_the_same_seed(make_noisy):
    one, other = make_noisy(), make_noisy()
    for env in (one, other):
        env.reset(seed=3)
    for _ in range(3):
        assert_same_bits(one.reset(), other.reset())


def test_a_reset_of_all_envs_gives_the_bits_of_resets_of_some(make_env, backend):
    whole, in_parts = (make_env(TASKS[backend], backend=backend) for _ in range(2))
    run(in_parts, seed=1, num_steps=3)
    is_first = np.arange(16) < 5
    for mask in (is_first, ~is_first):
        in_parts.reset(seed=0, options={"reset_mask": mask})  # has a program of its own, and a whole reset has not
    whole.reset(seed=0)
    assert_same_bits(in_parts._state, whole._state)


def digest_of_200_steps():
    # Its source is run in the new process as well, so it brings its imports along.
    import hashlib

    import gymnasium as gym
    import numpy as np

    env = gym.make("ksim_envs:ksim/InvertedPendulum-v0", num_envs=2, backend="native", autoreset_mode="same_step")
    digest = hashlib.sha256(env.reset(seed=0)[0].tobytes())
    for action in np.random.default_rng(0).uniform(-3, 3, (200, 2, 1)):
        for leaf in env.step(action)[:4]:
            digest.update(leaf.tobytes())
    for values in env.physics_state().values():
        digest.update(values.tobytes())
    return digest.hexdigest()


def test_a_new_process_gives_the_same_bits(tmp_path):
    code = f"{inspect.getsource(digest_of_200_steps)}\nprint(digest_of_200_steps())"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [digest_of_200_steps()]


# The number of threads and of envs


@functools.cache
def humanoid_physics(num_threads):
    """The states of 16 Humanoids that fall, and what the task sees of them."""
    backend = make_core(get_task("ksim/Humanoid-v0"), 16, backend="native", num_threads=num_threads).backend
    draw = np.random.default_rng(0).uniform
    qpos, qvel = backend.model.qpos0 + draw(-0.1, 0.1, (16, backend.model.nq)), draw(-1, 1, (16, backend.model.nv))
    state = backend.reset_rows(backend.empty(), jnp.arange(16), backend.exact(qpos), backend.exact(qvel), {})
    step = jax.jit(backend.step)
    for ctrl in draw(-0.4, 0.4, (NUM_STEPS, 16, 1, backend.model.nu)):
        state, _ = step(state, jnp.asarray(ctrl, jnp.float32), jnp.ones(16, bool), None, {})
    return state


@pytest.mark.parametrize("num_threads", [2, 4])
def test_any_number_of_threads_gives_the_same_bits(num_threads):
    assert_same_bits(humanoid_physics(num_threads), humanoid_physics(1))


def test_tiny_env_i_of_16_equals_env_i_of_64(make_env, backend):
    few, many = (run(make_env(TASKS[backend], num_envs, backend=backend)) for num_envs in (16, 64))
    assert_same_bits(few, rows(many, range(16)))


@pytest.fixture
def humanoids(make_env):
    """16 and 64 Humanoids, on different numbers of threads."""
    return tuple(make_env("ksim/Humanoid-v0", num_envs=n, backend="native", num_threads=n // 16) for n in (16, 64))


def test_humanoid_i_of_16_on_1_thread_equals_humanoid_i_of_64_on_4(humanoids):
    few, many = (run(env) for env in humanoids)
    assert few[1][2].any(), "no episode ended: the run does not show resets to be equal"
    assert_same_bits(few, rows(many, range(16)))


@pytest.mark.parametrize("id", BUILT_IN)
def test_the_terms_of_every_task_give_a_row_the_same_bits_whatever_the_number_of_envs(make_tiny_core, id):
    core = make_tiny_core(get_task(id), num_envs=64, backend="native")
    draw = np.random.default_rng(0).normal
    state = core.unreset_state(core.keys(0))
    view = jax.tree.map(lambda leaf: jnp.asarray(draw(size=leaf.shape), jnp.float32), state.physics.view)
    state = replace(state, physics=replace(state.physics, view=view))
    action_EA = jnp.asarray(draw(size=(64, core.num_actions)), jnp.float32)
    terms = jax.jit(core._evaluate)
    expected = terms(state, action_EA)
    assert np.isfinite(expected.obs).mean() > 0.5
    for num_envs in (1, 3):
        few, few_actions = jax.tree.map(lambda leaf, n=num_envs: leaf[:n], (state, action_EA))
        assert_same_bits(terms(few, few_actions), rows(expected, range(num_envs)))


# Lists of seeds


def test_env_i_with_a_list_of_seeds_equals_env_0_of_its_seed(make_env):
    seeds = [7, 0, 2**40, 7]
    env = make_env(num_envs=4, backend="native", autoreset_mode="same_step")

    def run_alike(seed):
        start = env.reset(seed=seed)
        return start, [env.step(np.tile(action[:1], (4, 1)))[:4] for action in actions_of(2)]

    listed = run_alike(seeds)
    for i, seed in enumerate(seeds):
        assert_same_bits(rows(listed, [i]), rows(run_alike(seed), [0]))


def test_a_single_env_equals_env_0_of_a_batch_with_its_seed(make_env):
    batch = make_env(num_envs=4, backend="native", autoreset_mode="same_step")
    make_env(num_envs=1, backend="native")  # keeps the core of the single env for the session
    single = KsimEnv(tiny.HOPPER_LIKE, backend="native")
    obs, _ = batch.reset(seed=11)
    assert_same_bits(single.reset(seed=11)[0], obs[0])
    for action in actions_of(2)[:, :4]:
        obs, reward, terminated, truncated, info = batch.step(action)
        found = single.step(action[0])
        assert found[1:4] == (reward[0], terminated[0], truncated[0])
        if terminated[0] or truncated[0]:
            assert_same_bits(found[0], info["final_obs"][0])
            found = single.reset()
        assert_same_bits(found[0], obs[0])


# Different seeds, envs and episodes


def starts(env, seed):
    """The positions in which every env's first two episodes begin."""
    env.reset(seed=seed)
    first = env.physics_state()["qpos"]
    env.reset()
    return np.concatenate([first, env.physics_state()["qpos"]])


def num_different(positions):
    return len(np.unique(positions, axis=0))


def test_seeds_envs_and_episodes_all_start_differently(make_noisy):
    env = make_noisy(num_envs=64)
    seeds = (0, 1, 2**32, 2**63)
    assert num_different(np.concatenate([starts(env, seed) for seed in seeds])) == len(seeds) * 2 * 64


def test_64_humanoids_start_differently_in_both_of_their_first_episodes(humanoids):
    assert num_different(starts(humanoids[1], 0)) == 2 * 64


def test_the_episode_that_autoreset_begins_differs_from_env_to_env_and_from_the_last(make_noisy):
    env = make_noisy(num_envs=64, autoreset_mode="same_step", episode_length=1)
    env.reset(seed=0)
    positions = [env.physics_state()["qpos"]]
    for _ in range(2):
        env.step(np.zeros((64, 2)))
        positions.append(env.physics_state()["qpos"])
    assert num_different(np.concatenate(positions)) == 3 * 64


# One stream for each term


@pytest.fixture
def noisy_and_extended(make_env) -> Any:
    return tuple(run(make_env(task, backend="native")) for task in (NOISY, EXTENDED))


def test_one_more_term_of_each_kind_does_not_shift_the_streams_of_the_others(noisy_and_extended):
    (_, noisy_start), noisy, noisy_state = noisy_and_extended[0]
    (_, extended_start), extended, extended_state = noisy_and_extended[1]
    assert noisy[2].any(), "no coin fell: the run does not show terminations to be equal"
    assert_same_bits(extended_state, noisy_state)
    assert_same_bits(extended[0][..., 1:], noisy[0])
    assert_same_bits(extended[2:4], noisy[2:4])
    for name in ("alive", "forward", "cost", "luck", "dice", "x_position"):
        assert_same_bits(extended_start[name], noisy_start[name])
        assert_same_bits(extended[4][name], noisy[4][name])


def test_no_random_number_is_used_twice(noisy_and_extended):
    _, (obs, _, _, _, info), _ = noisy_and_extended[1]
    drawn = np.stack([obs[..., 0], obs[..., -1], info["luck"], info["extra_luck"], info["dice"], info["extra_dice"]])
    ended = info["luck"] == 0  # zero in the steps that reset a row
    repeated = len(drawn[:, ~ended].ravel()) - len(np.unique(drawn[:, ~ended]))
    assert repeated < 30  # of ten thousand float32 numbers about 3 meet by chance; a shared stream would repeat 1,500
