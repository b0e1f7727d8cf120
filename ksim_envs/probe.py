"""Runs a vector env with random actions for the checker, and records all it returns: as it came, and copied at once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from ksim_envs.errors import ConformanceError

Tree: TypeAlias = Any  # an array (NumPy, JAX, torch, CuPy), or dictionaries and tuples of arrays
Actions: TypeAlias = list[Any]  # one action for each env

NUM_ENDS = 3  # the record stops at the third step on which episodes end
WINDOW = 16  # steps of the runs that need no end


def tree_leaves(tree: Tree, place: str) -> Iterator[tuple[str, Any]]:
    """Every leaf of a tree, with its place in words."""
    if isinstance(tree, dict | tuple):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from tree_leaves(part, f"{place}[{key!r}]")
    else:
        yield place, tree


def info_leaves(info: dict[str, Any], place: str = "info") -> Iterator[tuple[str, bool, Any]]:
    """Every leaf of an info, and whether it is the mask `_key` of another one."""
    for key, value in info.items():
        if isinstance(value, dict):
            yield from info_leaves(value, f"{place}[{key!r}]")
        else:
            is_mask = key.startswith("_") and key[1:] in info
            yield from ((path, is_mask, leaf) for path, leaf in tree_leaves(value, f"{place}[{key!r}]"))


def is_array(leaf: Any) -> bool:
    """Whether NumPy can take this leaf as an array, directly or by DLPack."""
    return hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__")


def to_numpy(array: Any) -> NDArray[Any]:
    """The array on the host; a view where that is possible."""
    try:
        return np.asarray(array) if hasattr(array, "__array__") else np.from_dlpack(array)
    except (TypeError, RuntimeError):  # on a GPU, or part of an autograd graph
        return np.asarray(array.detach().cpu()) if hasattr(array, "detach") else np.from_dlpack(array, device="cpu")


def host_copy(tree: Tree) -> Tree:
    """The same tree in new NumPy arrays on the host."""
    if isinstance(tree, dict):
        return {key: host_copy(part) for key, part in tree.items()}
    if isinstance(tree, list):
        return [host_copy(part) for part in tree]
    if isinstance(tree, tuple):
        return getattr(tree, "_make", tuple)(map(host_copy, tree))  # the same named tuple, if it is one
    if not is_array(tree):
        return tree
    copied = np.array(to_numpy(tree))
    if copied.dtype == object:
        for index in np.ndindex(copied.shape):
            copied[index] = host_copy(copied[index])
    return copied


def tree_bits(tree: Tree) -> bytes:
    """All bits of a tree, for comparison."""
    if isinstance(tree, np.generic) or (isinstance(tree, np.ndarray) and tree.dtype != object):
        return tree.tobytes()
    if isinstance(tree, np.ndarray | dict | list | tuple):
        return b"|".join(map(tree_bits, [*tree, *tree.values()] if isinstance(tree, dict) else tree))
    return repr(tree).encode()


def kind_of(value: Any) -> str:
    """A value in words, for messages: dtype and shape, or its type."""
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def is_finite(leaf: Any) -> NDArray[np.bool_]:
    """Where a leaf is finite; everywhere for what is not floating point."""
    is_real = isinstance(leaf, np.ndarray) and np.issubdtype(leaf.dtype, np.inexact)
    return np.isfinite(leaf) if is_real else np.ones(np.shape(leaf), bool)


def space_contains(space: Space[Any], value: Any) -> bool:
    """Whether the value lies in the space, without Gymnasium's warnings."""
    with warnings.catch_warnings(action="ignore"):  # Gymnasium warns of scalars and of None
        return space.contains(value)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array that starts on a 64-byte boundary: the kind that a jitted JAX function reads in place."""
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(num_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + num_bytes].view(dtype).reshape(shape)


def differing(first: list[bytes], second: list[bytes]) -> set[int]:
    """The indices at which two lists of bits differ."""
    return {env for env, (one, other) in enumerate(zip(first, second, strict=True)) if one != other}


def indices_of(mask: NDArray[np.bool_]) -> set[int]:
    """Indices of the envs for which anything in a batch is True."""
    return {int(index[0]) for index in np.argwhere(mask)}


def named_envs(indices: set[int]) -> str:
    """Env indices in words, at most eight of them."""
    found = [str(index) for index in sorted(indices)]
    return f"env{'s' * (len(found) != 1)} {', '.join(found[:8])}{', ...' * (len(found) > 8)}"


def described(error: Exception) -> str:
    """An error in words."""
    return str(error) if isinstance(error, ConformanceError) else f"the env raised {type(error).__name__}: {error}"


@dataclass(frozen=True)
class Call:
    """One `reset` or `step`: what came back (`raw`), and copies of it. A reset counts as reward 0 and no end."""

    title: str
    space: Space[Any]
    raw: dict[str, Any]
    obs: Tree
    reward: Any
    terminated: Any
    truncated: Any
    info: dict[str, Any]
    is_action_kept: bool = True

    @property
    def is_step(self) -> bool:
        """Whether this was a call of `step`."""
        return "reward" in self.raw

    def is_batch_of(self, num_envs: int) -> bool:
        """Whether reward, flags and observation have one row for each env."""
        shapes = {np.shape(batch) for batch in (self.reward, self.terminated, self.truncated)}
        return shapes == {(num_envs,)} and len(self.obs_bits) == num_envs

    @cached_property
    def ended(self) -> NDArray[np.bool_]:
        """(num_envs,) where an episode ended."""
        return np.asarray(self.terminated, bool) | np.asarray(self.truncated, bool)

    @cached_property
    def obs_bits(self) -> list[bytes]:
        """Each env's observation as bits."""
        return [tree_bits(row) for row in iterate(self.space, self.obs)]

    @cached_property
    def bits(self) -> list[bytes]:
        """Each env's observation, reward and flags as bits."""
        rows = zip(self.obs_bits, self.reward, self.terminated, self.truncated, strict=True)
        return [obs + tree_bits(rest) for obs, *rest in rows]

    @property
    def final_rows(self) -> list[Any]:
        """`final_obs` by env, be it an array of objects, a dense array, or a tree of dense arrays."""
        value = self.info.get("final_obs")
        return list(value if isinstance(value, np.ndarray) else iterate(self.space, value))


