"""What is measured: the vector env, the functional core and the bare engine on the same physics; Gymnasium; EnvPool.

All of ours get the same random actions from the same start, so they integrate the same trajectories; `replay` says how
the bare engine does. Gymnasium and EnvPool cannot replay; they run their own episodes under random actions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import util
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from ksim_envs import runtime
from ksim_envs.bench import bare_engine
from ksim_envs.core import Core
from ksim_envs.registration import gymnasium_id
from ksim_envs.runtime import quiet_mujoco
from ksim_envs.types import EnvState
from ksim_envs.vector_env import KsimVectorEnv

OPPONENT_STEPS = 10
"""How many times as many control steps an opponent does in a round: it has fewer envs than our large batches."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Something that can be timed, round by round."""

    name: str
    num_envs: int
    num_steps: int
    """Control steps of every env in one round."""
    prepare: Callable[[], Any]
    """Bring it to the round's start; not timed."""
    run: Callable[[Any], None]
    """Do the round, from what `prepare` returned; timed."""
    close: Callable[[], Any] = lambda: None


def ours(env: KsimVectorEnv, num_steps: int) -> Iterator[Contestant]:
    """The vector env, and on the same physics the functional core and the bare engine.

    Args:
        env: in SAME_STEP mode; it stays the caller's to close.
        num_steps: control steps in one round.

    Yields:
        The three, the vector env first.
    """
    core = env.core
    contestant = partial(Contestant, num_envs=env.num_envs, num_steps=num_steps)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(num_steps)]

    def vector_env(_: Any) -> None:
        for action in actions:
            env.step(action)

    action_TEA = jnp.asarray(np.stack(actions))
    reset, scan = jax.jit(core.reset), jax.jit(partial(_scan, core))
    prepare, run = bare_engine(core, reset(core.keys(0)), actions)
    yield contestant(name="vector env", prepare=lambda: env.reset(seed=0), run=vector_env)
    yield contestant(
        name="functional core, jitted scan",
        prepare=lambda: jax.block_until_ready(reset(core.keys(0))),
        run=lambda state: jax.block_until_ready(scan(state, action_TEA)),
    )
    yield contestant(name="bare engine, same physics", prepare=prepare, run=run)


def opponents(id: str, num_steps: int) -> Iterator[Contestant]:
    """Gymnasium's and EnvPool's v5 task of the same name, each in a size that suits it; whoever takes one closes it.

    Args:
        id: of our task.
        num_steps: control steps of our contestants in one round.

    Yields:
        Those that are installed.
    """
    name = gymnasium_id(id)
    if name is None or not util.find_spec("imageio"):  # which Gymnasium's MuJoCo envs import
        return
    num_steps *= OPPONENT_STEPS
    with quiet_mujoco(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated attributes in its model files
        yield _opponent("gymnasium sync", gym.make_vec(name, 8, vectorization_mode="sync"), 8, num_steps)
        yield _opponent("gymnasium async", _async(name), 8, num_steps)
    if util.find_spec("envpool"):
        import envpool

        envs = envpool.make_gymnasium(name, num_envs=64, num_threads=runtime.usable_processors())
        yield _opponent("envpool", envs, 64, num_steps)


def _async(name: str) -> Any:
    """Worker processes that do not fork this one, which has threads."""
    return gym.vector.AsyncVectorEnv([quiet_maker(name)] * 8, context="forkserver")


def quiet_maker(name: str) -> Callable[[], Any]:
    """What makes an env in a process where MuJoCo keeps its warnings to itself."""

    def make() -> Any:  # travels by value: a worker does not import this module, and with it JAX
        mujoco.set_mju_user_warning(lambda text: None)
        return gym.make(name)

    return make


def _opponent(name: str, envs: Any, num_envs: int, num_steps: int) -> Contestant:
    """Random actions, drawn beforehand."""
    space = envs.single_action_space
    actions = np.random.default_rng(0).uniform(space.low, space.high, (num_steps, num_envs, *space.shape))
    actions = actions.astype(np.float32)

    def loop(_: Any) -> None:
        for action in actions:
            envs.step(action)

    return Contestant(name=name, num_envs=num_envs, num_steps=num_steps, prepare=envs.reset, run=loop, close=envs.close)


def _scan(core: Core, state: EnvState, action_TEA: Array) -> Array:
    def step(state: Any, action_EA: Array) -> tuple[Any, Array]:
        state, result = core.step(state, action_EA)
        return state, result.reward_E.sum()

    return jax.lax.scan(step, state, action_TEA)[1].sum()
