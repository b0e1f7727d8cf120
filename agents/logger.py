"""Where the numbers of a run go: metrics.jsonl, which is the record, and copies in TensorBoard and Weights & Biases.

Names that start with `time/` hold wall-clock values. All others are bit for bit the same in a run that is repeated, and
in one that was interrupted and resumed.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue] (generated)
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from agents.errors import RunFolderError
from ksim_envs.errors import MissingDependencyError

FILE_NAME = "metrics.jsonl"
Row: TypeAlias = dict[str, Any]
"""One line of metrics.jsonl: `kind`, `env_steps`, and the values by name; None where one was not finite."""


class Logger:
    """Appends rows to `run_dir/metrics.jsonl`, flushed one by one, and copies them to TensorBoard and W&B.

    A disk that is full, or any other `OSError` while logging, becomes one warning, and so does what W&B raises
    meanwhile; training goes on.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        resume_env_steps: int | None = None,
        tensorboard: bool = True,
        wandb: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Open the log of a run.

        Args:
            run_dir: the folder of the run; made if need be.
            resume_env_steps: the env steps at which the run continues: rows beyond go, and so does a torn last line.
                None for a new run.
            tensorboard: whether to write `run_dir/tensorboard`.
            wandb: the W&B project to send rows to; None for none. W&B keeps what it got before an interruption.
            config: what W&B shows as the run's configuration.

        Raises:
            RunFolderError: a new run in a folder that has a log, or the folder cannot be written to.
            MissingDependencyError: W&B is asked for and not installed.
        """
        is_new = resume_env_steps is None
        self._path = run_dir / FILE_NAME
        if is_new and self._path.exists() and self._path.stat().st_size:
            raise RunFolderError(f"{run_dir} holds the log of a run without checkpoints; choose another folder.")
        library = None if wandb is None else _import_wandb()  # before anything is written
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            if resume_env_steps is not None:
                _drop_rows_beyond(self._path, resume_env_steps)
            self._tensorboard = _TensorBoard(run_dir / "tensorboard", resume_env_steps) if tensorboard else None
        except OSError as error:
            raise RunFolderError(
                f"{run_dir} cannot be written to: {error}. Mend it, or choose another folder."
            ) from error
        self._wandb = library and _start_wandb(library, str(wandb), run_dir, config, is_new)
        self._failed: set[str] = set()  # the logs that were warned of

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    def log(self, kind: str, env_steps: int, values: Mapping[str, float]) -> None:
        """Adds a row.

        Args:
            kind: what the row is about: "train", "eval", ...
            env_steps: env steps taken since the run began.
            values: the numbers by name; W&B and TensorBoard know them as `kind/name`.
        """
        row = {"kind": kind, "env_steps": int(env_steps)} | {name: _json(value) for name, value in values.items()}
        scalars = {f"{kind}/{name}": float(value) for name, value in values.items()}
        self._attempt(lambda: _append(self._path, row))
        board = self._tensorboard
        if board is not None and not self._attempt(lambda: board.log(env_steps, scalars)):
            # TensorBoard reads no further than half a record, so more of them would be of no use.
            self._attempt(board.close)
            self._tensorboard = None
        if (wandb := self._wandb) is not None:
            self._attempt(lambda: wandb.log({**scalars, "env_steps": env_steps}), of="W&B", errors=Exception)

    def sync(self) -> None:
        """Makes the rows survive a power cut, as the checkpoint that is saved next will."""
        self._attempt(lambda: _sync(self._path))

    def close(self, *, failed: bool = False) -> None:
        """Closes the log.

        Args:
            failed: whether W&B is to show the run as failed.
        """
        if self._tensorboard is not None:
            self._attempt(self._tensorboard.close)
        if (wandb := self._wandb) is not None:
            self._attempt(lambda: wandb.finish(exit_code=int(failed)), of="W&B", errors=Exception)
        self._tensorboard = self._wandb = None

    def _attempt(self, write: Callable[[], None], of: str = "", errors: type[Exception] = OSError) -> bool:
        """Whether a write succeeded; the first of each log that does not is warned of."""
        try:
            write()
        except errors as error:
            if of not in self._failed:
                self._failed.add(of)
                message = f"cannot log to {of or self._path.parent}: {error}. Training goes on; "
                message += f"{FILE_NAME} has what is missing there." if of else "rows are lost until it works."
                warnings.warn(message, RuntimeWarning, stacklevel=3)
            return False
        return True


def read(run_dir: Path) -> list[Row]:
    """The rows of a run, also of one that is being written; a torn last line is left out.

    Args:
        run_dir: the folder of the run.

    Returns:
        The rows, in the order in which they were logged.

    Raises:
        RunFolderError: the folder holds no log.
    """
    path = run_dir / FILE_NAME
    if not path.is_file():
        raise RunFolderError(f"{run_dir} holds no {FILE_NAME}; name the folder of a run.")
    return [json.loads(line) for line in _whole_lines(path)]


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _json(value: float) -> int | float | None:
    """The value as strict JSON can hold it."""
    number = int(value) if isinstance(value, Integral) else float(value)
    return number if math.isfinite(number) else None


def _append(path: Path, row: Row) -> None:
    """Writes one line, or, where the disk takes only a part of it, none."""
    line = json.dumps(row, allow_nan=False) + "\n"
    size = path.stat().st_size
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(line)
    except OSError:
        os.truncate(path, size)
        raise


def _whole_lines(path: Path) -> list[bytes]:
    """The lines up to the first that is cut or no row: after a power cut the rest of a file can be anything."""
    lines = path.read_bytes().splitlines(keepends=True)
    return list(itertools.takewhile(_is_row, lines))


def _is_row(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and "env_steps" in json.loads(line)
    except (ValueError, TypeError):
        return False


def _drop_rows_beyond(path: Path, env_steps: int) -> None:
    """Leaves the complete lines up to that step; whoever reads meanwhile sees the old file or the new one."""
    kept = [line for line in _whole_lines(path) if json.loads(line)["env_steps"] <= env_steps]
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class _TensorBoard:
    """An event file.

    Not tensorboardX's SummaryWriter: it hands events to a thread through a queue of ten. A full disk ends that thread,
    and the eleventh event after that waits for ever, and training with it.
    """

    _FLUSH_SECONDS = 10.0  # a flush waits for the disk

    def __init__(self, folder: Path, resume_env_steps: int | None) -> None:
        folder.mkdir(exist_ok=True)
        self._records = RecordWriter(str(folder / f"events.out.tfevents.{time.time_ns()}"))
        self._next_flush = 0.0
        self._write(file_version="brain.Event:2")
        if resume_env_steps is not None:  # TensorBoard drops what earlier files hold from this step on
            self._write(step=resume_env_steps + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, env_steps: int, scalars: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(step=env_steps, summary=Summary(value=values))
        if time.monotonic() >= self._next_flush:
            self._records.flush()
            self._next_flush = time.monotonic() + self._FLUSH_SECONDS

    def close(self) -> None:
        self._records.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _import_wandb() -> Any:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependencyError('Logging to W&B needs wandb: pip install "ksim-envs[wandb]".') from error
    return wandb


def _start_wandb(wandb: Any, project: str, run_dir: Path, config: dict[str, Any] | None, is_new: bool) -> Any:
    """A W&B run; the id in `run_dir/wandb-id` lets a resumed run continue it."""
    id_path = run_dir / "wandb-id"
    run_id = id_path.read_text().strip() if id_path.exists() and not is_new else None
    run: Any = wandb.init(
        project=project, name=run_dir.name, dir=run_dir, config=config, id=run_id, resume="allow" if run_id else None
    )
    id_path.write_text(run.id)
    run.define_metric("*", step_metric="env_steps")
    return run
