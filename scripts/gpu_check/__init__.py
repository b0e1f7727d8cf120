"""Checks and measures `ksim_envs` on a machine with an accelerator; `__main__.py` says how."""
