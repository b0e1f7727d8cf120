"""One process for one run folder."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.errors import RunFolderError
from agents.run_folder import LOCK, lock, new_run_dir
from tests.agents.children import start

HOLD = """
import sys
from pathlib import Path
from agents.run_folder import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path):
    with start(HOLD, str(tmp_path / "run")) as holder:
        with (
            pytest.raises(RunFolderError, match=rf"is in use by process {holder.pid} on ") as caught,
            lock(tmp_path / "run"),
        ):
            pass
        assert "choose another folder" in str(caught.value)
        holder.communicate("\n", timeout=60)
    assert holder.returncode == 0
    with lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path):
    for _ in range(3):
        with start(HOLD, str(tmp_path)) as holder:
            holder.kill()
            holder.communicate()
        with lock(tmp_path):
            pass


def test_the_lock_holds_within_a_process_and_ends_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} "), lock(tmp_path):
            pass
        raise ZeroDivisionError
    with lock(tmp_path):
        pass


def test_a_forked_child_that_lives_on_does_not_keep_the_lock(tmp_path):
    with lock(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_runs_that_begin_together_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(new_run_dir, ["ksim/Hopper-v0"] * 32))
    assert sorted({*folders}) == sorted(folders)
    assert all(folder.is_dir() and folder.parent == Path("runs/Hopper-v0") for folder in folders)
    (tmp_path / "runs" / "Ant-v0").symlink_to("nowhere")
    with pytest.raises(RunFolderError, match="runs/Ant-v0 cannot hold run folders: "):
        new_run_dir("ksim/Ant-v0")


def test_a_place_that_cannot_be_a_run_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / LOCK).symlink_to(tmp_path / "file")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "linked"):
        with pytest.raises(RunFolderError, match=f"{folder} cannot be a run folder: "), lock(folder):
            pass
