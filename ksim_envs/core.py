"""The file to read: reset, step and auto-reset of one batch of environments, as pure functions.

`Core.step` reads in the order in which things happen. Everything above it (vector env, single env, adapters, agents)
calls it; below it are the task (named terms, for one env) and the physics backend (batched).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Key

from ksim_envs import guard
from ksim_envs.errors import InvalidActionError, unknown_name
from ksim_envs.guard import Fault
from ksim_envs.keys import episode_key, root_keys, step_key
from ksim_envs.physics.backend import Backend
from ksim_envs.programs import Programs
from ksim_envs.rows import CHUNK, RESET_CHUNK, map_rows
from ksim_envs.tasks.context import OWN_FIELDS, Context, Model
from ksim_envs.tasks.evaluation import Controls, TermValues, begin, control, draw_start, evaluate
from ksim_envs.tasks.randomness import term_key
from ksim_envs.tasks.task import Task
from ksim_envs.tasks.terms import Drive
from ksim_envs.tasks.tracing import action_bounds, slices
from ksim_envs.types import RESET_ALL, Autoreset, EnvState, Info, StepResult, View

EPISODE_FIELDS = ("step_E", "ahead_E", "return_E", "needs_reset_E", "terminated_E", "diverged_E")
"""Fields of a state that a reset sets to zero, but for `diverged_E` of a row whose first state is unusable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Core:
    """One task on one backend for `num_envs` rows.

    Its methods are pure: use them under `jit` and `scan`.
    """

    task: Task
    backend: Backend
    model: Model

    @property
    def num_envs(self) -> int:
        """Number of rows."""
        return self.backend.num_envs

    @property
    def num_actions(self) -> int:
        """Length of one env's action."""
        return len(self.action_bounds[0])

    @property
    def dt(self) -> float:
        """The control period in s."""
        return self.task.frame_skip * self.model.timestep

    @cached_property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(A,) float32 lower and upper bounds of the actions; +-1 for an engine's actuator without a range."""
        return action_bounds(self.task, self.backend.model)

    def slices(self, role: str = "observations") -> dict[str, slice]:
        """Where each term stands in an env's observation, or with the role `"privileged"` in the critic's."""
        return slices(self.task, self.backend.model, role)

    def keys(self, seed: int) -> Key[Array, "E"]:
        """One key for each env: `fold_in(key(seed), env_index)`. Env i has the same key whatever `num_envs` is.

        Args:
            seed: an integer in [0, 2**64).

        Returns:
            (E,) typed keys, for `reset`.
        """
        with jax.default_device(self.backend.device):
            return jax.vmap(jax.random.fold_in, (None, 0))(root_keys([seed])[0], jnp.arange(self.num_envs))

    def keys_of(self, seeds: Sequence[int]) -> Key[Array, "E"]:
        """One key for each env from a seed of its own: that of env 0 under `keys(seed)`."""
        with jax.default_device(self.backend.device):
            return jax.vmap(jax.random.fold_in, (0, None))(root_keys(seeds), 0)

    def reset(self, key_E: Key[Array, "E"], start: dict[str, Array] | None = None) -> EnvState:
        """Begin an episode in every row.

        Args:
            key_E: (E,) typed keys, the root of each row's randomness from here on.
            start: see `reset_rows`.

        Returns:
            The state; its `obs_EL` and `metrics` are those of the first state.
        """
        return self.reset_rows(self.unreset_state(key_E), jnp.ones(self.num_envs, bool), start)

    def step(
        self,
        state: EnvState,
        action_EA: Float[Array, "E A"],
        autoreset: int | Array = Autoreset.SAME_STEP,
        episode_length: int | Array | None = None,
    ) -> tuple[EnvState, StepResult]:
        """One control step of every row.

        Args:
            state: the batch.
            action_EA: (E, A) actions, by default in the engine's control unit; clipped to their bounds, as MuJoCo does.
                An action that is not finite counts as a divergence of its row.
            autoreset: NEXT_STEP resets a row in the step after the one that ended its episode (whose action is then
                ignored), SAME_STEP in the same step, DISABLED not at all: such a row stands still until `reset_rows`.
                `types.RESET_ALL` makes it a reset: nothing is stepped, and every row begins an episode. `jax.grad` goes
                through steps on mjx with DISABLED (as a constant, not traced), where MJX's solver lets it: in models
                without constraints or with `<option iterations="1"/>`.
            episode_length: control steps after which an episode is truncated, of all rows or (E,) of each; None for
                the task's. An episode with a head start is that much shorter; see `staggered`.

        Returns:
            The next state, and what the step returns.

        Raises:
            InvalidActionError: the actions have another shape.
        """
        if jnp.shape(action_EA) != (expected := (self.num_envs, self.num_actions)):
            raise InvalidActionError(f"action has shape {jnp.shape(action_EA)}; it must be {expected}.")
        active_E = ~state.needs_reset_E & (autoreset != RESET_ALL)

        # 1 Actions become controls for each substep, events become pushes.
        action_EA, fault_E = self._bounded(action_EA)
        controls, fields = self.engine_inputs(state, action_EA)
        fault_E |= guard.fault_if(~(_healthy(controls) & guard.healthy(state.model_fields)), Fault.INPUT)

        # 2 Physics substeps.
        steps_E = active_E & (fault_E == 0)
        physics, physics_fault_E = self.backend.step(state.physics, controls.drive.ctrl, steps_E, controls.push, fields)

        # 3 Health check. A row with a fault was not stepped, so its terms see the state before.
        step_E = state.step_E + active_E
        carry = {**state.carry, **controls.carry}
        terms = self._evaluate(replace(state, physics=physics, step_E=step_E, carry=carry), action_EA)
        is_unusable_E = ~_healthy(terms) | state.diverged_E & (state.step_E == 0)  # or the first state's were
        fault_E |= physics_fault_E | guard.fault_if(is_unusable_E, Fault.TERM)
        fault_E = jnp.where(active_E, fault_E, 0)
        diverged_E = fault_E != 0
        counted_E = active_E & ~diverged_E

        # 4 Terminations and time limit.
        limit = self.task.episode_length if episode_length is None else episode_length
        terminated_E = counted_E & terms.terminated
        truncated_E = active_E & (diverged_E | terms.truncated | (step_E + state.ahead_E >= limit))
        ended_E = terminated_E | truncated_E

        # 5 Rewards.
        rewards = guard.zero_rows(~counted_E, terms.rewards)
        reward_E = sum(rewards.values(), jnp.zeros(self.num_envs, jnp.float32))

        # 6 The final observation: what the row shows before any reset.
        final = replace(
            state,
            physics=physics,
            step_E=step_E,
            return_E=state.return_E + reward_E,
            needs_reset_E=state.needs_reset_E | ended_E,
            terminated_E=jnp.where(active_E, terminated_E, state.terminated_E),
            diverged_E=jnp.where(active_E, diverged_E, state.diverged_E),
            fault_count_EC=guard.count(state.fault_count_EC, fault_E),
            obs_EL=guard.keep_rows(counted_E, terms.obs, state.obs_EL),
            metrics=guard.keep_rows(counted_E, terms.metrics, state.metrics),
            commands=guard.keep_rows(counted_E, terms.commands, state.commands),
            carry=guard.keep_rows(counted_E, terms.carry, state.carry),
        )

        # 7 Reset of all rows or of those that ended, in this step or the last, and what the curriculum learns of it.
        resets_E = (
            (autoreset == Autoreset.SAME_STEP) & final.needs_reset_E
            | (autoreset == Autoreset.NEXT_STEP) & state.needs_reset_E
            | (autoreset == RESET_ALL)
        )
        is_never = isinstance(autoreset, int) and autoreset == Autoreset.DISABLED
        after = final if is_never else self.reset_rows(final, resets_E)  # whose loop has no gradient

        # 8 The observation returned.
        return after, StepResult(
            obs_EL=after.obs_EL,
            reward_E=reward_E,
            terminated_E=terminated_E,
            truncated_E=truncated_E,
            ended_E=ended_E,
            info=self.info(after, guard.zero_rows(resets_E, rewards), diverged_E),
            final_obs_EL=final.obs_EL,
            final_info=self.info(final, rewards, diverged_E),
        )

    def engine_inputs(self, state: EnvState, action_EA: Array) -> tuple[Controls, dict[str, Array]]:
        """What the engine is given for a step: controls and pushes, and the model fields that differ between rows."""
        controls = Controls(drive=Drive(ctrl=action_EA[:, None]), push=None, carry={})
        if self.task.actuator or self.task.events:
            controls = self._vmapped(control, state, action_EA, self._chunk)
        return controls, self._engine_fields({**state.model_fields, **controls.drive.model_fields})

    def reset_rows(self, state: EnvState, mask_E: Bool[Array, "E"], start: dict[str, Array] | None = None) -> EnvState:
        """Begin a new episode in some rows; no bit of the others changes, and only these rows cost anything.

        The rows are taken in chunks of fixed size, as many chunks as there are rows to fill them.

        Args:
            state: the batch.
            mask_E: the rows.
            start: `"qpos"` and `"qvel"`, (E, ...) as encoded by `backend.exact`, to begin with instead of drawn ones.

        Returns:
            The batch.
        """
        chunk = RESET_CHUNK if self._chunk else min(self.num_envs, max(RESET_CHUNK, self.num_envs // 16))

        def reset_chunk(carry: tuple[EnvState, Array]) -> tuple[EnvState, Array]:
            state, pending_E = carry
            rows_R = jnp.nonzero(pending_E, size=chunk, fill_value=self.num_envs)[0]
            return self._reset_chunk(state, rows_R, start or {}), pending_E.at[rows_R].set(False, mode="drop")

        return jax.lax.while_loop(lambda carry: carry[1].any(), reset_chunk, (state, mask_E))[0]

    def staggered(self, state: EnvState, episode_length: int | None = None) -> EnvState:
        """The batch with head starts, which leave the episode of row i a share of i + 1 in E of this length.

        Later time limits then do not all come in one step. The next episodes are whole.
        """
        length = self.task.episode_length if episode_length is None else episode_length
        ahead_E = np.arange(self.num_envs - 1, -1, -1) * length // self.num_envs
        return replace(state, ahead_E=jnp.asarray(ahead_E, jnp.int32))

    def reseeded(self, state: EnvState, key_E: Key[Array, "E"], mask_E: Bool[ArrayLike, "E"]) -> EnvState:
        """The batch with new keys in some rows, for `reset_rows` to begin with."""
        return replace(
            state,
            key_E=jnp.where(mask_E, key_E, state.key_E),
            episode_E=jnp.where(mask_E, 0, state.episode_E),
            fault_count_EC=guard.zero_rows(jnp.asarray(mask_E), state.fault_count_EC),
        )

    @cached_property
    def programs(self) -> Programs:
        """Reset and step, compiled."""
        return Programs(self)

    @cached_property
    def shapes(self) -> EnvState:
        """Shapes and dtypes of a state."""
        return jax.eval_shape(lambda: self.unreset_state(self.keys(0)))

    @property
    def num_observations(self) -> int:
        """Length of one env's observation."""
        return self.shapes.obs_EL.shape[1]

    def num_privileged(self, names: Sequence[str]) -> int:
        """How many numbers of one env these metrics are, which a critic sees behind the observation.

        Raises:
            UnknownNameError: the task has no such metric; what it declares as privileged is one of that name.
        """
        for name in names:
            if name not in self.shapes.metrics:
                raise unknown_name("metric of the task", name, self.shapes.metrics)
        return sum(math.prod(self.shapes.metrics[name].shape[1:]) for name in names)

    def info(
        self, state: EnvState, rewards: dict[str, Array] | None = None, diverged_E: Bool[Array, "E"] | None = None
    ) -> Info:
        """The `info` of a step: metrics, commands and reward terms by name, the curriculum's level, the episode so far.

        Leaves have length E. Without rewards and divergences they are zero, as after a reset.
        """
        if rewards is None:
            rewards = dict.fromkeys(self.task.rewards, jnp.zeros_like(state.return_E))
        level = {"curriculum_level": self._level(state)} if self.task.curriculum else {}
        return {
            **state.metrics,
            **state.commands,
            **level,
            **rewards,
            "episode_return": state.return_E,
            "episode_length": state.step_E,
            "diverged": jnp.zeros_like(state.diverged_E) if diverged_E is None else diverged_E,
        }

    def first_state(self, row: EnvState) -> tuple[Array, Array, dict[str, Array]]:
        """What an episode of one row begins with: qpos (nq,) and qvel (nv,), as encoded by `backend.exact`, and fields.

        Args:
            row: its `episode_E` is that of the episode; it needs neither `physics` nor `carry`.
        """
        qpos = self.backend.nominal("qpos0")
        key = episode_key(row.key_E, row.episode_E)
        row = replace(row, model_fields=self._nominal_fields(), commands={})  # those of this episode come later
        ctx = self._context(key, row, self._no_actions(1)[0])
        return draw_start(self.task, qpos, jnp.zeros(self.backend.model.nv, qpos.dtype), ctx)

    def unreset_state(self, key_E: Key[Array, "E"]) -> EnvState:
        """A state in which every row still waits for its first reset."""
        blank = self._blank(key_E)
        terms = jax.eval_shape(lambda: self._vmapped(self._begin, blank, self._no_actions(self.num_envs), self._chunk))
        terms = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), terms)
        return replace(blank, obs_EL=terms.obs, metrics=terms.metrics, commands=terms.commands, carry=terms.carry)

    def _blank(self, key_E: Array) -> EnvState:
        return EnvState(
            physics=self.backend.empty(),
            model_fields={
                name: jnp.tile(value, (self.num_envs,) + (1,) * value.ndim)
                for name, value in self._nominal_fields().items()
            },
            key_E=key_E,
            episode_E=jnp.zeros(self.num_envs, jnp.int32),
            step_E=jnp.zeros(self.num_envs, jnp.int32),
            ahead_E=jnp.zeros(self.num_envs, jnp.int32),
            return_E=jnp.zeros(self.num_envs, jnp.float32),
            needs_reset_E=jnp.ones(self.num_envs, bool),
            terminated_E=jnp.zeros(self.num_envs, bool),
            diverged_E=jnp.zeros(self.num_envs, bool),
            fault_count_EC=jnp.zeros((self.num_envs, len(Fault)), jnp.int32),
            obs_EL=jnp.zeros((self.num_envs, 0), jnp.float32),
            metrics={},
            commands={},
            carry={},
            curriculum=self._no_curriculum(self.num_envs),
        )

    def _bounded(self, action_EA: Array) -> tuple[Array, Array]:
        """Actions clipped to their bounds, zero where not finite, and the faults for these."""
        action_EA = jnp.asarray(action_EA, jnp.float32)
        finite_E = jnp.isfinite(action_EA).all(axis=1)
        low, high = self.action_bounds
        bounded_EA = jnp.clip(jnp.where(finite_E[:, None], action_EA, 0.0), low, high)
        return bounded_EA, guard.fault_if(~finite_E, Fault.ACTION)

    def _evaluate(self, state: EnvState, action_EA: Array) -> TermValues:
        return self._vmapped(evaluate, state, action_EA, self._chunk)

    def _vmapped(self, function: Any, state: EnvState, action_EA: Array, chunk: int | None) -> Any:
        """`function(task, view, ctx, carry)` of every row, so many at a time."""

        def one(row: EnvState, action: Array) -> Any:
            return function(self.task, row.physics.view, self._context(step_key(row), row, action), row.carry)

        seen = replace(state.physics, integration={})
        rows = replace(state, physics=seen, fault_count_EC=None, obs_EL=None, metrics={})
        return map_rows(one, rows, action_EA, chunk=chunk)

    def _context(self, key: Array, row: EnvState, action: Array) -> Context:
        """The context of one row."""
        return Context(
            model=self.model,
            dt=self.dt,
            action=action,
            terminated=row.terminated_E,
            step=row.step_E,
            episode_return=row.return_E,
            level=self._level(row),
            commands=row.commands,
            key=term_key(key),
            run_key=term_key(episode_key(row.key_E, jnp.zeros((), jnp.int32))),
            model_fields=row.model_fields,
        )

    @staticmethod
    def _begin(task: Task, view: View, ctx: Context, carry: Any) -> TermValues:
        return begin(task, view, ctx)

    def _level(self, state: EnvState) -> Array:
        """The curriculum's level, of each row where the state is a batch."""
        curriculum = self.task.curriculum
        if curriculum is None:
            return jnp.ones(state.step_E.shape, jnp.float32)
        level = jax.vmap(curriculum.level) if state.step_E.ndim else curriculum.level
        return level(state.curriculum).astype(jnp.float32)

    def _no_curriculum(self, rows: int) -> Any:
        """What the curriculum knows in rows that have had no episode."""
        carry = self.task.curriculum.init() if self.task.curriculum else ()
        return jax.tree.map(lambda leaf: jnp.tile(leaf, (rows,) + (1,) * jnp.ndim(leaf)), carry)

    def _learnt(self, rows: EnvState) -> Any:
        """What the curriculum knows after the rows' last episodes; broken or diverged ones and NaN teach nothing."""
        curriculum = self.task.curriculum
        if curriculum is None:
            return rows.curriculum

        def one(row: EnvState) -> Any:
            ctx = self._context(step_key(row), row, self._no_actions(1)[0]).stream("curriculum")
            return curriculum(row.curriculum, row.physics.view, ctx)

        slim = replace(rows, fault_count_EC=None, obs_EL=None, metrics={}, carry={})
        learnt = jax.vmap(one)(slim)
        counts_E = rows.needs_reset_E & ~rows.diverged_E & guard.healthy(learnt, bound=math.inf)
        learnt = guard.keep_rows(counts_E, learnt, rows.curriculum)
        return guard.keep_rows(rows.episode_E > 0, learnt, self._no_curriculum(len(rows.step_E)))

    def _reset_chunk(self, state: EnvState, rows_R: Array, start: dict[str, Array]) -> EnvState:
        """Begin a new episode in these rows; an index of `num_envs` stands for no row."""

        def rows_of(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf.at[rows_R].get(mode="clip"), tree)

        def write(tree: Any, new: Any) -> Any:
            return jax.tree.map(lambda leaf, value: leaf.at[rows_R].set(value, mode="drop"), tree, new)

        old = rows_of(state)
        begun = replace(
            old,
            curriculum=self._learnt(old),
            episode_E=old.episode_E + 1,
            **{name: jnp.zeros_like(getattr(old, name)) for name in EPISODE_FIELDS},
        )
        qpos_RL, qvel_RL, fields_RL = jax.vmap(self.first_state)(replace(begun, physics=None, carry={}))
        given = rows_of(start)
        model_fields = write(state.model_fields, fields_RL)
        physics = self.backend.reset_rows(
            state.physics,
            rows_R,
            given.get("qpos", qpos_RL),
            given.get("qvel", qvel_RL),
            self._engine_fields(model_fields),
        )
        fresh = replace(
            state,
            physics=physics,
            model_fields=model_fields,
            **{
                name: write(getattr(state, name), getattr(begun, name))
                for name in (*EPISODE_FIELDS, "episode_E", "curriculum")
            },
        )
        rows = rows_of(fresh)
        terms = self._vmapped(self._begin, rows, self._no_actions(len(rows_R)), chunk=None)
        unhealthy_R = ~_healthy(terms)  # the first step fails then, and reports it
        terms = guard.zero_rows(unhealthy_R, terms)
        return replace(
            fresh,
            diverged_E=write(fresh.diverged_E, unhealthy_R),
            obs_EL=write(state.obs_EL, terms.obs),
            metrics=write(state.metrics, terms.metrics),
            commands=write(state.commands, terms.commands),
            carry=write(state.carry, terms.carry),
        )

    @property
    def _chunk(self) -> int | None:
        """How many rows are computed together: a fixed number on a CPU, all of them on an accelerator."""
        return CHUNK if self.backend.device.platform == "cpu" else None

    def _no_actions(self, rows: int) -> Array:
        return jnp.zeros((rows, self.num_actions), jnp.float32)

    def _nominal_fields(self) -> dict[str, Array]:
        return {
            name: jnp.asarray(self.model.array(name)) if name in OWN_FIELDS else self.backend.nominal(name)
            for name in sorted(self.task.model_fields)
        }

    def _engine_fields(self, model_fields: dict[str, Array]) -> dict[str, Array]:
        return {name: value for name, value in model_fields.items() if name in self.task.engine_fields}


def _healthy(values: Controls | TermValues) -> Array:
    """Whether all of a row is finite, and nothing that its terms remember is NaN."""
    return guard.healthy(replace(values, carry={})) & guard.healthy(values.carry, bound=math.inf)
