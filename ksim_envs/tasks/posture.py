"""Measures of how a robot holds itself. Those of joints, bodies and positions are for robots with a fixed base too."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.base_motion import BasePosition, RollPitchYaw
from ksim_envs.tasks.context import Context, Names
from ksim_envs.tasks.joints import JointPosition
from ksim_envs.tasks.measures import Target, as_quantity, check_shapes
from ksim_envs.tasks.numbers import check_positive, is_number
from ksim_envs.tasks.rotations import angle_between, rotate, yaw
from ksim_envs.tasks.terms import Combination, Quantity, Remembering
from ksim_envs.types import View


@dataclass(frozen=True)
class JointDeviation:
    """`weight * (q - target)` for each joint, in rad and m.

    The targets are numbers, one for each joint, or the name of a keyframe; the row's own `qpos0` where there are none.

    ksim: JointDeviation, DefaultPoseDeviation, ArmPosition
    """

    joints: Names = "*"
    targets: tuple[float, ...] | str | None = None
    weights: tuple[float, ...] | None = None

    def __call__(self, view: View, ctx: Context) -> Float[Array, "joints"]:
        """One for each joint."""
        chosen = ctx.model.joint_qpos(self.joints)
        offset = view.qpos[chosen] - self._target(chosen, ctx)
        return offset if self.weights is None else offset * _one_each("weights", self.weights, chosen)

    def _target(self, chosen: np.ndarray, ctx: Context) -> Array:
        if isinstance(self.targets, str):
            return jnp.asarray(ctx.model.keyframe(self.targets)[chosen])
        return ctx.field("qpos0")[chosen] if self.targets is None else _one_each("targets", self.targets, chosen)


def _one_each(what: str, values: tuple[float, ...], chosen: np.ndarray) -> Array:
    if len(values) != len(chosen):
        raise InvalidConfigError(f"There are {len(values)} {what} for {len(chosen)} joints; give one for each.")
    return jnp.asarray(values, jnp.float32)


@dataclass(frozen=True)
class BeyondLimits(Combination):
    """How far each joint is beyond its soft limits, in rad or m; at least 0, and 0 for joints without limits.

    The soft limits lie inside the joint's range, by `margin` times the range at either end. `position` (num_joints,)
    replaces the joints' own positions, such as `Action()` where an action is a joint position.

    ksim: AvoidLimits, ActionInBounds
    """

    joints: Names = "*"
    margin: float = 0.05
    position: Quantity | None = None

    def __post_init__(self) -> None:
        if not (is_number(self.margin) and 0 <= self.margin < 0.5):
            raise InvalidConfigError(f"BeyondLimits.margin is {self.margin}; it must be in [0, 0.5).")

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The positions."""
        return (self.position or JointPosition(self.joints, measured=False),)

    def combine(self, position: Array, ctx: Context) -> Float[Array, "joints"]:
        """One for each joint."""
        chosen = ctx.model.joints(self.joints)
        low, high = ctx.field("jnt_range")[chosen].T
        check_shapes(position, low)
        inset = self.margin * (high - low)
        beyond = jnp.maximum(jnp.maximum(low + inset - position, position - (high - inset)), 0.0)
        return jnp.where(ctx.model.array("jnt_limited")[chosen] != 0, beyond, 0.0)


@dataclass(frozen=True)
class JointAsymmetry(Combination):
    """How far joints on the left are from those on the right, each from its own `qpos0`, in rad.

    It is `left - right`, or where `flipped` (axes that mirror each other) `left + right`.

    ksim: PairwiseSymmetry
    """

    left: Names
    right: Names
    flipped: bool = False

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The deviations of both sides."""
        return JointDeviation(self.left), JointDeviation(self.right)

    def combine(self, left: Array, right: Array, ctx: Context) -> Float[Array, "pairs"]:
        """One for each pair."""
        check_shapes(left, right)
        return left + right if self.flipped else left - right


@dataclass(frozen=True)
class Symmetry(Remembering):
    """`-sum(offset * average)`, with the offset's own average over about the last `time` s; in its unit squared.

    Positive where an offset is on the other side of zero than it was on average, and zero on average only for what
    spends as much time on either side. The average is zero at the start of an episode.

    ksim: Symmetry, PairwiseSymmetry
    """

    offset: Quantity
    time: float

    def __post_init__(self) -> None:
        check_positive("Symmetry", time=self.time)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The offset, such as a `JointDeviation`."""
        return (self.offset,)

    def remember(self, offset: Array, ctx: Context) -> Array:
        """The average so far."""
        return jnp.zeros_like(offset)

    def update(self, memory: Array, offset: Array, ctx: Context) -> tuple[Float[Array, ""], Array]:
        """A scalar."""
        share = 1.0 - jnp.exp(-ctx.dt / self.time)
        return -jnp.sum(offset * memory), memory + share * (offset - memory)


@dataclass(frozen=True)
class Alignment:
    """Cosine of the angle between an axis of each body and a direction in the world, in [-1, 1], one substep behind.

    With the vertical for both it is 1 for a body that is level, and on a slope the direction is the slope's normal.

    ksim: FlatBody, FeetFlat, NaiveForwardOrientation, FeetOrientation
    """

    bodies: Names
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def __call__(self, view: View, ctx: Context) -> Float[Array, "bodies"]:
        """One for each body."""
        quat = view.xquat[ctx.model.bodies(self.bodies)]
        axis = jnp.broadcast_to(_unit("axis", self.axis), (len(quat), 3))
        return jnp.clip(jnp.dot(rotate(quat, axis), _unit("direction", self.direction), precision="highest"), -1.0, 1.0)


