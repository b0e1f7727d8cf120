"""The typed errors and warnings of the agents. Each message says what was found, what is allowed, and the remedy."""

from __future__ import annotations

import signal

from ksim_envs.errors import KsimError


class CheckpointError(KsimError, ValueError):
    """A checkpoint is missing, foreign, or made with other settings; or a tree cannot be saved as one."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: a file is cut, changed, missing, or not ours."""


class RunFolderError(KsimError, RuntimeError):
    """A run folder is in use by another process, or cannot be one."""


class TrainingDivergedError(KsimError, RuntimeError):
    """No gradient step is finite any more; the last checkpoint has the parameters of the last one that was."""


class DivergenceWarning(UserWarning):
    """Many rows diverge in training, which goes on without them."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be saved, or a damaged one was passed over; training goes on."""


class TrainingStopped(KsimError, RuntimeError):  # noqa: N818 (nothing is wrong)
    """A signal asked a training run to stop."""

    def __init__(self, received: signal.Signals, command: str, env_steps: int, saved_env_steps: int) -> None:
        """Word the message.

        Args:
            received: the signal.
            command: what goes on with the run.
            env_steps: how far it came.
            saved_env_steps: how far the newest checkpoint is.
        """
        super().__init__(
            f"stopped by {received.name} after {env_steps:,} env steps; the newest checkpoint is of "
            f"{saved_env_steps:,}. To go on: {command}"
        )
        self.received = received
