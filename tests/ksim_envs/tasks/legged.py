"""A leg that stands on the floor with one foot, and engines on which the terms of a task show their effect.

All tests share one engine for each backend: what a term is to change reaches it as controls, pushes and model fields.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ksim_envs.physics import load_model, make_backend
from ksim_envs.tasks.actuators import Position, TorqueNoise
from ksim_envs.tasks.context import Context, Model
from ksim_envs.tasks.motors import Gains
from ksim_envs.types import Push, View
from tests.ksim_envs.tasks.by_hand import context

LEGGED = """
<mujoco>
  <option timestep="0.004"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="torso" pos="0 0 0.44">
      <freejoint name="base"/>
      <geom name="hull" type="box" size="0.1 0.08 0.06" mass="3" contype="0" conaffinity="0"/>
      <site name="imu"/>
      <body name="leg" pos="0 0 -0.06">
        <joint name="hip" axis="0 1 0" range="-60 90" damping="0.5" armature="0.02" frictionloss="0.3"/>
        <geom name="shin" type="capsule" size="0.03" fromto="0 0 0 0 0 -0.3" mass="1" contype="0" conaffinity="0"/>
        <body name="foot" pos="0 0 -0.34">
          <joint name="ankle" axis="0 1 0" range="-40 40" armature="0.01"/>
          <geom name="sole" type="capsule" size="0.04" fromto="-0.1 0 0 0.1 0 0" mass="0.3"
                friction="0.8 0.005 0.0001"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="hip" joint="hip" gear="20" ctrlrange="-1 1"/>
    <motor name="ankle" joint="ankle" gear="-10" ctrlrange="-1 1"/>
  </actuator>
  <sensor>
    <framequat name="orientation" objtype="site" objname="imu"/>
    <gyro name="gyro" site="imu"/>
  </sensor>
  <keyframe><key name="stand" qpos="0 0 0.44 1 0 0 0 0.2 -0.1" qvel="0.1 0 0 0 0 0 0 0.5"/></keyframe>
</mujoco>
"""
"""World 0, torso 1 (3 kg), leg 2 (1 kg), foot 3 (0.3 kg); its geoms are floor 0, hull 1, shin 2, sole 3."""
GAINS = {"hip": Gains(kp=30.0, kd=1.5, max_torque=4.0), "ankle": Gains(kp=20.0, kd=0.8, max_torque=3.0)}
NUM_ENVS, NUM_SUBSTEPS, TIMESTEP = 4, 5, 0.004
DT = NUM_SUBSTEPS * TIMESTEP
READS = frozenset({"qpos", "qvel", "sensordata"})
FIELDS = frozenset(
    "actuator_biasprm actuator_forcerange actuator_gainprm body_inertia body_ipos body_mass dof_armature dof_damping "
    "dof_frictionloss geom_friction geom_pos geom_size pair_friction qpos0 site_pos site_quat".split()
)
TOLERANCE = {"native": 1e-6, "mjx": 2e-4}
"""Of a control step, absolute and relative: actions and fields are float32, and MJX computes in it."""


def edit(spec):
    """PD control, with room for additional torques."""
    TorqueNoise(actuator=Position(gains=GAINS)).edit_model(spec)
    Position(gains=GAINS).edit_model(spec)


MODEL = load_model(LEGGED, "fast", edit=edit, model_fields=FIELDS)
"""With PD control: gears of 1, and torque limits of 4 and 3 N m."""
MOTORS = load_model(LEGGED, "fast")
"""As it is written: with plain motors."""


def legged(**changes) -> Context:
    """A context on `MODEL`, in which a control step has 5 substeps."""
    return context(**{"model": Model(MODEL), "dt": DT, **changes})


def nominal(name: str) -> np.ndarray:
    """A field's value in `MODEL`, for every row."""
    value = np.asarray(getattr(MODEL, name), np.float32)
    return np.tile(value, (NUM_ENVS, *[1] * value.ndim))


class Engine:
    """One backend on `MODEL`, with its two programs."""

    def __init__(self, backend: str) -> None:
        self.tolerance = TOLERANCE[backend]
        self.backend = make_backend(backend, MODEL, NUM_ENVS, frame_skip=NUM_SUBSTEPS, reads=READS, model_fields=FIELDS)
        self._reset, self._step = jax.jit(self.backend.reset_rows), jax.jit(self.backend.step)

    def start(self, qpos=None, qvel=None, fields=None):
        """Every row at its state, by default `qpos0` at rest."""
        qpos = np.tile(MODEL.qpos0, (NUM_ENVS, 1)) if qpos is None else qpos
        qvel = np.zeros((NUM_ENVS, MODEL.nv)) if qvel is None else qvel
        rows = np.arange(NUM_ENVS)
        return self._reset(self.backend.empty(), rows, np.float32(qpos), np.float32(qvel), self._all(fields))

    def step(self, state, ctrl=None, push=None, fields=None):
        """One control step of every row, in which none may fail."""
        state, fault_E = self.try_step(state, fields, ctrl, push)
        assert not fault_E.any()
        return state

    def try_step(self, state, fields=None, ctrl=None, push=None):
        """One control step of every row, and the rows' faults."""
        ctrl = np.zeros((NUM_ENVS, 1, MODEL.nu)) if ctrl is None else np.asarray(ctrl)
        ctrl = np.broadcast_to(ctrl, (NUM_ENVS, NUM_SUBSTEPS, MODEL.nu)).astype(np.float32)
        if push is None:
            push = Push(
                qvel_kick=np.zeros((NUM_ENVS, MODEL.nv), np.float32),
                xfrc_applied=np.zeros((NUM_ENVS, MODEL.nbody, 6), np.float32),
            )
        return self._step(state, ctrl, np.ones(NUM_ENVS, bool), push, self._all(fields))

    def _all(self, fields):
        return {name: jnp.asarray((fields or {}).get(name, nominal(name)), jnp.float32) for name in FIELDS}


@functools.cache
def engine(backend: str) -> Engine:
    """The engine of a backend, which compiles once in a process."""
    return Engine(backend)


def rows(state) -> View:
    """The view of all rows, as NumPy arrays."""
    return jax.tree.map(np.asarray, state.view)


def moving(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """qpos and qvel of every row: in the air or in contact, all joints moving."""
    draw = np.random.default_rng(seed)
    qpos = np.tile(MODEL.qpos0, (NUM_ENVS, 1))
    qpos[:, 2] += np.linspace(-0.005, 0.3, NUM_ENVS)
    qpos[:, 3:7] += draw.normal(0, 0.1, (NUM_ENVS, 4))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qpos[:, 7:] += draw.uniform(-0.4, 0.4, (NUM_ENVS, 2))
    return np.float32(qpos), np.float32(draw.normal(0, 0.7, (NUM_ENVS, MODEL.nv)))


def in_c(model: mujoco.MjModel, qpos: np.ndarray, qvel: np.ndarray) -> mujoco.MjData:
    """C MuJoCo's data of one row at this state."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    return data
