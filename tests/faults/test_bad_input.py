"""Bad input: every bad call gets the documented typed error or the documented clip, and leaves the env as it was."""

from __future__ import annotations

import contextlib
import copy
import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ksim_envs
from ksim_envs.errors import (
    ClosedEnvError,
    InvalidActionError,
    InvalidConfigError,
    InvalidOptionError,
    InvalidSeedError,
    KsimError,
    ResetNeededError,
    UnknownNameError,
)
from ksim_envs.single_env import KsimEnv
from ksim_envs.vector_env import KsimVectorEnv
from tests import tiny
from tests.bits import assert_same_bits, host, rows

NUM_ENVS = 4
FRONTS = ("vector", "single")


@dataclass(frozen=True)
class Pair:
    """An env, and a twin that gets the same valid calls but none of the bad ones."""

    env: Any
    twin: Any

    @property
    def action(self):
        """A valid action, with different numbers in every place."""
        shape = self.env.action_space.shape
        return np.linspace(-0.9, 0.8, np.prod(shape), dtype=np.float32).reshape(shape)

    def everything(self):
        """A copy of all that the env's future depends on."""
        batch = getattr(self.env, "_batch", self.env)
        generator = str(self.env.np_random.bit_generator.state).encode()
        return jax.tree.map(np.array, host(batch._state)), self.env.physics_state(), np.frombuffer(generator, np.uint8)

    @contextmanager
    def refuses(self, error, *words):
        """The block must raise this error, with these words, and change nothing."""
        before = self.everything()
        with pytest.raises(error) as raised:
            yield
        assert [word for word in words if word not in str(raised.value)] == [], str(raised.value)
        assert_same_bits(self.everything(), before)
        assert_same_bits(self.env.step(self.action), self.twin.step(self.action))


def make_front(make_env, kind, num_envs=NUM_ENVS, **keywords):
    if kind == "vector":
        return make_env(num_envs=num_envs, backend="native", **keywords)
    make_env(num_envs=1, backend="native")  # keeps the core of the single env for the session
    return KsimEnv(tiny.HOPPER_LIKE, backend="native", **keywords)


def make_pair(make_env, kind):
    pair = Pair(make_front(make_env, kind), make_front(make_env, kind))
    for env in (pair.env, pair.twin):
        env.reset(seed=0)
        env.step(pair.action)
    return pair


@pytest.fixture(params=FRONTS)
def pair(request, make_env):
    return make_pair(make_env, request.param)


@pytest.fixture
def vector_pair(make_env):
    return make_pair(make_env, "vector")


@pytest.fixture
def single_pair(make_env):
    return make_pair(make_env, "single")


def torch_tensor(action, dtype="float32", **keywords):
    torch = pytest.importorskip("torch")
    return torch.tensor(np.array(action), dtype=getattr(torch, dtype), **keywords)


def deleted(array):
    array = jnp.array(array)
    array.delete()
    return array


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def table(cases, marks=None):
    """The cases of a table as parameters, under their names."""
    marks = marks or {}
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), id=name, marks=marks.get(name, ()))
        for name, case in cases.items()
    ]


# Actions

