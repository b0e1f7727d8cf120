"""How high the floor is at a place: for terms that count heights from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jaxtyping import Float

from ksim_envs.errors import InvalidConfigError
from ksim_envs.tasks.context import Context

Floor: TypeAlias = Callable[[Array, Context], Array]
"""From (2,), x and y in m in the world, to the height of the floor there, (), in m in the world."""


@dataclass(frozen=True)
class FlatFloor:
    """A floor of the same height everywhere."""

    height: float = 0.0
    """m."""

    def __call__(self, place: Float[Array, "2"], ctx: Context) -> Float[Array, ""]:
        """The height."""
        return jnp.float32(self.height)


@dataclass(frozen=True)
class HeightField:
    """The surface of a height field, as MuJoCo builds it: two triangles for each cell of the grid.

    The geom must be fixed to the world and not be turned. Places outside the field have the height of its nearest edge.
    """

    geom: str

    def __call__(self, place: Float[Array, "2"], ctx: Context) -> Float[Array, ""]:
        """The height.

        Raises:
            InvalidConfigError: the geom is no height field, or stands otherwise.
        """
        field, geom = ctx.model.array, ctx.model.geom(self.geom)
        is_upright = np.allclose(field("geom_quat")[geom], (1, 0, 0, 0)) and field("geom_bodyid")[geom] == 0
        if field("geom_type")[geom] != mujoco.mjtGeom.mjGEOM_HFIELD or not is_upright:
            raise InvalidConfigError(f"geom {self.geom!r} must be a height field of the world body that is not turned.")
        hfield = field("geom_dataid")[geom]
        rows, columns = int(field("hfield_nrow")[hfield]), int(field("hfield_ncol")[hfield])
        start = int(field("hfield_adr")[hfield])
        grid = jnp.asarray(field("hfield_data")[start : start + rows * columns].reshape(rows, columns))
        size, origin = field("hfield_size")[hfield], field("geom_pos")[geom]
        x, y = ((place - origin[:2]) / size[:2] + 1) / 2 * jnp.array([columns - 1, rows - 1])
        column, row = (jnp.clip(jnp.floor(v).astype(int), 0, n - 2) for v, n in ((x, columns), (y, rows)))
        u, v = jnp.clip(x - column, 0, 1), jnp.clip(y - row, 0, 1)
        low, right = grid[row, column], grid[row, column + 1]
        left, high = grid[row + 1, column], grid[row + 1, column + 1]
        below, above = low + u * (right - low) + v * (high - right), low + v * (left - low) + u * (high - left)
        return origin[2] + size[2] * jnp.where(u > v, below, above)
