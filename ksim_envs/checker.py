"""A conformance suite for vector envs: `check_vector_env(env)` holds any Gymnasium `VectorEnv` against its contract.

The table `CLAUSES` at the end of this file is that contract: a sentence a row, with the function that checks it. The env is
first run with random actions, and what it returns is kept twice: as it came, and as a copy made at once. Most clauses read
this record. The others run the env again from the same seed with one thing changed, and compare bit for bit.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, create_empty_array
from numpy.typing import NDArray

from ksim_envs.errors import ConformanceError

Tree: TypeAlias = Any  # an array, or dictionaries and tuples of arrays
Findings: TypeAlias = Iterator[str]

FINAL_KEYS = ("final_obs", "_final_obs", "final_info", "_final_info")
NUM_ENDS = 3  # the record stops at the third step on which episodes end
WINDOW = 16  # steps of the runs that need no end


class _UnexercisedError(Exception):
    """A clause could not be put to the test; the message says why."""


# Values: trees of NumPy, JAX, torch or CuPy arrays alike.


def _map(function: Callable[..., Any], *trees: Tree) -> Tree:
    first = trees[0]
    if isinstance(first, dict):
        return {key: _map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple):
        return tuple(_map(function, *parts) for parts in zip(*trees, strict=True))
    return function(*trees)


def _leaves(tree: Tree, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | tuple):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(part, f"{place}[{key!r}]")
    else:
        yield place, tree


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__")


def _to_numpy(array: Any) -> NDArray[Any]:
    try:
        return np.asarray(array)
    except (TypeError, RuntimeError):  # on a GPU, or part of an autograd graph
        return np.asarray(array.detach().cpu()) if hasattr(array, "detach") else np.from_dlpack(array, device="cpu")


def _copy(tree: Tree) -> Tree:
    """The same tree in new NumPy arrays on the host."""

    def copy_leaf(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return [_copy(part) for part in leaf]
        copied = np.array(_to_numpy(leaf)) if _is_array(leaf) else leaf
        if isinstance(copied, np.ndarray) and copied.dtype == object:
            for index in np.ndindex(copied.shape):
                copied[index] = _copy(copied[index])
        return copied

    return _map(copy_leaf, tree)


def _aligned_copy(leaf: Any) -> Any:
    """A copy that starts on a 64-byte boundary: the one kind of array that a jitted JAX function reads in place."""
    if not isinstance(leaf, np.ndarray) or leaf.dtype == object:
        return leaf
    memory = np.empty(leaf.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + leaf.nbytes].view(leaf.dtype).reshape(leaf.shape)
    aligned[...] = leaf
    return aligned


def _overwrite(tree: Tree, values: Tree) -> None:
    _map(lambda leaf, value: np.copyto(leaf, value) if isinstance(leaf, np.ndarray) else None, tree, values)


def _row(tree: Tree, env: int) -> Tree:
    def row_of_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        return leaf[env] if leaf.dtype == object else np.asarray(leaf[env])

    return _map(row_of_leaf, tree)


def _bits(tree: Tree) -> bytes:
    if isinstance(tree, np.generic) or (isinstance(tree, np.ndarray) and tree.dtype != object):
        return tree.tobytes()
    if isinstance(tree, np.ndarray | dict | list | tuple):
        return b"|".join(map(_bits, tree.values() if isinstance(tree, dict) else tree))
    return repr(tree).encode()


def _kind(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"{type(value).__name__}"


def _envs(indices: Iterable[Any]) -> str:
    found = [str(int(index)) for index in indices]
    return f"env{'s' * (len(found) != 1)} {', '.join(found[:8])}{', ...' * (len(found) > 8)}"


def _differing(first: list[bytes], second: list[bytes]) -> list[int]:
    return [env for env, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]


def _is_finite(leaf: Any) -> Any:
    return np.isfinite(leaf) if isinstance(leaf, np.ndarray) and np.issubdtype(leaf.dtype, np.inexact) else np.True_


def _info_leaves(info: dict[str, Any], place: str = "info") -> Iterator[tuple[str, bool, Any]]:
    """Every leaf of an info, and whether it is the mask `_key` of another one."""
    for key, value in info.items():
        is_mask = key.startswith("_") and key[1:] in info
        if isinstance(value, dict):
            yield from _info_leaves(value, f"{place}[{key!r}]")
        else:
            yield from ((path, is_mask, leaf) for path, leaf in _leaves(value, f"{place}[{key!r}]"))


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ConformanceError) else f"the env raised {type(error).__name__}: {error}"


# Running the env.


@dataclass(frozen=True)
class _Call:
    """One `reset` or `step`: what came back (`raw`), and copies of it. A reset counts as reward 0 and no end."""

    title: str
    raw: dict[str, Any]
    obs: Tree
    reward: Any
    terminated: Any
    truncated: Any
    info: dict[str, Any]
    is_action_kept: bool = True

    @property
    def is_step(self) -> bool:
        return "reward" in self.raw

    @cached_property
    def ended(self) -> NDArray[np.bool_]:
        return np.asarray(self.terminated, bool) | np.asarray(self.truncated, bool)

    @cached_property
    def obs_bits(self) -> list[bytes]:
        return [_bits(_row(self.obs, env)) for env in range(len(self.reward))]

    @cached_property
    def bits(self) -> list[bytes]:
        rest = (self.reward, self.terminated, self.truncated)
        return [obs + _bits(_row(rest, env)) for env, obs in enumerate(self.obs_bits)]


class _PartialReset(NamedTuple):
    options: dict[str, Any]  # as the env has left it
    before: _Call
    result: _Call
    later: list[_Call]
    expected: list[_Call]  # what the record, which has no partial reset, holds instead of `later`


class _Probe:
    """The env under test, the record of its first run, and the facts that decide which clauses apply."""

    partial: _PartialReset

    def __init__(self, env: Any, num_steps: int, seed: int, facts: set[str]) -> None:
        self.env, self.num_envs, self.num_steps, self.seed = env, getattr(env, "num_envs", None), num_steps, seed
        mode = getattr(env, "metadata", {}).get("autoreset_mode")
        self.mode = mode if isinstance(mode, AutoresetMode) else None
        self.facts = facts | ({"mode", self.mode.name} if self.mode else set())
        self.calls: list[_Call] = []
        self.actions: list[Tree] = []
        self.other_action: Tree = None

    def reset(self, title: str = "reset", **arguments: Any) -> _Call:
        return self._call(title, ("obs", "info"), self.env.reset(**arguments))

    def step(self, action: Tree, title: str, overwrite_with: Tree = None) -> _Call:
        sent = _bits(action)
        returned = self.env.step(action)
        is_action_kept = _bits(action) == sent
        if overwrite_with is not None:  # before the results are read: an asynchronous env may still be at work
            _overwrite(action, overwrite_with)
        names = ("obs", "reward", "terminated", "truncated", "info")
        return self._call(title, names, returned, is_action_kept=is_action_kept)

    def _call(self, title: str, names: tuple[str, ...], returned: Any, **extra: Any) -> _Call:
        if not isinstance(returned, tuple) or len(returned) != len(names) or not isinstance(returned[-1], dict):
            kinds = [_kind(value) for value in returned] if isinstance(returned, tuple) else _kind(returned)
            raise ConformanceError(f"{title} returned {kinds} for {names}")
        no = np.zeros(self.num_envs, bool)
        raw = dict(zip(names, returned, strict=True))
        values = {"reward": no.astype(float), "terminated": no, "truncated": no} | _copy(raw)
        return _Call(title=title, raw=raw, **values, **extra)

    def play(self, actions: Iterable[Tree], seed: int | None, overwrite_with: Tree = None) -> Iterator[_Call]:
        """Resets and steps, a call at a time. Under DISABLED the envs that ended are reset before the next step."""
        yield (call := self.reset(seed=seed))
        for t, action in enumerate(actions):
            if self.mode is AutoresetMode.DISABLED and call.ended.any():
                yield self.reset(f"reset of ended envs before step {t}", options={"reset_mask": call.ended.copy()})
            yield (call := self.step(action, f"step {t}", overwrite_with))

    def replay(self) -> Iterator[_Call]:
        return self.play(map(_copy, self.actions), self.seed)

    def make_record(self) -> None:
        """Fills `calls`, up to a step that ends an episode: so a later `reset(seed)` has a pending end to cancel."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(self.seed)
        self.other_action = space.sample()
        num_ends = 0
        for call in self.play(self._sampled(space), self.seed):
            self.calls.append(call)
            num_ends += bool(call.ended.any())
            if num_ends == NUM_ENDS:
                return

    def _sampled(self, space: gym.Space[Any]) -> Iterator[Tree]:
        for _ in range(self.num_steps):
            self.actions.append(space.sample())
            yield _copy(self.actions[-1])

    def differences(self, calls: Iterable[_Call]) -> Findings:
        """The first call on which an env returns other values than in the record."""
        for expected, call in zip(self.calls, calls, strict=False):
            if envs := _differing(expected.bits, call.bits):
                yield f"{call.title}: {_envs(envs)} returned other values than in the first run"
                return

    @cached_property
    def draws(self) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """What each env does when all get the same actions: after three seeds, and after three resets without one."""

        def same_for_all(leaf: Any) -> Any:
            return np.repeat(leaf[:1], len(leaf), axis=0) if isinstance(leaf, np.ndarray) else leaf

        def draw(seed: int | None) -> list[bytes]:
            actions = (_map(same_for_all, action) for action in self.actions[:WINDOW])
            return [b"".join(bits) for bits in zip(*(call.bits for call in self.play(actions, seed)), strict=True)]

        return [draw(self.seed + offset) for offset in (2_000, 1_000, 0)], [draw(None) for _ in range(3)]


