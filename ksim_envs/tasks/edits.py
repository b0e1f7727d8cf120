"""Changes of a model before it is compiled, for `Task.edits`."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco

from ksim_envs.tasks.context import Names, is_meant


@dataclass(frozen=True)
class WithoutSensors:
    """Leaves sensors out, by names and patterns: those of a robot's model that no term of the task reads.

    The engines compute all of a model's sensors in every physics substep, if any is read. An accelerometer or a force
    sensor is the dearest: C MuJoCo then runs `mj_rnePostConstraint`.
    """

    names: Names

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Delete them."""
        patterns = (self.names,) if isinstance(self.names, str) else self.names
        for sensor in list(spec.sensors):
            if any(is_meant(sensor.name, pattern) for pattern in patterns):
                spec.delete(sensor)