NOT_FINITE = {
    "nan": lambda a: np.full_like(a, np.nan),
    "inf": lambda a: np.full_like(a, np.inf),
    "minus_inf": lambda a: np.full_like(a, -np.inf),
    "one_nan_at_the_end": lambda a: np.append(a.ravel()[:-1], np.nan).reshape(a.shape),
    "nan_in_float64": lambda a: np.full(a.shape, np.nan),
    "nan_in_a_list": lambda a: np.full_like(a, np.nan).tolist(),
    "nan_in_torch": lambda a: torch_tensor(np.full_like(a, np.nan)),
}
WRONG_SHAPES = {
    "one_too_few_actions": lambda a: a[..., :-1],
    "one_too_many_actions": lambda a: np.concatenate([a, a[..., :1]], -1),
    "one_row_too_many": lambda a: np.concatenate([np.atleast_2d(a), np.atleast_2d(a)[:1]]),
    "leading_axis": lambda a: a[None],
    "trailing_axis": lambda a: a[..., None],
    "flat_and_repeated": lambda a: np.tile(a.ravel(), 3),
    "scalar": lambda a: np.float32(0.5),
    "empty": lambda a: np.zeros(0, np.float32),
    "empty_list": lambda a: [],
    "jax": lambda a: jnp.array(a[..., :-1]),
    "torch": lambda a: torch_tensor(a[..., :-1]),
}
WRONG_TYPES = {
    "none": lambda a: None,
    "str": lambda a: "0.5",
    "bytes": lambda a: b"0.5",
    "dict": lambda a: {"action": a},
    "set": lambda a: {0.5},
    "generator": lambda a: (x for x in a),
    "object": lambda a: object(),
    "object_array": lambda a: a.astype(object),
    "none_in_a_list": lambda a: [*a.tolist()[:-1], None],
    "ragged_list": lambda a: [[0.1, 0.2], [0.3]],
    "bool_array": lambda a: a > 0,
    "complex_array": lambda a: a.astype(complex),
    "str_array": lambda a: a.astype(str),
    "datetime_array": lambda a: np.zeros(a.shape, "datetime64[s]"),
    "structured_array": lambda a: np.zeros(a.shape, [("x", np.float32)]),
    "jax_bool": lambda a: jnp.array(a) > 0,
    "jax_complex": lambda a: jnp.array(a, jnp.complex64),
    "jax_key": lambda a: jax.random.split(jax.random.key(0), a.shape),
    "jax_deleted": deleted,
    "torch_requires_grad": lambda a: torch_tensor(a, requires_grad=True),
    "torch_complex": lambda a: torch_tensor(a, "complex64"),
    "torch_bool": lambda a: torch_tensor(a, "bool"),
    "torch_sparse": lambda a: torch_tensor(a).to_sparse(),
    "torch_without_memory": lambda a: torch_tensor(a).to("meta"),
}
EQUAL_VALUES = {
    "non_contiguous": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "column_major": np.asfortranarray,
    "reversed_strides": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "read_only": read_only,
    "big_endian": lambda a: a.astype(">f4"),
    "float64": lambda a: a.astype(np.float64),
    "longdouble": lambda a: a.astype(np.longdouble),
    "list": lambda a: a.tolist(),
    "jax": jnp.array,
    "torch": torch_tensor,
    "torch_strided": lambda a: torch_tensor(np.repeat(a, 2, -1))[..., ::2],
    "torch_float64": lambda a: torch_tensor(a, "float64"),
}
ROUNDED_VALUES = {
    "float16": lambda a: a.astype(np.float16),
    "jax_bfloat16": lambda a: jnp.array(a, jnp.bfloat16),
    "torch_float16": lambda a: torch_tensor(a, "float16"),
    "int64": lambda a: a.astype(np.int64),
    "int8": lambda a: a.astype(np.int8),
    "uint64": lambda a: a.astype(np.uint64),
    "jax_int32": lambda a: jnp.array(a, jnp.int32),
    "torch_int64": lambda a: torch_tensor(a, "int64"),
}
OUT_OF_BOUNDS = {
    "just_above": np.nextafter(np.float32(1), np.float32(2)),
    "just_below": np.nextafter(np.float32(-1), np.float32(-2)),
    "times_5": np.float32(5),
    "times_minus_5": np.float32(-5),
    "1e30": np.float32(1e30),
    "minus_1e30": np.float32(-1e30),
    "1e300_which_float32_cannot_hold": np.float64(1e300),
    "minus_1e300": np.float64(-1e300),
    "largest_int64": np.int64(2**63 - 1),
}


@pytest.mark.parametrize("bad", table(NOT_FINITE))
def test_an_action_that_is_not_finite_is_refused_and_changes_nothing(pair, bad):
    with pair.refuses(InvalidActionError, "must be finite"):
        pair.env.step(bad(pair.action))


@pytest.mark.parametrize("bad", table(WRONG_SHAPES))
def test_an_action_of_the_wrong_shape_is_refused_and_changes_nothing(pair, bad):
    with pair.refuses(InvalidActionError, "has shape", "num_actions", f"= {pair.env.action_space.shape}"):
        pair.env.step(bad(pair.action))


