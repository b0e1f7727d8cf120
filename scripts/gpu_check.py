"""Checks and measures `ksim_envs` on a machine with an accelerator, in one command, from a clone that is not installed.

    python scripts/gpu_check.py [--quick] [--parts ...] [--ids ...] [--num-envs 2048 8192 32768] [--out FOLDER]

It needs jax, numpy, gymnasium, mujoco, mujoco-mjx and jaxtyping; and torch for the part `dlpack`. What is found is
printed, and written to `FOLDER/DEVICE.json` and `.md` after every check, so that a driver that crashes or hangs loses
nothing. The exit status is 1 when a check failed. Without an accelerator all runs on the CPU, and what needs CUDA is
skipped. A check is a function that returns whether it passed, a value, and a detail.
"""

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import timeit
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from unittest import SkipTest

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else nothing is left for torch and other processes

import ksim_envs  # noqa: E402
from ksim_envs import bench  # noqa: E402

if find_spec("torch"):
    import torch

IDS = tuple(f"ksim/{name}-v0" for name in ("InvertedPendulum", "Hopper", "HalfCheetah", "Ant", "Humanoid"))
BATCH = 16  # rows of every env but those of the part bench: one size, so that each id is compiled once
NUM_STEPS, SPOILT_STEP, SPOILT_ROW = 200, 10, 5
NUM_STATES, TOLERANCE = 64, 5e-4  # of a control step on mjx, absolute and relative
HANG = 1800.0  # s without a result, after which the process ends with a traceback
MEMORY_SHARES = ({"PREALLOCATE": "true"}, {"PREALLOCATE": "true", "MEM_FRACTION": "0.30"}, {"PREALLOCATE": "false"})


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check or measurement."""

    part: str
    name: str
    status: Literal["ok", "skip", "fail"]
    value: Any = None  # what was found: anything that JSON can hold
    detail: str = ""  # why it was skipped or failed, or what the value means


Verdict = tuple[bool, Any, str]


def judge(part: str, name: str, check: Callable[..., Verdict], *args: Any) -> Result:
    """Run a check. Whatever it raises is a result too; `SkipTest` names what the machine lacks."""
    try:
        passed, value, detail = check(*args)
        return Result(part=part, name=name, status="ok" if passed else "fail", value=value, detail=detail)
    except SkipTest as reason:
        return Result(part=part, name=name, status="skip", detail=str(reason))
    except Exception as error:
        return Result(part=part, name=name, status="fail", detail=f"{type(error).__name__}: {error}")


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, from a process that starts JAX anew, and may even crash."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def make(id: str, backend: str = "mjx", **keywords: Any) -> Any:
    """An env of the common size."""
    return ksim_envs.make(id, BATCH, backend=backend, **keywords)


@cache  # keeps it alive, and its compiled programs, which the mjx envs of the id share
def core(id: str) -> Any:
    """The id's pure functions on mjx."""
    return ksim_envs.make_functional(id, BATCH, backend="mjx")


def random_actions(id: str, num_steps: int) -> np.ndarray:
    """(num_steps, BATCH, num_actions); an env clips what its actuators do not reach."""
    shape = (num_steps, BATCH, core(id).num_actions)
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)


# Part 1


def machine(args: argparse.Namespace) -> Iterator[Result]:
    """Devices, versions, flags and memory; and whether JAX uses the accelerator."""
    device, gpus = jax.devices()[0], nvidia_smi()
    facts = {
        **bench.method(),
        "torch": torch.__version__ if find_spec("torch") else "not installed",
        "runtime": device.client.platform_version,
        "GPUs and driver": gpus,
        "variables": {name: value for name, value in os.environ.items() if re.match("XLA_|JAX_|CUDA_V|KSIM_", name)},
        "memory": device.memory_stats() or "not reported",
    }
    yield from (Result(part="machine", name=name, status="ok", value=value) for name, value in facts.items())
    is_missed = gpus and "JAX_PLATFORMS" not in os.environ
    status = "ok" if device.platform != "cpu" else "fail" if is_missed else "skip"
    detail = {"skip": "JAX runs on the CPU", "fail": "JAX does not use the GPU: pip install 'jax[cuda13]'"}
    yield Result(part="machine", name="accelerator", status=status, value=str(device), detail=detail.get(status, ""))


