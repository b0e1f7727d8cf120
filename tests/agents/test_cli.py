"""The `ksim` command: what it prints, and its exit status."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ksim_envs
from agents import cli
from ksim_envs.bench import BenchConfig, Row
from ksim_envs.errors import ConformanceError, InvalidConfigError
from ksim_envs.task_checker import TaskReport


def exit_status(args):
    """The status with which `ksim` would end; argument errors leave through SystemExit."""
    try:
        return cli.main(args)
    except SystemExit as leaving:
        return leaving.code


def test_help_names_every_command(capsys):
    assert exit_status(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("list", "bench", "check", "doctor", "cache"))


def test_help_loads_neither_jax_nor_mujoco():
    code = """
import sys
from agents.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print("loaded:", *{"jax", "mujoco", "torch"} & set(sys.modules))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize("args", [["cahce"], [], ["cache", "clera"], ["check"], ["doctor", "--what"]])
def test_a_wrong_argument_ends_with_status_2_and_says_what_is_allowed(capsys, args):
    assert exit_status(args) == 2
    assert "--help" in capsys.readouterr().err


def test_an_error_of_ours_is_a_message_and_not_a_traceback(monkeypatch, capsys):
    def fail():
        raise InvalidConfigError("num_envs is 0 [bad]; use 1 or more")

    monkeypatch.setitem(cli._COMMANDS, "doctor", fail)
    assert exit_status(["doctor"]) == 2
    assert capsys.readouterr().err == "ksim: num_envs is 0 [bad]; use 1 or more\n"


@pytest.mark.parametrize("args", [["train", "--help"], ["cache"]])
def test_it_ends_quietly_when_nobody_reads_on(args):
    code = f"from agents.cli import main; main({args})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 128 + signal.SIGPIPE


def test_a_broken_pipe_that_is_not_the_output_is_an_error(monkeypatch):
    def fail():
        raise BrokenPipeError("to a child")

    monkeypatch.setitem(cli._COMMANDS, "doctor", fail)
    with pytest.raises(BrokenPipeError, match="to a child"):
        cli.main(["doctor"])


def test_list_shows_every_id_with_its_sizes(capsys):
    assert exit_status(["list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[1:]] == ksim_envs.task_ids()
    assert ["ksim/Hopper-v0", "11", "3", "1000"] in rows


def test_check_ends_with_status_0_where_no_fault_is_found(capsys, monkeypatch):
    checked = []
    monkeypatch.setattr(ksim_envs, "check_vector_env", lambda env, num_steps: checked.append((env.num_envs, num_steps)))
    args = ["check", "ksim/InvertedPendulum-v0", "--num-envs", "3", "--num-steps", "7", "--backend", "native"]
    assert exit_status(args) == 0
    assert checked == [(3, 7)] * 3
    out = capsys.readouterr().out
    assert out.count("no fault found") == 3
    assert "4 observations, 1 actions" in out and "reward_survive" in out and "Alive(1.0)" in out


def test_check_prints_the_faults_of_every_mode_and_ends_with_status_1(capsys, monkeypatch):
    def find_faults(env, num_steps):
        raise ConformanceError("1. the [first] fault")

    report = TaskReport(summary="", terms=(), faults=("the [task] diverges",), notes=("it is odd",))
    monkeypatch.setattr(ksim_envs, "check_task", lambda task_id: report)
    monkeypatch.setattr(ksim_envs, "check_vector_env", find_faults)
    assert exit_status(["check", "ksim/InvertedPendulum-v0", "--backend", "native"]) == 1
    out = capsys.readouterr().out
    assert out.count("1. the [first] fault") == 3
    assert "fault: the [task] diverges\nnote: it is odd\n" in out


def test_check_of_an_unknown_id_ends_with_status_2_and_the_near_misses(capsys):
    assert exit_status(["check", "ksim/Hoper-v0"]) == 2
    assert "Did you mean 'ksim/Hopper-v0'" in capsys.readouterr().err


def test_doctor_prints_findings_and_remedies(capsys):
    assert exit_status(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "JAX devices" in printed
    assert "-> set XLA_FLAGS=--xla_gpu_enable_triton_gemm=false" in printed  # whole, so that it can be copied


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    """A cache folder with one program of 2 MB in it, and a file that is not JAX's."""
    (tmp_path / "jit_step-0123-cache").write_bytes(bytes(2_000_000))
    (tmp_path / "mine.txt").write_text("keep me")
    monkeypatch.setattr("ksim_envs.program_cache.location", lambda: tmp_path)
    return tmp_path


def test_cache_shows_folder_and_size(capsys, cache_folder):
    assert exit_status(["cache"]) == 0
    assert capsys.readouterr().out == f"{cache_folder}: 1 files, 2.0 MB\n"


def test_cache_clear_deletes_the_programs_only(capsys, cache_folder):
    assert exit_status(["cache", "clear"]) == 0
    assert "deleted 1 files, 2.0 MB" in capsys.readouterr().out
    assert [path.name for path in cache_folder.iterdir()] == ["mine.txt"]


def test_cache_says_when_it_is_off(capsys, monkeypatch):
    monkeypatch.setattr("ksim_envs.program_cache.location", lambda: None)
    assert exit_status(["cache"]) == 0
    assert "KSIM_CACHE_DIR" in capsys.readouterr().out


@pytest.fixture
def measured(monkeypatch):
    """What `bench` would have measured: ids, config and cold starts."""
    calls = []
    row = Row(
        id="ksim/Ant-v0",
        backend="mjx",
        dynamics="gymnasium",
        contestant="vector env",
        num_envs=64,
        steps_per_second=1234.0,
        spread=1.0,
        ratio=1.0,
        first_round=0.0,
    )
    monkeypatch.setattr("ksim_envs.bench.run", lambda *args: calls.append(args) or [[row]])
    monkeypatch.setattr("ksim_envs.bench.cold_start", lambda *args, **how: calls.append((args, how)) or {"all": 2.0})
    return calls


def test_bench_measures_all_tasks_with_the_settings_of_its_config_when_nothing_is_given(measured):
    assert exit_status(["bench"]) == 0
    assert measured[0] == ((), BenchConfig())


def test_bench_takes_every_setting(measured):
    args = "bench ksim/Ant-v0 ksim/Hopper-v0 --num-envs 64 128 --num-steps 40 --num-rounds 7 --no-opponents --csv F.csv"
    assert exit_status([*args.split(), "--backend", "mjx", "--dynamics", "gymnasium"]) == 0
    ids, config = measured[0]
    assert ids == ("ksim/Ant-v0", "ksim/Hopper-v0")
    assert config == BenchConfig(
        backend="mjx",
        dynamics="gymnasium",
        num_envs=(64, 128),
        num_steps=40,
        num_rounds=7,
        opponents=False,
        csv=Path("F.csv"),
    )


def test_bench_prints_method_and_rates_and_times_a_cold_start_of_what_it_measured(measured, capsys):
    assert exit_status(["bench", "ksim/Ant-v0"]) == 0
    assert measured[1] == (("ksim/Ant-v0", 64), {"backend": "mjx", "dynamics": "gymnasium"})
    printed = capsys.readouterr().out
    assert "processor: " in printed and "1,234" in printed and "all 2.0 s" in printed


@pytest.mark.parametrize("args", [["ksim/Anr-v0"], ["--num-envs", "0"], ["--num-rounds", "0"]])
def test_bench_of_what_cannot_be_measured_ends_with_status_2(args, capsys):
    assert exit_status(["bench", *args]) == 2
    assert capsys.readouterr().err.startswith("ksim: ")
