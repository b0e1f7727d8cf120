"""The README's Python snippets, run one after the other as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.marks import without_video

README = Path(__file__).parents[2] / "README.md"
OPTIONAL = {"gymnax", "ray", "rl_games", "rsl_rl", "skrl", "stable_baselines3", "torchrl"}
"""Without these, snippets that need them are left out; `tox` has all but three (`tox -e gymnax,libraries`)."""


def modules_in(snippet):
    """Every part of the names of modules that are imported: `ksim_envs.adapters.skrl` needs skrl."""
    modules = re.findall(r"^(?:from|import) (\S+)", snippet, re.MULTILINE)
    return {part for module in modules for part in module.split(".")}


def test_the_snippets_run_as_written(tmp_path):
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(snippets) >= 9
    snippets = [snippet for snippet in snippets if all(map(find_spec, OPTIONAL & modules_in(snippet)))]
    program = tmp_path / "tour.py"
    program.write_text("\n".join(snippets))
    child = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=without_video(),
    )
    assert child.returncode == 0, child.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"tour.py", "runs"}
