"""Stable-Baselines3 and SBX: the batch as a `VecEnv`.

    import gymnasium as gym
    from stable_baselines3 import PPO
    from ksim_envs.adapters.sb3 import KsimVecEnv

    env = KsimVecEnv(gym.make("ksim_envs:ksim/Hopper-v0", num_envs=64, stagger_first_episodes=True))
    PPO("MlpPolicy", env, n_steps=32, batch_size=512).learn(100_000)

In a script that has `make_vec_env` it is one word: `make_vec_env("ksim/Hopper-v0", 64, vec_env_cls=KsimVecEnv)`. What
`gym.make` takes for a batch only goes into its `vec_env_kwargs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from jax import Array

from ksim_envs.adapters import check_prepared, prepared
from ksim_envs.dlpack import Exporter
from ksim_envs.errors import InvalidConfigError, InvalidOptionError, MissingDependencyError, check_name
from ksim_envs.single_env import KsimEnv
from ksim_envs.vector_env import KsimVectorEnv

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise MissingDependencyError(
        'ksim_envs.adapters.sb3 needs Stable-Baselines3: pip install "ksim-envs[sb3]".'
    ) from error

MAX_ENDED = 64
"""Rows whose last observation comes from an accelerator with the rest of a step. Should more end, all are fetched."""


class KsimVecEnv(VecEnv):
    """A batch of envs for SB3: everything that a step brings to the host comes in one transfer.

    Episodes are monitored here (`info["episode"]`), so `VecMonitor` is not needed.

    Attributes:
        env: the batch.
    """

    def __init__(
        self,
        env: KsimVectorEnv | Sequence[Callable[[], gym.Env[Any, Any]]],
        *,
        info_keys: Sequence[str] = (),
        **keywords: Any,
    ) -> None:
        """Wrap a batch.

        Args:
            env: the batch, whose auto-reset mode and output this sets; or, as `make_vec_env` has them, one function for
                each env: then the first one's env says what to make a batch of.
            info_keys: names in the batch's `info` (metrics, commands, reward terms, `diverged`) to put into the infos
                of episodes that end; SB3's `EvalCallback` looks for one called `is_success`.
            **keywords: of `gym.make`, for the batch that is made.

        Raises:
            InvalidConfigError: it is no batch of ours, or the functions do not make plain envs of ours, or there are
                keywords for a batch that is made already.
            UnknownNameError: there is no such name in `info`, or no such keyword.
        """
        if isinstance(env, Sequence) and env:
            env = _batch_like(env, keywords)
        elif keywords:
            raise InvalidConfigError(
                f"the batch is made already; pass {', '.join(keywords)} to the gym.make that made it."
            )
        if isinstance(env, KsimVectorEnv):
            known = jax.eval_shape(env.core.info, env.core.shapes)
            for name in info_keys:
                check_name("entry in the batch's info", name, known)
        self.env = prepared(env, "jax")
        self._info_keys = tuple(info_keys)
        self._to_numpy = Exporter("numpy", self.env.core.backend.device)
        self._is_remote = self.env.device != "cpu"
        self._first_ended = jax.jit(partial(_first_ended, min(MAX_ENDED, self.env.num_envs)))
        self._started = time.monotonic()
        self._results: Any = None
        super().__init__(self.env.num_envs, self.env.single_observation_space, self.env.single_action_space)
        self.metadata = dict(self.env.metadata)  # a video's frames per second are there

    def reset(self) -> np.ndarray:
        """Begin a new episode in every env, with the seeds and options of `seed` and `set_options`."""
        seeds = list(self._seeds) if any(seed is not None for seed in self._seeds) else None
        obs, info = self._to_numpy(self.env.reset(seed=seeds, options=_of_batch(self._options)))
        self.reset_infos = [{name: leaf[row] for name, leaf in info.items()} for row in range(self.num_envs)]
        self._results = None
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Begin a step; on an accelerator this does not wait for it."""
        check_prepared(self.env, "jax")
        obs, reward, terminated, truncated, info = self.env.step(actions)
        shown = {"episode_return", "episode_length", *self._info_keys}
        final = {name: info["final_info"][name] for name in shown} | {"obs": info["final_obs"]}
        begun = {name: info[name] for name in self._info_keys}
        ended = self._first_ended(info["_final_obs"], (final, begun)) if self._is_remote else None
        self._results = (obs, reward, terminated, truncated, ended), (final, begun)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """The step's results: obs (num_envs, num_obs), reward and done (num_envs,), and an info for each env.

        The info of an env is empty unless its episode ended: then it holds `terminal_observation`,
        `TimeLimit.truncated`, `episode` (return `r`, length `l`, seconds `t`), and the `info_keys`. In `reset_infos` an
        env that has begun anew by itself has the `info_keys` alone.
        """
        step, of_all = self._results
        self._results = None
        obs, reward, terminated, truncated, ended = self._to_numpy(step)
        done = terminated | truncated
        rows = np.flatnonzero(done)
        if ended is None or len(rows) > MAX_ENDED:
            ended = jax.tree.map(lambda leaf: leaf[rows], self._to_numpy(of_all))
        final, begun = ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        elapsed = round(time.monotonic() - self._started, 6)
        for place, row in enumerate(rows):
            last = {name: leaf[place].copy() for name, leaf in final.items()}
            self.reset_infos[row] = {name: leaf[place].copy() for name, leaf in begun.items()}
            infos[row] = {name: last[name] for name in self._info_keys} | {
                "terminal_observation": last["obs"],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "episode": {"r": float(last["episode_return"]), "l": int(last["episode_length"]), "t": elapsed},
            }
        return obs, reward, done, infos

    def close(self) -> None:
        """Close the batch."""
        self.env.close()

    def get_images(self) -> list[np.ndarray | None]:
        """Frames of the first envs (`num_rendered_envs` of the batch)."""
        return list(self.env.render() or ())

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each env, as the batch has it; a single env's space under the name that it has there."""
        name = f"single_{attr_name}" if attr_name in ("observation_space", "action_space") else attr_name
        value = getattr(self.env, name)
        values = self.env.get_attr(name) if isinstance(value, np.ndarray) else [value] * self.num_envs
        return [values[index] for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the batch, for all envs at once.

        Raises:
            InvalidConfigError: only some are meant.
        """
        if not self._are_all(indices):
            raise InvalidConfigError(
                f"set_attr({attr_name!r}) is for some envs only; they share one object: leave indices out."
            )
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the batch once, and take its result apart if it has one for each env.

        Raises:
            InvalidConfigError: only some envs are meant, and the method changes all.
        """
        if method_name in ("reset", "step", "close", "set_attr") and not self._are_all(indices):
            raise InvalidConfigError(f"env_method({method_name!r}) is for some envs only; leave indices out.")
        values = self.env.call(method_name, *method_args, **method_kwargs)
        return [values[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """Whether it does what a wrapper does: True for `Monitor`."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def _are_all(self, indices: Any) -> bool:
        return len({*self._get_indices(indices)}) == self.num_envs


def _first_ended(size: int, done_E: Array, ends: Any) -> Any:
    """What the first so many of the rows that ended have ended and begun anew with, in order."""
    rows_R = jnp.nonzero(done_E, size=size, fill_value=0)[0]
    return jax.tree.map(lambda leaf: leaf[rows_R], ends)


def _of_batch(options: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One dictionary of stacked values from one for each env."""
    if not any(options):
        return None
    names = options[0].keys()
    if "reset_mask" in names or any(one.keys() != names for one in options):
        raise InvalidOptionError(
            "set_options: give every env the same options, without reset_mask (SB3 resets all envs)."
        )
    try:
        return {name: np.stack([one[name] for one in options]) for name in names}
    except ValueError as error:
        raise InvalidOptionError(f"set_options: values of the same length for every env, please: {error}.") from error


def _batch_like(factories: Sequence[Callable[[], gym.Env[Any, Any]]], keywords: dict[str, Any]) -> KsimVectorEnv:
    """A batch of as many envs as there are functions, like the one that the first function makes."""
    if not callable(factories[0]):
        raise InvalidConfigError(
            f"KsimVecEnv takes a batch, gym.make(id, num_envs=...), or functions that make envs, not {factories[0]}."
        )
    env = factories[0]()
    try:
        _check_is_plain(env)
        spec, length = env.spec, env.get_wrapper_attr("episode_length")
    finally:
        env.close()
    assert spec is not None
    limit = {} if spec.max_episode_steps is None else {"episode_length": min(length, spec.max_episode_steps)}
    made: Any = gym.make(spec.id, num_envs=len(factories), **{**spec.kwargs, **limit, **keywords})
    return made.unwrapped


def _check_is_plain(env: gym.Env[Any, Any]) -> None:
    """Refuse what a batch cannot do as a single env in its wrappers does it."""
    if not isinstance(env.unwrapped, KsimEnv) or env.spec is None:
        raise InvalidConfigError(
            f"KsimVecEnv batches single envs of gym.make(id) of ksim_envs, without num_envs; this is {env}."
        )
    while isinstance(env, gym.Wrapper):
        if isinstance(env, Monitor) and env.results_writer is not None:
            raise InvalidConfigError("KsimVecEnv writes no monitor files: wrap it in VecMonitor(env, filename).")
        if isinstance(env, Monitor) and env.info_keywords:
            raise InvalidConfigError(
                f"pass info_keys={env.info_keywords} to KsimVecEnv (vec_env_kwargs), not to Monitor."
            )
        if not isinstance(env, Monitor | OrderEnforcing | PassiveEnvChecker | TimeLimit):
            raise InvalidConfigError(
                f"KsimVecEnv cannot apply {type(env).__name__} to its envs; use a wrapper for vector envs around it."
            )
        env = env.env