@pytest.mark.parametrize("bad", [np.transpose, lambda a: a[0], lambda a: a[:1], lambda a: a[:-1]])
def test_actions_are_neither_transposed_nor_broadcast_to_the_batch(vector_pair, bad):
    with vector_pair.refuses(InvalidActionError, "(num_envs, num_actions) = (4, 2)"):
        vector_pair.env.step(bad(vector_pair.action))


@pytest.mark.parametrize("bad", table(WRONG_TYPES))
def test_an_action_of_the_wrong_type_is_refused_and_changes_nothing(pair, bad):
    with pair.refuses(InvalidActionError, "action "):
        pair.env.step(bad(pair.action))


@pytest.mark.parametrize("convert", table(EQUAL_VALUES))
def test_equal_actions_step_alike_whatever_holds_them(pair, convert):
    assert_same_bits(pair.env.step(convert(pair.action)), pair.twin.step(pair.action))


@pytest.mark.parametrize("convert", table(ROUNDED_VALUES))
def test_rounded_actions_step_like_their_float32_values(pair, convert):
    action = np.sign(pair.action) if convert is not ROUNDED_VALUES["uint64"] else np.ones_like(pair.action)
    assert_same_bits(pair.env.step(convert(action)), pair.twin.step(action))


@pytest.mark.parametrize("kind", ["vector", "single"])
def test_a_torch_bfloat16_action_steps_like_its_float32_values(make_env, kind):
    pair = make_pair(make_env, kind)
    action = np.full_like(pair.action, 0.5)
    assert_same_bits(pair.env.step(torch_tensor(action, "bfloat16")), pair.twin.step(action))


@pytest.mark.parametrize("value", table(OUT_OF_BOUNDS))
def test_an_action_out_of_bounds_is_clipped(pair, value):
    action = np.full(pair.action.shape, value)
    clipped = np.clip(action, pair.env.action_space.low, pair.env.action_space.high)
    assert_same_bits(pair.env.step(action), pair.twin.step(clipped))


def test_a_step_neither_keeps_nor_changes_the_callers_action(pair):
    action = 5 * pair.action
    env_result = pair.env.step(action)
    assert_same_bits(action, 5 * pair.action)
    action[:] = np.nan
    assert_same_bits(env_result, pair.twin.step(5 * pair.action))
    assert_same_bits(pair.env.step(pair.action), pair.twin.step(pair.action))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_device_action_that_is_not_finite_is_a_divergence_of_its_row_alone(vector_pair, value):
    action = vector_pair.action
    found = vector_pair.env.step(jnp.array(action).at[2, 0].set(value))
    expected = vector_pair.twin.step(action)
    assert found[3].tolist() == found[4]["diverged"].tolist() == [False, False, True, False]
    assert found[1][2] == 0
    others = [0, 1, 3]
    assert_same_bits(rows(found, others), rows(expected, others))
    assert vector_pair.env.fault_counts()["action"].tolist() == [0, 0, 1, 0]


# Seeds

REFUSED_SEEDS = {
    "true": True,
    "numpy_true": np.True_,
    "float": 1.0,
    "numpy_float": np.float64(3),
    "nan": float("nan"),
    "str": "1",
    "bytes": b"1234",
    "complex": 1j,
    "object": object(),
    "dict": {"seed": 1},
    "set": {1},
    "minus_1": -1,
    "numpy_minus_1": np.int64(-1),
    "minus_2_to_63": -(2**63),
    "2_to_64": 2**64,
    "2_to_70": 2**70,
    "array_without_axis": np.array(5),
    "list_too_short": [1, 2, 3],
    "list_too_long": [1, 2, 3, 4, 5],
    "list_empty": [],
    "list_with_a_float": [1, 2, 3, 4.0],
    "list_with_nan": [1, 2, 3, float("nan")],
    "list_with_a_bool": [1, 2, 3, True],
    "list_with_minus_1": [1, 2, 3, -1],
    "list_with_2_to_64": [1, 2, 3, 2**64],
    "float_array": np.arange(4.0),
    "column": np.arange(4)[:, None],
}
ACCEPTED_SEEDS = {
    "numpy_int64": (np.int64(7), 7),
    "numpy_int8": (np.int8(7), 7),
    "numpy_uint64": (np.uint64(2**64 - 1), 2**64 - 1),
    "2_to_31": (np.uint32(2**31), 2**31),
    "2_to_63": (np.uint64(2**63), 2**63),
}


