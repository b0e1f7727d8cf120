"""Loading models: where they may come from, and which files they may bring along."""

from __future__ import annotations

import copy
import struct
from pathlib import Path

import mujoco
import numpy as np
import pytest

from ksim_envs.errors import InvalidConfigError, UnknownNameError
from ksim_envs.physics import load_model

ROBOT = """
<mujoco>
  {compiler}
  <asset>{asset}</asset>
  <worldbody>
    <body name="block"><joint name="slide" type="slide"/><geom name="shape" {geom}/></body>
  </worldbody>
  <actuator><motor joint="slide"/></actuator>
  {more}
</mujoco>
"""
CORNERS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
TRIANGLES = ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))


def write_obj(path: Path) -> None:
    """A tetrahedron with legs of 1 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vertices = [f"v {x} {y} {z}" for x, y, z in CORNERS]
    path.write_text("\n".join(vertices + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in TRIANGLES]))


def write_stl(path: Path) -> None:
    """The same as a binary STL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    faces = [struct.pack("<12fH", 0, 0, 0, *(x for i in face for x in CORNERS[i]), 0) for face in TRIANGLES]
    path.write_bytes(bytes(80) + struct.pack("<I", len(faces)) + b"".join(faces))


def write_png(path: Path) -> None:
    """One grey pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
            "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
        )
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model's folder, beside which lies what the model must not read."""
    write_obj(tmp_path / "secret.obj")
    write_stl(tmp_path / "secret.stl")
    write_png(tmp_path / "secret.png")
    (tmp_path / "secret.xml").write_text("<mujocoinclude><statistic extent='3'/></mujocoinclude>")
    (tmp_path / "robot").mkdir()
    return tmp_path / "robot"


def write(folder: Path, *, compiler: str = "", asset: str = "", geom: str = 'size="0.1"', more: str = "") -> str:
    path = folder / "robot.xml"
    path.write_text(ROBOT.format(compiler=compiler, asset=asset, geom=geom, more=more))
    return str(path)


@pytest.mark.parametrize("writer", [write_obj, write_stl])
@pytest.mark.parametrize(("compiler", "place"), [("", "."), ('<compiler meshdir="meshes"/>', "meshes")])
def test_a_mesh_in_the_models_folder_is_read(folder, writer, compiler, place):
    name = f"a.{writer.__name__.removeprefix('write_')}"
    writer(folder / place / name)
    source = write(folder, compiler=compiler, asset=f'<mesh name="a" file="{name}"/>', geom='type="mesh" mesh="a"')
    assert load_model(source, "fast").nmesh == 1


def test_a_relative_path_of_a_model_is_as_good_as_an_absolute_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "parts").mkdir()
    (folder / "parts" / "a.xml").write_text('<mujocoinclude><include file="b.xml"/></mujocoinclude>')
    (folder / "parts" / "b.xml").write_text("<mujocoinclude><statistic extent='3'/></mujocoinclude>")
    write(folder, more='<include file="parts/a.xml"/>')
    assert load_model("robot.xml", "fast").stat.extent == 3


def test_a_path_through_dots_that_stays_inside_is_allowed(folder):
    write_obj(folder / "a.obj")
    (folder / "meshes").mkdir()
    source = write(folder, compiler='<compiler meshdir="meshes"/>', asset='<mesh name="a" file="../a.obj"/>')
    assert load_model(source, "fast").nmesh == 1


