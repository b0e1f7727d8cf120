"""Our robots against the figures that they were written from, which `figures/` holds, and on their feet."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ksim_envs.physics import load_model, make_backend
from ksim_envs.tasks.motors import MOTORS
from ksim_envs.tasks.robots import HUMANOID, KBOT, ZBOT, Robot

ROBOTS = {"kbot": KBOT, "zbot": ZBOT, "humanoid": HUMANOID}
PER_CENT = 0.01
POSITION = 2e-4
"""m; the frames of Z-Bot's figures are turned by 0.0008 rad, which ours are not."""


class Case:
    """One robot, and its figures."""

    def __init__(self, name: str) -> None:
        self.name, self.robot = name, ROBOTS[name]
        self.figures = json.loads((Path(__file__).parent / "figures" / f"{name}.json").read_text(encoding="utf-8"))
        self.check = self.figures["neutral_pose_check_values"]
        self.model = load_model(self.robot.model, "fast")
        self.data = at_keyframe(self.model, "neutral")
        self.joints = {joint["name"]: joint for body in self.figures["bodies"] for joint in body["joints"]}
        self.actuators = {actuator["joint"]: actuator for actuator in self.figures["actuators"]}

    def motor(self, joint: str) -> dict[str, float]:
        """The figures of a joint's motor; none for the humanoid's."""
        return self.figures["actuator_types"].get(self.actuators[joint].get("motor_type"), {})


@pytest.fixture(scope="module", params=ROBOTS)
def case(request) -> Case:
    return Case(request.param)


def at_keyframe(model: mujoco.MjModel, keyframe: str) -> mujoco.MjData:
    """C MuJoCo's data of a model at rest in a keyframe."""
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key(keyframe).id)
    mujoco.mj_forward(model, data)
    return data


def the_entry(table: dict, joint: str):
    """What a table by patterns has for a joint: the last entry that matches."""
    return [value for pattern, value in table.items() if fnmatchcase(joint, pattern)][-1]


