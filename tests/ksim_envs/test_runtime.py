"""`import ksim_envs` prepares the process: each promise is kept in a child process with an environment of its own."""

import os
import subprocess
import sys

import pytest

from ksim_envs import runtime, versions

FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
FUSION = "--xla_cpu_use_fusion_emitters"
SET = [f"{FLAG}=false", f"{FUSION}=false"]
PREPARE = "from ksim_envs import program_cache, runtime; runtime.prepare(); "
SHOW_FLAGS = "import os; print(os.environ['XLA_FLAGS'])"
SHOW_CACHE = "print(program_cache.location())"
OLD_JAXLIB = pytest.mark.skipif(runtime._jaxlib_release() >= (0, 11), reason="needs a jaxlib older than 0.11")


@pytest.fixture
def python(tmp_path):
    """Runs code in a child process whose home folder is empty, and returns what it printed."""
    ours = ("XLA_FLAGS", "JAX_", "KSIM_", "_KSIM_", "XDG_CACHE_HOME")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def run(code, **variables):
        environment = {**clean, "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", **variables}
        command = [sys.executable, "-W", "always::RuntimeWarning", "-c", code]
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert child.returncode == 0, child.stderr
        return child

    return run


# The flags for XLA on CPU


@OLD_JAXLIB
def test_old_jaxlib_gets_the_flags(python):
    assert python(PREPARE + SHOW_FLAGS).stdout.split() == SET


@OLD_JAXLIB
def test_the_users_xla_flags_are_kept(python):
    flags = python(PREPARE + SHOW_FLAGS, XLA_FLAGS="--xla_cpu_max_isa=AVX2 ").stdout.split()
    assert flags == ["--xla_cpu_max_isa=AVX2", *SET]


@pytest.mark.parametrize("flag", [FLAG, FUSION])
@pytest.mark.parametrize("value", ["", "=true"])
def test_the_users_own_choice_is_kept(python, flag, value):
    found = python(PREPARE + SHOW_FLAGS, XLA_FLAGS=flag + value).stdout.split()
    assert [choice for choice in found if choice.startswith(flag)] == [flag + value]


@OLD_JAXLIB
def test_the_flag_reaches_xla_and_is_accepted_by_it(python):
    assert python(PREPARE + "import jax; print(jax.numpy.ones(3).sum())").stdout.split() == ["3.0"]


@OLD_JAXLIB
def test_the_options_reach_xla_and_are_accepted_by_it(python):
    compiled = "jax.jit(jax.numpy.exp, compiler_options=runtime.options_without_physics())"
    assert python(PREPARE + f"import jax; print({compiled}(0.0))").stdout.split() == ["1.0"]


@pytest.mark.parametrize("version", ["0.11.0", "0.11.0rc1", "0.12.0.1", "1.0"])
def test_a_newer_jaxlib_gets_no_flag_and_no_options(monkeypatch, version):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(versions.metadata, "version", lambda package: version)
    assert not runtime.scheduler_flag_is_missing()
    assert not runtime.options_without_physics()


@pytest.mark.parametrize("version", ["0.10.2", "0.10.3.dev1", "0.9"])
def test_an_older_jaxlib_misses_the_flag(monkeypatch, version):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(versions.metadata, "version", lambda package: version)
    assert runtime.scheduler_flag_is_missing()


@OLD_JAXLIB
def test_a_started_backend_is_warned_about_once_with_the_remedy(python):
    child = python("import jax; jax.devices(); import ksim_envs; " + PREPARE + PREPARE)
    warned = [line for line in child.stderr.splitlines() if "RuntimeWarning" in line]
    assert len(warned) == 1
    assert f"set XLA_FLAGS={FLAG}=false" in warned[0]


@OLD_JAXLIB
def test_an_imported_jax_without_a_backend_still_gets_the_flag(python):
    child = python("import jax; " + PREPARE + SHOW_FLAGS)
    assert child.stdout.split() == SET
    assert "RuntimeWarning" not in child.stderr


@OLD_JAXLIB
def test_xla_flags_that_name_a_file_are_left_alone_with_a_warning(python, tmp_path):
    file = tmp_path / "flags.txt"
    file.write_text("--xla_cpu_max_isa=AVX2")
    child = python(PREPARE + SHOW_FLAGS, XLA_FLAGS=str(file))
    assert child.stdout.split() == [str(file)]
    assert FLAG in child.stderr


# The compilation cache


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of another operating system")
def test_the_cache_is_on_by_default_in_the_users_cache_folder(python, tmp_path):
    folder = tmp_path / ".cache" / "ksim_envs" / "xla"
    assert python(PREPARE + SHOW_CACHE).stdout.strip() == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700  # JAX runs what lies there