def nvidia_smi() -> str:
    """Name, driver and memory of each GPU; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


# Part 2


def conformance(args: argparse.Namespace) -> Iterator[Result]:
    """`check_vector_env` in every mode and with every kind of output; and where native envs compute."""
    yield judge("conformance", "a native env stays on the CPU", native_device, args.ids[0])
    for id in args.ids:
        for mode in ("next_step", "disabled", "same_step"):
            for output in ("numpy", "jax", "torch") if mode == "same_step" else ("numpy",):
                yield judge("conformance", f"{id}, {mode}, {output}", conforms, id, mode, output)


def conforms(id: str, mode: str, output: str) -> Verdict:
    """An mjx env against the contract of vector envs; equal runs are compared only where the device repeats bits."""
    if output == "torch":
        place()
    skip = ("same seed",) if spread(id) else ()
    env = make(id, autoreset_mode=mode, output=output, episode_length=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ksim_envs.check_vector_env(env, num_steps=100, skip=skip)
    return True, f"left out: {skip}" if skip else "no fault", "; ".join(str(warning.message) for warning in caught)


def native_device(id: str) -> Verdict:
    """Where a native env's first observation lies on a machine whose default device may be an accelerator."""
    env = make(id, backend="native", output="jax")
    device = env.reset(seed=0)[0].device
    return device.platform == env.device, str(device), f"env.device is {env.device!r}"


# Part 3


def parity(args: argparse.Namespace) -> Iterator[Result]:
    """The mjx backend on this device against C MuJoCo, against itself, and with a broken row."""
    for id in args.ids:
        yield judge("parity", f"{id}: one step from {NUM_STATES} states, mjx against native", one_step, id)
        yield judge("parity", f"{id}: two equal runs of {NUM_STEPS} steps", determinism, id)
        yield judge("parity", f"{id}: NaN in one row", isolation, id)


def one_step(id: str) -> Verdict:
    """The error of mjx in one control step from states that a native env reaches."""
    steps = NUM_STATES // BATCH
    planned = random_actions(id, 10 * steps)
    with jax.default_device(jax.devices("cpu")[0]):
        native, starts = make(id, "native"), []
        native.reset(seed=0)
        for t, action in enumerate(planned, 1):
            native.step(action)
            if t % 10 == 0:
                starts.append((native.physics_state(), action))
        expected = [stepped(native, *start) for start in starts]
    found, value = [stepped(make(id), *start) for start in starts], {}
    for name in ("qpos", "qvel"):
        one, other = (np.stack([state[name] for state in states]) for states in (found, expected))
        value[f"{name}, absolute"] = float(np.abs(one - other).max())
        value[f"{name}, relative"] = float((np.abs(one - other) / (1 + np.abs(other))).max())
    passed = all(value[f"{name}, relative"] <= TOLERANCE for name in ("qpos", "qvel"))
    return passed, value, f"relative to 1 + |x|; bound {TOLERANCE}"


def stepped(env: Any, state: dict[str, np.ndarray], action: np.ndarray) -> dict[str, np.ndarray]:
    """The physics one control step after a state, which is rounded to float32 for both backends."""
    env.reset(seed=0, options={name: state[name].astype(np.float32) for name in ("qpos", "qvel")})
    env.step(action)
    return env.physics_state()


