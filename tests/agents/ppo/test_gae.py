"""Advantages against numbers worked out by hand, and against a slow loop."""

import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppo.gae import estimate_advantages

GAMMA, LAMBDA = 0.5, 0.5  # so that every number below can be checked on paper


def advantages(reward, value, next_value, terminated, truncated, valid):
    columns = [jnp.asarray(column)[:, None] for column in (reward, value, next_value)]
    flags = [jnp.asarray(column, bool)[:, None] for column in (terminated, truncated, valid)]
    advantage, target = estimate_advantages(*columns, *flags, gamma=GAMMA, gae_lambda=LAMBDA)
    np.testing.assert_allclose(target, advantage + columns[1], rtol=1e-6)
    return np.asarray(advantage)[:, 0]


# Rewards 1, 2, 4; values 8, 16, 32; next values 16, 32, 64 unless an episode ends, where the final state is worth 10.
#   delta with a next value n: r + n / 2 - v;  at a termination: r - v;  weight of the following advantage: 1/4.
CASES = {
    # delta = 1, 2, 4
    "no end": ([0, 0, 0], [0, 0, 0], [1, 1, 1], [1 + (2 + 4 / 4) / 4, 2 + 4 / 4, 4]),
    "terminated inside": ([0, 1, 0], [0, 0, 0], [1, 1, 1], [1 - 14 / 4, -14, 4]),
    "truncated inside": ([0, 0, 0], [0, 1, 0], [1, 1, 1], [1 - 9 / 4, -9, 4]),
    "both inside": ([0, 1, 0], [0, 1, 0], [1, 1, 1], [1 - 14 / 4, -14, 4]),
    "terminated at the end": ([0, 0, 1], [0, 0, 0], [1, 1, 1], [1 + (2 - 28 / 4) / 4, 2 - 28 / 4, -28]),
    "truncated at the end": ([0, 0, 0], [0, 0, 1], [1, 1, 1], [1 + (2 - 23 / 4) / 4, 2 - 23 / 4, -23]),
    "both at the end": ([0, 0, 1], [0, 0, 1], [1, 1, 1], [1 + (2 - 28 / 4) / 4, 2 - 28 / 4, -28]),
    "terminated at the start": ([1, 0, 0], [0, 0, 0], [1, 1, 1], [-7, 2 + 4 / 4, 4]),
    "truncated at the start": ([0, 0, 0], [1, 0, 0], [1, 1, 1], [-2, 2 + 4 / 4, 4]),
    "dropped inside": ([0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 4]),
    "dropped at the end": ([0, 0, 0], [0, 0, 1], [1, 1, 0], [1 + 2 / 4, 2, 0]),
    "dropped at the start": ([0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 2 + 4 / 4, 4]),
}


@pytest.mark.parametrize("case", CASES)
def test_advantages_equal_those_worked_out_by_hand(case):
    terminated, truncated, valid, expected = CASES[case]
    ended = np.logical_or(terminated, truncated)
    next_value = np.where(ended, 10.0, [16.0, 32.0, 64.0])
    found = advantages([1.0, 2.0, 4.0], [8.0, 16.0, 32.0], next_value, terminated, truncated, valid)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def slow_advantages(reward, value, next_value, terminated, truncated, valid, gamma, gae_lambda):
    """The sum of discounted temporal differences up to the end of the episode, term by term, in float64."""
    steps, envs = reward.shape
    found = np.zeros((steps, envs))
    for env in range(envs):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                if not valid[k, env]:
                    break
                bootstrap = 0.0 if terminated[k, env] else gamma * next_value[k, env]
                found[t, env] += weight * (reward[k, env] + bootstrap - value[k, env])
                if terminated[k, env] or truncated[k, env]:
                    break
                weight *= gamma * gae_lambda
    return found


def test_advantages_equal_a_slow_loop_on_200_random_rollouts():
    rng = np.random.default_rng(0)
    shape = (23, 200)
    reward, value, next_value = rng.normal(size=(3, *shape)).astype(np.float32)
    terminated, truncated, dropped = rng.random((3, *shape)) < 0.1
    truncated |= dropped
    fast, target = estimate_advantages(
        *map(jnp.asarray, (reward, value, next_value, terminated, truncated, ~dropped)), gamma=0.99, gae_lambda=0.95
    )
    slow = slow_advantages(reward, value, next_value, terminated, truncated, ~dropped, 0.99, 0.95)
    np.testing.assert_allclose(fast, slow, rtol=1e-6, atol=5e-6)  # sums of up to 23 float32 terms of size 10
    np.testing.assert_allclose(target, slow + value, rtol=1e-6, atol=5e-6)


def test_what_a_dropped_transition_holds_reaches_nothing():
    rng = np.random.default_rng(1)
    reward, value, next_value = rng.normal(size=(3, 12, 4)).astype(np.float32)
    dropped = rng.random((12, 4)) < 0.3
    flags = [jnp.asarray(flag) for flag in (np.zeros((12, 4), bool), dropped, ~dropped)]

    def with_dropped(fill):
        filled = [jnp.asarray(np.where(dropped, fill, values)) for values in (reward, value, next_value)]
        return np.asarray(estimate_advantages(*filled, *flags, gamma=0.9, gae_lambda=0.9)[0])

    np.testing.assert_array_equal(with_dropped(np.float32(np.nan)), with_dropped(np.float32(0.0)))