@pytest.mark.parametrize("bad", table(REFUSED_SEEDS))
def test_a_wrong_seed_is_refused_and_changes_nothing(pair, bad):
    with pair.refuses(InvalidSeedError, "seed"):
        pair.env.reset(seed=bad)


@pytest.mark.parametrize("seed, number", table(ACCEPTED_SEEDS))
def test_a_numpy_integer_is_the_same_seed_as_its_value(pair, seed, number):
    assert_same_bits(pair.env.reset(seed=seed), pair.twin.reset(seed=number))


def test_no_two_seeds_are_silently_the_same(pair):
    seeds = (0, 1, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1)
    starts = [pair.env.reset(seed=seed)[0] for seed in seeds]
    assert all((one != other).any() for one, other in itertools.combinations(starts, 2))


def test_none_in_a_list_of_seeds_goes_on_with_what_the_env_has(vector_pair):
    seeded, ongoing = [1, 3], [0, 2]
    found = vector_pair.env.reset(seed=[None, 5, None, 6])
    assert_same_bits(rows(found, ongoing), rows(vector_pair.twin.reset(), ongoing))
    assert_same_bits(rows(found, seeded), rows(vector_pair.twin.reset(seed=[9, 5, 9, 6]), seeded))


@pytest.mark.parametrize(
    "seed",
    [[7], (7,), np.array([7])],
    ids=["list", "tuple", "array"],
)
def test_a_single_env_takes_no_list_of_seeds(single_pair, seed):
    with single_pair.refuses(InvalidSeedError, "seed", "integer"):
        single_pair.env.reset(seed=seed)


# Reset options

MASK = [True, False, True, False]
WRONG_MASKS = {
    "integers": ([1, 0, 1, 0], "must be bool"),
    "floats": (np.ones(4), "must be bool"),
    "strings": (["yes"] * 4, "must be bool"),
    "none": (None, "must be bool"),
    "scalar": (True, "(4,)"),
    "too_short": (np.ones(3, bool), "(4,)"),
    "too_long": (np.ones(5, bool), "(4,)"),
    "column": (np.ones((4, 1), bool), "(4,)"),
    "empty": ([], "(4,)"),
    "selects_no_env": (np.zeros(4, bool), "selects no env"),
    "ragged": ([[True], [True, False]], "cannot read"),
    "deleted": (deleted(np.ones(4, bool)), "cannot read"),
}
WRONG_STATES = {
    "too_short": (np.zeros(2), "(3,)"),
    "too_long": (np.zeros(4), "(3,)"),
    "too_many_rows": (np.zeros((5, 3)), "(3,)"),
    "trailing_axis": (np.zeros((4, 3, 1)), "(3,)"),
    "scalar": (0.5, "(3,)"),
    "nan": ([0, np.nan, 0], "must be finite"),
    "inf": ([0, 0, -np.inf], "must be finite"),
    "beyond_mujocos_bound": ([0, 1e11, 0], "+-1e+10"),
    "1e300": ([1e300, 0, 0], "+-1e+10"),
    "none": (None, "real numbers"),
    "str": ("zero", "real numbers"),
    "bool": (np.zeros(3, bool), "real numbers"),
    "complex": (np.zeros(3, complex), "real numbers"),
    "objects": (np.zeros(3, object), "real numbers"),
    "ragged": ([[0, 0, 0], [0]], "cannot read"),
}


@pytest.mark.parametrize("mask, words", table(WRONG_MASKS))
def test_a_wrong_reset_mask_is_refused_and_changes_nothing(vector_pair, mask, words):
    with vector_pair.refuses(InvalidOptionError, "reset_mask", words):
        vector_pair.env.reset(seed=1, options={"reset_mask": mask})


