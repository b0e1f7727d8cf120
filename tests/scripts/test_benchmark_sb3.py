"""`python -m scripts.benchmark_sb3`: what it measures, that it goes on where it was interrupted, and its report."""

import csv
import json
import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from scripts.benchmark_sb3 import jobs, measure, report
from scripts.benchmark_sb3.contestants import CONTESTANTS, Recipe
from scripts.benchmark_sb3.jobs import Sweep, Training
from scripts.benchmark_sb3.plan import Plan
from scripts.benchmark_sb3.results import Result, difference
from scripts.benchmark_sb3.settings import COMMON, TASKS

needs_sb3 = pytest.mark.skipif(find_spec("stable_baselines3") is None, reason="Stable-Baselines3 is not installed")

ROOT = Path(__file__).parents[2]
QUICK = [
    "--quick",
    "--contestants",
    "sb3_dummy",
    "ksim",
    "--env-steps",
    "6144",
    "--evaluations",
    "3",
    "--episodes",
    "2",
]
TRAINING = Training(
    task="Hopper",
    contestant="sb3_dummy",
    seed=0,
    env_steps=1000,
    num_evaluations=2,
    num_episodes=3,
    num_envs=8,
    num_threads=1,
)
PROCESS = {"kind": "process", "wall_s": 50.0, "cpu_s": 40.0, "cores_of_others": 0.25}


def plan(folder, **changes):
    known = Plan(
        folder=folder,
        tasks=("Hopper",),
        contestants=("sb3_dummy", "sb3_ksim"),
        num_seeds=2,
        env_steps=1000,
        num_evaluations=2,
        num_episodes=3,
        num_envs=8,
        num_threads=1,
        num_iterations=1,
    )
    return replace(known, **changes)


def evaluation(env_steps, seconds, return_mean):
    """Of a training that was set up in 2 s and collects for a quarter of its time."""
    learned = seconds - 2.0
    times = {"seconds": seconds, "collect_s": learned / 4, "learn_s": learned * 3 / 4}
    return {"kind": "evaluation", "env_steps": env_steps, **times, "return_mean": return_mean, "length_mean": 9.0}


def finished(job, *evaluations):
    """The lines of a training that has ended."""
    start = {"kind": "start", "settings": job.settings, "machine": {"processor": "abacus"}, "time": 0.0}
    envs = {"kind": "envs", "setup_s": 2.0, "step_rate": 5000.0}
    return [start, *evaluations, envs, {"kind": "end"}, PROCESS]


def save(job, folder, rows):
    with jobs.new_file(job.path(folder)) as write:
        for row in rows:
            write(row)


# The whole of it


def command(folder, *words):
    return [sys.executable, "-m", "scripts.benchmark_sb3", *QUICK, "--out", str(folder), *words]


