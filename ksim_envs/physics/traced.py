"""Programs that are traced once for a machine and its versions of everything.

JAX's compilation cache spares a process the compiling, not the tracing before it, and with MJX that takes longer than
all the rest of a start. So the traced programs are kept too, in the same folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import mujoco
from jax import export

from ksim_envs import guard, program_cache, runtime, types
from ksim_envs.types import PhysicsState, Push, View

with runtime.quiet_import():
    from mujoco import mjx

DIGEST_SIZE = hashlib.sha256().digest_size

for _type in (PhysicsState, Push, View):
    export.register_pytree_node_serialization(
        _type,
        serialized_name=f"ksim_envs.{_type.__name__}",
        serialize_auxdata=lambda _: b"",
        deserialize_auxdata=lambda _: (),
    )


def _digest_of_sources() -> str:
    """Of all that is traced: MJX and our part of it. A stored program is never that of another version."""
    digest = hashlib.sha256()
    ours = [Path(guard.__file__), Path(types.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    for path in [*ours, *sorted((Path(mjx.__file__).parent / "_src").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _digest_of_sources()
"""As they were when this process read them."""


class TracedOnce:
    """A pure function of arrays, for use under `jit`, that is traced only if no process did so before.

    It can be neither mapped nor differentiated.
    """

    def __init__(self, function: Callable[..., Any], identity: str, platform: str) -> None:
        """Trace nothing yet.

        Args:
            function: the function.
            identity: what its program depends on, besides sources, versions and the shapes of its arguments.
            platform: where it will run, as `jax.Device.platform`.
        """
        self._function, self._identity, self._platform = jax.jit(function), identity, platform
        self._programs: dict[str, export.Exported] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
        switches = [getattr(jax.config, name) for name in ("jax_enable_x64", "jax_disable_jit")]
        versions = jax.__version__, metadata.version("jaxlib"), mujoco.__version__, _SOURCES
        name = _sha256(repr((self._identity, self._platform, shapes, switches, versions)).encode()).hex()
        if name not in self._programs:
            self._programs[name] = _load(name) or self._trace(shapes, name)
        return self._programs[name].call(*args)

    def _trace(self, shapes: Any, name: str) -> export.Exported:
        program = export.export(self._function, platforms=[self._platform])(*shapes)
        _store(name, program)
        return program


def _path(name: str) -> Path | None:
    """Where a program is kept; None where none is. Without `flatbuffers` JAX cannot write them."""
    folder = program_cache.location()
    is_local = folder is not None and ":" not in folder.parts[0].removeprefix(folder.drive)  # not a bucket's address
    return folder / f"{name}{program_cache.TRACED_SUFFIX}" if folder and is_local and find_spec("flatbuffers") else None


def _load(name: str) -> export.Exported | None:
    """A program that was stored, if it is there and whole."""
    path = _path(name)
    try:
        content = path.read_bytes() if path else b""
    except OSError:
        return None
    digest, program = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    return export.deserialize(bytearray(program)) if _sha256(program) == digest else None


def _store(name: str, program: export.Exported) -> None:
    """Keep a program, whole or not at all; where that fails, the next process traces it again."""
    path = _path(name)
    if path is None:
        return
    content = bytes(program.serialize())
    scratch = path.with_name(f"{uuid.uuid4().hex}{program_cache.TRACED_SUFFIX}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            scratch.write_bytes(_sha256(content) + content)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
