"""`FunctionalEnv` by itself: its promises to brax and Playground, whose own code is in `test_brax.py`."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import ksim_envs
from ksim_envs.adapters.functional import FunctionalEnv
from ksim_envs.errors import RenderError, UnknownNameError
from ksim_envs.tasks.observations import Field
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny

pytestmark = pytest.mark.optimized

NUM_ENVS, STEPS = 8, 100
TASK = replace(
    tiny.HOPPER_LIKE,
    metrics={**tiny.HOPPER_LIKE.metrics, "velocities": Field("qvel"), "angle": Field("qpos", start=2, stop=3)},
    privileged={"height": Field("qpos", start=1, stop=2)},
)


@pytest.fixture(scope="module")
def env():
    return FunctionalEnv(TASK, backend="native")


@pytest.fixture(scope="module")
def reset(env):
    """Of a batch, compiled."""
    return jax.jit(jax.vmap(env.reset))


@pytest.fixture(scope="module")
def first_states(env):
    """Of two envs, each by itself."""
    alone = jax.jit(env.reset)
    return [alone(key) for key in keys()[:2]]


@pytest.fixture(scope="module")
def step(env):
    """Of a batch, compiled."""
    return jax.jit(jax.vmap(env.step))


def keys():
    return jax.random.split(jax.random.PRNGKey(0), NUM_ENVS)


def actions(steps=STEPS):
    return jax.random.uniform(jax.random.key(1), (steps, NUM_ENVS, 2), minval=-1, maxval=1)


def rollout(env, state, actions):
    """The states of mapped envs under these actions, with the steps as the first axis."""

    def step(state, action):
        state = jax.vmap(env.step)(state, action)
        return state, state

    return jax.lax.scan(step, state, actions)[1]


# The numbers


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_mapped_steps_are_those_of_the_vector_env_until_the_episodes_end(backend):
    env = FunctionalEnv(TASK, backend=backend)
    twin = KsimVectorEnv(TASK, NUM_ENVS, backend=backend, autoreset_mode="next_step", episode_length=10_000)
    first = jax.jit(jax.vmap(env.reset))(twin.core.keys(3))
    states = jax.jit(partial(rollout, env))(first, actions())
    obs, info = twin.reset(seed=3)
    np.testing.assert_array_equal(first.obs, obs)
    np.testing.assert_array_equal(first.metrics["x_position"], info["x_position"])
    going = np.ones(NUM_ENVS, bool)
    for t, action in enumerate(actions()):
        obs, reward, terminated, truncated, info = twin.step(action)
        np.testing.assert_array_equal(states.obs[t][going], obs[going])
        np.testing.assert_array_equal(states.reward[t], np.where(going, reward, 0))
        np.testing.assert_array_equal(states.done[t], terminated | ~going)
        for name in ("x_position", "alive", "forward", "cost"):
            np.testing.assert_array_equal(states.metrics[name][t][going], info[name][going])
        np.testing.assert_array_equal(states.metrics["angle"][t][going], info["angle"][going, 0])
        np.testing.assert_array_equal(states.info["velocities"][t][going], info["velocities"][going])
        going &= ~terminated
    assert not going.any() and (states.done.sum(axis=0) > 1).all()
    np.testing.assert_array_equal(states.obs[-1], states.obs[-2])  # after its end an episode stands still


def test_an_env_alone_does_what_it_does_in_a_batch(env, reset):
    state, first = jax.jit(env.reset)(keys()[3]), reset(keys())
    states = jax.jit(partial(rollout, env))(first, actions(20))
    step = jax.jit(env.step)
    for t, action in enumerate(actions(20)):
        state = step(state, action[3])
        np.testing.assert_array_equal(state.obs, states.obs[t, 3])
        np.testing.assert_array_equal(state.reward, states.reward[t, 3])
        np.testing.assert_array_equal(state.done, states.done[t, 3])


def test_typed_keys_and_maps_of_maps_and_unmapped_arguments_give_the_same(env, reset, step):
    raw, typed = reset(keys()), reset(jax.random.wrap_key_data(keys()))
    np.testing.assert_array_equal(raw.obs, typed.obs)
    twice = jax.jit(jax.vmap(jax.vmap(env.reset)))(keys().reshape(2, NUM_ENVS // 2, -1))
    np.testing.assert_array_equal(twice.obs.reshape(raw.obs.shape), raw.obs)
    action = jnp.array([0.5, -0.5])
    shared = jax.jit(jax.vmap(env.step, in_axes=(0, None)))(raw, action)
    np.testing.assert_array_equal(shared.obs, step(raw, jnp.tile(action, (NUM_ENVS, 1))).obs)


def test_actions_from_minus_one_to_one_span_the_actuators_range():
    env = FunctionalEnv("ksim/InvertedPendulum-v0", backend="native")  # control is within +-3
    core = ksim_envs.make_functional("ksim/InvertedPendulum-v0", 1, backend="native")
    state, begun = env.reset(jax.random.key(0)), core.reset(jax.random.key(0)[None])
    step, core_step = jax.jit(env.step), jax.jit(core.step)
    for action, control in ((1.0, 3.0), (-0.5, -1.5), (7.0, 3.0)):
        _, result = core_step(begun, jnp.full((1, 1), control))
        np.testing.assert_array_equal(step(state, jnp.array([action])).obs, result.obs_EL[0])


def test_a_diverged_env_is_done_and_touches_no_other(reset, step):
    state = reset(keys())
    action = actions(1)[0]
    expected, found = (step(state, a) for a in (action, action.at[2].set(jnp.nan)))
    assert found.info["diverged"].tolist() == found.done.tolist() == [i == 2 for i in range(NUM_ENVS)]
    assert found.reward[2] == 0 and np.isfinite(found.obs).all()
    others = np.arange(NUM_ENVS) != 2
    np.testing.assert_array_equal(found.obs[others], expected.obs[others])


def test_an_episode_begun_by_putting_the_first_state_back_has_randomness_of_its_own(reset, step):
    first, action = reset(keys()), actions(1)[0]
    state = step(first, action)
    assert (state.data.episode_E == 1).all()
    again = step(state.replace(data=first.data, obs=first.obs), action)
    assert (again.data.episode_E == 2).all()
    assert (step(again, action).data.episode_E == 2).all()
    np.testing.assert_array_equal(again.obs, state.obs)  # of a task without noise


# The shape of a state


def test_what_is_foreign_in_a_state_is_kept_through_a_scan(env, reset):
    state = reset(keys())
    foreign = jnp.arange(NUM_ENVS)
    state = state.replace(info={**state.info, "steps": foreign}, metrics={**state.metrics, "reward": 2.0 * foreign})
    last = jax.tree.map(lambda leaf: leaf[-1], jax.jit(partial(rollout, env))(state, actions(5)))
    np.testing.assert_array_equal(last.info["steps"], foreign)
    np.testing.assert_array_equal(last.metrics["reward"], 2.0 * foreign)
    assert jax.tree.structure(last) == jax.tree.structure(state)


def test_the_physics_field_has_both_libraries_names(first_states):
    first, second = first_states
    for name in ("data", "pipeline_state"):
        replaced = first.replace(**{name: second.data, "done": jnp.ones(())})
        assert replaced.data is replaced.pipeline_state is second.data and replaced.done == 1
    assert first.done == 0


def test_metrics_are_single_numbers_and_info_has_the_rest(env, first_states):
    state = jax.jit(env.step)(first_states[0], jnp.zeros(2))
    assert state.metrics.keys() == {"x_position", "angle", "alive", "forward", "cost"}
    assert {(leaf.shape, str(leaf.dtype)) for leaf in state.metrics.values()} == {((), "float32")}
    assert {name: leaf.shape for name, leaf in state.info.items()} == {
        "diverged": (),
        "num_episodes": (),
        "velocities": (3,),
        "privileged": (1,),
    }


def test_privileged_metrics_make_dictionaries_of_observations():
    env = FunctionalEnv(TASK, backend="native", privileged=("privileged", "velocities"))
    assert env.observation_size == {"state": (5,), "privileged_state": (9,)}
    state = jax.jit(jax.vmap(lambda key, action: env.step(env.reset(key), action)))(keys(), actions(1)[0])
    hidden = [state.obs["state"], state.info["privileged"], state.info["velocities"]]
    np.testing.assert_array_equal(state.obs["privileged_state"], np.concatenate(hidden, axis=1))
    with pytest.raises(UnknownNameError, match="velocitie'.*Did you mean 'velocities'"):
        FunctionalEnv(TASK, backend="native", privileged=("velocitie",))


def test_sizes_and_periods_and_models_are_the_tasks(env):
    assert (env.observation_size, env.action_size, env.backend) == (5, 2, "native")
    assert (env.dt, env.sim_dt, env.n_substeps) == (pytest.approx(0.03), pytest.approx(0.01), 3)
    assert env.unwrapped is env and env.xml_path == TASK.model
    assert env.mj_model.nu == env.mjx_model.nu == 2


def test_frames_of_states_and_of_their_physics(env, first_states):
    try:
        frames = env.render(first_states, 48, 64)
    except RenderError as error:
        pytest.skip(str(error).splitlines()[0])
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    np.testing.assert_array_equal(env.render(first_states[0].pipeline_state, 48, 64), frames[0])
    assert (frames[0] != frames[1]).any()
    option, seen = mujoco.MjvOption(), []
    option.geomgroup[:] = 0
    assert (env.render(first_states[0], 48, 64, None, option) != frames[0]).any()
    env.render(first_states, 48, 64, modify_scene_fns=[lambda scene: seen.append(scene.ngeom)] * 2)
    assert len(seen) == 2 and min(seen) > 0
    with pytest.raises(UnknownNameError, match="no camera 'side'"):
        env.render(first_states, 48, 64, "side")


def test_a_frame_that_fails_closes_the_renderer(env, first_states, monkeypatch):
    from ksim_envs.render import offscreen

    class Renderer:
        def __init__(self, *_, **__):
            self.is_open = True
            made.append(self)

        def frame(self, qpos, modify_scene):
            modify_scene(None)

        def close(self):
            self.is_open = False

    def broken(scene):
        raise RuntimeError("no paint")

    made: list[Renderer] = []
    monkeypatch.setattr(offscreen, "OffscreenRenderer", Renderer)
    with pytest.raises(RuntimeError, match="no paint"):
        env.render(first_states[0], modify_scene_fns=[broken])
    assert [renderer.is_open for renderer in made] == [False]
