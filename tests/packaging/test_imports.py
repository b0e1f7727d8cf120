"""The import rule of the design, held against the syntax tree; what importing loads; what no source may contain."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ksim_envs", "agents")
SOURCES = sorted(path for package in (*PACKAGES, "scripts") for path in (ROOT / package).rglob("*.py"))

# Lowest first. A module imports from its own layer and from those below it; tasks and physics never from each other.
LAYERS = (
    ("errors", "program_cache", "runtime", "versions"),
    ("types",),
    ("guard", "keys", "moments", "rows"),
    ("physics", "tasks"),
    ("dlpack", "spaces", "validate", "programs", "core", "building"),
    ("render",),
    ("vector_env", "single_env"),
    ("registration",),
    ("probe",),
    ("wrappers", "checker", "task_checker", "adapters", "bench", "doctor"),
    ("",),  # ksim_envs itself: the public names
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
STRANGERS = ({"physics", "tasks"},)
PUBLIC_MODULES = {
    "ksim_envs",
    "ksim_envs.bench",
    "ksim_envs.doctor",
    "ksim_envs.errors",
    "ksim_envs.guard",
    "ksim_envs.moments",
    "ksim_envs.program_cache",
    "ksim_envs.render.platforms",
    "ksim_envs.runtime",
    "ksim_envs.tasks.randomizers",
    "ksim_envs.versions",
}

# Optional libraries, each with the only places that may import it.
OPTIONAL = {
    "torch": ("ksim_envs/dlpack.py", "ksim_envs/adapters/"),
    "stable_baselines3": ("ksim_envs/adapters/sb3.py",),
    "rsl_rl": ("ksim_envs/adapters/rsl_rl.py",),
    "tensordict": ("ksim_envs/adapters/",),
    "torchrl": (),
    "skrl": ("ksim_envs/adapters/skrl.py",),
    "gymnax": ("ksim_envs/adapters/gymnax.py",),
    "brax": ("ksim_envs/adapters/functional.py",),
    "rl_games": ("ksim_envs/adapters/rl_games.py",),
    "warp": (),
    "envpool": ("ksim_envs/bench/contestants.py",),
    "glfw": ("ksim_envs/render/",),
    "OpenGL": ("ksim_envs/render/",),
    "wandb": ("agents/logger.py",),
}
UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def imported_modules(tree: ast.AST, path: str) -> set[str]:
    """The absolute names of all modules that a file imports, wherever in the file, relative imports resolved."""
    package = Path(path).parent.parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*above, *([node.module] if node.module else [])))
            names |= {submodule_or_itself(origin, alias.name) for alias in node.names}
    return names


def submodule_or_itself(origin: str, name: str) -> str:
    """`from origin import name` imports the module `origin.name` where there is one, and `origin` otherwise."""
    is_ours = origin.split(".")[0] in PACKAGES
    candidate = ROOT.joinpath(*origin.split("."), name)
    return f"{origin}.{name}" if is_ours and (candidate.is_dir() or candidate.with_suffix(".py").exists()) else origin


def layer_name(module: str) -> str:
    """The part of a `ksim_envs` module's name that places it: `ksim_envs.physics.mjx` is in `physics`."""
    return (*module.split("."), "")[1]


def import_faults(source: str, path: str) -> list[str]:
    """What a file imports against the rule."""
    imports = imported_modules(ast.parse(source), path)
    faults = [fault for module in sorted(imports) if (fault := import_fault(path, module))]
    return [f"{path}: {fault}" for fault in faults]


def import_fault(path: str, module: str) -> str | None:
    home, top = path.split("/")[0], module.split(".")[0]
    if top in ("scripts", "tests") and top != home:
        return f"imports {module}; nothing else imports scripts or tests"
    if top == "agents":
        return f"imports {module}, from a layer above" if home == "ksim_envs" else None
    if top == "ksim_envs":
        return inner_fault(path, module) if home == "ksim_envs" else public_fault(module)
    return library_fault(path, top)


def public_fault(module: str) -> str | None:
    is_public = module in PUBLIC_MODULES or module.startswith("ksim_envs.adapters")
    return None if is_public else f"imports {module}; agents and scripts use public names only"


