"""How a task checks itself, what it finds out about its terms, and which random stream each term gets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.physics import load_model
from ksim_envs.tasks.evaluation import control, draw_start, evaluate
from ksim_envs.tasks.humanoid import HUMANOID
from ksim_envs.tasks.observations import BodyPosition, Coordinate, Field, Time
from ksim_envs.tasks.resets import UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import Alive, Scaled
from ksim_envs.tasks.task import RESERVED, Task
from ksim_envs.tasks.terminations import Outside
from ksim_envs.tasks.tracing import find_reads, slices
from ksim_envs.types import Push
from tests import tiny
from tests.ksim_envs.tasks.by_hand import MODEL, TWO_BODIES, context, view

PLAIN = Task(
    model=TWO_BODIES,
    frame_skip=5,
    episode_length=10,
    observations={"qvel": Field("qvel"), "qpos": Field("qpos")},
    rewards={"alive": Alive(1.0)},
)
STATE = view(qpos=[1, 2], qvel=[3, 4])


@dataclass(frozen=True)
class Draw:
    """Any term: a number from its own stream."""

    def __call__(self, view, ctx):
        return jax.random.normal(ctx.key)


@dataclass(frozen=True)
class Given:
    """Any term: this value."""

    value: object

    def __call__(self, *args):
        return self.value


@dataclass(frozen=True)
class GivenField:
    """A randomizer that answers with this value."""

    field: str
    value: object

    @property
    def fields(self):
        return (self.field,)

    def __call__(self, values, ctx):
        return {self.field: jnp.asarray(self.value)}


@dataclass(frozen=True)
class DrawnKick:
    """An event that kicks the first joint by a number from its own stream."""

    def __call__(self, view, ctx):
        return kick(jax.random.normal(ctx.key))


@dataclass(frozen=True)
class HeavyStart:
    """A reset that starts the first joint at the row's own mass of body 1."""

    def __call__(self, qpos, qvel, ctx):
        return qpos.at[0].set(ctx.field("body_mass")[1]), qvel


def kick(size):
    return Push(qvel_kick=jnp.array([size, 0.0]), xfrc_applied=jnp.zeros((3, 6)))


def start(task, **changes):
    return draw_start(task, jnp.zeros(2), jnp.zeros(2), context(**changes))


# Validation


@pytest.mark.parametrize("name", ["frame_skip", "episode_length"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True], ids=repr)
def test_horizons_must_be_positive_integers(name, value):
    with pytest.raises(InvalidConfigError, match=rf"Task.{name} is {value!r}; it must be a positive integer"):
        replace(PLAIN, **{name: value})


@pytest.mark.parametrize("name", ["observations", "rewards"])
def test_a_task_has_at_least_one_observation_and_reward(name):
    with pytest.raises(InvalidConfigError, match=f"Task.{name} is empty"):
        replace(PLAIN, **{name: {}})


def test_a_metric_may_not_have_the_name_of_a_reward():
    with pytest.raises(InvalidConfigError, match=r"found \['alive'\] twice"):
        replace(PLAIN, metrics={"alive": Coordinate(0)})


@pytest.mark.parametrize("role", ["rewards", "metrics"])
@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_that_info_needs_itself_are_refused(role, name):
    with pytest.raises(InvalidConfigError, match=rf"found \['{name}'\]"):
        replace(PLAIN, **{role: {name: Alive(1.0)}})


