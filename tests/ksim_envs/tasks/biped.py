"""A small robot that floats and stands on two feet, and quantities that its sensors measure."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import mujoco
from jax import Array

from ksim_envs.tasks.context import Context
from ksim_envs.types import View

LEG = """
<body name="{side}_leg" pos="0 {y} -0.1">
  <joint name="{side}_hip" axis="0 1 0" range="-60 60" damping="0.5"/>
  <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.03" mass="0.5" contype="0" conaffinity="0"/>
  <body name="{side}_foot" pos="0 0 -0.2">
    <joint name="{side}_ankle" type="slide" axis="0 0 1" range="-0.05 0.05" stiffness="2000" damping="20"/>
    <geom type="sphere" size="0.04" pos="0 0 -0.1" mass="0.2"/>
    <site name="{side}_sole" pos="0 0 -0.1" size="0.06"/>
  </body>
</body>
"""
SENSORS = """
<touch site="{side}_sole"/>
<force site="{side}_sole"/>
<frameangvel objtype="site" objname="{side}_sole"/>
<framelinvel objtype="site" objname="{side}_sole"/>
"""
BIPED = f"""
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="torso" pos="0 0 0.44">
      <freejoint/>
      <geom type="box" size="0.05 0.1 0.1" mass="4" contype="0" conaffinity="0"/>
      {LEG.format(side="left", y=0.1)}
      {LEG.format(side="right", y=-0.1)}
    </body>
  </worldbody>
  <actuator>
    <motor joint="left_hip" gear="20" ctrlrange="-1 1"/>
    <motor joint="left_ankle" gear="30" ctrlrange="-1 1"/>
    <motor joint="right_hip" gear="20" ctrlrange="-1 1"/>
    <motor joint="right_ankle" gear="30" ctrlrange="-1 1"/>
  </actuator>
  <sensor>{SENSORS.format(side="left")}{SENSORS.format(side="right")}</sensor>
</mujoco>
"""
"""qpos: x y z, quaternion, left hip and ankle, right hip and ankle; bodies: torso 1, left leg 2, foot 3, right 4, 5."""
MODEL = mujoco.MjModel.from_xml_string(BIPED)
FEET = ("left_sole", "right_sole")


@dataclass(frozen=True)
class FeetSensors:
    """Rows `start` to `stop` of each foot's ten sensor values: touch, force (3), rotation (3), velocity (3)."""

    start: int
    stop: int | None = None

    def __call__(self, view: View, ctx: Context) -> Array:
        rows = view.sensordata.reshape(2, 10)
        return rows[:, self.start] if self.stop is None else rows[:, self.start : self.stop]


@dataclass(frozen=True)
class Touches:
    """(2,) bool: whether a foot touches."""

    def __call__(self, view: View, ctx: Context) -> Array:
        return FeetSensors(0)(view, ctx) > 1e-3


@dataclass(frozen=True)
class Soles:
    """(2, 3), m: the feet's sites."""

    def __call__(self, view: View, ctx: Context) -> Array:
        return view.site_xpos[jnp.asarray(ctx.model.sites(FEET))]


FORCE = FeetSensors(1, 4)
VELOCITY = FeetSensors(4, 10)
