"""`jax.grad` goes through steps on mjx, as far as MJX's solver lets it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ksim_envs import make_functional
from ksim_envs.types import Autoreset
from tests import tiny

ONE_ITERATION = tiny.BALL_ON_STICK.replace('timestep="0.01"', 'timestep="0.01" iterations="1"')
TASK = replace(tiny.HOPPER_LIKE, model=ONE_ITERATION, terminations={})
NUM_ENVS, NUM_STEPS = 2, 3


def paid(backend):
    """What envs pay for actions (steps, envs, 2), all in all."""
    core = make_functional(TASK, NUM_ENVS, backend=backend)
    state = core.reset(core.keys(0))

    def step(state, action_EA):
        state, result = core.step(state, action_EA, Autoreset.DISABLED)
        return state, result.reward_E.sum()

    return jax.jit(lambda actions: jax.lax.scan(step, state, actions)[1].sum())


def test_the_gradient_of_a_rollout_on_mjx_is_the_slope_that_c_mujoco_has():
    actions = jnp.full((NUM_STEPS, NUM_ENVS, 2), 0.1)
    gradient = jax.jit(jax.grad(paid("mjx")))(actions)
    value, difference = paid("native"), 0.2
    for step in range(NUM_STEPS):
        for action in range(2):
            place = step, 0, action
            high, low = (value(actions.at[place].add(sign * difference)) for sign in (1, -1))
            np.testing.assert_allclose(gradient[place], (high - low) / (2 * difference), rtol=0.05, atol=5e-6)
    assert (np.abs(gradient[:, 0]) > 1e-4).all()
