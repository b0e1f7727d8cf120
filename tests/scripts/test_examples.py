"""The examples learn, and the one for NumPy on Gymnasium's envs as on ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
SETTINGS = {"num-envs": 16, "num-steps": 64, "total-timesteps": 16_384, "learning-rate": 1e-3}


@pytest.mark.parametrize(
    ("script", "env_id"),
    [
        ("ppo_numpy", "ksim_envs:ksim/InvertedPendulum-v0"),
        ("ppo_numpy", "InvertedPendulum-v5"),
        ("ppo_torch", "ksim/InvertedPendulum-v0"),
    ],
)
def test_an_agent_learns_to_balance_a_pendulum_with_nothing_changed_but_the_id(script, env_id):
    options = [f"--{name}={value}" for name, value in {"env-id": env_id, **SETTINGS}.items()]
    command = [sys.executable, "-m", f"scripts.examples.{script}", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    returns = [float(shown) for shown in re.findall(r"return +([\d.]+)", ended.stdout)]
    assert len(returns) == 16 and returns[-1] > 5 * returns[0]


@pytest.mark.parametrize(
    ("script", "tag"), [("ppo_rsl_rl", "Train/mean_reward"), ("ppo_skrl", "Reward / Total reward (mean)")]
)
def test_an_example_of_a_library_learns_to_balance_a_pendulum(script, tag, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip({"ppo_rsl_rl": "rsl_rl", "ppo_skrl": "skrl"}[script])
    options = ["--env-id=ksim/InvertedPendulum-v0", "--num-envs=16", "--num-steps=64", "--total-timesteps=16384"]
    options += ["--privileged"] if script == "ppo_rsl_rl" else []
    command = [sys.executable, "-m", f"scripts.examples.{script}", f"--log-dir={tmp_path}", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    reader = accumulator.EventAccumulator(str(events)).Reload()
    returns = [event.value for event in reader.Scalars(tag)]
    assert returns[-1] > 3 * returns[0]
