"""Changes of a model before it is compiled, for `Task.edits`."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco

from ksim_envs.errors import unknown_name
from ksim_envs.tasks.context import Names, is_meant


@dataclass(frozen=True)
class WithoutSensors:
    """Leaves sensors out, by names and patterns: those of a robot's model that no term of the task reads.

    The engines compute all of a model's sensors in every physics substep, if any is read. An accelerometer or a force
    sensor is the dearest: C MuJoCo then runs `mj_rnePostConstraint`.
    """

    names: Names

    def edit_model(self, spec: mujoco.MjSpec) -> None:
        """Delete them.

        Raises:
            UnknownNameError: a name or pattern stands for none.
        """
        known = [sensor.name for sensor in spec.sensors]
        for pattern in (self.names,) if isinstance(self.names, str) else self.names:
            if not any(is_meant(name, pattern) for name in known):
                raise unknown_name("sensor in the model", pattern, filter(None, known))
            for sensor in list(spec.sensors):
                if is_meant(sensor.name, pattern):
                    spec.delete(sensor)