Check: TypeAlias = Callable[[_Probe], Findings]


def _each_call(check: Callable[[_Probe, _Call], Findings]) -> Check:
    """Makes a check of one call into a check of the whole record."""

    def checked(probe: _Probe) -> Findings:
        return (f"{call.title}: {finding}" for call in probe.calls for finding in check(probe, call))

    return checked


# The checks, in the order of the table.


def _vector_env(probe: _Probe) -> Findings:
    if not isinstance(probe.env, VectorEnv):
        probe.facts.clear()
        yield f"it is a {type(probe.env).__name__}"


def _num_envs(probe: _Probe) -> Findings:
    if type(probe.num_envs) is not int or probe.num_envs < 1:
        probe.facts.discard("count")
        yield f"it is {probe.num_envs!r}"


def _batched_spaces(probe: _Probe) -> Findings:
    for kind in ("observation_space", "action_space"):
        found, single = getattr(probe.env, kind), getattr(probe.env, f"single_{kind}")
        if found != batch_space(single, probe.num_envs):
            yield f"{kind} is {str(found)[:80]} where single_{kind} is {str(single)[:80]}"


def _autoreset_mode(probe: _Probe) -> Findings:
    if probe.mode is None:
        yield f"it is {probe.env.metadata.get('autoreset_mode')!r}"


