# The mujoco wheel ships its C++ modules without stubs, so a type checker finds no MjModel. Until it does, all is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
