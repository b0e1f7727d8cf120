"""The bridge to NumPy and torch: what is shared, what is copied, and that no caller can reach into the env."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from ksim_envs import dlpack
from ksim_envs.errors import InvalidActionError, MissingDependencyError
from ksim_envs.vector_env import KsimVectorEnv
from tests.marks import MODES, OUTPUTS, TORCH, needs_torch

MakeEnv = Callable[..., KsimVectorEnv]

WRITABLE_OUTPUTS = pytest.mark.parametrize("output", ("numpy", TORCH))
ROOT = Path(__file__).parents[2]
CPU = jax.local_devices(backend="cpu")[0]


def sample_actions(env: KsimVectorEnv, num_steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (num_steps, *env.action_space.shape)).astype(np.float32)


def leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in leaves(tree)]


def address(leaf: Any) -> int:
    if isinstance(leaf, np.ndarray):
        return leaf.__array_interface__["data"][0]
    return leaf.unsafe_buffer_pointer() if isinstance(leaf, jax.Array) else leaf.data_ptr()


def run(env: KsimVectorEnv, actions: Iterable[Any], after: Callable[[Any], None] = lambda result: None) -> list[Any]:
    """Results of a seeded reset, of steps, and of a partial reset before every fifth; `after` sees each at once."""
    results = []

    def keep(result: Any) -> None:
        results.append((result, bits(result)))
        after(result)

    keep(env.reset(seed=0))
    for t, action in enumerate(actions):
        ended = np.zeros(env.num_envs, bool) if t == 0 else np.asarray(results[-1][0][2] | results[-1][0][3])
        if t % 5 == 4 or (env.autoreset_mode is AutoresetMode.DISABLED and ended.any()):
            keep(env.reset(options={"reset_mask": ended | (np.arange(env.num_envs) == t % env.num_envs)}))
        keep(env.step(action))
    return results


# Without a copy


@WRITABLE_OUTPUTS
@pytest.mark.parametrize("dtype", (jnp.float32, jnp.bool_, jnp.int32), ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("shape", ((16,), (16, 5)))
def test_an_export_has_the_memory_dtype_and_values_of_the_jax_array(shape: tuple[int], dtype: Any, output: str) -> None:
    leaf = jnp.arange(np.prod(shape)).reshape(shape).astype(dtype)
    exported = dlpack.Exporter(output, CPU)(leaf)
    assert address(exported) == address(leaf)
    assert np.asarray(exported).dtype == dtype
    np.testing.assert_array_equal(np.asarray(exported), np.asarray(leaf))


@OUTPUTS
def test_no_leaf_of_a_step_is_copied(output: str, make_env: MakeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(backend="native", output=output, autoreset_mode="same_step", episode_length=2)
    pairs = []

    class Recorded(dlpack.Exporter):
        def __call__(self, tree: Any) -> Any:
            exported = super().__call__(tree)
            pairs.extend(zip(leaves(exported), leaves(tree), strict=True))
            return exported

    monkeypatch.setattr(env, "_export", Recorded(output, CPU))
    run(env, sample_actions(env, 4))
    assert {str(leaf.dtype) for _, leaf in pairs} == {"float32", "bool", "int32"}
    first = {address(leaf): (address(exported), address(leaf)) for exported, leaf in reversed(pairs)}
    assert all(exported == leaf for exported, leaf in first.values())


@OUTPUTS
def test_every_leaf_is_of_the_library_asked_for(output: str, make_env: MakeEnv) -> None:
    env = make_env(backend="native", output=output, autoreset_mode="same_step", episode_length=3)
    if output == "torch":
        import torch
    kind = np.ndarray if output == "numpy" else jax.Array if output == "jax" else torch.Tensor
    results = [result for result, _ in run(env, sample_actions(env, 5))]
    assert any("_episode_length" in result[-1] for result in results)  # a partial reset
    assert all(isinstance(leaf, kind) for leaf in leaves(results))


@WRITABLE_OUTPUTS
def test_an_array_that_is_exported_twice_at_once_can_be_written_to_in_one_place(output: str) -> None:
    leaf = jnp.arange(16)
    pair = dlpack.Exporter(output, CPU)({"a": leaf, "b": leaf})
    pair["a"][:] = 7
    np.testing.assert_array_equal(np.asarray(pair["b"]), np.arange(16))


def test_empty_arrays_become_numpy() -> None:
    assert dlpack.Exporter("numpy", CPU)(jnp.zeros((16, 0))).shape == (16, 0)


def test_numpy_from_an_accelerator_is_fetched_at_once_and_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(jax, "device_get", lambda tree, get=jax.device_get: fetched.append(tree) or get(tree))
    tree = {"a": jnp.ones(3), "b": (jnp.zeros(2, bool), jnp.arange(4))}
    exported = dlpack.Exporter("numpy", SimpleNamespace(platform="gpu"))(tree)
    assert len(fetched) == 1 and bits(exported) == bits(tree)
    assert all(leaf.flags.writeable for leaf in leaves(exported))
    assert set(map(address, leaves(exported))).isdisjoint(map(address, leaves(tree)))


@pytest.mark.parametrize(("platform", "kept"), [("cpu", 0), ("gpu", 4)])
def test_torch_exports_of_two_steps_are_kept_alive_on_an_accelerator(
    platform: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    export = dlpack.Exporter("torch", SimpleNamespace(platform=platform))
    trees = [jnp.full(4, i) for i in range(6)]
    alive = [weakref.ref(tree) for tree in trees]
    while trees:
        export(trees.pop(0))
    assert [reference() is not None for reference in alive] == [False] * (6 - kept) + [True] * kept


def test_a_torch_that_cannot_use_the_gpu_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDependencyError, match='Install one with CUDA .*or pass backend="native"'):
        dlpack.Exporter("torch", SimpleNamespace(platform="gpu"))


def test_devices_have_torchs_names_of_this_process() -> None:
    assert dlpack.torch_name(CPU) == "cpu"
    assert dlpack.torch_name(SimpleNamespace(platform="gpu", id=9, local_hardware_id=1)) == "cuda:1"


# Whose memory it is


@WRITABLE_OUTPUTS
@MODES
def test_writing_into_every_returned_array_changes_nothing_later(
    mode: AutoresetMode, output: str, backend: str, make_env: MakeEnv
) -> None:
    env, twin = (make_env(backend=backend, output=output, autoreset_mode=mode, episode_length=7) for _ in range(2))
    actions = sample_actions(env, 40)

    def scribble(result: Any) -> None:
        for leaf in leaves(result):
            leaf[...] = True if "bool" in str(leaf.dtype) else 77

    expected = run(twin, actions)
    assert any(np.asarray(result[3]).any() for result, _ in expected if len(result) == 5)
    assert [kept for _, kept in run(Scribbled(env, scribble), actions)] == [kept for _, kept in expected]


class Scribbled:
    """The env, whose user writes into whatever it returns; the user's own loop works on copies."""

    def __init__(self, env: KsimVectorEnv, scribble: Callable[[Any], None]) -> None:
        self._env, self._scribble = env, scribble
        self.num_envs, self.autoreset_mode = env.num_envs, env.autoreset_mode

    def reset(self, **keywords: Any) -> Any:
        return self._copied(self._env.reset(**keywords))

    def step(self, action: Any) -> Any:
        return self._copied(self._env.step(action))

    def _copied(self, result: Any) -> Any:
        copied = jax.tree.map(lambda leaf: np.asarray(leaf).copy(), result)
        self._scribble(result)
        return copied


