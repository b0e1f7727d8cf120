"""One checkpoint on the disk: a folder with two files.

* `arrays.npz`: every leaf of the tree by its path, as `checkpoint_leaves` has it, uncompressed; `numpy.load` reads it.
* `manifest.json`: step, score, info and library versions; the shape and dtype of each leaf; the size and SHA-256 of
  `arrays.npz`; and the SHA-256 of the manifest without this line.

The hashes find damage, but whoever forges a file can forge its hash too. So a reader trusts nothing that it reads: no
pickle, no links, and no array whose header is not the one that the template implies.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import warnings
import zipfile
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ksim_envs
from agents.checkpoint_leaves import PyTree, described, from_stored, named_leaves, stored_form, to_stored
from agents.errors import CheckpointError, CheckpointWarning, DamagedCheckpointError

FORMAT = 1
ARRAYS = "arrays.npz"
MANIFEST = "manifest.json"

_KEYS = {"format", "step", "score", "info", "versions", "leaves", "arrays", "sha256"}
_MAX_MANIFEST = 2**26  # bytes: bounds the memory that a forged manifest can take


def write(folder: Path, step: int, tree: PyTree, info: dict[str, Any], score: float | None) -> None:
    """Writes a checkpoint into an empty folder, through to the disk.

    Raises:
        CheckpointError: the tree or the info cannot be saved.
        OSError: the disk refuses.
    """
    leaves = named_leaves(tree)
    arrays = {name: to_stored(name, leaf) for name, leaf in leaves.items()}
    content = {
        "format": FORMAT,
        "step": step,
        "score": None if score is None else float(score),
        "info": _plain_json(info),
        "versions": _versions(),
        "leaves": {name: described(leaf) for name, leaf in leaves.items()},
        "arrays": _write_arrays(folder / ARRAYS, arrays),
    }
    _write_manifest(folder / MANIFEST, content)
    sync_folder(folder)


def _versions() -> dict[str, str]:
    """Of what the bits of a run depend on."""
    return {
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "mujoco": metadata.version("mujoco"),
        "mujoco-mjx": metadata.version("mujoco-mjx"),
        "ksim_envs": ksim_envs.__version__,
    }


def sync_folder(path: Path) -> None:
    """Makes a folder's list of files survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system (some network ones) has no such thing
            raise
    finally:
        os.close(descriptor)


def _write_arrays(path: Path, arrays: dict[str, Any]) -> dict[str, Any]:
    """Writes the arrays; returns the file's size and hash."""
    with open(path, "w+b") as file:
        np.savez(file, **arrays)
        _sync(file)
        file.seek(0)
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": file.tell()}


def _write_manifest(path: Path, content: dict[str, Any]) -> None:
    sealed = _sealed(content)
    if len(sealed) > _MAX_MANIFEST:
        raise CheckpointError(f"The manifest has {len(sealed)} bytes; {_MAX_MANIFEST} are allowed. Make info smaller.")
    with open(path, "wb") as file:
        file.write(sealed)
        _sync(file)


def _sync(file: io.BufferedIOBase) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sealed(content: dict[str, Any]) -> bytes:
    """The bytes of a manifest with its own hash; there is only one way to write the same content."""
    return _json({**content, "sha256": hashlib.sha256(_json(content)).hexdigest()})


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode("ascii")


