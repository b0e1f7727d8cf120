"""Gymnasium's vector wrappers, computed where the envs are.

    envs = gym.make("ksim/Ant-v0", num_envs=4096, output="torch", autoreset_mode="same_step")
    envs = NormalizeReward(NormalizeObservation(RecordEpisodeStatistics(envs)))

Names, arguments and results are those of `gymnasium.wrappers.vector` (and of its `FrameStackObservation` for single
envs). These here take any output and leave the device only for NumPy; they work in all three auto-reset modes and over
partial resets, and show the same episodes alike in each. What is no transition counts in no statistic: the step of
NEXT_STEP mode that only resets, and that of a row whose physics diverged.
"""

from __future__ import annotations

from ksim_envs.wrappers.actions import ClipAction, RescaleAction
from ksim_envs.wrappers.episodes import RecordEpisodeStatistics
from ksim_envs.wrappers.normalization import NormalizeObservation, NormalizeReward
from ksim_envs.wrappers.stack import FrameStackObservation

__all__ = [
    "ClipAction",
    "FrameStackObservation",
    "NormalizeObservation",
    "NormalizeReward",
    "RecordEpisodeStatistics",
    "RescaleAction",
]
