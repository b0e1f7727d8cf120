"""Single spaces derived from a core; the batched ones are Gymnasium's `batch_space` of these."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box

from ksim_envs.core import Core
from ksim_envs.guard import MAX_VALUE


def observation_space(core: Core) -> Box:
    """(num_obs,) float32 within +-`guard.MAX_VALUE`: the bound that the health check enforces, so it is a true one."""
    return Box(-MAX_VALUE, MAX_VALUE, (core.num_observations,), np.float32)


def action_space(core: Core) -> Box:
    """(num_actions,) float32 within the actuators' control ranges."""
    low, high = core.action_bounds
    return Box(low, high, dtype=np.float32)