def inner_fault(path: str, module: str) -> str | None:
    """Whether a module of `ksim_envs` imports one from a layer above it, or from one that it must not know."""
    own = layer_name(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    other = layer_name(module)
    unplaced = {own, other} - LAYER_OF.keys()
    if unplaced:
        return f"{', '.join(sorted(unplaced))} has no place in LAYERS of tests/packaging/test_imports.py"
    if {own, other} in STRANGERS:
        return f"imports {module}; {own} and {other} never import each other"
    return f"imports {module}, from a layer above" if LAYER_OF[other] > LAYER_OF[own] else None


def library_fault(path: str, top: str) -> str | None:
    if top in sys.stdlib_module_names or top in required_libraries() or path.startswith("scripts/"):
        return None
    places = OPTIONAL.get(top, ())
    allowed = any(path == place or (place.endswith("/") and path.startswith(place)) for place in places)
    return None if allowed else f"imports {top}, which is not required; its place is {' or '.join(places) or 'nowhere'}"


def required_libraries() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = (re.split(r"[^\w.-]", requirement)[0] for requirement in project["dependencies"])
    return {"mujoco" if name == "mujoco-mjx" else name.strip() for name in names}


def unsafe_constructs(source: str, path: str) -> list[str]:
    """Where a file could run what it reads: unpickling, evaluated text, a shell."""
    tree = ast.parse(source)
    imports = {module.split(".")[0] for module in imported_modules(tree, path)}
    faults = [f"imports {name}" for name in sorted(imports & UNSAFE_MODULES)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
            faults.append(f"line {call.lineno}: {name}()")
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        faults += [
            f"line {call.lineno}: {name}({argument}={value})"
            for argument, value in keywords.items()
            if argument in ("shell", "allow_pickle") and value != "False"
        ]
    return [f"{path}: {fault}" for fault in faults]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_downwards_and_optional_libraries_stay_in_their_place(path):
    assert import_faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_unpickles_evaluates_or_starts_a_shell(path):
    assert unsafe_constructs(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ksim_envs/tasks/ant.py", "from ksim_envs.physics import backend"),
        ("ksim_envs/tasks/ant.py", "from ..physics.model import load_model"),
        ("ksim_envs/physics/mjx.py", "def f():\n    import ksim_envs.tasks.task"),
        ("ksim_envs/physics/__init__.py", "from ksim_envs import core"),
        ("ksim_envs/core.py", "from ksim_envs.vector_env import KsimVectorEnv"),
        ("ksim_envs/core.py", "from ksim_envs import make"),
        ("ksim_envs/core.py", "import agents"),
        ("ksim_envs/core.py", "import torch"),
        ("ksim_envs/core.py", "import a_library_that_nobody_declared"),
        ("ksim_envs/new.py", "from ksim_envs.core import step"),
        ("ksim_envs/adapters/skrl.py", "import stable_baselines3"),
        ("agents/ppo/train.py", "from ksim_envs.core import step"),
        ("agents/ppo/train.py", "from tests import helpers"),
        ("agents/ppo/train.py", "from scripts.gpu_check import envs"),
        ("scripts/gpu_check/parity.py", "import ksim_envs.physics.mjx"),
        ("scripts/gpu_check/parity.py", "from tests import tiny"),
    ],
)
def test_the_rule_finds_a_planted_import(path, source):
    assert len(import_faults(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "ksim_envs/core.py",
            "from ksim_envs import guard\nfrom ksim_envs.tasks.task import Task\nimport jax, os.path",
        ),
        ("ksim_envs/physics/mjx.py", "from mujoco import mjx\nfrom .model import load_model"),
        ("ksim_envs/dlpack.py", "def f():\n    import torch"),
        ("ksim_envs/__init__.py", "from ksim_envs.vector_env import KsimVectorEnv"),
        ("agents/cli.py", "import ksim_envs\nfrom ksim_envs import bench\nfrom agents import ppo\nimport rich.table"),
        ("scripts/gpu_check/parity.py", "from scripts.gpu_check.envs import make\nfrom ksim_envs import bench"),
    ],
)
def test_the_rule_lets_good_imports_pass(path, source):
    assert import_faults(source, path) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from cloudpickle import loads", "eval('1')", "exec(x)", "run('ls', shell=True)"]
    + ["np.load(f, allow_pickle=True)", "os.system('ls')", "__import__(name)"],
)
def test_the_scan_finds_a_planted_construct(source):
    assert len(unsafe_constructs(source, "ksim_envs/x.py")) == 1


def test_the_scan_lets_harmless_namesakes_pass():
    source = "jax.eval_shape(f)\nmodel.eval()\nnp.load(f, allow_pickle=False)\nre.compile('a')\nspec.compile()"
    assert unsafe_constructs(source, "ksim_envs/x.py") == []


def test_import_ksim_envs_loads_no_jax_torch_mujoco_or_gl():
    heavy = {"jax", "jaxlib", "torch", "mujoco", "OpenGL", "glfw", "matplotlib", "scipy"}
    code = f"import sys, ksim_envs; print(*sorted({heavy!r} & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (child.returncode, child.stdout.strip(), child.stderr) == (0, "", "")


def test_jax_after_import_ksim_envs_starts_no_backend():
    code = "import ksim_envs, jax; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert child.stdout.strip() == "False", child.stderr
