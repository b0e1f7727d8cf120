"""`check_vector_env` passes a correct env, and names the clause that a broken one breaks."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from ksim_envs.checker import CLAUSES, check_vector_env
from ksim_envs.errors import ConformanceError, UnknownNameError

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


class Drift(VectorEnv):
    """A correct env: points on a line, with noise. An episode terminates beyond 1, and is truncated after 9 steps."""

    def __init__(self, autoreset_mode: AutoresetMode = NEXT_STEP, num_envs: int = 4) -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": autoreset_mode}
        self.mode = autoreset_mode
        self.single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = Box(-1, 1, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.state = np.zeros((num_envs, 2), np.float32)
        self.elapsed = np.zeros(num_envs, int)
        self.ended = np.zeros(num_envs, bool)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self.check_mask(mask)
        if seed is not None:
            self.generators = [np.random.default_rng([seed, env]) for env in range(self.num_envs)]
        self.begin(mask)
        return self.state.copy(), {"start": np.where(mask, self.state[:, 0], 0), "_start": mask.copy()}

    def check_mask(self, mask) -> None:
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError("bad mask")

    def begin(self, mask) -> None:
        for env in np.flatnonzero(mask):
            self.state[env] = self.generators[env].uniform(-0.5, 0.5, 2)
        self.elapsed[mask] = 0
        self.ended[mask] = False

    def step(self, actions):
        if self.mode is DISABLED and self.ended.any():
            raise RuntimeError("reset the envs that ended")
        dead = self.ended.copy()
        self.begin(dead)
        noise = np.array([0 if dead[env] else self.generators[env].normal() for env in range(self.num_envs)])
        self.state[~dead, 0] += (0.3 * actions[:, 0] + 0.1 * noise)[~dead]
        self.elapsed[~dead] += 1
        reward = np.where(dead, 0, 1 - np.abs(self.state[:, 0]))
        terminated, truncated = ~dead & (np.abs(self.state[:, 0]) > 1), ~dead & (self.elapsed >= 9)
        self.ended = terminated | truncated
        info = {"position": self.state[:, 0].copy(), "terms": {"alive": reward.copy()}}
        if self.mode is SAME_STEP and self.ended.any():
            info |= {"final_obs": self.state.copy(), "_final_obs": self.ended.copy()}
            info |= {"final_info": {"length": self.elapsed.copy()}, "_final_info": self.ended.copy()}
            self.begin(self.ended.copy())
        return self.state.copy(), reward, terminated, truncated, info


class SharesStarts(Drift):
    """A correct env whose episodes begin where one generator says that all envs share."""

    starts = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.starts = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def begin(self, mask) -> None:
        super().begin(mask)
        self.state[mask] = self.starts.uniform(-0.5, 0.5, (mask.sum(), 2))


class DictDrift(Drift):
    """Observations are dictionaries, and `final_obs` is a dictionary of dense arrays."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.single_observation_space = gym.spaces.Dict({"state": self.single_observation_space})
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        return {"state": obs}, info

    def step(self, actions):
        obs, *rest, info = super().step(actions)
        if "final_obs" in info:
            info["final_obs"] = {"state": info["final_obs"]}
        return {"state": obs}, *rest, info


def converted(asarray: Callable[[Any], Any]) -> type[Drift]:
    """A `Drift` that returns arrays of another library."""

    def convert(tree):
        if isinstance(tree, dict | tuple):
            return {k: convert(v) for k, v in tree.items()} if isinstance(tree, dict) else tuple(map(convert, tree))
        return asarray(tree)

    class Converted(Drift):
        def reset(self, **kwargs):
            return convert(super().reset(**kwargs))

        def step(self, actions):
            return convert(super().step(actions))

    return Converted


