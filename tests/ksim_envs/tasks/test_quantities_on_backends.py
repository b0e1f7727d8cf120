"""Every quantity that reads the physics, on each backend, against C MuJoCo's own functions; and what goes around them.

A control step is one physics substep, so what is derived after it describes the state before it, which is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import mujoco
import numpy as np
import pytest

from ksim_envs.building import make_core
from ksim_envs.tasks.base_motion import (
    BaseAngularAcceleration,
    BaseAngularVelocity,
    BaseLinearAcceleration,
    BaseLinearVelocity,
    BaseOrientation,
    BasePosition,
    Inclination,
    ProjectedGravity,
    RollPitchYaw,
)
from ksim_envs.tasks.bodies import (
    BodyOrientations,
    BodyPositions,
    BodyVelocities,
    SiteOrientations,
    SitePositions,
)
from ksim_envs.tasks.contacts import Contact, FeetContact, FeetForce, FeetTorque
from ksim_envs.tasks.joints import Action, ActuatorForce, JointAcceleration, JointPosition, JointVelocity
from ksim_envs.tasks.measures import Reduced
from ksim_envs.tasks.observations import BodyPosition, Field, Sensor, Time
from ksim_envs.tasks.posture import HeightAboveGround, Lowest, MassCenterDistance
from ksim_envs.tasks.rewards import Alive
from ksim_envs.tasks.sensing import Bias, Delayed, History, Noise, Smoothed, Tilted
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from ksim_envs.types import Autoreset
from tests.conftest import BACKENDS
from tests.ksim_envs.tasks.walker import FEET, WALKER, states

NUM_STEPS = 6


@dataclass(frozen=True)
class Moment:
    """What C MuJoCo knows of one row: the step's data, derived from the state before it, and the state after it."""

    model: mujoco.MjModel
    data: mujoco.MjData
    qpos: np.ndarray
    qvel: np.ndarray
    action: np.ndarray
    step: int

    def body(self, name):
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, name)

    def geom(self, name):
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, name)

    def base(self):
        """The base's rotation matrix after the step."""
        return matrix(self.qpos[3:7])

    def velocity(self, body, local=0):
        out = np.empty(6)
        mujoco.mj_objectVelocity(self.model, self.data, mujoco.mjtObj.mjOBJ_XBODY, self.body(body), out, local)
        return out

    def contacts(self):
        """Pairs of geoms, and the force and the torque (about the world's origin) on the second one, in the world."""
        for i, contact in enumerate(self.data.contact):
            wrench = np.empty(6)
            mujoco.mj_contactForce(self.model, self.data, i, wrench)
            axes = contact.frame.reshape(3, 3).T
            force, torque = axes @ wrench[:3], axes @ wrench[3:]
            yield contact.geom, force, torque + np.cross(contact.pos, force)

    def wrench(self, body):
        """Force on a body by contacts, and torque about its frame's origin, in the world."""
        force, torque = np.zeros(3), np.zeros(3)
        for geoms, other_force, other_torque in self.contacts():
            for geom, sign in zip(geoms, (-1, 1), strict=True):
                if self.model.geom_bodyid[geom] == self.body(body):
                    force += sign * other_force
                    torque += sign * other_torque
        return force, torque - np.cross(self.data.xpos[self.body(body)], force)

    def touch(self, ours, theirs):
        return any({*geoms} & {*ours} and {*geoms} & {*theirs} for geoms, _, _ in self.contacts())

    def geoms_of(self, body):
        return np.flatnonzero(self.model.geom_bodyid == self.body(body))


def matrix(quat):
    out = np.empty(9)
    mujoco.mju_quat2Mat(out, quat)
    return out.reshape(3, 3)


def flat(rotation):
    """The turn about z that is left of a rotation, as a matrix."""
    x, y = rotation[:2, 0] / np.linalg.norm(rotation[:2, 0])
    return np.array([[x, -y, 0], [y, x, 0], [0, 0, 1]])


def angles(rotation):
    """Yaw, pitch and roll, read off a matrix."""
    return (
        np.arctan2(rotation[1, 0], rotation[0, 0]),
        np.arcsin(-rotation[2, 0]),
        np.arctan2(rotation[2, 1], rotation[2, 2]),
    )


