"""TorchRL's own `GymWrapper` around a plain batch: no adapter is needed."""

import warnings

import numpy as np
import pytest

from tests.adapters.conftest import LENGTH, NUM_ENVS, make

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torchrl")
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl.envs import GymEnv, GymWrapper
    from torchrl.envs.utils import check_env_specs
    from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize(
    ("output", "on_device"),
    [("numpy", {}), ("torch", {}), ("torch", {"device": "cpu", "convert_actions_to_numpy": False})],
)
@pytest.mark.parametrize("mode", ["same_step", "disabled"])
def test_the_specs_hold(mode, output, on_device):
    env = GymWrapper(make(autoreset_mode=mode, output=output), **on_device)
    assert env.batch_size == (NUM_ENVS,)
    check_env_specs(env)


def test_torchrls_constructor_by_id_makes_a_single_env():
    env = GymEnv("ksim/Hopper-v0", episode_length=5)
    check_env_specs(env)
    assert env.rollout(9).shape == (5,)


@pytest.mark.parametrize("length", [LENGTH, 3])  # in 3 steps nobody falls, so all episodes end together
def test_a_rollout_holds_what_the_vector_env_returns_and_the_true_last_observations(length):
    keywords = {"autoreset_mode": "same_step", "episode_length": length}
    env, twin = GymWrapper(make(**keywords)), make(**keywords)
    env.set_seed(0)
    rollout = env.rollout(100, break_when_any_done=False)
    twin.reset(seed=0)
    obs, _ = twin.reset()  # set_seed was a reset too
    np.testing.assert_array_equal(rollout["observation"][:, 0], obs)
    num_ended = 0
    for step in rollout.unbind(1):
        np.testing.assert_array_equal(step["observation"], obs)
        obs, reward, terminated, truncated, info = twin.step(step["action"].numpy())
        ended = terminated | truncated
        num_ended += ended.sum()
        last = np.where(ended[:, None], info["final_obs"], obs) if ended.any() else obs
        np.testing.assert_array_equal(step["next", "observation"], last)
        np.testing.assert_array_equal(step["next", "reward"].squeeze(-1), reward)
        np.testing.assert_array_equal(step["next", "terminated"].squeeze(-1), terminated)
        np.testing.assert_array_equal(step["next", "truncated"].squeeze(-1), truncated)
        if ended.all():
            obs, _ = twin.reset()  # TorchRL then asks for one more
    assert num_ended > NUM_ENVS


@pytest.mark.parametrize("length", [LENGTH, 3])
def test_a_rollout_without_autoreset_holds_the_true_observations_and_resets_what_ended(length):
    keywords = {"autoreset_mode": "disabled", "episode_length": length}
    env, twin = GymWrapper(make(**keywords)), make(**keywords)
    env.set_seed(0)
    rollout = env.rollout(100, break_when_any_done=False)
    twin.reset(seed=0)
    obs, _ = twin.reset()
    num_ended = 0
    for step in rollout.unbind(1):
        np.testing.assert_array_equal(step["observation"], obs)
        obs, reward, terminated, truncated, _ = twin.step(step["action"].numpy())
        np.testing.assert_array_equal(step["next", "observation"], obs)
        np.testing.assert_array_equal(step["next", "reward"].squeeze(-1), reward)
        np.testing.assert_array_equal(step["next", "terminated"].squeeze(-1), terminated)
        np.testing.assert_array_equal(step["next", "truncated"].squeeze(-1), truncated)
        ended = terminated | truncated
        num_ended += ended.sum()
        if ended.any():
            obs, _ = twin.reset(options={"reset_mask": ended})
    assert num_ended > NUM_ENVS


def test_torchrls_ppo_trains_through_terminations_and_truncations():
    torch.manual_seed(0)
    env = GymWrapper(make(autoreset_mode="same_step", output="torch"))
    env.set_seed(0)
    mean = TensorDictModule(
        torch.nn.Sequential(torch.nn.LazyLinear(6), NormalParamExtractor()), ["observation"], ["loc", "scale"]
    )
    actor = ProbabilisticActor(
        mean,
        spec=env.action_spec_unbatched,
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    critic = ValueOperator(torch.nn.LazyLinear(1), in_keys=["observation"])
    for module in (actor, critic):
        module(env.reset())
    loss, gae = ClipPPOLoss(actor, critic), GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    before = [parameter.detach().clone() for parameter in loss.parameters()]
    num_ended = {"terminated": 0, "truncated": 0}
    for _ in range(2):
        with torch.no_grad():
            rollout = gae(env.rollout(60, actor, break_when_any_done=False))
        for name in num_ended:
            num_ended[name] += int(rollout["next", name].sum())
        losses = loss(rollout.reshape(-1))
        total = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        assert torch.isfinite(total)
    assert all(num_ended.values())
    assert all((old != new).any() for old, new in zip(before, loss.parameters(), strict=True))
