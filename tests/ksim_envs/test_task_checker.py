"""What `check_task` says of a sound task, and of tasks that are odd in one way each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest

import ksim_envs
from ksim_envs.building import make_core
from ksim_envs.errors import InvalidConfigError, KsimError
from ksim_envs.task_checker import written
from ksim_envs.tasks.context import Context
from ksim_envs.tasks.curricula import Linear
from ksim_envs.tasks.motion_commands import Playback
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.resets import UniformVelocity
from ksim_envs.tasks.rewards import Alive, Scaled
from ksim_envs.tasks.terminations import Outside
from ksim_envs.types import View
from tests import tiny

STIFF = tiny.BALL_ON_STICK.replace('damping="0.05"', 'damping="0.05" stiffness="1300"')
"""A spring whose period is 2.3 timesteps: Euler is stable at half the timestep, and not at the whole."""
CYLINDER_ON_BOX = tiny.BALL_ON_STICK.replace('type="plane" size="5 5 0.1"', 'type="box" size="5 5 0.1"').replace(
    'type="sphere" size="0.1"', 'type="cylinder" size="0.1 0.1"'
)


PAIRS = '<custom><numeric name="pose" data="9 9 9"/><numeric name="max_geom_pairs" data="2"/></custom>'


FLAT_CONES = tiny.BALL_ON_STICK.replace("<geom ", '<geom condim="1" ').replace("<option ", '<option cone="elliptic" ')


@dataclass(frozen=True)
class Given:
    """Always the same value."""

    value: float

    def __call__(self, view: View, ctx: Context):
        return jnp.float32(self.value)


def check(**changes):
    return ksim_envs.check_task(replace(tiny.HOPPER_LIKE, **changes), num_envs=4, num_steps=40)


@pytest.fixture(scope="module")
def sound():
    return check(privileged={"height": Coordinate(1)})


def test_nothing_is_said_against_a_sound_task(sound):
    assert sound.faults == sound.notes == ()


def test_the_table_has_a_row_for_every_term_with_its_shape_and_range(sound):
    rows = {(role, name): rest for role, name, *rest in sound.rows()}
    assert [name for role, name in rows if role == "observations"] == ["qpos", "qvel"]
    assert rows["observations", "qpos"][0] == "(2,)" and rows["privileged", "height"][0] == "(1,)"
    assert rows["rewards", "alive"] == ["()", "0 to 1", "Alive(1.0)"]
    assert rows["terminations", "angle"][:2] == ["", ""]
    assert {role for role, _ in rows} == {"observations", "privileged", "rewards", "metrics", "terminations", "resets"}
    assert "5 observations, 2 actions, control at 33.33 Hz (3 x 0.01 s), episodes of 0.9 s" in sound.summary


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (Alive(1.0), "Alive(1.0)"),
        (Field("qpos", stop=2), "Field('qpos', stop=2)"),
        (Outside(Coordinate(1), high=0.2), "Outside(Coordinate(1), high=0.2)"),
        ({"scales": (0.5,)}, "{'scales': (0.5,)}"),
        (Playback(np.zeros((4, 2)), 50.0, loops=False), "Playback(ndarray(4, 2), 50.0, loops=False)"),
    ],
    ids=["number", "name", "nested", "table", "array"],
)
def test_a_term_is_written_as_its_author_would_write_it(term, text):
    assert written(term) == text


EFFECTLESS = {
    "observations": {"qpos": Field("qpos"), "same": Given(1.0), "xpos": Field("xpos")},
    "privileged": {"hidden": Given(1.0)},
    "rewards": {"alive": Alive(1.0), "none": Scaled(0.0, Coordinate(0)), "less": Given(-1.0), "huge": Given(-5e4)},
    "terminations": {**tiny.HOPPER_LIKE.terminations, "never": Outside(Coordinate(0), high=1e6)},
    "resets": {**tiny.HOPPER_LIKE.resets, "still": UniformVelocity(0.0)},
    "events": {"push": tiny.GivenPush(kick=0.0, force=0.0)},
    "randomizers": {"tendons": tiny.ScaledField("dof_frictionloss", 0.5, 2.0)},
    "commands": {"always": Given(1.0)},
    "curriculum": Linear(steps_to_top=100),
}
SAID = (
    "observation 'same': it never changed",
    "observation 'xpos': 5 of its 9 numbers never changed",
    "privileged 'hidden': it never changed",
    "reward 'none' was always 0",
    "reward 'less' was always -1",
    "reward 'huge' was always -50000",
    "reward 'huge' reached 5e+04",
    "termination 'never' never held",
    "reset 'still' changed nothing",
    "event 'push' never happened",
    "randomizer 'tendons' changed nothing",
    "command 'always' never changed",
    "curriculum: no scale in the task follows it",
)


@pytest.fixture(scope="module")
def effectless():
    return check(**EFFECTLESS)


@pytest.mark.parametrize("said", SAID)
def test_a_term_without_effect_is_named(effectless, said):
    assert sum(said in note for note in effectless.notes) == 1, effectless.notes


def test_terms_that_have_an_effect_are_not(effectless):
    assert len(effectless.notes) == len(SAID) and effectless.faults == ()


ODD = {
    "a term that is not finite": (
        {"rewards": {"alive": Alive(1.0), "infinite": Given(float("inf"))}},
        "faults",
        "ended as diverged: TERM",
    ),
    "an episode that ends at once": (
        {"terminations": {"always": Outside(Coordinate(0), low=5.0)}},
        "faults",
        "Most episodes end in their first step",
    ),
    "a timestep that is too long": ({"model": STIFF, "terminations": {}}, "faults", "times those at half the timestep"),
    "geoms that MJX cannot collide": ({"model": CYLINDER_ON_BOX}, "notes", "MJX cannot run this model"),
    "contacts that MJX cannot compute": ({"model": FLAT_CONES}, "notes", "not implemented. C MuJoCo can"),
    "pairs that MJX may not look at": (
        {"model": tiny.BALL_ON_STICK.replace("<worldbody>", f"{PAIRS}<worldbody>")},
        "notes",
        "max_geom_pairs is 2: ",
    ),
}


@pytest.mark.parametrize(("changes", "kind", "said"), ODD.values(), ids=ODD)
def test_what_is_odd_is_said(changes, kind, said):
    found = getattr(check(**changes), kind)
    assert any(said in finding for finding in found), found


@pytest.mark.parametrize("number", [{"num_envs": 0}, {"num_steps": 0}, {"seed": -1}, {"seed": None}])
def test_a_number_that_is_not_allowed_is_refused(number):
    with pytest.raises(KsimError, match=f"{next(iter(number))} is"):
        ksim_envs.check_task("ksim/InvertedPendulum-v0", **number)


def test_an_id_is_checked_like_a_task():
    report = ksim_envs.check_task("ksim/InvertedPendulum-v0", num_envs=2, num_steps=10)
    assert report.faults == () and "4 observations" in report.summary


def test_what_mjx_cannot_run_is_refused_with_the_engine_that_can():
    with pytest.raises(InvalidConfigError, match="MJX cannot run this model: .*native"):
        make_core(replace(tiny.HOPPER_LIKE, model=CYLINDER_ON_BOX), 2, backend="mjx")
