"""Difficulty that follows success: each environment's level goes up when it arrives and down when it does not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Curriculum:
  """Weighted up-down staircase (Kaernbach 1991): the level settles where the success rate is `target`.

  start: level at first, 0..1. target: success rate above which the level rises, in (0, 1).
  step: gain of level per success; a failure costs step * target / (1 - target).
  review: share of episodes at a level drawn uniformly below the present one, so that nothing is forgotten; they do
  not move the level. is_shared: all environments (of a device) have the mean of their levels.
  """

  start: float = 0.0
  target: float = 0.7
  step: float = 0.02
  review: float = 0.2
  is_shared: bool = False

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    for name in ('start', 'review'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'curriculum {name}={getattr(self, name)!r} must be in 0..1')
    if not 0 < self.target < 1:
      raise ValueError(f'curriculum target={self.target!r} must be in (0, 1): a success rate')
    if not 0 < self.step <= 1:
      raise ValueError(f'curriculum step={self.step!r} must be in (0, 1]')

  def moved(self, level: jax.Array, played: jax.Array, is_done: jax.Array, is_success: jax.Array) -> jax.Array:
    """Levels [B] after a step in which the episodes `is_done` [B] ended; `played` [B]: levels of their worlds."""
    change = jnp.where(is_success, self.step, -self.step * self.target / (1 - self.target))
    counts = is_done & (played >= level - 1e-6)
    level = jnp.clip(level + jnp.where(counts, change, 0.0), 0.0, 1.0)
    return jnp.full_like(level, jnp.mean(level)) if self.is_shared else level

  def drawn(self, key: jax.Array, level: jax.Array) -> jax.Array:
    """Level [] of the next world of one environment at level []; consumes the key."""
    u = jax.random.uniform(key, (2,))
    return jnp.where(u[0] < self.review, u[1] * level, level)
