"""Group-relative advantages over anchors: an action is judged by what copies of the same state made of others.

Group-relative policy optimisation (Shao et al., arXiv:2402.03300) compares several answers to one question. Here a
rollout begins with every environment of a group in the same state, that of one of them; each member is sent along
another anchor first and goes on by itself. What a member gains over the others is the advantage of all it did.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_LEAST_SPREAD = 1e-3  # of returns in a group: below it the members did equally well, and nothing is learned


def leaders(num: int, size: int, key: jax.Array) -> jax.Array:
  """[num] whose state each environment takes over: that of a random member of its group of `size` neighbours."""
  first = jnp.arange(num) // size * size
  return first + jnp.repeat(jax.random.randint(key, (num // size,), 0, size), size)


def ranked_modes(logits: jax.Array, size: int) -> jax.Array:
  """[B] the mode that each environment is sent along first, of scores [B, M]: member g takes the g-th best."""
  rank = jnp.arange(logits.shape[0]) % size
  return jnp.take_along_axis(jnp.argsort(-logits, axis=-1), rank[:, None], axis=-1)[:, 0]


def group_advantages(
  rewards: jax.Array,
  values: jax.Array,
  last_value: jax.Array,
  terminated: jax.Array,
  truncated: jax.Array,
  gamma: float,
  size: int,
) -> jax.Array:
  """[T, B] advantages of a rollout that began in copied states; arguments as `gae.generalised_advantages`.

  A member's return is what it was paid until its episode or the rollout ended, and the value of where it was then.
  Its advantage is the difference to the mean of its group in deviations of the group; steps of later episodes have
  none, since their worlds differ.
  """

  def back(following: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
    reward, value, terminated, truncated = step
    return reward + gamma * jnp.where(terminated, 0.0, jnp.where(truncated, value, following)), None

  returns, _ = jax.lax.scan(back, last_value, (rewards, values, terminated, truncated), reverse=True)
  grouped = returns.reshape(-1, size)
  spread = grouped.std(axis=-1, keepdims=True)
  relative = jnp.where(spread < _LEAST_SPREAD, 0.0, (grouped - grouped.mean(axis=-1, keepdims=True)) / spread)
  ended = (terminated | truncated).astype(jnp.int32)
  is_later = jnp.cumsum(ended, axis=0) - ended > 0
  return jnp.where(is_later, 0.0, relative.reshape(-1))
