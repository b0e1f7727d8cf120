"""What SB3's adapter adds to a step of the vector env, and what many time limits in one step do to SB3.

    python -m scripts.sb3_adapter_cost --num-envs 2048 --num-pairs 200
    python -m scripts.sb3_adapter_cost --task ksim/Hopper-v0 --against-gymnasium 16 64 256

Vector env and adapter step the same physics under the same actions, in turn, each first every other time; the median of
the pairs' differences counts. It matters how many episodes end in a step, so there are two cases: random actions, under
which a Humanoid soon falls, and the same task without falling, where only time limits end episodes, some in each step
because first episodes are staggered. The second case is also what SB3's own steps are timed in.

The second command times steps of several numbers of envs, through the adapter and of Gymnasium's own in SB3's
`DummyVecEnv`, in turn and under random actions.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from ksim_envs import KsimVectorEnv, Task, get_task, gymnasium_id
from ksim_envs.adapters.sb3 import KsimVecEnv

NUM_ACTIONS = 16
NUM_WARM_UPS = 40


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m scripts.sb3_adapter_cost", description=__doc__)
    parser.add_argument("--task", default="ksim/Humanoid-v0", help="its id")
    parser.add_argument("--num-envs", type=int, default=2048)
    parser.add_argument("--num-pairs", type=int, default=200, help="of steps")
    parser.add_argument("--against-gymnasium", type=int, nargs="+", metavar="NUM_ENVS", help="for each of these")
    args = parser.parse_args()
    if args.against_gymnasium:
        for num_envs in args.against_gymnasium:
            print(
                f"{args.task}, {num_envs:,} envs: {against_gymnasium(args.task, num_envs, args.num_pairs)}", flush=True
            )
        return
    falling, lasting = get_task(args.task), replace(get_task(args.task), terminations={})
    for name, task in ((f"{args.task}, random actions", falling), (f"{args.task} that never falls", lasting)):
        print(f"{name}, {args.num_envs:,} envs: {cost(task, args.num_envs, args.num_pairs)}", flush=True)
    for staggers in (False, True):
        kind = "staggered" if staggers else "that end together"
        print(f"SB3 collecting, with first episodes {kind}: {spike(lasting, args.num_envs, staggers)}", flush=True)


def cost(task: Task, num_envs: int, num_pairs: int) -> str:
    """The adapter's cost of a step, in words."""
    bare = _make(task, num_envs, stagger=True)
    adapted = KsimVecEnv(_make(task, num_envs, stagger=True))
    bare.reset(seed=[*range(num_envs)])
    adapted.seed(0)  # which is the same
    adapted.reset()
    actions = random_actions(bare.single_action_space, num_envs)
    seconds_P2, num_ended = paired_seconds(bare, adapted, actions, num_pairs)
    bare.close()
    adapted.close()
    alone = 1e3 * np.median(seconds_P2[:, 0])
    low, middle, high = 1e3 * np.percentile(np.diff(seconds_P2)[:, 0], (25, 50, 75))
    return (
        f"vector env {alone:.2f} ms a step; the adapter adds {middle:.2f} ms (quartiles {low:.2f} and {high:.2f}, "
        f"{num_pairs} pairs); {num_ended / num_pairs:.1f} episodes end in a step"
    )


def against_gymnasium(task_id: str, num_envs: int, num_pairs: int) -> str:
    """How long a step takes through the adapter and in SB3's `DummyVecEnv` of Gymnasium's envs, in words."""
    name = gymnasium_id(task_id)
    if name is None:
        raise SystemExit(f"Gymnasium has no {task_id}.")
    adapted = KsimVecEnv(_make(get_task(task_id), num_envs, stagger=True))
    gymnasiums = make_vec_env(name, num_envs, vec_env_cls=DummyVecEnv)
    adapted.reset()
    gymnasiums.reset()
    actions = random_actions(adapted.action_space, num_envs)
    seconds_P2, _ = paired_seconds(adapted, gymnasiums, actions, num_pairs)
    adapted.close()
    gymnasiums.close()
    ours, theirs = 1e3 * np.median(seconds_P2, axis=0)
    return f"{ours:.2f} ms a step, Gymnasium's in DummyVecEnv {theirs:.2f} ms ({theirs / ours:.2f} times as long)"


def random_actions(space: Any, num_envs: int) -> np.ndarray:
    """(NUM_ACTIONS, num_envs, num_actions) float32, from the space of one env."""
    shape = (NUM_ACTIONS, num_envs, *space.shape)
    return np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)


def paired_seconds(
    first: KsimVectorEnv | VecEnv, second: VecEnv, actions: np.ndarray, num_pairs: int
) -> tuple[np.ndarray, int]:
    """Seconds of steps (num_pairs, 2), in turn, and how many episodes ended in those of the second."""
    seconds_P2, num_ended = np.empty((NUM_WARM_UPS + num_pairs, 2)), 0
    for number in range(len(seconds_P2)):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            results: Any = (second if which else first).step(actions[number % len(actions)])
            seconds_P2[number, which] = time.perf_counter() - started
            if which and number >= NUM_WARM_UPS:
                num_ended += int(results[2].sum())
    return seconds_P2[NUM_WARM_UPS:], num_ended


def spike(task: Task, num_envs: int, staggers: bool) -> str:
    """How long SB3's steps take while all episodes come to their time limit, in words."""
    env = KsimVecEnv(_make(task, num_envs, stagger=staggers))
    torch.set_num_threads(1)
    num_steps = 48
    model = PPO("MlpPolicy", env, n_steps=num_steps, batch_size=num_envs, n_epochs=1, device="cpu", seed=0)
    watch = _StepTimes(env, None if staggers else env.env.episode_length - num_steps // 2)
    model.learn(2 * num_steps * num_envs, callback=watch)
    env.close()
    milliseconds = 1e3 * np.array(watch.seconds)
    longest, median = milliseconds.max(), np.median(milliseconds)
    return f"the longest of {len(milliseconds)} steps took {longest:.1f} ms, the median {median:.1f} ms"


class _StepTimes(BaseCallback):
    """Seconds of each step of the second rollout; all episodes are put where they end in its middle, if asked."""

    def __init__(self, env: KsimVecEnv, episode_steps: int | None) -> None:
        super().__init__()
        self._env, self._episode_steps = env, episode_steps
        self._num_rollouts = 0
        self._mark: float | None = None
        self.seconds: list[float] = []

    def _on_rollout_start(self) -> None:
        self._num_rollouts += 1
        self._mark = None
        if self._num_rollouts == 2 and self._episode_steps is not None:
            self._env.env.episode_steps = np.full(self._env.num_envs, self._episode_steps)

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if self._num_rollouts == 2 and self._mark is not None:
            self.seconds.append(now - self._mark)
        self._mark = now
        return True


def _make(task: Task, num_envs: int, *, stagger: bool) -> KsimVectorEnv:
    return KsimVectorEnv(task, num_envs, autoreset_mode="SAME_STEP", stagger_first_episodes=stagger)


if __name__ == "__main__":
    main()
