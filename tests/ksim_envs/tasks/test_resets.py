"""What the reset terms draw: bounds, distributions, and which coordinates they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.tasks.resets import NormalVelocity, ObjectAwayFromGoal, TargetInDisk, UniformPosition, UniformVelocity
from tests.ksim_envs.tasks.by_hand import context

NUM_DRAWS = 4000
QPOS, QVEL = jnp.arange(10.0), jnp.arange(8.0) / 10


def draws(term):
    """What the term adds to `QPOS` and `QVEL`, in `NUM_DRAWS` episodes."""
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    qpos, qvel = jax.vmap(lambda key: term(QPOS, QVEL, context(key=key)))(keys)
    return np.asarray(qpos, np.float64) - QPOS, np.asarray(qvel, np.float64) - QVEL


def assert_uniform(values, scale):
    """Within [-scale, scale), with the moments of a uniform distribution, and no two elements or draws alike."""
    rounding = 1e-6  # of the sum with QPOS, in float32
    assert np.abs(values).max() <= scale + rounding and np.abs(values).max() > 0.99 * scale
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=5 * scale / np.sqrt(3 * NUM_DRAWS))
    np.testing.assert_allclose(values.std(axis=0), scale / np.sqrt(3), rtol=0.06)
    assert_independent(values)


def assert_independent(values):
    correlation = np.corrcoef(values.T) if values.shape[1] > 1 else np.eye(1)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(NUM_DRAWS)


def test_uniform_position_moves_every_coordinate_of_qpos():
    position, velocity = draws(UniformPosition(0.1))
    assert_uniform(position, 0.1)
    assert not velocity.any()


@pytest.mark.parametrize("stop", [None, 3])
def test_uniform_velocity_changes_qvel_before_its_stop(stop):
    position, velocity = draws(UniformVelocity(0.2, stop=stop))
    assert_uniform(velocity[:, :stop], 0.2)
    assert not position.any() and not velocity[:, len(QVEL[:stop]) :].any()


def test_normal_velocity_has_its_standard_deviation():
    position, velocity = draws(NormalVelocity(0.1))
    assert not position.any()
    np.testing.assert_allclose(velocity.mean(axis=0), 0, atol=5 * 0.1 / np.sqrt(NUM_DRAWS))
    np.testing.assert_allclose(velocity.std(axis=0), 0.1, rtol=0.06)
    np.testing.assert_allclose((np.abs(velocity) < 0.1).mean(axis=0), 0.683, atol=0.04)
    assert_independent(velocity)


def test_the_target_lies_uniformly_in_its_disk():
    position, velocity = draws(TargetInDisk(index=2, radius=0.2))
    target = position[:, 2:4] + QPOS[2:4]  # a position, whatever stood there
    radius, angle = np.hypot(*target.T), np.arctan2(*target.T)
    assert 0.19 < radius.max() <= 0.2 + 1e-6
    np.testing.assert_allclose((radius < 0.1).mean(), 0.25, atol=0.04)  # a quarter of the area
    np.testing.assert_allclose(np.histogram(angle, 4, (-np.pi, np.pi))[0] / NUM_DRAWS, 0.25, atol=0.04)
    assert not np.delete(position, [2, 3], axis=1).any() and not velocity.any()


def test_the_object_lies_in_its_box_away_from_the_goal_which_is_at_zero():
    low, high, distance = np.array([-0.3, -0.2]), np.array([0.0, 0.2]), 0.17
    position, velocity = draws(ObjectAwayFromGoal(5, tuple(low), tuple(high), distance))
    place, goal = position[:, 5:7] + QPOS[5:7], position[:, 7:9] + QPOS[7:9]
    assert (place >= low - 1e-6).all() and (place < high + 1e-6).all()
    assert np.linalg.norm(place, axis=1).min() > distance
    assert not goal.any()
    assert not np.delete(position, range(5, 9), axis=1).any() and not velocity.any()
    in_box = np.random.default_rng(0).uniform(low, high, (100_000, 2))
    expected = in_box[np.linalg.norm(in_box, axis=1) > distance]
    np.testing.assert_allclose(place.mean(axis=0), expected.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(place.std(axis=0), expected.std(axis=0), atol=0.01)


@pytest.mark.parametrize(
    "term",
    [
        UniformPosition(0.1),
        UniformVelocity(0.1),
        NormalVelocity(0.1),
        TargetInDisk(2, 0.2),
        ObjectAwayFromGoal(5, (-0.3, -0.2), (0.0, 0.2), 0.17),
    ],
    ids=lambda term: type(term).__name__,
)
def test_the_same_key_draws_the_same_and_another_key_another(term):
    def draw(seed):
        return jnp.concatenate(term(QPOS, QVEL, context(key=jax.random.key(seed))))

    assert (draw(1) == draw(1)).all()
    assert (draw(1) != draw(2)).any()
    assert draw(1).dtype == QPOS.dtype