def _plain_json(info: dict[str, Any]) -> dict[str, Any]:
    """The info as it will be read: keys become strings, and tuples lists."""
    try:
        return json.loads(json.dumps(info))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"info cannot be written as JSON: {error}. Arrays belong into the tree.") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a checkpoint's manifest, which is as it was written.

    Raises:
        DamagedCheckpointError: the manifest is not what was written, or the folder holds something else.
        CheckpointError: another version wrote it, in another format.
    """
    with _naming_damage(path):
        members = {entry.name: entry.is_file(follow_symlinks=False) for entry in os.scandir(path)}
        if path.is_symlink() or members != {ARRAYS: True, MANIFEST: True}:
            raise ValueError(f"it has {sorted(members)} where two plain files belong, {ARRAYS} and {MANIFEST}")
        size = (path / MANIFEST).stat().st_size
        if size > _MAX_MANIFEST:
            raise ValueError(f"{MANIFEST} has {size} bytes; {_MAX_MANIFEST} are allowed")
        found = (path / MANIFEST).read_bytes()
        content = json.loads(found)
        if found != _sealed({key: value for key, value in content.items() if key != "sha256"}):
            raise ValueError(f"{MANIFEST} does not have the SHA-256 that it claims")
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {content['format']}; ksim_envs {ksim_envs.__version__} reads format {FORMAT}. Use "
                f"the versions that wrote it: {content['versions']}."
            )
        if content.keys() != _KEYS or not path.name.startswith(f"step_{content['step']:012d}"):
            raise ValueError(f"{MANIFEST} is not that of this step")
    return content


def read(path: Path, template: PyTree, partial: bool) -> tuple[PyTree, dict[str, Any]]:
    """The tree and the info of a checkpoint; with `partial`, as much of the tree as the template has.

    Raises:
        DamagedCheckpointError: a file is not what was written.
        CheckpointError: it was made with other settings, or by another version.
    """
    likes = named_leaves(template)
    manifest = read_manifest(path)
    with _naming_damage(path), open(path / ARRAYS, "rb") as file:
        _check_hash(file, manifest["arrays"])
        found = {name: leaf for name, leaf in manifest["leaves"].items() if name in likes or not partial}
        _check_fit(path, found, {name: described(like) for name, like in likes.items()})
        with zipfile.ZipFile(file) as archive:
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in manifest["leaves"]):
                raise ValueError(f"{ARRAYS} and {MANIFEST} name different leaves")
            stored = {name: _read_array(archive, name, like) for name, like in likes.items()}
    leaves = [from_stored(stored[name], like) for name, like in likes.items()]
    if not partial and manifest["versions"] != _versions():
        message = f"{path} was written with {manifest['versions']}; with {_versions()} a run goes on with other bits."
        warnings.warn(message, CheckpointWarning, stacklevel=5)
    return jax.tree.unflatten(jax.tree.structure(template), leaves), manifest["info"]


def _check_hash(file: io.BufferedReader, expected: dict[str, Any]) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != expected["size"]:
        raise ValueError(f"{ARRAYS} has {size} bytes of {expected['size']}")
    if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
        raise ValueError(f"{ARRAYS} does not have the SHA-256 that {MANIFEST} names")


def _check_fit(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises an error with the first differences between a checkpoint's leaves and the template's."""
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    if not names:
        return
    saved, wanted = ([_summary(leaves.get(name)) for name in names[:5]] for leaves in (found, expected))
    lines = [f"{name}: saved {one}, expected {other}" for name, one, other in zip(names, saved, wanted, strict=False)]
    rest = f"; and {len(names) - 5} more" if len(names) > 5 else ""
    raise CheckpointError(
        f"{path} was made with other settings: {'; '.join(lines)}{rest}. Use the settings that it was made with, which "
        "its info may tell, or another folder."
    )


def _summary(leaf: dict[str, Any] | None) -> str:
    return "nothing" if leaf is None else f"{leaf['dtype']} {tuple(leaf['shape'])}"


def _read_array(archive: zipfile.ZipFile, name: str, like: Any) -> np.ndarray:
    """An array as it was written; its header has to be the one that the template implies before memory is taken."""
    shape, dtype = stored_form(like)
    with archive.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is not in NumPy's format 1.0")
        header = np.lib.format.read_array_header_1_0(member)
        if header != (shape, False, dtype):
            raise ValueError(f"{name} has the header {header} where {(shape, False, dtype)} belongs")
        data = member.read(math.prod(shape) * dtype.itemsize + 1)  # one more, so that too long a file shows
    return np.frombuffer(data, dtype).reshape(shape)


@contextlib.contextmanager
def _naming_damage(path: Path) -> Generator[None]:
    """Turns whatever a damaged or forged file makes the libraries raise into our error."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # json, zipfile and numpy promise no list of what they raise
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise DamagedCheckpointError(f"{path} is damaged: {reason}. Delete it, or choose another step.") from error
