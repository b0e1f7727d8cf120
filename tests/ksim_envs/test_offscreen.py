"""`OffscreenRenderer` draws what Gymnasium draws, on any GL there is, and says what to install where there is none.

Envs show what it draws of their states.
"""

import json
import os
import subprocess
import sys
import threading
from ctypes.util import find_library
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, RenderError
from ksim_envs.render.offscreen import OffscreenRenderer
from ksim_envs.single_env import KsimEnv
from tests import tiny
from tests.bits import assert_same_bits

needs_osmesa = pytest.mark.skipif(
    find_library("OSMesa") is None, reason="this machine has no libOSMesa (apt-get install libosmesa6)"
)

BALL = """
<mujoco>
  <worldbody>
    <body pos="0 0 1"><freejoint/><geom size="0.2" rgba="1 0 0 1"/><geom pos="0.3 0 0" size="0.1"/></body>
  </worldbody>
</mujoco>
"""
BALL_QPOS = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0])
FLOOR = """
<mujoco>
  <asset>
    <texture name="grid" type="2d" builtin="checker" rgb1="0 0 0" rgb2="1 1 1" width="64" height="64"/>
    <material name="grid" texture="grid" texrepeat="4 4"/>
  </asset>
  <worldbody>
    <geom type="plane" size="2 2 0.1" material="grid"/>
    <body pos="0 0 1"><joint axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 -0.6" size="0.1"/></body>
  </worldbody>
</mujoco>
"""

CHILD = """
import ctypes, ctypes.util, json, os, sys
import mujoco

def hide(*libraries):
    load, find = ctypes.CDLL.__init__, ctypes.util.find_library
    def load_others(self, name, *args, **kwargs):
        if any(library in str(name) for library in libraries):
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        load(self, name, *args, **kwargs)
    ctypes.CDLL.__init__ = load_others
    ctypes.util.find_library = lambda name: None if name in libraries else find(name)

def draw():
    renderer = offscreen.OffscreenRenderer(model, camera={}, width=32, height=24)
    assert np.ptp(renderer.frame(model.qpos0)) > 0
    return offscreen._platform_in_use

def failure():
    try:
        return "no failure with " + draw()
    except offscreen.RenderError as error:
        return str(error)

import numpy as np
from ksim_envs.render import offscreen
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
"""


def run_child(code: str, **environment: str) -> tuple[object, str]:
    """Runs the code in a new process without a display; the value it gives to `answer`, and what it wrote to stderr."""
    ignored = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    inherited = {name: value for name, value in os.environ.items() if name not in ignored}
    child = subprocess.run(
        [sys.executable, "-c", f"{CHILD}\n{code}\nprint(json.dumps(answer))"],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1]), child.stderr


@pytest.fixture
def make_renderer():
    """Makes renderers from a model or XML, and closes them after the test."""
    made = []

    def make(model, **keywords):
        model = mujoco.MjModel.from_xml_string(model) if isinstance(model, str) else model
        made.append(OffscreenRenderer(model, **{"camera": {}, "width": 64, "height": 48, **keywords}))
        return made[-1]

    yield make
    for renderer in made:
        renderer.close()


# Frames


