"""`adapters.skrl` against the real skrl, in both frameworks, and skrl's own wrapper around a plain batch."""

import jax
import numpy as np
import pytest

from ksim_envs.errors import UnknownNameError
from tests.adapters.conftest import NUM_ENVS, actions, first_fall, make, rollout

pytest.importorskip("skrl")
import skrl.envs.wrappers.jax
import skrl.envs.wrappers.torch
import torch

from ksim_envs.adapters.skrl import wrap_env

ARRAYS = {"torch": (torch.from_numpy, torch.Tensor), "jax": (jax.numpy.asarray, jax.Array)}
SKRLS_OWN = {"torch": skrl.envs.wrappers.torch.wrap_env, "jax": skrl.envs.wrappers.jax.wrap_env}


@pytest.mark.parametrize("framework", ARRAYS)
def test_steps_equal_those_of_the_vector_env_in_the_frameworks_own_arrays(envs, framework):
    to_framework, kind = ARRAYS[framework]
    env = wrap_env(envs, framework, seed=3, privileged=("x_velocity",))
    assert (env.num_envs, env.observation_space.shape, env.action_space.shape) == (NUM_ENVS, (11,), (3,))
    assert env.state_space.shape == (12,)
    obs, _ = env.reset()
    expected = rollout(3, 100)
    np.testing.assert_array_equal(obs, expected[0][0])
    for action, (obs, reward, terminated, truncated, info) in zip(actions(100), expected[1:], strict=True):
        got = env.step(to_framework(action))
        assert all(isinstance(leaf, kind) for leaf in got[:4])
        np.testing.assert_array_equal(got[0], obs)
        for leaf, wanted in zip(got[1:4], (reward, terminated, truncated & ~terminated), strict=True):
            np.testing.assert_array_equal(leaf, wanted[:, None])
        np.testing.assert_array_equal(env.state(), np.concatenate([obs, info["x_velocity"][:, None]], axis=1))
    np.testing.assert_array_equal(env.reset()[0], expected[-1][0])  # shows where they are


@pytest.mark.parametrize("framework", ARRAYS)
def test_a_row_whose_physics_diverges_is_a_truncation_and_no_termination_and_goes_on(envs, framework):
    env = wrap_env(envs, framework, seed=0)
    env.reset()
    mask, still = np.arange(NUM_ENVS) == 2, ARRAYS[framework][0](np.zeros((NUM_ENVS, 3), np.float32))
    envs.reset(options={"reset_mask": mask, "qvel": np.full(6, 1e9)})
    obs, reward, terminated, truncated, info = env.step(still)
    for leaf, wanted in ((truncated, mask), (info["diverged"], mask), (terminated, np.zeros(NUM_ENVS, bool))):
        np.testing.assert_array_equal(np.ravel(leaf), wanted)
    assert reward[2, 0] == 0 and np.isfinite(np.asarray(obs)).all()
    _, _, terminated, truncated, _ = env.step(still)
    assert not terminated.any() and not truncated.any()


@pytest.mark.parametrize("framework", ARRAYS)
def test_a_fall_in_the_step_of_the_time_limit_is_no_truncation(framework):
    length, row = first_fall(3)
    env = wrap_env(make(episode_length=length), framework, seed=3)
    env.reset()
    for action in actions(length):
        _, _, terminated, truncated, _ = env.step(ARRAYS[framework][0](action))
    assert (terminated | truncated).all() and terminated[row] and not truncated[row] and truncated.any()


def test_no_result_is_copied_on_its_way(envs, exported):
    env = wrap_env(envs, "torch")
    env.reset()
    obs, reward, *_ = env.step(torch.zeros(NUM_ENVS, 3))
    assert {obs.data_ptr(), reward.data_ptr()} <= exported


