"""A conformance suite for vector envs: `check_vector_env(env)` holds any Gymnasium `VectorEnv` against its contract.

The table `CLAUSES` at the end of this file is that contract: a sentence a row, with the function that checks it. The
env is first run with random actions, and what it returns is kept twice: as it came, and as a copy made at once. Most
clauses read this record. The others run the env again from the same seed with one thing changed, and compare bits.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from ksim_envs.errors import ConformanceError, unknown_name

Tree: TypeAlias = Any  # an array (NumPy, JAX, torch, CuPy), or dictionaries and tuples of arrays
Actions: TypeAlias = list[Any]  # one action for each env
Findings: TypeAlias = Iterator[str]

NUM_ENDS = 3  # the record stops at the third step on which episodes end
WINDOW = 16  # steps of the runs that need no end
FINAL_KEYS = ("final_obs", "_final_obs", "final_info", "_final_info")
UNEXERCISED = {
    "end": "no episode ended; raise num_steps",
    "random": "all envs do the same from every seed",
    "several": "there is one env only",
}


def _leaves(tree: Tree, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | tuple):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(part, f"{place}[{key!r}]")
    else:
        yield place, tree


def _info_leaves(info: dict[str, Any], place: str = "info") -> Iterator[tuple[str, bool, Any]]:
    """Every leaf of an info, and whether it is the mask `_key` of another one."""
    for key, value in info.items():
        if isinstance(value, dict):
            yield from _info_leaves(value, f"{place}[{key!r}]")
        else:
            is_mask = key.startswith("_") and key[1:] in info
            yield from ((path, is_mask, leaf) for path, leaf in _leaves(value, f"{place}[{key!r}]"))


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__")


def _to_numpy(array: Any) -> NDArray[Any]:
    try:
        return np.asarray(array) if hasattr(array, "__array__") else np.from_dlpack(array)
    except (TypeError, RuntimeError):  # on a GPU, or part of an autograd graph
        return np.asarray(array.detach().cpu()) if hasattr(array, "detach") else np.from_dlpack(array, device="cpu")


def _copy(tree: Tree) -> Tree:
    """The same tree in new NumPy arrays on the host."""
    if isinstance(tree, dict):
        return {key: _copy(part) for key, part in tree.items()}
    if isinstance(tree, list):
        return [_copy(part) for part in tree]
    if isinstance(tree, tuple):
        return getattr(tree, "_make", tuple)(map(_copy, tree))  # the same named tuple, if it is one
    if not _is_array(tree):
        return tree
    copied = np.array(_to_numpy(tree))
    if copied.dtype == object:
        for index in np.ndindex(copied.shape):
            copied[index] = _copy(copied[index])
    return copied


def _bits(tree: Tree) -> bytes:
    if isinstance(tree, np.generic) or (isinstance(tree, np.ndarray) and tree.dtype != object):
        return tree.tobytes()
    if isinstance(tree, np.ndarray | dict | list | tuple):
        return b"|".join(map(_bits, [*tree, *tree.values()] if isinstance(tree, dict) else tree))
    return repr(tree).encode()


def _kind(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _is_finite(leaf: Any) -> NDArray[np.bool_]:
    is_real = isinstance(leaf, np.ndarray) and np.issubdtype(leaf.dtype, np.inexact)
    return np.isfinite(leaf) if is_real else np.ones(np.shape(leaf), bool)


def _contains(space: Space[Any], value: Any) -> bool:
    with warnings.catch_warnings(action="ignore"):  # Gymnasium warns of scalars and of None
        return space.contains(value)


def _aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array that starts on a 64-byte boundary: the kind that a jitted JAX function reads in place."""
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(num_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + num_bytes].view(dtype).reshape(shape)


def _differing(first: list[bytes], second: list[bytes]) -> set[int]:
    return {env for env, (one, other) in enumerate(zip(first, second, strict=True)) if one != other}


def _true(mask: NDArray[np.bool_]) -> set[int]:
    """Indices of the envs for which anything in a batch is True."""
    return {int(index[0]) for index in np.argwhere(mask)}


