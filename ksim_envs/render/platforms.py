"""The GL platforms that there are, under MUJOCO_GL's names; the remedy where one does not work; the display."""

import os
import sys

PLATFORMS = ("cgl", "glfw") if sys.platform == "darwin" else ("egl", "osmesa", "glfw")
"""Those of this operating system, in the order of preference."""
REMEDIES = {
    "egl": "install a GPU driver with EGL, or Mesa's: apt-get install libegl1 libgl1",
    "osmesa": "apt-get install libosmesa6; it draws on any CPU",
    "glfw": "start it on a desktop, or with xvfb-run -a in front of the command",
    "cgl": "start it in a session that has a screen",
}
_ANY = ("enable", "enabled", "on", "true", "1")
_ALIASES = {"glx": "glfw"}


def requested() -> str:
    """What MUJOCO_GL asks for, whether it exists or not; empty where it leaves the choice open."""
    value = os.environ.get("MUJOCO_GL", "").lower().strip()
    return "" if value in _ANY else _ALIASES.get(value, value)


def has_display() -> bool:
    """Whether a window can open; always so off Linux, where nothing names the display."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
