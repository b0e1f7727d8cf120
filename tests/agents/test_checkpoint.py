"""Checkpoints: bit for bit, complete or absent at every instant, and nothing damaged or forged is ever used."""

import builtins
import dataclasses
import errno
import io
import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from hashlib import sha256
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import checkpoint, checkpoint_format
from agents.checkpoint import Checkpoints
from agents.errors import CheckpointError, CheckpointWarning, DamagedCheckpointError
from ksim_envs.errors import InvalidConfigError

ROOT = Path(__file__).parents[2]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT)
NAN_WITH_PAYLOAD = np.array([0x7FC12345, 0xFFA00001, 0x80000000, 1], np.uint32).view(np.float32)  # also -0.0, denormal


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Everything:
    """A node with every kind of leaf that training has, and some more."""

    params: dict
    key: jax.Array
    keys_E: jax.Array
    moments: tuple
    count: int
    ratio: float
    is_done: bool
    host: dict


def everything(seed=0):
    return Everything(
        params={
            "w": jnp.arange(6.0).reshape(2, 3) + seed,
            "b/c": jnp.asarray(NAN_WITH_PAYLOAD),
            "empty": jnp.zeros((0, 3)),
        },
        key=jax.random.key(seed),
        keys_E=jax.random.split(jax.random.key(seed, impl="rbg"), 3),
        moments=(jnp.array([1.5, jnp.nan, -0.0], jnp.bfloat16), jnp.int8(-3), jnp.array([True, False])),
        count=2**40 + seed,
        ratio=float("nan"),
        is_done=True,
        host={
            "float64": np.array([np.pi, -0.0, np.nan]),
            "scalar": np.float32(0.1),
            "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
            "big endian": np.arange(3, dtype=">f8"),
            "complex": np.array([1 - 2j]),
            "count": np.uint64(2**64 - 1),
        },
    )


def small(seed=0):
    return {"w": np.full((3, 2), seed, np.float32), "n": np.arange(4) + seed}


def bits(leaf):
    """A leaf's type, dtype, shape and bytes."""
    array = np.asarray(jax.random.key_data(leaf) if isinstance(leaf, jax.Array) and is_key(leaf) else leaf)
    kind = jax.Array if isinstance(leaf, jax.Array) else type(leaf)
    return kind, str(getattr(leaf, "dtype", None)), array.shape, array.tobytes()


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def same(found, expected):
    return jax.tree.structure(found) == jax.tree.structure(expected) and all(
        bits(one) == bits(other) for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    )


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


# What is saved comes back


def test_every_kind_of_leaf_comes_back_bit_for_bit(checkpoints):
    assert checkpoints.save(7, everything(seed=3), {"env_steps": 7}, score=1.5) is not None
    tree, info = checkpoints.load(everything(seed=4))
    assert same(tree, everything(seed=3))
    assert info == checkpoints.read_info() == {"env_steps": 7}
    tree.host["float64"][0] = 0.0  # NumPy arrays can be written to


def test_a_template_of_shapes_gives_jax_arrays(checkpoints):
    tree = {"w": jnp.ones((2, 3), jnp.bfloat16), "key": jax.random.split(jax.random.key(5), 4)}
    checkpoints.save(0, tree, {})
    template = jax.eval_shape(
        lambda: {"w": jnp.zeros((2, 3), jnp.bfloat16), "key": jax.random.split(jax.random.key(0), 4)}
    )
    assert same(checkpoints.load(template)[0], tree)


def test_a_single_leaf_is_a_tree(checkpoints):
    checkpoints.save(0, 3.5, {})
    assert checkpoints.load(0.0) == (3.5, {})


def test_info_is_read_as_json_is(checkpoints):
    checkpoints.save(0, small(), {10: (1, 2), 9: None, "nan": float("inf"), "text": "é\ud800"})
    assert checkpoints.read_info() == {"10": [1, 2], "9": None, "nan": float("inf"), "text": "é\ud800"}