def _envs(indices: set[int]) -> str:
    found = [str(index) for index in sorted(indices)]
    return f"env{'s' * (len(found) != 1)} {', '.join(found[:8])}{', ...' * (len(found) > 8)}"


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ConformanceError) else f"the env raised {type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Call:
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
        return "reward" in self.raw

    def is_batch_of(self, num_envs: int) -> bool:
        shapes = {np.shape(batch) for batch in (self.reward, self.terminated, self.truncated)}
        return shapes == {(num_envs,)} and len(self.obs_bits) == num_envs

    @cached_property
    def ended(self) -> NDArray[np.bool_]:
        return np.asarray(self.terminated, bool) | np.asarray(self.truncated, bool)

    @cached_property
    def obs_bits(self) -> list[bytes]:
        return [_bits(row) for row in iterate(self.space, self.obs)]

    @cached_property
    def bits(self) -> list[bytes]:
        rows = zip(self.obs_bits, self.reward, self.terminated, self.truncated, strict=True)
        return [obs + _bits(rest) for obs, *rest in rows]

    @property
    def final_rows(self) -> list[Any]:
        """`final_obs` by env, be it an array of objects, a dense array, or a tree of dense arrays."""
        value = self.info.get("final_obs")
        return list(value if isinstance(value, np.ndarray) else iterate(self.space, value))


class _Probe:
    """The env under test, the record of its first run, and the facts that decide which clauses apply."""

    def __init__(self, env: Any, num_steps: int, seed: int) -> None:
        self.env, self.num_steps, self.seed = env, num_steps, seed
        self.num_envs: Any = getattr(env, "num_envs", None)
        mode = getattr(env, "metadata", {}).get("autoreset_mode")
        self.mode = mode if isinstance(mode, AutoresetMode) else None
        self.facts = {"mode", self.mode.name} if self.mode else set[str]()
        self.calls: list[_Call] = []
        self.repeated_calls: list[_Call] = []
        self.actions: list[Actions] = []
        self.other_actions: Actions = []

    def reset(self, title: str = "reset", **arguments: Any) -> _Call:
        return self._call(title, ("obs", "info"), self.env.reset(**arguments))

    def step(self, actions: Actions, title: str, overwrite: Actions | None = None) -> _Call:
        space = self.env.single_action_space
        batch = concatenate(space, actions, create_empty_array(space, self.num_envs, fn=_aligned_empty))
        sent = _bits(batch)
        returned = self.env.step(batch)
        if overwrite is not None:  # before all else: an asynchronous env may still be at work
            concatenate(space, overwrite, batch)
        is_action_kept = overwrite is not None or _bits(batch) == sent
        names = ("obs", "reward", "terminated", "truncated", "info")
        return self._call(title, names, returned, is_action_kept=is_action_kept)

    def _call(self, title: str, names: tuple[str, ...], returned: Any, **extra: Any) -> _Call:
        if not isinstance(returned, tuple) or len(returned) != len(names) or not isinstance(returned[-1], dict):
            kinds = [_kind(value) for value in returned] if isinstance(returned, tuple) else _kind(returned)
            raise ConformanceError(f"{title} returned {kinds} for {names}")
        no = np.zeros(self.num_envs, bool)
        raw = dict(zip(names, returned, strict=True))
        values = {"reward": no.astype(float), "terminated": no, "truncated": no} | _copy(raw)
        return _Call(title=title, space=self.env.observation_space, raw=raw, **values, **extra)

    def play(self, actions: Iterable[Actions], seed: int | None, overwrite: Actions | None = None) -> Iterator[_Call]:
        """Resets and steps, a call at a time. Under DISABLED the envs that ended are reset before the next step."""
        yield (call := self.reset(seed=seed))
        for t, action in enumerate(actions):
            if self.mode is AutoresetMode.DISABLED and call.ended.any():
                yield self.reset(f"reset of ended envs before step {t}", options={"reset_mask": call.ended.copy()})
            yield (call := self.step(action, f"step {t}", overwrite))

    def replay(self) -> Iterator[_Call]:
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

    def differences(self, calls: Iterable[_Call]) -> Findings:
        """The first call on which an env returns other values than in the record."""
        for expected, call in zip(self.calls, calls, strict=False):
            if envs := _differing(expected.bits, call.bits):
                yield f"{call.title}: {_envs(envs)} returned other values than in the first run"
                return

    @cached_property
    def draws(self) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """What each env does when all get the same actions: after three seeds, and after three resets without one."""

        def draw(seed: int | None) -> list[bytes]:
            run = self.play(([action[0]] * self.num_envs for action in self.actions[:WINDOW]), seed)
            return [b"".join(bits) for bits in zip(*(call.bits for call in run), strict=True)]

        return [draw(self.seed + offset) for offset in (2_000, 1_000, 0)], [draw(None) for _ in range(3)]