def combined(parts) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass, and inertia about it, of parts (mass, centre, inertia about that) fixed to each other."""
    mass = sum(part[0] for part in parts)
    centre = sum(part[0] * part[1] for part in parts) / mass
    inertia = np.zeros((3, 3))
    for part_mass, part_centre, part_inertia in parts:
        arm = part_centre - centre
        inertia += part_inertia + part_mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return mass, centre, inertia


def rotation(quaternion) -> np.ndarray:
    matrix, quaternion = np.zeros(9), np.array(quaternion, float)
    mujoco.mju_quat2Mat(matrix, quaternion / np.linalg.norm(quaternion))
    return matrix.reshape(3, 3)


def links_of_model(model: mujoco.MjModel, data: mujoco.MjData) -> dict[str, tuple]:
    """What is fixed to each other, combined, in the world frame, by the first joint that moves it."""
    links: dict[str, list] = {}
    for body in range(1, model.nbody):
        frame = data.ximat[body].reshape(3, 3)
        inertia = frame @ np.diag(model.body_inertia[body]) @ frame.T
        first = model.body_jntadr[model.body_weldid[body]]
        links.setdefault(model.joint(first).name, []).append((model.body_mass[body], data.xipos[body], inertia))
    return {name: combined(parts) for name, parts in links.items()}


def links_of_figures(case: Case) -> dict[str, tuple]:
    """The same of the figures. Bodies above the first joint move with the free joint, which is joint 0 of the model."""
    bodies = {body["name"]: body for body in case.figures["bodies"]}
    links: dict[str, list] = {}
    for name, body in bodies.items():
        frame = rotation(case.check["body_world_quat"][name])
        axes = frame @ rotation(body["iquat"])
        inertia = axes @ np.diag(body["inertia"]) @ axes.T
        centre = case.check["body_world_pos"][name] + frame @ body["ipos"]
        moved = body
        while not moved["joints"] and moved["parent"] != "world":
            moved = bodies[moved["parent"]]
        first = moved["joints"][0]["name"] if moved["joints"] else case.model.joint(0).name
        links.setdefault(first, []).append((body["mass"], centre, inertia))
    return {name: combined(parts) for name, parts in links.items()}


def test_masses_centres_and_inertias_are_those_of_the_figures(case):
    ours, theirs = links_of_model(case.model, case.data), links_of_figures(case)
    assert ours.keys() == theirs.keys()
    for name, (mass, centre, inertia) in theirs.items():
        scale = np.sqrt(np.outer(np.diag(inertia), np.diag(inertia)))
        assert ours[name][0] == pytest.approx(mass, rel=PER_CENT), name
        np.testing.assert_allclose(ours[name][1], centre, rtol=0, atol=POSITION, err_msg=name)
        np.testing.assert_allclose(ours[name][2] / scale, inertia / scale, rtol=0, atol=PER_CENT, err_msg=name)
    assert case.model.body_mass.sum() == pytest.approx(case.figures["total_mass"], rel=1e-5)


def test_joints_have_the_names_order_and_figures_of_the_source(case):
    model = case.model
    assert [model.joint(index).name for index in range(1, model.njnt)] == case.figures["joint_order"]
    for name, figures in case.joints.items():
        joint, motor = model.joint(name), case.motor(name)
        passive = {**figures, **(motor if case.name == "zbot" else {})}  # whose source adds the servos' when it runs
        assert joint.range == pytest.approx(figures["range"], rel=PER_CENT), name
        assert joint.stiffness[0] == figures["stiffness"], name
        for field in ("armature", "damping", "frictionloss"):
            assert getattr(joint, field)[0] == pytest.approx(passive[field], rel=PER_CENT), (name, field)


def test_motors_have_the_names_order_and_torques_of_the_source(case):
    model = case.model
    assert [model.actuator(index).name for index in range(model.nu)] == [
        actuator["name"] for actuator in case.figures["actuators"]
    ]
    for joint, figures in case.actuators.items():
        motor = model.actuator(figures["name"])
        assert model.joint(motor.trnid[0]).name == joint
        assert motor.gear[0] == figures["gear"]
        assert motor.gear[0] * motor.ctrlrange == pytest.approx(
            [-figures["max_torque"], figures["max_torque"]], rel=PER_CENT
        )
        if case.name != "humanoid":  # whose source limits the controls only
            assert model.jnt_actfrcrange[model.joint(joint).id] == pytest.approx(motor.ctrlrange)


def test_motor_types_and_published_gains_are_those_of_the_source(case):
    for joint, figures in case.actuators.items():
        gains, motor = the_entry(case.robot.published_gains, joint), case.motor(joint)
        if case.name == "kbot":
            expected = figures["kp"], figures["kd"], figures["soft_torque_limit"]
        elif case.name == "zbot":
            stiffness, damping = (
                motor[f"effective_{name}"] for name in ("stiffness_per_unit_kp", "damping_per_unit_kd")
            )
            expected = figures["kp"] * stiffness, figures["kd"] * damping, motor["torque_at_max_duty"]
        else:
            expected = figures["gear"] * figures["kp"], figures["gear"] * figures["kd"], figures["gear"]
        assert (gains.kp, gains.kd, gains.max_torque) == pytest.approx(expected, rel=1e-3), joint
        if case.robot.motors:
            assert the_entry(case.robot.motors, joint) is MOTORS[figures["motor_type"]]


def test_holding_gains_ask_for_no_more_torque_than_the_motors_have(case):
    for joint, figures in case.actuators.items():
        assert the_entry(case.robot.holding_gains, joint).max_torque <= figures["max_torque"]


def test_the_neutral_pose_is_that_of_the_source(case):
    model, data, check = case.model, case.data, case.check
    assert np.array_equal(model.qpos0, data.qpos)
    np.testing.assert_allclose(data.subtree_com[1], check["com"], atol=POSITION)
    for name in case.joints:
        joint = model.joint(name).id
        np.testing.assert_allclose(data.xanchor[joint], check["joint_world_anchor"][name], atol=POSITION, err_msg=name)
        np.testing.assert_allclose(data.xaxis[joint], check["joint_world_axis"][name], atol=1e-3, err_msg=name)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, mass)
    diagonal = np.diag(mass) - (model.dof_armature if case.name == "zbot" else 0.0)
    np.testing.assert_allclose(diagonal, check["mass_matrix_diagonal"], rtol=PER_CENT)


def test_feet_are_those_of_the_source(case):
    bodies = case.check["body_world_pos"], case.check["body_world_quat"]
    theirs = []
    for geom in case.figures["foot_geoms"]:
        position, frame = bodies[0][geom["body"]], rotation(bodies[1][geom["body"]])
        axes = np.abs(frame @ rotation(geom["quat"]))
        theirs.append((position + frame @ geom["pos"], axes, geom))
    for name in np.hstack([np.ravel(names) for names in case.robot.foot_geoms]):
        index = case.model.geom(name).id
        position, axes = case.data.geom_xpos[index], np.abs(case.data.geom_xmat[index].reshape(3, 3))
        place, their_axes, geom = min(theirs, key=lambda foot: np.linalg.norm(foot[0] - position))
        np.testing.assert_allclose(position, place, atol=POSITION, err_msg=name)
        size = case.model.geom_size[index][: len(geom["size"])]
        if geom["type"] == "box":  # half sizes along the world's axes
            size, geom["size"] = axes @ size, their_axes @ geom["size"]
        np.testing.assert_allclose(size, geom["size"], rtol=PER_CENT, err_msg=name)


def test_foot_friction_decides_on_every_floor(case):
    expected = {"kbot": (0.64, 0.02, 0.01), "zbot": (1.0, 0.005, 0.0001), "humanoid": (1.0, 0.005, 0.0001)}[case.name]
    data = at_keyframe(case.model, case.robot.start)
    data.qpos[2] -= 0.002
    mujoco.mj_forward(case.model, data)
    assert len(data.contact.dim)
    assert (data.contact.dim == 3).all()
    assert data.contact.friction[:, [0, 2, 3]] == pytest.approx(np.tile(expected, (len(data.contact.dim), 1)))


def test_keyframes_are_the_poses_of_the_source(case):
    for name, pose in case.figures["poses"].items():
        assert case.model.key(name).qpos == pytest.approx(np.array(pose["qpos"]), abs=1e-6)
        assert at_keyframe(case.model, name).subtree_com[1] == pytest.approx(pose["com"], abs=2 * POSITION)
    assert case.robot.start in case.figures["poses"]


def test_the_robot_touches_the_floor_and_never_itself(case):
    data, draw = mujoco.MjData(case.model), np.random.default_rng(0)
    floor, touched = case.model.geom("floor").id, 0
    for _ in range(50):
        data.qpos[2] = draw.uniform(0.0, 0.3)
        data.qpos[3:7] = draw.normal(size=4)
        data.qpos[7:] = draw.uniform(*case.model.jnt_range[1:].T)
        mujoco.mj_forward(case.model, data)
        assert (data.contact.geom[:, 0] == floor).all()
        touched += data.ncon
    assert touched


@pytest.mark.parametrize("turn", [(1, 1, 0, 0), (1, -1, 0, 0), (1, 0, 1, 0), (1, 0, -1, 0)])
def test_a_fallen_robot_lies_on_the_floor(case, turn):
    data = mujoco.MjData(case.model)
    data.qpos[2], data.qpos[3:7] = 0.6, turn
    for _ in range(round(2.0 / case.model.opt.timestep)):
        mujoco.mj_step(case.model, data)
    assert data.xipos[1:, 2].min() > 0.0
    assert data.qpos[2] > 0.02


def test_sensors_of_a_standing_robot_read_what_they_should(case):
    edit = position_control(case.robot.holding_gains)
    model = load_model(case.robot.model, "fast", edit=edit)
    data = at_keyframe(model, case.robot.start)
    data.ctrl[:] = targets(model, case.robot.start)
    for _ in range(round(0.5 / model.opt.timestep)):
        mujoco.mj_step(model, data)
    assert data.sensor("imu_acc").data @ data.sensor("imu_acc").data == pytest.approx(9.81**2, rel=0.05)
    for side in ("left", "right"):
        assert data.sensor(f"{side}_foot_touch").data[0] > 0.3 * 9.81 * case.figures["total_mass"]
    assert data.sensor("base_site_quat").data == pytest.approx(data.qpos[3:7], abs=0.02)


def position_control(gains):
    """An edit of a model: PD control of every motor's joint, in SI units."""

    def edit(spec: mujoco.MjSpec) -> None:
        for actuator in spec.actuators:
            joint = the_entry(gains, actuator.target)
            actuator.set_to_position(kp=joint.kp, kv=joint.kd)
            actuator.gear = [1, 0, 0, 0, 0, 0]
            actuator.ctrllimited, actuator.forcelimited = False, True
            actuator.forcerange = [-joint.max_torque, joint.max_torque]

    return edit