def test_xdg_cache_home_moves_the_cache_unless_it_is_relative(python, tmp_path):
    moved = python(PREPARE + SHOW_CACHE, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert moved.stdout.strip() == str(tmp_path / "xdg" / "ksim_envs" / "xla")
    assert python(PREPARE + SHOW_CACHE, XDG_CACHE_HOME="here").stdout.startswith(str(tmp_path))


@pytest.mark.parametrize("first", ["", "import jax; ", "import jax; jax.devices(); "])
def test_ksim_cache_dir_moves_the_cache_before_and_after_jax_is_imported(python, tmp_path, first):
    code = first + PREPARE + SHOW_CACHE + "; import jax; print(jax.config.jax_compilation_cache_dir)"
    child = python(code, KSIM_CACHE_DIR=str(tmp_path / "here"))
    assert child.stdout.split() == [str(tmp_path / "here")] * 2


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_ksim_cache_dir_off_switches_the_cache_off(python, word):
    code = PREPARE + SHOW_CACHE + "; import jax; print(jax.config.jax_compilation_cache_dir)"
    assert python(code, KSIM_CACHE_DIR=word).stdout.split() == ["None", "None"]


def test_jax_own_variable_wins(python, tmp_path):
    theirs = str(tmp_path / "theirs")
    code = PREPARE + SHOW_CACHE
    assert python(code, JAX_COMPILATION_CACHE_DIR=theirs, KSIM_CACHE_DIR="off").stdout.strip() == theirs


def test_jax_config_wins(python):
    code = "import jax; jax.config.update('jax_compilation_cache_dir', '/theirs'); " + PREPARE + SHOW_CACHE
    assert python(code).stdout.strip() == "/theirs"


def test_a_cache_that_jax_has_switched_off_is_reported_as_none(python):
    assert python(PREPARE + SHOW_CACHE, JAX_ENABLE_COMPILATION_CACHE="false").stdout.strip() == "None"


@pytest.mark.parametrize("first", ["", "import jax; "])
def test_a_folder_that_cannot_be_written_means_no_cache_and_no_noise(python, tmp_path, first):
    (tmp_path / "file").write_text("")
    code = first + PREPARE + SHOW_CACHE + "; import jax; print(jax.jit(lambda x: x + 1)(1))"
    child = python(code, KSIM_CACHE_DIR=str(tmp_path / "file" / "below"))
    assert child.stdout.split() == ["None", "2"]
    assert child.stderr == ""


def test_a_child_process_can_choose_another_cache_than_its_parent(python, tmp_path):
    child_code = PREPARE + SHOW_CACHE
    spawn = "import os, subprocess, sys; run = lambda **new: print(subprocess.run([sys.executable, '-c', {!r}], "
    spawn += "env=os.environ | new, stdout=subprocess.PIPE, text=True).stdout.strip()); "
    spawn = spawn.format(child_code) + "run(); run(KSIM_CACHE_DIR='off'); run(KSIM_CACHE_DIR='/tmp')"
    inherited, off, moved = python(PREPARE + spawn, KSIM_CACHE_DIR=str(tmp_path)).stdout.split()
    assert (inherited, off, moved) == (str(tmp_path), "None", "/tmp")


def test_programs_are_cached_counted_and_cleared_and_other_files_stay(python, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    jit = "import jax; jax.config.update('jax_persistent_cache_min_compile_time_secs', 0); "
    jit += "jax.jit(lambda x: x * 3 + 1)(1.0); "
    count = "print(*program_cache.size()); program_cache.clear(); print(*program_cache.size())"
    child = python(PREPARE + jit + count, KSIM_CACHE_DIR=str(tmp_path))
    num_files, num_bytes, *after = (int(word) for word in child.stdout.split())
    assert num_files > 0
    assert num_bytes > 0
    assert after == [0, 0]
    assert (tmp_path / "mine.txt").read_text() == "keep me"
    assert [path.name for path in tmp_path.glob("*-cache")] == []


# Imports


def test_mjx_is_imported_without_a_word(python):
    child = python(
        PREPARE + "cm = runtime.quiet_import(); cm.__enter__(); from mujoco import mjx; cm.__exit__(*[None] * 3)"
    )
    assert child.stdout == child.stderr == ""


def test_quiet_import_hides_only_the_notices_about_missing_warp(capsys):
    with runtime.quiet_import():
        print("Failed to import warp: No module named 'warp'")
        print("Failed to import warp: the CUDA driver is too old")
        print("Failed to import mujoco_warp: No module named 'warp'")
    assert capsys.readouterr().out == "Failed to import warp: the CUDA driver is too old\n"


def test_quiet_import_lets_errors_through(capsys):
    with pytest.raises(ImportError, match="broken"), runtime.quiet_import():
        print("about to fail")
        raise ImportError("broken")
    assert capsys.readouterr().out == "about to fail\n"