def _results(probe: _Probe) -> Findings:
    try:
        probe.make_record()
    except Exception as error:
        yield f"call {len(probe.calls)}: {_describe(error)}"
    else:
        batches = (batch for call in probe.calls for batch in (call.reward, call.terminated, call.truncated))
        if all(np.shape(batch) == (probe.num_envs,) for batch in batches):
            probe.facts.add("rows")
        if any(call.ended.any() for call in probe.calls[: None if probe.mode is AutoresetMode.SAME_STEP else -1]):
            probe.facts.add("end")
    if probe.calls:
        probe.facts.add("record")


@_each_call
def _observation(probe: _Probe, call: _Call) -> Findings:
    single = probe.env.single_observation_space
    template = _leaves(create_empty_array(single, n=probe.num_envs), "obs")
    expected = {place: _kind(leaf) for place, leaf in template if isinstance(leaf, np.ndarray)}
    found = {place: _kind(leaf) for place, leaf in _leaves(call.obs, "obs")}
    if expected.items() - found.items():
        if any(np.shape(leaf)[:1] != (probe.num_envs,) for _, leaf in _leaves(call.obs, "obs")):
            probe.facts.discard("rows")
        yield f"found {found}, expected {expected}"
    elif not probe.env.observation_space.contains(call.obs):
        outside = [env for env in range(probe.num_envs) if not single.contains(_row(call.obs, env))]
        yield f"{_envs(outside)} outside of the space"


@_each_call
def _reward(probe: _Probe, call: _Call) -> Findings:
    if _kind(call.reward) not in {f"{dtype}[{probe.num_envs}]" for dtype in ("float16", "float32", "float64")}:
        yield f"it is {_kind(call.reward)}"


@_each_call
def _flags(probe: _Probe, call: _Call) -> Findings:
    for name, flags in (("terminated", call.terminated), ("truncated", call.truncated)):
        if _kind(flags) != f"bool[{probe.num_envs}]":
            yield f"{name} is {_kind(flags)}"