def rollout(id: str, is_spoilt: bool = False) -> dict[str, np.ndarray]:
    """What a run returns, (T, E, ...) by name; if so asked, with NaN put into one row's state."""
    mode, limit = np.int32(ksim_envs.Autoreset.SAME_STEP), np.int32(core(id).task.episode_length)
    state, _ = core(id).compiled_reset(core(id).unreset_state(core(id).keys(0)), np.ones(BATCH, bool), {})
    results = []
    for t, action in enumerate(random_actions(id, NUM_STEPS)):
        if is_spoilt and t == SPOILT_STEP:
            qpos = state.physics.integration["qpos"].at[SPOILT_ROW, 0].set(jnp.nan)
            integration = {**state.physics.integration, "qpos": qpos}
            state = replace(state, physics=replace(state.physics, integration=integration))
        action = jax.device_put(action, core(id).backend.device)
        state, result = core(id).compiled_step(state, action, mode, limit)
        results.append({"obs": result.obs_EL, "reward": result.reward_E, "diverged": result.info["diverged"]})
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(results))


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of two runs; 0 where they are the same bits, NaN where one holds a NaN."""
    if all(one[name].tobytes() == other[name].tobytes() for name in one):
        return 0.0
    return float(max(np.abs(np.subtract(one[name], other[name], dtype=np.float64)).max() for name in one))


@cache
def spread(id: str) -> float:
    """The difference of two equal runs."""
    return difference(rollout(id), rollout(id))


def determinism(id: str) -> Verdict:
    """Bits are promised on the CPU; on an accelerator the spread is reported."""
    passed = not spread(id) or (np.isfinite(spread(id)) and jax.default_backend() != "cpu")
    return passed, spread(id), "the largest difference; 0: the same bits"


def isolation(id: str) -> Verdict:
    """The other rows keep every bit, or where equal runs differ anyway, stay finite; the row is reported once."""
    clean, spoilt = rollout(id), rollout(id, is_spoilt=True)
    others = np.arange(BATCH) != SPOILT_ROW
    change = difference(*({name: run[name][:, others] for name in run} for run in (clean, spoilt)))
    reported = np.argwhere(spoilt["diverged"]).tolist()
    is_kept = not change or (spread(id) > 0 and np.isfinite(change))
    passed = is_kept and reported == [[SPOILT_STEP, SPOILT_ROW]] and np.isfinite(spoilt["obs"]).all()
    return passed, {"change of other rows": change, "reported at": reported}, f"equal runs differ by {spread(id):.1e}"


# Part 4. The letters are those of the questions that only a CUDA device can answer.


def dlpack(args: argparse.Namespace) -> Iterator[Result]:
    """JAX and torch on the same memory: raw arrays, and envs with `output="torch"`."""
    run = args.ids[0], 50 if args.quick else 1000
    checks: dict[str, Callable[[], Verdict]] = {
        "(a) addresses": addresses,
        "(a) an env's outputs": partial(outputs, run[0]),
        "(b) donation of an exported array": partial(in_new_process, donation),
        "(c) raw arrays, references kept": partial(raw_export, run[1], is_kept=True),
        "(c) env": partial(compared, *run),
        "(d) raw arrays, dropped at once": partial(raw_export, run[1], is_kept=False),
        "(d) env, torch on its own stream": partial(compared, *run, on_side=True),
        "(d) env, torch on its own stream, actions from JAX": partial(compared, *run, on_side=True, from_jax=True),
        "(e) cost of from_dlpack": partial(cost, run[0]),
        "(f) raw tensor, overwritten": partial(raw_import, run[1]),
        "(f) env, action overwritten": partial(compared, *run, overwrites=True),
        "(f) env, action overwritten, JAX output": partial(compared, *run, overwrites=True, output="jax"),
        "(g) cuda:1": partial(second_device, run[0]),
        **{f"(h) memory with {share}": partial(memory, share) for share in MEMORY_SHARES},
    }
    try:
        place()
    except SkipTest as reason:
        yield Result(part="dlpack", name="all of it", status="skip", detail=str(reason))
    else:
        yield from (judge("dlpack", name, check) for name, check in checks.items())


def place(needs_cuda: bool = False) -> str:
    """JAX's first device as torch spells it."""
    device = jax.devices()[0]
    if not find_spec("torch"):
        raise SkipTest("torch is not installed")
    if device.platform == "cpu" and not needs_cuda:
        return "cpu"
    if device.platform != "gpu" or not torch.cuda.is_available():
        raise SkipTest(f"this needs CUDA; JAX is on {device.device_kind}, torch is {torch.__version__}")
    return f"cuda:{device.id}"


def synchronize() -> None:
    """Wait for all that a CUDA device has been given, by either library."""
    if place() != "cpu":
        torch.cuda.synchronize()


def side() -> int:
    """Rows of the matrices whose products keep a device busy: ten take it milliseconds."""
    return 128 if place() == "cpu" else 2048


