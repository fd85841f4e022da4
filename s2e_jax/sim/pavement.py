"""Where the robot is across the pavements of a scene."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from s2e_jax.scene import Ground, in_rectangles


def _strips(carriageway: jax.Array, paved: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Middles [2] and half widths [2] (m) of the pavements beside a carriageway, 0 where there is none.

  A street without carriageway is one pavement as wide as the street.
  """
  has_road = carriageway[1] > carriageway[0]
  middle = 0.5 * (paved[0] + paved[1])
  low = jnp.stack([paved[0], jnp.where(has_road, carriageway[1], middle)])
  high = jnp.stack([jnp.where(has_road, carriageway[0], middle), paved[1]])
  half = jnp.where(has_road, 0.5 * (high - low), 0.5 * (paved[1] - paved[0]))
  centre = jnp.where(has_road, 0.5 * (low + high), middle)
  return centre, jnp.where(paved[1] > paved[0], jnp.maximum(half, 0.0), 0.0)


def to_pavement_centre(ground: Ground, s: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Way [2] (m along s and d) from a street point to the middle of the pavement it belongs to, and its share.

  The share [] is the distance over half the width of that pavement: 1 at its edge, more beside it. A point belongs
  to the pavement where its share is least; on crossings and plazas both are 0.
  """
  centre_d, half_d = _strips(ground.road, ground.paved)
  centre_s, half_s = _strips(ground.cross_road, ground.cross_paved)
  away = jnp.concatenate([centre_d - d, centre_s - s])
  half = jnp.concatenate([half_d, half_s])
  share = jnp.where(half > 0.05, jnp.abs(away) / jnp.maximum(half, 0.05), jnp.inf)
  best = jnp.arange(4) == jnp.argmin(share)
  way = jnp.sum(jnp.where(best, away, 0.0))
  along_s = jnp.sum(jnp.where(best, jnp.arange(4) >= 2, False))
  free = in_rectangles(s, d, ground.crossings) | in_rectangles(s, d, ground.plazas) | ~jnp.any(half > 0.05)
  way = jnp.where(free, 0.0, jnp.stack([way * along_s, way * (1 - along_s)]))
  return way, jnp.where(free, 0.0, jnp.min(share))
