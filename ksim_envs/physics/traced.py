"""Programs that are traced once for a machine and its versions of everything.

JAX's compilation cache spares a process the compiling, not the tracing before it, and with MJX that takes longer than
all the rest of a start. So the traced programs are kept too, in the same folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np
from jax import export

from ksim_envs import runtime
from ksim_envs.types import PhysicsState, Push, View

DIGEST_SIZE = hashlib.sha256().digest_size

for _type in (PhysicsState, Push, View):
    export.register_pytree_node_serialization(
        _type,
        serialized_name=f"ksim_envs.{_type.__name__}",
        serialize_auxdata=lambda _: b"",
        deserialize_auxdata=lambda _: (),
    )


class TracedOnce:
    """A pure function of arrays, for use under `jit`, that is traced only if no process did so before.

    It can be neither mapped nor differentiated.
    """

    def __init__(self, function: Callable[..., Any], identity: str, platform: str) -> None:
        """Trace nothing yet.

        Args:
            function: the function.
            identity: what its program depends on, besides the shapes of its arguments; see `fingerprint`.
            platform: where it will run, as `jax.Device.platform`.
        """
        self._function, self._identity, self._platform = jax.jit(function), identity, platform
        self._programs: dict[str, export.Exported] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
        name = hashlib.sha256(f"{self._identity} {self._platform} {shapes}".encode()).hexdigest()
        if name not in self._programs:
            self._programs[name] = _load(name) or self._trace(shapes, name)
        return self._programs[name].call(*args)

    def _trace(self, shapes: Any, name: str) -> export.Exported:
        program = export.export(self._function, platforms=[self._platform])(*shapes)
        _store(name, program)
        return program


def fingerprint(model: mujoco.MjModel, *settings: Any) -> str:
    """A digest of what an MJX program depends on: a model, settings, our sources, the libraries' versions, and x64."""
    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    rest = (*settings, jax.config.read("jax_enable_x64"), jax.__version__, mujoco.__version__)
    versions = [metadata.version(name) for name in ("jaxlib", "mujoco-mjx")]
    return hashlib.sha256(content.tobytes() + _sources() + repr((rest, versions)).encode()).hexdigest()


@functools.cache
def _sources() -> bytes:
    """A digest of this package's sources: a stored program is never that of another version of them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _path(name: str) -> Path | None:
    """Where a program is kept; None where none is. Without `flatbuffers` JAX cannot write them."""
    folder = runtime.cache_dir()
    return folder / f"{name}{runtime.TRACED_SUFFIX}" if folder and find_spec("flatbuffers") else None


def _load(name: str) -> export.Exported | None:
    """A program that was stored, if it is there and whole."""
    path = _path(name)
    try:
        content = path.read_bytes() if path else b""
    except OSError:
        return None
    digest, program = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    return export.deserialize(bytearray(program)) if hashlib.sha256(program).digest() == digest else None


def _store(name: str, program: export.Exported) -> None:
    """Keep a program, whole or not at all; where that fails, the next process traces it again."""
    path = _path(name)
    if path is None:
        return
    content = bytes(program.serialize())
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, suffix=runtime.TRACED_SUFFIX)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(scratch, path)
        except OSError:
            os.unlink(scratch)
            raise
