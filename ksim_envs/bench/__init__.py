"""How fast it is: every contestant replays the same physics in the same run, in turn, so that ratios mean something.

Who takes part, and what they do, is in `contestants`. JAX and MuJoCo are loaded when something is measured.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ksim_envs import runtime, versions
from ksim_envs.registration import get_task, make, task_ids

if TYPE_CHECKING:
    from ksim_envs.bench.contestants import Contestant
    from ksim_envs.bench.replay import Replay
    from ksim_envs.core import Core
    from ksim_envs.types import EnvState


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """How to measure; also the options of `ksim bench`."""

    backend: Literal["auto", "native", "mjx"] = "auto"
    """The physics engine."""
    dynamics: Literal["fast", "gymnasium"] = "fast"
    """The integrator and solver."""
    num_envs: tuple[int, ...] = (2048,)
    """Batch sizes, at least 1, each measured in turn."""
    num_steps: int = 50
    """Control steps in one round, at least 1."""
    num_rounds: int = 5
    """Rounds of each contestant, at least 1; the median counts."""
    opponents: bool = True
    """Whether to run Gymnasium's vector envs and EnvPool too, where they are installed."""
    csv: Path | None = None
    """A file to append the rows to."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant's result."""

    id: str
    backend: str
    """The vector env's; Gymnasium and EnvPool run on C MuJoCo."""
    dynamics: str
    """The vector env's; Gymnasium's and EnvPool's are those of the model file."""
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


def run(ids: Sequence[str], config: BenchConfig) -> Iterator[list[Row]]:
    """Measure.

    Args:
        ids: of tasks; all of them when empty.
        config: how.

    Yields:
        The rows of one task and batch size, as soon as they are known; the csv file grows with them.

    Raises:
        KsimError: a name does not exist or a number is not allowed; before anything is measured.
    """
    ids = ids or task_ids()
    _check(ids, config)
    for id in ids:
        for num_envs in config.num_envs:
            rows = _measure(id, num_envs, config)
            if config.csv:
                _append(config.csv, rows)
            yield rows


def bare_engine(core: Core, state: EnvState, actions: Iterable[Any]) -> Replay:
    """The physics of some control steps with nothing around it: what any loop over these envs can at best come near to.

    Args:
        core: the envs.
        state: where they are; it is left as it is.
        actions: (E, A) for each step.

    Returns:
        What brings the engine to the start, and what does the steps from what that returned. Time the latter.
    """
    from ksim_envs.bench.replay import record, replay

    return replay(core, record(core, state, actions))


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
    import jax

    packages = ("ksim-envs", "mujoco", "mujoco-mjx", "jax", "jaxlib", "gymnasium", "numpy", "envpool")
    return {
        "processor": _processor(),
        "cores": str(runtime.usable_processors()),
        "devices": ", ".join(device.device_kind for device in jax.devices()),
        "python": platform.python_version(),
        **{name: versions.installed(name) for name in packages},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "dynamics": "ours as chosen; Gymnasium's and EnvPool's are the model file's (mostly RK4, often PGS)",
        "method": "contestants in turn, one round each; the median round; "
        "the bare engine replays the vector env's physics",
    }


def cold_start(id: str, num_envs: int = 2048, *, backend: str = "auto", dynamics: str = "fast") -> dict[str, float]:
    """Seconds in a new process: the import, then `make`, `reset` and the first step.

    Args:
        id: a registered id.
        num_envs: number of envs.
        backend: `"auto"`, `"native"` or `"mjx"`.
        dynamics: `"fast"` or `"gymnasium"`.

    Returns:
        `"import"`, and all of it, in s.
    """
    program = (
        "import time; t = time.perf_counter(); import ksim_envs; done = time.perf_counter() - t\n"
        f"env = ksim_envs.make({id!r}, {num_envs}, backend={backend!r}, dynamics={dynamics!r}); env.reset(seed=0)\n"
        "env.step(env.action_space.sample()); print(done, time.perf_counter() - t)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported, stepped = map(float, result.stdout.split())
    return {"import": imported, "import, make, reset and first step": stepped}


def _check(ids: Sequence[str], config: BenchConfig) -> None:
    from ksim_envs.physics import check_dynamics, choose_backend
    from ksim_envs.validate import MAX_NUM_ENVS, positive_integer

    for id in ids:
        get_task(id)
    choose_backend(config.backend)
    check_dynamics(config.dynamics)
    for num_envs in config.num_envs:
        positive_integer("num_envs", num_envs, MAX_NUM_ENVS)
    positive_integer("num_steps", config.num_steps)
    positive_integer("num_rounds", config.num_rounds)
    if config.csv:
        config.csv.parent.mkdir(parents=True, exist_ok=True)


def _measure(id: str, num_envs: int, config: BenchConfig) -> list[Row]:
    """Run the contestants in turn, so that a machine whose speed drifts is fair to all."""
    from ksim_envs.bench.contestants import opponents, ours

    env = make(id, num_envs, backend=config.backend, dynamics=config.dynamics, autoreset_mode="SAME_STEP")
    with ExitStack() as stack:
        stack.enter_context(closing(env))
        contestants = list(ours(env, config.num_steps))
        for opponent in opponents(id, config.num_steps) if config.opponents else ():
            contestants.append(stack.enter_context(closing(opponent)))
        first = [_timed(contestant) for contestant in contestants]
        seconds = np.array([[_timed(contestant) for contestant in contestants] for _ in range(config.num_rounds)])
    rates = np.array([one.num_envs * one.num_steps for one in contestants]) / seconds
    return [
        Row(
            id=id,
            backend=env.backend,
            dynamics=config.dynamics,
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
