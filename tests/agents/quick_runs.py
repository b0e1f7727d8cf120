"""Runs that are about something else than compiling and filming, which take longer than they do."""

import functools
import types
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agents.ppo import PPOConfig, run

_INTERVALS = ("eval_interval_env_steps", "checkpoint_interval_env_steps", "num_checkpoints")
"""Settings that are in no program."""


@contextmanager
def quick_runs() -> Generator[None]:
    """Lets runs in this process share their programs where core and settings are equal, and leave out the video."""
    whatever = PPOConfig()
    compiled = functools.lru_cache(run.Trainer)

    def trainer(core, config):
        return compiled(core, replace(config, **{name: getattr(whatever, name) for name in _INTERVALS}))

    trainer.cache_clear = compiled.cache_clear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Trainer", trainer)
        patch.setattr(run, "Evaluator", functools.lru_cache(run.Evaluator))
        patch.setattr(run, "video", types.SimpleNamespace(record=lambda policy, task_id, path, *, config: path))
        yield


def begin_as_a_new_process():
    """Let the next run make its own trainer and evaluator, which know nothing of the runs before; it compiles anew."""
    run.Trainer.cache_clear()
    run.Evaluator.cache_clear()