Check: TypeAlias = Callable[[_Probe], Findings]


def _each_call(check: Callable[[_Probe, _Call], Findings]) -> Check:
    """Makes a check of one call into a check of the whole record."""

    def checked(probe: _Probe) -> Findings:
        return (f"{call.title}: {finding}" for call in probe.calls for finding in check(probe, call))

    return checked


def _num_envs(probe: _Probe) -> Findings:
    if isinstance(probe.env, VectorEnv) and type(probe.num_envs) is int and probe.num_envs > 0:
        probe.facts |= {"count", "several"} if probe.num_envs > 1 else {"count"}
    else:
        yield f"it is a {type(probe.env).__name__} with num_envs = {probe.num_envs!r}"


def _batched_spaces(probe: _Probe) -> Findings:
    for kind in ("observation_space", "action_space"):
        found, single = getattr(probe.env, kind), getattr(probe.env, f"single_{kind}")
        if found != batch_space(single, probe.num_envs):
            yield f"{kind} is {str(found)[:80]} where single_{kind} is {str(single)[:80]}"


def _autoreset_mode(probe: _Probe) -> Findings:
    if probe.mode is None:
        yield f"it is {getattr(probe.env, 'metadata', {}).get('autoreset_mode')!r}"


def _results(probe: _Probe) -> Findings:
    try:
        probe.make_record()
        if all(call.is_batch_of(probe.num_envs) for call in probe.calls):
            probe.facts.add("rows")
            if len({bits for draws in probe.draws for draw in draws for bits in draw}) > 1:
                probe.facts.add("random")
    except Exception as error:
        yield f"after {len(probe.calls)} calls {_describe(error)}"
    if probe.calls:
        probe.facts.add("record")
    if any(call.ended.any() for call in probe.calls[: None if probe.mode is AutoresetMode.SAME_STEP else -1]):
        probe.facts.add("end")


@_each_call
def _observation(probe: _Probe, call: _Call) -> Findings:
    single = probe.env.single_observation_space
    template = _leaves(create_empty_array(single, n=probe.num_envs), "obs")
    expected = {place: _kind(leaf) for place, leaf in template if isinstance(leaf, np.ndarray)}
    found = {place: _kind(leaf) for place, leaf in _leaves(call.obs, "obs")}
    if expected.items() - found.items():
        yield f"found {found}, expected {expected}"
    elif not _contains(call.space, call.obs):
        inside = [_contains(single, row) for row in iterate(call.space, call.obs)]
        yield f"{_envs(_true(~np.array(inside)))} outside of the space"


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
            yield f"{place} of {_envs(_true(~finite))} is not finite"


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
        yield "the action array was changed"


def _same_seed(probe: _Probe) -> Findings:
    findings = list(probe.differences(probe.repeated_calls))
    if not findings:
        probe.facts.add("replay")
    yield from findings


def _different_seeds(probe: _Probe) -> Findings:
    seeded, _ = probe.draws
    if seeded[0] == seeded[1] == seeded[2]:
        yield "three different seeds gave the same episodes"


def _different_envs(probe: _Probe) -> Findings:
    seeded, unseeded = probe.draws
    if all(len(set(draw)) == 1 for draw in seeded + unseeded):
        yield "given the same actions, all envs did the same"


def _unseeded_reset(probe: _Probe) -> Findings:
    _, unseeded = probe.draws
    if unseeded[0] == unseeded[1] == unseeded[2]:
        yield "three resets without a seed gave the same episodes"


def _action_buffer(probe: _Probe) -> Findings:
    actions = probe.actions[:WINDOW]
    yield from probe.differences(probe.play(actions, probe.seed, overwrite=probe.other_actions))


