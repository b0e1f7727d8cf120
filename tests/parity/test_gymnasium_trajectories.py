"""Whole episodes on native with Gymnasium's dynamics, state set once at reset, against the official v5 envs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.oracle import IDS, error, gymnasium_twin, random_action

pytestmark = pytest.mark.optimized

NUM_EPISODES = 5
BOUND = 1e-6
"""Of observations, rewards and info, absolute or relative. The views are float64 rounded to float32 (6e-8); the
position difference in a velocity is subtracted in float64, so the bound does not grow with the distance from the
origin."""


@pytest.mark.parametrize("id", IDS)
def test_whole_episodes_equal_gymnasium(id, make_env):
    twins = [gymnasium_twin(id) for _ in range(NUM_EPISODES)]
    first = [twin.reset(seed=seed)[0] for seed, twin in enumerate(twins)]
    start = {name: [getattr(twin.unwrapped.data, name) for twin in twins] for name in ("qpos", "qvel")}
    env = make_env(id, NUM_EPISODES, backend="native", dynamics="gymnasium", autoreset_mode="next_step")
    obs, _ = env.reset(seed=0, options=start)
    assert error(obs, first) < BOUND

    rng = np.random.default_rng(0)
    running = set(range(NUM_EPISODES))
    while running:
        actions = np.stack([random_action(twin, rng) for twin in twins])
        obs, reward, terminated, truncated, info = env.step(actions)
        for i in sorted(running):
            obs5, reward5, terminated5, truncated5, info5 = twins[i].step(actions[i])
            assert (terminated[i], truncated[i]) == (terminated5, truncated5)
            assert error(obs[i], obs5) < BOUND
            assert error(reward[i], reward5) < BOUND
            for name, value in info5.items():
                assert error(info[name][i], value) < BOUND, name
            if terminated5 or truncated5:
                running.remove(i)


def test_velocity_is_exact_far_from_the_origin(make_env):
    """At x = 100 km, the difference of two float32 positions is a multiple of 0.008 m; ours is taken in float64."""
    twin = gymnasium_twin("ksim/HalfCheetah-v0")
    twin.reset(seed=0)
    data = twin.unwrapped.data
    qpos, qvel = data.qpos.copy(), data.qvel.copy()
    qpos[0] = 1e5
    twin.unwrapped.set_state(qpos, qvel)
    env = make_env("ksim/HalfCheetah-v0", 1, backend="native", dynamics="gymnasium")
    env.reset(seed=0, options={"qpos": qpos, "qvel": qvel})
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = random_action(twin, rng)
        _, reward, _, _, info = env.step(action[None])
        _, reward5, _, _, info5 = twin.step(action)
        # float64 itself rounds positions there to 1.5e-11 m, hence velocities to 3e-10 m/s
        assert error(info["x_velocity"][0], info5["x_velocity"]) < BOUND
        assert error(reward[0], reward5) < BOUND