@cache
def work(num_products: int) -> Callable[[float], jax.Array]:
    """A JAX program that takes the device a while, and returns (8, side) times its argument."""

    def products(ones: jax.Array, number: float) -> jax.Array:  # of a known trip count: else a GPU's host waits in it
        return number * jax.lax.fori_loop(0, num_products, lambda _, product: product @ ones / side(), ones)[:8]

    return partial(jax.jit(products), jnp.ones((side(), side())))


def torch_work(num_products: int) -> Any:
    """The same for torch, on its current stream."""
    ones = torch.ones((side(), side()), device=place())
    return [torch.mm(ones, ones) for _ in range(num_products)][-1]


def addresses() -> Verdict:
    """Neither direction copies."""
    value = {}
    for dtype in ("float32", "bool"):
        array, tensor = jnp.ones((64, 17), dtype), torch.ones((64, 17), dtype=getattr(torch, dtype), device=place())
        value[f"{dtype} to torch"] = torch.from_dlpack(array).data_ptr() == array.unsafe_buffer_pointer()
        value[f"{dtype} to JAX"] = jax.dlpack.from_dlpack(tensor).unsafe_buffer_pointer() == tensor.data_ptr()
    return all(value.values()), value, "whether it is the same address"


def outputs(id: str) -> Verdict:
    """What an env returns lies where it says, and torch allocates nothing for it."""
    allocated = (lambda: 0) if place() == "cpu" else torch.cuda.memory_allocated
    env, before = make(id, output="torch"), allocated()
    tensors = (env.reset(seed=0)[0], *env.step(random_actions(id, 1)[0])[:4])
    places, taken = sorted({str(tensor.device) for tensor in tensors}), allocated() - before
    return places == [env.device] == [place()] and not taken, {"devices": places, "bytes of torch's": taken}, ""


def donation() -> Verdict:
    """An array that torch still views is donated: be it by a silent copy or an error, torch's data must stay."""
    place()
    add_one, value = jax.jit(lambda x: x + 1, donate_argnums=0), {}
    arrays = {"plain": jnp.zeros(1 << 16), "exported": jnp.zeros(1 << 16)}
    view = torch.from_dlpack(arrays["exported"])
    for name, array in arrays.items():
        try:
            jax.block_until_ready(add_one(array))
            value[name] = "donated" if array.is_deleted() else "silently copied"
        except Exception as error:
            value[name] = f"{type(error).__name__}: {error}"
    is_kept = bool((view == 0).all())
    return is_kept, value, "torch's data are as they were" if is_kept else "torch's data were overwritten"


def raw_export(num_steps: int, is_kept: bool) -> Verdict:
    """A slow program's results, copied by torch some time later. Of those dropped at once, JAX may reuse the memory."""
    copied, held = torch.empty((num_steps, 8, side()), device=place()), []
    for t in range(num_steps):
        array = work(10)(t)
        view = torch.from_dlpack(array)
        torch_work(10)
        copied[t].copy_(view)
        held.append(array if is_kept else None)
        del array, view
    wrong = (copied.cpu() != torch.arange(num_steps).reshape(-1, 1, 1)).flatten(1).any(1).sum().item()
    return not (wrong and is_kept), f"{wrong} of {num_steps} wrong", "" if is_kept else "a measurement, not a promise"


def raw_import(num_steps: int) -> Verdict:
    """A tensor is overwritten right after JAX, which is still busy, has been told to copy it."""
    tensor, copies = torch.empty((64, 17), device=place()), []
    for t in range(num_steps):
        tensor.fill_(t)
        work(10)(0)
        copies.append(jnp.array(jax.dlpack.from_dlpack(tensor), copy=True))
        tensor.fill_(-1)
    wrong = sum(bool((np.asarray(copy) != t).any()) for t, copy in enumerate(copies))
    return True, f"{wrong} of {num_steps} wrong", "a measurement, not a promise"


