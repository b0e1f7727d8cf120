"""The checkpoints of a run: each is complete or absent at every instant, whatever stops the process or fills the disk.

A save writes a temporary folder, syncs it to the disk and renames it to `step_000000040960`; only then old checkpoints
are deleted. Saving that step again makes `step_000000040960.1`, because a folder cannot be replaced in one go; the
highest number counts. `checkpoint_format` has what is inside.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from agents import checkpoint_format
from agents.checkpoint_leaves import PyTree
from agents.errors import CheckpointError, CheckpointWarning, DamagedCheckpointError
from ksim_envs.errors import InvalidConfigError

_MAX_STEP = 10**12 - 1
_NAME = re.compile(r"step_([0-9]{12})(?:\.([0-9]{1,6}))?")
_TEMPORARY = ".tmp-"

Result = TypeVar("Result")


class Checkpoints:
    """The checkpoints in a folder.

    Only one process may save into a folder (see `run_folder.lock`); any number may read meanwhile.

    Args:
        folder: where the checkpoints are; made by the first save.
        keep_last: how many of the newest a save keeps, at least 1; the one with the best score is kept too.

    Raises:
        InvalidConfigError: `keep_last` is less than 1.
    """

    def __init__(self, folder: Path, *, keep_last: int = 3) -> None:
        if keep_last < 1:
            raise InvalidConfigError(f"keep_last is {keep_last}; at least 1 checkpoint has to be kept.")
        self.folder = Path(folder)
        self._keep_last = keep_last

    def save(self, step: int, tree: PyTree, info: dict[str, Any], score: float | None = None) -> Path | None:
        """Saves a tree. When the disk refuses, warns and returns: training goes on, and older checkpoints stay.

        Args:
            step: environment steps so far, in [0, 10**12). Checkpoints of later steps are left alone and stay the
                newest; training that goes back calls `discard_after` first.
            tree: arrays of JAX and NumPy, typed PRNG keys, Python numbers.
            info: what to know about it, as JSON.
            score: the higher the better; one that is not finite never counts as the best.

        Returns:
            The checkpoint's folder; None if it could not be saved.

        Raises:
            CheckpointError: the step, the tree or the info is not one that can be saved.
        """
        step = operator.index(step)
        if not 0 <= step <= _MAX_STEP:
            raise CheckpointError(f"The step is {step}; it has to be in [0, {_MAX_STEP}].")
        path = None
        try:
            path = self._write(step, lambda folder: checkpoint_format.write(folder, step, tree, info, score))
            self._prune(step)
        except OSError as error:
            trouble = "could not be saved" if path is None else "is saved, but older ones could not be deleted"
            warnings.warn(
                f"The checkpoint of step {step} {trouble}, in {self.folder}: {error}. Training goes on, and what was "
                "saved before is intact. Free space or mend the folder; the next save tries again.",
                CheckpointWarning,
                stacklevel=2,
            )
        return path

    def load(
        self, template: PyTree, step: int | None = None, *, partial: bool = False
    ) -> tuple[PyTree, dict[str, Any]]:
        """Loads a checkpoint, bit for bit, after checking it against its hashes and the template.

        Args:
            template: a tree with the names, shapes and dtypes to expect; leaves may be `jax.ShapeDtypeStruct`.
            step: which one. None: the newest; those that are damaged are passed over with a warning.
            partial: whether the checkpoint may hold more leaves than the template.

        Returns:
            The tree, with the kinds of leaves that the template has (JAX arrays on the default device), and the info.

        Raises:
            CheckpointError: there is none, none can be used, or it was made with other settings.
        """
        return self._read(step, lambda path: checkpoint_format.read(path, template, partial))

    def read_info(self, step: int | None = None) -> dict[str, Any]:
        """The info of a checkpoint, without its arrays; step and errors as for `load`."""
        return self._read(step, lambda path: checkpoint_format.read_manifest(path)["info"])

    def steps(self) -> list[int]:
        """The steps of all checkpoints, in order."""
        return sorted({step for step, _, _ in self._entries()})

    def best_step(self) -> int | None:
        """The step with the highest score, the newest of equals; None if no checkpoint has a score."""
        scores: dict[int, float] = {}
        for step, _, path in self._entries():
            with contextlib.suppress(CheckpointError):  # damage is reported when it is loaded
                score = checkpoint_format.read_manifest(path)["score"]
                if isinstance(score, float) and math.isfinite(score):
                    scores[step] = score
        return max(scores, key=lambda step: (scores[step], step), default=None)

    def discard_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, for training that goes back to `step` and will reach them anew."""
        self._discard(path for found, _, path in self._entries() if found > step)

    def clean(self) -> int:
        """Deletes what interrupted saves have left; only for the process that saves. Every save does it too.

        Returns:
            The number of leftovers.
        """
        leftovers = list(self.folder.glob(f"{_TEMPORARY}*"))
        for path in leftovers:
            _delete(path)
        return len(leftovers)

    def _entries(self) -> list[tuple[int, int, Path]]:
        """Step, revision and folder of all checkpoints, in order."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        named = ((_NAME.fullmatch(path.name), path) for path in paths)
        return sorted((int(match[1]), int(match[2] or 0), path) for match, path in named if match)

    def _read(self, step: int | None, read: Callable[[Path], Result]) -> Result:
        """Reads this step's checkpoint, or the newest that is not damaged."""
        paths = [path for found, _, path in reversed(self._entries()) if step in (None, found)]
        if not paths:
            which = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise CheckpointError(f"{self.folder} has {which}; the steps in it: {self.steps() or 'none'}.")
        if step is not None:
            return read(paths[0])
        faults: list[str] = []
        for path in paths:
            try:
                result = read(path)
            except DamagedCheckpointError as damage:
                faults.append(str(damage))
                continue
            for fault in faults:
                warnings.warn(f"{fault} Going back to {path.name}.", CheckpointWarning, stacklevel=3)
            return result
        raise CheckpointError(f"No checkpoint in {self.folder} can be used. {' '.join(faults)}")

    def _write(self, step: int, write: Callable[[Path], None]) -> Path:
        """Lets `write` fill a temporary folder, then gives that its name."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            checkpoint_format.sync_folder(self.folder.parent)
        self.clean()
        revision = max((revision + 1 for found, revision, _ in self._entries() if found == step), default=0)
        temporary = self._temporary()
        try:
            temporary.mkdir()
            write(temporary)
            path = temporary.rename(self.folder / f"step_{step:012d}{f'.{revision}' if revision else ''}")
        finally:
            _delete(temporary)
        checkpoint_format.sync_folder(self.folder)
        return path

    def _prune(self, step: int) -> None:
        """Deletes what the checkpoint of `step`, just saved, has made superfluous."""
        entries = self._entries()
        current = {found: path for found, _, path in entries}
        last = [found for found in current if found <= step][-self._keep_last :]
        kept = {*last, self.best_step(), *(found for found in current if found > step)}
        self._discard(path for found, _, path in entries if found not in kept or path != current[found])

    def _discard(self, paths: Iterable[Path]) -> None:
        """Deletes checkpoints, none of which is ever listed half deleted, not even after a power cut."""
        doomed = [path.rename(self._temporary()) for path in paths]
        if doomed:
            checkpoint_format.sync_folder(self.folder)
        for path in doomed:
            _delete(path)

    def _temporary(self) -> Path:
        return self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"


def _delete(path: Path) -> None:
    """Deletes what is there, as far as the disk lets us; `clean` tries again."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
