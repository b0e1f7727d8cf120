"""`ksim_envs.bench`: its rows and csv file, what it refuses, and that it closes what it opens. No rate is promised."""

import csv
import subprocess
import sys
from dataclasses import asdict

import cloudpickle
import pytest

from ksim_envs import bench
from ksim_envs.bench.contestants import Contestant, quiet_maker
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.physics import choose_backend

ID = "ksim/InvertedPendulum-v0"
SMALL = {"backend": "native", "num_envs": (4,), "num_steps": 3, "num_rounds": 2}


def opponent(closed, run):
    """One that notes when it is closed."""
    return Contestant(
        name="other", num_envs=2, num_steps=3, prepare=lambda: None, run=run, close=lambda: closed.append("other")
    )


def test_rows_name_who_was_measured_on_what():
    (rows,) = bench.run([ID], bench.BenchConfig(**SMALL, dynamics="gymnasium", opponents=False))
    assert [row.contestant.split(",")[0] for row in rows] == ["vector env", "functional core", "bare engine"]
    assert {(row.id, row.backend, row.dynamics, row.num_envs) for row in rows} == {(ID, "native", "gymnasium", 4)}
    assert rows[0].ratio == 1 and all(row.steps_per_second > 0 and row.spread >= 1 for row in rows)


def test_backend_of_a_row_is_the_one_that_auto_stood_for():
    (rows,) = bench.run([ID], bench.BenchConfig(**{**SMALL, "backend": "auto"}, opponents=False))
    assert {row.backend for row in rows} == {choose_backend("auto")}


def test_csv_has_one_header_and_a_column_for_every_field(tmp_path):
    path = tmp_path / "new" / "rates.csv"
    config = bench.BenchConfig(**SMALL, opponents=False, csv=path)
    rows = [*next(bench.run([ID], config)), *next(bench.run([ID], config))]
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [{name: str(value) for name, value in asdict(row).items()} for row in rows]
    assert (read[0]["backend"], read[0]["dynamics"]) == ("native", "fast")


@pytest.mark.parametrize("is_broken", [False, True])
def test_opponents_are_closed_whether_the_measurement_ends_or_raises(monkeypatch, is_broken):
    closed = []

    def play(_):
        if is_broken:
            raise RuntimeError("a worker died")

    monkeypatch.setattr("ksim_envs.bench.contestants.opponents", lambda id, num_steps: [opponent(closed, play)])
    measuring = bench.run([ID], bench.BenchConfig(**SMALL))
    if is_broken:
        with pytest.raises(RuntimeError, match="a worker died"):
            next(measuring)
    else:
        assert next(measuring)[-1].contestant == "other"
    assert closed == ["other"]


def test_an_opponent_is_closed_when_the_next_one_cannot_be_built(monkeypatch):
    closed = []

    def build(id, num_steps):
        yield opponent(closed, lambda _: None)
        raise RuntimeError("no such task")

    monkeypatch.setattr("ksim_envs.bench.contestants.opponents", build)
    with pytest.raises(RuntimeError, match="no such task"):
        next(bench.run([ID], bench.BenchConfig(**SMALL)))
    assert closed == ["other"]


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"backend": "mjxx"}, UnknownNameError),
        ({"dynamics": "slow"}, UnknownNameError),
        ({"num_envs": (4, 0)}, InvalidConfigError),
        ({"num_steps": 0}, InvalidConfigError),
        ({"num_rounds": 0}, InvalidConfigError),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_measured(setting, error, monkeypatch):
    monkeypatch.setattr(bench, "_measure", lambda *args: pytest.fail("it measures"))
    with pytest.raises(error):
        next(bench.run([ID], bench.BenchConfig(**{**SMALL, **setting})))


def test_an_unknown_id_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(bench, "_measure", lambda *args: pytest.fail("it measures"))
    with pytest.raises(UnknownNameError, match="Did you mean"):
        next(bench.run([ID, "ksim/Hoper-v0"], bench.BenchConfig(**SMALL)))


def test_cold_start_times_the_env_that_it_was_asked_for(monkeypatch):
    programs = []

    def start(command, **_):
        programs.append(command[-1])
        return subprocess.CompletedProcess(command, 0, stdout="0.5 2.0\n")

    monkeypatch.setattr(subprocess, "run", start)
    seconds = bench.cold_start(ID, 4, backend="native", dynamics="gymnasium")
    assert seconds == {"import": 0.5, "import, make, reset and first step": 2.0}
    assert f"ksim_envs.make('{ID}', 4, backend='native', dynamics='gymnasium')" in programs[0]


def test_cold_start_runs():
    seconds = bench.cold_start(ID, 2, backend="native")
    assert 0 < seconds["import"] < seconds["import, make, reset and first step"]


def test_importing_it_loads_neither_jax_nor_mujoco():
    code = "import sys, ksim_envs.bench; print(*{'jax', 'mujoco'} & set(sys.modules))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (child.returncode, child.stdout.strip()) == (0, ""), child.stderr


def test_a_worker_of_an_opponent_neither_imports_jax_nor_writes_a_log(tmp_path):
    maker = cloudpickle.dumps(quiet_maker("HalfCheetah-v5"))
    code = f"import pickle, sys; env = pickle.loads({maker!r})(); env.reset(); print('jax' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert child.stdout.split() == ["False"], child.stderr
    assert list(tmp_path.iterdir()) == []