@needs_osmesa
def test_frame_shows_something_in_the_size_asked_for(make_renderer):
    frame = make_renderer(FLOOR, width=80, height=60).frame(np.zeros(1))
    assert frame.shape == (60, 80, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 10


@needs_osmesa
def test_frame_is_upright(make_renderer):
    camera = {"lookat": (0, 0, 0.5), "distance": 4, "elevation": 0}
    red = make_renderer(BALL, camera=camera).frame(BALL_QPOS)
    assert red[:24].sum() > red[24:].sum()  # the ball is above the point looked at


@needs_osmesa
def test_frame_is_larger_than_the_models_own_buffer(make_renderer):
    frame = make_renderer(FLOOR, width=700, height=500).frame(np.zeros(1))
    assert frame[490:, 690:].any()


@needs_osmesa
def test_equal_states_give_equal_frames_and_other_states_others(make_renderer):
    renderer = make_renderer(FLOOR)
    first, bent, again = (renderer.frame(np.array([angle])) for angle in (0.0, 1.0, 0.0))
    np.testing.assert_array_equal(first, again)
    assert not np.shares_memory(first, again)
    assert np.abs(first.astype(int) - bent).mean() > 1


@needs_osmesa
def test_the_callers_model_and_state_stay_as_they_are(make_renderer):
    model = mujoco.MjModel.from_xml_string(FLOOR)
    qpos = np.array([0.3])
    before = mujoco.MjModel.from_xml_string(FLOOR)
    make_renderer(model, width=900, height=10).frame(qpos)
    assert (model.vis.global_.offwidth, model.vis.global_.offheight) == (640, 480)
    np.testing.assert_array_equal(model.geom_rgba, before.geom_rgba)
    assert qpos == [0.3]


@needs_osmesa
def test_a_state_that_is_not_finite_can_be_drawn(make_renderer):
    renderer = make_renderer(FLOOR)
    good = renderer.frame(np.zeros(1))
    assert renderer.frame(np.full(1, np.nan)).shape == good.shape
    np.testing.assert_array_equal(renderer.frame(np.zeros(1)), good)


# The camera


@needs_osmesa
@pytest.mark.parametrize("is_tracked", [True, False])
def test_camera_moves_along_with_a_tracked_body(make_renderer, is_tracked):
    renderer = make_renderer(BALL, camera={"trackbodyid": 1 if is_tracked else -1, "distance": 3})
    here, there = (renderer.frame(BALL_QPOS + [x, -x, 0, 0, 0, 0, 0]) for x in (0.0, 1.0))
    assert (np.abs(here.astype(int) - there).mean() < 0.5) == is_tracked


@needs_osmesa
def test_camera_does_not_rise_with_a_tracked_body(make_renderer):
    renderer = make_renderer(BALL, camera={"trackbodyid": 1, "distance": 3})
    low, high = (renderer.frame(BALL_QPOS + [0, 0, z, 0, 0, 0, 0]) for z in (0.0, 0.3))
    assert np.abs(low.astype(int) - high).mean() > 1


@needs_osmesa
@pytest.mark.parametrize("is_uniform", [False, True])
def test_the_floor_goes_with_a_tracked_body_by_whole_tiles(make_renderer, is_uniform):
    """Far away the picture is that of the start; half a tile on, the body stands on another one."""
    floor = FLOOR.replace('<joint axis="0 1 0"/>', "<freejoint/>")
    tile = 1.0  # 4 m in 4 repeats
    if is_uniform:
        floor, tile = floor.replace('texrepeat="4 4"', 'texrepeat="4 4" texuniform="true"'), 0.25
    renderer = make_renderer(floor, camera={"trackbodyid": 1, "distance": 3, "elevation": -30})
    start, far, between = (renderer.frame(BALL_QPOS + [x, 0, 0, 0, 0, 0, 0]) for x in (0.0, 40 * tile, 40.5 * tile))
    assert np.abs(far.astype(int) - start).mean() < 1 < np.abs(between.astype(int) - start).mean()
    assert start.std() > 10


@needs_osmesa
def test_default_view_is_that_of_gymnasium():
    pytest.importorskip("imageio", reason="Gymnasium's own renderer needs imageio")
    code = """
import importlib, gymnasium
def difference(name):
    env = gymnasium.make(name, render_mode="rgb_array", camera_id=-1).unwrapped  # -1: up to 1.3 "track" was the default
    env.reset(seed=0)
    env.set_state(env.model.qpos0, 0 * env.data.qvel)
    camera = getattr(importlib.import_module(type(env).__module__), "DEFAULT_CAMERA_CONFIG", {})
    theirs, qpos = env.render().astype(int), env.data.qpos.copy()
    ours = offscreen.OffscreenRenderer(env.model, camera=camera).frame(qpos)
    assert ours.shape == theirs.shape and ours.std() > 10
    return float(abs(theirs - ours).mean())
answer = {name: difference(name) for name in ("Humanoid-v5", "Hopper-v5", "Ant-v5", "InvertedPendulum-v5")}
"""
    differences, _ = run_child(code, MUJOCO_GL="osmesa")
    assert max(differences.values()) < 0.5, differences  # of 255


# What envs show

FILMED = replace(tiny.HOPPER_LIKE, camera={"distance": 1.5, "azimuth": 60.0, "elevation": -20.0})
FRAME = {"render_mode": "rgb_array", "width": 64, "height": 48}
POSES = np.array([[0.0, 0.0, 0.0], [0.2, 0.1, 0.5], [0.0, 0.0, -0.5]])


@needs_osmesa
def test_a_batch_shows_the_states_of_its_first_envs(make_env, make_renderer):
    env = make_env(FILMED, 3, backend="native", num_rendered_envs=2, **FRAME)
    renderer = make_renderer(env.mj_model, camera=FILMED.camera)
    env.reset(seed=0, options={"qpos": POSES})
    frames = env.render()
    assert [(frame.shape, frame.dtype) for frame in frames] == [((48, 64, 3), np.uint8)] * 2
    np.testing.assert_array_equal(frames, [renderer.frame(qpos) for qpos in POSES[:2]])
    assert (frames[0] != frames[1]).any()
    env.step(np.ones((3, 2)))
    moved = env.physics_state()["qpos"][:2]
    assert (moved != POSES[:2]).any(axis=1).all()
    np.testing.assert_array_equal(env.render(), [renderer.frame(qpos) for qpos in moved])


@needs_osmesa
def test_showing_a_batch_changes_nothing(make_env):
    env, twin = (make_env(FILMED, 3, backend="native", num_rendered_envs=2, **FRAME) for _ in range(2))
    for one in (env, twin):
        one.reset(seed=0)
    for _ in range(3):
        env.render()
        assert_same_bits(env._state, twin._state)
        assert_same_bits(env.step(np.ones((3, 2))), twin.step(np.ones((3, 2))))


@needs_osmesa
def test_a_single_env_shows_its_state_and_showing_it_changes_nothing(make_env, make_renderer):
    make_env(FILMED, 1, backend="native")  # keeps the core of both
    env, twin = (KsimEnv(FILMED, backend="native", **FRAME) for _ in range(2))
    for one in (env, twin):
        one.reset(seed=0, options={"qpos": POSES[1]})
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((48, 64, 3), np.uint8)
    np.testing.assert_array_equal(frame, make_renderer(env.mj_model, camera=FILMED.camera).frame(POSES[1]))
    assert_same_bits(env._batch._state, twin._batch._state)
    assert_same_bits(env.step(np.ones(2)), twin.step(np.ones(2)))
    env.close()


# What cannot be done


@pytest.mark.parametrize("value", [0, -1, 8193, 48.0, True, "480", None])
@pytest.mark.parametrize("name", ["width", "height"])
def test_size_must_be_a_positive_integer_up_to_8192(make_renderer, name, value):
    with pytest.raises(InvalidConfigError, match=f"{name} is {value!r}; it must be an integer from 1 to 8192"):
        make_renderer(BALL, **{name: value})


@pytest.mark.parametrize("name, value", [("trackbodyid", 2), ("fixedcamid", 0)])
def test_a_camera_cannot_follow_what_the_model_does_not_have(make_renderer, name, value):
    with pytest.raises(InvalidConfigError, match=name):
        make_renderer(BALL, camera={name: value})


@needs_osmesa
def test_state_of_another_model_is_refused(make_renderer):
    with pytest.raises(RenderError, match=r"qpos has shape \(3,\); this model expects \(nq,\) = \(7,\)"):
        make_renderer(BALL).frame(np.zeros(3))


@needs_osmesa
def test_closing_twice_is_fine_and_a_closed_renderer_says_so(make_renderer):
    renderer = make_renderer(FLOOR)
    renderer.close()
    renderer.close()
    with pytest.raises(RenderError, match="closed"):
        renderer.frame(np.zeros(1))


@needs_osmesa
def test_another_thread_is_told_to_make_its_own(make_renderer):
    renderer, errors = make_renderer(FLOOR), []

    def draw():
        with pytest.raises(RenderError, match="another thread"):
            renderer.frame(np.zeros(1))
        errors.append("raised")

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert errors == ["raised"]


# Many renderers


@needs_osmesa
def test_open_renderers_do_not_disturb_each_other(make_renderer):
    floor, ball = make_renderer(FLOOR), make_renderer(BALL, width=30, height=90)
    frames = floor.frame(np.zeros(1)), ball.frame(BALL_QPOS)
    make_renderer(FLOOR, width=5, height=5).close()
    np.testing.assert_array_equal(floor.frame(np.zeros(1)), frames[0])
    np.testing.assert_array_equal(ball.frame(BALL_QPOS), frames[1])
    floor.close()
    np.testing.assert_array_equal(ball.frame(BALL_QPOS), frames[1])


@needs_osmesa
def test_two_hundred_renderers_can_be_opened_and_closed(make_renderer):
    model = mujoco.MjModel.from_xml_string(BALL)
    model.vis.quality.shadowsize = 0  # most of what a context costs
    first = make_renderer(model).frame(BALL_QPOS)
    for _ in range(200):
        OffscreenRenderer(model, camera={}, width=64, height=48).close()
    np.testing.assert_array_equal(make_renderer(model).frame(BALL_QPOS), first)


# GL platforms, each case in a process of its own


def test_importing_loads_no_gl():
    code = """
loaded = open("/proc/self/maps").read() if sys.platform == "linux" else ""
answer = [name for name in ("libEGL", "libOSMesa", "libGL.so", "libOpenGL") if name in loaded]
answer += [name for name in sys.modules if name == "OpenGL"]
"""
    assert run_child(code)[0] == []


@needs_osmesa
@pytest.mark.parametrize(
    "fault", ["hide('EGL')", "os.environ['MUJOCO_EGL_DEVICE_ID'] = '99'"], ids=["library", "device"]
)
def test_without_egl_the_choice_falls_on_osmesa_and_leaves_the_environment(fault):
    code = f"{fault}; answer = [draw(), draw(), os.environ.get('MUJOCO_GL'), os.environ.get('PYOPENGL_PLATFORM')]"
    answer, stderr = run_child(code)
    assert answer == ["osmesa", "osmesa", None, None]
    assert stderr == ""


@needs_osmesa
def test_a_renderer_that_nobody_closes_ends_quietly():
    _, stderr = run_child("answer = [draw(), draw()]")
    assert stderr == ""


@needs_osmesa
def test_mujoco_gl_is_obeyed_even_if_set_after_the_import_and_cannot_change_later():
    code = """
os.environ["MUJOCO_GL"] = " OSMesa"
answer = [draw()]
os.environ["MUJOCO_GL"] = "egl"
answer.append(failure())
del os.environ["MUJOCO_GL"]
answer.append(draw())
"""
    (first, second, third), stderr = run_child(code)
    assert (first, third) == ("osmesa", "osmesa")
    assert "MUJOCO_GL is 'egl', but this process has drawn with 'osmesa'" in second
    assert stderr == ""


def test_without_any_gl_the_error_says_what_was_tried_and_what_to_install():
    (first, second), stderr = run_child("hide('EGL', 'OSMesa'); answer = [failure(), failure()]")
    for part in (
        "egl: ",
        "osmesa: ",
        "glfw: ",
        "apt-get install libosmesa6",
        "libegl1",
        "xvfb-run",
        "MUJOCO_GL is not set",
    ):
        assert part in first
    assert first == second
    assert stderr == ""


@pytest.mark.parametrize("platform, other", [("egl", "osmesa"), ("osmesa", "egl"), ("glfw", "osmesa")])
def test_a_platform_that_mujoco_gl_asks_for_and_that_is_missing_is_an_error(platform, other):
    code = f"hide('EGL', 'OSMesa'); os.environ['MUJOCO_GL'] = {platform!r}; answer = failure()"
    answer, _ = run_child(code)
    assert f"{platform}: " in answer
    assert f"MUJOCO_GL is {platform}" in answer
    assert f"{other}: " not in answer


@pytest.mark.parametrize("value", ["metal", "off", "0"])
def test_mujoco_gl_that_names_no_platform_is_an_error(make_renderer, monkeypatch, value):
    monkeypatch.setenv("MUJOCO_GL", value)
    with pytest.raises(RenderError, match=f"MUJOCO_GL is '{value}'; unset it .* or set one of .*glfw"):
        make_renderer(BALL)


@pytest.mark.parametrize("value", ["banana", "egl"])
def test_without_the_gl_that_mujoco_gl_names_all_else_works(value):
    """MuJoCo itself cannot be imported then."""
    code = """
import ctypes.util, json, os, sys
load = ctypes.CDLL.__init__
def load_others(self, name, *args, **kwargs):
    if "EGL" in str(name):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")
    load(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = load_others
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if "EGL" in name else find(name)
import gymnasium, numpy as np
import ksim_envs
from ksim_envs.adapters import functional
env = gymnasium.make("ksim/InvertedPendulum-v0", num_envs=2, render_mode="rgb_array")
env.reset(seed=0)
reward = env.step(np.zeros((2, 1)))[1]
try:
    env.render()
except ksim_envs.KsimError as error:
    print(json.dumps([reward.tolist(), os.environ["MUJOCO_GL"], str(error)]))
"""
    child = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MUJOCO_GL": value}, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    reward, variable, error = json.loads(child.stdout)
    assert reward == [1.0, 1.0] and variable == value and value in error
