"""Our robots: where their models are, what tasks call their parts, which motors drive them and with which gains.

The figures are those of the sources that the models in `assets/` name. Names of joints may be patterns, as everywhere
in tasks; a later entry overrides an earlier one.

All robots have a root body `torso` with the sites `base_site` (x forward, z up) and `imu_site` (as the board is
mounted), sites `left_foot` and `right_foot`, and the same sensors on these; a geom `floor`; and keyframes `neutral`,
with all joints at zero, and `standing`. They do not touch themselves, and the friction is that of their own geoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ksim_envs.tasks.context import Names
from ksim_envs.tasks.motors import (
    FEETECH_STS3215,
    FEETECH_STS3250,
    ROBSTRIDE_00,
    ROBSTRIDE_02,
    ROBSTRIDE_03,
    ROBSTRIDE_04,
    Gains,
    Motor,
    Servo,
)

SENSORS: Names = ("base_site_*", "imu_*", "left_foot_*", "right_foot_*")
"""Those in the models' own files."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Robot:
    """One of the package's robots."""

    model: str
    """The source of the model, for `Task.model`."""
    frame_skip: int
    """Physics substeps in 20 ms, the control period of the published examples."""
    start: str
    """The keyframe to begin an episode with: standing, or as near to it as there is an equilibrium."""
    feet: Names
    """Bodies of the left and the right foot. Sites and the sensors' prefix are `left_foot` and `right_foot`."""
    foot_geoms: tuple[Names, Names]
    """Geoms of the left and the right foot that touch the floor. They decide the friction with it."""
    motors: Mapping[str, Motor | Servo]
    """Those that drive the joints; empty where they are none that one can buy."""
    published_gains: Mapping[str, Gains]
    """Those of the robot's published walking example, which leave the balance to the policy."""
    holding_gains: Mapping[str, Gains]
    """With these a fixed target holds `start` where that is possible, and no joint shivers at the model's timestep."""
    policy_gains: Mapping[str, Gains]
    """Those of our tasks: soft enough that noise in actions moves the robot little, stiff enough for a stride."""
    action_scale: float = 0.5
    """rad between the targets for the actions 0 and 1; ours."""


KBOT_PUBLISHED_GAINS = {
    "dof_*_hip_pitch_04": Gains(kp=150.0, kd=24.722, max_torque=84.0),
    "dof_*_hip_roll_03": Gains(kp=200.0, kd=26.387, max_torque=42.0),
    "dof_*_hip_yaw_03": Gains(kp=100.0, kd=3.419, max_torque=42.0),
    "dof_*_knee_04": Gains(kp=150.0, kd=8.654, max_torque=84.0),
    "dof_*_ankle_02": Gains(kp=40.0, kd=0.99, max_torque=11.9),
    "dof_*_shoulder_pitch_03": Gains(kp=100.0, kd=8.284, max_torque=42.0),
    "dof_*_shoulder_roll_03": Gains(kp=100.0, kd=8.257, max_torque=42.0),
    "dof_*_shoulder_yaw_02": Gains(kp=40.0, kd=0.945, max_torque=11.9),
    "dof_*_elbow_02": Gains(kp=40.0, kd=1.266, max_torque=11.9),
    "dof_*_wrist_00": Gains(kp=20.0, kd=0.295, max_torque=9.8),
}