@pytest.mark.parametrize("name", ["qpos", "qvel"])
@pytest.mark.parametrize("value, words", table(WRONG_STATES))
def test_a_wrong_start_is_refused_and_changes_nothing(pair, name, value, words):
    with pair.refuses(InvalidOptionError, name, words):
        pair.env.reset(seed=1, options={name: value})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"reset_msak": MASK}, "'reset_mask'"),
        ({"qpso": np.zeros(3)}, "'qpos'"),
        ({"Qvel": 0}, "'qvel'"),
        ({5: 1}, "'5'"),
    ],
    ids=str,
)
def test_an_unknown_option_is_refused_with_the_near_miss(pair, options, words):
    with pair.refuses(UnknownNameError, "reset option", words, "Known: qpos, qvel, reset_mask"):
        pair.env.reset(options=options)


@pytest.mark.parametrize("options", [["reset_mask"], "qpos", 3, np.ones(4, bool)], ids=str)
def test_options_that_are_no_dictionary_are_refused(pair, options):
    with pair.refuses(InvalidOptionError, "must be a dictionary"):
        pair.env.reset(options=options)


def test_a_bad_seed_beside_good_options_changes_nothing(pair):
    with pair.refuses(InvalidSeedError):
        pair.env.reset(seed=-1, options={"qpos": np.zeros(3)})


@pytest.mark.parametrize("extra", [{}, {"unknown": 1}, {"qvel": [np.nan] * 3}], ids=["accepted", "unknown", "nan"])
def test_the_callers_options_are_neither_changed_nor_kept(vector_pair, extra):
    options = {"reset_mask": np.array(MASK), "qpos": np.zeros(3), **extra}
    before = copy.deepcopy(options)
    for env in (vector_pair.env, vector_pair.twin):
        try:
            env.reset(options=options)
        except (UnknownNameError, InvalidOptionError):
            assert extra
        assert options.keys() == before.keys()
        assert_same_bits(options, before)
    options["reset_mask"][:] = True
    options["qpos"][:] = np.nan
    assert_same_bits(vector_pair.env.step(vector_pair.action), vector_pair.twin.step(vector_pair.action))


# Construction

