"""The `ksim` command. Each subcommand loads what it needs when it is called, so that `ksim --help` answers at once.

Exit status: 0 when all is well, 1 when `check` finds faults, 2 for a wrong argument or any other `KsimError`, 128 plus
the signal's number when a signal stopped training or nobody reads the output any more.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Generator, Iterable, Sequence
from typing import Annotated, Literal

import tyro
from rich.markup import escape
from rich.table import Table

import ksim_envs
from agents import learning_commands
from agents.console import PipeConsole, print_plain
from agents.errors import TrainingStopped
from ksim_envs import bench as benchmark
from ksim_envs.errors import ConformanceError, KsimError

TaskId = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")]


def main(args: Sequence[str] | None = None) -> int:
    """Runs the `ksim` command.

    Args:
        args: the words after `ksim`; those of the process when None.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if args is None else args)
    if "" not in sys.path:
        sys.path.append("")  # module:ID finds modules where the command is run
    with _until_nobody_reads():
        try:
            commands = {**_COMMANDS, "train": learning_commands.train_command(words)}
            return tyro.extras.subcommand_cli_from_dict(commands, prog="ksim", description=_DESCRIPTION, args=words)
        except TrainingStopped as stop:
            with contextlib.suppress(OSError):  # it may be the terminal that is gone
                print_plain(f"ksim: {stop}")
            return 128 + stop.received
        except KsimError as error:
            print_plain(f"ksim: {error}", stderr=True)
            return 2


@contextlib.contextmanager
def _until_nobody_reads() -> Generator[None]:
    """End without a traceback when the output goes to a closed pipe, as in `ksim list | head -1`, or lost terminal."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError:
        if not _is_broken(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it exits
        sys.exit(128 + signal.SIGPIPE)


def _is_broken(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def list_tasks() -> int:
    """List the environments, with the sizes of their observation and action and their episode length."""
    rows: list[tuple[str, ...]] = []
    for task_id in ksim_envs.task_ids():
        with contextlib.closing(ksim_envs.make(task_id, num_envs=1)) as env:
            sizes = env.single_observation_space.shape, env.single_action_space.shape
            rows.append((task_id, *(_size(shape) for shape in sizes), str(env.episode_length)))
    _print_table(("id", "observation", "action", "episode length [steps]"), rows)
    return 0


def bench(
    ids: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ID ...]")] = (),
    /,
    *,
    config: tyro.conf.OmitArgPrefixes[benchmark.BenchConfig],
) -> int:
    """Measure environment steps per second against the bare engine, Gymnasium and EnvPool, all in one run.

    Args:
        ids: the environments; all of them when none is given.
        config: how to measure.
    """
    print_plain("\n".join(f"{name}: {value}" for name, value in benchmark.method().items()))
    for rows in benchmark.run(ids, config):
        print_plain("\n" + benchmark.table(rows))
        ours = rows[0]
        cold = benchmark.cold_start(ours.id, ours.num_envs, backend=ours.backend, dynamics=ours.dynamics)
        times = ", ".join(f"{name} {value:.1f} s" for name, value in cold.items())
        print_plain(f"cold start, in a new process: {times}")
    return 0


def check(
    task_id: TaskId,
    /,
    backend: Literal["auto", "native", "mjx"] = "auto",
    num_envs: int = 8,
    num_steps: int = 1_100,
) -> int:
    """Print a task as a table, say what is odd about it, and check its environment against Gymnasium's contract.

    Args:
        task_id: the environment, such as ksim/Humanoid-v0.
        backend: the physics engine of the check against the contract; the table is of native.
        num_envs: environments in the batch.
        num_steps: the most steps to take in each mode in search of episode ends.
    """
    report = ksim_envs.check_task(task_id)
    print_plain(f"{task_id}: {report.summary}")
    _print_table(("role", "name", "shape", "range under random actions", "term"), report.rows())
    for kind, findings in (("fault", report.faults), ("note", report.notes)):
        for finding in findings:
            print_plain(f"{kind}: {finding}")
    num_faulty = len(report.faults)
    for mode in ("NextStep", "SameStep", "Disabled"):
        env = ksim_envs.make(task_id, num_envs=num_envs, backend=backend, autoreset_mode=mode)
        with contextlib.closing(env):
            try:
                ksim_envs.check_vector_env(env, num_steps=num_steps)
            except ConformanceError as faults:
                num_faulty += 1
                print_plain(f"{task_id} on {env.backend}, {mode}: {faults}")
            else:
                print_plain(f"{task_id} on {env.backend}, {mode}: no fault found")
    return 1 if num_faulty else 0


def doctor() -> int:
    """Report versions, devices, rendering, flags and cache, with the remedy for what is wrong."""
    from ksim_envs.doctor import KNOWN_TROUBLES, diagnose

    findings = diagnose()
    _print_table(("topic", "found"), ((finding.topic, finding.value) for finding in findings))
    for finding in (*findings, *KNOWN_TROUBLES):
        if finding.remedy:
            print_plain(f"\n{finding.topic}: {finding.value}\n  -> {finding.remedy}")
    return 0


def cache(action: Annotated[Literal["show", "clear"], tyro.conf.Positional] = "show") -> int:
    """Show the folder and size of the compilation cache, or clear it.

    Args:
        action: `clear` deletes the compiled programs; they are compiled again when next needed.
    """
    from ksim_envs import program_cache

    folder = program_cache.location()
    if folder is None:
        print_plain(f"The compilation cache is off; {program_cache.VARIABLE} can name a folder for it.")
        return 0
    num_files, num_bytes = program_cache.size()
    if action == "clear":
        program_cache.clear()
    print_plain(f"{folder}: {'deleted ' if action == 'clear' else ''}{num_files} files, {num_bytes / 1e6:.1f} MB")
    return 0


def _size(shape: tuple[int, ...] | None) -> str:
    return " x ".join(str(length) for length in shape or ())


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    PipeConsole().print(table)


_DESCRIPTION = "Vectorized robot environments on MuJoCo physics."
_COMMANDS = {
    "list": list_tasks,
    "eval": learning_commands.evaluate,
    "video": learning_commands.video,
    "play": learning_commands.play,
    "bench": bench,
    "check": check,
    "doctor": doctor,
    "cache": cache,
}
