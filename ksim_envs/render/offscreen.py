"""Frames drawn without a window, on whichever GL platform works: EGL, OSMesa or GLFW.

Importing this module loads no GL library; making the first renderer does. From then on the process has one GL
platform: MuJoCo looks up its GL functions once, with the first `MjrContext`, and remembers even a failure. So none is
made where no GL context is current, and the platform that worked is kept.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import os
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Mapping
from importlib import import_module
from typing import Any

import mujoco
import numpy as np

from ksim_envs.errors import InvalidConfigError, RenderError
from ksim_envs.render.platforms import PLATFORMS, REMEDIES, requested
from ksim_envs.validate import positive_integer

MAX_PIXELS = 8192  # the largest width and height of a frame
_platform_in_use: str | None = None
_choosing = threading.Lock()


class OffscreenRenderer:
    """Draws one model into arrays. Many may be open at once; each is used by the thread that made it.

    The view is that of Gymnasium's `MujocoRenderer`: a free camera, as far from the middle of the geoms as the model is
    large. With `trackbodyid` above 0 it also moves along with that body's subtree, horizontally; Gymnasium 1.4 lets the
    robot walk out of the picture (Gymnasium#1618). A renderer that nobody closes stays open until the process ends.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        camera: Mapping[str, Any],
        width: int = 480,
        height: int = 480,
        option: mujoco.MjvOption | None = None,
    ) -> None:
        """Choose a GL platform and make a context on it.

        Args:
            model: what to draw; a copy is kept, so later changes to it are not seen.
            camera: fields of `mujoco.MjvCamera` that differ from the default view, as `Task` has checked them; m and
                degrees.
            width: of a frame, in pixels, at most `MAX_PIXELS`.
            height: of a frame, in pixels, at most `MAX_PIXELS`.
            option: what is drawn; None for MuJoCo's default.

        Raises:
            InvalidConfigError: a size that cannot be used, or a body or camera that the model does not have.
            RenderError: no GL platform works, or `MUJOCO_GL` is none that there is; with the remedy.
        """
        width, height = positive_integer("width", width, MAX_PIXELS), positive_integer("height", height, MAX_PIXELS)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._model = copy.copy(model)
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._data = mujoco.MjData(self._model)
        self._place(self._model.qpos0)
        self._camera = _make_camera(self._model, self._data, camera)
        self._floors, self._tiles = _floors(self._model)
        self._home_lookat, self._home_centers = self._camera.lookat.copy(), self._data.subtree_com.copy()
        self._scene, self._option = mujoco.MjvScene(self._model, maxgeom=10_000), option or mujoco.MjvOption()
        self._thread = threading.get_ident()
        self._contexts: tuple[Any, mujoco.MjrContext] | None = _open_contexts(self._model, self._viewport)
        atexit.register(self.close)  # runs before the handler by which mujoco.egl ends EGL, and which would break it

    def frame(self, qpos: np.ndarray, modify_scene: Callable[[mujoco.MjvScene], None] | None = None) -> np.ndarray:
        """A picture of the model in one state.

        Args:
            qpos: (nq,) positions.
            modify_scene: what may add to the scene before it is drawn.

        Returns:
            (height, width, 3) uint8, a new array.

        Raises:
            RenderError: the state has the wrong size, the renderer is closed, or another thread made it.
        """
        if self._contexts is None:
            raise RenderError("the renderer is closed; make a new one to draw more frames.")
        if threading.get_ident() != self._thread:
            raise RenderError(
                "another thread made this renderer, and GL contexts cannot move; make one in each, or render "
                "an env only in the thread that drew its first frame."
            )
        gl, context = self._contexts
        self._place(qpos)
        self._follow()
        pixels = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        if modify_scene:
            modify_scene(self._scene)
        gl.make_current()  # last, lest the garbage collector closes another renderer in between
        mujoco.mjr_render(self._viewport, self._scene, context)
        mujoco.mjr_readPixels(pixels, None, self._viewport, context)
        return pixels[::-1].copy()  # GL counts rows from the bottom

    def close(self) -> None:
        """Free the GL memory. Closing twice is fine; what another thread is holding is freed when the process ends."""
        if self._contexts is not None:
            with contextlib.suppress(Exception):
                gl, context = self._contexts
                gl.make_current()  # freeing acts on the current context, which may be another renderer's
                context.free()
                gl.free()
                self._contexts = None
                atexit.unregister(self.close)

    def _place(self, qpos: np.ndarray) -> None:
        """Compute what a picture shows, and no forces: a state that would diverge can be looked at too."""
        if np.shape(qpos) != (self._model.nq,):
            raise RenderError(f"qpos has shape {np.shape(qpos)}; this model expects (nq,) = ({self._model.nq},).")
        self._data.qpos[:] = qpos
        for stage in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_flex, mujoco.mj_tendon):
            stage(self._model, self._data)

    def _follow(self) -> None:
        """Move the camera as far in x and y as the tracked subtree's center of mass is from its place in `qpos0`.

        So do floors, by whole tiles: they are drawn in some size, and end nowhere in the physics.
        """
        body = self._camera.trackbodyid
        if body > 0:
            moved = self._data.subtree_com[body] - self._home_centers[body]
            self._camera.lookat[:] = self._home_lookat + [moved[0], moved[1], 0.0]
            self._data.geom_xpos[self._floors, :2] += self._tiles * np.round(moved[:2] / self._tiles)


