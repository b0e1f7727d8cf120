"""Where a library is not installed, what needs it names the extra to install."""

import json
import subprocess
import sys

import pytest

NEEDS = {
    "stable_baselines3": ("import ksim_envs.adapters.sb3", "needs Stable-Baselines3", "ksim-envs[sb3]"),
    "rsl_rl": ("import ksim_envs.adapters.rsl_rl", "needs rsl_rl", "ksim-envs[rsl-rl]"),
    "skrl": (
        "import ksim_envs\nfrom ksim_envs.adapters.skrl import wrap_env\nwrap_env(ksim_envs.make('ksim/Hopper-v0', 2))",
        "needs skrl and torch",
        "ksim-envs[skrl]",
    ),
    "gymnax": ("import ksim_envs.adapters.gymnax", "needs gymnax", "ksim-envs[gymnax]"),
    "rl_games": ("import ksim_envs.adapters.rl_games", "needs rl_games", "ksim-envs[rl-games]"),
    "brax": (
        "from ksim_envs.adapters.functional import FunctionalEnv, wrap\nwrap(FunctionalEnv('ksim/Hopper-v0'))",
        "functional.wrap needs brax",
        "ksim-envs[brax]",
    ),
}
"""What needs each library, and what its error says."""


PROGRAM = """
import json, sys

errors, codes = {}, json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(codes))
for library, code in codes.items():
    try:
        exec(code, {})
    except Exception as error:
        errors[library] = f"{type(error).__name__}: {error}"
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors():
    """What goes wrong in a process that has none of the libraries."""
    codes = json.dumps({library: code for library, (code, _, _) in NEEDS.items()})
    child = subprocess.run([sys.executable, "-c", PROGRAM, codes], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize("library", NEEDS)
def test_the_error_names_the_extra_to_install(errors, library):
    _, words, extra = NEEDS[library]
    assert errors[library].startswith("MissingDependencyError: ")
    assert f'{words}: pip install "{extra}"' in errors[library]
