"""Where people of a walled world stand, and where they want to go: from one free place to another in sight."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from s2e_jax.scene import Scene, Walls, to_street
from s2e_jax.worlds import people_parties
from s2e_jax.worlds.people_paths import NUM_LEGS, nearest_object
from s2e_jax.worlds.people_spawn import static_outlines
from s2e_jax.worlds.people_state import MAX_SPEED, MIN_SPEED, People, PeopleConfig, no_people
from s2e_jax.worlds.walls import walls_at

_CANDIDATES = 16  # places looked at per person and corner: whole vector registers
_OWN = 8  # uniform numbers per person
_ROOM = people_parties.BODY + people_parties.GAP  # m from the middle of a person to any thing
_PASSAGE = people_parties.BODY + 0.08  # m that a leg keeps from walls
_SHORTEST, _LONGEST = 2.0, 14.0  # m of a leg
_LOOKS = 28  # points at which a leg is checked: half a metre apart at most, walls grown by _PASSAGE are wider
_TURNING = 0.5  # gain of going on over turning back, in legs of full length


def in_sight(walls: Walls, start: jax.Array, end: jax.Array) -> jax.Array:
  """[...] bool: a person can walk straight from start to end, both [..., 2] m and at most 14 m apart."""
  share = (jnp.arange(_LOOKS) + 1.0) / _LOOKS
  points = start[..., None, :] + (end - start)[..., None, :] * share[:, None]
  return jnp.min(walls_at(walls, points[..., 0], points[..., 1])[0], axis=-1) > _PASSAGE


def _corners(walls: Walls, start: jax.Array, places: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Paths [N, 6, 2] from starts [N, 2] over some of places [N, 5, K, 2], and how many legs [N] have a length.

  u: [N, 5, K] uniform numbers. Where nothing is in sight a path stays where it is.
  """
  num = start.shape[0]

  def leg(carry: tuple[jax.Array, jax.Array], row: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
    here, before = carry
    there, noise = row
    step = there - here[:, None]
    length = jnp.sqrt(jnp.sum(step * step, axis=-1))
    is_open = in_sight(walls, here[:, None], there) & (length > _SHORTEST) & (length < _LONGEST)
    onward = jnp.sum(step * before[:, None], axis=-1) / jnp.maximum(length, 1e-3)
    score = jnp.where(is_open, length / _LONGEST + _TURNING * onward + noise, -jnp.inf)
    chosen = jnp.arange(there.shape[1]) == jnp.argmax(score, axis=-1)[:, None]
    found = jnp.any(is_open, axis=-1)
    ahead = jnp.sum(jnp.where(chosen[..., None], step, 0.0), axis=1)
    ahead = jnp.where(found[:, None], ahead, 0.0)
    size = jnp.sqrt(jnp.sum(ahead * ahead, axis=-1, keepdims=True))
    return (here + ahead, jnp.where(found[:, None], ahead / jnp.maximum(size, 1e-3), before)), (
      here + ahead,
      found,
    )

  carry = (start, jnp.zeros((num, 2)))
  rows = jnp.moveaxis(places, 1, 0), jnp.moveaxis(u, 1, 0)
  corners, found = jax.lax.scan(leg, carry, rows)[1]
  return jnp.concatenate([start[:, None], jnp.moveaxis(corners, 0, 1)], axis=1), jnp.sum(found, axis=0)


def spawn_among_walls(
  key: jax.Array,
  scene: Scene,
  num: int,
  count: jax.Array | int,
  free_points: jax.Array,
  keep_clear: jax.Array,
  margin: float | jax.Array = 1.5,
  config: PeopleConfig = PeopleConfig(),
) -> People:
  """People of a scene with walls, clear of each other, of walls, of every object and of given points.

  num: person slots (Slots.people). count: how many are wanted, clipped to num; fewer come where there is no room.
  free_points: [F, 2] m in the world, places where people may stand and between which they walk, at random (repeat
  some where there are fewer than F); those too near a wall are left out. keep_clear: [M, 2] m, points that nobody
  spawns within `margin` (m) of. config: everybody walks alone, none hides; who sees no other place stands.
  Consumes the key. ValueError for a scene without walls, or without free points.
  """
  walls = scene.walls
  if walls is None:
    raise ValueError('spawn_among_walls needs scene.walls; use spawn_people for streets')
  if free_points.ndim != 2 or free_points.shape[-1] != 2 or not free_points.shape[0]:
    raise ValueError(f'free_points {free_points.shape} must be [F, 2] with at least one place')
  own_key, place_key, noise_key = jax.random.split(key, 3)
  own = jax.random.uniform(own_key, (num, _OWN))
  index = jax.random.randint(place_key, (num, NUM_LEGS + 1, _CANDIDATES), 0, free_points.shape[0])
  places, noise = free_points[index], jax.random.uniform(noise_key, index.shape)

  spots = places[:, 0]
  x, y = spots[..., 0], spots[..., 1]
  room = jnp.minimum(nearest_object(static_outlines(scene, num), x, y), walls_at(walls, x, y)[0])
  clear = jnp.sqrt(jnp.sum((spots[:, :, None] - keep_clear) ** 2, axis=-1)).min(axis=-1)
  is_free = (room > _ROOM) & (clear > margin)
  reach = jnp.full(num, people_parties.BODY + 0.05)
  best, found = people_parties.choose_places(spots, is_free, noise[:, 0], reach, jnp.arange(num) < count)
  spot = jnp.take_along_axis(spots, best[:, None, None], axis=1)[:, 0]

  path, num_legs = _corners(walls, spot, places[:, 1:], noise[:, 1:])
  is_standing = (own[:, 0] < config.standing) | (num_legs == 0)
  path = jnp.where(is_standing[:, None, None], spot[:, None], path)
  is_scripted = (own[:, 1] < config.scripted) & ~is_standing
  normal = jax.scipy.special.ndtri(jnp.clip(own[:, 2], 1e-4, 1 - 1e-4))
  speed = jnp.clip(config.speed_mean + config.speed_std * normal, MIN_SPEED, MAX_SPEED)
  speed = jnp.where(is_standing, 0.0, speed)
  ahead = path[:, 1] - path[:, 0]
  ahead = ahead / jnp.maximum(jnp.sqrt(jnp.sum(ahead * ahead, axis=-1, keepdims=True)), 1e-3)
  street = to_street(path[..., 0], path[..., 1], scene.ground.curvature)
  return dataclasses.replace(
    no_people(num),
    position=jnp.where(found[:, None], spot, 0.0),
    velocity=jnp.where(found[:, None], speed[:, None] * ahead, 0.0),
    present=found,
    radius=0.22 + 0.05 * own[:, 3],
    height=1.55 + 0.35 * own[:, 4],
    preferred_speed=speed,
    is_scripted=is_scripted,
    yields=is_standing | (~is_scripted & (own[:, 5] < config.yielding)),
    waypoints=jnp.stack(street, axis=-1),
    clock=100 * own[:, 6],
  )