WRONG = {
    "a reward that is no scalar": ({"rewards": {"two": Given(jnp.ones(2))}}, "reward 'two' has shape (2,)"),
    "a termination that is no scalar": (
        {"terminations": {"two": Given(jnp.ones(2))}},
        "termination 'two' has shape (2,)",
    ),
    "a truncation that is no scalar": (
        {"truncations": {"two": Given(jnp.ones(2))}},
        "truncation 'two' has shape (2,)",
    ),
    "a reset of another size": (
        {"resets": {"r": Given((jnp.ones(3), jnp.ones(2)))}},
        "qpos after the resets has shape (3,)",
    ),
    "a randomizer of another shape": (
        {"randomizers": {"m": GivenField("body_mass", 1.0)}},
        "the randomized body_mass has shape ()",
    ),
    "a kick of another size": (
        {"events": {"e": Given(replace(kick(0.0), qvel_kick=jnp.zeros(3)))}},
        "qvel_kick of the events has shape (3,)",
    ),
    "a force on one body only": (
        {"events": {"e": Given(replace(kick(0.0), xfrc_applied=jnp.zeros(6)))}},
        "xfrc_applied of the events has shape (6,)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_term_of_the_wrong_shape_is_named_when_the_task_is_built(wrong):
    changes, message = WRONG[wrong]
    with pytest.raises(InvalidConfigError) as raised:
        find_reads(replace(PLAIN, **changes), MODEL)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": {"o": Field("qvle")}}, "no field of View 'qvle'. Did you mean 'qvel'"),
        ({"observations": {"o": BodyPosition("poll")}}, "no body in the model 'poll'. Did you mean 'pole'"),
        (
            {"randomizers": {"r": GivenField("body_mas", 1.0)}},
            "no array in MjModel 'body_mas'. Did you mean 'body_mass'",
        ),
    ],
    ids=["field", "body", "model field"],
)
def test_a_misspelt_name_is_an_error_when_the_task_is_built(changes, message):
    with pytest.raises(UnknownNameError) as raised:
        find_reads(replace(PLAIN, **changes), MODEL)
    assert message in str(raised.value)


# What is read


READERS = {
    "observations": {"observations": {"o": Field("qacc")}},
    "terminations": {"terminations": {"t": Outside(Coordinate(0), high=9.0)}},
    "truncations": {"truncations": {"t": Outside(Field("xpos"), high=9.0)}},
    "metrics": {"metrics": {"m": Field("cvel")}},
    "events": {"events": {"e": lambda view, ctx: kick(view.sensordata.sum())}},
    "nothing more": {},
}
READS = {
    "observations": {"qacc"},
    "terminations": {"qvel", "qpos"},
    "truncations": {"qvel", "qpos", "xpos"},
    "metrics": {"qvel", "qpos", "cvel"},
    "events": {"qvel", "qpos", "sensordata"},
    "nothing more": {"qvel", "qpos"},
}


@pytest.mark.parametrize("role", READERS)
def test_find_reads_finds_exactly_what_the_terms_of_each_role_read(role):
    assert find_reads(replace(PLAIN, **READERS[role]), MODEL) == READS[role]


def test_find_reads_finds_what_is_read_inside_another_term():
    scaled = {"r": Scaled(1.0, lambda view, ctx: view.xpos_change[1, 0])}
    assert find_reads(replace(PLAIN, rewards=scaled), MODEL) == {"qvel", "qpos", "xpos_change"}


def test_find_reads_of_the_humanoid_is_what_its_table_names():
    named = {"qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ten_length", "ten_velocity"}
    assert find_reads(HUMANOID, load_model(HUMANOID.model, "fast")) == named | {"xipos_change"}


# Evaluation


def test_observations_are_flattened_and_concatenated_in_the_order_of_the_table():
    task = replace(PLAIN, observations={"b": Field("xpos"), "a": Field("qvel"), "c": Coordinate(0)})
    obs = evaluate(task, view(qpos=[1, 2], qvel=[3, 4], xpos=[[5, 6, 7], [8, 9, 10]]), context(), {}).obs
    assert obs.tolist() == [5, 6, 7, 8, 9, 10, 3, 4, 1] and obs.dtype == jnp.float32


@pytest.mark.parametrize("role", ["observations", "privileged"])
def test_slices_say_where_each_term_stands_in_the_order_of_the_table(role):
    terms = {"b": Field("xpos"), "a": Field("qvel"), "c": Coordinate(0)}
    model = load_model(PLAIN.model, "fast")
    first, second = 3 * model.nbody, 3 * model.nbody + model.nv
    expected = {"b": slice(0, first), "a": slice(first, second), "c": slice(second, second + 1)}
    assert slices(replace(PLAIN, **{role: terms}), model, role) == expected


