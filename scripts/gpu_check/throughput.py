"""`ksim bench` on mjx; each task and size in a new process, so that the peak of memory is its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any
from unittest import SkipTest

import jax

from ksim_envs import bench
from scripts.gpu_check.checks import Checks, Verdict, in_new_process


def checks(ids: Sequence[str], num_envs: Sequence[int], is_quick: bool) -> Checks:
    """One for each task and size; of the tasks only the first if it is to be quick."""
    ids, num_steps, num_rounds = (ids[:1], 5, 2) if is_quick else (ids, 50, 5)
    config = bench.BenchConfig(backend="mjx", num_steps=num_steps, num_rounds=num_rounds, opponents=False)
    return {
        f"{id}, {size} envs": partial(measured, id, replace(config, num_envs=(size,)))
        for id in ids
        for size in num_envs
    }


def measured(id: str, config: bench.BenchConfig) -> Verdict:
    """One task and size; skipped where the memory is too small."""
    try:
        return True, in_new_process(rows_and_peak, id, config), ""
    except Exception as error:
        if isinstance(error, MemoryError) or re.search("RESOURCE_EXHAUSTED|out of memory", str(error)):
            raise SkipTest(f"out of memory: {str(error)[:200]}") from error
        raise


def rows_and_peak(id: str, config: bench.BenchConfig) -> dict[str, Any]:
    """The rows, and the device's peak of memory in bytes where JAX reports it."""
    rows = [asdict(row) for row in next(bench.run([id], config))]
    return {"rows": rows, "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")}