KBOT = Robot(
    model="ksim:kbot.xml",
    frame_skip=5,
    start="standing",
    feet=("left_foot", "right_foot"),
    foot_geoms=(("left_foot_inner", "left_foot_outer"), ("right_foot_inner", "right_foot_outer")),
    motors={
        "dof_*_00": ROBSTRIDE_00,
        "dof_*_02": ROBSTRIDE_02,
        "dof_*_03": ROBSTRIDE_03,
        "dof_*_04": ROBSTRIDE_04,
    },
    published_gains=KBOT_PUBLISHED_GAINS,
    holding_gains={
        "dof_*_hip_pitch_04": Gains(kp=500.0, kd=20.0, max_torque=120.0),
        "dof_*_hip_roll_03": Gains(kp=500.0, kd=20.0, max_torque=60.0),
        "dof_*_hip_yaw_03": Gains(kp=500.0, kd=5.0, max_torque=60.0),
        "dof_*_knee_04": Gains(kp=500.0, kd=20.0, max_torque=120.0),
        "dof_*_ankle_02": Gains(kp=300.0, kd=1.5, max_torque=17.0),
        "dof_*_shoulder_*_03": Gains(kp=100.0, kd=8.3, max_torque=60.0),
        "dof_*_shoulder_yaw_02": Gains(kp=40.0, kd=0.9, max_torque=17.0),
        "dof_*_elbow_02": Gains(kp=40.0, kd=1.3, max_torque=17.0),
        "dof_*_wrist_00": Gains(kp=20.0, kd=0.3, max_torque=14.0),
    },
    policy_gains=KBOT_PUBLISHED_GAINS,
)
"""K-Bot headless, 20 joints. The published example multiplies these gains by 1.4 and the limits by 1.5."""

ZBOT_HOLDING_GAINS = {
    "*": FEETECH_STS3250.gains(22.0, 0.0),
    "*_shoulder_*": FEETECH_STS3250.gains(16.0, 0.0),
    "*_elbow_*": FEETECH_STS3215.gains(16.0, 0.0),
    "*_gripper_*": FEETECH_STS3215.gains(16.0, 0.0),
}

ZBOT = Robot(
    model="ksim:zbot.xml",
    frame_skip=5,
    start="standing",
    feet=("left_foot", "right_foot"),
    foot_geoms=("left_foot", "right_foot"),
    motors={"*": FEETECH_STS3250, "*_elbow_*": FEETECH_STS3215, "*_gripper_*": FEETECH_STS3215},
    published_gains={
        "*": FEETECH_STS3250.gains(22.0, 12.0),
        "*_shoulder_*": FEETECH_STS3250.gains(16.0, 3.0),
        "*_elbow_*": FEETECH_STS3215.gains(16.0, 3.0),
        "*_gripper_*": FEETECH_STS3215.gains(16.0, 3.0),
    },
    holding_gains=ZBOT_HOLDING_GAINS,
    policy_gains=ZBOT_HOLDING_GAINS,
    action_scale=0.25,
)
"""Z-Bot, 20 joints. Its servos' registers kp and kd are 22 and 12, in the arms 16 and 3. Such a kd needs timesteps
below 0.8 ms; without it the servos' own damping, which is in the model, is enough."""

HUMANOID = Robot(
    model="ksim:humanoid.xml",
    frame_skip=5,
    start="balanced_slight_bend",
    feet=("foot_left", "foot_right"),
    foot_geoms=("foot_left", "foot_right"),
    motors={},
    published_gains={
        "*": Gains(kp=2000.0, kd=40.0, max_torque=40.0),
        "hip_y_*": Gains(kp=6000.0, kd=120.0, max_torque=120.0),
        "knee_*": Gains(kp=4000.0, kd=80.0, max_torque=80.0),
        "shoulder*": Gains(kp=1000.0, kd=20.0, max_torque=20.0),
    },
    holding_gains={
        "*": Gains(kp=500.0, kd=10.0, max_torque=40.0),
        "hip_y_*": Gains(kp=500.0, kd=10.0, max_torque=120.0),
        "knee_*": Gains(kp=500.0, kd=10.0, max_torque=80.0),
        "shoulder*": Gains(kp=20.0, kd=2.0, max_torque=20.0),
        "elbow_*": Gains(kp=20.0, kd=2.0, max_torque=40.0),
    },
    policy_gains={
        "*": Gains(kp=100.0, kd=10.0, max_torque=40.0),
        "hip_y_*": Gains(kp=200.0, kd=10.0, max_torque=120.0),
        "knee_*": Gains(kp=200.0, kd=10.0, max_torque=80.0),
        "shoulder*": Gains(kp=20.0, kd=2.0, max_torque=20.0),
        "elbow_*": Gains(kp=20.0, kd=2.0, max_torque=40.0),
    },
)
"""The default humanoid, 17 joints. It has a ball for each foot, so it falls from where it starts, an unstable
equilibrium, while its joints hold the pose. The published kp 50 and kd 1 are for controls, which gears make torques."""
