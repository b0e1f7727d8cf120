"""What a configuration accepts, and what it says about what it does not."""

import dataclasses
import json

import pytest

from agents.ppo import PPOConfig, preset
from agents.ppo.presets import PRESETS
from ksim_envs import task_ids
from ksim_envs.errors import InvalidConfigError, UnknownNameError


def test_the_rollout_length_follows_from_the_dataset():
    config = PPOConfig(num_envs=2048, num_env_states_per_minibatch=8192, num_minibatches=5)
    assert config.dataset_size == 40_960
    assert config.rollout_length == 20


@pytest.mark.parametrize(
    ("envs", "size", "count", "sizes", "counts"),
    [
        (100, 2048, 20, "2045 or 2050", "25"),  # 25 * 2048 is a multiple of 100, 20 * 2048 is not
        (3, 4, 5, "3 or 6", "3 or 6"),
        (64, 8, 2, "32", "8"),
    ],
)
def test_a_rollout_length_that_is_not_whole_names_the_nearest_that_are(envs, size, count, sizes, counts):
    def of(size, count):
        return PPOConfig(num_envs=envs, num_env_states_per_minibatch=size, num_minibatches=count)

    with pytest.raises(InvalidConfigError, match="rollout length must be whole") as refused:
        of(size, count)
    assert f"num_env_states_per_minibatch = {sizes}, or num_minibatches = {counts}." in str(refused.value)
    assert all(of(int(fitting), count).rollout_length >= 1 for fitting in sizes.split(" or "))
    assert all(of(size, int(fitting)).rollout_length >= 1 for fitting in counts.split(" or "))


def test_a_memory_needs_minibatches_of_whole_sequences():
    settings = {"num_envs": 6, "num_env_states_per_minibatch": 9, "num_minibatches": 4}  # 6 steps of 6 envs
    assert PPOConfig(**settings).rollout_length == 6
    with pytest.raises(InvalidConfigError, match="whole sequences"):
        PPOConfig(**settings, memory="gru")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_envs", 0),
        ("num_envs", 1.5),
        ("num_envs", True),
        ("num_epochs", -1),
        ("total_env_steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("gamma", 1.1),
        ("gae_lambda", -0.1),
        ("clip_ratio", 0.0),
        ("clip_value", -1.0),
        ("entropy_coef", -1e-3),
        ("initial_std", 0.0),
        ("max_grad_norm", 0.0),
        ("seed", -1),
        ("hidden_sizes", (0,)),
        ("num_seeds", 0),
        ("num_threads", 0),
        ("seed", 0.5),
        ("learning_rate", float("inf")),
        ("learning_rate", None),
        ("clip_ratio", "a"),
        ("squash", "Tanh"),
        ("activation", "gelu"),
        ("memory", "GRU"),
        ("backend", "x"),
        ("privileged", "x_position"),
        ("total_env_steps", 40_960),  # one iteration, which only measures
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises((InvalidConfigError, UnknownNameError), match=name):
        PPOConfig(**{name: value})


def test_settings_survive_json():
    config = PPOConfig(hidden_sizes=[64, 32], privileged=["x_position"], desired_kl=0.01)
    assert PPOConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(UnknownNameError, match="learning_rate"):
        PPOConfig.from_dict({"learnin_rate": 1.0})


@pytest.mark.parametrize("task_id", task_ids())
def test_every_task_has_a_preset_that_is_valid(task_id):
    assert preset(task_id).rollout_length >= 1


def test_presets_are_of_tasks_that_exist():
    assert PRESETS.keys() <= set(task_ids())


def test_every_setting_has_a_docstring():
    """They are the help of the command line."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(PPOConfig)).body[0]
    documented = [
        node.target.id
        for node, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    ]
    assert documented == [field.name for field in dataclasses.fields(PPOConfig)]