ANYTHING = range(100)
ARE = {
    "base position": (BasePosition(), lambda m: m.qpos[:3]),
    "base orientation": (BaseOrientation(), lambda m: m.qpos[3:7]),
    "base linear velocity, world": (BaseLinearVelocity(), lambda m: m.qvel[:3]),
    "base linear velocity, body": (BaseLinearVelocity("body"), lambda m: m.base().T @ m.qvel[:3]),
    "base linear velocity, heading": (BaseLinearVelocity("heading"), lambda m: flat(m.base()).T @ m.qvel[:3]),
    "base angular velocity, body": (BaseAngularVelocity(), lambda m: m.qvel[3:6]),
    "base angular velocity, world": (BaseAngularVelocity("world"), lambda m: m.base() @ m.qvel[3:6]),
    "base linear acceleration, world": (BaseLinearAcceleration(), lambda m: m.data.qacc[:3]),
    "base linear acceleration, body": (
        BaseLinearAcceleration("body"),
        lambda m: m.data.xmat[m.body("torso")].reshape(3, 3).T @ m.data.qacc[:3],
    ),
    "base angular acceleration, body": (BaseAngularAcceleration(), lambda m: m.data.qacc[3:6]),
    "base angular acceleration, world": (
        BaseAngularAcceleration("world"),
        lambda m: m.data.xmat[m.body("torso")].reshape(3, 3) @ m.data.qacc[3:6],
    ),
    "base height": (HeightAboveGround(), lambda m: m.qpos[2]),
    "base height above a floor": (HeightAboveGround(ground=0.5), lambda m: m.qpos[2] - 0.5),
    "gravity of the base": (ProjectedGravity(), lambda m: -m.base()[2]),
    "gravity of the imu": (ProjectedGravity(Sensor("imu_quat")), lambda m: -m.data.site_xmat[0].reshape(3, 3)[2]),
    "inclination": (Inclination(), lambda m: np.arccos(m.base()[2, 2])),
    "yaw": (RollPitchYaw("z"), lambda m: angles(m.base())[0]),
    "pitch": (RollPitchYaw("y"), lambda m: angles(m.base())[1]),
    "roll": (RollPitchYaw("x"), lambda m: angles(m.base())[2]),
    "joint position": (JointPosition(), lambda m: m.qpos[7:]),
    "joint position of two": (JointPosition(("right_hip", "left_ankle")), lambda m: m.qpos[[9, 8]]),
    "joint position, relative": (JointPosition(relative=True), lambda m: m.qpos[7:] - m.model.qpos0[7:]),
    "joint velocity": (JointVelocity("right_*"), lambda m: m.qvel[8:]),
    "joint acceleration": (JointAcceleration(), lambda m: m.data.qacc[6:]),
    "actuator force": (ActuatorForce(), lambda m: m.data.actuator_force),
    "last action": (Action(start=1), lambda m: m.action[1:]),
    "sensor": (Sensor("imu_gyro"), lambda m: m.data.sensor("imu_gyro").data),
    "time": (Time(), lambda m: 0.004 * m.step),
    "inertia": (Field("cinert", start=1), lambda m: m.data.cinert[1:]),
    "speed": (Reduced(BaseLinearVelocity(), "norm"), lambda m: np.sqrt((m.qvel[:3] ** 2).sum())),
    "body positions": (BodyPositions(FEET), lambda m: m.data.xpos[[m.body(foot) for foot in FEET]]),
    "feet seen from the base": (
        BodyPositions(FEET, origin="torso", frame="body"),
        lambda m: (m.data.xpos[[m.body(foot) for foot in FEET]] - m.data.xpos[1]) @ m.data.xmat[1].reshape(3, 3),
    ),
    "feet seen from the heading": (
        BodyPositions(FEET, origin="torso", frame="heading"),
        lambda m: (m.data.xpos[[m.body(foot) for foot in FEET]] - m.data.xpos[1]) @ flat(m.data.xmat[1].reshape(3, 3)),
    ),
    "site positions": (
        SitePositions("right_tip", origin="right_foot"),
        lambda m: m.data.site_xpos[1:] - m.data.xpos[m.body("right_foot")],
    ),
    "body orientations": (BodyOrientations(FEET), lambda m: m.data.xquat[[m.body(foot) for foot in FEET]]),
    "site orientations": (
        SiteOrientations("*"),
        lambda m: m.data.site_xmat.reshape(-1, 3, 3)[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),
    ),
    "body velocities": (BodyVelocities(FEET), lambda m: np.stack([m.velocity(foot) for foot in FEET])),
    "height above the lowest": (
        HeightAboveGround(BodyPosition("torso"), Lowest(BodyPositions(FEET))),
        lambda m: m.data.xpos[1, 2] - min(m.data.xpos[m.body(foot), 2] for foot in FEET),
    ),
    "mass centre distance": (
        MassCenterDistance(BodyPositions(FEET)),
        lambda m: np.linalg.norm(
            (m.data.subtree_com[1] - np.mean([m.data.xpos[m.body(foot)] for foot in FEET], axis=0))[:2]
        ),
    ),
    "feet contact": (FeetContact(FEET), lambda m: [m.touch(m.geoms_of(foot), ANYTHING) for foot in FEET]),
    "feet contact with the ground": (
        FeetContact(("right_foot", "left_foot"), floor="ground"),
        lambda m: [m.touch(m.geoms_of(foot), [m.geom("ground")]) for foot in FEET[::-1]],
    ),
    "contact of two geoms": (
        FeetContact(("right_toe", "right_sole"), kind="geom"),
        lambda m: [m.touch([m.geom(name)], ANYTHING) for name in ("right_toe", "right_sole")],
    ),
    "feet force": (FeetForce(FEET), lambda m: [m.wrench(foot)[0] for foot in FEET]),
    "feet torque": (FeetTorque(FEET), lambda m: [m.wrench(foot)[1] for foot in FEET]),
    "chest contact": (Contact("chest"), lambda m: m.touch([m.geom("chest")], ANYTHING)),
    "toe on step": (Contact("right_toe", "step"), lambda m: m.touch([m.geom("right_toe")], [m.geom("step")])),
    "toe on ground": (Contact("right_toe", "ground"), lambda m: False),
    "foot on the world": (
        Contact("left_foot", "world", kind="body"),
        lambda m: m.touch(m.geoms_of("left_foot"), m.geoms_of("world")),
    ),
    "deep contact": (
        Contact("chest", depth=1e-4),
        lambda m: any(c.dist < -1e-4 for c in m.data.contact if m.geom("chest") in c.geom),
    ),
    "upside down": (Outside(Inclination(), high=1.5), lambda m: np.arccos(m.base()[2, 2]) >= 1.5),
    "fallen": (
        Outside(HeightAboveGround(BodyPosition("torso"), Lowest(BodyPositions(FEET))), low=0.3),
        lambda m: m.data.xpos[1, 2] - min(m.data.xpos[m.body(foot), 2] for foot in FEET) <= 0.3,
    ),
}
"""Each quantity, and what it must be."""
AROUND = {
    "noisy": Noise(JointPosition(), 0.1, "uniform"),
    "biased": Bias(JointPosition(), 0.1, "uniform"),
    "delayed": Delayed(JointPosition(), steps=2),
    "late": Delayed(JointPosition(), steps=(0, 3)),
    "history": History(JointPosition(), length=3),
    "smooth": Smoothed(JointPosition(), low=0.5, high=0.9),
    "tilted": Tilted(BaseAngularVelocity(), 0.1),
}
TASK = Task(
    model=WALKER,
    frame_skip=1,
    episode_length=1000,
    observations={"qpos": Field("qpos")},
    rewards={"alive": Alive(1.0)},
    metrics={**{name: term for name, (term, _) in ARE.items()}, **AROUND},
)
ROWS = ("standing", "flying", "lying")
LOOSE = {name for name in ARE if "acceleration" in name or name in ("feet force", "feet torque")}
"""What depends on the constraint solver, of which MJX does ten iterations in float32."""