def _returned_arrays(probe: _Probe) -> Findings:
    def scribbled() -> Iterator[_Call]:
        for call in islice(probe.replay(), WINDOW):
            yield call
            for _, leaf in _leaves({**call.raw, "info": {}}, ""):
                array = _to_numpy(leaf)
                if array.flags.writeable and array.dtype != object:
                    array[...] = np.ones((), array.dtype)

    yield from probe.differences(scribbled())


def _first_observation(probe: _Probe) -> Findings:
    if probe.mode is AutoresetMode.SAME_STEP:
        ends = [(call.ended, call.final_rows, call) for call in probe.calls if "final_obs" in call.info]
    else:
        ends = [(call.ended, list(iterate(call.space, call.obs)), after) for call, after in pairwise(probe.calls)]
    rows = [(last[env], first, env) for ended, last, first in ends for env in _true(ended)]
    repeated = [(first, env) for last, first, env in rows if _bits(last) == first.obs_bits[env]]
    is_real = np.issubdtype(probe.env.single_observation_space.dtype or object, np.floating)
    if is_real or len(repeated) == len(rows):  # states of a small discrete space may be equal by chance
        yield from (f"{first.title}: env {env} shows the last observation again" for first, env in repeated)


@_each_call
def _final_keys(probe: _Probe, call: _Call) -> Findings:
    found = [key for key in FINAL_KEYS if key in call.info]
    if probe.mode is not AutoresetMode.SAME_STEP and found:
        yield f"info has {found}"
    elif probe.mode is AutoresetMode.SAME_STEP and call.ended.any() and len(found) < len(FINAL_KEYS):
        yield f"{_envs(_true(call.ended))} ended, and of these keys info has {found}"
    elif not isinstance(call.info.get("final_info", {}), dict):
        yield f"final_info is a {_kind(call.info['final_info'])}"


@_each_call
def _final_masks(probe: _Probe, call: _Call) -> Findings:
    for key in ("_final_obs", "_final_info"):
        if key in call.info and not np.array_equal(call.info[key], call.ended):
            yield f"{key} is {call.info[key]} where terminated | truncated is {call.ended}"


@_each_call
def _final_observation(probe: _Probe, call: _Call) -> Findings:
    for env in _true(call.ended) if "final_obs" in call.info else ():
        final = call.final_rows[env]
        is_finite = all(_is_finite(leaf).all() for _, leaf in _leaves(final, ""))
        if not is_finite or not _contains(probe.env.single_observation_space, final):
            yield f"that of env {env} is {str(final)[:80]}"


def _dead_step(probe: _Probe) -> Findings:
    for call, after in pairwise(probe.calls):
        if wrong := _true(call.ended & (after.ended | (np.asarray(after.reward) != 0))):
            yield f"{after.title}: {_envs(wrong)} of rewards {after.reward} and ends {after.ended}"


def _dead_action(probe: _Probe) -> Findings:
    def changed(actions: Actions, ended: NDArray[np.bool_]) -> Actions:
        rows = zip(probe.other_actions, actions, ended, strict=True)
        return [other if is_over else action for other, action, is_over in rows]

    before = (call.ended for call in probe.calls)
    yield from probe.differences(probe.play(map(changed, probe.actions, before), probe.seed))


def _partial_reset(probe: _Probe) -> Findings:
    begin, even, odd = probe.calls[0], set(range(0, probe.num_envs, 2)), set(range(1, probe.num_envs, 2))
    moved = (i for i, call in enumerate(probe.calls) if i > 1 and even <= _differing(begin.obs_bits, call.obs_bits))
    index = next(moved, 1)  # where even a start that is always the same can be told from the observation before it
    run = probe.replay()
    before = list(islice(run, index + 1))[-1]
    result = probe.reset("partial reset", options={"reset_mask": np.arange(probe.num_envs) % 2 == 0})
    changed = _differing(before.obs_bits, result.obs_bits)
    if even - changed:
        yield f"{_envs(even - changed)} in the mask kept the observation"
    if odd & changed:
        yield f"{_envs(odd & changed)} not in the mask got another observation"
    for place, is_mask, leaf in _info_leaves(result.info):
        if is_mask and np.any(leaf[1::2]):
            yield f"{place} is {leaf} after a reset of the even envs"
    steps = (call for call in islice(run, WINDOW) if call.is_step)
    expected = (call for call in probe.calls[index + 1 :] if call.is_step)
    for call, was in zip(steps, expected, strict=False) if "replay" in probe.facts else ():
        if changed := odd & _differing(call.bits, was.bits):
            yield f"{call.title} after the reset: {_envs(changed)} not in the mask went on differently"
            return
        odd -= _true(was.ended)  # the next episode may come from a generator that all envs share