class OnGpu:
    """Behaves as a CUDA tensor of torch does when it is asked for a NumPy array."""

    def __init__(self, array) -> None:
        self.array = array

    def __array__(self, *args, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def detach(self):
        return self

    def cpu(self):
        return self.array.copy()


class DlpackOnly:
    """An array of which nothing but the DLPack protocol is known."""

    def __init__(self, array) -> None:
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


def broken_clauses(env: VectorEnv, **kwargs) -> list[str]:
    with pytest.raises(ConformanceError) as caught:
        check_vector_env(env, **kwargs)
    return re.findall(r"^  \d+\. ([^:]+): ", str(caught.value), re.MULTILINE)


def sync(name: str, mode: AutoresetMode = NEXT_STEP, **kwargs) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gym.make(name)] * 3, autoreset_mode=mode, **kwargs)


# Envs with one fault each.


class ReusesObservation(Drift):
    def step(self, actions):
        _, *rest = super().step(actions)
        return self.state, *rest


class AlternatesBuffers(Drift):
    buffers = np.zeros((2, 4))

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        self.buffers = self.buffers[::-1]
        self.buffers[0] = reward
        return obs, self.buffers[0], *rest


class ReusesInfo(Drift):
    kept: dict = {}

    def step(self, actions):
        *rest, info = super().step(actions)
        self.kept.update(info)
        return *rest, self.kept


class SharesConstant(Drift):
    never = np.zeros(4, bool)

    def step(self, actions):
        *rest, info = super().step(actions)
        return *rest, info | {"never": self.never}


class StateIsReturned(Drift):
    """The observation is new on every call, but it is the very state from which the next step starts."""

    def step(self, actions):
        self.state = self.state.copy()
        _, *rest = super().step(actions)
        return self.state, *rest


class ChangesAction(Drift):
    def step(self, actions):
        actions *= 0.5
        return super().step(actions)


class DelaysAction(Drift):
    """Applies each action one step later, and keeps the caller's array until then."""

    pending = np.zeros((4, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        if not options:
            self.pending = np.zeros((4, 1), np.float32)
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        delayed, self.pending = self.pending, actions
        return super().step(delayed)


class IgnoresSeed(Drift):
    def reset(self, *, seed=None, options=None):
        return super().reset(options=options)


class OneSeed(Drift):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None if seed is None else 7, options=options)


class CloneEnvs(Drift):
    def reset(self, *, seed=None, options=None):
        if seed is not None:
            seeds = np.random.SeedSequence(seed)
            self.generators = [np.random.default_rng(seeds) for _ in range(self.num_envs)]
        return super().reset(options=options)


class RepeatsReset(Drift):
    last_seed = 0

    def reset(self, *, seed=None, options=None):
        self.last_seed = self.last_seed if seed is None else seed
        return super().reset(seed=None if options else self.last_seed, options=options)


class KeepsPendingEnd(Drift):
    """`reset` forgets to cancel the auto-reset that the last step has set off."""

    def reset(self, **kwargs):
        ended = self.ended.copy()
        result = super().reset(**kwargs)
        self.ended = ended
        return result


class NeverResets(Drift):
    def begin(self, mask) -> None:
        state = self.state.copy()
        super().begin(mask)
        if not mask.all():
            self.state[mask] = state[mask]


class RewardsDeadStep(Drift):
    def step(self, actions):
        dead = self.ended.copy()
        obs, reward, *rest = super().step(actions)
        return obs, np.where(dead, 1.0, reward), *rest


class TruncatesDeadStep(Drift):
    def step(self, actions):
        dead = self.ended.copy()
        obs, reward, terminated, truncated, info = super().step(actions)
        return obs, reward, terminated, truncated | dead, info


class ActsOnDeadStep(Drift):
    def step(self, actions):
        dead = self.ended.copy()
        _, *rest = super().step(actions)
        self.state[dead, 0] += actions[dead, 0]
        return self.state.copy(), *rest


class FinalIsReset(Drift):
    def step(self, actions):
        *rest, info = super().step(actions)
        if "final_obs" in info:
            info["final_obs"] = self.state.copy()
        return *rest, info


class ResetsByItself(Drift):
    """Declares DISABLED, and starts a new episode when the caller did not ask for one."""

    def step(self, actions):
        if self.ended.any():
            self.begin(self.ended.copy())
        return super().step(actions)


class ResetsAll(Drift):
    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed, options=options)
        if options:
            self.begin(np.ones(4, bool))
        return self.state.copy(), info