def targets(model: mujoco.MjModel, keyframe: str) -> np.ndarray:
    """The controls that ask for a keyframe's pose."""
    return model.key(keyframe).qpos[model.jnt_qposadr[model.actuator_trnid[:, 0]]]


def tilt(qpos: np.ndarray) -> np.ndarray:
    """The angle in degrees between the base's z axis and the vertical."""
    return np.degrees(np.arccos(np.clip(1 - 2 * (qpos[..., 4] ** 2 + qpos[..., 5] ** 2), -1, 1)))


def held(backend: str, robot: Robot, seconds: float) -> np.ndarray:
    """(steps, nq): what a fixed target makes of the start pose, in control steps of 20 ms, with the holding gains."""
    model = load_model(robot.model, "fast", edit=position_control(robot.holding_gains))
    engine = make_backend(backend, model, 1, frame_skip=robot.frame_skip, reads=frozenset({"qpos"}))
    start, ctrl = model.key(robot.start).qpos[None], targets(model, robot.start)
    ctrl_ESL = jnp.asarray(ctrl, jnp.float32)[None, None]

    @jax.jit
    def run(qpos, qvel):
        state = engine.reset_rows(engine.empty(), jnp.arange(1), qpos, qvel, {})

        def step(state, _):
            state, fault_E = engine.step(state, ctrl_ESL, jnp.ones(1, bool), None, {})
            return state, (state.view.qpos[0], fault_E[0])

        return jax.lax.scan(step, state, length=round(seconds / 0.02))[1]

    qpos, faults = run(engine.exact(start), engine.exact(np.zeros((1, model.nv))))
    assert not faults.any()
    return np.asarray(qpos)


