"""The log of a run: what a file holds at every instant, and that nothing about it stops training."""

import json
import math
import struct
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from agents import logger
from agents.errors import RunFolderError
from agents.logger import Logger
from ksim_envs.errors import MissingDependencyError


def log_rows(log, steps):
    for env_steps in steps:
        log.log("train", env_steps, {"loss": 1.0 / env_steps, "num_episodes": 3})
        log.log("eval", env_steps, {"return_mean": 0.1 * env_steps})


def events(run_dir):
    """The events of all event files, in the order in which TensorBoard reads them."""
    found = []
    for path in sorted((run_dir / "tensorboard").iterdir()):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("Q", content, start)
            found.append(Event.FromString(content[start + 12 : start + 12 + length]))
            start += 12 + length + 4
    return found


def scalars(run_dir):
    return [(event.step, {v.tag: v.simple_value for v in event.summary.value}) for event in events(run_dir)]


def test_a_row_is_one_line_with_its_kind_and_env_steps(tmp_path):
    with Logger(tmp_path / "new" / "run", tensorboard=False) as log:
        log.log("train", 64, {"policy_loss": np.float32(0.5), "num_episodes": np.int32(3), "time/elapsed_s": 1.5})
    line = '{"kind": "train", "env_steps": 64, "policy_loss": 0.5, "num_episodes": 3, "time/elapsed_s": 1.5}\n'
    assert (tmp_path / "new" / "run" / "metrics.jsonl").read_text() == line


def test_every_row_can_be_read_as_soon_as_it_is_logged(tmp_path):
    with Logger(tmp_path) as log:
        for count in range(1, 4):
            log.log("train", count, {})
            assert len(logger.read(tmp_path)) == count


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_value_that_is_not_finite_is_null(tmp_path, value):
    with Logger(tmp_path) as log:
        log.log("train", 1, {"loss": value})
    content = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(content, parse_constant=pytest.fail) == {"kind": "train", "env_steps": 1, "loss": None}
    assert logger.read(tmp_path)[0]["loss"] is None


@pytest.mark.parametrize("torn", ["", '{"kind": "train", "env_s', '{"kind": "train", "env_steps": 30}'])
def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path, torn):
    with Logger(tmp_path / "whole") as log:
        log_rows(log, [10, 20, 30, 40])
    with Logger(tmp_path / "cut") as log:
        log_rows(log, [10, 20, 30])
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write(torn)
    with Logger(tmp_path / "cut", resume_env_steps=20) as log:
        log_rows(log, [30, 40])
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert cut == whole
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"metrics.jsonl", "tensorboard"}


def test_a_run_whose_log_is_gone_can_be_resumed(tmp_path):
    with Logger(tmp_path, resume_env_steps=20) as log:
        log.log("train", 30, {})
    assert [row["env_steps"] for row in logger.read(tmp_path)] == [30]


