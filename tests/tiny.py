"""Tasks on tiny models, which compile in seconds on every backend."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from ksim_envs.tasks.context import Context
from ksim_envs.tasks.observations import Coordinate, Field
from ksim_envs.tasks.resets import UniformPosition, UniformVelocity
from ksim_envs.tasks.rewards import ActionCost, Alive, Scaled
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terminations import Outside
from ksim_envs.types import Push, View

BALL_ON_STICK = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="cart" pos="0 0 0.12">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.1"/>
      <joint name="lift" type="slide" axis="0 0 1"/>
      <geom name="ball" type="sphere" size="0.1" mass="1" friction="1 0.005 0.0001"/>
      <body name="pole" pos="0 0 0">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="0.05"/>
        <geom name="rod" type="capsule" fromto="0 0 0.1 0 0 0.5" size="0.02" mass="0.2"/>
        <site name="tip" pos="0 0 0.5"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="push" joint="slide" gear="5" ctrlrange="-1 1"/>
    <motor name="turn" joint="hinge" gear="0.2" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


@dataclass(frozen=True)
class GivenPush:
    """An event that pushes as the test says: a constant velocity kick and force on the cart."""

    kick: float = 0.0
    force: float = 0.0

    def __call__(self, view: View, ctx: Context) -> Array:
        """The push."""
        qvel_kick = jnp.zeros_like(view.qvel).at[0].set(self.kick)
        xfrc_applied = jnp.zeros((3, 6)).at[ctx.model.body("cart"), 0].set(self.force)
        return Push(qvel_kick=qvel_kick, xfrc_applied=xfrc_applied)


@dataclass(frozen=True)
class ScaledField:
    """A randomizer that multiplies a model field with a uniform factor for each episode."""

    field: str
    low: float
    high: float

    @property
    def fields(self) -> tuple[str, ...]:
        """The one field."""
        return (self.field,)

    def __call__(self, values: dict[str, Array], ctx: Context) -> dict[str, Array]:
        """The field's new value."""
        factor = jax.random.uniform(ctx.key, (), values[self.field].dtype, self.low, self.high)
        return {self.field: values[self.field] * factor}


HOPPER_LIKE = Task(
    model=BALL_ON_STICK,
    frame_skip=3,
    episode_length=30,
    observations={"qpos": Field("qpos", start=1), "qvel": Field("qvel")},
    rewards={"alive": Alive(1.0), "forward": Scaled(0.1, Coordinate(0)), "cost": ActionCost(0.01)},
    terminations={"angle": Outside(Coordinate(2), low=-0.6, high=0.6)},
    resets={"position": UniformPosition(0.02), "velocity": UniformVelocity(0.1)},
    metrics={"x_position": Coordinate(0)},
)
"""A ball that rolls on a floor with a stick on top, which falls: contact, termination, truncation within 30 steps."""

PUSHED = replace(HOPPER_LIKE, events={"push": GivenPush(kick=0.01, force=0.5)})
"""The same with an event in every step."""

RANDOMIZED = replace(
    HOPPER_LIKE,
    randomizers={"mass": ScaledField("body_mass", 0.5, 2.0), "friction": ScaledField("geom_friction", 0.5, 1.5)},
)
"""The same with masses and friction drawn for each episode."""