WRONG_CONSTRUCTION = {
    "num_envs_0": ({"num_envs": 0}, InvalidConfigError, "num_envs is 0; it must be an integer from 1"),
    "num_envs_minus_1": ({"num_envs": -1}, InvalidConfigError, "num_envs is -1"),
    "num_envs_1.5": ({"num_envs": 1.5}, InvalidConfigError, "num_envs is 1.5"),
    "num_envs_str": ({"num_envs": "2"}, InvalidConfigError, "num_envs is '2'"),
    "num_envs_true": ({"num_envs": True}, InvalidConfigError, "num_envs is True"),
    "num_envs_none": ({"num_envs": None}, InvalidConfigError, "num_envs is None"),
    "num_envs_nan": ({"num_envs": float("nan")}, InvalidConfigError, "num_envs is nan"),
    "num_envs_2_to_31": ({"num_envs": 2**31}, InvalidConfigError, "from 1 to 16777216"),
    "num_envs_2_to_40": ({"num_envs": 2**40}, InvalidConfigError, "from 1 to 16777216"),
    "backend_near_miss": ({"backend": "nativ"}, UnknownNameError, "Did you mean 'native'"),
    "backend_unknown": ({"backend": "bullet"}, UnknownNameError, "Known: auto, mjx, native"),
    "backend_none": ({"backend": None}, UnknownNameError, "backend 'None'"),
    "dynamics_near_miss": ({"dynamics": "gymnasum"}, UnknownNameError, "Did you mean 'gymnasium'"),
    "dynamics_none": ({"dynamics": None}, UnknownNameError, "dynamics 'None'"),
    "output_near_miss": ({"output": "numpi"}, UnknownNameError, "Did you mean 'numpy'"),
    "output_list": ({"output": ["numpy", "jax"]}, UnknownNameError, "Known: jax, numpy, torch"),
    "output_array": ({"output": np.array(["numpy", "jax"])}, UnknownNameError, "Known: jax, numpy, torch"),
    "autoreset_mode_near_miss": ({"autoreset_mode": "nextstep_"}, UnknownNameError, "Did you mean 'next_step'"),
    "autoreset_mode_none": ({"autoreset_mode": None}, UnknownNameError, "Known: disabled, next_step, same_step"),
    "autoreset_mode_number": ({"autoreset_mode": 1}, UnknownNameError, "Known: disabled, next_step, same_step"),
    "render_mode_human": ({"render_mode": "human"}, UnknownNameError, "Known: rgb_array"),
    "episode_length_0": ({"episode_length": 0}, InvalidConfigError, "episode_length is 0"),
    "episode_length_minus_1": ({"episode_length": -1}, InvalidConfigError, "episode_length is -1"),
    "episode_length_float": ({"episode_length": 10.0}, InvalidConfigError, "episode_length is 10.0"),
    "episode_length_true": ({"episode_length": True}, InvalidConfigError, "episode_length is True"),
    "episode_length_2_to_31": ({"episode_length": 2**31}, InvalidConfigError, "from 1 to 2147483647"),
    "num_rendered_envs_0": ({"num_rendered_envs": 0}, InvalidConfigError, "num_rendered_envs is 0"),
    "num_rendered_envs_5": ({"num_rendered_envs": 5}, InvalidConfigError, "from 1 to 4"),
    "stagger_first_episodes_text": (
        {"stagger_first_episodes": "yes"},
        InvalidConfigError,
        "stagger_first_episodes is 'yes'; it must be True or False",
    ),
    "width_0": ({"width": 0}, InvalidConfigError, "width is 0"),
    "height_str": ({"height": "480"}, InvalidConfigError, "height is '480'"),
    "num_threads_0": ({"num_threads": 0}, InvalidConfigError, "num_threads is 0"),
    "num_threads_float": ({"num_threads": 2.0}, InvalidConfigError, "num_threads is 2.0"),
    "num_threads_on_mjx": ({"backend": "mjx", "num_threads": 2}, InvalidConfigError, "num_threads= is for the native"),
    "device_on_native": ({"device": jax.devices()[0]}, InvalidConfigError, "device= is for the mjx backend"),
    "device_unknown": ({"backend": "mjx", "device": "banana"}, InvalidConfigError, "device"),
    "backend_list": ({"backend": ["native"]}, UnknownNameError, "backend"),
}
VECTOR_ONLY = ("num_envs", "output", "autoreset_mode", "num_rendered_envs", "stagger_first_episodes")


@pytest.mark.parametrize("keywords, error, words", table(WRONG_CONSTRUCTION))
def test_a_wrong_argument_of_a_vector_env_is_refused(keywords, error, words):
    with pytest.raises(error) as raised:
        KsimVectorEnv(tiny.HOPPER_LIKE, **{"num_envs": 4, "backend": "native", **keywords})
    assert words in str(raised.value)


SINGLE_CONSTRUCTION = {
    name: case for name, case in WRONG_CONSTRUCTION.items() if not any(name.startswith(only) for only in VECTOR_ONLY)
}


@pytest.mark.parametrize("keywords, error, words", table(SINGLE_CONSTRUCTION))
def test_a_wrong_argument_of_a_single_env_is_refused(keywords, error, words):
    with pytest.raises(error) as raised:
        KsimEnv(tiny.HOPPER_LIKE, **{"backend": "native", **keywords})
    assert words in str(raised.value)


@pytest.mark.parametrize("task", ["ksim/Hopper-v0", None, 3], ids=str)
@pytest.mark.parametrize("make", [KsimEnv, lambda task: KsimVectorEnv(task, 2)], ids=["single", "vector"])
def test_a_task_of_the_wrong_type_is_refused(make, task):
    with pytest.raises(InvalidConfigError, match="task"):
        make(task)


@pytest.mark.parametrize("id", ["ksim/Hoper-v0", "Hopper-v0", "ksim/Hopper", "", None, 3, []], ids=str)
@pytest.mark.parametrize("make", [ksim_envs.make, ksim_envs.get_task, lambda id: ksim_envs.make_functional(id, 2)])
def test_an_unknown_id_is_refused_with_all_that_exist(make, id):
    with pytest.raises(UnknownNameError, match="ksim/Hopper-v0"):
        make(id)


