"""What the randomizer terms draw, and that the physics feels it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ksim_envs
from ksim_envs.tasks.randomizers import ContactSoftness
from tests import tiny
from tests.ksim_envs.tasks.by_hand import context

NUM_DRAWS = 4000
NOMINAL = jnp.array([[0.02, 1.0], [0.05, 0.5], [-1000.0, -10.0]], jnp.float32)


def scaled(spread, key):
    return ContactSoftness(spread)({"geom_solref": NOMINAL}, context(key=key))["geom_solref"]


def test_contact_softness_scales_both_parameters_of_all_geoms_within_its_bounds():
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    values = jax.vmap(lambda key: scaled(0.25, key))(keys)
    factors = np.asarray(values, np.float64) / NOMINAL
    np.testing.assert_allclose(factors, np.tile(factors[:, :1], (1, 3, 1)), rtol=1e-6)
    logs = np.log(factors[:, 0]) / np.log(1.25)
    assert np.abs(logs).max() <= 1 + 1e-5 and (np.abs(logs).max(axis=0) > 0.99).all()
    np.testing.assert_allclose(logs.mean(axis=0), 0, atol=5 / np.sqrt(3 * NUM_DRAWS))
    np.testing.assert_allclose(logs.std(axis=0), 1 / np.sqrt(3), rtol=0.06)
    assert abs(np.corrcoef(logs.T)[0, 1]) < 5 / np.sqrt(NUM_DRAWS)


def test_no_spread_changes_nothing():
    np.testing.assert_array_equal(scaled(0.0, jax.random.key(0)), NOMINAL)


@pytest.mark.parametrize("backend", ["native", "mjx"])
@pytest.mark.parametrize(("spread", "num_motions"), [(0.0, 1), (0.5, 4)])
def test_with_contact_softness_the_same_start_moves_on_differently_in_every_env(backend, spread, num_motions):
    task = replace(tiny.HOPPER_LIKE, resets={}, randomizers={"contacts": ContactSoftness(spread)})
    core = ksim_envs.make_functional(task, 4, backend=backend)
    state, step = core.reset(core.keys(0)), jax.jit(core.step)
    for _ in range(5):
        state, _ = step(state, jnp.ones((4, core.num_actions)))
    assert len(np.unique(np.asarray(state.obs_EL), axis=0)) == num_motions
