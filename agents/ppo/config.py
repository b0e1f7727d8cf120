"""Every setting of a PPO run, with its unit and range."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ksim_envs.errors import InvalidConfigError, unknown_name

Activation = Literal["silu", "tanh", "relu", "elu"]
Memory = Literal["none", "gru", "lstm"]
Squash = Literal["none", "tanh"]


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of `agents.ppo.train`."""

    seed: int = 0
    """Root of all randomness, in [0, 2**63)."""
    num_seeds: int = 1
    """Independent runs to train as one program, from `seed`, `seed + 1` and so on. Env steps are counted for each."""
    total_env_steps: int = 10_000_000
    """Environment steps to train for, more than one dataset has: the first only measures the observations. Rounded up
    to whole iterations."""
    backend: Literal["auto", "native", "mjx"] = "auto"
    """The physics engine: C MuJoCo on CPU threads, or MJX; auto takes native on a CPU."""
    dynamics: Literal["fast", "gymnasium"] = "fast"
    """The integrator and solver; gymnasium means those of Gymnasium's own model file."""
    num_threads: int | None = None
    """Threads of the native backend; one for each processor when not given. Results do not depend on it."""

    num_envs: int = 2048
    """Environments that run in parallel, at least 1."""
    num_env_states_per_minibatch: int = 2048
    """Size of a minibatch: environment states in one gradient step, at least 1."""
    num_minibatches: int = 20
    """Gradient steps in an epoch. With the minibatch size it defines the dataset, and so the rollout length."""
    num_epochs: int = 4
    """Passes through the dataset before new data are collected, at least 1."""
    contact_spread: float = 0.0
    """Make the envs' contacts softer or harder, and more or less damped, in each episode: by factors of up to 1 plus
    this, not negative. A policy then relies less on how one integrator computes them. Evaluations never do."""
    stagger_first_episodes: bool = True
    """Give the envs first episodes of different lengths, so that later time limits do not all come at once."""

    learning_rate: float = 3e-4
    """Step size of Adam, positive: before any env step, falling in proportion to those taken; see also `desired_kl`."""
    final_learning_rate: float = 3e-5
    """Step size after all env steps, positive; without effect with `desired_kl`."""
    desired_kl: float | None = None
    """Adapt the step size after each epoch to keep the policy's change near this KL divergence, in nats."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm, positive."""

    gamma: float = 0.99
    """Discount for each control step, in [0, 1]."""
    gae_lambda: float = 0.95
    """Decay of advantage estimation (Schulman et al. 2016), in [0, 1]."""
    clip_ratio: float = 0.2
    """Range of the surrogate's probability ratio around 1 (Schulman et al. 2017), positive."""
    clip_value: float | None = None
    """Range of the value function's change in one iteration, positive, in scaled reward; unclipped when not given."""
    value_loss_coef: float = 0.5
    """Weight of the value loss, not negative."""
    entropy_coef: float = 1e-3
    """Weight of the policy's entropy, not negative."""
    normalize_advantages: bool = True
    """Give each minibatch's advantages mean 0 and standard deviation 1."""
    normalize_observations: bool = True
    """Give observations mean 0 and standard deviation 1 by running statistics, frozen within an iteration."""
    reward_scale: float = 0.1
    """Factor on rewards before learning, positive; reported returns are unscaled."""

    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the actor, and of the critic."""
    activation: Activation = "silu"
    """Nonlinearity after each hidden layer."""
    memory: Memory = "none"
    """A recurrent cell before the hidden layers, in the actor and in the critic."""
    memory_size: int = 128
    """Width of the recurrent cell, at least 1."""
    privileged: tuple[str, ...] = ()
    """Names of metrics of the task that the critic sees besides the observations; the policy does not need them."""
    initial_std: float = 0.5
    """Standard deviation of the actions at the start, in units of half the action range, positive."""
    squash: Squash = "none"
    """How an action keeps to its bounds: clipped by the env, or squashed by tanh."""

    num_eval_envs: int = 64
    """Episodes of an evaluation, each in an env of its own, at least 1."""
    eval_interval_env_steps: int = 1_000_000
    """Environment steps between evaluations, at least 1; the trained policy is always evaluated."""
    checkpoint_interval_env_steps: int = 1_000_000
    """Environment steps between checkpoints, at least 1; there is always one at the end."""
    num_checkpoints: int = 3
    """Newest checkpoints to keep, at least 1; the one with the best evaluation is kept besides."""

    @property
    def dataset_size(self) -> int:
        """Environment states used for one update."""
        return self.num_env_states_per_minibatch * self.num_minibatches

    @property
    def rollout_length(self) -> int:
        """Control steps that each env takes in one iteration."""
        return self.dataset_size // self.num_envs

    @property
    def num_iterations(self) -> int:
        """Iterations of collecting and learning, the first of which only measures the observations."""
        return -(-self.total_env_steps // self.dataset_size)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PPOConfig:
        """The inverse of `to_dict`.

        Raises:
            UnknownNameError: there is no such setting.
            InvalidConfigError: a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown_name("setting", name, known)
        return cls(**values)

    def __post_init__(self) -> None:
        """Check every value, and that the rollout length is whole."""
        for name in ("hidden_sizes", "privileged"):
            if not isinstance(getattr(self, name), list | tuple):
                raise InvalidConfigError(f"{name} is {getattr(self, name)!r}; give a tuple.")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, values in _CHOICES.items():
            if getattr(self, name) not in values:
                raise unknown_name(f"value of {name}", str(getattr(self, name)), values)
        given = {name: value for name, value in vars(self).items() if value is not None or name not in _OPTIONAL}
        for name in _COUNTS & given.keys():
            _check_count(name, given[name])
        for size in self.hidden_sizes:
            _check_count("one of hidden_sizes", size)
        for name in _RANGES.keys() & given.keys():
            _check_number(name, given[name], *_RANGES[name])
        is_integer = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if not is_integer or not 0 <= self.seed < 2**63 - self.num_seeds:
            raise InvalidConfigError(f"seed is {self.seed!r}; it must be an integer in [0, 2**63 - num_seeds).")
        self._check_rollout_length()
        if self.num_iterations < 2:
            raise InvalidConfigError(
                f"total_env_steps is {self.total_env_steps}; the first {self.dataset_size} only measure the "
                f"observations, so give at least {self.dataset_size + 1}."
            )

    def _check_rollout_length(self) -> None:
        """The dataset must be a whole number of steps of every env; a minibatch of whole sequences, with a memory."""
        size, envs = self.dataset_size, self.num_envs
        if size % envs:
            counts = _nearest_multiples(self.num_minibatches, self.num_env_states_per_minibatch, envs)
            sizes = _nearest_multiples(self.num_env_states_per_minibatch, self.num_minibatches, envs)
            raise InvalidConfigError(
                f"num_env_states_per_minibatch * num_minibatches = {self.num_env_states_per_minibatch} * "
                f"{self.num_minibatches} = {size} states are {size / envs:.2f} steps of num_envs = {envs}; the rollout "
                f"length must be whole. The nearest that fit: num_env_states_per_minibatch = {sizes}, or "
                f"num_minibatches = {counts}."
            )
        if self.memory != "none" and self.num_env_states_per_minibatch % self.rollout_length:
            raise InvalidConfigError(
                f"num_env_states_per_minibatch = {self.num_env_states_per_minibatch} is not a multiple of the rollout "
                f"length {self.rollout_length}; with memory={self.memory!r} a minibatch holds whole sequences. "
                f"Let num_minibatches divide num_envs = {envs}."
            )