@pytest.mark.parametrize("framework", ARRAYS)
def test_skrls_own_wrapper_recognises_a_plain_batch(framework):
    batch, twin = make(autoreset_mode="same_step"), make(autoreset_mode="same_step")
    env = SKRLS_OWN[framework](batch)
    np.testing.assert_array_equal(env.reset()[0], twin.reset(seed=batch.np_random_seed)[0])
    for action in actions(40):
        got, (obs, reward, terminated, truncated, _) = env.step(ARRAYS[framework][0](action)), twin.step(action)
        np.testing.assert_array_equal(got[0], obs)
        for leaf, wanted in zip(got[1:4], (reward, terminated, truncated), strict=True):
            np.testing.assert_array_equal(leaf, wanted[:, None])


def test_skrls_own_wrapper_renders_through_call(monkeypatch):
    batch = make(render_mode="rgb_array", num_rendered_envs=NUM_ENVS)
    frames = tuple(np.full((4, 4, 3), i, np.uint8) for i in range(NUM_ENVS))
    monkeypatch.setattr(batch, "render", lambda: frames)
    env = SKRLS_OWN["torch"](batch)
    env.reset()
    np.testing.assert_array_equal(env.render(), frames)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("framework", ARRAYS)
def test_skrl_trains_through_terminations_and_truncations(envs, framework, tmp_path, monkeypatch):
    torch.manual_seed(0)
    envs.episode_length = 20  # so that some come to it before they fall
    env = wrap_env(envs, framework, seed=0)
    nets, trainer = training(framework, env, tmp_path)
    step, num_ended, before = env.step, np.zeros(2, int), {}

    def watched(actions):
        if num_ended.any():  # torch's weights are there when they have been used
            before.setdefault("all", parameters(nets))
        result = step(actions)
        num_ended[:] += [int(flags.sum()) for flags in result[2:4]]
        return result

    monkeypatch.setattr(env, "step", watched)
    trainer.train()
    assert num_ended.all()
    for role, leaves in parameters(nets).items():
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert all((one != other).any() for one, other in zip(before["all"][role], leaves, strict=True)), role


def parameters(models):
    """Copies of the weights by role."""

    def leaves(model):
        if isinstance(model, torch.nn.Module):
            return [leaf.detach().numpy() for leaf in model.parameters()]
        return jax.tree.leaves(model.state_dict.params)

    return {role: [np.array(leaf) for leaf in leaves(model)] for role, model in models.items()}


def training(framework, env, folder):
    """Five updates of skrl's PPO with its instantiated models, not yet begun."""
    from importlib import import_module

    models = import_module(f"skrl.utils.model_instantiators.{framework}")
    ppo = import_module(f"skrl.agents.{framework}.ppo")
    memory = import_module(f"skrl.memories.{framework}").RandomMemory(
        memory_size=24, num_envs=NUM_ENVS, device=env.device
    )
    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [16], "activations": "elu"}]
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
    nets = {
        "policy": models.gaussian_model(**spaces, network=network, output="ACTIONS", initial_log_std=-0.5),
        "value": models.deterministic_model(**spaces, network=network, output="ONE"),
    }
    for role, net in nets.items() if framework == "jax" else ():
        net.init_state_dict(role=role)
    config = ppo.PPO_CFG(
        rollouts=24, learning_epochs=2, mini_batches=2, experiment={"directory": str(folder), "write_interval": 0}
    )
    agent = ppo.PPO(models=nets, memory=memory, cfg=config, **spaces)
    return nets, import_module(f"skrl.trainers.{framework}").SequentialTrainer(
        cfg={"timesteps": 5 * 24, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
        env=env,
        agents=agent,
    )


def test_an_unknown_framework_or_metric_is_refused(envs):
    with pytest.raises(UnknownNameError, match="Known: jax, torch|Known: torch, jax"):
        wrap_env(envs, "tensorflow")
    with pytest.raises(UnknownNameError, match="x_velocit"):
        wrap_env(envs, privileged=("x_velocit",))
