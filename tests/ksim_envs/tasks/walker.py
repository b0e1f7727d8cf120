"""A small biped on sloping ground that is not at height zero, in three states: standing, flying and lying."""

from __future__ import annotations

import mujoco
import numpy as np

WALKER = """
<mujoco>
  <option timestep="0.004" tolerance="1e-10" iterations="100"/>
  <default>
    <geom contype="0" conaffinity="1" condim="3"/>
    <joint stiffness="100" damping="5" armature="0.05"/>
    <default class="visual"><geom contype="0" conaffinity="0" mass="0"/></default>
  </default>
  <worldbody>
    <geom name="ground" type="plane" size="5 5 0.1" pos="0 0 0.5" euler="3 -4 0" contype="1" conaffinity="0"/>
    <geom name="step" type="box" size="0.2 0.1 0.1" pos="0.2 -0.1 0.428" contype="2" conaffinity="0"/>
    <body name="torso" pos="0 0 1.01">
      <freejoint name="root"/>
      <geom name="chest" type="sphere" size="0.15" mass="4"/>
      <site name="imu" pos="0.05 0 0.1" euler="10 20 30"/>
      <body name="left_leg" pos="0 0.1 -0.2">
        <joint name="left_hip" axis="0 1 0"/>
        <geom name="left_thigh" class="visual" type="capsule" size="0.03" fromto="0 0 0 0 0 -0.2" mass="1"/>
        <body name="left_foot" pos="0 0 -0.25">
          <joint name="left_ankle" axis="0 1 0"/>
          <geom type="box" size="0.15 0.05 0.03" pos="0.03 0 -0.02" mass="0.5"/>
          <geom name="left_cover" class="visual" size="0.05"/>
        </body>
      </body>
      <body name="right_leg" pos="0 -0.1 -0.2">
        <joint name="right_hip" axis="0 1 0"/>
        <geom name="right_thigh" class="visual" type="capsule" size="0.03" fromto="0 0 0 0 0 -0.2" mass="1"/>
        <body name="right_foot" pos="0 0 -0.25">
          <joint name="right_ankle" axis="0 1 0" ref="10"/>
          <geom name="right_sole" type="capsule" size="0.03" fromto="-0.1 0 -0.02 0.1 0 -0.02" mass="0.3" condim="6"
                friction="1 0.05 0.02"/>
          <geom name="right_toe" type="sphere" size="0.03" pos="0.16 0 -0.02" mass="0.2" conaffinity="2"/>
          <site name="right_tip" pos="0.16 0 -0.05" euler="0 90 0"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="left_hip_motor" joint="left_hip" gear="20" ctrlrange="-1 1"/>
    <motor name="left_ankle_motor" joint="left_ankle" gear="10" ctrlrange="-1 1"/>
    <motor name="right_hip_motor" joint="right_hip" gear="20" ctrlrange="-1 1"/>
    <motor name="right_ankle_motor" joint="right_ankle" gear="10" ctrlrange="-1 1"/>
  </actuator>
  <sensor>
    <framequat name="imu_quat" objtype="site" objname="imu"/>
    <gyro name="imu_gyro" site="imu"/>
  </sensor>
</mujoco>
"""
"""7 kg. The right toe touches nothing but the step, whose index comes before the toe's, but whose type comes after."""
FEET = ("left_foot", "right_foot")


def states(model: mujoco.MjModel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """qpos and qvel of a walker that stands still, one that flies and turns, and one that has fallen on its chest."""
    random = np.random.default_rng(0)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 2000)
    standing = data.qpos.copy(), data.qvel.copy()
    mujoco.mj_resetData(model, data)
    data.qpos[:3], data.qpos[3:7] = (1.0, 2.0, 2.5), random.normal(size=4)
    data.qpos[7:] += random.normal(size=4) * 0.3
    data.qvel[:] = random.normal(size=model.nv)
    mujoco.mj_normalizeQuat(model, data.qpos)
    flying = data.qpos.copy(), data.qvel.copy()
    mujoco.mj_resetData(model, data)
    data.qpos[3:7] = (np.cos(0.8), 0, np.sin(0.8), 0)
    mujoco.mj_step(model, data, 150)
    lying = data.qpos.copy(), data.qvel.copy()
    return {"standing": standing, "flying": flying, "lying": lying}
