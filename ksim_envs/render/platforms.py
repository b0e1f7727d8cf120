"""The GL platforms that there are, under MUJOCO_GL's names, and what each needs."""

import sys

PLATFORMS = {"darwin": ("cgl", "glfw"), "win32": ("glfw",)}.get(sys.platform, ("egl", "osmesa", "glfw"))
"""Those of this operating system, in the order of preference."""
NEEDS = {
    "egl": "a GPU driver with EGL, or Mesa's: apt-get install libegl1 libgl1",
    "osmesa": "apt-get install libosmesa6; it draws on any CPU",
    "glfw": "a desktop session, or xvfb-run -a in front of the command",
    "cgl": "a session that has a screen",
}
"""The remedy where a platform does not work."""