def _floors(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """The level planes that are drawn in a size, (n,), and after what length their texture repeats, (n, 2), in m."""
    is_floor = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_bodyid == 0)
    is_floor &= (model.geom_quat == [1, 0, 0, 0]).all(axis=1) & (model.geom_size[:, :2] > 0).all(axis=1)
    floors = np.flatnonzero(is_floor)
    material = model.geom_matid[floors]
    if not model.nmat or (material < 0).any():
        return floors, np.ones((len(floors), 2))
    length = np.where(model.mat_texuniform[material, None], 1.0, 2.0 * model.geom_size[floors, :2])
    return floors, length / model.mat_texrepeat[material]


def _make_camera(model: mujoco.MjModel, data: mujoco.MjData, fields: Mapping[str, Any]) -> mujoco.MjvCamera:
    """Gymnasium's default view of the model as it stands in `data`, with some fields changed."""
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    camera.distance = model.stat.extent
    if model.ngeom:
        camera.lookat[:] = np.median(data.geom_xpos, axis=0)
    for name, value in fields.items():
        setattr(camera, name, value)
    for name, size in {"trackbodyid": model.nbody, "fixedcamid": model.ncam}.items():
        if not -1 <= getattr(camera, name) < size:
            raise InvalidConfigError(f"camera[{name!r}] is {getattr(camera, name)}; it must be from -1 to {size - 1}.")
    return camera


def _open_contexts(model: mujoco.MjModel, size: mujoco.MjrRect) -> tuple[Any, mujoco.MjrContext]:
    """A GL context and MuJoCo's context on it, on the first platform where both can be made."""
    global _platform_in_use
    reasons: dict[str, Exception] = {}
    with _choosing:
        for platform in _platforms_to_try():
            try:
                contexts = _open_contexts_on(platform, model, size)
                _platform_in_use = platform
                return contexts
            except Exception as reason:  # PyOpenGL, GLFW, ctypes and MuJoCo each have their own
                reasons[platform] = reason
                if _platform_in_use is None:
                    _forget_pyopengl()
    raise _nothing_works(reasons)


def _platforms_to_try() -> tuple[str, ...]:
    """GL platforms in the order of preference: one if `MUJOCO_GL` names it, or if the process already draws with it."""
    wanted = requested()
    if wanted and wanted not in PLATFORMS:
        raise RenderError(f"MUJOCO_GL is {wanted!r}; unset it for a free choice, or set one of {', '.join(PLATFORMS)}.")
    allowed = (wanted,) if wanted else PLATFORMS
    if _platform_in_use in (None, *allowed):
        return (_platform_in_use,) if _platform_in_use else allowed
    drawn = f"this process has drawn with {_platform_in_use!r}, which MuJoCo cannot change"
    raise RenderError(f"MUJOCO_GL is {wanted!r}, but {drawn}; set it in a new process, before the first frame.")


def _open_contexts_on(platform: str, model: mujoco.MjModel, size: mujoco.MjrRect) -> tuple[Any, mujoco.MjrContext]:
    """Both contexts on one platform; the GL context is current afterwards."""
    # MuJoCo's C code goes by the first, or else by EGL if its library is loaded, even in vain; PyOpenGL by the second.
    with _environment(MUJOCO_GL=platform, PYOPENGL_PLATFORM=platform):
        gl = _make_gl_context(platform, size.width, size.height)
        try:
            gl.make_current()
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
        except Exception:
            gl.free()
            raise
    return gl, context


@contextlib.contextmanager
def _environment(**variables: str) -> Generator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _make_gl_context(platform: str, width: int, height: int) -> Any:
    """MuJoCo's wrapper of a GL context."""
    if platform == "glfw":
        return _make_glfw_context(width, height)
    if f"mujoco.{platform}" not in sys.modules:
        _forget_pyopengl()
    try:
        return import_module(f"mujoco.{platform}").GLContext(width, height)
    except AttributeError as reason:  # 'NoneType' object has no attribute 'glGetError'
        raise ImportError(f"PyOpenGL cannot load the library of {platform}.") from reason


def _forget_pyopengl() -> None:
    """Have PyOpenGL imported anew, since its first import binds it to one platform, even to one that does not work."""
    for name in [*sys.modules]:
        if f"{name}.".startswith(("OpenGL.", "mujoco.egl.", "mujoco.osmesa.")):
            del sys.modules[name]


def _make_glfw_context(width: int, height: int) -> Any:
    """An invisible window's context; where GLFW only warns, and MuJoCo's wrapper goes on with no window, an error."""
    glfw = import_module("glfw")
    with warnings.catch_warnings(record=True) as failures:
        warnings.simplefilter("always")
        if glfw.init():
            gl = import_module("mujoco.glfw").GLContext(width, height)
            gl.make_current()
            if glfw.get_current_context():
                return gl
    raise RuntimeError("; ".join(str(failure.message) for failure in failures) or "GLFW makes no window.")


def _nothing_works(reasons: Mapping[str, Exception]) -> RenderError:
    lines = [
        f"{platform}: {type(reason).__name__}: {' '.join(str(reason).split())} Remedy: {REMEDIES[platform]}."
        for platform, reason in reasons.items()
    ]
    choice = f"MUJOCO_GL is {os.environ.get('MUJOCO_GL') or 'not set'}; when set, it rules out other platforms."
    return RenderError("\n  ".join(["no GL platform can draw frames here.", *lines, choice]))
