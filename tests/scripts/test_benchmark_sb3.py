"""`python -m scripts.benchmark_sb3`: what it measures, that it goes on where it was interrupted, and its report."""

import contextlib
import csv
import json
import math
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

from agents.ppo import preset
from scripts.benchmark_sb3 import __main__ as benchmark
from scripts.benchmark_sb3 import jobs, measure, report, results
from scripts.benchmark_sb3.__main__ import run_all
from scripts.benchmark_sb3.contestants import CONTESTANTS, THREADS
from scripts.benchmark_sb3.ksim_learner import config_of
from scripts.benchmark_sb3.machine import HARDWARE, VERSIONS, check_versions, engine_rate, machine
from scripts.benchmark_sb3.plan import NUM_TRIAL_MARKS, Plan, estimated_s, left_s
from scripts.benchmark_sb3.settings import COMMON, TASKS

needs_sb3 = pytest.mark.skipif(find_spec("stable_baselines3") is None, reason="Stable-Baselines3 is not installed")

ROOT = Path(__file__).parents[2]
MACHINE = dict.fromkeys((*HARDWARE, *VERSIONS, "ksim-envs", "load", "engine_rate"), "1.0") | {"processor": "abacus"}


@pytest.fixture(autouse=True)
def _signals():
    """The benchmark has handlers of its own, for as long as its process lives."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def plan(**changes):
    known = Plan(
        tasks=("Hopper",),
        contestants=("sb3", "sb3_ksim"),
        seeds=(0, 1),
        env_steps=1000,
        num_evaluations=2,
        num_episodes=3,
        has_trials=False,
    )
    return replace(known, **changes)


def job(contestant="sb3", seed=0, task="Hopper", **changes):
    return replace(plan().training(seed, task, contestant, {}), **changes)


def with_envs(of, num_envs):
    return replace(of, hyperparameters=of.hyperparameters | {"num_envs": num_envs})


def evaluation(env_steps, seconds, return_mean):
    """Of a training that was set up in 2 s and collects for a quarter of its time."""
    times = {"seconds": seconds, "collect_s": (seconds - 2.0) / 4}
    return {"env_steps": env_steps, **times, "return_mean": return_mean, "length_mean": 9.0}


def finished(of, *evaluations):
    """The result of a job."""
    return {
        "job": asdict(of),
        "machine": MACHINE,
        "setup_s": 2.0,
        "step_rate": 5000.0,
        "wall_s": 50.0,
        "cpu_s": 40.0,
        "cores_of_others": 0.25,
        "evaluations": list(evaluations),
    }


def known(*rows):
    return {one.job.key: one for one in map(results.result_of, rows)}


def timed(trial, rate):
    """The result of a trial with this rate."""
    marks = [(share * trial.env_steps, share * trial.env_steps / rate) for share in (0.5, 1.0)]
    times = [{"env_steps": env_steps, "seconds": seconds, "collect_s": seconds / 2} for env_steps, seconds in marks]
    return finished(trial, *times) | {"step_rate": None}


# The whole of it


def command(folder, *options):
    options = ("--quick", "--contestants", "sb3", "ksim", "--env-steps", "6144", "--out", str(folder), *options)
    return [sys.executable, "-m", "scripts.benchmark_sb3", *options]


@needs_sb3
@pytest.mark.slow
def test_a_benchmark_that_was_stopped_goes_on_and_then_has_nothing_left_to_do(tmp_path):
    with subprocess.Popen(command(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, "")
        assert any("SB3" in line for line in lines) and any("our PPO" in line for line in lines)
        before = (tmp_path / results.FILE).read_text()
        assert any("env steps in" in line for line in lines)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert (tmp_path / results.FILE).read_text() == before

    ended = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0, ended.stderr
    assert "SB3 PPO on Gymnasium, 16 envs" not in ended.stdout, "a job that had ended was run again"
    text = (tmp_path / results.FILE).read_text()
    assert text.startswith(before)
    found = list(results.load(tmp_path).values())
    assert [one.job.contestant for one in found] == ["sb3", "ksim"]
    for one in found:
        assert [row["env_steps"] for row in one.evaluations] == [4096, 6144]
        times = [[row[name] for row in one.evaluations] for name in ("seconds", "collect_s")]
        assert (np.diff(times) > 0).all() and 0 < one.setup_s < times[0][0] < one.seconds < one.wall_s
        for row in one.evaluations:
            assert 0 < row["return_mean"] < 4000 and 1 <= row["length_mean"] <= 1000
        assert one.step_rate > 0 and one.cpu_s > 1
    assert {"report.md", "returns.csv", "runs.csv", "Hopper.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "missing" not in ended.stdout

    again = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0 and (tmp_path / results.FILE).read_text() == text


@needs_sb3
def test_a_trial_has_times_and_no_returns():
    trial = replace(plan(has_trials=True).trials("Hopper", "sb3")[0], env_steps=8192)
    row = jobs.run(trial, MACHINE, lambda row: None)
    one = results.result_of(row)
    assert one.job == trial and one.step_rate is None and one.rates()["training"] > 0
    assert len(one.evaluations) == NUM_TRIAL_MARKS and "return_mean" not in one.evaluations[-1]


@needs_sb3
def test_worker_processes_change_no_number_of_a_training():
    short = replace(with_envs(job(), 2), env_steps=2048, num_evaluations=1, num_episodes=1)
    rows = [jobs.run(replace(short, envs=envs), MACHINE, lambda row: None) for envs in ("dummy", "subproc")]
    returns = [[one["return_mean"] for one in row["evaluations"]] for row in rows]
    assert len(returns[0]) == 1 and returns[0] == returns[1]


def test_a_job_that_fails_is_not_done(tmp_path, capfd):
    assert run_all(plan(contestants=("ksim",), seeds=(0,), env_steps=1000), {}, tmp_path, math.inf) == 1
    assert not (tmp_path / results.FILE).exists()
    captured = capfd.readouterr()
    assert "InvalidConfigError" in captured.err and "FAILED" in captured.out


def test_a_job_does_not_inherit_what_steers_libraries(monkeypatch):
    given = {}

    def popen(command, env, **options):
        given.update(env)
        raise InterruptedError

    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "cache")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(jobs.subprocess, "Popen", popen)
    with pytest.raises(InterruptedError):
        jobs.run(job(), MACHINE, lambda row: None)
    assert {"XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "OMP_NUM_THREADS"}.isdisjoint(given)
    assert given["KSIM_CACHE_DIR"] == "off" and "PATH" in given


def running(group):
    """Processes of a group that are not ended, nor waiting for a parent to hear of it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            found += [path.parent.name] if state != "Z" and int(of) == group else []
    return found


