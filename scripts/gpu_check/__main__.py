"""Checks and measures `ksim_envs` on a machine with an accelerator, in one command, from a clone that is not installed.

    python -m scripts.gpu_check [--quick] [--parts ...] [--ids ...] [--num-envs 2048 8192 32768] [--out FOLDER]

It needs jax, numpy, gymnasium, mujoco, mujoco-mjx, jaxtyping and typeguard; and torch for the part `dlpack`. What is
found is printed, and written to `FOLDER/DEVICE.json` and `.md` after every check, so that a driver that crashes or
hangs loses nothing. The exit status is 1 when a check failed. Without an accelerator all runs on the CPU, and what
needs CUDA is skipped.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.gpu_check import conformance, dlpack, machine, parity, throughput
from scripts.gpu_check.checks import Checks, Result, judge
from scripts.gpu_check.envs import BATCH
from scripts.gpu_check.report import cell, write

IDS = [f"ksim/{name}-v0" for name in ("InvertedPendulum", "Hopper", "HalfCheetah", "Ant", "Humanoid")]
OUT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "gpu"
HANG = 1800.0
"""s without a result, after which the process ends with a traceback."""
PARTS: dict[str, Callable[[argparse.Namespace], Checks]] = {
    "machine": lambda args: machine.checks(),
    "conformance": lambda args: conformance.checks(args.ids),
    "parity": lambda args: parity.checks(args.ids),
    "dlpack": lambda args: dlpack.checks(args.ids[0], num_steps=50 if args.quick else 1000),
    "bench": lambda args: throughput.checks(args.ids, args.num_envs, is_quick=args.quick),
}


def main() -> int:
    """Run the parts in turn; the exit status is 1 when a check failed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves memory for torch and other processes
    args, text = parsed(), ""
    results: list[Result] = []
    for part in args.parts:
        for name, check in PARTS[part](args).items():
            faulthandler.dump_traceback_later(HANG, exit=True)
            result = judge(part, name, check)
            print(f"{result.status:4}  {part}: {name}: {cell(result.value)} {cell(result.detail)}", flush=True)
            results.append(result)
            text = write(results, args.out)
    print(f"\n{text}")
    return int(any(result.status == "fail" for result in results))


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="two small tasks, short runs, 16 envs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all of them by default")
    parser.add_argument("--ids", nargs="+", help="tasks; the part dlpack takes the first")
    parser.add_argument("--num-envs", nargs="+", type=int, help="batch sizes of the part bench")
    parser.add_argument("--out", type=Path, default=OUT, help="a folder")
    args = parser.parse_args()
    args.ids = args.ids or (IDS[:2] if args.quick else IDS)
    args.num_envs = args.num_envs or ([BATCH] if args.quick else [2048, 8192, 32768])
    return args


if __name__ == "__main__":
    sys.exit(main())