def played(id, num_steps, output="torch", waits=False, on_side=False, from_jax=False, overwrites=False) -> np.ndarray:
    """A run's observations, each copied and then dropped at once.

    It synchronizes after every step (`waits`), or keeps JAX busy before each; torch is on a stream of its own
    (`on_side`); actions are JAX arrays, for which JAX does not wait for torch (`from_jax`), or one tensor that is
    filled with NaN as soon as `step` returns (`overwrites`).
    """
    reused = torch.empty((BATCH, core(id).num_actions), device=place(needs_cuda=on_side))
    planned = random_actions(id, num_steps)
    planned = list(jnp.asarray(planned) if from_jax else torch.as_tensor(planned, device=place()))
    env, seen = make(id, output=output), []
    env.reset(seed=0)
    with torch.cuda.stream(torch.cuda.Stream()) if on_side else contextlib.nullcontext():
        for action in planned:
            if not waits:
                work(10)(0)
            obs = env.step(reused.copy_(action) if overwrites else action)[0]
            reused.fill_(float("nan"))
            seen.append(obs.clone() if output == "torch" else jnp.copy(obs))
            del obs
            if waits:
                synchronize()
    synchronize()
    return np.stack([obs.cpu().numpy() if output == "torch" else np.asarray(obs) for obs in seen])


@cache
def reference(id: str, num_steps: int) -> np.ndarray:
    """The observations of a run that waits after every step."""
    first, second = (played(id, num_steps, waits=True) for _ in range(2))
    if first.tobytes() != second.tobytes():
        raise SkipTest("two synchronized runs differ on this device, so there are no bits to compare with")
    return first


def compared(id: str, num_steps: int, **how: Any) -> Verdict:
    """A run that never waits against the reference, bit by bit."""
    found, expected = played(id, num_steps, **how), reference(id, num_steps)
    wrong = sum(one.tobytes() != other.tobytes() for one, other in zip(found, expected, strict=True))
    return not wrong, f"{wrong} of {num_steps} steps differ", ""


def cost(id: str) -> Verdict:
    """What a handover costs, and whether it waits for the array that it hands over."""
    env, array = make(id, output="torch"), jnp.ones((BATCH, 17))
    action = torch.zeros((BATCH, core(id).num_actions), device=place())
    env.reset(seed=0)
    value = {
        "to torch, us": 1e3 * timeit.timeit(lambda: torch.from_dlpack(array), number=1000),
        "to JAX, us": 1e3 * timeit.timeit(lambda: jax.dlpack.from_dlpack(action), number=1000),
        "to torch, ms": waiting(lambda: work(200)(1), torch.from_dlpack),
        "to JAX, ms": waiting(lambda: torch_work(200), jax.dlpack.from_dlpack),
        "env.step, ms": waiting(lambda: action, env.step),
    }
    return True, value, "of arrays that are ready; and where the device is still at work on them"


def waiting(begin: Callable[[], Any], use: Callable[[Any], Any]) -> dict[str, float]:
    """For how long `use(begin())` holds its caller up, and how long the device needs; in ms, medians."""
    times = []
    for _ in range(6):  # the first compiles
        pending, start = begin(), timeit.default_timer()
        result, returned = use(pending), timeit.default_timer()
        jax.block_until_ready((pending, result))
        synchronize()
        times.append((1e3 * (returned - start), 1e3 * (timeit.default_timer() - start)))
    return dict(zip(("held up", "of"), map(statistics.median, zip(*times[1:], strict=True)), strict=True))


def second_device(id: str) -> Verdict:
    """An env on cuda:1, with actions from there, while torch's current device is cuda:0."""
    place(needs_cuda=True)
    if min(torch.cuda.device_count(), len(jax.devices())) < 2:
        raise SkipTest("there is one CUDA device")
    env = make(id, output="torch", device=jax.devices()[1])
    first, action = env.reset(seed=0)[0], torch.zeros((BATCH, core(id).num_actions), device=env.device)
    value = {"reset": str(first.device), "step": str(env.step(action)[0].device)}
    return set(value.values()) == {env.device}, value, f"env.device is {env.device!r}"


def memory(share: dict[str, str]) -> Verdict:
    """What JAX, started with these variables in a new process, leaves for torch."""
    return True, in_new_process(memory_left, share, place(needs_cuda=True)), "GiB, before torch allocates one of them"


