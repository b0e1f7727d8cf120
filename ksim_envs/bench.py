"""How fast it is: every contestant replays the same physics in the same run, in turn, so that ratios mean something.

A run of the vector env is recorded first: its actions, which rows were reset after which step, and to what state. The
bare engine then gets exactly these controls and resets, so it integrates the same trajectories, contacts included, with
no observation and no reward. Gymnasium and EnvPool cannot replay; they run their own episodes under random actions.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ksim_envs.core import Autoreset, Core
from ksim_envs.physics import check_dynamics, choose_backend
from ksim_envs.physics.model import quiet_mujoco
from ksim_envs.registration import get_task, task_ids
from ksim_envs.types import EnvState
from ksim_envs.validate import MAX_NUM_ENVS, positive_integer
from ksim_envs.vector_env import KsimVectorEnv

OPPONENT_STEPS = 10
"""How many times as many control steps an opponent does in a round."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What to measure."""

    ids: tuple[str, ...] = ()
    """Ids of tasks; all of them when empty."""
    backend: str = "auto"
    """`auto`, `native` or `mjx`."""
    dynamics: str = "fast"
    """`fast` or `gymnasium`."""
    num_envs: tuple[int, ...] = (2048,)
    """Batch sizes, each measured in turn."""
    num_steps: int = 50
    """Control steps in one round."""
    num_rounds: int = 5
    """Rounds of each contestant; the median counts."""
    opponents: bool = True
    """Whether to run Gymnasium's vector envs and EnvPool too, where they are installed."""
    csv: Path | None = None
    """A file to append the rows to."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant's result."""

    id: str
    contestant: str
    num_envs: int
    steps_per_second: float
    """Env steps per second, the median of the rounds."""
    spread: float
    """Fastest round divided by slowest."""
    ratio: float
    """The vector env's rate divided by this contestant's, the median of the rounds' ratios."""
    first_round: float
    """s, the first round less the median one: compilation. The vector env is compiled before: see `cold_start`."""


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


