"""`diagnose` reports what is there, and a remedy for what is wrong; nothing that it tries can take it down."""

import dataclasses

import pytest

from ksim_envs import doctor, program_cache, runtime, versions
from ksim_envs.doctor import KNOWN_TROUBLES, Finding, diagnose


@pytest.fixture(scope="module")
def findings():
    return diagnose()


@pytest.fixture
def probes(monkeypatch):
    """Answers of the child processes, to be replaced by a test."""
    answers = {
        "jax": {"devices": ["cpu:0 cpu"], "platform": "cpu"},
        "backend": {"backend": "native"},
        "egl": {"error": "no EGL"},
        "osmesa": {"error": "no OSMesa"},
    }
    monkeypatch.setattr(doctor, "_run_probe", lambda name: dict(answers[name]))
    monkeypatch.setattr(doctor, "_gl_platforms", lambda: ("egl", "osmesa"))
    monkeypatch.setattr(doctor.shutil, "which", lambda command: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    return answers


def look_up(findings: list[Finding], topic: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.topic == topic]
    return finding


def test_everything_that_matters_is_reported(findings):
    topics = [finding.topic for finding in findings]
    packages = ["ksim-envs", "mujoco", "mujoco-mjx", "jax", "jaxlib", "gymnasium", "numpy", "torch"]
    machine = ["python", "processors", "JAX devices", "backend='auto'", "XLA_FLAGS", "compilation cache"]
    assert set(packages + machine) <= set(topics)
    assert any(topic.startswith("rendering, ") for topic in topics)
    assert all(finding.value for finding in findings)


def test_real_probes_answer(findings):
    assert ":" in look_up(findings, "JAX devices").value
    assert look_up(findings, "backend='auto'").value in ("native", "mjx", "warp")


def test_findings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Finding("a", "b").value = "c"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_version_out_of_range_comes_with_the_command_that_mends_it(monkeypatch, probes):
    monkeypatch.setattr(versions.metadata, "requires", lambda package: ["mujoco<4,>=3.17", "beartype; extra == 'test'"])
    monkeypatch.setattr(versions.metadata, "version", lambda package: "4.0.0")
    finding = look_up(diagnose(), "mujoco")
    assert "4.0.0" in finding.value
    assert finding.remedy == "pip install 'mujoco<4,>=3.17'"


def test_a_package_that_is_not_installed_has_a_remedy_unless_it_is_optional(monkeypatch, probes):
    def missing(package):
        raise versions.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(versions.metadata, "version", missing)
    findings = diagnose()
    assert look_up(findings, "gymnasium").remedy
    assert look_up(findings, "torch").remedy is None


def test_a_mistyped_xla_flag_is_a_finding_and_not_the_end(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_no_such_flag=1")
    (finding,) = doctor._devices(doctor._run_probe("jax"))
    assert "--xla_no_such_flag" in finding.value
    assert "XLA_FLAGS" in str(finding.remedy)


def test_a_probe_that_hangs_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 0.01)
    assert "no answer" in doctor._run_probe("jax")["error"]


def test_rendering_has_remedies_when_no_platform_works(probes):
    findings = diagnose()
    assert look_up(findings, "rendering, osmesa").remedy == "apt-get install libosmesa6; it draws on any CPU"
    assert "libegl1" in str(look_up(findings, "rendering, egl").remedy)


def test_one_working_gl_platform_is_enough(probes):
    probes["egl"] = {}
    findings = diagnose()
    assert look_up(findings, "rendering, egl") == Finding("rendering, egl", "works")
    assert look_up(findings, "rendering, osmesa").remedy is None


def test_a_gl_platform_that_does_not_work_should_not_be_chosen(monkeypatch, probes):
    probes["egl"] = {}
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert "unset it" in str(look_up(diagnose(), "MUJOCO_GL").remedy)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert look_up(diagnose(), "MUJOCO_GL").remedy is None


def test_an_idle_gpu_is_noticed(monkeypatch, probes):
    monkeypatch.setattr(doctor.shutil, "which", lambda command: "/usr/bin/nvidia-smi")
    assert "jax[cuda" in str(look_up(diagnose(), "GPU").remedy)


def test_a_missing_scheduler_flag_has_a_remedy(monkeypatch, probes):
    monkeypatch.setattr(runtime, "scheduler_flag_is_missing", lambda: True)
    assert runtime.SCHEDULER_FLAG in str(look_up(diagnose(), "XLA_FLAGS").remedy)


def test_a_cache_folder_that_cannot_be_written_has_a_remedy(monkeypatch, probes, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(program_cache, "location", lambda: None)
    monkeypatch.setenv("KSIM_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert "KSIM_CACHE_DIR" in str(look_up(diagnose(), "compilation cache").remedy)


def test_a_cache_that_is_off_on_purpose_is_fine(monkeypatch, probes):
    monkeypatch.setattr(program_cache, "location", lambda: None)
    monkeypatch.setenv("KSIM_CACHE_DIR", "off")
    assert look_up(diagnose(), "compilation cache").remedy is None


@pytest.mark.parametrize(
    "remedy",
    ["libegl1", "libosmesa6", "xvfb-run", "--xla_gpu_enable_triton_gemm=false", "ksim cache clear", "mjpython"],
)
def test_each_known_trouble_has_its_remedy(remedy):
    assert any(remedy in str(trouble.remedy) for trouble in KNOWN_TROUBLES)
