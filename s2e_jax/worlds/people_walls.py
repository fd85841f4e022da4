"""People beside walls that are given as a grid of distances: how far a way is free, and never into them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.scene import Walls
from s2e_jax.worlds.people_steering import FREE, safe_approach
from s2e_jax.worlds.walls import walls_at, walls_distance

# m along a heading at which the walls are looked at. Grown by a body and the space it wants, walls are about as
# wide as these steps, so that hardly anything lies between two looks.
LOOKS = np.array([0.2, 0.5, 0.85, 1.25, 1.7, 2.2, 2.8, 3.5, 4.3, 5.15, 6.0], np.float32)
MARGIN = 0.02  # m that people keep from walls beside their own radius
_SLACK = 0.05  # m that walls may swell towards somebody who walks along them
_SHARES = (0.25, 0.5, 0.75, 1.0)  # of a step, where it is checked


def free_way_past_walls(walls: Walls, position: jax.Array, heading: jax.Array, reach: jax.Array) -> jax.Array:
  """Metres [N, K] from position [N, 2] along unit headings [N, K, 2] to the first wall; FREE for none within 6 m.

  Walls are grown by reach [N] (m), but never so far that they hold the person already.
  """
  here = walls_distance(walls, position)[0]
  grown = jnp.minimum(reach, here - _SLACK)
  # looks lead, so that the rest is one plain loop
  at = LOOKS[:, None, None]
  x, y = position[:, 0, None] + at * heading[..., 0], position[:, 1, None] + at * heading[..., 1]
  gaps = jax.lax.optimization_barrier(walls_at(walls, x, y)[0]) - grown[:, None]
  start = jnp.broadcast_to((here - grown)[:, None], gaps.shape[1:])
  before = jnp.concatenate([start[None], gaps[:-1]])
  step = jnp.asarray(np.diff(LOOKS, prepend=0.0).astype(np.float32))[:, None, None]
  share = before / jnp.maximum(before - gaps, 1e-6)
  is_hit = (gaps <= 0) & (before > 0)
  return jnp.min(jnp.where(is_hit, at - step + share * step, FREE), axis=0)


def wall_barrier(walls: Walls, position: jax.Array, radius: jax.Array, dt: float) -> tuple[jax.Array, jax.Array]:
  """Normals [N, 1, 2] of the walls nearest to people, and speed [N, 1] (m/s) at which to approach them."""
  distance, normal = walls_distance(walls, position)
  return normal[:, None], safe_approach(distance - radius - MARGIN, dt)[:, None]


def barrier_ahead(
  walls: Walls, position: jax.Array, velocity: jax.Array, radius: jax.Array, dt: float
) -> tuple[jax.Array, jax.Array]:
  """The same, of the walls nearest to where velocity [N, 2] (m/s) leads in dt (s): others in a corner."""
  distance, normal = walls_distance(walls, position + velocity * dt)
  approach = -jnp.sum(velocity * normal, axis=-1)
  return normal[:, None], (approach + (distance - radius - MARGIN) / dt)[:, None]


def stopped_by_walls(
  walls: Walls, position: jax.Array, velocity: jax.Array, radius: jax.Array, dt: float
) -> jax.Array:
  """Velocity [N, 2] (m/s) cut short before a step of dt (s) that would lead into a wall.

  Whoever is in one already gets no deeper.
  """
  least = jnp.minimum(radius, walls_distance(walls, position)[0])
  share, is_open = jnp.zeros(position.shape[0]), jnp.ones(position.shape[0], bool)
  for part in _SHARES:
    is_open &= walls_distance(walls, position + part * dt * velocity)[0] >= least
    share = jnp.where(is_open, part, share)
  return velocity * share[:, None]
