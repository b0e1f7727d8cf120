"""Other ranges of actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector.utils import batch_space
from jax import Array
from numpy.typing import ArrayLike

from ksim_envs.errors import InvalidConfigError
from ksim_envs.vector_env import KsimVectorEnv
from ksim_envs.wrappers.device import DeviceWrapper


class ClipAction(DeviceWrapper):
    """Takes actions beyond the bounds too, and clips them to these."""

    def __init__(self, env: KsimVectorEnv | DeviceWrapper) -> None:
        """Wrap a batch."""
        super().__init__(env)
        space: Any = env.single_action_space
        self._low, self._high = space.low, space.high
        self.single_action_space = Box(-np.inf, np.inf, self._low.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _before_step(self, actions: Any) -> Array:
        return self._private(actions).clip(self._low, self._high)


class RescaleAction(DeviceWrapper):
    """Takes actions from one range, and maps it onto that of the bounds."""

    def __init__(self, env: KsimVectorEnv | DeviceWrapper, min_action: ArrayLike, max_action: ArrayLike) -> None:
        """Wrap a batch.

        Args:
            env: the batch.
            min_action: the action that stands for the lower bounds, a number or (num_actions,).
            max_action: the same for the upper bounds, above `min_action`.

        Raises:
            InvalidConfigError: it is not above, something is infinite, or of another shape.
        """
        super().__init__(env)
        space: Any = env.single_action_space
        low, high = space.low, space.high
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidConfigError("the actions have no finite bounds to map onto; put ClipAction around this one.")
        try:
            min_A, max_A = (
                np.broadcast_to(np.asarray(value, np.float32), low.shape) for value in (min_action, max_action)
            )
        except (TypeError, ValueError) as error:
            raise InvalidConfigError(
                f"min_action and max_action must be numbers, or one for each of {len(low)} actions: {error}."
            ) from error
        if not ((min_A < max_A) & np.isfinite(max_A - min_A)).all():
            raise InvalidConfigError(
                f"min_action is {min_action} and max_action {max_action}; it must be above, and both finite."
            )
        self._slope = (high - low) / (max_A - min_A)
        self._offset = low - self._slope * min_A
        self.single_action_space = Box(min_A, max_A, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _before_step(self, actions: Any) -> Array:
        return self._slope * self._private(actions) + self._offset
