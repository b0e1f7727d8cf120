"""The data that flows through one step, every field with its axes, unit and frame.

Axis suffixes here and elsewhere, in memory order: `T` steps of a rollout, `E` envs, `R` rows chosen for a reset, `S`
physics substeps, `A` actions, `C` kinds of fault, `L` a leaf's own axes. A view without suffix is that of one env:
terms never see `E`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import jax
from jax import Array

Device: TypeAlias = Any
"""A `jax.Device`: that class is compiled, without types, so pyright does not accept it in an annotation."""

Info: TypeAlias = dict[str, Any]
"""Names to arrays of length `num_envs`, or to nested dictionaries of such arrays."""

FINAL_KEYS = ("final_obs", "_final_obs", "final_info", "_final_info")
"""Gymnasium's keys of `info` in SAME_STEP mode: the last observation and info of ended episodes, each with its mask."""

UNREAD: Any = None
"""A view's field that no term of the task reads, and which the backend therefore does not compute."""


class Autoreset(IntEnum):
    """Gymnasium's auto-reset modes, as numbers that compiled code can compare."""

    NEXT_STEP = 0
    SAME_STEP = 1
    DISABLED = 2


RESET_ALL = 3
"""In place of an auto-reset mode: nothing is stepped, and every row begins an episode."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class View:
    """What a task may read of the physics, under MjData's own names, in SI units and the world frame.

    A backend fills the fields that the task's terms read and leaves the others `UNREAD`. After a control step the
    state (`qpos`, `qvel`, `act`, `time`) is the new one; every derived field describes the state one physics substep
    earlier, because `mj_step` integrates last (Gymnasium's tasks read the same). After a reset all are current.

    A field with the suffix `_change` is the change over the control step, subtracted at the backend's own precision
    (float64 on native), so that a velocity stays exact far from the origin. It is zero after a reset.
    """

    time: Array = UNREAD  # (), s since the episode's first state
    qpos: Array = UNREAD  # (nq,), m, rad, quaternions
    qvel: Array = UNREAD  # (nv,), m/s, rad/s
    act: Array = UNREAD  # (na,), actuator activation
    qacc: Array = UNREAD  # (nv,), m/s^2, rad/s^2
    qfrc_actuator: Array = UNREAD  # (nv,), N, N m: actuator forces in joint space
    qfrc_constraint: Array = UNREAD  # (nv,), N, N m: constraint forces in joint space
    actuator_force: Array = UNREAD  # (nu,), N, N m
    xpos: Array = UNREAD  # (nbody, 3), m: body frames
    xquat: Array = UNREAD  # (nbody, 4), unit quaternions w x y z
    xipos: Array = UNREAD  # (nbody, 3), m: bodies' centres of mass
    geom_xpos: Array = UNREAD  # (ngeom, 3), m
    site_xpos: Array = UNREAD  # (nsite, 3), m
    subtree_com: Array = UNREAD  # (nbody, 3), m
    cinert: Array = UNREAD  # (nbody, 10), kg m^2, kg m, kg: inertia about the tree's centre of mass
    cvel: Array = UNREAD  # (nbody, 6), rad/s, m/s: rotation first, about the tree's centre of mass
    cfrc_ext: Array = UNREAD  # (nbody, 6), N m, N: external force on the body; zero after a reset, as in Gymnasium
    ten_length: Array = UNREAD  # (ntendon,), m
    ten_velocity: Array = UNREAD  # (ntendon,), m/s
    sensordata: Array = UNREAD  # (nsensordata,)
    qpos_change: Array = UNREAD  # (nq,), over the control step
    xpos_change: Array = UNREAD  # (nbody, 3), m, over the control step
    xipos_change: Array = UNREAD  # (nbody, 3), m, over the control step


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PhysicsState:
    """What a backend carries from one control step to the next, and nothing else.

    Everything that the next step depends on is here, so a backend is a pure function, and a row that is overwritten by
    a reset keeps nothing of its past.
    """

    integration: dict[str, Array]  # (E, ...), the integration state in the backend's own encoding
    view: View  # (E, ...), what the task reads


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Push:
    """A disturbance during one control step, in the world frame. Pushes of several events add up."""

    qvel_kick: Array  # (nv,), m/s, rad/s: added to qvel before the first substep
    xfrc_applied: Array  # (nbody, 6), N, N m: force, then torque, on each body during the whole step


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class EnvState:
    """The complete state of a batch. Two equal states with equal actions have equal futures."""

    physics: PhysicsState
    model_fields: dict[str, Array]  # (E, ...), model fields that differ from env to env (randomization)
    key_E: Array  # (E,), typed PRNG keys: the root of all of a row's randomness; changes only with a seed
    episode_E: Array  # (E,), int32: episodes begun since the row was seeded
    step_E: Array  # (E,), int32: control steps done in this episode
    ahead_E: Array  # (E,), int32: control steps that the time limit counts besides: the episode's head start
    return_E: Array  # (E,), float32: undiscounted sum of this episode's rewards
    needs_reset_E: Array  # (E,), bool: the episode has ended and the row waits for its reset
    terminated_E: Array  # (E,), bool: the last step met a termination
    diverged_E: Array  # (E,), bool: the last step met a fault, which ended the episode, or the first state did
    fault_count_EC: Array  # (E, len(guard.Fault)), int32: how often each kind of fault befell the row
    obs_EL: Array  # (E, num_obs), float32: the row's current observation
    metrics: Info  # (E, ...), the row's current metrics by name
    commands: dict[str, Array]  # (E, ...), float32: the commands for the next action, by name
    carry: dict[str, Any]  # (E, ...), what stateful terms remember of this episode, by role and name
    curriculum: Any  # (E, ...), what the curriculum remembers of all the row's episodes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one control step returns. Rows are independent of each other, bit for bit."""

    obs_EL: Array  # (E, num_obs), float32, finite
    reward_E: Array  # (E,), float32, finite
    terminated_E: Array  # (E,), bool
    truncated_E: Array  # (E,), bool: the time limit, a truncation of the task, or the physics diverged
    ended_E: Array  # (E,), bool: terminated or truncated
    info: Info  # (E, ...), what `Core.info` says, after any reset
    final_obs_EL: Array  # (E, num_obs): the observation before any reset; the episode's last one where it ended
    final_info: Info  # the same before any reset