@OUTPUTS
@MODES
def test_returned_arrays_never_change(mode: AutoresetMode, output: str, make_env: MakeEnv) -> None:
    env = make_env(backend="native", output=output, autoreset_mode=mode, episode_length=7)
    results = run(env, sample_actions(env, 60))
    assert [bits(result) for result, _ in results] == [kept for _, kept in results]


@OUTPUTS
@MODES
def test_two_results_share_no_memory(mode: AutoresetMode, output: str, make_env: MakeEnv) -> None:
    env = make_env(backend="native", output=output, autoreset_mode=mode, episode_length=7)
    results = [[address(leaf) for leaf in leaves(result)] for result, _ in run(env, sample_actions(env, 60))]
    if output == "jax":  # which nobody can write to, so one array may stand in two places
        results = [set(addresses) for addresses in results]
    assert len(set().union(*results)) == sum(map(len, results))


@OUTPUTS
def test_results_share_no_memory_with_the_state_that_the_next_step_uses_up(
    output: str, backend: str, make_env: MakeEnv
) -> None:
    env = make_env(backend=backend, output=output, autoreset_mode="same_step", episode_length=3)

    def check(result: Any) -> None:
        state = [leaf for leaf in leaves(replace(env._state, key_E=None)) if leaf.size]
        assert {address(leaf) for leaf in leaves(result)}.isdisjoint(map(address, state))

    run(env, sample_actions(env, 8), check)