def test_the_arrays_file_is_a_plain_npz(checkpoints, folder):
    checkpoints.save(12, small(1), {})
    with np.load(folder / "step_000000000012" / "arrays.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["['w']"], small(1)["w"])
    manifest = json.loads((folder / "step_000000000012" / "manifest.json").read_text())
    assert manifest["leaves"]["['w']"] == {"dtype": "float32", "shape": [3, 2]}
    assert set(manifest["versions"]) == {"jax", "jaxlib", "mujoco", "mujoco-mjx", "ksim_envs"}


def test_a_part_of_a_tree_can_be_loaded_when_asked_for(checkpoints):
    checkpoints.save(0, small(1), {})
    tree, _ = checkpoints.load({"w": small()["w"], "n": None}, partial=True)
    np.testing.assert_array_equal(tree["w"], small(1)["w"])
    with pytest.raises(CheckpointError, match=r"\['x'\]: saved nothing, expected float32 \(\)"):
        checkpoints.load({"w": small()["w"], "x": np.float32(0)}, partial=True)


@pytest.mark.parametrize("leaf", ["text", print, np.array([None]), np.array(["a"]), 2**70, np.zeros(2, [("a", "f4")])])
def test_what_is_not_a_number_is_refused_before_anything_is_written(checkpoints, folder, leaf):
    with pytest.raises(CheckpointError, match=r"The leaf \['bad'\] is a "):
        checkpoints.save(0, {"bad": leaf}, {})
    with pytest.raises(CheckpointError):
        checkpoints.save(0, small(), {"bad": print})
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("step", [-1, 10**12])
def test_a_step_that_has_no_name_is_refused(checkpoints, step):
    with pytest.raises(CheckpointError, match="has to be in"):
        checkpoints.save(step, small(), {})


def test_leaves_with_one_name_are_refused(checkpoints):
    class Name(str):
        def __repr__(self):
            return "name"

    with pytest.raises(CheckpointError, match="same path"):
        checkpoints.save(0, {Name("a"): 1, Name("b"): 2}, {})


# Which are kept


def test_the_newest_and_the_best_are_kept(checkpoints, folder):
    scores = [None, 5.0, float("nan"), float("inf"), 4.0, 3.0, None]
    for step, score in enumerate(scores):
        checkpoints.save(step, small(step), {}, score)
    assert (checkpoints.steps(), checkpoints.best_step()) == ([1, 4, 5, 6], 1)
    checkpoints.save(7, small(), {}, score=5.0)
    assert (checkpoints.steps(), checkpoints.best_step()) == ([5, 6, 7], 7)
    assert len(list(folder.iterdir())) == 3


def test_keep_last_must_be_positive(folder):
    with pytest.raises(InvalidConfigError, match="keep_last is 0"):
        Checkpoints(folder, keep_last=0)


def test_a_step_that_is_saved_again_is_replaced(checkpoints, folder):
    for seed in range(3):
        checkpoints.save(5, small(seed), {"seed": seed}, score=1.0)
        tree, info = checkpoints.load(small(), 5)
        assert same(tree, small(seed)) and info == {"seed": seed}
        assert (checkpoints.steps(), checkpoints.best_step(), len(list(folder.iterdir()))) == ([5], 5, 1)


def test_later_steps_stay_until_they_are_discarded(checkpoints):
    for step in (1, 2, 3, 4):
        checkpoints.save(step, small(step), {})
    assert checkpoints.save(2, small(20), {}).exists()
    assert checkpoints.steps() == [2, 3, 4]
    checkpoints.discard_after(2)
    assert checkpoints.steps() == [2]
    assert same(checkpoints.load(small())[0], small(20))


def test_a_folder_without_checkpoints(checkpoints, folder):
    assert (checkpoints.steps(), checkpoints.best_step(), checkpoints.clean()) == ([], None, 0)
    with pytest.raises(CheckpointError, match="has no checkpoint; the steps in it: none"):
        checkpoints.load(small())
    checkpoints.save(3, small(), {})
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 4; the steps in it: \[3\]"):
        checkpoints.read_info(4)


def test_a_reader_leaves_a_save_in_progress_alone(checkpoints, folder):
    checkpoints.save(1, small(1), {})
    (folder / ".tmp-in-progress").mkdir()
    (folder / ".tmp-in-progress" / "arrays.npz").touch()
    reader = Checkpoints(folder)
    reader.load(small())
    assert (reader.steps(), reader.best_step(), reader.read_info()) == ([1], None, {})
    assert (folder / ".tmp-in-progress" / "arrays.npz").exists()
    assert reader.clean() == 1
    assert [path.name for path in folder.iterdir()] == ["step_000000000001"]


# Other settings, other versions


def test_other_settings_are_named_and_not_taken_for_damage(checkpoints):
    checkpoints.save(1, small(), {})
    checkpoints.save(2, {"w": np.zeros((3, 4), np.float32), "m": np.zeros(2)}, {})
    with pytest.raises(CheckpointError, match="made with other settings") as caught:
        checkpoints.load(small())
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert "['w']: saved float32 (3, 4), expected float32 (3, 2)" in str(caught.value)
    assert "['m']: saved float64 (2,), expected nothing" in str(caught.value)


def test_another_generator_of_keys_is_another_setting(checkpoints):
    checkpoints.save(1, {"key": jax.random.key(0, impl="unsafe_rbg")}, {})
    with pytest.raises(CheckpointError, match=r"saved key<urbg> \(\), expected key<rbg> \(\)"):
        checkpoints.load({"key": jax.random.key(0, impl="rbg")})


def test_only_the_first_differences_are_listed(checkpoints):
    checkpoints.save(1, {f"x{i}": np.zeros(2) for i in range(20)}, {})
    with pytest.raises(CheckpointError, match="; and 15 more"):
        checkpoints.load({f"x{i}": np.zeros(3) for i in range(20)})


def test_a_newer_format_is_named_and_not_taken_for_damage(checkpoints, folder):
    checkpoints.save(1, small(), {})
    checkpoints.save(2, small(), {})
    forge(folder / "step_000000000002", format=2, anything="else")
    with pytest.raises(CheckpointError, match="has format 2; .* reads format 1") as caught:
        checkpoints.load(small())
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_other_versions_of_the_libraries_are_reported_when_a_run_goes_on_and_not_when_its_policy_is_read(
    checkpoints, monkeypatch
):
    checkpoints.save(1, small(), {})
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    with pytest.warns(CheckpointWarning, match=r"0\.0\.1.*with other bits"):
        checkpoints.load(small())
    checkpoints.load({}, partial=True)


# Damage


def forge(path, arrays=None, /, **changes):
    """Changes a checkpoint and makes its hashes fit, as only somebody who means it would."""
    content = json.loads((path / "manifest.json").read_text())
    content.pop("sha256")
    if arrays is not None:
        (path / "arrays.npz").write_bytes(arrays)
        content["arrays"] = {"sha256": sha256(arrays).hexdigest(), "size": len(arrays)}
    (path / "manifest.json").write_bytes(checkpoint_format._sealed({**content, **changes}))


def assert_refused(checkpoints, damage):
    """The newest of two checkpoints, 2, is refused by name; the one before it is used, with a warning."""
    with pytest.raises(DamagedCheckpointError, match="step_000000000002 is damaged: "):
        checkpoints.load(small(), 2)
    with pytest.warns(CheckpointWarning, match="step_000000000002 is damaged: .* Going back to step_000000000001"):
        tree, info = checkpoints.load(small())
    assert same(tree, small(1)) and info == {"step": 1}, damage


@pytest.fixture
def two(checkpoints, folder):
    """Two checkpoints, and the folder of the newer one."""
    for step in (1, 2):
        checkpoints.save(step, small(step), {"step": step})
    return folder / "step_000000000002"


@pytest.mark.parametrize("name", ["arrays.npz", "manifest.json"])
def test_no_cut_or_flipped_bit_goes_unnoticed(checkpoints, two, name):
    chance, file = random.Random(0), two / name
    good = file.read_bytes()
    cuts = [good[: len(good) * part // 50] for part in range(50)]
    flips = [bytearray(good) for _ in range(100)]
    for flipped in flips:
        flipped[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
    for damaged in (*cuts, *flips, good + b"\0", good + good, bytes(len(good)), good.replace(b"\n", b" ")):
        if damaged != good:
            file.write_bytes(damaged)
            assert_refused(checkpoints, damaged)
    file.write_bytes(good)
    assert same(checkpoints.load(small())[0], small(2))


def test_missing_extra_and_swapped_files_are_refused(checkpoints, two, tmp_path):
    one = two.parent / "step_000000000001"
    shutil.copytree(two, tmp_path / "good")

    def in_a_link(path):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)

    damages = {
        "no arrays": lambda: (two / "arrays.npz").unlink(),
        "no manifest": lambda: (two / "manifest.json").unlink(),
        "empty": lambda: [path.unlink() for path in two.iterdir()],
        "extra": lambda: (two / "extra").touch(),
        "arrays of another": lambda: shutil.copy(one / "arrays.npz", two),
        "manifest of another": lambda: shutil.copy(one / "manifest.json", two),
        "all of another": lambda: shutil.copytree(one, two, dirs_exist_ok=True),
        "files swapped": lambda: shutil.copy(two / "arrays.npz", two / "manifest.json"),
        "arrays linked": lambda: in_a_link(two / "arrays.npz"),
        "manifest linked": lambda: in_a_link(two / "manifest.json"),
        "folder linked": lambda: in_a_link(two),
        "a pipe": lambda: ((two / "arrays.npz").unlink(), os.mkfifo(two / "arrays.npz")),
        "a folder": lambda: ((two / "arrays.npz").unlink(), (two / "arrays.npz").mkdir()),
        "a file for a folder": lambda: (shutil.rmtree(two), two.touch()),
    }
    for name, damage in damages.items():
        damage()
        assert_refused(checkpoints, name)
        (two.unlink if two.is_symlink() or two.is_file() else lambda: shutil.rmtree(two))()
        shutil.copytree(tmp_path / "good", two)
    assert same(checkpoints.load(small())[0], small(2))


def test_when_none_is_usable_the_error_says_what_is_wrong_with_each(checkpoints, two):
    (two / "extra").touch()
    (two.parent / "step_000000000001" / "arrays.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match="No checkpoint .* can be used") as caught:
        checkpoints.load(small())
    assert "step_000000000002 is damaged: it has ['arrays.npz', 'extra', 'manifest.json']" in str(caught.value)
    assert "step_000000000001 is damaged: arrays.npz has 0 bytes of" in str(caught.value)


def test_a_damaged_one_is_never_the_best_and_does_not_disturb_saving(checkpoints, folder):
    for step in (1, 2, 3):
        checkpoints.save(step, small(step), {}, score=float(step))
    (folder / "step_000000000003" / "manifest.json").write_bytes(b"{}")
    assert checkpoints.best_step() == 2
    checkpoints.discard_after(2)
    checkpoints.save(4, small(4), {})
    assert checkpoints.steps() == [1, 2, 4]


# Forgery: the hashes fit


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def npz(**members):
    """An npz file with these members, which are arrays or bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member if isinstance(member, bytes) else npy(member))
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def header(shape, descr="<f4", data=b"", text=None):
    """An npy file whose header says what it likes."""
    text = text or f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def forged_arrays(canary):
    """Arrays files that are not what they should be, by what is wrong with them."""
    w, n, payload = small()["w"], npy(small()["n"]), np.array([[Payload(canary)] * 2] * 3, object)
    one = {"['n'].npy": n}
    members = {
        "object array": payload,
        "pickle for an array": pickle.dumps(Payload(canary)),
        "object header": header((3, 2), "|O", pickle.dumps(payload)),
        "structure with objects": header((3, 2), [("a", "|O")], pickle.dumps(payload)),
        "huge": header((10**9, 10**6)),
        "huge, and wraps around": header((2**62, 4)),
        "negative": header((-3, -2), data=bytes(24)),
        "too short": header((3, 2), data=bytes(23)),
        "too long": header((3, 2), data=bytes(25)),
        "other dtype": w.astype(np.int32),
        "other byte order": w.astype(">f4"),
        "other shape": w.T,
        "columns first": np.asfortranarray(w + [[0, 1]]),
        "code": header((), text="__import__('os').system('touch canary')\n"),
        "deep": header((), text="(" * 9_000 + "\n"),
        "deep minus": header((), text="-" * 9_000 + "1\n"),
        "format 9": b"\x93NUMPY\x09\x00" + bytes(100),
        "nothing": b"",
    }
    files = {name: npz(**one, **{"['w'].npy": member}) for name, member in members.items()}
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("['n'].npy", n)
        archive.writestr("['w'].npy", header((3, 2), data=bytes(10**8)))
    good = npz(**one, **{"['w'].npy": w})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the second member
        twice = io.BytesIO(npz(**one))
        with zipfile.ZipFile(twice, "a") as archive:
            archive.writestr("['n'].npy", n)
    return files | {
        "bomb": bomb.getvalue(),
        "twice": twice.getvalue(),
        "pickle for a file": pickle.dumps(Payload(canary)),
        "npy for a file": npy(payload),
        "path outside": npz(**one, **{"../['w'].npy": w}),
        "absolute path": npz(**one, **{f"{canary}.npy": w}),
        "a member missing": npz(**one),
        "a member more": npz(**one, **{"['w'].npy": w, "more.npy": w}),
        "member renamed inside": good.replace(b"['w'].npy", b"['v'].npy", 1),
        "encrypted": good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"),
        "no npz": b"PK\x05\x06" + bytes(18),
        "not a zip": b"#!/bin/sh\ntouch canary\n",
    }


def test_forged_arrays_are_refused_run_nothing_and_take_no_memory(checkpoints, two, tmp_path):
    canary = tmp_path / "canary"
    tracemalloc.start()
    try:
        for name, arrays in forged_arrays(canary).items():
            forge(two, arrays)
            tracemalloc.reset_peak()
            assert_refused(checkpoints, name)
            assert tracemalloc.get_traced_memory()[1] < 30e6, name
    finally:
        tracemalloc.stop()
    assert not canary.exists() and not Path("canary").exists()


def test_forged_manifests_are_refused_and_run_nothing(checkpoints, two, tmp_path):
    canary = tmp_path / "canary"
    good = json.loads((two / "manifest.json").read_text())
    nested = b"[" * 200_000
    raw = [
        pickle.dumps(Payload(canary)),
        nested,
        b"",
        b"null",
        b"[]",
        b"1",
        b'"text"',
        b"{}",
        b'{"sha256": 1}',
        b"\xff\xfe",
    ]
    raw += [f"!!python/object/apply:os.system ['touch {canary}']".encode(), b"1" * 10_000, b"NaN"]
    for text in raw:
        (two / "manifest.json").write_bytes(text)
        assert_refused(checkpoints, text)
    changes = [{"leaves": value} for value in (None, [], {"['w']": {}}, "x", {"['w']": {"dtype": [], "shape": 3}})]
    changes += [{"arrays": value} for value in (None, {}, [], {"size": "x", "sha256": 0})]
    changes += [{"step": value} for value in (1, None, "2", -2, 2.5, 10**30)]
    changes += [{"more": 1}, {"path": "../../etc/passwd"}]
    for change in changes:
        (two / "manifest.json").write_bytes(json.dumps(good).encode())
        forge(two, **change)
        assert_refused(checkpoints, change)
    assert not canary.exists()


def test_a_giant_manifest_is_not_read(checkpoints, two):
    with open(two / "manifest.json", "wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    assert_refused(checkpoints, "giant")


def test_a_forged_score_is_no_score(checkpoints, two):
    forge(two, score="high")
    assert checkpoints.best_step() is None
    forge(two, score=10**400)
    assert checkpoints.best_step() is None


# Errors and interruptions at every operation


class Operations:
    """Calls `before(number, name)` before each operation on files of a save."""

    def __init__(self, monkeypatch):
        self.before, self.count, self.is_on = None, 0, False
        for name in ("mkdir", "open", "fsync", "rename", "unlink", "rmdir", "scandir", "listdir", "close"):
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name), f"os.{name}"))
        monkeypatch.setattr(np, "savez", self.wrapped(np.savez, "savez"))
        monkeypatch.setattr(checkpoint_format, "open", self.wrapped(builtins.open, "open"), raising=False)

    def wrapped(self, function, name):
        def call(*args, **keywords):
            if self.is_on:
                self.count += 1
                self.is_on = False  # what `before` does is not counted
                try:
                    self.before(self.count, name, *args)
                finally:
                    self.is_on = True
            return function(*args, **keywords)

        return call

    def during(self, save, before):
        """Saves with `before` called at each operation; returns the result and how many there were."""
        self.before, self.count, self.is_on = before, 0, True
        try:
            return save(), self.count
        finally:
            self.is_on = False


@pytest.fixture
def operations(monkeypatch):
    return Operations(monkeypatch)


def with_history(folder):
    """A writer with checkpoints 1 and 2, a leftover, and 1 to be deleted by the next save."""
    checkpoints = Checkpoints(folder, keep_last=2)
    for step in (1, 2):
        checkpoints.save(step, small(step), {"step": step})
    (folder / ".tmp-leftover").mkdir()
    (folder / ".tmp-leftover" / "arrays.npz").write_bytes(b"half")
    return checkpoints


def count_operations(operations, folder):
    checkpoints = with_history(folder)
    return operations.during(lambda: checkpoints.save(3, small(3), {"step": 3}), lambda *_: None)[1]


def assert_all_listed_are_whole(folder):
    """Each listed checkpoint loads as it was saved; returns the steps."""
    checkpoints = Checkpoints(folder)
    for step in checkpoints.steps():
        tree, info = checkpoints.load(small(), step)
        assert same(tree, small(step)) and info == {"step": step}
    return checkpoints.steps()


def test_an_error_in_any_operation_leaves_what_was_there_and_the_next_save_works(operations, tmp_path):
    num_operations = count_operations(operations, tmp_path / "count")
    assert num_operations >= 20
    outcomes = set()
    for at in range(1, num_operations + 1):
        for code in ERRORS:
            folder = tmp_path / f"{at} {code}"
            checkpoints = with_history(folder)

            def fail(number, name, *args, at=at, code=code):
                if number == at and name != "os.close":  # what an error in close() means is not known to anyone
                    raise OSError(code, os.strerror(code))

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                path, _ = operations.during(lambda c=checkpoints: c.save(3, small(3), {"step": 3}), fail)
            assert all(warning.category is CheckpointWarning for warning in caught)
            assert len(caught) == 1 if path is None else len(caught) <= 1
            assert path is None or path.exists()
            steps = assert_all_listed_are_whole(folder)
            assert steps in ([1, 2], [1, 2, 3], [2, 3]) and (path is None or 3 in steps), (at, code)
            outcomes.add((path is None, tuple(steps)))
            checkpoints.save(4, small(4), {"step": 4})
            assert {step for step in assert_all_listed_are_whole(folder)} >= {4}
            assert all(checkpoint._NAME.fullmatch(entry.name) for entry in folder.iterdir()), "leftovers"
            assert len(list(folder.iterdir())) == 2
            shutil.rmtree(folder)
    assert {(True, (1, 2)), (False, (2, 3)), (False, (1, 2, 3))} <= outcomes


def test_a_stop_before_any_operation_leaves_the_old_or_the_new(operations, tmp_path):
    """Looks at the folder as each operation finds it, and as a power cut then could leave it."""
    folder, snapshots, seen = tmp_path / "run", tmp_path / "snapshots", []
    checkpoints = with_history(folder)
    synced = {path.stat().st_ino for path in folder.rglob("*")}
    renames = []

    def look(number, name, *args):
        shutil.copytree(folder, snapshots / f"{number} process killed")
        shutil.copytree(folder, snapshots / f"{number} power cut")
        unsynced = [path for path in folder.rglob("*") if path.stat().st_ino not in synced]
        for path in unsynced:  # what was written to a file is half there, and a folder is empty
            copy = snapshots / f"{number} power cut" / path.relative_to(folder)
            if path.is_dir():
                shutil.rmtree(copy)
                copy.mkdir()
            elif copy.exists():
                os.truncate(copy, path.stat().st_size // 2)
        for source, target in renames:  # those since the folder was synced have not happened
            (snapshots / f"{number} power cut" / target.name).rename(snapshots / f"{number} power cut" / source.name)
        if name == "os.fsync":
            synced.add(os.fstat(args[0]).st_ino)
            if os.path.samestat(os.fstat(args[0]), folder.stat()):
                renames.clear()
        elif name == "os.rename":
            renames.append(args)

    _, num_operations = operations.during(lambda: checkpoints.save(3, small(3), {"step": 3}), look)
    for copy in sorted(snapshots.iterdir(), key=lambda path: int(path.name.split()[0])):
        seen.append(tuple(assert_all_listed_are_whole(copy)))
        Checkpoints(copy).clean()
        assert all(checkpoint._NAME.fullmatch(entry.name) for entry in copy.iterdir()), copy.name
    assert len(seen) == 2 * num_operations >= 40
    assert list(dict.fromkeys(seen)) == [(1, 2), (1, 2, 3), (2, 3)]


def test_a_file_that_cannot_grow_is_a_full_disk(checkpoints, folder):
    """A write that comes short for real: the process may not make files longer than 4096 bytes."""
    checkpoints.save(1, small(1), {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.warns(CheckpointWarning, match="step 2 could not be saved, in .*: .*Errno"):
            assert checkpoints.save(2, {"w": np.zeros(10_000)}, {}) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in folder.iterdir()] == ["step_000000000001"]
    assert checkpoints.save(2, small(2), {"step": 2}) is not None
    assert assert_all_listed_are_whole(folder) == [1, 2]


def test_a_file_in_the_place_of_the_folder_is_a_warning(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(CheckpointWarning, match="could not be saved"):
        assert Checkpoints(tmp_path / "file").save(1, small(), {}) is None


def test_an_interrupt_while_saving_leaves_nothing_half(checkpoints, folder, monkeypatch):
    checkpoints.save(1, small(1), {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(2, small(2), {})
    assert [path.name for path in folder.iterdir()] == ["step_000000000001"]


def test_killed_processes_lose_nothing():
    command = [sys.executable, "-m", "scripts.stress_checkpoints", "--kills", "15"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    assert "15 kills" in child.stdout and "nothing lost" in child.stdout
