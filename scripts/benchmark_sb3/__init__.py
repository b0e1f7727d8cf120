"""Compares training with Stable-Baselines3 and SBX on Gymnasium's envs to training on ours; `__main__.py` says how."""
