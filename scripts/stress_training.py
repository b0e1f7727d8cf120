"""Does an interrupted run end like one that was not? Stop and kill a small run again and again, resuming it each time.

    python -m scripts.stress_training --stops 20 --kills 50

A stop is SIGTERM at a random moment: the run has to end with status 143, and nothing may be lost. A kill is SIGKILL,
every other one while a checkpoint is being saved, every fourth as early as while the process starts: at most one
interval may be lost. In the end metrics and state have to be those of an uninterrupted run, bit for bit. A blow that
comes after the run has ended proves nothing: of each kind that is asked for, one has to find it at work.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agents import logger
from agents.checkpoint import Checkpoints

TASK = "ksim/InvertedPendulum-v0"
ITERATION = 256  # env steps
INTERVAL = 4 * ITERATION  # between checkpoints
SETTINGS = {
    "num-envs": 16,
    "num-env-states-per-minibatch": 64,
    "num-minibatches": 4,
    "num-eval-envs": 4,
    "hidden-sizes": 16,
    "eval-interval-env-steps": 16 * ITERATION,
    "checkpoint-interval-env-steps": INTERVAL,
}


def main() -> int:
    """Run them and say what happened; an AssertionError says what was lost, what differs, or that no blow landed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--iterations", type=int, default=1500, help="of the whole run; more than the blows leave time for"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.stops + args.kills < 1:
        parser.error("there is nothing to strike with: --stops and --kills are 0")
    chance = random.Random(args.seed)
    kills = itertools.cycle(["kill in a save", "kill", "kill in a save", "kill at any time"])
    blows = ["stop"] * args.stops + list(itertools.islice(kills, args.kills))
    chance.shuffle(blows)
    with tempfile.TemporaryDirectory(prefix="stress_training_") as name:
        struck, whole = Path(name, "struck"), Path(name, "whole")
        landed = Counter(blow.split()[0] for blow in blows if strike(blow, struck, args.iterations, chance))
        print(f"{landed.total()} of {len(blows)} blows found the run at work", flush=True)
        for kind, number in (("stop", args.stops), ("kill", args.kills)):
            assert landed[kind] or not number, f"no {kind} found the run at work: it needs more --iterations"
        for folder in (struck, whole):
            assert start(folder, args.iterations).wait() == 0, f"the run in {folder} failed"
        assert rows(struck) == rows(whole), "the metrics differ"
        assert_equal_states(struck, whole)
    print("metrics and state equal those of a whole run")
    return 0


def start(folder: Path, iterations: int) -> subprocess.Popen[bytes]:
    """Start the run, or resume it."""
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    program = "import sys; from agents.cli import main; sys.exit(main())"
    words = ["train", TASK, "--run-dir", str(folder), "--resume", "--total-env-steps", str(iterations * ITERATION)]
    return subprocess.Popen([sys.executable, "-c", program, *words, *flags], stdout=subprocess.DEVNULL)


def strike(blow: str, folder: Path, iterations: int, chance: random.Random) -> bool:
    """Resume the run, strike at a random moment, and check what is left; False if the run had ended before."""
    before, log = newest(folder), folder / logger.FILE_NAME
    old = log.stat().st_ino if log.exists() else None  # resuming replaces the log
    process = start(folder, iterations)
    if blow == "kill at any time":  # while it starts, compiles, saves for the first time or resumes
        time.sleep(chance.uniform(0.0, 10.0))
    else:
        wait_for(lambda: process.poll() is not None or (log.exists() and log.stat().st_ino != old))
        wait_for(lambda: process.poll() is not None or logged(folder) > before)
        time.sleep(chance.uniform(0.0, 0.5))
    if blow == "kill in a save":
        saves = folder / "checkpoints"
        wait_for(lambda: process.poll() is not None or any(saves.glob(".tmp-*")))
        time.sleep(chance.uniform(0.0, 0.01))
    process.send_signal(signal.SIGTERM if blow == "stop" else signal.SIGKILL)
    status = process.wait()
    after, done = newest(folder), logged(folder)
    lost = done - after
    print(f"{blow}: status {status}, {done // ITERATION} iterations done, {lost // ITERATION} lost", flush=True)
    assert after >= before, f"the newest checkpoint is of {after} env steps, and was of {before}"
    assert lost <= (0 if blow == "stop" else INTERVAL), f"{lost} env steps are lost"
    blown = 143 if blow == "stop" else -signal.SIGKILL
    assert status in (0, blown), f"the run ended by itself, with status {status}"
    return status != 0


def newest(folder: Path) -> int:
    """Env steps of the newest checkpoint, which has to be whole; 0 if there is none."""
    checkpoints = Checkpoints(folder / "checkpoints")
    steps = checkpoints.steps()
    if steps:
        checkpoints.read_info(steps[-1])
    return steps[-1] if steps else 0


def logged(folder: Path) -> int:
    """Env steps that the log knows of."""
    return max((row["env_steps"] for row in rows(folder)), default=0)


def rows(folder: Path) -> list[logger.Row]:
    """What the run has logged, but for wall-clock values."""
    if not (folder / logger.FILE_NAME).is_file():
        return []
    return [{name: row[name] for name in row if not name.startswith("time/")} for row in logger.read(folder)]


def assert_equal_states(folder: Path, other: Path) -> None:
    """The newest checkpoints of two runs hold the same bits."""
    paths = [sorted((each / "checkpoints").glob("step_*"))[-1] / "arrays.npz" for each in (folder, other)]
    with np.load(paths[0]) as found, np.load(paths[1]) as expected:
        assert found.files == expected.files
        for name in found.files:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def wait_for(condition: Callable[[], bool], limit: float = 120.0) -> None:
    """Wait until it holds, looking often enough to catch a save."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "the run does not go on"
        time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(main())