OUTSIDE = {
    "mesh through dots": {"asset": '<mesh name="a" file="../secret.obj"/>'},
    "mesh through a folder and dots": {"asset": '<mesh name="a" file="meshes/../../secret.obj"/>'},
    "mesh through backslashes": {"asset": r'<mesh name="a" file="..\secret.obj"/>'},
    "absolute mesh": {"asset": '<mesh name="a" file="{above}/secret.obj"/>'},
    "absolute mesh with a meshdir": {
        "compiler": '<compiler meshdir="meshes"/>',
        "asset": '<mesh name="a" file="{above}/secret.obj"/>',
    },
    "meshdir": {"compiler": '<compiler meshdir=".."/>', "asset": '<mesh name="a" file="secret.obj"/>'},
    "absolute meshdir": {"compiler": '<compiler meshdir="{above}"/>'},
    "assetdir": {"compiler": '<compiler assetdir=".."/>', "asset": '<mesh name="a" file="secret.obj"/>'},
    "texturedir": {"compiler": '<compiler texturedir="../.."/>'},
    "texture": {"asset": '<texture name="a" type="2d" file="../secret.png"/>'},
    "side of a cube": {"asset": '<texture name="a" type="cube" fileright="../secret.png"/>'},
    "height field": {"asset": '<hfield name="a" size="1 1 1 1" file="../secret.png"/>'},
    "skin": {"more": '<deformable><skin name="a" file="../secret.skn"/></deformable>'},
    "include": {"more": '<include file="../secret.xml"/>'},
    "absolute include": {"more": '<include file="{above}/secret.xml"/>'},
    "attached model": {"asset": '<model name="a" file="../secret.xml"/>'},
    "flexible body": {"more": '<worldbody><flexcomp name="a" type="mesh" file="../secret.obj"/></worldbody>'},
    "file that does not exist": {"asset": '<mesh name="a" file="../../nothing.obj"/>'},
    "comment that hides a tag": {
        "more": '<custom><text name="a" data="<!--"/></custom><include file="../secret.xml"/>'
    },
    "character references": {"more": '<include file="&#46;&#46;/secret.xml"/>'},
}


@pytest.mark.parametrize("parts", OUTSIDE.values(), ids=OUTSIDE)
def test_a_model_that_refers_to_a_file_outside_its_folder_is_refused_before_it_is_read(folder, parts, monkeypatch):
    parts = {name: part.replace("{above}", str(folder.parent)) for name, part in parts.items()}
    source = write(folder, **parts)
    monkeypatch.setattr(mujoco.MjSpec, "from_file", lambda path: pytest.fail(f"MuJoCo reads {path}"))
    with pytest.raises(InvalidConfigError, match="refers to|DOCTYPE"):
        load_model(source, "fast")


def test_the_error_says_path_folder_and_remedy(folder):
    source = write(folder, asset='<mesh name="a" file="../secret.obj"/>')
    with pytest.raises(InvalidConfigError) as error:
        load_model(source, "fast")
    for part in (source, "'../secret.obj'", str(folder.parent / "secret.obj"), str(folder), "Copy the file"):
        assert part in str(error.value)


def test_links_out_of_the_folder_are_refused_and_links_within_it_are_followed(folder):
    write_obj(folder / "a.obj")
    source = write(folder, asset='<mesh name="a" file="link.obj"/>')
    link = folder / "link.obj"
    link.symlink_to("a.obj")
    assert load_model(source, "fast").nmesh == 1
    link.unlink()
    link.symlink_to(folder.parent / "secret.obj")
    with pytest.raises(InvalidConfigError, match="link.obj"):
        load_model(source, "fast")


def test_a_link_to_a_folder_outside_is_refused(folder):
    (folder / "meshes").symlink_to(folder.parent)
    source = write(folder, compiler='<compiler meshdir="meshes"/>', asset='<mesh name="a" file="secret.obj"/>')
    with pytest.raises(InvalidConfigError, match="meshes"):
        load_model(source, "fast")


