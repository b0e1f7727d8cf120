"""Versions of libraries: read, compared, and warned of once."""

import pytest

from ksim_envs import versions


def test_a_package_has_its_version_or_is_not_installed():
    assert versions.installed("pytest") == pytest.__version__
    assert versions.installed("a-package-that-nobody-wrote") == "not installed"


@pytest.mark.parametrize(
    ("version", "allowed", "is_allowed"),
    [
        ("3.17.0", "<4,>=3.17", True),
        ("3.17", "<4,>=3.17", True),
        ("3.16.9", "<4,>=3.17", False),
        ("4.0.0", "<4,>=3.17", False),
        ("4.0.0rc1", "<4,>=3.17", False),
        ("3.18.0", "<3.18,>=3.17", False),
        ("0.10.2", ">=0.10", True),
        ("0.9.9", ">=0.10", False),
        ("2.13.0+cpu", ">=2.8", True),
        ("1.0", "", True),
    ],
)
def test_versions_are_held_against_the_allowed_range(version, allowed, is_allowed):
    assert versions.is_allowed(version, allowed) == is_allowed


@pytest.fixture
def unwarned():
    versions.warn_of_others.cache_clear()
    yield
    versions.warn_of_others.cache_clear()


def test_this_environment_has_the_versions_that_we_are_made_for(unwarned, recwarn):
    assert {"mujoco", "mujoco-mjx", "jax", "gymnasium", "numpy"} <= versions.requirements().keys()
    versions.warn_of_others()
    assert not recwarn.list


def test_packages_of_extras_that_somebody_has_are_none_of_our_business(unwarned, monkeypatch, recwarn):
    monkeypatch.setattr(versions.metadata, "requires", lambda package: ["pytest>=999; extra == 'test'", "numpy>=2"])
    assert versions.requirements() == {"pytest": ">=999", "numpy": ">=2"}
    versions.warn_of_others()
    assert not recwarn.list


@pytest.mark.parametrize(("package", "version"), [("mujoco", "4.0.0"), ("mujoco-mjx", "3.18.0"), ("jax", "0.9.1")])
def test_another_version_is_warned_of_once_with_both_and_the_command_that_mends_it(
    unwarned, monkeypatch, recwarn, package, version
):
    installed = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: version if name == package else installed(name))
    versions.warn_of_others()
    versions.warn_of_others()
    (warning,) = recwarn.list
    allowed = versions.requirements()[package]
    assert f"{package} {version} (not {allowed})" in str(warning.message)
    assert f"pip install '{package}{allowed}'" in str(warning.message)
