"""A whole run and its folder: what it leaves, how it resumes, what it refuses."""

import json
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import ksim_envs
from agents import logger, plots, ppo, video
from agents.checkpoint import Checkpoints
from agents.errors import CheckpointError, CheckpointWarning, RunFolderError, TrainingStopped
from agents.evaluate import Evaluator
from agents.logger import Logger
from agents.ppo import run
from agents.ppo.run import training_task
from agents.ppo.trainer import Trainer
from agents.run_folder import lock
from agents.signals import SIGNALS, graceful_signals
from ksim_envs.errors import InvalidConfigError, UnknownNameError
from tests.agents.ppo.conftest import CONFIG
from tests.agents.quick_runs import begin_as_a_new_process


@pytest.fixture(autouse=True)
def heard_signals():
    """A process in the background, or under nohup, may have been told to ignore some of the signals."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def interrupt(monkeypatch):
    """Sends the process a signal, and waits until the run that is under way has noted it."""
    notes = []

    @contextmanager
    def noted():
        with graceful_signals() as note:
            notes.append(note)
            yield note

    def send(number):
        os.kill(os.getpid(), number)
        while notes[-1].received is None:
            time.sleep(0.001)

    monkeypatch.setattr(run, "graceful_signals", noted)
    return send


@pytest.fixture(scope="module")
def finished(tiny_id, tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "video", video)  # others make none
        return ppo.train(tiny_id, CONFIG, run_dir=folder)


def rows(folder):
    """What a run has logged, but for wall-clock values."""
    return [{name: row[name] for name in row if not name.startswith("time/")} for row in logger.read(folder)]


def final_state(folder, core):
    checkpoints = Checkpoints(folder / "checkpoints")
    state, _ = checkpoints.load(Trainer(core, CONFIG).template())
    return jax.tree.map(
        lambda leaf: (
            np.asarray(jax.random.key_data(leaf))
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else np.asarray(leaf)
        ),
        state,
    )


def stop_after(monkeypatch, interrupt, num_rows, number=signal.SIGTERM):
    """Lets the process get a signal once so many rows of training are logged."""
    log, count = Logger.log, [0]

    def counting(self, kind, env_steps, values):
        log(self, kind, env_steps, values)
        count[0] += kind == "train"
        if kind == "train" and count[0] == num_rows:
            interrupt(number)

    monkeypatch.setattr(Logger, "log", counting)


def test_a_run_leaves_metrics_checkpoints_plots_and_a_policy(finished):
    folder = finished.run_dir
    kinds = [row["kind"] for row in rows(folder)]
    assert kinds.count("train") == CONFIG.num_iterations - 1  # the first rollout only measures the observations
    assert kinds.count("eval") == 4
    assert Checkpoints(folder / "checkpoints").steps()[-1] == CONFIG.total_env_steps == finished.env_steps
    for name in ("learning_curve.png", "evaluations.csv", "metrics.jsonl"):
        assert (folder / name).stat().st_size > 100, name
    filmed = finished.files["video"]
    assert Path(filmed).stat().st_size > 1000 if filmed.endswith(".mp4") else "GL" in filmed
    assert finished.evaluation.return_E.shape == (CONFIG.num_eval_envs,)
    assert finished.policy(np.zeros(finished.policy.num_observations)).shape == (2,)


@pytest.mark.parametrize(
    ("num_rows", "number", "is_trainer_new"),
    [(1, signal.SIGTERM, False), (4, signal.SIGINT, True), (5, signal.SIGHUP, False)],
)
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(
    finished, tiny_id, core, tmp_path, monkeypatch, interrupt, num_rows, number, is_trainer_new
):
    with monkeypatch.context() as patch, pytest.raises(TrainingStopped) as stopped:
        stop_after(patch, interrupt, num_rows, number)
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path)
    assert stopped.value.received == number
    if is_trainer_new:
        begin_as_a_new_process()
    resumed = ppo.train(tiny_id, CONFIG, run_dir=tmp_path, resume=True)
    assert rows(tmp_path) == rows(finished.run_dir)
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path, core), final_state(finished.run_dir, core))
    np.testing.assert_array_equal(resumed.evaluation.return_E, finished.evaluation.return_E)


def test_a_run_whose_training_raised_resumes_from_its_last_checkpoint(finished, tiny_id, core, tmp_path, monkeypatch):
    def failing(self, policy):
        raise RuntimeError("out of paper")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of paper"):
        patch.setattr(Evaluator, "__call__", failing)
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [CONFIG.dataset_size]  # the one from the beginning
    ppo.train(tiny_id, run_dir=tmp_path, resume=True)  # with the settings it began with
    assert rows(tmp_path) == rows(finished.run_dir)


@pytest.mark.parametrize(
    ("owner", "name"), [(Trainer, "start"), (Trainer, "iterate"), (Evaluator, "__call__"), (Checkpoints, "save")]
)
def test_a_signal_in_any_phase_ends_with_a_checkpoint(tiny_id, tmp_path, monkeypatch, interrupt, owner, name):
    original, sent = getattr(owner, name), []

    def struck(self, *args, **keywords):
        if not sent:
            sent.append(interrupt(signal.SIGTERM))
        return original(self, *args, **keywords)

    monkeypatch.setattr(owner, name, struck)
    never = {"checkpoint_interval_env_steps": 10**9} | (
        {} if owner is Evaluator else {"eval_interval_env_steps": 10**9}
    )
    with pytest.raises(TrainingStopped) as stop:
        ppo.train(tiny_id, replace(CONFIG, **never), run_dir=tmp_path)
    newest = Checkpoints(tmp_path / "checkpoints").steps()[-1]
    assert f"after {newest:,} env steps; the newest checkpoint is of {newest:,}" in str(stop.value)
    assert newest == CONFIG.dataset_size * {"start": 1, "save": 1, "iterate": 2, "__call__": 2}[name]


@pytest.mark.parametrize(
    "info",
    [{}, {"task_id": 3}, {"task_id": "ksim/PPOTiny-v0", "config": 5}, {"task_id": "ksim/PPOTiny-v0", "config": {}}],
    ids=["empty", "number", "no_settings", "nothing_else"],
)
@pytest.mark.parametrize("read", [ppo.load, lambda folder: ppo.train("ksim/PPOTiny-v0", run_dir=folder, resume=True)])
def test_the_checkpoint_of_something_else_is_refused(tiny_id, tmp_path, info, read):
    Checkpoints(tmp_path / "checkpoints").save(1, {"weight": np.zeros(2)}, info, 1.0)
    with pytest.raises(CheckpointError, match="has no checkpoints of PPO"):
        read(tmp_path)


def test_a_damaged_checkpoint_is_passed_over(finished, tiny_id, core, tmp_path, monkeypatch, interrupt):
    with monkeypatch.context() as patch, pytest.raises(TrainingStopped):
        stop_after(patch, interrupt, 5)
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1] / "arrays.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(CheckpointWarning, match="damaged"):
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path, resume=True)
    assert rows(tmp_path) == rows(finished.run_dir)


def test_a_full_disk_does_not_stop_training(tiny_id, tmp_path, monkeypatch):
    def full(*args, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(CheckpointWarning, match="No space left"):
        result = ppo.train(tiny_id, replace(CONFIG, total_env_steps=512), run_dir=tmp_path)
    assert result.env_steps == 512


def test_the_loaded_policy_is_the_best_one(finished):
    checkpoints = Checkpoints(finished.run_dir / "checkpoints")
    scores = {row["env_steps"]: row["return_mean"] for row in rows(finished.run_dir) if row["kind"] == "eval"}
    assert scores[checkpoints.best_step()] == max(scores.values())
    obs = np.random.default_rng(0).normal(size=(5, finished.policy.num_observations)).astype(np.float32)
    last = ppo.load(finished.run_dir, CONFIG.total_env_steps)
    np.testing.assert_array_equal(last(obs), finished.policy(obs))
    assert ppo.load(finished.run_dir)(obs).shape == (5, 2)


def test_a_resumed_run_may_be_longer_but_not_another(finished, tiny_id, tmp_path):
    with pytest.raises(InvalidConfigError, match=r"gamma is 0\.5 and was 0\.99"):
        ppo.train(tiny_id, replace(CONFIG, gamma=0.5), run_dir=finished.run_dir, resume=True)
    with pytest.raises(InvalidConfigError, match="is of ksim/PPOTiny-v0"):
        ppo.train("ksim/Hopper-v0", CONFIG, run_dir=finished.run_dir, resume=True)
    first = ppo.train(tiny_id, replace(CONFIG, total_env_steps=512), run_dir=tmp_path)
    longer = ppo.train(tiny_id, replace(CONFIG, total_env_steps=1024), run_dir=tmp_path, resume=True)
    assert (first.env_steps, longer.env_steps) == (512, 1024)


def test_a_folder_with_a_run_is_not_overwritten(finished, tiny_id):
    before = (finished.run_dir / "metrics.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match="resume"):
        ppo.train(tiny_id, CONFIG, run_dir=finished.run_dir)
    assert (finished.run_dir / "metrics.jsonl").read_bytes() == before


def test_a_log_whose_checkpoints_are_gone_is_not_overwritten(finished, tiny_id, tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes((finished.run_dir / log.name).read_bytes())
    with pytest.raises(RunFolderError, match="without checkpoints"):
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path, resume=True)
    assert log.read_bytes() == (finished.run_dir / log.name).read_bytes()


def test_a_folder_in_use_is_refused(tiny_id, tmp_path):
    with lock(tmp_path), pytest.raises(RunFolderError, match="in use"):
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path)


def test_a_log_that_a_power_cut_left_in_pieces_is_mended(finished, tiny_id, core, tmp_path, monkeypatch, interrupt):
    with monkeypatch.context() as patch, pytest.raises(TrainingStopped):
        stop_after(patch, interrupt, 3)
        ppo.train(tiny_id, CONFIG, run_dir=tmp_path)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n{")
    ppo.train(tiny_id, CONFIG, run_dir=tmp_path, resume=True)
    assert rows(tmp_path) == rows(finished.run_dir)


def test_a_run_is_not_lost_for_want_of_a_plot(tiny_id, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "write_csv", full)
    result = ppo.train(tiny_id, replace(CONFIG, total_env_steps=512), run_dir=tmp_path)
    assert "No space left" in result.files["evaluations"]
    assert result.files["learning curve"] == str(tmp_path / "learning_curve.png")


def test_a_damaged_best_checkpoint_is_passed_over_when_a_policy_is_loaded(tiny_id, tmp_path):
    ppo.train(tiny_id, CONFIG, run_dir=tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    best = tmp_path / "checkpoints" / f"step_{checkpoints.best_step():012d}" / "arrays.npz"
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.warns(CheckpointWarning, match="damaged"):
        assert ppo.load(tmp_path).num_observations == 5


def test_a_policy_is_loaded_also_while_the_best_checkpoint_is_replaced(finished, monkeypatch):
    expected, real, gone = ppo.load(finished.run_dir), Checkpoints.best_step, [1]
    monkeypatch.setattr(Checkpoints, "best_step", lambda self: gone.pop() if gone else real(self))
    obs = np.ones(expected.num_observations, np.float32)
    np.testing.assert_array_equal(ppo.load(finished.run_dir)(obs), expected(obs))
    assert not gone


def test_every_public_name_can_be_had_in_any_order():
    for name in ("Result", "load", "train", "Policy"):
        assert callable(getattr(ppo, name)), name


def test_metrics_are_strict_json(finished):
    for line in (finished.run_dir / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_several_seeds_keep_the_best_policy(tiny_id, tmp_path, monkeypatch):
    config = replace(CONFIG, seed=3, num_seeds=2, total_env_steps=512)
    result = ppo.train(tiny_id, config, run_dir=tmp_path)
    last = [row for row in rows(tmp_path) if row["kind"] == "eval"][-1]
    by_seed = [last["return_mean_of_seed_3"], last["return_mean_of_seed_4"]]
    assert result.evaluation.return_E.mean() == pytest.approx(max(by_seed))
    obs = np.ones(result.policy.num_observations, np.float32)
    best = int(np.argmax(by_seed))
    np.testing.assert_array_equal(ppo.load(tmp_path)(obs), result.policy(obs))
    np.testing.assert_array_equal(ppo.load(tmp_path, seed_index=best)(obs), result.policy(obs))
    assert np.any(ppo.load(tmp_path, seed_index=1 - best)(obs) != result.policy(obs))
    read_info = Checkpoints.read_info  # as where the newest has arrays that are damaged, and another best seed
    monkeypatch.setattr(Checkpoints, "read_info", lambda *args: {**read_info(*args), "best_seed": 1 - best})
    np.testing.assert_array_equal(ppo.load(tmp_path)(obs), result.policy(obs))
    with pytest.raises(InvalidConfigError, match="the run has 2 seeds"):
        ppo.load(tmp_path, seed_index=2)


def test_a_policy_does_without_what_only_its_critic_sees(tiny_id, tmp_path):
    config = replace(CONFIG, privileged=("x_position",), total_env_steps=512, memory="gru")
    result = ppo.train(tiny_id, config, run_dir=tmp_path)
    obs = np.ones((3, result.policy.num_observations), np.float32)
    np.testing.assert_array_equal(ppo.load(tmp_path)(obs), result.policy(obs))


def test_a_privileged_metric_that_does_not_exist_is_refused(tiny_id, tmp_path):
    with pytest.raises(UnknownNameError, match="x_position"):
        ppo.train(tiny_id, replace(CONFIG, privileged=("x_positon",)), run_dir=tmp_path)


def test_an_unknown_id_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownNameError):
        ppo.train("ksim/Humanid-v0", CONFIG, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_contacts_vary_from_env_to_env_in_training_and_not_in_evaluations(tiny_id, tmp_path):
    config = replace(CONFIG, contact_spread=0.3, total_env_steps=512)
    result = ppo.train(tiny_id, config, run_dir=tmp_path)
    varied = ksim_envs.make_functional(training_task(tiny_id, config), CONFIG.num_envs)
    state, _ = Checkpoints(tmp_path / "checkpoints").load(Trainer(varied, config).template())
    assert len(np.unique(state.actors.env_state.model_fields["geom_solref"][:, 0, 0])) == CONFIG.num_envs
    nominal = Evaluator(ksim_envs.make_functional(tiny_id, config.num_eval_envs), config.seed)
    np.testing.assert_array_equal(nominal(result.policy.state).return_E, result.evaluation.return_E)