class ResetsNone(Drift):
    def reset(self, *, seed=None, options=None):
        return (self.state.copy(), {}) if options else super().reset(seed=seed)


class SharesGenerator(Drift):
    """Draws what a partial reset needs from the generators of the envs that go on."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        if options:
            for generator in self.generators:
                generator.normal()
        return result


class MasksAllInfos(Drift):
    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed, options=options)
        return obs, info | {"_start": np.ones(4, bool)}


class PopsMask(Drift):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        if options:
            options.pop("reset_mask")
        return result


class ClearsMask(Drift):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        if options:
            options["reset_mask"][:] = False
        return result


class RefusesMask(Drift):
    def check_mask(self, mask) -> None:
        super().check_mask(mask)
        if not mask.all():
            raise NotImplementedError("no partial resets")


class AcceptsAnyMask(Drift):
    def reset(self, *, seed=None, options=None):
        mask = np.resize((options or {}).get("reset_mask", True), 4).astype(bool)
        return super().reset(seed=seed, options={"reset_mask": mask if mask.any() else ~mask})


class AssertsMask(Drift):
    def check_mask(self, mask) -> None:
        assert mask.dtype == bool and mask.shape == (4,) and mask.any()


class ClosesOnce(Drift):
    def close(self, **kwargs) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        super().close()


class NeverClosed(Drift):
    def close(self, **kwargs) -> None:
        pass


class FailsLater(Drift):
    def step(self, actions):
        if self.elapsed.max() > 3:
            raise ZeroDivisionError("too late")
        return super().step(actions)


def attributes(**values) -> type[Drift]:
    """A `Drift` with other attributes."""

    class Changed(Drift):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            vars(self).update(values)

    return Changed


def steps(change: Callable[..., tuple]) -> type[Drift]:
    """A `Drift` whose `step` returns something else."""

    class Changed(Drift):
        def step(self, actions):
            return change(*super().step(actions))

    return Changed


def infos(change: Callable[[dict[str, Any]], dict[str, Any]]) -> type[Drift]:
    return steps(lambda *values: (*values[:-1], values[-1] | change(values[-1])))


def without(*keys: str) -> type[Drift]:
    return steps(lambda *values: (*values[:-1], {k: v for k, v in values[-1].items() if k not in keys}))


def resets(change: Callable[..., tuple]) -> type[Drift]:
    class Changed(Drift):
        def reset(self, **kwargs):
            return change(*super().reset(**kwargs))

    return Changed


def row_0(array, value):
    return np.concatenate([np.full_like(array[:1], value), array[1:]])


BROKEN = {
    "num_envs": [attributes(num_envs=4.0), attributes(num_envs=0)],
    "batched spaces": [
        attributes(observation_space=Box(-1, 1, (4, 2), np.float32)),
        attributes(action_space=Box(-1, 1, (4, 1), np.float64)),
    ],
    "autoreset_mode": [attributes(metadata={}), attributes(metadata={"autoreset_mode": "NextStep"})],
    "results": [
        FailsLater,
        steps(lambda obs, reward, terminated, truncated, info: (obs, reward, terminated, info)),
        steps(lambda *values: (*values[:-1], [values[-1]])),
        resets(lambda obs, info: obs),
        resets(lambda obs, info: (obs, [info] * 4)),
    ],
    "observation": [
        steps(lambda obs, *rest: (obs.astype(float), *rest)),
        steps(lambda obs, *rest: (obs.T, *rest)),
        steps(lambda obs, *rest: (obs[:3], *rest)),
        resets(lambda obs, info: (list(obs), info)),
        attributes(single_observation_space=Box(-0.6, 0.6, (2,)), observation_space=Box(-0.6, 0.6, (4, 2))),
    ],
    "reward": [
        steps(lambda obs, reward, *rest: (obs, reward.astype(int), *rest)),
        steps(lambda obs, reward, *rest: (obs, reward[:, None], *rest)),
        steps(lambda obs, reward, *rest: (obs, list(reward), *rest)),
    ],
    "flags": [
        steps(lambda obs, reward, terminated, *rest: (obs, reward, terminated.astype(int), *rest)),
        steps(lambda obs, reward, terminated, truncated, info: (obs, reward, terminated, False, info)),
        steps(lambda obs, reward, terminated, truncated, info: (obs, reward, terminated, truncated[:, None], info)),
    ],
    "finite": [
        steps(lambda obs, *rest: (row_0(obs, np.nan), *rest)),
        steps(lambda obs, reward, *rest: (obs, row_0(reward, np.inf), *rest)),
        resets(lambda obs, info: (row_0(obs, -np.inf), info)),
    ],
    "info": [
        infos(lambda info: {"position": info["position"][:3]}),
        infos(lambda info: {"fps": 60}),
        infos(lambda info: {"terms": {"alive": np.float64(0)}}),
        infos(lambda info: {"final_info": [{} for _ in range(4)]}),
        infos(lambda info: {"_position": np.ones(4)}),
        infos(lambda info: {"terms": {"alive": np.ones(4), "_alive": np.ones((4, 1), bool)}}),
        resets(lambda obs, info: (obs, {"names": ["a", "b", "c", "d"]})),
    ],
    "episode key": [infos(lambda info: {"episode": {"r": np.zeros(4)}})],
    "values stay": [ReusesObservation, AlternatesBuffers, ReusesInfo],
    "memory": [ReusesObservation, AlternatesBuffers, SharesConstant],
    "action": [ChangesAction],
    "same seed": [IgnoresSeed, KeepsPendingEnd],
    "different seeds": [OneSeed],
    "different envs": [CloneEnvs],
    "unseeded reset": [RepeatsReset],
    "action buffer": [DelaysAction],
    "returned arrays": [StateIsReturned],
    "first observation": [NeverResets, (FinalIsReset, SAME_STEP), (NeverResets, SAME_STEP), (NeverResets, DISABLED)],
    "final keys": [
        infos(lambda info: {"final_obs": np.zeros((4, 2), np.float32)}),
        (infos(lambda info: {"final_info": {}}), DISABLED),
        (without("final_obs"), SAME_STEP),
        (without("_final_obs"), SAME_STEP),
        (without("final_info", "_final_info"), SAME_STEP),
        (infos(lambda info: {"final_info": [None] * 4} if "final_info" in info else {}), SAME_STEP),
    ],
    "final masks": [
        (infos(lambda info: {"_final_obs": np.ones(4, bool)}), SAME_STEP),
        (infos(lambda info: {"_final_info": np.zeros(4, bool)}), SAME_STEP),
    ],
    "final observation": [
        (infos(lambda info: {"final_obs": np.full((4, 2), np.nan, np.float32)}), SAME_STEP),
        (infos(lambda info: {"final_obs": np.zeros((4, 3), np.float32)}), SAME_STEP),
        (infos(lambda info: {"final_obs": np.full(4, None)}), SAME_STEP),
    ],
    "dead step": [RewardsDeadStep, TruncatesDeadStep],
    "dead action": [ActsOnDeadStep],
    "partial reset": [ResetsAll, ResetsNone, SharesGenerator, MasksAllInfos, RefusesMask],
    "options": [PopsMask, ClearsMask],
    "bad masks": [AcceptsAnyMask, AssertsMask],
    "no autoreset": [(ResetsByItself, DISABLED)],
    "close": [ClosesOnce, NeverClosed],
}
PLANTED = [
    pytest.param(clause, *(fault if isinstance(fault, tuple) else (fault, NEXT_STEP)), id=f"{clause}-{number}")
    for clause, faults in BROKEN.items()
    for number, fault in enumerate(faults)
]


@pytest.mark.parametrize(("clause", "env_class", "mode"), PLANTED)
def test_a_broken_env_is_told_the_clause_that_it_breaks(clause, env_class, mode):
    assert clause in broken_clauses(env_class(mode))


def test_every_clause_has_an_env_that_breaks_it():
    assert list(BROKEN) == [clause.name for clause in CLAUSES]


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("env_class", [Drift, SharesStarts, DictDrift])
def test_a_correct_env_passes_and_is_closed(env_class, mode):
    env = env_class(mode)
    check_vector_env(env)
    assert env.closed


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("library", ["jax.numpy", "torch"])
def test_arrays_of_other_libraries_pass(library, mode):
    asarray = pytest.importorskip(library).asarray
    check_vector_env(converted(lambda leaf: asarray(leaf.astype(np.float32) if leaf.dtype == float else leaf))(mode))


@pytest.mark.parametrize("asarray", [OnGpu, DlpackOnly])
def test_arrays_that_refuse_to_become_numpy_pass(asarray):
    check_vector_env(converted(asarray)(SAME_STEP))


def test_all_faults_are_listed_with_the_contract_and_the_env():
    env = steps(lambda obs, reward, *rest: (obs, row_0(reward, np.inf), *rest[:2], {"fps": 60}))()
    with pytest.raises(ConformanceError, match="breaks 3 of the 30 clauses") as caught:
        check_vector_env(env)
    message = str(caught.value)
    assert "1. finite: step 0: reward of env 0 is not finite; step 1:" in message
    assert "2. info: step 0: info['fps'] is int; step 1:" in message
    assert "Contract: Observations and rewards are finite." in message
    assert "3. dead step: " in message


def test_what_could_not_be_exercised_is_warned_about():
    with pytest.warns(UserWarning, match=r"first observation \(no episode ended; raise num_steps\).*dead step"):
        check_vector_env(Drift(), num_steps=2)
    with pytest.warns(UserWarning, match=r"different envs \(there is one env only\)"):
        check_vector_env(Drift(num_envs=1))
    with warnings.catch_warnings(action="error"):
        check_vector_env(Drift(), num_steps=2, warn=False)


def test_an_env_without_randomness_passes_with_a_warning():
    with pytest.warns(UserWarning, match=r"different seeds \(all envs do the same from every seed\)"):
        check_vector_env(sync("CliffWalking-v1"), num_steps=50, skip=["options"])


def test_skip_leaves_clauses_out():
    check_vector_env(RefusesMask(), skip=["partial reset", "options", "bad masks"])
    check_vector_env(PopsMask(), skip=["options"])
    with pytest.raises(UnknownNameError, match="no clause 'option'. Did you mean 'options'"):
        check_vector_env(Drift(), skip=["option"])


def test_skipping_same_seed_leaves_out_every_comparison_of_two_runs():
    check_vector_env(IgnoresSeed(), skip=["same seed"])


def test_a_single_env_is_refused():
    assert "num_envs" in broken_clauses(gym.make("CartPole-v1"))


def test_statistics_wrapper_may_put_its_episode_key():
    env = RecordEpisodeStatistics(Drift())
    assert broken_clauses(env) == ["options"]  # the wrapper, too, takes the mask out of the options
    assert "results" in broken_clauses(DictInfoToList(Drift()))


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_gymnasium_sync_vector_env_breaks_options_only(name, mode):
    assert broken_clauses(sync(name, mode)) == ["options"]
    check_vector_env(sync(name, mode), skip=["options"])


def test_gymnasium_sync_vector_env_without_copies_reuses_its_buffer():
    assert broken_clauses(sync("CartPole-v1", copy=False)) == ["values stay", "memory", "options"]


def test_gymnasium_async_vector_env_breaks_options_only():
    env = AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)
    assert broken_clauses(env) == ["options"]


def test_gymnasium_vectorized_cart_pole_has_no_partial_resets_and_never_closes():
    assert broken_clauses(gym.make_vec("CartPole-v1", num_envs=3)) == ["partial reset", "bad masks", "close"]