@pytest.mark.parametrize(("limit", "ends"), [(10.0, False), (1.5, True)])
def test_rewards_and_metrics_know_whether_a_termination_holds(limit, ends):
    task = replace(
        PLAIN,
        terminations={"never": Outside(Coordinate(0), high=99.0), "limit": Outside(Coordinate(1), high=limit)},
        metrics={"ended": lambda view, ctx: ctx.terminated},
    )
    values = evaluate(task, STATE, context(terminated=jnp.array(not ends)), {})  # what the caller says does not count
    assert bool(values.terminated) is ends
    assert values.rewards["alive"] == (0 if ends else 1)
    assert values.metrics["ended"] == ends


def test_a_task_without_terminations_never_terminates():
    assert not evaluate(PLAIN, STATE, context(), {}).terminated


def test_a_truncation_is_not_a_termination():
    task = replace(
        PLAIN,
        truncations={"far": Outside(Coordinate(1), high=1.5), "never": Outside(Coordinate(0), high=99.0)},
        metrics={"ended": lambda view, ctx: ctx.terminated},
    )
    values = evaluate(task, STATE, context(), {})
    assert values.truncated and not values.terminated and not values.metrics["ended"]
    assert values.rewards["alive"] == 1
    assert not evaluate(PLAIN, STATE, context(), {}).truncated


def test_a_truncation_cuts_the_episode_off_and_shows_the_state_that_it_ends_in(make_tiny_core):
    task = replace(tiny.HOPPER_LIKE, terminations={}, truncations={"late": Outside(Time(), high=0.1)}, resets={})
    core = make_tiny_core(replace(task, observations={"time": Time()}), 4, backend="native")
    state, _ = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(4, bool))
    for step in range(1, 9):
        state, result = core.programs.step(state, jnp.zeros((4, 2)))
        is_late = step in (4, 8)  # at 0.12 s; a control step takes 0.03 s
        assert not result.terminated_E.any()
        assert (result.truncated_E == is_late).all()
        np.testing.assert_allclose(result.final_obs_EL, 0.12 if is_late else 0.03 * (step % 4), rtol=1e-5)
        assert (result.obs_EL[:, 0] == 0).all() == is_late


def test_rewards_and_metrics_are_float32_whatever_the_terms_return():
    task = replace(PLAIN, rewards={"r": Given(2)}, metrics={"m": Given(3), "n": Given(np.float64(0.5))})
    values = evaluate(task, STATE, context(), {})
    assert {leaf.dtype for leaf in jax.tree.leaves((values.rewards, values.metrics))} == {np.dtype(np.float32)}
    assert (values.rewards["r"], values.metrics["m"], values.metrics["n"]) == (2, 3, 0.5)


# Random streams


def test_terms_of_every_role_and_name_draw_from_streams_of_their_own():
    task = replace(
        PLAIN,
        observations={"a": Draw(), "b": Draw()},
        rewards={"r": Draw(), "b": Draw()},
        metrics={"a": Draw(), "m": Draw()},
        events={"a": DrawnKick()},
    )
    values = evaluate(task, STATE, context(), {})
    drawn = [
        *values.obs,
        *values.rewards.values(),
        *values.metrics.values(),
        control(task, STATE, context(), {}).push.qvel_kick[0],
    ]
    assert len({float(value) for value in drawn}) == 7