def test_gymnasium_names_the_nearest_id():
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `Hopper`"):
        gym.make("ksim/Hoper-v0", num_envs=2)


@pytest.mark.parametrize(
    "keywords, words",
    [
        ({"num_envs": 2, "bakend": "native"}, "Did you mean 'backend'"),
        ({"num_envs": 2, "autoreset": "next_step"}, "Did you mean 'autoreset_mode'"),
        ({"num_envs": 2, "task": None}, "KsimVectorEnv got an unexpected keyword argument 'task'"),
        ({"episode_lenght": 5}, "Did you mean 'episode_length'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [ksim_envs.make, gym.make])
def test_an_unknown_keyword_is_refused_with_the_near_miss(make, keywords, words):
    with pytest.raises(UnknownNameError) as raised:
        make("ksim/InvertedPendulum-v0", **keywords)
    assert words in str(raised.value)


@pytest.mark.parametrize("make", [ksim_envs.make, gym.make])
def test_a_keyword_of_batches_is_refused_for_a_single_env_with_the_remedy(make):
    with pytest.raises(InvalidConfigError, match="output= is for a batch of envs; pass num_envs= too"):
        make("ksim/InvertedPendulum-v0", output="jax")


@pytest.mark.parametrize("shape", [(2,), (2, 2), (1, 1), (2, 1, 1)], ids=str)
def test_the_functional_core_checks_the_shape_of_actions(shape):
    core = ksim_envs.make_functional("ksim/InvertedPendulum-v0", 2, backend="native")
    with pytest.raises(InvalidActionError, match=r"it must be \(2, 1\)"):
        core.step(core.unreset_state(core.keys(0)), jnp.zeros(shape))


@pytest.mark.parametrize(
    "keywords",
    [{"num_envs": 0}, {"num_envs": "2"}, {"num_threads": 0}, {"num_threads": -1}, {"num_threads": "a"}],
    ids=str,
)
def test_the_functional_core_checks_its_numbers(keywords):
    with pytest.raises(InvalidConfigError, match=f"{list(keywords)[-1]} is"):
        ksim_envs.make_functional("ksim/InvertedPendulum-v0", **{"num_envs": 2, "backend": "native", **keywords})


@pytest.mark.parametrize(
    "name, value", [("episode_length", 0), ("episode_length", 1.5), ("episode_length", [3, 4, 3, 3])]
)
def test_a_wrong_attribute_is_refused_and_changes_nothing(vector_pair, name, value):
    with vector_pair.refuses(InvalidConfigError, name):
        vector_pair.env.set_attr(name, value)


def test_an_unknown_autoreset_mode_is_refused_and_the_old_one_stays(vector_pair):
    with vector_pair.refuses(UnknownNameError, "Did you mean 'same_step'"):
        vector_pair.env.autoreset_mode = "samestep_"
    assert vector_pair.env.autoreset_mode is gym.vector.AutoresetMode.NEXT_STEP


# The order of calls

NEEDS_RESET = {
    "step": lambda env: env.step(np.zeros(env.action_space.shape)),
    "render": lambda env: env.render(),
    "physics_state": lambda env: env.physics_state(),
}
NEEDS_OPEN = {**NEEDS_RESET, "reset": lambda env: env.reset(), "reset_with_seed": lambda env: env.reset(seed=0)}


@pytest.mark.parametrize("use", table(NEEDS_RESET))
@pytest.mark.parametrize("kind", FRONTS)
def test_use_before_the_first_reset_is_refused_and_changes_nothing(make_env, kind, use):
    env, twin = (make_front(make_env, kind, render_mode="rgb_array") for _ in range(2))
    with pytest.raises(ResetNeededError, match=r"call reset\(\)"):
        use(env)
    assert_same_bits(env.reset(seed=3), twin.reset(seed=3))


def test_a_first_reset_of_some_envs_only_is_refused_and_changes_nothing(make_env):
    env, twin = (make_front(make_env, "vector") for _ in range(2))
    with pytest.raises(ResetNeededError, match="first reset must be of all envs"):
        env.reset(seed=1, options={"reset_mask": np.array(MASK)})
    assert_same_bits(env.reset(seed=3), twin.reset(seed=3))


@pytest.mark.parametrize("use", table(NEEDS_OPEN))
@pytest.mark.parametrize("kind", FRONTS)
def test_use_after_close_is_refused(make_env, kind, use):
    env = make_front(make_env, kind, render_mode="rgb_array")
    env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(ClosedEnvError, match="is closed; make a new one"):
        use(env)


def test_a_vector_env_without_autoreset_refuses_to_step_ended_envs(vector_pair):
    for env in (vector_pair.env, vector_pair.twin):
        env.autoreset_mode = "disabled"
        env.reset(seed=0, options={"qpos": [[0, 0, angle] for angle in (0, 1, 0, 1)]})
        ended = env.step(vector_pair.action)[2]
        assert ended.tolist() == [False, True, False, True]
    before = vector_pair.everything()
    with pytest.raises(ResetNeededError, match=r"envs \[1, 3\].*DISABLED; call reset\(options=") as raised:
        vector_pair.env.step(vector_pair.action)
    assert "reset_mask" in str(raised.value)
    assert_same_bits(vector_pair.everything(), before)
    for env in (vector_pair.env, vector_pair.twin):
        env.reset(options={"reset_mask": ended})
    assert_same_bits(vector_pair.env.step(vector_pair.action), vector_pair.twin.step(vector_pair.action))


def test_a_single_env_refuses_to_step_after_its_episode_has_ended(single_pair):
    for env in (single_pair.env, single_pair.twin):
        env.reset(seed=0, options={"qpos": [0, 0, 1]})
        assert env.step(single_pair.action)[2]
    before = single_pair.everything()
    with pytest.raises(ResetNeededError, match=r"it has ended; call reset\(\) before"):
        single_pair.env.step(single_pair.action)
    assert_same_bits(single_pair.everything(), before)
    assert_same_bits(single_pair.env.reset(), single_pair.twin.reset())


@pytest.mark.parametrize("kind", FRONTS)
def test_any_order_of_three_calls_ends_in_success_or_in_the_documented_error(make_env, kind):
    calls = {**NEEDS_OPEN, "close": lambda env: env.close()}
    for order in itertools.product(calls, repeat=3):
        env = make_front(make_env, kind)
        is_reset = is_closed = False
        for name in order:
            expected = None
            if is_closed and name in NEEDS_OPEN:
                expected = ClosedEnvError
            elif not is_reset and name in NEEDS_RESET:
                expected = ResetNeededError
            if name == "render":
                expected = None  # without a render mode it returns None, whatever happened before
            if expected:
                with pytest.raises(expected):
                    calls[name](env)
            else:
                calls[name](env)
            is_reset |= name.startswith("reset")
            is_closed |= name == "close"


@pytest.mark.parametrize("kind", FRONTS)
def test_random_calls_end_well_or_in_a_documented_error(make_env, kind):
    """50 runs of 50 calls, good and bad; afterwards the env is as usable as ever."""
    rng = np.random.default_rng(0)
    wrong = [bad for name, bad in (NOT_FINITE | WRONG_SHAPES | WRONG_TYPES).items() if "torch" not in name]
    calls = [
        *NEEDS_OPEN.values(),
        *(lambda env, bad=bad: env.step(bad(np.zeros(env.action_space.shape, np.float32))) for bad in wrong),
        *(lambda env, seed=seed: env.reset(seed=seed) for seed in REFUSED_SEEDS.values()),
        *(lambda env, start=start: env.reset(options={"qpos": start}) for start, _ in WRONG_STATES.values()),
    ]
    for _ in range(50):
        env, twin = make_front(make_env, kind), make_front(make_env, kind)
        for number in rng.integers(len(calls), size=50):
            with contextlib.suppress(KsimError):
                calls[number](env)
        assert_same_bits(env.reset(seed=7), twin.reset(seed=7))
