"""The clone's own `scripts`, which tests import; sys.path doesn't hold the clone, and a library has that name too."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_FILE = Path(__file__).parents[2] / "scripts" / "__init__.py"
_SPEC = spec_from_file_location("scripts", _FILE)
sys.modules["scripts"] = module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules["scripts"])