def memory_left(share: dict[str, str], device: str) -> dict[str, float]:
    """The device's memory in GiB before and after JAX has started."""
    os.environ.update({f"XLA_PYTHON_CLIENT_{name}": value for name, value in share.items()})
    before, total = torch.cuda.mem_get_info(device)
    jax.block_until_ready(jnp.ones(8))
    left = {"total": total, "free before": before, "free after": torch.cuda.mem_get_info(device)[0]}
    torch.empty(1 << 30, dtype=torch.uint8, device=device)
    return {name: size / (1 << 30) for name, size in left.items()}


# Part 5


def benchmark(args: argparse.Namespace) -> Iterator[Result]:
    """`ksim bench` on mjx; each task and size in a new process, so that the peak of memory is its own."""
    for id in args.ids[: 1 if args.quick else None]:
        for num_envs in args.num_envs:
            yield judge("bench", f"{id}, {num_envs} envs", measured, id, num_envs, args.quick)


def measured(id: str, num_envs: int, is_quick: bool) -> Verdict:
    """One task and size."""
    size = {"num_envs": (num_envs,), "num_steps": 5 if is_quick else 50, "num_rounds": 2 if is_quick else 5}
    config = bench.BenchConfig(ids=(id,), backend="mjx", opponents=False, **size)
    try:
        return True, in_new_process(rows_and_peak, config), ""
    except Exception as error:
        if isinstance(error, MemoryError) or re.search("RESOURCE_EXHAUSTED|out of memory", str(error)):
            raise SkipTest(f"out of memory: {str(error)[:200]}") from error
        raise


def rows_and_peak(config: bench.BenchConfig) -> dict[str, Any]:
    """The rows of the first task and size, and the device's peak of memory in bytes where JAX reports it."""
    rows = [asdict(row) for row in next(bench.run(config))]
    return {"rows": rows, "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")}


# The report


def write(results: list[Result], folder: Path) -> str:
    """Write everything so far as JSON and as Markdown; returns the latter."""
    kind = jax.devices()[0].device_kind
    measured = [result for result in results if result.part == "bench" and result.value]
    rows = [{**row, "peak_bytes": result.value["peak_bytes"]} for result in measured for row in result.value["rows"]]
    checks = [asdict(result) for result in results if result not in measured]
    report = {
        "machine": {result.name: result.value for result in results if result.part == "machine"},
        "results": [asdict(result) for result in results],
        "bench": rows,
    }
    text = "\n".join([f"# `ksim_envs` on {kind}\n", *table(checks), "", *table(rows), ""])
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / re.sub(r"\W+", "-", kind)
    stem.with_suffix(".json").write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [row.values() for row in rows]
    return (
        ["| " + " | ".join(map(cell, line)) + " |" for line in (rows[0], ["---"] * len(rows[0]), *lines)]
        if rows
        else []
    )


def cell(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {cell(part)}" for name, part in value.items())
    text = f"{value:,.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return " ".join(text.replace("|", "/").split())


PARTS = {"machine": machine, "conformance": conformance, "parity": parity, "dlpack": dlpack, "bench": benchmark}


def guarded(part: str, args: argparse.Namespace) -> Iterator[Result]:
    """A part's results; an exception ends the part, not the run."""
    try:
        yield from PARTS[part](args)
    except Exception as error:
        yield Result(part=part, name="the rest", status="fail", detail=f"{type(error).__name__}: {error}")


def main() -> int:
    """Run the parts in turn; the exit status is 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small tasks, short runs, 16 envs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all of them by default")
    parser.add_argument("--ids", nargs="+", help="tasks; the part dlpack takes the first")
    parser.add_argument("--num-envs", nargs="+", type=int, help="batch sizes of the part bench")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "gpu", help="a folder")
    args, results, text = parser.parse_args(), [], ""
    args.ids = args.ids or (IDS[:2] if args.quick else IDS)
    args.num_envs = args.num_envs or ([BATCH] if args.quick else [2048, 8192, 32768])
    for part in args.parts:
        faulthandler.dump_traceback_later(HANG, exit=True)
        for result in guarded(part, args):
            faulthandler.dump_traceback_later(HANG, exit=True)
            print(f"{result.status:4}  {part}: {result.name}: {cell(result.value)} {cell(result.detail)}", flush=True)
            results.append(result)
            text = write(results, args.out)
    print(f"\n{text}")
    return int(any(result.status == "fail" for result in results))


if __name__ == "__main__":
    sys.exit(main())