class Probe:
    """The env under test, the record of its first run, and the facts that decide which clauses apply."""

    def __init__(self, env: Any, num_steps: int, seed: int) -> None:
        self.env, self.num_steps, self.seed = env, num_steps, seed
        self.num_envs: Any = getattr(env, "num_envs", None)
        mode = getattr(env, "metadata", {}).get("autoreset_mode")
        self.mode = mode if isinstance(mode, AutoresetMode) else None
        self.facts = {"mode", self.mode.name} if self.mode else set[str]()
        self.calls: list[Call] = []
        self.repeated_calls: list[Call] = []
        self.actions: list[Actions] = []
        self.other_actions: Actions = []

    def reset(self, title: str = "reset", **arguments: Any) -> Call:
        """Reset the env and record the call."""
        return self._call(title, ("obs", "info"), self.env.reset(**arguments))

    def step(self, actions: Actions, title: str, overwrite: Actions | None = None) -> Call:
        """Step the env and record the call; then overwrite the action buffer, if asked to."""
        space = self.env.single_action_space
        batch = concatenate(space, actions, create_empty_array(space, self.num_envs, fn=aligned_empty))
        sent = tree_bits(batch)
        returned = self.env.step(batch)
        if overwrite is not None:  # before all else: an asynchronous env may still be at work
            concatenate(space, overwrite, batch)
        is_action_kept = overwrite is not None or tree_bits(batch) == sent
        names = ("obs", "reward", "terminated", "truncated", "info")
        return self._call(title, names, returned, is_action_kept=is_action_kept)

    def _call(self, title: str, names: tuple[str, ...], returned: Any, **extra: Any) -> Call:
        if not isinstance(returned, tuple) or len(returned) != len(names) or not isinstance(returned[-1], dict):
            kinds = [kind_of(value) for value in returned] if isinstance(returned, tuple) else kind_of(returned)
            raise ConformanceError(f"{title} returned {kinds} for {names}")
        no = np.zeros(self.num_envs, bool)
        raw = dict(zip(names, returned, strict=True))
        values = {"reward": no.astype(float), "terminated": no, "truncated": no} | host_copy(raw)
        return Call(title=title, space=self.env.observation_space, raw=raw, **values, **extra)

    def play(self, actions: Iterable[Actions], seed: int | None, overwrite: Actions | None = None) -> Iterator[Call]:
        """Resets and steps, a call at a time. Under DISABLED the envs that ended are reset before the next step."""
        yield (call := self.reset(seed=seed))
        for t, action in enumerate(actions):
            if self.mode is AutoresetMode.DISABLED and call.ended.any():
                yield self.reset(f"reset of ended envs before step {t}", options={"reset_mask": call.ended.copy()})
            yield (call := self.step(action, f"step {t}", overwrite))

    def replay(self) -> Iterator[Call]:
        """Play the recorded actions once more from the same seed."""
        return self.play(self.actions, self.seed)

    def make_record(self) -> None:
        """Fills `calls`, up to a step that ends an episode: the reset that follows has a pending end to cancel."""
        space = copy.deepcopy(self.env.single_action_space)
        space.seed(self.seed)
        self.other_actions = [space.sample() for _ in range(self.num_envs)]
        num_ends = 0
        for call in self.play(self._sampled(space), self.seed):
            self.calls.append(call)
            num_ends += bool(call.ended.any())
            if num_ends == NUM_ENDS:
                break
        self.repeated_calls = list(self.replay())

    def _sampled(self, space: Space[Any]) -> Iterator[Actions]:
        for _ in range(self.num_steps):
            self.actions.append([space.sample() for _ in range(self.num_envs)])
            yield self.actions[-1]

    def differences(self, calls: Iterable[Call]) -> Iterator[str]:
        """The first call on which an env returns other values than in the record."""
        for expected, call in zip(self.calls, calls, strict=False):
            if envs := differing(expected.bits, call.bits):
                yield f"{call.title}: {named_envs(envs)} returned other values than in the first run"
                return

    @cached_property
    def draws(self) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """What each env does when all get the same actions: after three seeds, and after three resets without one."""

        def draw(seed: int | None) -> list[bytes]:
            run = self.play(([action[0]] * self.num_envs for action in self.actions[:WINDOW]), seed)
            return [b"".join(bits) for bits in zip(*(call.bits for call in run), strict=True)]

        return [draw(self.seed + offset) for offset in (2_000, 1_000, 0)], [draw(None) for _ in range(3)]
