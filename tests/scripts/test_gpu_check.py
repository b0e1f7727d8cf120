"""`python -m scripts.gpu_check` on a CPU: what it writes, what it skips, and its exit status."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.marks import needs_torch

ROOT = Path(__file__).parents[2]
ID = "ksim/InvertedPendulum-v0"
UNNEEDED = ("agents", "matplotlib", "rich", "tyro")
SHARE = {"PYTHON_CLIENT_PREALLOCATE": "false"}
NEEDS_CUDA = ("(d) env, torch on its own stream", "(g) cuda:1", f"(h) memory with {SHARE}")


def check(folder, *args):
    """Runs the script in a folder, on the CPU, where libraries that it must do without cannot be imported."""
    for name in UNNEEDED:
        (folder / f"{name}.py").write_text(f"raise ImportError('gpu_check imports {name}')")
    command = [sys.executable, "-m", "scripts.gpu_check", "--quick", "--out", "results", *args]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800)
    files = [folder / "results" / f"cpu.{kind}" for kind in ("json", "md")]
    assert all(file.exists() for file in files), ended.stderr
    return ended, json.loads(files[0].read_text()), files[1].read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every part once, on one small task."""
    return check(tmp_path_factory.mktemp("gpu_check"), "--ids", ID)


def named(report, part):
    """The results of a part by name."""
    return {result["name"]: result for result in report["results"] if result["part"] == part}


@pytest.mark.slow
def test_all_parts_pass_or_are_skipped_with_a_reason(run):
    ended, report, _ = run
    assert ended.returncode == 0, ended.stdout
    assert set(report) == {"machine", "results", "bench"}
    assert list(dict.fromkeys(result["part"] for result in report["results"])) == [
        "machine",
        "conformance",
        "parity",
        "dlpack",
        "bench",
    ]
    for result in report["results"]:
        assert set(result) == {"part", "name", "status", "value", "detail"}
        assert result["status"] == "ok" or (result["status"] == "skip" and result["detail"])


@pytest.mark.slow
def test_the_machine_is_described(run):
    _, report, _ = run
    assert {"processor", "devices", "jax", "jaxlib", "mujoco", "torch", "XLA_FLAGS", "memory"} <= set(report["machine"])
    assert named(report, "machine")["accelerator"]["status"] == "skip"


@pytest.mark.slow
def test_conformance_covers_the_three_modes_and_every_output(run):
    checked = {name for name, result in named(run[1], "conformance").items() if result["status"] == "ok"}
    kinds = {"next_step, numpy", "disabled, numpy", "same_step, numpy", "same_step, jax"}
    assert checked >= {f"{ID}, {kind}" for kind in kinds | ({"same_step, torch"} if find_spec("torch") else set())}


@pytest.mark.slow
def test_parity_reports_the_error_of_positions_and_velocities(run):
    parity = named(run[1], "parity")
    error = parity[f"{ID}: one step from 64 states, mjx against native"]["value"]
    assert set(error) == {f"{name}, {kind}" for name in ("qpos", "qvel") for kind in ("absolute", "relative")}
    assert 0 < error["qvel, absolute"] < 5e-4
    assert parity[f"{ID}: two equal runs of 200 steps"]["value"] == 0
    assert parity[f"{ID}: NaN in one row"]["value"] == {"change of other rows": 0, "reported at": [[10, 5]]}


@needs_torch
@pytest.mark.slow
def test_torch_checks_run_and_those_that_need_cuda_say_so(run):
    checks = named(run[1], "dlpack")
    assert {name[:3] for name in checks} == {f"({letter})" for letter in "abcdefgh"}
    assert all("needs CUDA" in checks[name]["detail"] for name in NEEDS_CUDA)
    assert {name[:3] for name, check in checks.items() if check["status"] == "ok"} >= {
        "(a)",
        "(b)",
        "(c)",
        "(e)",
        "(f)",
    }
    assert checks["(c) env"]["value"] == "0 of 50 steps differ"


@pytest.mark.slow
def test_the_bench_has_a_row_for_each_contestant(run):
    rows = run[1]["bench"]
    assert [row["contestant"].split(",")[0] for row in rows] == ["vector env", "functional core", "bare engine"]
    assert all(
        (row["id"], row["backend"], row["num_envs"]) == (ID, "mjx", 16) and row["steps_per_second"] > 0 for row in rows
    )
    assert all("peak_bytes" in row for row in rows)


@pytest.mark.slow
def test_the_table_is_printed_and_written_with_a_line_for_each_result(run):
    ended, report, text = run
    assert text in ended.stdout
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    num_headers = 2 * 2
    is_row = [result for result in report["results"] if not (result["part"] == "bench" and result["value"])]
    assert len(lines) == num_headers + len(is_row) + len(report["bench"])


def test_a_failed_check_gives_status_1_and_the_others_still_run(tmp_path):
    ended, report, _ = check(tmp_path, "--parts", "conformance", "machine", "--ids", "ksim/InvertedPendulm-v0")
    assert ended.returncode == 1
    failed = named(report, "conformance")["ksim/InvertedPendulm-v0, next_step, numpy"]
    assert failed["status"] == "fail" and "Did you mean 'ksim/InvertedPendulum-v0'" in failed["detail"]
    assert named(report, "machine")["jax"]["status"] == "ok"