@needs_sb3
@pytest.mark.slow
def test_a_benchmark_that_was_stopped_goes_on_and_then_has_nothing_left_to_do(tmp_path):
    first = tmp_path / "Hopper" / "sb3_dummy_seed0.jsonl"
    process = subprocess.Popen(command(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 600
    while not (first.exists() and '"evaluation"' in first.read_text()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    stopped = first.read_text()
    assert '"end"' not in stopped
    time.sleep(1.0)
    assert first.read_text() == stopped, "the job goes on without the benchmark"

    ended = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0, ended.stderr
    for contestant in ("sb3_dummy", "ksim"):
        path = tmp_path / "Hopper" / f"{contestant}_seed0.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["kind"] for row in rows] == ["start", *["evaluation"] * 3, "envs", "end", "process"]
        assert [row["env_steps"] for row in rows[1:4]] == [2048, 4096, 6144]
        times = [[row[name] for row in rows[1:4]] for name in ("seconds", "collect_s", "learn_s")]
        assert (np.diff(times) > 0).all()
        for row in rows[1:4]:
            assert row["seconds"] == pytest.approx(rows[4]["setup_s"] + row["collect_s"] + row["learn_s"])
            assert 0 < row["return_mean"] < 4000 and 1 <= row["length_mean"] <= 1000
        assert rows[3]["seconds"] < rows[6]["wall_s"]
        assert rows[4]["step_rate"] > 0 and rows[6]["cpu_s"] > 1
    assert {"report.md", "returns.csv", "runs.csv", "Hopper.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "missing" not in ended.stdout

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    again = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0 and before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}


@needs_sb3
def test_a_sweep_measures_every_setting(tmp_path):
    sweep = Sweep(task="Hopper", contestant="sb3_dummy", num_envs=(8, 16), num_threads=(1,), num_iterations=1)
    assert jobs.run(sweep, tmp_path, {})
    rows = sweep.result(tmp_path)
    settings = [row for row in rows if row["kind"] == "setting"]
    assert [(row["num_envs"], row["num_threads"]) for row in settings] == [(8, 1), (16, 1)]
    assert all(len(row["rates"]) == 1 and min(row["rates"]) > 0 for row in settings)


def test_a_job_that_fails_is_not_done(tmp_path, capfd):
    job = replace(TRAINING, num_envs=0)
    assert not jobs.run(job, tmp_path, {})
    assert job.result(tmp_path) is None and job.rows(tmp_path)[0]["settings"]["num_envs"] == 0
    assert "Error" in capfd.readouterr().err


# Jobs and what is left to do


def test_only_a_job_that_has_ended_is_done(tmp_path):
    rows = finished(TRAINING, evaluation(1000, 42.0, 7.0))
    assert TRAINING.result(tmp_path) is None
    save(TRAINING, tmp_path, rows[:3])
    with TRAINING.path(tmp_path).open("a") as file:
        file.write('{"kind": "en')
    assert TRAINING.result(tmp_path) is None and TRAINING.rows(tmp_path) == rows[:3]
    save(TRAINING, tmp_path, rows)
    assert TRAINING.result(tmp_path) == rows


def test_numbers_of_other_settings_are_refused(tmp_path):
    save(TRAINING, tmp_path, finished(TRAINING, evaluation(1000, 42.0, 7.0)))
    with pytest.raises(SystemExit, match="was measured with .*'num_episodes': 3.*Choose another folder"):
        replace(TRAINING, num_episodes=4).result(tmp_path)


def test_an_orphan_does_not_write_into_a_new_file(tmp_path):
    with jobs.new_file(tmp_path / "file") as old, jobs.new_file(tmp_path / "file") as new:
        old({"a": 1})
        new({"b": 2})
    assert (tmp_path / "file").read_text() == '{"b": 2}\n'


def test_the_fastest_setting_has_the_best_median():
    rates = {8: [10.0, 11.0, 90.0], 16: [12.0, 13.0, 14.0], 32: [5.0, 20.0, 6.0]}
    rows = [{"kind": "setting", "num_envs": size, "num_threads": 1, "rates": rates[size]} for size in rates]
    found = jobs.best([{"kind": "start"}, *rows, {"kind": "end"}])
    assert (found["num_envs"], found["rate"]) == (16, 13.0)


def test_trainings_wait_for_their_sweep_and_take_its_choice(tmp_path):
    asked = plan(tmp_path, num_envs=None, num_threads=None, contestants=("sb3_dummy", "ksim_preset"))
    (sweep,) = asked.sweeps()
    assert asked.training(0, "Hopper", "sb3_dummy") is None and asked.estimated_s("Hopper", "sb3_dummy") is None
    setting = {"kind": "setting", "num_envs": 16, "num_threads": 2, "rates": [100.0]}
    start = {"kind": "start", "settings": sweep.settings, "machine": {}, "time": 0.0}
    save(sweep, tmp_path, [start, setting, {"kind": "end"}])
    assert asked.training(1, "Hopper", "sb3_dummy") == replace(TRAINING, seed=1, num_envs=16, num_threads=2)
    assert asked.estimated_s("Hopper", "sb3_dummy") == pytest.approx(20.0 + 1.2 * 1000 / 100.0)
    job = asked.training(0, "Hopper", "sb3_dummy")
    save(job, tmp_path, finished(job, evaluation(1000, 42.0, 7.0)))
    assert asked.estimated_s("Hopper", "sb3_dummy") == 50.0


def test_contestants_take_turns_within_a_seed(tmp_path):
    entries = list(plan(tmp_path, tasks=("Hopper", "Humanoid")).entries())
    assert entries[:4] == [(0, task, name) for task in ("Hopper", "Humanoid") for name in ("sb3_dummy", "sb3_ksim")]
    assert [seed for seed, _, _ in entries] == [0] * 4 + [1] * 4


def test_the_preset_has_its_own_budget_and_never_less_than_it_can_learn_from(tmp_path):
    assert plan(tmp_path, env_steps=None).budget("Hopper", "sb3_dummy") == 1_000_000
    assert plan(tmp_path, env_steps=None).budget("Humanoid", "sb3_ksim") == 3_000_000
    assert plan(tmp_path, env_steps=None).budget("Humanoid", "ksim_preset") == 20_000_000
    assert plan(tmp_path, env_steps=1000).budget("Humanoid", "ksim_preset") == 2 * 40_960


# What is measured


def test_the_clock_stands_still_while_the_policy_is_evaluated(monkeypatch):
    now, rows = [10.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    def evaluate():
        wait(1000.0)
        return {"return_mean": 1.0}

    recorder = measure.Recorder(rows.append, evaluate, env_steps=100, num_evaluations=2, started=7.0)
    for env_steps in (30, 60, 90, 120):
        wait(2.0)
        recorder.collected()
        wait(5.0)
        recorder.learned(env_steps)
    assert [row["env_steps"] for row in rows] == [60, 120]
    assert [(row["seconds"], row["collect_s"], row["learn_s"]) for row in rows] == [
        (17.0, 4.0, 10.0),
        (31.0, 8.0, 20.0),
    ]


def test_an_evaluation_is_that_of_single_envs():
    gain = np.array([[1.0], [3.0], [0.3], [0.5]])
    row = measure.evaluate("InvertedPendulum-v5", lambda obs_EL: obs_EL @ gain, 3)
    returns = []
    for number in range(3):
        env = gym.make("InvertedPendulum-v5")
        obs, _ = env.reset(seed=measure.EVALUATION_SEED + number)
        returns.append(0.0)
        ended = False
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(obs @ gain)
            returns[-1] += reward
            ended = terminated or truncated
        env.close()
    assert len(set(returns)) > 1
    assert row["return_mean"] == pytest.approx(np.mean(returns)) and row["return_std"] == pytest.approx(np.std(returns))
    assert row["length_mean"] == pytest.approx(np.mean(returns) + 1)  # the last step has no reward


def test_all_that_share_hyperparameters_have_the_same_network_sizes():
    sizes = {settings.published.hidden_sizes for settings in TASKS.values()} | {COMMON.hidden_sizes}
    assert sizes == {(256, 256)}
    for contestant in CONTESTANTS.values():
        if contestant.has_common_hyperparameters:
            assert all(COMMON.dataset_size % size == 0 for size in contestant.num_envs)


@needs_sb3
@pytest.mark.parametrize(
    ("name", "task", "size", "bound"), [("sb3_dummy", "Humanoid", 348, 0.4), ("sb3_ksim", "Hopper", 11, 1.0)]
)
def test_sb3_learns_with_the_hyperparameters(name, task, size, bound):
    recipe = Recipe(task=task, hyperparameters=COMMON, num_envs=2, seed=3, env_steps=2048)
    learner = CONTESTANTS[name].load()(recipe)
    model = learner._model
    assert (model.n_steps, model.batch_size, model.n_epochs, model.gamma) == (1024, 256, 10, 0.99)
    assert [model.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([3e-4, 1.65e-4, 3e-5])
    np.testing.assert_allclose(np.exp(model.policy.log_std.detach().numpy()), 0.5 * bound, rtol=1e-6)
    widths = [layer.out_features for layer in model.policy.mlp_extractor.policy_net if hasattr(layer, "out_features")]
    assert widths == [256, 256]
    obs_EL = np.random.default_rng(0).normal(size=(5, size))
    action_EA = learner.policy()(obs_EL)
    np.testing.assert_array_equal(action_EA, learner.policy()(obs_EL))
    assert len(action_EA) == 5 and np.abs(action_EA).max() <= bound
    assert learner.step_rate(0.01) > 0
    learner.close()


def test_ours_learns_with_the_hyperparameters():
    from agents.ppo import preset
    from scripts.benchmark_sb3.ksim_learner import _config

    recipe = Recipe(task="Hopper", hyperparameters=COMMON, num_envs=32, seed=3, env_steps=100_000)
    config = _config(recipe)
    assert (config.num_envs, config.rollout_length, config.dataset_size, config.num_epochs) == (32, 64, 2048, 10)
    assert (config.learning_rate, config.final_learning_rate, config.initial_std) == (3e-4, 3e-5, 0.5)
    usual = preset("ksim/Hopper-v0")
    assert (config.reward_scale, config.contact_spread) == (usual.reward_scale, usual.contact_spread)
    assert _config(replace(recipe, hyperparameters=None)) == replace(usual, seed=3, total_env_steps=100_000)


@needs_sb3
def test_the_adapters_cost_is_that_of_the_same_steps():
    import ksim_envs
    from ksim_envs.adapters.sb3 import KsimVecEnv
    from scripts.benchmark_sb3 import adapter_cost

    task = ksim_envs.get_task("ksim/Hopper-v0")
    words = adapter_cost.cost(task, 8, 5)
    assert re.fullmatch(
        r"vector env [\d.]+ ms a step; the adapter adds [-\d.]+ ms \(quartiles [-\d.]+ and [-\d.]+, 5 pairs\); "
        r"[\d.]+ episodes end in a step",
        words,
    )
    bare, adapted = (ksim_envs.make("ksim/Hopper-v0", 8, autoreset_mode="same_step") for _ in range(2))
    bare.reset(seed=[*range(8)])
    adapted = KsimVecEnv(adapted)
    adapted.seed(0)
    adapted.reset()
    seconds_P2, num_ended = adapter_cost.paired_seconds(bare, adapted, 30)
    assert seconds_P2.shape == (30, 2) and (seconds_P2 > 0).all() and num_ended > 0
    for name, values in bare.physics_state().items():
        np.testing.assert_array_equal(values, adapted.env.physics_state()[name])
    bare.close()
    adapted.close()


# Results and report


def test_returns_are_read_off_between_evaluations():
    result = Result(job=TRAINING, rows=finished(TRAINING, evaluation(500, 10.0, 100.0), evaluation(1000, 20.0, 300.0)))
    assert result.return_at("env_steps", 750) == 200.0 and result.return_at("seconds", 12.5) == 150.0
    assert math.isnan(result.return_at("env_steps", 400)) and math.isnan(result.return_at("env_steps", 1001))
    assert result.return_after(1e6) == 300.0 and result.return_after(15.0) == 200.0
    assert result.first_at(100, "seconds") == 10.0 and result.first_at(101, "env_steps") == 1000
    assert result.first_at(301, "seconds") == math.inf


def test_rates_leave_out_what_comes_before_the_first_evaluation():
    result = Result(job=TRAINING, rows=finished(TRAINING, evaluation(500, 22.0, 0.0), evaluation(1000, 32.0, 0.0)))
    assert result.rates() == {"stepping": 5000.0, "collection": 500 / 2.5, "training": 500 / 10.0}
    alone = Result(job=TRAINING, rows=finished(TRAINING, evaluation(1000, 22.0, 0.0)))
    assert alone.rates() == {"stepping": 5000.0, "collection": 1000 / 5.0, "training": 1000 / 20.0}


def test_the_difference_of_two_means_has_welchs_standard_error():
    mean, error = difference([1.0, 3.0], [2.0, 2.0, 5.0])
    assert mean == -1.0 and error == pytest.approx(math.sqrt(2.0 / 2 + 3.0 / 3))
    assert math.isnan(difference([1.0], [2.0, 3.0])[1])


@pytest.fixture
def half(tmp_path):
    """Both seeds of one contestant, and one of the other."""
    asked = plan(tmp_path)
    numbers = {(0, "sb3_dummy"): (40.0, 900.0), (1, "sb3_dummy"): (44.0, 1100.0), (0, "sb3_ksim"): (21.0, 1200.0)}
    for (seed, contestant), (seconds, last) in numbers.items():
        job = asked.training(seed, "Hopper", contestant)
        save(job, tmp_path, finished(job, evaluation(500, seconds / 2, 100.0), evaluation(1000, seconds, last)))
    return asked


def test_the_report_says_what_is_there_and_what_is_missing(half, tmp_path):
    text = report.write(half, tmp_path / "report")
    assert "1 trainings are missing:** Hopper sb3_ksim seed 1." in text
    lines = text.splitlines()
    assert "| sb3_dummy | +0 ± 141 | " in text  # variances of 20,000 over two seeds each: the root of 20,000
    assert any(line.startswith("| sb3_ksim | +200 |") and line.endswith("| x 0.50 |") for line in lines)
    assert "| sb3_dummy | – | 100 (100 to 100) | 1,000 (900 to 1,100) |" in lines
    assert "| sb3_dummy | 44 s, 1,000 (1 of 2) | – | – |" in lines
    assert "| sb3_ksim | 21 s, 1,000 (1 of 1) | – | – |" in lines
    assert "processor abacus." in lines
    assert "Other processes kept 0.25 cores busy in the median training, 0.25 at most." in lines
    assert text == (tmp_path / "report" / "report.md").read_text() and (tmp_path / "report" / "Hopper.png").exists()


def test_the_csv_files_have_every_number(half, tmp_path):
    report.write(half, tmp_path)
    returns, runs = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("returns.csv", "runs.csv")
    )
    assert len(returns) == 6 and len(runs) == 3
    assert [(row["contestant"], row["seed"], row["env_steps"], row["return_mean"]) for row in returns[:2]] == [
        ("sb3_dummy", "0", "500", "100.0"),
        ("sb3_dummy", "0", "1000", "900.0"),
    ]
    (ours,) = [row for row in runs if row["contestant"] == "sb3_ksim"]
    assert (ours["num_envs"], ours["seconds"], ours["cores_of_others"]) == ("8", "21.0", "0.25")
    assert float(ours["training_rate"]) == pytest.approx(500 / 10.5, abs=1e-3)


def test_an_empty_benchmark_has_a_report_too(tmp_path):
    text = report.write(plan(tmp_path), tmp_path)
    assert "4 trainings are missing" in text and "##" in text


def test_settings_survive_json():
    assert json.loads(json.dumps(TRAINING.settings)) == TRAINING.settings
    assert TRAINING.settings["hyperparameters"]["gamma"] == COMMON.gamma
    assert {**asdict(TRAINING)}.items() <= TRAINING.settings.items()
    zoo = replace(TRAINING, contestant="sb3_zoo")
    assert zoo.settings["hyperparameters"]["learning_rate"] == TASKS["Hopper"].published.learning_rate
    assert replace(TRAINING, contestant="ksim_preset").settings["hyperparameters"] is None
