"""Can a killed process lose a checkpoint? Kill many while they save, each at a random moment, and see what is left.

    python -m scripts.stress_checkpoints --kills 200

After each kill all that is listed has to load as it was saved, the newest has to be the last one that the process spoke
of or the one after it, and cleaning has to leave nothing else. A process that ends by itself or saves nothing is a
failure, and so are kills of which none comes in the midst of a save.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from agents.checkpoint import Checkpoints
from agents.errors import CheckpointWarning

SHAPES = ((256, 1024), (1024, 64), (17,), (0, 3))
KEEP_LAST = 3
LIMIT = 60.0
"""s for the first save of a process."""


def main() -> int:
    """Kill the processes and say what they left; an AssertionError says what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--longest", type=float, default=0.2, help="s that a process lives at most after its first save"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Forking is safe here: no JAX backend has started, and none does, because all arrays are NumPy's.
    warnings.filterwarnings("ignore", message=r".*fork\(\)")
    warnings.filterwarnings("error", category=CheckpointWarning)
    chance = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="stress_checkpoints_"))
    step = num_cut = 0
    try:
        for _ in range(args.kills):
            acknowledged = kill_a_saver(folder, step, chance.uniform(0.0, args.longest))
            step = newest_after_check(folder, acknowledged)
            num_cut += Checkpoints(folder).clean() > 0
            names = [path.name for path in folder.iterdir() if not path.name.startswith("step_")]
            assert not names, f"cleaning left {names}"
    finally:
        shutil.rmtree(folder)
    assert num_cut, f"none of {args.kills} kills came in the midst of a save; take more --kills"
    print(f"{args.kills} kills, {num_cut} of them in the midst of a save, {step} checkpoints: nothing lost")
    return 0


def kill_a_saver(folder: Path, step: int, delay: float) -> int:
    """Starts a process that saves step after step, kills it `delay` s after its first, and returns its last word."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        save_forever(folder, step, writer)
    os.close(writer)
    select.select([reader], [], [], LIMIT)  # its first word, or its end
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, ended = os.waitpid(child, 0)
    with open(reader, "rb") as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(ended)
    assert status == -signal.SIGKILL, f"the process ended by itself, with status {status}"
    assert said, f"the process saved nothing in {LIMIT} s"
    return int.from_bytes(said[-8:], "little")


def save_forever(folder: Path, step: int, writer: int) -> None:
    """What the process does; it says each step when it is saved."""
    try:
        checkpoints = Checkpoints(folder, keep_last=KEEP_LAST)
        while True:
            step += 1
            checkpoints.save(step, tree(step), {"step": step}, score=float(-step))
            os.write(writer, step.to_bytes(8, "little"))
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(1)  # an error must not continue as a second main()


def newest_after_check(folder: Path, acknowledged: int) -> int:
    """The newest step, after all that are listed have been loaded and compared."""
    checkpoints = Checkpoints(folder)
    steps = checkpoints.steps()
    assert max(steps, default=0) in (acknowledged, acknowledged + 1), (steps, acknowledged)
    for step in steps:
        loaded, info = checkpoints.load(tree(0), step)
        assert info == {"step": step}
        for name, array in tree(step).items():
            np.testing.assert_array_equal(loaded[name], array, err_msg=f"step {step}")
    return max(steps, default=0)


def tree(step: int) -> dict[str, Any]:
    """What a step saves."""
    return {f"leaf {number}": np.full(shape, step + number, np.float32) for number, shape in enumerate(SHAPES)}


if __name__ == "__main__":
    sys.exit(main())