def test_adding_terms_of_any_role_leaves_the_other_streams_as_they_were():
    small = replace(
        PLAIN,
        observations={"a": Draw()},
        resets={"position": UniformPosition(0.1)},
        randomizers={"mass": tiny.ScaledField("body_mass", 0.5, 2.0)},
    )
    large = replace(
        small,
        observations={"new": Draw(), "a": Draw()},
        rewards={"new": Draw(), **small.rewards},
        terminations={"new": Outside(Draw(), high=0.0)},
        metrics={"another": Draw()},
        resets={"new": UniformVelocity(0.1), **small.resets},
        randomizers={"new": tiny.ScaledField("geom_friction", 0.5, 2.0), **small.randomizers},
        events={"new": DrawnKick()},
    )
    assert evaluate(large, STATE, context(), {}).obs[1] == evaluate(small, STATE, context(), {}).obs[0]
    (qpos, _, fields), (new_qpos, _, new_fields) = start(small), start(large)
    assert (new_qpos == qpos).all() and (new_fields["body_mass"] == fields["body_mass"]).all()


def test_a_term_draws_afresh_at_the_reset_in_every_step_in_every_row_and_in_every_episode(make_tiny_core):
    core = make_tiny_core(
        replace(tiny.HOPPER_LIKE, observations={"noise": Draw()}, episode_length=5), 4, backend="native"
    )
    state, (obs, _) = core.programs.reset(core.unreset_state(core.keys(0)), np.ones(4, bool))
    noise = [np.asarray(obs)]
    for _ in range(12):
        state, result = core.programs.step(state, jnp.zeros((4, 2)))
        noise += [np.asarray(result.final_obs_EL), np.asarray(result.obs_EL)]
    drawn = {float(value) for value in np.concatenate(noise).ravel()}
    assert len(drawn) == 4 * (1 + 12 + 2), "a reset, 12 steps, and 2 resets more, in each of 4 rows"


# Starts


def test_a_start_without_terms_is_the_nominal_one():
    qpos, qvel, fields = start(PLAIN)
    assert qpos.tolist() == [0, 0] and qvel.tolist() == [0, 0] and fields == {}


def test_resets_are_applied_one_after_the_other():
    later = lambda qpos, qvel, ctx: (2 * qpos, qvel + qpos)  # noqa: E731
    qpos, qvel, _ = start(replace(PLAIN, resets={"one": Given((jnp.ones(2), jnp.zeros(2))), "two": later}))
    assert qpos.tolist() == [2, 2] and qvel.tolist() == [1, 1]


def test_randomizers_of_one_field_build_on_each_other_and_resets_see_their_result():
    twice = {"a": GivenField("body_mass", [0.0, 5.0, 1.0]), "b": tiny.ScaledField("body_mass", 2.0, 2.0)}
    qpos, _, fields = start(replace(PLAIN, randomizers=twice, resets={"heavy": HeavyStart()}))
    assert fields["body_mass"].tolist() == [0, 10, 2]
    assert qpos[0] == 10


def test_randomizers_give_every_row_and_episode_other_fields_within_their_bounds():
    task = replace(PLAIN, randomizers={"mass": tiny.ScaledField("body_mass", 0.5, 2.0)})
    assert task.model_fields == {"body_mass"}
    mass = jax.vmap(lambda key: start(task, key=key)[2]["body_mass"])(jax.random.split(jax.random.key(0), 1000))
    factor = np.asarray(mass[:, 1]) / 3
    assert factor.min() >= 0.5 and factor.max() <= 2 and np.ptp(factor) > 1.4
    assert len(np.unique(factor)) > 990


# Events


def test_pushes_of_several_events_add_up():
    events = {
        "a": Given(kick(1.0)),
        "b": Given(kick(2.5)),
        "c": Given(replace(kick(0.0), xfrc_applied=jnp.ones((3, 6)))),
    }
    push = control(replace(PLAIN, events=events), STATE, context(), {}).push
    assert push.qvel_kick.tolist() == [3.5, 0.0]
    assert (push.xfrc_applied == 1).all()


def test_an_event_draws_anew_in_every_step():
    task = replace(PLAIN, events={"e": DrawnKick()})
    first, second = (control(task, STATE, context(key=jax.random.key(step)), {}).push.qvel_kick[0] for step in range(2))
    assert first != second