def run(config: BenchConfig) -> Iterator[list[Row]]:
    """Measure.

    Args:
        config: what to measure.

    Yields:
        The rows of one task and batch size, as soon as they are known; the csv file grows with them.

    Raises:
        KsimError: a name does not exist or a number is not allowed; before anything is measured.
    """
    tasks = [(id, get_task(id)) for id in config.ids or task_ids()]
    backend = choose_backend(config.backend)
    for name in ("num_steps", "num_rounds"):
        positive_integer(name, getattr(config, name))
    check_dynamics(config.dynamics)
    for num_envs in config.num_envs:
        positive_integer("num_envs", num_envs, MAX_NUM_ENVS)
    for id, task in tasks:
        for num_envs in config.num_envs:
            env = KsimVectorEnv(
                task, num_envs, backend=backend, dynamics=config.dynamics, autoreset_mode=Autoreset.SAME_STEP.name
            )
            contestants = [*_ours(env, config.num_steps), *(_opponents(id, config) if config.opponents else ())]
            rows = _measure(id, contestants, config.num_rounds)
            for contestant in contestants:
                contestant.close()
            env.close()
            if config.csv:
                _append(config.csv, rows)
            yield rows


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    lines = [("task", "contestant", "envs", "env steps/s", "spread", "vector env / it", "compile")]
    for row in rows:
        numbers = (f"{row.num_envs}", f"{row.steps_per_second:,.0f}", f"{row.spread:.2f}", f"{row.ratio:.2f}")
        lines.append((row.id, row.contestant, *numbers, f"{row.first_round:.1f} s"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def method() -> dict[str, str]:
    """What a reader must know to compare: processor, devices, versions, flags, and how it was measured."""
    packages = ("ksim-envs", "mujoco", "mujoco-mjx", "jax", "jaxlib", "gymnasium", "numpy", "envpool")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "devices": ", ".join(device.device_kind for device in jax.devices()),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "dynamics": "ours as chosen; Gymnasium's and EnvPool's are the model file's (mostly RK4, often PGS)",
        "method": "contestants in turn, one round each; the median round; "
        "the bare engine replays the vector env's physics",
    }


def cold_start(id: str, backend: str = "auto", num_envs: int = 2048) -> dict[str, float]:
    """Seconds in a new process: the import, then `make`, `reset` and the first step.

    Args:
        id: a registered id.
        backend: `"auto"`, `"native"` or `"mjx"`.
        num_envs: number of envs.

    Returns:
        `"import"`, and all of it, in s.
    """
    program = (
        "import time; t = time.perf_counter(); import ksim_envs; done = time.perf_counter() - t\n"
        f"env = ksim_envs.make({id!r}, {num_envs}, backend={backend!r}); env.reset(seed=0)\n"
        "env.step(env.action_space.sample()); print(done, time.perf_counter() - t)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported, stepped = map(float, result.stdout.split())
    return {"import": imported, "import, make, reset and first step": stepped}


@dataclass(frozen=True)
class _Recording:
    """A run of the vector env: per step the actions, and the rows reset after it with the states they were reset to."""

    start: tuple[np.ndarray, np.ndarray]
    actions: list[np.ndarray]
    ended: list[np.ndarray]
    states: list[tuple[np.ndarray, np.ndarray]]


def _ours(env: KsimVectorEnv, num_steps: int) -> Iterator[Contestant]:
    recording = _record(env, num_steps)
    core = env._core  # pyright: ignore[reportPrivateUsage]
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


def _opponents(id: str, config: BenchConfig) -> Iterator[Contestant]:
    """Gymnasium's and EnvPool's v5 task of the same name, each in a size that suits it."""
    name = id.removeprefix("ksim/").replace("-v0", "-v5")
    if name not in gym.registry or not util.find_spec("imageio"):  # which Gymnasium's MuJoCo envs import
        return
    with quiet_mujoco(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated attributes in its model files
        yield _opponent("gymnasium sync", gym.make_vec(name, num_envs=8, vectorization_mode="sync"), 8, config)
        yield _opponent("gymnasium async", _async(name), 8, config)
    if util.find_spec("envpool"):
        import envpool

        envs = envpool.make_gymnasium(name, num_envs=64, num_threads=os.cpu_count())
        yield _opponent("envpool", envs, 64, config)


def _async(name: str) -> Any:
    """Worker processes that do not fork this one, which has threads."""
    return gym.make_vec(name, num_envs=8, vectorization_mode="async", vector_kwargs={"context": "forkserver"})


def _opponent(name: str, envs: Any, num_envs: int, config: BenchConfig) -> Contestant:
    """Random actions, drawn beforehand; more steps than our large batches take, as there are fewer envs."""
    num_steps, space = OPPONENT_STEPS * config.num_steps, envs.single_action_space
    actions = np.random.default_rng(0).uniform(space.low, space.high, (num_steps, num_envs, *space.shape))
    actions = actions.astype(np.float32)
    envs.reset()

    def loop(_: Any) -> None:
        for action in actions:
            envs.step(action)

    return Contestant(
        name=name, num_envs=num_envs, num_steps=num_steps, prepare=lambda: None, run=loop, close=envs.close
    )


def _measure(id: str, contestants: Sequence[Contestant], num_rounds: int) -> list[Row]:
    """Run the contestants in turn, so that a machine whose speed drifts is fair to all."""
    first = [_timed(contestant) for contestant in contestants]
    seconds = np.array([[_timed(contestant) for contestant in contestants] for _ in range(num_rounds)])
    rates = np.array([one.num_envs * one.num_steps for one in contestants]) / seconds
    return [
        Row(
            id=id,
            contestant=contestant.name,
            num_envs=contestant.num_envs,
            steps_per_second=float(np.median(rates[:, i])),
            spread=float(rates[:, i].max() / rates[:, i].min()),
            ratio=float(np.median(rates[:, 0] / rates[:, i])),
            first_round=max(0.0, first[i] - float(np.median(seconds[:, i]))),
        )
        for i, contestant in enumerate(contestants)
    ]


def _timed(contestant: Contestant) -> float:
    """Seconds of one round."""
    prepared = contestant.prepare()
    start = time.perf_counter()
    contestant.run(prepared)
    return time.perf_counter() - start


def _append(path: Path, rows: Sequence[Row]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if is_new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