@pytest.mark.parametrize("robot", [KBOT, ZBOT], ids=["kbot", "zbot"])
def test_a_fixed_target_holds_the_standing_pose_for_five_seconds(robot, backend):
    qpos = held(backend, robot, 5.0)
    height = load_model(robot.model, "fast").key(robot.start).qpos[2]
    assert np.abs(qpos[:, 2] / height - 1).max() < PER_CENT
    assert tilt(qpos).max() < 2.0
    assert np.abs(qpos[:, :2]).max() < 0.02


def test_kbot_ends_where_the_source_does_with_the_gains_of_the_figures():
    case = Case("kbot")

    def edit(spec: mujoco.MjSpec) -> None:
        for actuator in spec.actuators:
            figures = case.actuators[actuator.target]
            is_leg = any(part in actuator.target for part in ("hip", "knee", "ankle"))
            kp, kd = (500.0, 20.0) if is_leg else (figures["kp"], figures["kd"])
            actuator.set_to_position(kp=kp, kv=kd)
            actuator.ctrllimited, actuator.forcelimited, actuator.forcerange = False, True, actuator.ctrlrange

    model = load_model(KBOT.model, "fast", edit=edit)
    for name, pose in case.figures["poses"].items():
        data = at_keyframe(model, name)
        data.ctrl[:] = targets(model, name)
        for _ in range(round(10.0 / model.opt.timestep)):
            mujoco.mj_step(model, data)
        [holds] = [hold for hold in pose["holds"] if "holds" in hold["result"]]
        assert data.qpos[2] == pytest.approx(holds["end_base_height"], abs=1e-4)
        assert tilt(data.qpos) == pytest.approx(holds["end_tilt_deg"], abs=0.05)


def test_the_humanoid_starts_in_an_equilibrium_and_falls_from_it():
    model = load_model(HUMANOID.model, "fast")
    data = at_keyframe(model, HUMANOID.start)
    feet = np.mean([data.body(name).xpos for name in HUMANOID.feet], axis=0)
    assert data.subtree_com[1][:2] == pytest.approx(feet[:2], abs=1e-4)
    qpos = held("native", HUMANOID, 5.0)
    assert tilt(qpos[:50]).max() < 10.0  # for a second
    assert tilt(qpos).max() > 60.0


def test_another_floor_can_take_the_place_of_the_flat_one():
    def edit(spec: mujoco.MjSpec) -> None:
        position_control(ZBOT.holding_gains)(spec)
        spec.delete(spec.geom("floor"))
        spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_BOX, size=[1, 1, 0.1], pos=[0, 0, 0.2])

    model = load_model(ZBOT.model, "fast", edit=edit)
    data = at_keyframe(model, "standing")
    data.qpos[2] += 0.3
    data.ctrl[:] = targets(model, "standing")
    for _ in range(round(1.0 / model.opt.timestep)):
        mujoco.mj_step(model, data)
    assert data.qpos[2] == pytest.approx(0.3 + model.key("standing").qpos[2], abs=3e-3)