@_each_call
def _finite(probe: _Probe, call: _Call) -> Findings:
    for place, leaf in (*_leaves(call.obs, "obs"), ("reward", call.reward)):
        if not (finite := _is_finite(leaf)).all():
            yield f"{place} of {_envs(sorted(set(np.argwhere(~finite)[:, 0])))} is not finite"


@_each_call
def _info(probe: _Probe, call: _Call) -> Findings:
    for place, is_mask, leaf in _info_leaves(call.info):
        if not isinstance(leaf, np.ndarray) or leaf.shape[:1] != (probe.num_envs,):
            yield f"{place} is {_kind(leaf)}"
        elif is_mask and _kind(leaf) != f"bool[{probe.num_envs}]":
            yield f"the mask {place} is {_kind(leaf)}"


@_each_call
def _episode_key(probe: _Probe, call: _Call) -> Findings:
    if not isinstance(probe.env, VectorWrapper) and {"episode", "_episode"} & call.info.keys():
        yield f"info has the keys {sorted(call.info)}"


def _values_stay(probe: _Probe) -> Findings:
    for call in probe.calls:
        changed = [name for name, value in call.raw.items() if _bits(_copy(value)) != _bits(getattr(call, name))]
        if changed:
            yield f"{' and '.join(changed)} of {call.title} changed later"


def _memory(probe: _Probe) -> Findings:
    leaves = ((call.title, place, leaf) for call in probe.calls for place, leaf in _leaves(call.raw, ""))
    arrays = [(title, place, _to_numpy(leaf)) for title, place, leaf in leaves if _is_array(leaf)]
    arrays = [found for found in arrays if found[2].size and found[2].flags.writeable and found[2].dtype != object]
    arrays.sort(key=lambda found: np.lib.array_utils.byte_bounds(found[2]))
    for (title, place, array), (next_title, next_place, next_array) in pairwise(arrays):
        if title != next_title and np.shares_memory(array, next_array):
            yield f"{place} of {title} and {next_place} of {next_title}"


@_each_call
def _action(probe: _Probe, call: _Call) -> Findings:
    if not call.is_action_kept:
        yield "the action is another after the call"


def _same_seed(probe: _Probe) -> Findings:
    if findings := list(probe.differences(probe.replay())):
        probe.facts.discard("replay")
        yield findings[0]


def _seeds(probe: _Probe) -> Findings:
    seeded, unseeded = probe.draws
    if len({bits for draw in seeded + unseeded for bits in draw}) == 1:
        raise _UnexercisedError("all envs do the same from every seed")
    if seeded[0] == seeded[1] == seeded[2]:
        yield "three different seeds gave the same episodes"
    probe.facts.add("random")


def _envs_differ(probe: _Probe) -> Findings:
    seeded, unseeded = probe.draws
    if probe.num_envs == 1:
        raise _UnexercisedError("there is one env only")
    if all(len(set(draw)) == 1 for draw in seeded + unseeded):
        yield "with the same actions, all envs did the same"


def _unseeded_reset(probe: _Probe) -> Findings:
    _, unseeded = probe.draws
    if unseeded[0] == unseeded[1] == unseeded[2]:
        yield "three resets without a seed gave the same episodes"


def _action_buffer(probe: _Probe) -> Findings:
    actions = (_map(_aligned_copy, action) for action in probe.actions[:WINDOW])
    yield from probe.differences(probe.play(actions, probe.seed, overwrite_with=probe.other_action))


def _returned_arrays(probe: _Probe) -> Findings:
    def scribbled() -> Iterator[_Call]:
        for call in islice(probe.replay(), WINDOW):
            yield call
            for _, leaf in _leaves({**call.raw, "info": None}, ""):
                if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
                    leaf[...] = np.ones((), leaf.dtype)

    yield from probe.differences(scribbled())


def _first_obs(probe: _Probe) -> Findings:
    if probe.mode is AutoresetMode.SAME_STEP:
        ends = [(call.ended, call.info.get("final_obs"), call) for call in probe.calls]
    else:
        ends = [(call.ended, call.obs, after) for call, after in pairwise(probe.calls)]
    rows = [(last, first, env) for ended, last, first in ends for env in np.flatnonzero(ended)]
    repeated = [(first, env) for last, first, env in rows if _bits(_row(last, env)) == first.obs_bits[env]]
    is_real = np.issubdtype(probe.env.single_observation_space.dtype or object, np.floating)
    if is_real or len(repeated) == len(rows):  # two states of a small discrete space may well be equal by chance
        yield from (f"{first.title}: env {env} shows the last observation again" for first, env in repeated)


