"""Collecting a Trajectory: a `scan` of policy and env, with everything that learning needs and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Key

from agents.ppo.distributions import in_control_units
from agents.ppo.networks import ActorCritic, Carry, forget
from ksim_envs import Core, EnvState
from ksim_envs.moments import Moments

VALUE_CHUNK = 32
"""Rows whose final observation is valued together: hardly any end in one step, and each must be valued exactly."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """T consecutive steps of E envs. The flags belong to the transition made by the action."""

    obs_TEL: Float[Array, "T E L"]  # what the action was chosen from, as the env gave it; then the privileged metrics
    sample_TEA: Float[Array, "T E A"]  # what the policy drew, before any squashing
    log_prob_TE: Float[Array, "T E"]  # of that, when it was drawn
    value_TE: Float[Array, "T E"]  # of obs_TEL, in scaled reward
    next_value_TE: Float[Array, "T E"]  # of the state that the action led to, before any reset
    reward_TE: Float[Array, "T E"]  # as the env gave it
    terminated_TE: Bool[Array, "T E"]
    truncated_TE: Bool[Array, "T E"]
    is_valid_TE: Bool[Array, "T E"]  # False where the row diverged: the transition is dropped
    is_start_TE: Bool[Array, "T E"]  # the action was the first of an episode: a memory is empty there
    carry_EL_t_0: Carry  # the memories of actor and critic before the first step
    return_TE: Float[Array, "T E"]  # undiscounted, of the episode so far, unscaled
    length_TE: Float[Array, "T E"]  # steps of the episode so far


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Actors:
    """The envs and what acts in them, between two rollouts."""

    env_state: EnvState  # (E, ...)
    carry_EL: tuple[Carry, Carry]  # memories of actor and critic
    is_start_E: Bool[Array, "E"]  # the next action is the first of an episode


def begin(core: Core, model: ActorCritic, key_E: Key[Array, "E"], *, stagger_first_episodes: bool) -> Actors:
    """Reset all envs, with empty memories; the first episode of env i may be cut after a share of i + 1 in E."""
    carry, state = model.initial_carry(), core.reset(key_E)
    return Actors(
        env_state=core.staggered(state) if stagger_first_episodes else state,
        carry_EL=jax.tree.map(lambda leaf: jnp.tile(leaf, (core.num_envs, 1)), carry),
        is_start_E=jnp.ones(core.num_envs, bool),
    )


def collect(
    core: Core,
    model: ActorCritic,
    moments: Moments,
    actors: Actors,
    key: Key[Array, ""],
    *,
    length: int,
    privileged: tuple[str, ...],
) -> tuple[Actors, Trajectory]:
    """Let the policy act for `length` steps of every env.

    Args:
        core: the envs.
        model: the policy and value function.
        moments: normalize the observations.
        actors: the envs' states and memories.
        key: for the actions.
        length: T.
        privileged: names of the metrics that the critic sees too.

    Returns:
        The actors after these steps, and the trajectory.
    """

    def step(actors: Actors, key: Array) -> tuple[Actors, Trajectory]:
        state, is_start_E = actors.env_state, actors.is_start_E
        actor_EL, critic_EL = jax.vmap(forget)(is_start_E, actors.carry_EL)
        obs_EL = observe(privileged, state.obs_EL, state.metrics)
        seen_EL = moments.normalized(obs_EL)
        actor_EL_t_plus_1, mean_EA = jax.vmap(model.actor)(actor_EL, seen_EL[:, : model.num_observations])
        critic_EL_t_plus_1, value_E1 = jax.vmap(model.critic)(critic_EL, seen_EL)
        policy = model.distribution(mean_EA)
        sample_EA = policy.sample(key)
        action_EA = in_control_units(policy.action(sample_EA), *core.action_bounds)
        next_state, result = core.step(state, action_EA)
        is_valid_E = ~result.final_info["diverged"]

        def final_value(carry: Carry, obs: Array) -> Array:
            return model.critic(carry, moments.normalized(obs))[1][0]

        transition = Trajectory(
            obs_TEL=obs_EL,
            sample_TEA=sample_EA,
            log_prob_TE=policy.log_prob(sample_EA),
            value_TE=value_E1[:, 0],
            # of the rows that were cut; those of the others are known in the next step
            next_value_TE=_map_chosen(
                final_value,
                result.truncated_E & ~result.terminated_E & is_valid_E,
                critic_EL_t_plus_1,
                observe(privileged, result.final_obs_EL, result.final_info),
            ),
            reward_TE=result.reward_E,
            terminated_TE=result.terminated_E,
            truncated_TE=result.truncated_E,
            is_valid_TE=is_valid_E,
            is_start_TE=is_start_E,
            carry_EL_t_0=(),
            return_TE=result.final_info["episode_return"],
            length_TE=result.final_info["episode_length"].astype(jnp.float32),
        )
        carry_EL_t_plus_1 = (actor_EL_t_plus_1, critic_EL_t_plus_1)
        return Actors(env_state=next_state, carry_EL=carry_EL_t_plus_1, is_start_E=result.ended_E), transition

    actors_t_f, trajectory = jax.lax.scan(step, actors, jax.random.split(key, length))
    state_t_f = actors_t_f.env_state
    seen_EL_t_f = moments.normalized(observe(privileged, state_t_f.obs_EL, state_t_f.metrics))
    return actors_t_f, _with_next_values(trajectory, model, actors, actors_t_f, seen_EL_t_f)


def observe(privileged: tuple[str, ...], obs_EL: Float[Array, "E L"], metrics: dict[str, Array]) -> Float[Array, "E M"]:
    """What the critic sees: the observations, then the privileged ones among the metrics."""
    return jnp.concatenate([obs_EL, *(metrics[name].reshape(len(obs_EL), -1) for name in privileged)], axis=1)


def _with_next_values(
    trajectory: Trajectory, model: ActorCritic, actors_t_0: Actors, actors_t_f: Actors, seen_EL_t_f: Array
) -> Trajectory:
    """The trajectory with the next values of the steps that did not end an episode, from the step after."""
    critic_EL = jax.vmap(forget)(actors_t_f.is_start_E, actors_t_f.carry_EL[1])
    _, value_E1_t_f = jax.vmap(model.critic)(critic_EL, seen_EL_t_f)
    following_TE = jnp.concatenate([trajectory.value_TE[1:], value_E1_t_f.T])
    ended_TE = trajectory.terminated_TE | trajectory.truncated_TE
    return replace(
        trajectory,
        next_value_TE=jnp.where(ended_TE, trajectory.next_value_TE, following_TE),
        carry_EL_t_0=actors_t_0.carry_EL,
    )


def _map_chosen(function: Callable[..., Array], chosen_E: Array, *rows: object) -> Array:
    """`function` of each chosen row, a chunk at a time; 0 for the others, which cost nothing."""
    num_rows = len(chosen_E)
    chunk = min(VALUE_CHUNK, num_rows)

    def some(loop: tuple[Array, Array]) -> tuple[Array, Array]:
        value_E, pending_E = loop
        rows_R = jnp.nonzero(pending_E, size=chunk, fill_value=num_rows)[0]
        value_R = jax.vmap(function)(*jax.tree.map(lambda leaf: leaf.at[rows_R].get(mode="clip"), rows))
        return value_E.at[rows_R].set(value_R, mode="drop"), pending_E.at[rows_R].set(False, mode="drop")

    return jax.lax.while_loop(lambda loop: loop[1].any(), some, (jnp.zeros(num_rows), chosen_E))[0]
