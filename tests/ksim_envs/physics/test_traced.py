"""Traced programs outlive the process that traced them, and nothing but the time that it takes depends on them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs import physics, program_cache
from ksim_envs.physics.model import fingerprint
from ksim_envs.physics.traced import TracedOnce

ROLLOUT = """
import sys
if sys.argv[1:] == ["without flatbuffers"]:
    sys.modules["flatbuffers"] = None
import numpy as np
from mujoco import mjx
import ksim_envs

num_traced, step = 0, mjx.step

def counted(*args):
    global num_traced
    num_traced += 1
    return step(*args)

mjx.step = counted
envs = ksim_envs.make("ksim/InvertedPendulum-v0", num_envs=3, backend="mjx")
obs, _ = envs.reset(seed=0)
for _ in range(20):
    obs, *_ = envs.step(np.ones((3, 1), np.float32))
print(num_traced > 0, obs.tobytes().hex())
"""


def rollout(folder, *args):
    """Steps an env in a new process with a cache folder or none: has it traced MJX's step, and what it observed."""
    variables = {"JAX_COMPILATION_CACHE_DIR": str(folder)} if folder else {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    environment = {**os.environ, **variables, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ROLLOUT, *args]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr
    has_traced, obs = child.stdout.splitlines()[-1].split()
    return has_traced == "True", obs


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder and the observations of the first process of all."""
    folder = tmp_path_factory.mktemp("first")
    has_traced, obs = rollout(folder)
    assert has_traced
    return folder, obs


def kept(folder):
    return sorted(folder.glob(f"*{program_cache.TRACED_SUFFIX}"))


def test_the_next_process_traces_nothing_and_observes_the_same_bits(first):
    folder, obs = first
    assert len(kept(folder)) == 2  # reset and step
    assert rollout(folder) == (False, obs)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:]])
def test_a_damaged_program_is_traced_again_and_replaced(first, damage):
    folder, obs = first
    whole = {path: path.read_bytes() for path in kept(folder)}
    for path, content in whole.items():
        path.write_bytes(damage(content))
    assert rollout(folder) == (True, obs)
    assert {path: path.read_bytes() for path in kept(folder)} == whole


@pytest.mark.parametrize("args", [(), ("without flatbuffers",)])
def test_without_a_cache_or_its_library_the_bits_are_the_same(first, tmp_path, args):
    _, obs = first
    folder = tmp_path if args else None
    assert rollout(folder, *args) == (True, obs)
    assert kept(tmp_path) == []


def test_the_cache_command_counts_and_clears_them(tmp_path, monkeypatch):
    monkeypatch.setattr(program_cache, "location", lambda: tmp_path)
    program, other = tmp_path / f"name{program_cache.TRACED_SUFFIX}", tmp_path / "other"
    for path in (program, other):
        path.write_bytes(b"12345")
    assert program_cache.size() == (1, 5)
    program_cache.clear()
    assert list(tmp_path.iterdir()) == [other]


def test_models_and_settings_have_fingerprints_of_their_own():
    xml = "<mujoco><worldbody><body><joint/><geom size='{}'/></body></worldbody></mujoco>"
    one, two = (mujoco.MjModel.from_xml_string(xml.format(size)) for size in (0.1, 0.2))
    assert fingerprint(one, 1) == fingerprint(one, 1)
    assert len({fingerprint(one, 1), fingerprint(two, 1), fingerprint(one, 2)}) == 3


def num_kept(folder, identity="one", size=2):
    """The number of programs in the cache folder once this one has run."""
    np.testing.assert_array_equal(jax.jit(TracedOnce(lambda x: x + 1, identity, "cpu"))(jnp.zeros(size)), np.ones(size))
    return len(kept(folder))


def test_a_program_is_that_of_one_identity_one_shape_and_one_version_of_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(program_cache, "location", lambda: tmp_path)
    assert num_kept(tmp_path) == num_kept(tmp_path) == 1
    assert num_kept(tmp_path, size=3) == 2
    assert num_kept(tmp_path, identity="two") == 3
    monkeypatch.setattr(physics.traced, "_SOURCES", "others")
    assert num_kept(tmp_path) == 4
    monkeypatch.setattr(mujoco, "__version__", "0.0")
    assert num_kept(tmp_path) == 5


@pytest.mark.parametrize("folder", ["file/cache", "gs://bucket/cache"])
def test_where_no_file_can_be_written_it_runs_all_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(program_cache, "location", lambda: Path(folder))
    assert num_kept(tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