def _unit(what: str, vector: tuple[float, float, float]) -> Float[Array, "3"]:
    length = np.linalg.norm(vector)
    if not length > 0:
        raise InvalidConfigError(f"The {what} {vector} has no direction; give one that is not zero.")
    return jnp.asarray(np.asarray(vector) / length, jnp.float32)


@dataclass(frozen=True)
class RotationAngle(Combination):
    """Angle of the shortest rotation from one orientation to another, both unit quaternions, in [0, pi] rad.

    ksim: QuaternionTracking, RollPitchOrientation
    """

    orientation: Quantity
    target: Target

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The orientations, (..., 4)."""
        return self.orientation, as_quantity(self.target)

    def combine(self, orientation: Array, target: Array, ctx: Context) -> Float[Array, "*n"]:
        """One for each pair."""
        check_shapes(orientation, target)
        return angle_between(orientation, target)


@dataclass(frozen=True)
class HeadingAlignment(Combination):
    """Cosine of the angle between the floating base's heading and that of a quaternion, in [-1, 1].

    ksim: HeadingTracking
    """

    target: Target

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The base's yaw, and the quaternion."""
        return RollPitchYaw("z"), as_quantity(self.target)

    def combine(self, heading: Float[Array, ""], target: Float[Array, "4"], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        return jnp.cos(heading - yaw(target))


def _check_points(value: Array) -> None:
    if jnp.shape(value)[-1:] != (3,):
        raise InvalidConfigError(f"A position is of shape {jnp.shape(value)}; it must be (..., 3): x y z.")


@dataclass(frozen=True)
class HeightAboveGround(Combination):
    """Height of the floating base, or of other points, above the ground beneath them, in m.

    The ground is a height in the world, or a quantity: a scan of the terrain, or the `Lowest` foot, which tells a fall
    on any terrain.

    ksim: BaseHeightObservation, BaseHeight, BaseHeightRange, TerrainBaseHeight, TargetHeight, MinimumHeightTermination,
    BadZTermination, TerrainBadZTermination, FallTermination
    """

    position: Quantity = BasePosition()
    ground: float | Quantity = 0.0

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The positions, (..., 3), and the ground, (...) or a scalar."""
        return self.position, as_quantity(self.ground)

    def combine(self, position: Float[Array, "*n 3"], ground: Array, ctx: Context) -> Float[Array, "*n"]:
        """One for each point."""
        _check_points(position)
        if jnp.ndim(ground):
            check_shapes(position[..., 2], ground)
        return position[..., 2] - ground


@dataclass(frozen=True)
class Lowest(Combination):
    """Height in the world of the lowest of some points, in m.

    ksim: TerrainBaseHeight
    """

    position: Quantity

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The positions."""
        return (self.position,)

    def combine(self, position: Float[Array, "n 3"], ctx: Context) -> Float[Array, ""]:
        """A scalar."""
        _check_points(position)
        return jnp.min(position[:, 2])


@dataclass(frozen=True)
class TooClose(Combination):
    """1 where any two of some points are closer to each other than `distance` m, else 0.

    ksim: Intersection
    """

    position: Quantity
    distance: float

    def __post_init__(self) -> None:
        check_positive("TooClose", distance=self.distance)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The positions."""
        return (self.position,)

    def combine(self, position: Float[Array, "n 3"], ctx: Context) -> Float[Array, ""]:
        """A scalar in {0, 1}."""
        _check_list("TooClose", position)
        first, second = np.triu_indices(len(position), k=1)
        if not len(first):
            raise InvalidConfigError(f"TooClose is given {len(position)} points; it needs two or more.")
        apart = jnp.linalg.norm(position[first] - position[second], axis=-1)
        return (jnp.min(apart) < self.distance).astype(jnp.float32)


@dataclass(frozen=True)
class MassCenterDistance(Combination):
    """Horizontal distance of the mass centre from the middle of points of support, in m, one substep behind.

    Small in balance. The mass centre is that of all bodies, or of the tree that `body` belongs to.

    ksim: COMDistanceObservation, CoMSupport
    """

    support: Quantity
    body: str | None = None

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The points of support, and the mass centre."""
        return self.support, _MassCenter(self.body)

    def combine(self, support: Float[Array, "n 3"], center: Float[Array, "3"], ctx: Context) -> Float[Array, ""]:
        """A scalar, at least 0."""
        _check_list("MassCenterDistance", support)
        return jnp.linalg.norm((center - support.mean(axis=0))[:2])


def _check_list(what: str, points: Array) -> None:
    """Refuse what is no list of points in space."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise InvalidConfigError(f"{what} has points of shape {points.shape}, not (n, 3); take BodyPositions, say.")


@dataclass(frozen=True)
class _MassCenter:
    body: str | None

    def __call__(self, view: View, ctx: Context) -> Float[Array, "3"]:
        tree = ctx.model.array("body_rootid")[ctx.model.body(self.body)] if self.body else 0
        return view.subtree_com[tree]