def test_dots_behind_a_link_lead_where_mujoco_goes(folder):
    (folder / "near" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("near/deep")
    write_obj(folder / "secret.obj")  # where the link's own parents would lead
    source = write(folder, asset='<mesh name="a" file="link/../../secret.obj"/>')
    with pytest.raises(InvalidConfigError, match="link"):
        load_model(source, "fast")


def test_links_in_a_circle_are_no_file(folder):
    (folder / "a.obj").symlink_to("b.obj")
    (folder / "b.obj").symlink_to("a.obj")
    with pytest.raises(InvalidConfigError, match="a.obj"):
        load_model(write(folder, asset='<mesh name="a" file="a.obj"/>'), "fast")


@pytest.mark.parametrize("name", ["include", "model"])
def test_what_an_included_or_attached_file_refers_to_is_checked_too(folder, name):
    root = "mujocoinclude" if name == "include" else "mujoco"
    (folder / "part.xml").write_text(f'<{root}><asset><mesh name="b" file="../secret.obj"/></asset></{root}>')
    include = '<include file="part.xml"/>' if name == "include" else ""
    source = write(folder, more=include, asset='<model name="a" file="part.xml"/>' if name == "model" else "")
    with pytest.raises(InvalidConfigError, match=r"\.\./secret\.obj"):
        load_model(source, "fast")


def test_the_last_setting_of_a_directory_counts_wherever_it_stands(folder):
    write_obj(folder / "meshes" / "a.obj")
    (folder / "late.xml").write_text('<mujocoinclude><compiler meshdir="meshes"/></mujocoinclude>')
    asset, more = '<mesh name="a" file="a.obj"/>', '<include file="late.xml"/>'
    assert load_model(write(folder, compiler='<compiler meshdir="other"/>', asset=asset, more=more), "fast").nmesh == 1
    (folder / "late.xml").write_text('<mujocoinclude><compiler meshdir=".."/></mujocoinclude>')
    with pytest.raises(InvalidConfigError, match=r"refers to '\.\.'"):
        load_model(write(folder, compiler='<compiler meshdir="meshes"/>', asset=asset, more=more), "fast")


def test_files_of_a_model_given_as_text_lie_in_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_obj(folder / "a.obj")
    mesh = '<mesh name="a" file="{}a.obj"/>'
    text = ROBOT.format(compiler="", asset=mesh, geom='type="mesh" mesh="a"', more="")
    assert load_model(text.format(""), "fast").nmesh == 1
    with pytest.raises(InvalidConfigError, match="given as text"):
        load_model(text.format("../robot/../"), "fast")


@pytest.mark.parametrize(
    "comment", ["<!-- -- hips -- -->", "<!-- don't -->", '<!-- <include file="../secret.xml"/> -->']
)
def test_comments_that_mujoco_accepts_are_accepted(folder, comment):
    assert load_model(write(folder, more=comment), "fast").nu == 1


@pytest.mark.parametrize("text", ["<mujoco>", "<!DOCTYPE a><mujoco/>", "<mujoco a=b/>", "<mujoco/><mujoco/>"])
def test_what_is_not_plain_xml_is_refused(folder, text):
    (folder / "robot.xml").write_text(text)
    with pytest.raises(InvalidConfigError, match=r"robot\.xml"):
        load_model(str(folder / "robot.xml"), "fast")


def test_files_that_include_each_other_are_refused_and_not_followed_for_ever(folder):
    (folder / "a.xml").write_text('<mujocoinclude><include file="b.xml"/></mujocoinclude>')
    (folder / "b.xml").write_text('<mujocoinclude><include file="a.xml"/></mujocoinclude>')
    with pytest.raises(InvalidConfigError):
        load_model(write(folder, more='<include file="a.xml"/>'), "fast")


URDF = """<?xml version="1.0"?>
<robot name="arm">
  {mujoco}
  <link name="base"/>
  <link name="upper">
    <inertial><mass value="2"/><origin xyz="0 0 0.25"/>
      <inertia ixx="0.05" iyy="0.05" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><geometry>{geometry}</geometry></collision>
  </link>
  <joint name="shoulder" type="revolute">
    <parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-1.5" upper="1.5" effort="9" velocity="5"/>
  </joint>
</robot>
"""
CYLINDER = '<cylinder radius="0.05" length="0.5"/>'


def add_motor(spec: mujoco.MjSpec) -> None:
    spec.add_actuator(name="shoulder", target="shoulder", trntype=mujoco.mjtTrn.mjTRN_JOINT)


def test_a_urdf_without_actuators_is_loaded_when_an_edit_adds_them(folder):
    path = folder / "arm.urdf"
    path.write_text(URDF.format(mujoco="", geometry=CYLINDER))
    model = load_model(str(path), "fast", edit=add_motor)
    assert (model.nq, model.nu, model.body_mass.sum()) == (1, 1, 2.0)
    assert model.joint("shoulder").range == pytest.approx((-1.5, 1.5))
    with pytest.raises(InvalidConfigError, match=r"no actuator.*Task\.edits"):
        load_model(str(path), "fast")


def test_meshes_of_a_urdf_are_confined_to_its_folder_too(folder):
    path = folder / "arm.urdf"
    path.write_text(URDF.format(mujoco="", geometry='<mesh filename="../secret.obj"/>'))
    with pytest.raises(InvalidConfigError, match=r"\.\./secret\.obj"):
        load_model(str(path), "fast", edit=add_motor)
    write_obj(folder / "meshes" / "secret.obj")
    stripped = '<mujoco><compiler meshdir="meshes" strippath="true"/></mujoco>'
    path.write_text(URDF.format(mujoco=stripped, geometry='<mesh filename="package://arm/secret.obj"/>'))
    assert load_model(str(path), "fast", edit=add_motor).nmesh == 1


@pytest.mark.parametrize("source", ["ksim:kbot.xml", "ksim:zbot.xml", "ksim:humanoid.xml", "gymnasium:hopper.xml"])
def test_models_are_found_on_the_shelves(source):
    assert load_model(source, "fast").nu > 0


@pytest.mark.parametrize(
    ("source", "near"), [("ksim:kbott.xml", "ksim:kbot.xml"), ("gymnasium:hoper.xml", "gymnasium:hopper.xml")]
)
def test_a_misspelt_name_on_a_shelf_is_answered_with_the_near_misses(source, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        load_model(source, "fast")


def test_nothing_beside_a_shelf_can_be_named():
    with pytest.raises(UnknownNameError):
        load_model("ksim:../assets/kbot.xml", "fast")


@pytest.mark.parametrize(
    "geom",
    ['mass="nan"', 'mass="inf"', 'pos="0 NaN 0"', 'friction="-nan 0 0"', 'density="inf"'],
)
def test_a_model_with_a_number_that_is_not_finite_is_refused(folder, geom):
    """MuJoCo takes them: a mass that is no number for none given, the others as they are."""
    geom = f'type="sphere" size="0.1" {geom}'
    with pytest.raises(InvalidConfigError, match=r"nan|NaN|not finite in .*body_mass"):
        load_model(write(folder, geom=geom), "fast")


@pytest.mark.parametrize("name", ["nan-1", "no nan here"])
def test_a_material_may_be_called_nan(folder, name):
    source = write(folder, asset=f'<material name="{name}"/>', geom=f'size="0.1" material="{name}"')
    assert load_model(source, "fast").nmat == 1


# What is added to them


@pytest.mark.parametrize("name", ["humanoid.xml", "walker2d_v5.xml"])
def test_a_robot_moves_by_the_same_bits_whether_islands_are_searched_for_or_not(name):
    whole = load_model(f"gymnasium:{name}", "fast")
    searching = copy.copy(whole)
    searching.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    assert searching.opt.disableflags != whole.opt.disableflags
    states, most_islands = [], 0
    for model in (whole, searching):
        data = mujoco.MjData(model)
        for ctrl in np.random.default_rng(0).uniform(-1, 1, (300, model.nu)):
            data.ctrl[:] = ctrl
            mujoco.mj_step(model, data)
            most_islands = max(most_islands, data.nisland)
        states.append(np.concatenate([data.qpos, data.qvel]))
    assert most_islands == 1
    np.testing.assert_array_equal(*states)