@dataclass(frozen=True)
class Run:
    """A few steps of three rows: metrics and states at each moment, the first state's included, and the actions."""

    backend: str
    metrics: list
    states: list
    moments: list


@pytest.fixture(scope="module", params=BACKENDS)
def run(request):
    core = make_core(TASK, len(ROWS), backend=request.param)
    starts = states(core.backend.model)
    start = {
        name: core.backend.exact(np.stack([starts[row][i] for row in ROWS])) for i, name in enumerate(("qpos", "qvel"))
    }
    step = jax.jit(partial(core.step, autoreset=Autoreset.DISABLED))  # unlike the programs', which may reset in it
    state = jax.jit(core.reset)(core.keys(0), start)
    actions = np.random.default_rng(1).uniform(-1, 1, (NUM_STEPS, len(ROWS), 4)).astype(np.float32)
    actions[:, 0] = 0  # who stands, stands still
    metrics, states_seen = [core.info(state)], [core.backend.state_dict(state.physics)]
    for action in actions:
        state, result = step(state, action)
        assert not result.truncated_E.any()
        metrics.append(result.info)
        states_seen.append(core.backend.state_dict(state.physics))
    metrics = [{name: np.asarray(info[name]) for name in TASK.metrics} for info in metrics]
    return Run(
        request.param, metrics, states_seen, [*moments(core.backend.model, states_seen, [0 * actions[0], *actions])]
    )


def moments(model, states, actions):
    """What C MuJoCo makes of every step and row, the first state included."""
    for step, after in enumerate(states):
        before = states[max(step - 1, 0)]
        for row in range(len(ROWS)):
            data = mujoco.MjData(model)
            data.qpos[:], data.qvel[:], data.ctrl[:] = before["qpos"][row], before["qvel"][row], actions[step][row]
            mujoco.mj_forward(model, data)
            yield Moment(model, data, after["qpos"][row], after["qvel"][row], actions[step][row], step)


