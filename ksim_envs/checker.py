"""A conformance suite for vector envs: `check_vector_env(env)` holds any Gymnasium `VectorEnv` against its contract.

The table `CLAUSES` at the end of this file is that contract: a sentence a row, with the function that checks it. The
env is first run with random actions, and what it returns is kept twice: as it came, and as a copy made at once. Most
clauses read this record. The others run the env again from the same seed with one thing changed, and compare bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, create_empty_array, iterate
from numpy.typing import NDArray

from ksim_envs.errors import ConformanceError, unknown_name
from ksim_envs.probe import (
    WINDOW,
    Actions,
    Call,
    Probe,
    described,
    differing,
    host_copy,
    indices_of,
    info_leaves,
    is_array,
    is_finite,
    kind_of,
    named_envs,
    space_contains,
    to_numpy,
    tree_bits,
    tree_leaves,
)
from ksim_envs.types import FINAL_KEYS

Findings: TypeAlias = Iterator[str]

UNEXERCISED = {
    "end": "no episode ended; raise num_steps",
    "random": "all envs do the same from every seed",
    "several": "there is one env only",
}


Check: TypeAlias = Callable[[Probe], Findings]


def _each_call(check: Callable[[Probe, Call], Findings]) -> Check:
    """Makes a check of one call into a check of the whole record."""

    def checked(probe: Probe) -> Findings:
        return (f"{call.title}: {finding}" for call in probe.calls for finding in check(probe, call))

    return checked


def _num_envs(probe: Probe) -> Findings:
    if isinstance(probe.env, VectorEnv) and type(probe.num_envs) is int and probe.num_envs > 0:
        probe.facts |= {"count", "several"} if probe.num_envs > 1 else {"count"}
    else:
        yield f"it is a {type(probe.env).__name__} with num_envs = {probe.num_envs!r}"


def _batched_spaces(probe: Probe) -> Findings:
    for kind in ("observation_space", "action_space"):
        found, single = getattr(probe.env, kind), getattr(probe.env, f"single_{kind}")
        if found != batch_space(single, probe.num_envs):
            yield f"{kind} is {str(found)[:80]} where single_{kind} is {str(single)[:80]}"


def _autoreset_mode(probe: Probe) -> Findings:
    if probe.mode is None:
        yield f"it is {getattr(probe.env, 'metadata', {}).get('autoreset_mode')!r}"


def _results(probe: Probe) -> Findings:
    try:
        probe.make_record()
        if all(call.is_batch_of(probe.num_envs) for call in probe.calls):
            probe.facts.add("rows")
            if len({bits for draws in probe.draws for draw in draws for bits in draw}) > 1:
                probe.facts.add("random")
    except Exception as error:
        yield f"after {len(probe.calls)} calls {described(error)}"
    if probe.calls:
        probe.facts.add("record")
    if any(call.ended.any() for call in probe.calls[: None if probe.mode is AutoresetMode.SAME_STEP else -1]):
        probe.facts.add("end")


@_each_call
def _observation(probe: Probe, call: Call) -> Findings:
    single = probe.env.single_observation_space
    template = tree_leaves(create_empty_array(single, n=probe.num_envs), "obs")
    expected = {place: kind_of(leaf) for place, leaf in template if isinstance(leaf, np.ndarray)}
    found = {place: kind_of(leaf) for place, leaf in tree_leaves(call.obs, "obs")}
    if expected.items() - found.items():
        yield f"found {found}, expected {expected}"
    elif not space_contains(call.space, call.obs):
        inside = [space_contains(single, row) for row in iterate(call.space, call.obs)]
        yield f"{named_envs(indices_of(~np.array(inside)))} outside of the space"


@_each_call
def _reward(probe: Probe, call: Call) -> Findings:
    if kind_of(call.reward) not in {f"{dtype}[{probe.num_envs}]" for dtype in ("float16", "float32", "float64")}:
        yield f"it is {kind_of(call.reward)}"


@_each_call
def _flags(probe: Probe, call: Call) -> Findings:
    for name, flags in (("terminated", call.terminated), ("truncated", call.truncated)):
        if kind_of(flags) != f"bool[{probe.num_envs}]":
            yield f"{name} is {kind_of(flags)}"


@_each_call
def _finite(probe: Probe, call: Call) -> Findings:
    for place, leaf in (*tree_leaves(call.obs, "obs"), ("reward", call.reward)):
        if not (finite := is_finite(leaf)).all():
            yield f"{place} of {named_envs(indices_of(~finite))} is not finite"


@_each_call
def _info(probe: Probe, call: Call) -> Findings:
    for place, is_mask, leaf in info_leaves(call.info):
        if not isinstance(leaf, np.ndarray) or leaf.shape[:1] != (probe.num_envs,):
            yield f"{place} is {kind_of(leaf)}"
        elif is_mask and kind_of(leaf) != f"bool[{probe.num_envs}]":
            yield f"the mask {place} is {kind_of(leaf)}"


@_each_call
def _episode_key(probe: Probe, call: Call) -> Findings:
    if not isinstance(probe.env, VectorWrapper) and {"episode", "_episode"} & call.info.keys():
        yield f"info has the keys {sorted(call.info)}"


def _values_stay(probe: Probe) -> Findings:
    for call in probe.calls:
        changed = [
            name for name, value in call.raw.items() if tree_bits(host_copy(value)) != tree_bits(getattr(call, name))
        ]
        if changed:
            yield f"{' and '.join(changed)} of {call.title} changed later"


def _memory(probe: Probe) -> Findings:
    leaves = ((call.title, place, leaf) for call in probe.calls for place, leaf in tree_leaves(call.raw, ""))
    arrays = [(title, place, to_numpy(leaf)) for title, place, leaf in leaves if is_array(leaf)]
    arrays = [found for found in arrays if found[2].size and found[2].flags.writeable and found[2].dtype != object]
    arrays.sort(key=lambda found: np.lib.array_utils.byte_bounds(found[2]))
    for (title, place, array), (next_title, next_place, next_array) in pairwise(arrays):
        if title != next_title and np.shares_memory(array, next_array):
            yield f"{place} of {title} and {next_place} of {next_title}"


@_each_call
def _action(probe: Probe, call: Call) -> Findings:
    if not call.is_action_kept:
        yield "the action array was changed"


def _same_seed(probe: Probe) -> Findings:
    findings = list(probe.differences(probe.repeated_calls))
    if not findings:
        probe.facts.add("replay")
    yield from findings


def _different_seeds(probe: Probe) -> Findings:
    seeded, _ = probe.draws
    if seeded[0] == seeded[1] == seeded[2]:
        yield "three different seeds gave the same episodes"


def _different_envs(probe: Probe) -> Findings:
    seeded, unseeded = probe.draws
    if all(len(set(draw)) == 1 for draw in seeded + unseeded):
        yield "given the same actions, all envs did the same"


def _unseeded_reset(probe: Probe) -> Findings:
    _, unseeded = probe.draws
    if unseeded[0] == unseeded[1] == unseeded[2]:
        yield "three resets without a seed gave the same episodes"


def _action_buffer(probe: Probe) -> Findings:
    actions = probe.actions[:WINDOW]
    yield from probe.differences(probe.play(actions, probe.seed, overwrite=probe.other_actions))


def _returned_arrays(probe: Probe) -> Findings:
    def scribbled() -> Iterator[Call]:
        for call in islice(probe.replay(), WINDOW):
            yield call
            for _, leaf in tree_leaves({**call.raw, "info": {}}, ""):
                array = to_numpy(leaf)
                if array.flags.writeable and array.dtype != object:
                    array[...] = np.ones((), array.dtype)

    yield from probe.differences(scribbled())


def _first_observation(probe: Probe) -> Findings:
    if probe.mode is AutoresetMode.SAME_STEP:
        ends = [(call.ended, call.final_rows, call) for call in probe.calls if "final_obs" in call.info]
    else:
        ends = [(call.ended, list(iterate(call.space, call.obs)), after) for call, after in pairwise(probe.calls)]
    rows = [(last[env], first, env) for ended, last, first in ends for env in indices_of(ended)]
    repeated = [(first, env) for last, first, env in rows if tree_bits(last) == first.obs_bits[env]]
    is_real = np.issubdtype(probe.env.single_observation_space.dtype or object, np.floating)
    if is_real or len(repeated) == len(rows):  # states of a small discrete space may be equal by chance
        yield from (f"{first.title}: env {env} shows the last observation again" for first, env in repeated)


@_each_call
def _final_keys(probe: Probe, call: Call) -> Findings:
    found = [key for key in FINAL_KEYS if key in call.info]
    if probe.mode is not AutoresetMode.SAME_STEP and found:
        yield f"info has {found}"
    elif probe.mode is AutoresetMode.SAME_STEP and call.ended.any() and len(found) < len(FINAL_KEYS):
        yield f"{named_envs(indices_of(call.ended))} ended, and of these keys info has {found}"
    elif not isinstance(call.info.get("final_info", {}), dict):
        yield f"final_info is a {kind_of(call.info['final_info'])}"


@_each_call
def _final_masks(probe: Probe, call: Call) -> Findings:
    for key in ("_final_obs", "_final_info"):
        if key in call.info and not np.array_equal(call.info[key], call.ended):
            yield f"{key} is {call.info[key]} where terminated | truncated is {call.ended}"


@_each_call
def _final_observation(probe: Probe, call: Call) -> Findings:
    for env in indices_of(call.ended) if "final_obs" in call.info else ():
        final = call.final_rows[env]
        all_finite = all(is_finite(leaf).all() for _, leaf in tree_leaves(final, ""))
        if not all_finite or not space_contains(probe.env.single_observation_space, final):
            yield f"that of env {env} is {str(final)[:80]}"


def _dead_step(probe: Probe) -> Findings:
    for call, after in pairwise(probe.calls):
        if wrong := indices_of(call.ended & (after.ended | (np.asarray(after.reward) != 0))):
            yield f"{after.title}: {named_envs(wrong)} of rewards {after.reward} and ends {after.ended}"


def _dead_action(probe: Probe) -> Findings:
    def changed(actions: Actions, ended: NDArray[np.bool_]) -> Actions:
        rows = zip(probe.other_actions, actions, ended, strict=True)
        return [other if is_over else action for other, action, is_over in rows]

    before = (call.ended for call in probe.calls)
    yield from probe.differences(probe.play(map(changed, probe.actions, before), probe.seed))


def _partial_reset(probe: Probe) -> Findings:
    begin, even, odd = probe.calls[0], set(range(0, probe.num_envs, 2)), set(range(1, probe.num_envs, 2))
    moved = (i for i, call in enumerate(probe.calls) if i > 1 and even <= differing(begin.obs_bits, call.obs_bits))
    index = next(moved, 1)  # where even a start that is always the same can be told from the observation before it
    run = probe.replay()
    before = list(islice(run, index + 1))[-1]
    result = probe.reset("partial reset", options={"reset_mask": np.arange(probe.num_envs) % 2 == 0})
    changed = differing(before.obs_bits, result.obs_bits)
    if even - changed:
        yield f"{named_envs(even - changed)} in the mask kept the observation"
    if odd & changed:
        yield f"{named_envs(odd & changed)} not in the mask got another observation"
    for place, is_mask, leaf in info_leaves(result.info):
        if is_mask and np.any(leaf[1::2]):
            yield f"{place} is {leaf} after a reset of the even envs"
    steps = (call for call in islice(run, WINDOW) if call.is_step)
    expected = (call for call in probe.calls[index + 1 :] if call.is_step)
    if probe.mode is not AutoresetMode.SAME_STEP:
        odd -= indices_of(before.ended)  # a new episode may come from a generator that all envs share
    for call, was in zip(steps, expected, strict=False) if "replay" in probe.facts else ():
        ended = indices_of(was.ended)
        compared = odd - ended if probe.mode is AutoresetMode.SAME_STEP else odd  # there obs is of the new episode
        if changed := compared & differing(call.bits, was.bits):
            yield f"{call.title} after the reset: {named_envs(changed)} not in the mask went on differently"
            return
        odd -= ended


def _options(probe: Probe) -> Findings:
    probe.reset(seed=probe.seed)
    options = {"reset_mask": np.arange(probe.num_envs) % 2 == 0}
    kept = host_copy(options)
    probe.reset(options=options)
    if tree_bits(options) != tree_bits(kept):
        yield f"{kept} became {options}"


def _bad_masks(probe: Probe) -> Findings:
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


def _no_autoreset(probe: Probe) -> Findings:
    call = next(call for call in probe.replay() if call.ended.any())
    try:
        after = probe.step(probe.other_actions, "step")
    except Exception:
        return
    if revived := indices_of(call.ended & ~after.ended):
        yield f"{named_envs(revived)} went on as if a new episode had begun"


def _close(probe: Probe) -> Findings:
    for attempt in ("first", "second"):
        try:
            probe.env.close()
        except Exception as error:
            yield f"on the {attempt} close {described(error)}"
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
    probe = Probe(env, num_steps, seed)
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


def _faults(clause: Clause, probe: Probe) -> list[str]:
    """At most one text: the first findings of a clause, and what it demands."""
    try:
        findings = list(clause.check(probe))
    except Exception as error:
        findings = [described(error)]
    more = f" (and {len(findings) - 2} more)" if len(findings) > 2 else ""
    return [f"{clause.name}: {'; '.join(findings[:2])}{more}.\n     Contract: {clause.contract}"] if findings else []