@_each_call
def _final_keys(probe: _Probe, call: _Call) -> Findings:
    found = [key for key in FINAL_KEYS if key in call.info]
    if probe.mode is not AutoresetMode.SAME_STEP and found:
        yield f"info has {found}"
    elif probe.mode is AutoresetMode.SAME_STEP and call.ended.any() and len(found) < len(FINAL_KEYS):
        yield f"{_envs(np.flatnonzero(call.ended))} ended, and info has only {found}"
    elif not isinstance(call.info.get("final_info", {}), dict):
        yield f"final_info is a {_kind(call.info['final_info'])}"


@_each_call
def _final_masks(probe: _Probe, call: _Call) -> Findings:
    for key in ("_final_obs", "_final_info"):
        if key in call.info and not np.array_equal(call.info[key], call.ended):
            yield f"{key} is {call.info[key]} where terminated | truncated is {call.ended}"


@_each_call
def _final_obs(probe: _Probe, call: _Call) -> Findings:
    for env in np.flatnonzero(call.ended) if "final_obs" in call.info else ():
        final = _row(call.info["final_obs"], env)
        is_finite = all(_is_finite(leaf).all() for _, leaf in _leaves(final, ""))
        if not is_finite or not probe.env.single_observation_space.contains(final):
            yield f"final_obs of env {env} is {str(final)[:80]}"


def _dead_step(probe: _Probe) -> Findings:
    for call, after in pairwise(probe.calls):
        if (wrong := call.ended & (after.ended | (after.reward != 0))).any():
            yield f"{after.title}: {_envs(np.flatnonzero(wrong))} had an end or a reward of {after.reward[wrong]}"


def _dead_action(probe: _Probe) -> Findings:
    def with_others_where_ended(action: Tree, ended: NDArray[np.bool_]) -> Tree:
        def mix(leaf: Any, other: Any) -> Any:
            if not isinstance(leaf, np.ndarray):
                return leaf
            return np.where(ended.reshape(-1, *[1] * (leaf.ndim - 1)), other, leaf).astype(leaf.dtype)

        return _map(mix, action, probe.other_action)

    actions = (with_others_where_ended(*pair) for pair in zip(probe.actions, (call.ended for call in probe.calls)))
    yield from probe.differences(probe.play(actions, probe.seed))


def _no_autoreset(probe: _Probe) -> Findings:
    call = next(call for call in probe.replay() if call.ended.any())
    try:
        after = probe.step(_copy(probe.other_action), "step")
    except Exception:
        return
    if (revived := call.ended & ~after.ended).any():
        yield f"{_envs(np.flatnonzero(revived))} went on as if a new episode had begun"


def _partial_reset(probe: _Probe) -> Findings:
    mask = np.arange(probe.num_envs) % 2 == 0
    begin = probe.calls[0].obs_bits
    has_moved = [mask <= np.isin(np.arange(probe.num_envs), _differing(begin, call.obs_bits)) for call in probe.calls]
    index = next((i for i, moved in enumerate(has_moved) if i > 1 and moved.all()), 1)
    run = probe.replay()
    before = list(islice(run, index + 1))[-1]
    options = {"reset_mask": mask.copy()}
    result = probe.reset("partial reset", options=options)
    later = [call for call in islice(run, WINDOW) if call.is_step]
    expected = [call for call in probe.calls[index + 1 :] if call.is_step]
    probe.partial = _PartialReset(options, before, result, later, expected)
    probe.facts.add("partial")
    if stuck := sorted(set(np.flatnonzero(mask)) - set(_differing(before.obs_bits, result.obs_bits))):
        yield f"{_envs(stuck)} of the mask kept the last observation"