def test_returned_jax_arrays_are_never_donated(backend: str, make_env: MakeEnv) -> None:
    env = make_env(backend=backend, output="jax", autoreset_mode="same_step", episode_length=7)
    results = run(env, sample_actions(env, 20))
    arrays = [leaf for result, _ in results for leaf in leaves(result) if isinstance(leaf, jax.Array)]
    assert not any(array.is_deleted() for array in arrays)
    assert [bits(result) for result, _ in results] == [kept for _, kept in results]


def test_the_state_is_donated_in_spite_of_what_was_exported(make_env: MakeEnv) -> None:
    env = make_env(backend="native", output="jax")
    env.reset(seed=0)
    before = leaves(env._state.physics.integration)
    env.step(np.zeros(env.action_space.shape))
    assert all(leaf.is_deleted() for leaf in before)


# Actions


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy on a 64-byte boundary: the kind that jax reads in place."""
    memory = np.empty(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def from_numpy(values: np.ndarray) -> tuple[Any, Any]:
    return (buffer := aligned(values)), buffer


def from_torch(values: np.ndarray) -> tuple[Any, Any]:
    import torch

    return (buffer := torch.from_numpy(aligned(values))), buffer


def from_jax_over_numpy(values: np.ndarray) -> tuple[Any, Any]:
    return jax.dlpack.from_dlpack(buffer := aligned(values)), buffer


INPUTS = {"numpy": from_numpy, "torch": from_torch, "jax over a NumPy buffer": from_jax_over_numpy}


@OUTPUTS
@pytest.mark.parametrize(
    "source", [pytest.param(name, marks=needs_torch if name == "torch" else ()) for name in INPUTS]
)
def test_an_action_buffer_may_be_overwritten_as_soon_as_step_returns(
    source: str, output: str, backend: str, make_env: MakeEnv
) -> None:
    env, twin = (make_env(backend=backend, output=output, autoreset_mode="same_step") for _ in range(2))
    actions = sample_actions(env, 60)
    env.reset(seed=0)
    found = []
    for values in actions:
        action, buffer = INPUTS[source](values)
        found.append(env.step(action))
        buffer[...] = -1.0
    twin.reset(seed=0)
    assert [bits(result) for result in found] == [bits(twin.step(values)) for values in actions]


@OUTPUTS
def test_an_action_may_be_deleted_as_soon_as_step_returns(output: str, make_env: MakeEnv) -> None:
    env, twin = (make_env(backend="native", output=output) for _ in range(2))
    values = sample_actions(env, 1)[0]
    action = jnp.asarray(values)
    for one in (env, twin):
        one.reset(seed=0)
    result = env.step(action)
    action.delete()
    assert bits(result) == bits(twin.step(values))
    with pytest.raises(InvalidActionError, match="deleted"):
        env.step(action)


REAL_TENSORS: dict[str, Callable[[Any, Any], Any]] = {  # from torch and a tensor, one with the same values
    "float64": lambda torch, tensor: tensor.double(),
    "float16": lambda torch, tensor: tensor.half(),
    "bfloat16": lambda torch, tensor: tensor.bfloat16(),
    "transposed": lambda torch, tensor: tensor.T.contiguous().T,
    "column slice": lambda torch, tensor: torch.cat([tensor, tensor], 1)[:, :2],
    "strided": lambda torch, tensor: tensor.repeat_interleave(2, 1)[:, ::2],
    "unaligned": lambda torch, tensor: torch.cat([torch.zeros(1), tensor.ravel()])[1:].reshape(tensor.shape),
    "negative bit": lambda torch, tensor: torch.complex(tensor, -tensor).conj().imag,
    "detached": lambda torch, tensor: (tensor.clone().requires_grad_() * 1).detach(),
    "inference mode": lambda torch, tensor: torch.inference_mode()(lambda: tensor * 1)(),
}


@needs_torch
@pytest.mark.parametrize("kind", REAL_TENSORS)
def test_any_real_tensor_gives_the_results_of_its_values(kind: str, make_env: MakeEnv) -> None:
    import torch

    env, twin = (make_env(backend="native") for _ in range(2))
    values = np.random.default_rng(0).integers(-8, 9, (16, 2)).astype(np.float32) / 8
    for one in (env, twin):
        one.reset(seed=0)
    assert bits(env.step(REAL_TENSORS[kind](torch, torch.from_numpy(values.copy())))) == bits(twin.step(values))


@pytest.mark.parametrize("source", ("numpy", TORCH, "jax"))
@pytest.mark.parametrize("dtype", ("int64", "int32", "uint8"))
def test_integer_actions_are_numbers(dtype: str, source: str, make_env: MakeEnv) -> None:
    env, twin = (make_env(backend="native") for _ in range(2))
    values = np.random.default_rng(0).integers(0, 2, (16, 2))
    for one in (env, twin):
        one.reset(seed=0)
    action = values.astype(dtype)
    if source == "torch":
        import torch

        action = torch.from_numpy(action)
    elif source == "jax":
        action = jnp.asarray(values, "int32" if dtype == "int64" else dtype)
    assert bits(env.step(action)) == bits(twin.step(values.astype(np.float32)))


REFUSED_TENSORS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {  # and what the error says
    "requires grad": (lambda torch, zeros: zeros.requires_grad_(), r"detach\(\)"),
    "bool": (lambda torch, zeros: zeros.bool(), "bool"),
    "complex": (lambda torch, zeros: zeros.to(torch.complex64), "complex64"),
    "sparse": (lambda torch, zeros: zeros.to_sparse(), "(?i)sparse"),
    "meta": (lambda torch, zeros: zeros.to("meta"), "meta"),
    "shape": (lambda torch, zeros: zeros[:, :1], r"\(16, 1\).*\(16, 2\)"),
    "NaN": (lambda torch, zeros: zeros / 0, "finite"),
}


@needs_torch
@pytest.mark.parametrize("kind", REFUSED_TENSORS)
def test_other_tensors_are_refused_and_change_nothing(kind: str, make_env: MakeEnv) -> None:
    import torch

    env, twin = (make_env(backend="native") for _ in range(2))
    make_tensor, message = REFUSED_TENSORS[kind]
    for one in (env, twin):
        one.reset(seed=0)
    with pytest.raises(InvalidActionError, match=message):
        env.step(make_tensor(torch, torch.zeros(16, 2)))
    action = sample_actions(env, 1)[0]
    assert bits(env.step(action)) == bits(twin.step(action))


REFUSED_JAX = {
    "bool": lambda: jnp.zeros((16, 2), bool),
    "complex": lambda: jnp.zeros((16, 2), jnp.complex64),
    "keys": lambda: jax.random.split(jax.random.key(0), (16, 2)),
    "shape": lambda: jnp.zeros((2, 16)),
}


@pytest.mark.parametrize("kind", REFUSED_JAX)
def test_jax_arrays_that_are_no_actions_are_refused(kind: str, make_env: MakeEnv) -> None:
    env = make_env(backend="native")
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match=r"real numbers|\(2, 16\).*\(16, 2\)"):
        env.step(REFUSED_JAX[kind]())


def test_nan_in_an_action_of_jax_is_a_divergence_of_its_row(make_env: MakeEnv) -> None:
    env = make_env(backend="native")
    env.reset(seed=0)
    *_, truncated, info = env.step(jnp.zeros((16, 2)).at[3].set(jnp.nan))
    assert np.flatnonzero(truncated).tolist() == np.flatnonzero(info["diverged"]).tolist() == [3]


# Without torch

WITHOUT_TORCH = """
    import sys
    from importlib.abc import MetaPathFinder

    class NoTorch(MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.partition(".")[0] == "torch":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, NoTorch())
    import numpy as np
    from ksim_envs.errors import MissingDependencyError
    from ksim_envs.vector_env import KsimVectorEnv
    from tests.tiny import HOPPER_LIKE

    for output in ("numpy", "jax"):
        env = KsimVectorEnv(HOPPER_LIKE, 2, backend="native", output=output)
        env.reset(seed=0)
        env.step(np.zeros((2, 2)))
    try:
        KsimVectorEnv(HOPPER_LIKE, 2, backend="native", output="torch")
    except MissingDependencyError as error:
        print(error)
"""

ONLY_WHEN_ASKED = """
    import sys
    import numpy as np
    from ksim_envs.vector_env import KsimVectorEnv
    from tests.tiny import HOPPER_LIKE

    env = KsimVectorEnv(HOPPER_LIKE, 2, backend="native")
    env.reset(seed=0)
    env.step(np.zeros((2, 2)))
    assert "torch" not in sys.modules
    KsimVectorEnv(HOPPER_LIKE, 2, backend="native", output="torch")
    print("torch" in sys.modules)
"""


def printed(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_without_torch_only_its_output_fails_and_the_error_names_the_extra() -> None:
    assert printed(WITHOUT_TORCH) == 'output="torch" needs torch: pip install "ksim-envs[torch]".'


@needs_torch
def test_torch_is_imported_only_when_its_output_is_asked_for() -> None:
    assert printed(ONLY_WHEN_ASKED) == "True"
