"""Tasks for K-Bot: standing under pushes, and walking where it is told to.

They have no ids until policies have been trained on them; `ksim_envs.register` gives them some.
"""

from __future__ import annotations

from ksim_envs.tasks.locomotion import Style, standing, walking
from ksim_envs.tasks.robots import KBOT

STYLE = Style(
    fall_height=0.5,
    slowest=(-0.4, -0.3, -0.8),
    fastest=(0.8, 0.3, 0.8),
    period=(0.7, 0.9),
    swing_height=0.08,
    foot_height=0.03,
    push=(0.1, 0.5),
)
KBOT_STAND = standing(KBOT, STYLE)
KBOT_WALK = walking(KBOT, STYLE)