def _other_envs(probe: _Probe) -> Findings:
    if probe.num_envs == 1:
        raise _UnexercisedError("there is one env only")
    _, before, result, later, expected = probe.partial
    others = set(range(1, probe.num_envs, 2))
    if changed := sorted(others & set(_differing(before.obs_bits, result.obs_bits))):
        yield f"the observation of {_envs(changed)}, not in the mask, changed"
    for call, was in zip(later, expected, strict=False):
        if changed := sorted(others & set(_differing(call.bits, was.bits))):
            yield f"{call.title} after it: {_envs(changed)}, not in the mask, went on differently"
            return
        others -= set(np.flatnonzero(was.ended))  # a next episode may draw from a generator that all envs share


def _other_infos(probe: _Probe) -> Findings:
    for place, is_mask, leaf in _info_leaves(probe.partial.result.info):
        if is_mask and np.any(leaf[1::2]):
            yield f"{place} is True for envs that were not reset: {leaf}"


def _options(probe: _Probe) -> Findings:
    options, mask = probe.partial.options, np.arange(probe.num_envs) % 2 == 0
    if options.keys() != {"reset_mask"} or not np.array_equal(options["reset_mask"], mask):
        yield f"{{'reset_mask': {mask}}} became {options}"


def _bad_masks(probe: _Probe) -> Findings:
    findings: list[str] = []

    def refused() -> Iterator[_Call]:
        for index, call in enumerate(islice(probe.replay(), WINDOW)):
            yield call
            if index == 1:
                findings.extend(_try_bad_masks(probe.env, probe.num_envs))

    changes = list(probe.differences(refused()))
    yield from findings or (changes if "replay" in probe.facts else [])


def _try_bad_masks(env: Any, num_envs: int) -> Findings:
    too_long, integers, none = np.ones(num_envs + 1, bool), np.ones(num_envs, int), np.zeros(num_envs, bool)
    for kind, mask in {"a mask too long": too_long, "a mask of integers": integers, "no True": none}.items():
        try:
            env.reset(options={"reset_mask": mask})
        except (TypeError, ValueError):
            continue
        except Exception as error:
            yield f"{kind} raised {type(error).__name__}"
        else:
            yield f"{kind} was accepted"


def _close(probe: _Probe) -> Findings:
    for attempt in ("first", "second"):
        try:
            probe.env.close()
        except Exception as error:
            yield f"the {attempt} close: {_describe(error)}"
    if probe.env.closed is not True:
        yield f"after it, closed is {probe.env.closed!r}"


class Clause(NamedTuple):
    """One sentence of the contract.

    Attributes:
        name: what the messages call it.
        check: the function that yields what is wrong.
        needs: the facts about an env without which the clause does not apply.
        contract: the sentence.
    """

    name: str
    check: Check
    needs: str
    contract: str


CLAUSES = (
    Clause("vector env", _vector_env, "", "The env is a gymnasium.vector.VectorEnv."),
    Clause("num_envs", _num_envs, "vector", "num_envs is an int above zero."),
    Clause("batched spaces", _batched_spaces, "count", "Each space equals batch_space(its single space, num_envs)."),
    Clause("autoreset_mode", _autoreset_mode, "vector", "metadata['autoreset_mode'] is an AutoresetMode."),
    Clause("results", _results, "count", "reset returns (obs, info), step five values, info is a dict; neither raises."),
    # What one call returns.
    Clause("observation", _observation, "record", "The observation is in the batched space, in its dtype and shape."),
    Clause("reward", _reward, "record", "The reward has shape (num_envs,) and a floating dtype."),
    Clause("flags", _flags, "record", "terminated and truncated have shape (num_envs,) and dtype bool."),
    Clause("finite", _finite, "record", "Observations and rewards are finite."),
    Clause("info", _info, "record", "Leaves of info are arrays of length num_envs, and masks `_key` are of dtype bool."),
    Clause("episode key", _episode_key, "record", "info has no key 'episode': RecordEpisodeStatistics puts its own there."),
    # What belongs to whom.
    Clause("values stay", _values_stay, "record", "No later call changes what a call has returned."),
    Clause("memory", _memory, "record", "What two calls return shares no memory."),
    Clause("action", _action, "record", "step leaves the action array as it is."),
    # Seeds.
    Clause("same seed", _same_seed, "rows replay", "One seed and one sequence of actions give the same values twice."),
    Clause("different seeds", _seeds, "rows", "Different seeds give different episodes."),
    Clause("different envs", _envs_differ, "rows", "The envs of one batch differ from each other."),
    Clause("unseeded reset", _unseeded_reset, "rows", "A reset without a seed draws anew."),
    Clause("action buffer", _action_buffer, "rows replay", "Overwriting the action after step changes nothing later."),
    Clause("returned arrays", _returned_arrays, "rows replay", "Writing into returned arrays changes nothing later."),
    # The ends of episodes.
    Clause("first observation", _first_obs, "rows mode end", "After an end comes the first observation of a new episode."),
    Clause("final keys", _final_keys, "rows mode end", "SAME_STEP: info has final_obs, final_info and their masks on an end; else never."),
    Clause("final masks", _final_masks, "rows SAME_STEP end", "The masks of final_obs and final_info are terminated | truncated."),
    Clause("final observation", _final_obs, "rows SAME_STEP end", "Each final_obs is finite and in the single space."),
    Clause("dead step", _dead_step, "rows NEXT_STEP end", "The step after an end has reward 0 and no flags."),
    Clause("dead action", _dead_action, "rows NEXT_STEP replay end", "The step after an end ignores the action."),
    # Partial resets.
    Clause("partial reset", _partial_reset, "rows reset_mask", "reset(options={'reset_mask': mask}) resets the envs of the mask."),
    Clause("other envs", _other_envs, "partial", "A partial reset leaves the other envs as they are, bit for bit."),
    Clause("other infos", _other_infos, "partial", "After a partial reset, the masks in info hold for no other env."),
    Clause("options", _options, "partial", "reset leaves the caller's options as they are."),
    Clause("bad masks", _bad_masks, "rows reset_mask", "A mask of wrong shape or dtype, or without a True, raises TypeError or ValueError, and changes nothing."),
    # Last, since an env may be of no more use after these.
    Clause("no autoreset", _no_autoreset, "rows DISABLED end", "DISABLED: step on an env that ended raises, or goes on reporting the end."),
    Clause("close", _close, "vector", "close can be called twice, and then closed is True."),
)


