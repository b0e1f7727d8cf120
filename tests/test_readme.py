"""The README's Python snippets, run one after the other as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_snippets_run_as_written(tmp_path):
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(snippets) >= 6
    if find_spec("stable_baselines3") is None:  # the default tests have it
        snippets = [snippet for snippet in snippets if "stable_baselines3" not in snippet]
    program = tmp_path / "tour.py"
    program.write_text("\n".join(snippets))
    child = subprocess.run([sys.executable, "-W", "error", program], cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"tour.py", "runs"}