def _options(probe: _Probe) -> Findings:
    probe.reset(seed=probe.seed)
    options = {"reset_mask": np.arange(probe.num_envs) % 2 == 0}
    kept = _copy(options)
    probe.reset(options=options)
    if _bits(options) != _bits(kept):
        yield f"{kept} became {options}"


def _bad_masks(probe: _Probe) -> Findings:
    num_envs = probe.num_envs
    too_long, integers, none = np.ones(num_envs + 1, bool), np.ones(num_envs, int), np.zeros(num_envs, bool)
    probe.reset(seed=probe.seed)
    for kind, mask in {"a mask too long": too_long, "a mask of integers": integers, "no True": none}.items():
        try:
            probe.env.reset(options={"reset_mask": mask})
        except (TypeError, ValueError):
            continue
        except Exception as error:
            yield f"{kind} raised {type(error).__name__}"
        else:
            yield f"{kind} was accepted"


def _no_autoreset(probe: _Probe) -> Findings:
    call = next(call for call in probe.replay() if call.ended.any())
    try:
        after = probe.step(probe.other_actions, "step")
    except Exception:
        return
    if revived := _true(call.ended & ~after.ended):
        yield f"{_envs(revived)} went on as if a new episode had begun"


def _close(probe: _Probe) -> Findings:
    for attempt in ("first", "second"):
        try:
            probe.env.close()
        except Exception as error:
            yield f"on the {attempt} close {_describe(error)}"
    if getattr(probe.env, "closed", None) is not True:
        yield f"closed is {getattr(probe.env, 'closed', 'missing')!r}"


class Clause(NamedTuple):
    """One sentence of the contract.

    Attributes:
        name: what the messages call it.
        needs: the facts about an env without which the clause does not apply.
        check: yields what is wrong.
        contract: the sentence.
    """

    name: str
    needs: str
    check: Check
    contract: str


CLAUSES = (
    Clause("num_envs", "", _num_envs, "The env is a gymnasium.vector.VectorEnv, and num_envs an int above zero."),
    Clause("batched spaces", "count", _batched_spaces, "Each space equals batch_space(its single space, num_envs)."),
    Clause("autoreset_mode", "", _autoreset_mode, "metadata['autoreset_mode'] is an AutoresetMode."),
    Clause("results", "count", _results, "reset returns (obs, info dict), step five values, and neither raises."),
    # What one call returns.
    Clause("observation", "record", _observation, "The observation is in the batched space, with its dtype and shape."),
    Clause("reward", "record", _reward, "The reward has shape (num_envs,) and a floating dtype."),
    Clause("flags", "record", _flags, "terminated and truncated have shape (num_envs,) and dtype bool."),
    Clause("finite", "record", _finite, "Observations and rewards are finite."),
    Clause("info", "record", _info, "Leaves of info are arrays of length num_envs; masks `_key` are of dtype bool."),
    Clause("episode key", "record", _episode_key, "info leaves the key 'episode' to RecordEpisodeStatistics."),
    # Whose memory it is.
    Clause("values stay", "record", _values_stay, "No later call changes what a call has returned."),
    Clause("memory", "record", _memory, "What two calls return shares no memory."),
    Clause("action", "record", _action, "step does not change the action array."),
    # Randomness. Comparisons with a "replay" rest on "same seed".
    Clause("same seed", "rows", _same_seed, "One seed and the same actions give the same values twice."),
    Clause("different seeds", "rows random", _different_seeds, "Different seeds give different episodes."),
    Clause("different envs", "rows several random", _different_envs, "The envs of a batch differ from each other."),
    Clause("unseeded reset", "rows random", _unseeded_reset, "A reset without a seed draws anew."),
    Clause("action buffer", "rows replay", _action_buffer, "Overwriting the action after step changes nothing later."),
    Clause("returned arrays", "rows replay", _returned_arrays, "Writing into returned arrays changes nothing later."),
    # The ends of episodes.
    Clause("first observation", "rows mode end", _first_observation, "After an end, a new episode is observed."),
    Clause("final keys", "rows mode end", _final_keys, f"SAME_STEP: on an end info has {FINAL_KEYS}; otherwise never."),
    Clause(
        "final masks", "rows SAME_STEP end", _final_masks, "_final_obs and _final_info equal terminated | truncated."
    ),
    Clause(
        "final observation", "rows SAME_STEP end", _final_observation, "final_obs is finite and in the single space."
    ),
    Clause("dead step", "rows NEXT_STEP end", _dead_step, "The step after an end has reward 0 and no flags."),
    Clause("dead action", "rows NEXT_STEP end replay", _dead_action, "The step after an end ignores the action."),
    # Partial resets, `reset(options={"reset_mask": mask})`.
    Clause("partial reset", "rows", _partial_reset, "Envs in the mask are reset; others stay, bit for bit."),
    Clause("options", "rows", _options, "reset does not change the options, nor the mask."),
    Clause("bad masks", "rows", _bad_masks, "A wrong shape or dtype, or no True, is a Type- or ValueError."),
    # Last, since an env may be of no more use after these.
    Clause("no autoreset", "rows DISABLED end", _no_autoreset, "step on an ended env raises, or shows it as ended."),
    Clause("close", "", _close, "close can be called twice, and then closed is True."),
)


