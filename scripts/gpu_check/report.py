"""What is written: all results as JSON and as Markdown tables."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from scripts.gpu_check.checks import Result


def write(results: Sequence[Result], folder: Path) -> str:
    """Write everything so far as JSON and as Markdown; returns the latter."""
    kind = jax.devices()[0].device_kind
    measured = [result for result in results if result.part == "bench" and result.value]
    rows = [{**row, "peak_bytes": result.value["peak_bytes"]} for result in measured for row in result.value["rows"]]
    report = {
        "machine": {result.name: result.value for result in results if result.part == "machine"},
        "results": [asdict(result) for result in results],
        "bench": rows,
    }
    others = [asdict(result) for result in results if result not in measured]
    text = "\n".join([f"# `ksim_envs` on {kind}\n", *table(others), "", *table(rows), ""])
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / re.sub(r"\W+", "-", kind)
    stem.with_suffix(".json").write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a Markdown table; none where there are no rows."""
    if not rows:
        return []
    lines = [rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return ["| " + " | ".join(map(cell, line)) + " |" for line in lines]


def cell(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {cell(part)}" for name, part in value.items())
    text = f"{value:,.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return " ".join(text.replace("|", "/").split())
