"""Advantages by generalised advantage estimation, with termination and time limits apart."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def generalised_advantages(
  rewards: jax.Array,
  values: jax.Array,
  last_value: jax.Array,
  terminated: jax.Array,
  truncated: jax.Array,
  gamma: float,
  lam: float,
) -> tuple[jax.Array, jax.Array]:
  """GAE(lambda) advantages [T, B] and the returns [T, B] (advantages + values) that the critic learns.

  Schulman et al., arXiv:1506.02438. Step t leads from state s_t with values[t] to the state of step t + 1,
  or, where the episode ended, to the first state of the next episode.

  rewards, values: [T, B]. last_value: [B] V of the state after the last step. terminated, truncated: [T, B] bool.
  gamma, lam: discount and lambda in [0, 1].

  Termination has no bootstrap. A time limit bootstraps with r_t + gamma V(s_t), the state *before* the step:
  pictures are taken once per step, after the auto-reset, so no observation of a final state exists. Either cuts
  the recursion. A step that is both counts as terminated.
  """
  chex.assert_rank(rewards, 2)
  chex.assert_equal_shape([rewards, values, terminated, truncated])
  chex.assert_shape(last_value, rewards.shape[1:])
  chex.assert_type([terminated, truncated], bool)
  following = jnp.concatenate([values[1:], last_value[None]])
  following = jnp.where(terminated, 0.0, jnp.where(truncated, values, following))
  delta = rewards + gamma * following - values
  carried = jnp.where(terminated | truncated, 0.0, gamma * lam)

  def back(advantage: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    delta, carried = step
    # select, do not multiply: nothing of the next episode passes, not even a NaN
    advantage = delta + jnp.where(carried > 0, carried * advantage, 0.0)
    return advantage, advantage

  _, advantages = jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, carried), reverse=True)
  return advantages, advantages + values
