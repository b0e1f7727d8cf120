"""What this machine offers to `ksim_envs`, and the remedy for what it lacks: the substance of `ksim doctor`.

Whatever may crash, hang or start a backend (JAX, GL) is tried in a child process, so that a broken driver or a mistyped
XLA flag ends in a finding.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ksim_envs import program_cache, runtime, versions
from ksim_envs.render.platforms import PLATFORMS, REMEDIES, has_display, requested

_PACKAGES = ("ksim-envs", "mujoco", "mujoco-mjx", "jax", "jaxlib", "gymnasium", "numpy", "torch")
_PROBE_SECONDS = 120
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    """What was looked at."""
    value: str
    """What was found."""
    remedy: str | None = None
    """What to do about it; None where nothing is wrong."""


KNOWN_TROUBLES = (
    Finding(
        "Rendering without a display",
        "RenderError, or GLFW finds no DISPLAY",
        "EGL: a GPU driver, or apt-get install libegl1 libgl1. OSMesa, on any CPU: apt-get install libosmesa6, then "
        "MUJOCO_GL=osmesa. A window on a server: xvfb-run -a ksim ...",
    ),
    Finding(
        "NaNs or diverged rows on some GPUs",
        "the same program is fine on a CPU",
        "set XLA_FLAGS=--xla_gpu_enable_triton_gemm=false before Python starts",
    ),
    Finding(
        "Out of GPU memory with torch beside JAX",
        "JAX takes three quarters of it when it starts",
        "set XLA_PYTHON_CLIENT_PREALLOCATE=false, or XLA_CLIENT_MEM_FRACTION=0.3, before Python starts",
    ),
    Finding(
        "A stale compilation cache",
        "odd compile errors, or warnings about cache entries, after an update or a killed run",
        "ksim cache clear",
    ),
    Finding("The viewer on macOS", "launch_passive requires mjpython", "start Python as mjpython (mujoco installs it)"),
    Finding("A program that hangs on CPU", "jaxlib older than 0.11, no progress, no error", runtime.SCHEDULER_REMEDY),
)
"""What users of MuJoCo and JAX run into: topic, how it shows, and the remedy."""


def diagnose() -> list[Finding]:
    """Looks at versions, devices, rendering, flags, the compilation cache and processors.

    Returns:
        The findings, in the order in which to read them. It takes some seconds: child processes start JAX and GL.
    """
    probes = ["jax", "backend", *_gl_platforms()]
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = dict(zip(probes, pool.map(_run_probe, probes), strict=True))
    return [
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        *(_version(package) for package in _PACKAGES),
        _processors(),
        *_devices(results.pop("jax")),
        _backend(results.pop("backend")),
        *_rendering(results),
        _xla_flags(),
        _cache(),
    ]


def _version(package: str) -> Finding:
    """The installed version of a package, against the range that ours declares."""
    version, allowed = versions.installed(package), versions.requirements().get(package, "")
    remedy = f"pip install '{package}{allowed}'"
    if version == versions.NOT_INSTALLED:
        if package == "torch":
            return Finding(package, f"{version} (optional: output='torch' needs it)")
        return Finding(package, version, remedy)
    if versions.is_allowed(version, allowed):
        return Finding(package, version)
    return Finding(package, f"{version}, but ksim-envs needs {allowed}", remedy)


def _processors() -> Finding:
    return Finding("processors", f"{runtime.usable_processors()} usable of {os.cpu_count()}")


def _devices(result: dict[str, Any]) -> Iterator[Finding]:
    """JAX's devices, and an NVIDIA GPU that JAX does not use."""
    if "error" in result:
        remedy = "check XLA_FLAGS, JAX_PLATFORMS and the accelerator's driver"
        yield Finding("JAX devices", f"JAX does not start: {result['error']}", remedy)
        return
    yield Finding("JAX devices", ", ".join(result["devices"]))
    if result["platform"] == "cpu" and shutil.which("nvidia-smi"):
        remedy = "pip install 'jax[cuda12]' (or jax[cuda13], after the driver), and unset JAX_PLATFORMS"
        yield Finding("GPU", "there is an NVIDIA driver, but JAX runs on the CPU", remedy)


def _backend(result: dict[str, Any]) -> Finding:
    if "error" in result:
        return Finding("backend='auto'", f"cannot be chosen: {result['error']}", "mend the lines above first")
    return Finding("backend='auto'", result["backend"])


def _rendering(results: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """Which GL platforms can draw a frame; a remedy only where none can."""
    none_works = all("error" in result for result in results.values())
    for name, result in results.items():
        value = f"does not work ({result['error']})" if "error" in result else "works"
        yield Finding(f"rendering, {name}", value, REMEDIES[name] if none_works else None)
    if chosen := requested():
        is_broken = chosen not in results or "error" in results[chosen]
        yield Finding("MUJOCO_GL", chosen, f"unset it, or set one of: {', '.join(results)}" if is_broken else None)


def _xla_flags() -> Finding:
    remedy = runtime.SCHEDULER_REMEDY if runtime.scheduler_flag_is_missing() else None
    return Finding("XLA_FLAGS", os.environ.get("XLA_FLAGS") or "none", remedy)


def _cache() -> Finding:
    folder = program_cache.location()
    if folder is not None:
        num_files, num_bytes = program_cache.size()
        return Finding("compilation cache", f"{folder}: {num_files} files, {num_bytes / _MEGABYTE:.1f} MB")
    wanted = program_cache.requested_location()
    if wanted is None or program_cache.is_usable(wanted):
        return Finding("compilation cache", "off, as the environment variables or jax.config say")
    remedy = f"set {program_cache.VARIABLE} to a folder that takes files; until then programs compile anew in each run"
    return Finding("compilation cache", f"off: {wanted} cannot be written", remedy)


def print_probe(name: str) -> None:
    """Runs one probe and prints its answer as the last line, in JSON; `diagnose` calls this in a child process."""
    print(json.dumps(_PROBES.get(name, _probe_gl)()))


def _run_probe(name: str) -> dict[str, Any]:
    """A probe's answer, or `{"error": ...}` with the last thing that the child said."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if name not in _PROBES:
        environment["MUJOCO_GL"] = name
        environment.pop("PYOPENGL_PLATFORM", None)  # mujoco sets it for the platform it has loaded
    code = f"from ksim_envs import doctor; doctor.print_probe({name!r})"
    command = [sys.executable, "-c", code]
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_PROBE_SECONDS} s"}
    if child.returncode == 0:
        return json.loads(child.stdout.splitlines()[-1])
    said = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    return {"error": said[-1] if said else f"the process ended with status {child.returncode}"}


def _probe_jax() -> dict[str, Any]:
    import jax

    devices = [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()]
    return {"devices": devices, "platform": jax.default_backend()}


def _probe_backend() -> dict[str, Any]:
    from ksim_envs.physics import choose_backend

    return {"backend": choose_backend("auto")}


def _probe_gl() -> dict[str, Any]:
    """Draws one small frame with the GL platform that MUJOCO_GL names."""
    import mujoco

    with mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), height=8, width=8) as renderer:
        renderer.render()
    return {}


_PROBES: dict[str, Callable[[], dict[str, Any]]] = {"jax": _probe_jax, "backend": _probe_backend}


def _gl_platforms() -> tuple[str, ...]:
    """The GL platforms that can work here; to try GLFW on a Linux without a display would tell nothing new."""
    return PLATFORMS if has_display() else tuple(name for name in PLATFORMS if name != "glfw")