def test_a_new_run_does_not_touch_the_log_of_another(tmp_path):
    with Logger(tmp_path) as log:
        log_rows(log, [10])
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match="without checkpoints; choose another folder"):
        Logger(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_torn_last_line_is_not_read(tmp_path):
    with Logger(tmp_path, tensorboard=False) as log:
        log_rows(log, [10])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tr')
    assert [row["kind"] for row in logger.read(tmp_path)] == ["train", "eval"]


def test_reading_a_folder_without_a_log_says_so(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no metrics\.jsonl; name the folder of a run"):
        logger.read(tmp_path)


def test_tensorboard_gets_every_value_under_its_kind(tmp_path):
    with Logger(tmp_path) as log:
        log.log("train", 10, {"loss": 0.5, "time/elapsed_s": 2.0})
        log.log("eval", 20, {"return_mean": 3.0})
    assert events(tmp_path)[0].file_version == "brain.Event:2"
    assert scalars(tmp_path)[1:] == [
        (10, {"train/loss": 0.5, "train/time/elapsed_s": 2.0}),
        (20, {"eval/return_mean": 3}),
    ]


def test_tensorboard_is_told_to_drop_what_lies_beyond_the_point_of_resumption(tmp_path):
    for resume_env_steps in (None, 20):
        with Logger(tmp_path, resume_env_steps=resume_env_steps) as log:
            log_rows(log, [30])
    starts = [event.step for event in events(tmp_path) if event.session_log.status == event.session_log.START]
    assert starts == [21]  # TensorBoard drops the step itself too, and rows of step 20 stay
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_without_tensorboard_there_is_no_event_file(tmp_path):
    with Logger(tmp_path, tensorboard=False) as log:
        log_rows(log, [10])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


FULL_DISK = """
import resource, sys, warnings
from pathlib import Path
from agents import logger

run_dir, limit = Path(sys.argv[1]), int(sys.argv[2])
infinity = resource.RLIM_INFINITY
with warnings.catch_warnings(record=True) as caught, logger.Logger(run_dir) as log:
    warnings.simplefilter("always")
    log.log("train", 1, {"loss": 0.5})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, infinity))  # the disk takes some bytes of a row, and no more
    for env_steps in range(2, 500):
        log.log("train", env_steps, {"loss": 0.5})
    during = [row["env_steps"] for row in logger.read(run_dir)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (infinity, infinity))
    log.log("train", 500, {"loss": 0.5})
print(during, [row["env_steps"] for row in logger.read(run_dir)][-2:])
print(*(f"{warning.category.__name__}: {warning.message}" for warning in caught if warning.category is RuntimeWarning))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
@pytest.mark.parametrize(("limit", "kept"), [(100, [1, 2]), (70, [1])])
def test_a_full_disk_is_one_warning_and_the_log_stays_whole(tmp_path, limit, kept):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stderr) == (0, "")
    rows, warned = child.stdout.splitlines()
    assert rows == f"{kept} [{kept[-1]}, 500]"
    assert warned.count("RuntimeWarning") == 1
    assert "File too large. Training goes on" in warned


def test_a_run_folder_that_vanishes_is_one_warning(tmp_path):
    with Logger(tmp_path, tensorboard=False) as log:
        (tmp_path / "metrics.jsonl").unlink()
        with pytest.warns(RuntimeWarning, match="Training goes on"):
            log.log("train", 1, {})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log.log("train", 2, {})


def test_wandb_that_is_not_installed_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "ksim-envs\[wandb\]"'):
        Logger(tmp_path, wandb="project")


class FakeRun:
    """What the logger uses of W&B."""

    def __init__(self, **arguments):
        self.arguments = arguments
        self.id = arguments["id"] or "abc123"
        self.rows, self.exit_code = [], None

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "env_steps")

    def log(self, row):
        self.rows.append(row)

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def wandb_runs(monkeypatch):
    runs = []

    def init(**arguments):
        runs.append(FakeRun(**arguments))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    return runs


def test_wandb_gets_config_rows_and_how_it_ended(tmp_path, wandb_runs):
    with pytest.raises(KeyError), Logger(tmp_path, wandb="project", config={"gamma": 0.99}) as log:
        log.log("train", 10, {"loss": 0.5})
        raise KeyError
    (run,) = wandb_runs
    assert {name: run.arguments[name] for name in ("project", "config", "resume")} == {
        "project": "project",
        "config": {"gamma": 0.99},
        "resume": None,
    }
    assert run.rows == [{"train/loss": 0.5, "env_steps": 10}]
    assert run.exit_code == 1


def test_training_goes_on_without_wandb_where_it_fails(tmp_path, wandb_runs):
    def fail(*args, **keywords):
        raise BrokenPipeError("its service has died")

    with pytest.warns(
        RuntimeWarning, match="to W&B: its service has died. Training goes on; metrics.jsonl has"
    ) as warned:
        with Logger(tmp_path, wandb="project") as log:
            wandb_runs[0].log = wandb_runs[0].finish = fail
            log.log("train", 10, {"loss": 0.5})
            log.log("train", 20, {"loss": 0.4})
    assert len(warned) == 1
    assert [row["env_steps"] for row in logger.read(tmp_path)] == [10, 20]


def test_a_resumed_run_continues_its_wandb_run(tmp_path, wandb_runs):
    for resume_env_steps in (None, 20):
        with Logger(tmp_path, wandb="project", resume_env_steps=resume_env_steps):
            pass
    assert [run.arguments["id"] for run in wandb_runs] == [None, "abc123"]
    assert [run.arguments["resume"] for run in wandb_runs] == [None, "allow"]
    assert [run.exit_code for run in wandb_runs] == [0, 0]
