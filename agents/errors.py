"""The typed errors and warnings of the agents. Each message says what was found, what is allowed, and the remedy."""

from __future__ import annotations

import signal
from pathlib import Path

from ksim_envs.errors import KsimError


class CheckpointError(KsimError, ValueError):
    """A checkpoint is missing, foreign, or made with other settings; or a tree cannot be saved as one."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: a file is cut, changed, missing, or not ours."""


class RunFolderError(KsimError, RuntimeError):
    """A run folder is in use by another process, or cannot be one."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be saved, or a damaged one was passed over; training goes on."""


class TrainingStopped(KsimError, RuntimeError):  # noqa: N818 (nothing is wrong)
    """A signal asked a training run to stop; it has saved a checkpoint."""

    def __init__(self, received: signal.Signals, run_dir: Path, env_steps: int) -> None:
        """Word the message.

        Args:
            received: the signal.
            run_dir: the folder of the run.
            env_steps: how far it came.
        """
        super().__init__(f"stopped by {received.name} after {env_steps:,} env steps; --resume goes on in {run_dir}.")
        self.received = received
