"""Running moments against NumPy's."""

import jax
import numpy as np

from ksim_envs.moments import CLIP, Moments


def test_moments_of_batches_equal_those_of_all_valid_rows():
    rng = np.random.default_rng(0)
    batches = [(rng.normal(3.0, 5.0, size=(n, 4)).astype(np.float32), rng.random(n) < 0.7) for n in (10, 1, 200, 33)]
    moments = Moments.empty(4)
    for obs, valid in batches:
        moments = moments.updated(obs, valid)
    seen = np.concatenate([obs[valid] for obs, valid in batches]).astype(np.float64)
    assert moments.count == len(seen)
    np.testing.assert_allclose(moments.mean_L, seen.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(moments.var_L, seen.var(axis=0), rtol=1e-5)


def test_what_an_ignored_row_holds_changes_no_bit():
    obs = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    valid = np.arange(20) % 3 != 0
    poisoned = np.where(valid[:, None], obs, np.nan).astype(np.float32)
    clean = np.where(valid[:, None], obs, 0.0).astype(np.float32)
    jax.tree.map(
        np.testing.assert_array_equal,
        Moments.empty(3).updated(poisoned, valid),
        Moments.empty(3).updated(clean, valid),
    )


def test_no_valid_row_changes_nothing():
    moments = Moments.empty(2).updated(np.ones((4, 2), np.float32), np.ones(4, bool))
    again = moments.updated(np.full((4, 2), np.nan, np.float32), np.zeros(4, bool))
    jax.tree.map(np.testing.assert_array_equal, moments, again)


def test_moments_stay_exact_far_from_zero():
    obs = (1e4 + np.random.default_rng(2).normal(size=(1000, 1))).astype(np.float32)
    moments = Moments.empty(1)
    for batch in obs.reshape(10, 100, 1):
        moments = moments.updated(batch, np.ones(100, bool))
    np.testing.assert_allclose(moments.var_L, obs.astype(np.float64).var(axis=0), rtol=1e-2)


def test_normalized_observations_have_unit_scale_and_are_clipped():
    obs = np.random.default_rng(3).normal(2.0, 3.0, size=(1000, 2)).astype(np.float32)
    moments = Moments.empty(2).updated(obs, np.ones(1000, bool))
    normalized = np.asarray(moments.normalized(obs))
    np.testing.assert_allclose(normalized.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(normalized.std(axis=0), 1.0, rtol=1e-4)
    assert np.all(np.asarray(moments.normalized(np.full(2, 1e9, np.float32))) == CLIP)


def test_merged_moments_are_those_of_all_in_any_order():
    rng = np.random.default_rng(4)
    obs = rng.normal(2.0, 3.0, size=(3, 50, 2)).astype(np.float32)
    valid = rng.random((3, 50)) < 0.6
    parts = [Moments.of(*one) for one in zip(obs, valid, strict=True)]
    for order in ((0, 1, 2), (2, 0, 1)):
        first, second, third = (parts[i] for i in order)
        merged = first.merged(second.merged(third)).merged(Moments.empty(2))
        assert merged.count == valid.sum()
        np.testing.assert_allclose(merged.mean, obs[valid].mean(axis=0, dtype=np.float64), rtol=1e-5)
        np.testing.assert_allclose(merged.var, obs[valid].var(axis=0, dtype=np.float64), rtol=1e-5)


def test_a_weight_stands_for_observations_of_mean_0_and_variance_1():
    ones = np.ones((8, 1), np.float32)
    moments = Moments.empty(1, weight=2.0).updated(ones, np.ones(8, bool))
    assert moments.count == 10
    np.testing.assert_allclose(moments.mean, [0.8])
    np.testing.assert_allclose(moments.var, [(2 * (1 + 0.8**2) + 8 * 0.2**2) / 10], rtol=1e-6)
