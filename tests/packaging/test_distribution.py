"""What a wheel and a source distribution hold besides Python files."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "ksim_envs", "agents")
ASSETS = {path.name for path in (ROOT / "ksim_envs/tasks/assets").iterdir()}


@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools, which builds, is not installed")
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_robots_models_are_in_what_is_installed(kind, tmp_path):
    project, built = tmp_path / "project", tmp_path / "built"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, project / name)
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(built)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True, timeout=300)
    [archive] = built.iterdir()
    if kind == "wheel":
        names = zipfile.ZipFile(archive).namelist()
    else:
        names = tarfile.open(archive).getnames()
    assert {Path(name).name for name in names if "ksim_envs/tasks/assets/" in name} == ASSETS
    assert any(name.endswith("ksim_envs/py.typed") for name in names)
