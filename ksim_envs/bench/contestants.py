"""What is measured: the vector env, the functional core and the bare engine on the same physics; Gymnasium; EnvPool.

A run of the vector env is recorded first: its actions, which rows were reset after which step, and to what state. The
bare engine then gets exactly these controls and resets, so it integrates the same trajectories, contacts included, with
no observation and no reward. Gymnasium and EnvPool cannot replay; they run their own episodes under random actions.
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
import numpy as np
from jax import Array

from ksim_envs import runtime
from ksim_envs.core import Core
from ksim_envs.physics.model import quiet_mujoco
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
    recording = _record(env, num_steps)
    core = env.core
    contestant = partial(Contestant, num_envs=env.num_envs, num_steps=num_steps)

    def vector_env(_: Any) -> None:
        for action in recording.actions:
            env.step(action)

    action_TEA = jnp.asarray(np.stack(recording.actions))
    reset, scan = jax.jit(core.reset), jax.jit(partial(_scan, core))
    bare = {"native": _bare_native, "mjx": _bare_mjx}[env.backend]
    prepare, run = bare(core, core.backend, recording)
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
    name = id.removeprefix("ksim/").replace("-v0", "-v5")
    if name not in gym.registry or not util.find_spec("imageio"):  # which Gymnasium's MuJoCo envs import
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
    return gym.make_vec(name, 8, vectorization_mode="async", vector_kwargs={"context": "forkserver"})


def _opponent(name: str, envs: Any, num_envs: int, num_steps: int) -> Contestant:
    """Random actions, drawn beforehand."""
    space = envs.single_action_space
    actions = np.random.default_rng(0).uniform(space.low, space.high, (num_steps, num_envs, *space.shape))
    actions = actions.astype(np.float32)

    def loop(_: Any) -> None:
        for action in actions:
            envs.step(action)

    return Contestant(name=name, num_envs=num_envs, num_steps=num_steps, prepare=envs.reset, run=loop, close=envs.close)


@dataclass(frozen=True)
class _Recording:
    """A run of the vector env: per step the actions, and the rows reset after it with the states they were reset to."""

    start: tuple[np.ndarray, np.ndarray]
    actions: list[np.ndarray]
    ended: list[np.ndarray]
    states: list[tuple[np.ndarray, np.ndarray]]


def _record(env: KsimVectorEnv, num_steps: int) -> _Recording:
    env.action_space.seed(0)
    env.reset(seed=0)
    recording = _Recording(_state(env), [], [], [])
    for _ in range(num_steps):
        recording.actions.append(env.action_space.sample())
        _, _, terminated, truncated, _ = env.step(recording.actions[-1])
        ended = np.flatnonzero(terminated | truncated)
        qpos, qvel = _state(env)
        recording.ended.append(ended)
        recording.states.append((qpos[ended], qvel[ended]))
    return recording


def _state(env: KsimVectorEnv) -> tuple[np.ndarray, np.ndarray]:
    state = env.physics_state()
    return state["qpos"], state["qvel"]


def _scan(core: Core, state: EnvState, action_TEA: Array) -> Array:
    def step(state: Any, action_EA: Array) -> tuple[Any, Array]:
        state, result = core.step(state, action_EA)
        return state, result.reward_E.sum()

    return jax.lax.scan(step, state, action_TEA)[1].sum()


def _bare_native(core: Core, backend: Any, recording: _Recording) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    from mujoco.batch import Batch

    batch = Batch(backend.model, core.num_envs, backend.num_threads)

    def reset(ids: np.ndarray | None, qpos: np.ndarray, qvel: np.ndarray) -> None:
        batch.reset(ids, stage=0)
        batch.qpos[slice(None) if ids is None else ids] = qpos
        batch.qvel[slice(None) if ids is None else ids] = qvel
        batch.forward(ids)

    def bare(_: Any) -> None:
        for action, ended, state in zip(recording.actions, recording.ended, recording.states, strict=True):
            batch.ctrl[:] = action
            batch.step(nstep=core.task.frame_skip)
            if len(ended):
                reset(ended, *state)

    return lambda: reset(None, *recording.start), bare


def _bare_mjx(core: Core, backend: Any, recording: _Recording) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    from mujoco import mjx

    from ksim_envs.physics.mjx_contacts import contacts_as_in_c

    model, data = backend.mjx_model, backend.mjx_data

    @jax.jit
    def step(data_E: Any, action_EA: Array, ended_E: Array, qpos_EL: Array, qvel_EL: Array) -> Any:
        def one(data: Any, action: Array) -> Any:
            data = data.replace(ctrl=action)
            return jax.lax.scan(lambda d, _: (mjx.step(model, d), None), data, length=core.task.frame_skip)[0]

        with contacts_as_in_c():
            data_E = jax.vmap(one)(data_E, action_EA)
        return data_E.replace(
            qpos=jnp.where(ended_E[:, None], qpos_EL, data_E.qpos),
            qvel=jnp.where(ended_E[:, None], qvel_EL, data_E.qvel),
        )

    first = jax.vmap(lambda qpos, qvel: data.replace(qpos=qpos, qvel=qvel))(*map(jnp.asarray, recording.start))
    inputs = [_dense(core, *step) for step in zip(recording.actions, recording.ended, recording.states, strict=True)]

    def bare(data_E: Any) -> None:
        for action, ended, qpos, qvel in inputs:
            data_E = step(data_E, action, ended, qpos, qvel)
        jax.block_until_ready(data_E.qpos)

    return lambda: first, bare


def _dense(
    core: Core, action: np.ndarray, ended: np.ndarray, state: tuple[np.ndarray, np.ndarray]
) -> tuple[Array, ...]:
    """One recorded step as arrays for all rows."""
    mask = np.zeros(core.num_envs, bool)
    mask[ended] = True
    full = [np.zeros((core.num_envs, values.shape[1]), np.float32) for values in state]
    for array, values in zip(full, state, strict=True):
        array[ended] = values
    return tuple(map(jnp.asarray, (action, mask, *full)))