def check_vector_env(
    env: VectorEnv[Any, Any, Any],
    *,
    num_steps: int = 1_100,
    seed: int = 0,
    skip: Collection[str] = (),
    warn: bool = True,
) -> None:
    """Checks a vector env against Gymnasium's contract, the sentences of `CLAUSES`, and closes it.

    It works on any `VectorEnv`, whatever arrays it returns; ends of episodes are judged by the mode that
    `metadata["autoreset_mode"]` declares. All values of a run are held in memory, so use a small batch of 2 to 16 envs.

    Args:
        env: the env; it is stepped with random actions, reset many times, and closed at the end.
        num_steps: the most steps to take in search of episode ends; three steps with ends are enough. The default
            reaches the end of the 1,000-step episodes of the MuJoCo tasks.
        seed: the first seed used; it also seeds the actions.
        skip: names of clauses to leave out. "options" lets Gymnasium's own `SyncVectorEnv` pass, which takes the mask
            out of the caller's options. "same seed", for physics that repeats only statistically, also leaves out all
            comparisons of two runs. "partial reset", "options" and "bad masks" are for envs without `reset_mask`.
        warn: whether a `UserWarning` names the clauses that no episode end, no randomness or no second env exercised.

    Raises:
        ConformanceError: The env breaks clauses; the message lists each with what was found and what the contract says.
        UnknownNameError: `skip` names no clause.
    """
    names = [clause.name for clause in CLAUSES]
    for name in skip:
        if name not in names:
            raise unknown_name("clause", name, names)
    probe = _Probe(env, num_steps, seed)
    faults: list[str] = []
    unexercised: list[str] = []
    for clause in CLAUSES:
        missing = set(clause.needs.split()) - probe.facts
        if clause.name not in skip and not missing:
            faults.extend(_faults(clause, probe))
        elif clause.name not in skip and missing <= UNEXERCISED.keys():
            unexercised.append(f"{clause.name} ({', '.join(UNEXERCISED[fact] for fact in sorted(missing))})")
    note = f"{env} could not be checked for: {'; '.join(unexercised)}." if unexercised else ""
    if faults:
        listed = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, 1))
        title = f"{env} breaks {len(faults)} of the {len(CLAUSES)} clauses of the vector env contract:"
        raise ConformanceError(f"{title}\n{listed}\n{note}".rstrip())
    if warn and note:
        warnings.warn(note, stacklevel=2)


def _faults(clause: Clause, probe: _Probe) -> list[str]:
    """At most one text: the first findings of a clause, and what it demands."""
    try:
        findings = list(clause.check(probe))
    except Exception as error:
        findings = [_describe(error)]
    more = f" (and {len(findings) - 2} more)" if len(findings) > 2 else ""
    return [f"{clause.name}: {'; '.join(findings[:2])}{more}.\n     Contract: {clause.contract}"] if findings else []