@needs_sb3
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are not listed in /proc")
def test_a_worker_that_is_killed_is_a_failed_job_and_leaves_no_processes(monkeypatch):
    children, before = [], []

    class Child(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            children.append(self)

    monkeypatch.setattr(jobs.subprocess, "Popen", Child)
    trial = replace(with_envs(job(), 2), envs="subproc", env_steps=8192, num_evaluations=4, num_episodes=0)

    def kill(row):
        before.extend(running(children[0].pid))
        children[0].kill()

    assert jobs.run(trial, MACHINE, kill) is None
    assert len(before) == 3
    end = time.monotonic() + 20
    while (left := running(children[0].pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left


def test_a_training_that_ended_is_kept_whatever_comes_after_it(monkeypatch, tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    row = finished(job(), evaluation(1000, 42.0, 7.0))
    monkeypatch.setattr(jobs, "run", lambda job, machine, show: row)
    monkeypatch.setattr(benchmark, "conditions", dict)
    monkeypatch.setattr(benchmark, "engine_rate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(plan(), {}, tmp_path, math.inf)
    assert results.load(tmp_path) == known(row)


# Jobs and what is left to do


def test_results_are_those_that_were_added(tmp_path):
    rows = [finished(job(seed=seed), evaluation(1000, 42.0, 7.0)) for seed in range(2)]
    assert results.load(tmp_path) == {}
    for row in rows:
        results.add(tmp_path, row)
    assert results.load(tmp_path) == known(*rows)
    assert [path.name for path in tmp_path.iterdir()] == [results.FILE]


def test_only_equal_jobs_are_done(tmp_path):
    one, other = job("ksim_preset"), job("ksim_preset")
    assert one.key == other.key
    assert replace(one, num_episodes=4).key != one.key
    assert replace(one, hyperparameters=one.hyperparameters | {"gamma": 0.5}).key != one.key


def test_results_of_other_versions_are_refused():
    there = known(finished(job(), evaluation(1000, 42.0, 7.0)))
    check_versions(MACHINE | {"load": "9.0", "processor": "slide rule", "ksim-envs": "newer"}, there)
    with pytest.raises(SystemExit, match="there {'torch': '1.0'}, here {'torch': '2.0'}. Choose another --out"):
        check_versions(MACHINE | {"torch": "2.0"}, there)


def test_contestants_take_turns_within_a_seed_and_seeds_within_a_task():
    order = [(one.task, one.seed, one.contestant) for one in plan(tasks=("Hopper", "Humanoid")).jobs({})]
    assert order[:4] == [("Hopper", seed, name) for seed in range(2) for name in ("sb3", "sb3_ksim")]
    assert [task for task, _, _ in order] == ["Hopper"] * 4 + ["Humanoid"] * 4


def test_the_yardstick_is_a_rate_of_the_engine_on_one_core():
    started, busy_s = time.perf_counter(), time.process_time()
    rate = engine_rate(0.2)
    busy_s, passed = time.process_time() - busy_s, time.perf_counter() - started
    assert busy_s < 1.1 * passed and 100 < rate < 1e6


def test_a_training_comes_after_its_trials_and_has_the_fastest_setting():
    asked, found = plan(has_trials=True, contestants=("sb3", "ksim_preset")), {}
    order = asked.jobs(found)
    trials = asked.trials("Hopper", "sb3")
    kinds = [(trial.envs, trial.num_envs, trial.num_threads) for trial in trials]
    assert kinds == [(envs, 16, number) for envs in ("dummy", "subproc") for number in THREADS]
    for number, trial in enumerate(trials):
        assert next(order) == trial
        found |= known(timed(trial, 200.0 + number))
    sb3, ours = next(order), next(order)
    assert (sb3.contestant, sb3.envs, sb3.num_threads, sb3.num_episodes) == ("sb3", "subproc", THREADS[-1], 3)
    assert (ours.contestant, ours.num_threads) == ("ksim_preset", None)
    assert ours.num_envs == preset("ksim/Hopper-v0").num_envs
    assert next(order).seed == 1


def test_the_fastest_setting_is_fastest_by_the_yardstick():
    asked = plan(has_trials=True)
    first, second = asked.trials("Hopper", "sb3_ksim") if len(THREADS) > 1 else asked.trials("Hopper", "sb3")[:2]
    faster = timed(second, 300.0) | {"machine": MACHINE | {"engine_rate": "2.0"}}
    chosen = asked.training(0, "Hopper", first.contestant, known(timed(first, 200.0), faster))
    assert (chosen.envs, chosen.num_threads) == (first.envs, first.num_threads)


def test_all_seeds_train_in_the_setting_of_the_first_whatever_the_machine_has(tmp_path):
    asked = plan(has_trials=True)
    there = finished(job(num_threads=max(THREADS) + 7), evaluation(1000, 42.0, 7.0))
    found = known(*(timed(trial, 200.0) for trial in asked.trials("Hopper", "sb3")), there)
    again, other = (asked.training(seed, "Hopper", "sb3", found) for seed in (0, 1))
    assert again.key in found and other == replace(again, seed=1)
    text = report.write(plan(contestants=("sb3",), seeds=(0,)), found, tmp_path)
    assert "missing" not in text and "42" in text


def test_the_report_names_what_it_does_not_show(half, tmp_path):
    old = finished(job("sb3", env_steps=500), evaluation(500, 42.0, 7.0))
    text = report.write(plan(), half | known(old), tmp_path)
    assert "not this report's: Hopper sb3 seed 0 (500 env steps)." in text
    assert "not this report's" not in report.write(plan(tasks=("Humanoid",)), half, tmp_path)


def test_estimates_come_from_equal_trainings_or_else_from_rates_or_else_from_a_guess():
    training = job(env_steps=60_000)
    assert estimated_s(training, {}) == pytest.approx(15.0 + 1.2 * 60_000 / TASKS["Hopper"].usual_rate)
    trials = plan(has_trials=True).trials("Hopper", "sb3")
    found = known(timed(trials[0], 50.0), timed(trials[-1], 100.0))
    assert estimated_s(training, found) == pytest.approx(15.0 + 1.2 * 60_000 / 100.0)
    found |= known(finished(replace(training, seed=1), evaluation(60_000, 42.0, 7.0)))
    assert estimated_s(training, found) == 50.0


def test_what_is_left_is_estimated_and_what_would_not_end_in_time_is_not_begun(tmp_path, capsys):
    found = known(*(finished(job(name), evaluation(1000, 42.0, 7.0)) for name in ("sb3", "sb3_ksim")))
    found = {key: replace(one, machine=machine()) for key, one in found.items()}
    assert left_s(plan(), found) == 100.0
    assert run_all(plan(), found, tmp_path, 49.0) == 0
    assert "would not end in time" in capsys.readouterr().out and len(found) == 2


def test_the_preset_has_its_own_budget_and_never_less_than_it_can_learn_from():
    usual = plan(env_steps=None)
    assert usual.budget("Hopper", "sb3") == 1_000_000 and usual.budget("Humanoid", "sb3_ksim") == 3_000_000
    assert usual.budget("Humanoid", "ksim_preset") == 20_000_000
    assert plan(env_steps=1000).budget("Humanoid", "ksim_preset") == 2 * 40_960


# What is measured


def test_the_clock_stands_still_while_the_policy_is_evaluated(monkeypatch):
    now, rows = [10.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    def evaluate():
        wait(1000.0)
        return {"return_mean": 1.0}

    recorder = measure.Recorder(job(env_steps=100), evaluate, rows.append, started=7.0)
    for env_steps in (30, 60, 90, 120):
        wait(2.0)
        recorder.collected()
        wait(5.0)
        recorder.learned(env_steps)
    assert [(row["env_steps"], row["seconds"], row["collect_s"]) for row in rows] == [(60, 17.0, 4.0), (120, 31.0, 8.0)]


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
    assert row["return_mean"] == round(np.mean(returns), 2) and row["return_std"] == round(np.std(returns), 2)
    assert row["length_mean"] == pytest.approx(np.mean(returns) + 1)  # the last step has no reward
    assert measure.evaluate("InvertedPendulum-v5", lambda obs_EL: obs_EL @ gain, 0) == {}


def test_networks_have_the_same_sizes_and_rollouts_are_whole():
    sizes = {settings.published.hidden_sizes for settings in TASKS.values()} | {COMMON.hidden_sizes}
    assert sizes == {(256, 256)} == {preset(f"ksim/{task}-v0").hidden_sizes for task in TASKS}
    for hyperparameters in (COMMON, *(settings.published for settings in TASKS.values())):
        assert hyperparameters.dataset_size % hyperparameters.num_envs == 0


@needs_sb3
@pytest.mark.parametrize(
    ("name", "task", "size", "bound"), [("sb3", "Humanoid", 348, 0.4), ("sb3_ksim", "Hopper", 11, 1.0)]
)
def test_sb3_learns_with_the_hyperparameters(name, task, size, bound):
    from scripts.benchmark_sb3.sb3_learner import SB3Learner

    learner = SB3Learner(with_envs(job(name, seed=3, task=task), 2))
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


@needs_sb3
def test_seeds_share_no_env():
    from scripts.benchmark_sb3.sb3_learner import SB3Learner

    starts = set()
    for seed in (0, 1):
        learner = SB3Learner(with_envs(job(seed=seed), 4))
        starts |= {obs.tobytes() for obs in learner._envs.reset()}
        learner.close()
    assert len(starts) == 8


@needs_sb3
def test_sb3_and_ours_train_in_the_same_envs():
    from scripts.benchmark_sb3.ksim_learner import KsimLearner
    from scripts.benchmark_sb3.sb3_learner import SB3Learner

    sb3, ours = SB3Learner(job("sb3_ksim")), KsimLearner(job("ksim", env_steps=10_000))
    core = sb3._envs.env.core
    assert core.task == ours._trainer.core.task and "contact_spread" in core.task.randomizers
    sb3.close()


def test_ours_learns_with_the_hyperparameters():
    asked = with_envs(job("ksim", seed=3, env_steps=100_000), 32)
    config, usual = config_of(asked), preset("ksim/Hopper-v0")
    assert (config.num_envs, config.rollout_length, config.dataset_size, config.num_epochs) == (32, 64, 2048, 10)
    assert (config.learning_rate, config.final_learning_rate, config.initial_std) == (3e-4, 3e-5, 0.5)
    assert (config.reward_scale, config.contact_spread) == (usual.reward_scale, usual.contact_spread)
    exact = with_envs(job("ksim_gymnasium", seed=3, env_steps=100_000), 32)
    assert config_of(exact) == replace(config, dynamics="gymnasium", contact_spread=0.0)
    alone = job("ksim_preset", seed=3, env_steps=100_000)
    assert config_of(alone) == replace(usual, seed=3, total_env_steps=100_000)


# Results and report


def test_returns_are_read_off_between_evaluations():
    result = results.result_of(finished(job(), evaluation(500, 10.0, 100.0), evaluation(1000, 20.0, 300.0)))
    assert result.return_at("env_steps", 750) == 200.0 and result.return_at("seconds", 12.5) == 150.0
    assert math.isnan(result.return_at("env_steps", 400)) and math.isnan(result.return_at("env_steps", 1001))
    assert result.return_after(1e6) == 300.0 and result.return_after(15.0) == 200.0
    assert result.first_at(100, "seconds") == 10.0 and result.first_at(101, "env_steps") == 1000
    assert result.first_at(301, "seconds") == math.inf
    assert result.late_return() == 300.0
    rows = [evaluation(steps, 0.1 * steps, 1.0 * steps) for steps in range(100, 900, 100)]
    assert results.result_of(finished(job(), *rows)).late_return() == 750.0


def test_rates_leave_out_what_comes_before_the_first_evaluation():
    result = results.result_of(finished(job(), evaluation(500, 22.0, 0.0), evaluation(1000, 32.0, 0.0)))
    assert result.rates() == {"stepping": 5000.0, "collection": 500 / 2.5, "training": 500 / 10.0}
    alone = results.result_of(finished(job(), evaluation(1000, 22.0, 0.0)))
    assert alone.rates() == {"stepping": 5000.0, "collection": 1000 / 5.0, "training": 1000 / 20.0}


@pytest.fixture
def half():
    """Both seeds of one contestant, and one of the other."""
    numbers = {(0, "sb3"): (40.0, 900.0), (1, "sb3"): (44.0, 1100.0), (0, "sb3_ksim"): (22.0, 1200.0)}
    return known(
        *(
            finished(job(name, seed), evaluation(500, seconds / 2, 100.0), evaluation(1000, seconds, last))
            for (seed, name), (seconds, last) in numbers.items()
        )
    )


def test_the_report_says_what_is_there_and_what_is_missing(half, tmp_path):
    text = report.write(plan(), half, tmp_path / "report")
    assert "1 trainings are missing:** Hopper sb3_ksim seed 1." in text
    lines = text.splitlines()
    label = CONTESTANTS["sb3_ksim"].label
    assert f"| sb3_ksim | {label} | 16 (ksim) | 1 | 5,000 | 182 | 45 | 1.90 | 1,000 | 22 |" in lines
    assert "| sb3 | – | 100 (100 to 100) | 1,000 (900 to 1,100) | 1,000 (900 to 1,100) |" in lines
    assert "| sb3 | – (1 of 2) | – | – |" in lines
    assert "| sb3_ksim | 22 s, 1,000 (1 of 1) | – | – |" in lines
    assert "| processor abacus, cores 1.0 | all | 1 | 1 | 1 |" in lines
    assert "Other processes kept 0.25 cores busy in the median training, 0.25 at most." in lines
    assert any(line.startswith("They kept more than 0.1 busy in Hopper sb3 seed 0") for line in lines), lines
    assert text == (tmp_path / "report" / "report.md").read_text() and (tmp_path / "report" / "Hopper.png").exists()


def test_the_report_has_the_settings_that_were_tried(half, tmp_path):
    asked = plan(has_trials=True)
    trials = asked.trials("Hopper", "sb3")
    found = half | known(*(timed(trial, 1000.0 + number) for number, trial in enumerate(trials)))
    text = report.write(asked, found, tmp_path)
    for number, trial in enumerate(trials):
        assert (
            f"| sb3 | 16 ({trial.envs}) | {trial.num_threads} | {1000 + number:,} | {1000 + number}.0000 |"
            in text.splitlines()
        )
    assert "tried, in short" not in report.write(plan(), half, tmp_path)


def test_the_report_says_which_machine_did_what_and_compares_rates_by_its_yardstick(half, tmp_path):
    slow = {"processor": "slide rule", "engine_rate": "0.4 0.6"}
    found = {
        key: replace(one, machine=one.machine | slow) if one.job.contestant == "sb3_ksim" else one
        for key, one in half.items()
    }
    lines = report.write(plan(), found, tmp_path).splitlines()
    assert "| processor abacus, cores 1.0 | sb3 seed 0, sb3 seed 1 | 1 | 1 | 1 |" in lines
    assert "| processor slide rule, cores 1.0 | sb3_ksim seed 0 | 0 | 0 | 0 |" in lines
    (row,) = [line for line in lines if line.startswith("| sb3_ksim | SB3")]
    assert " | 45 | 3.81 | " in row


def test_the_report_has_more_seeds_than_were_asked_for_where_they_are_there(half, tmp_path):
    text = report.write(plan(seeds=(0,)), half, tmp_path)
    assert "missing" not in text and "| sb3 | – (1 of 2) | – | – |" in text
    assert [row["seed"] for row in csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())] == ["0", "0", "1"]


def test_the_time_to_a_return_is_the_median_of_the_seeds(tmp_path):
    first = finished(job(seed=0), evaluation(500, 40.0, 1_050.0), evaluation(1000, 80.0, 900.0))
    second = finished(job(seed=1), evaluation(500, 30.0, 900.0), evaluation(1000, 60.0, 2_100.0))
    lines = report.write(plan(contestants=("sb3",)), known(first, second), tmp_path).splitlines()
    assert "| sb3 | 50 s, 750 (2 of 2) | – (1 of 2) | – |" in lines


def test_the_csv_files_have_every_number(half, tmp_path):
    report.write(plan(), half, tmp_path)
    returns, runs = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("returns.csv", "runs.csv")
    )
    assert len(returns) == 6 and len(runs) == 3
    assert [(row["contestant"], row["seed"], row["env_steps"], row["return_mean"]) for row in returns[:2]] == [
        ("sb3", "0", "500", "100.0"),
        ("sb3", "0", "1000", "900.0"),
    ]
    (ours,) = [row for row in runs if row["contestant"] == "sb3_ksim"]
    assert (ours["num_envs"], ours["seconds"], ours["cores_of_others"]) == ("16", "22.0", "0.25")
    assert float(ours["training_rate"]) == pytest.approx(500 / 11.0, abs=1e-3)


def test_an_empty_benchmark_has_a_report_too(tmp_path):
    text = report.write(plan(), {}, tmp_path)
    assert "4 trainings are missing" in text and "##" in text


def test_a_job_survives_json():
    for name in CONTESTANTS:
        one = job(name)
        assert jobs.Job(**json.loads(one.key)) == one
