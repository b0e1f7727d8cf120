"""Tasks for our robots on two legs: standing under pushes, and walking where they are told to."""

from __future__ import annotations

from ksim_envs.tasks.locomotion import Style, standing, walking
from ksim_envs.tasks.robots import HUMANOID, KBOT, ZBOT

KBOT_STYLE = Style(
    fall_height=0.5,
    slowest=(-0.4, -0.3, -0.8),
    fastest=(0.8, 0.3, 0.8),
    velocity_width=0.3,
    period=(0.7, 0.9),
    swing_height=0.08,
    foot_height=0.02,
    push=(0.1, 0.5),
)
ZBOT_STYLE = Style(
    fall_height=0.2,
    slowest=(-0.1, -0.1, -0.6),
    fastest=(0.25, 0.1, 0.6),
    velocity_width=0.12,
    period=(0.5, 0.7),
    swing_height=0.02,
    foot_height=0.021,
    push=(0.05, 0.2),
)
HUMANOID_STYLE = Style(
    fall_height=0.9,
    slowest=(-0.4, -0.3, -0.8),
    fastest=(1.0, 0.3, 0.8),
    velocity_width=0.25,
    period=(0.7, 0.9),
    swing_height=0.07,
    foot_height=0.05,
    push=(0.1, 0.5),
)

KBOT_STAND = standing(KBOT, KBOT_STYLE)
KBOT_WALK = walking(KBOT, KBOT_STYLE)
ZBOT_WALK = walking(ZBOT, ZBOT_STYLE)
HUMANOID_STAND = standing(HUMANOID, HUMANOID_STYLE)
HUMANOID_WALK = walking(HUMANOID, HUMANOID_STYLE)