_COUNTS = {
    "num_threads",
    "num_seeds",
    "total_env_steps",
    "num_envs",
    "num_env_states_per_minibatch",
    "num_minibatches",
    "num_epochs",
    "memory_size",
    "num_eval_envs",
    "eval_interval_env_steps",
    "checkpoint_interval_env_steps",
    "num_checkpoints",
}
_TYPES = get_type_hints(PPOConfig)
_OPTIONAL = {name for name, kind in _TYPES.items() if NoneType in get_args(kind)}
_CHOICES: dict[str, tuple[str, ...]] = {
    name: get_args(kind) for name, kind in _TYPES.items() if get_origin(kind) is Literal
}
_INF = float("inf")
_RANGES: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (0, _INF, True),
    "final_learning_rate": (0, _INF, True),
    "desired_kl": (0, _INF, True),
    "max_grad_norm": (0, _INF, True),
    "gamma": (0, 1, False),
    "gae_lambda": (0, 1, False),
    "clip_ratio": (0, _INF, True),
    "clip_value": (0, _INF, True),
    "value_loss_coef": (0, _INF, False),
    "entropy_coef": (0, _INF, False),
    "contact_spread": (0, _INF, False),
    "reward_scale": (0, _INF, True),
    "initial_std": (0, _INF, True),
}
"""Lower bound, upper bound, and whether the lower bound itself is excluded."""


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidConfigError(f"{name} is {value!r}; it must be an integer of at least 1.")


def _check_number(name: str, value: Any, low: float, high: float, is_open: bool) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or value > high or (is_open and value == low):
        bounds = f"{'(' if is_open else '['}{low}, {high}{')' if high == _INF else ']'}"
        raise InvalidConfigError(f"{name} is {value!r}; it must be a number in {bounds}.")


def _nearest_multiples(value: int, factor: int, envs: int) -> str:
    """The values around this one that with the factor are multiples of `envs`, in words."""
    step = envs // math.gcd(factor, envs)
    below = value // step * step
    return f"{below} or {below + step}" if below else f"{step}"
