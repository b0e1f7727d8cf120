"""Envs with `output="torch"`: where outputs lie, what a handover costs, and whether a loop need not wait."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import SkipTest

import jax
import jax.numpy as jnp
import numpy as np

from scripts.gpu_check.checks import Verdict
from scripts.gpu_check.device import jax_work, place, synchronize, torch, torch_work
from scripts.gpu_check.envs import BATCH, core, make, random_actions


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How a loop plays an env. It copies each observation, which it then drops at once."""

    id: str
    num_steps: int
    output: str = "torch"
    waits: bool = False
    """It synchronizes after every step; else it keeps JAX busy before each."""
    on_side: bool = False
    """torch is on a stream of its own."""
    from_jax: bool = False
    """Actions are JAX arrays, for which JAX does not wait for torch."""
    overwrites: bool = False
    """Actions are one tensor, filled with NaN as soon as `step` returns."""


def compared(loop: Loop) -> Verdict:
    """A loop that never waits against one that does, bit by bit."""
    found, expected = observations(loop), reference(loop.id, loop.num_steps)
    wrong = sum(one.tobytes() != other.tobytes() for one, other in zip(found, expected, strict=True))
    return not wrong, f"{wrong} of {loop.num_steps} steps differ", ""


@cache
def reference(id: str, num_steps: int) -> np.ndarray:
    """The observations of a loop that waits after every step."""
    first, second = (observations(Loop(id=id, num_steps=num_steps, waits=True)) for _ in range(2))
    if first.tobytes() != second.tobytes():
        raise SkipTest("two synchronized runs differ on this device, so there are no bits to compare with")
    return first


def observations(loop: Loop) -> np.ndarray:
    """(num_steps, BATCH, L): what the loop copied."""
    device, is_torch = place(needs_cuda=loop.on_side), loop.output == "torch"
    planned = random_actions(loop.id, loop.num_steps)
    actions = list(jnp.asarray(planned) if loop.from_jax else torch.as_tensor(planned, device=device))
    reused = torch.empty(planned.shape[1:], device=device)
    env, copies = make(loop.id, output=loop.output), []
    env.reset(seed=0)
    with torch.cuda.stream(torch.cuda.Stream()) if loop.on_side else nullcontext():
        for action in actions:
            if not loop.waits:
                jax_work(10)
            obs = env.step(reused.copy_(action) if loop.overwrites else action)[0]
            reused.fill_(float("nan"))
            copies.append(obs.clone() if is_torch else jnp.copy(obs))
            del obs
            if loop.waits:
                synchronize()
    synchronize()
    return np.stack([np.asarray(copy.cpu() if is_torch else copy) for copy in copies])


def outputs(id: str) -> Verdict:
    """What an env returns lies where it says, and torch allocates nothing for it."""
    env, before = make(id, output="torch"), allocated()
    tensors = (env.reset(seed=0)[0], *env.step(random_actions(id, 1)[0])[:4])
    places, taken = sorted({str(tensor.device) for tensor in tensors}), allocated() - before
    return places == [env.device] == [place()] and not taken, {"devices": places, "bytes of torch's": taken}, ""


def allocated() -> int:
    """Bytes that torch has taken of a CUDA device."""
    return 0 if place() == "cpu" else torch.cuda.memory_allocated()


def cost(id: str) -> Verdict:
    """What a handover costs, and whether it waits for the array that it hands over."""
    env, array = make(id, output="torch"), jnp.ones((BATCH, 17))
    action = torch.zeros((BATCH, core(id).num_actions), device=place())
    env.reset(seed=0)
    value = {
        "to torch, us": 1e3 * timeit.timeit(lambda: torch.from_dlpack(array), number=1000),
        "to JAX, us": 1e3 * timeit.timeit(lambda: jax.dlpack.from_dlpack(action), number=1000),
        "to torch, ms": waiting(lambda: jax_work(200), torch.from_dlpack),
        "to JAX, ms": waiting(lambda: torch_work(200), jax.dlpack.from_dlpack),
        "env.step, ms": waiting(lambda: action, env.step),
    }
    return True, value, "of arrays that are ready; and where the device is still at work on them"


def waiting(begin: Callable[[], Any], use: Callable[[Any], Any]) -> dict[str, float]:
    """For how long `use(begin())` holds its caller up, and how long the device needs; in ms, medians."""
    held_up: list[float] = []
    needed: list[float] = []
    for _ in range(6):
        pending, start = begin(), timeit.default_timer()
        result, returned = use(pending), timeit.default_timer()
        jax.block_until_ready((pending, result))
        synchronize()
        held_up.append(1e3 * (returned - start))
        needed.append(1e3 * (timeit.default_timer() - start))
    return {"held up": statistics.median(held_up[1:]), "of": statistics.median(needed[1:])}  # the first compiled


def second_device(id: str) -> Verdict:
    """An env on cuda:1, with actions from there, while torch's current device is cuda:0."""
    place(needs_cuda=True)
    if min(torch.cuda.device_count(), len(jax.devices())) < 2:
        raise SkipTest("there is one CUDA device")
    env = make(id, output="torch", device=jax.devices()[1])
    first, action = env.reset(seed=0)[0], torch.zeros((BATCH, core(id).num_actions), device=env.device)
    value = {"reset": str(first.device), "step": str(env.step(action)[0].device)}
    return set(value.values()) == {env.device}, value, f"env.device is {env.device!r}"
