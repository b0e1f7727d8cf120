"""Does MJX on a CPU ever hang? Start many processes in turn, each with a time limit, and count those that end well.

    python -m scripts.stress_mjx --processes 20 --num-envs 64 --num-steps 20

JAX 0.10 hangs in about half of such runs without the XLA flag that `import ksim_envs` sets; with it, none may.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

PROGRAM = """
import ksim_envs
env = ksim_envs.make({id!r}, {num_envs}, backend="mjx")
env.reset(seed=0)
for _ in range({num_steps}):
    env.step(env.action_space.sample())
"""


def main() -> int:
    """Run the processes, say how each ended, and return 1 if one did not end well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--id", default="ksim/Humanoid-v0")
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--num-steps", type=int, default=20)
    parser.add_argument("--limit", type=float, default=300.0, help="s for one process")
    args = parser.parse_args()
    program = PROGRAM.format(id=args.id, num_envs=args.num_envs, num_steps=args.num_steps)
    ended = 0
    for number in range(args.processes):
        start = time.perf_counter()
        try:
            status = subprocess.run([sys.executable, "-c", program], timeout=args.limit, check=False).returncode
        except subprocess.TimeoutExpired:
            status = None
        ended += status == 0
        outcome = "hung" if status is None else f"ended with status {status}"
        print(f"process {number + 1}: {outcome} after {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{ended} of {args.processes} ended well")
    return int(ended != args.processes)


if __name__ == "__main__":
    sys.exit(main())
