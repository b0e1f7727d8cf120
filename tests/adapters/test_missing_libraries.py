"""Where a library is not installed, what needs it names the extra to install; nothing else needs it."""

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


@pytest.mark.parametrize("library", NEEDS)
def test_the_error_names_the_extra_to_install(library):
    code, words, extra = NEEDS[library]
    code = f"import sys; sys.modules[{library!r}] = None\n{code}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stderr
    assert "MissingDependencyError" in shown and f'{words}: pip install "{extra}"' in shown