@pytest.mark.parametrize("name", ARE)
def test_a_quantity_is_what_c_mujoco_says(run, name):
    tolerance = 5e-3 if run.backend == "mjx" and name in LOOSE else 1e-5
    for index, moment in enumerate(run.moments):
        row = index % len(ROWS)
        value, expected = run.metrics[moment.step][name][row], np.asarray(ARE[name][1](moment), float)
        assert value.shape == expected.shape
        atol = tolerance * max(1, abs(expected).max())
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=atol, err_msg=f"{ROWS[row]}, {moment.step}")


def test_the_rows_show_contacts_of_every_sort(run):
    last = run.metrics[-1]
    assert last["feet contact"].tolist()[:2] == [[1, 1], [0, 0]]
    assert last["feet contact with the ground"][0].tolist() == [1, 1]
    assert last["toe on step"].tolist() == [1, 0, 0]
    assert last["chest contact"].tolist() == last["deep contact"].tolist() == [0, 0, 1]
    assert last["upside down"][:1].tolist() == [0] and last["upside down"][2] == 1
    assert last["fallen"].tolist()[::2] == [0, 1]


def test_who_stands_still_has_its_weight_on_its_feet_and_no_torque_to_speak_of(run):
    """The reference swapped the two (and gave the torque about the tree's mass centre)."""
    metrics = run.metrics[-1]
    weight = 7 * 9.81
    np.testing.assert_allclose(metrics["feet force"][0].sum(axis=0), [0, 0, weight], atol=0.02 * weight)
    assert (metrics["feet force"][0, :, 2] > 10).all()
    assert abs(metrics["feet torque"][0]).max() < 0.1 * weight


def test_the_gyroscope_agrees_with_the_angular_velocity_which_is_not_rotated_twice(run):
    model = run.moments[0].model
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "imu")
    mounted = matrix(model.site_quat[site])
    for before, after in zip(run.metrics, run.metrics[1:], strict=False):
        measured = after["sensor"][1]  # of the state before the step
        np.testing.assert_allclose(mounted @ measured, before["base angular velocity, body"][1], atol=1e-5)


def test_a_spread_of_nothing_but_uniform_noise_is_drawn_anew_in_every_step(run):
    errors = [metrics["noisy"] - metrics["joint position"] for metrics in run.metrics]
    assert abs(np.array(errors)).max() <= 0.1 + 1e-6
    assert np.ptp(errors, axis=0).min() > 0.02


def test_a_bias_stays_the_same(run):
    errors = np.array([metrics["biased"] - metrics["joint position"] for metrics in run.metrics])
    assert abs(errors).max() <= 0.1 + 1e-6
    assert np.ptp(errors, axis=0).max() < 1e-6
    assert len(np.unique(errors[0].round(5))) == errors[0].size, "each row and joint has its own"


def test_a_delay_and_a_history_show_what_was(run):
    positions = [run.metrics[0]["joint position"]] * 3 + [metrics["joint position"] for metrics in run.metrics]
    for step, metrics in enumerate(run.metrics):
        now = step + 3
        assert (metrics["delayed"] == positions[now - 2]).all()
        assert (metrics["history"] == np.stack(positions[now - 2 : now + 1], axis=1)).all()
    for row in range(len(ROWS)):
        fits = [
            all((run.metrics[step]["late"][row] == positions[step + 3 - delay][row]).all() for step in range(1, 7))
            for delay in range(4)
        ]
        assert sum(fits) == 1


def test_a_filter_lies_between_its_last_value_and_the_new_one(run):
    np.testing.assert_allclose(run.metrics[0]["smooth"], run.metrics[0]["joint position"], rtol=1e-6, atol=1e-7)
    lags = []
    for before, after in zip(run.metrics, run.metrics[1:], strict=False):
        rest, whole = after["joint position"] - after["smooth"], after["joint position"] - before["smooth"]
        lags.append(np.where(abs(whole) > 1e-3, rest / whole, np.nan)[1])  # of the flying row, which moves most
    assert np.nanmin(lags) > 0.5 - 1e-3 and np.nanmax(lags) < 0.9 + 1e-3
    assert np.nanmax(lags) - np.nanmin(lags) < 1e-3, "one lag for the episode"


def test_a_tilt_keeps_lengths_and_is_the_same_rotation_all_the_time(run):
    clean = np.array([metrics["base angular velocity, body"][1] for metrics in run.metrics])
    tilted = np.array([metrics["tilted"][1] for metrics in run.metrics])
    np.testing.assert_allclose(tilted @ tilted.T, clean @ clean.T, rtol=1e-4)
    assert 1e-3 < abs(tilted - clean).max() < 1