def check_vector_env(
    env: VectorEnv[Any, Any, Any],
    *,
    num_steps: int = 1_100,
    seed: int = 0,
    partial_reset: bool = True,
    deterministic: bool = True,
    warn: bool = True,
) -> None:
    """Checks a vector env against Gymnasium's contract, the sentences of `CLAUSES`, and closes it.

    It works on any `VectorEnv`, whatever arrays it returns. All values of a run are kept in memory until the end, so use
    a small batch, of 2 to 16 envs. The semantics of episode ends are checked as `metadata["autoreset_mode"]` declares them.

    Args:
        env: the env; it is stepped with random actions, reset many times, and closed at the end.
        num_steps: the most steps to take in search of episode ends; three steps with ends are enough. The default
            reaches the end of the 1,000-step episodes of the MuJoCo tasks.
        seed: the first seed used; it also seeds the actions.
        partial_reset: False for an env that offers no `reset_mask`. DISABLED cannot do without, and ignores this.
        deterministic: False for physics that repeats only statistically; clauses that compare two runs are left out.
        warn: whether clauses that could not be exercised (no episode ended, no randomness) are named in a `UserWarning`.

    Raises:
        ConformanceError: The env breaks clauses; the message lists each with what was found and what the contract says.
    """
    optional = {"reset_mask": partial_reset, "replay": deterministic}
    probe = _Probe(env, num_steps, seed, {"vector", "count"} | {fact for fact, given in optional.items() if given})
    faults: list[str] = []
    unexercised: list[str] = []
    for clause in CLAUSES:
        missing = set(clause.needs.split()) - probe.facts
        try:
            findings = [] if missing else list(clause.check(probe))
            if missing == {"end"}:
                raise _UnexercisedError(f"no episode ended within {num_steps} steps")
        except _UnexercisedError as reason:
            findings = []
            unexercised.append(f"{clause.name} ({reason})")
        except Exception as error:
            findings = [_describe(error)]
        if findings:
            faults.append(_fault(clause, findings))
    if unexercised and warn:
        warnings.warn(f"{env} was not checked for: {'; '.join(unexercised)}", UserWarning, stacklevel=2)
    if faults:
        listed = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, 1))
        raise ConformanceError(f"{env} breaks {len(faults)} clauses of the vector env contract:\n{listed}")


def _fault(clause: Clause, findings: list[str]) -> str:
    more = f" (and {len(findings) - 2} more)" if len(findings) > 2 else ""
    return f"{clause.name}: {'; '.join(findings[:2])}{more}.\n     Contract: {clause.contract}"
