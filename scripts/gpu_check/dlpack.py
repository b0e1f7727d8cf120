"""JAX and torch on the same memory: raw arrays here, envs in `dlpack_envs`.

The letters in the names of the checks are those of the questions that only a CUDA device can answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import SkipTest

import jax
import jax.numpy as jnp
import numpy as np

from scripts.gpu_check.checks import Checks, Verdict, in_new_process
from scripts.gpu_check.device import jax_work, place, side, torch, torch_work
from scripts.gpu_check.dlpack_envs import Loop, compared, cost, outputs, second_device

MEMORY_SHARES = (
    {"PYTHON_CLIENT_PREALLOCATE": "true"},
    {"PYTHON_CLIENT_PREALLOCATE": "true", "CLIENT_MEM_FRACTION": "0.30"},
    {"PYTHON_CLIENT_PREALLOCATE": "false"},
)


def checks(id: str, num_steps: int) -> Checks:
    """All of them; one that is skipped where torch does not share the device."""
    try:
        place()
    except SkipTest:
        return {"all of it": lambda: (True, place(), "")}

    def env(**how: Any) -> Callable[[], Verdict]:
        return partial(compared, Loop(id=id, num_steps=num_steps, **how))

    return {
        "(a) addresses": addresses,
        "(a) an env's outputs": partial(outputs, id),
        "(b) donation of an exported array": partial(in_new_process, donation),
        "(c) raw arrays, references kept": partial(raw_export, num_steps, is_kept=True),
        "(c) env": env(),
        "(d) raw arrays, dropped at once": partial(raw_export, num_steps, is_kept=False),
        "(d) env, torch on its own stream": env(on_side=True),
        "(d) env, torch on its own stream, actions from JAX": env(on_side=True, from_jax=True),
        "(e) cost of from_dlpack": partial(cost, id),
        "(f) raw tensor, overwritten": partial(raw_import, num_steps),
        "(f) env, action overwritten": env(overwrites=True),
        "(f) env, action overwritten, JAX output": env(overwrites=True, output="jax"),
        "(g) cuda:1": partial(second_device, id),
        **{f"(h) memory with {share}": partial(memory, share) for share in MEMORY_SHARES},
    }


def addresses() -> Verdict:
    """Neither direction copies."""
    value: dict[str, bool] = {}
    for dtype in ("float32", "bool"):
        array, tensor = jnp.ones((64, 17), dtype), torch.ones((64, 17), dtype=getattr(torch, dtype), device=place())
        value[f"{dtype} to torch"] = torch.from_dlpack(array).data_ptr() == array.unsafe_buffer_pointer()
        value[f"{dtype} to JAX"] = jax.dlpack.from_dlpack(tensor).unsafe_buffer_pointer() == tensor.data_ptr()
    return all(value.values()), value, "whether it is the same address"


def donation() -> Verdict:
    """An array that torch still views is donated: be it by a silent copy or an error, torch's data must stay."""
    add_one = jax.jit(lambda x: x + 1, donate_argnums=0)
    arrays, value = {"plain": jnp.zeros(1 << 16), "exported": jnp.zeros(1 << 16)}, {}
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
    copied, kept = torch.empty((num_steps, 8, side()), device=place()), []
    for t in range(num_steps):
        array = jax_work(10, t)
        view = torch.from_dlpack(array)
        torch_work(10)
        copied[t].copy_(view)
        if is_kept:
            kept.append(array)
        del array, view
    wrong = (copied.cpu() != torch.arange(num_steps).reshape(-1, 1, 1)).flatten(1).any(1).sum().item()
    return not (wrong and is_kept), f"{wrong} of {num_steps} wrong", "" if is_kept else "a measurement, not a promise"


def raw_import(num_steps: int) -> Verdict:
    """A tensor is overwritten right after JAX, which is still busy, has been told to copy it."""
    tensor, copies = torch.empty((64, 17), device=place()), []
    for t in range(num_steps):
        tensor.fill_(t)
        jax_work(10)
        copies.append(jnp.array(jax.dlpack.from_dlpack(tensor), copy=True))
        tensor.fill_(-1)
    wrong = sum(bool((np.asarray(copy) != t).any()) for t, copy in enumerate(copies))
    return True, f"{wrong} of {num_steps} wrong", "a measurement, not a promise"


def memory(share: dict[str, str]) -> Verdict:
    """What JAX, started with these variables in a new process, leaves for torch."""
    return True, in_new_process(memory_left, share, place(needs_cuda=True)), "GiB, before torch allocates one of them"


def memory_left(share: dict[str, str], device: str) -> dict[str, float]:
    """The device's memory in GiB before and after JAX has started."""
    os.environ.update({f"XLA_{name}": value for name, value in share.items()})
    before, total = torch.cuda.mem_get_info(device)
    jax.block_until_ready(jnp.ones(8))
    left = {"total": total, "free before": before, "free after": torch.cuda.mem_get_info(device)[0]}
    torch.empty(1 << 30, dtype=torch.uint8, device=device)
    return {name: size / (1 << 30) for name, size in left.items()}
