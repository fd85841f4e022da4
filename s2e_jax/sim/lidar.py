"""Clearances around the robot by sector, from the same record that is drawn and touched; exact but for walls."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from s2e_jax.geometry import arctan2
from s2e_jax.scene import Walls
from s2e_jax.structs import CLEARANCE_RANGE, NUM_CLEARANCES
from s2e_jax.worlds.distance import FAR, Outlines, outline_distances
from s2e_jax.worlds.walls import walls_at, walls_distance

NUM_SECTORS = 16
# Rays by which walls are looked for, of the whole circle, and steps along each.
_WALL_RAYS, _WALL_STEPS = 64, 20
_AHEAD_SECTORS = 32  # of a circle, of which NUM_CLEARANCES lie ahead


def _ray_box_distances(shape: Outlines, x: jax.Array, y: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Distance [R, N] (m) along R rays from (x, y) to N rectangles; 0 inside, FAR where a ray misses."""
  dx, dy = x - shape.x, y - shape.y
  u, v = shape.cos * dx + shape.sin * dy, shape.cos * dy - shape.sin * dx
  near, far = jnp.zeros(()), jnp.full((), jnp.inf)
  for start, half, rate in (
    (u, shape.half_x, shape.cos * cos[:, None] + shape.sin * sin[:, None]),
    (v, shape.half_y, shape.cos * sin[:, None] - shape.sin * cos[:, None]),
  ):
    inverse = 1 / jnp.where(jnp.abs(rate) < 1e-6, jnp.copysign(1e-6, rate), rate)
    middle, reach = -start * inverse, half * jnp.abs(inverse)
    near, far = jnp.maximum(near, middle - reach), jnp.minimum(far, middle + reach)
  return jnp.where(near <= far, near, FAR)


def _ray_disc_distances(shape: Outlines, x: jax.Array, y: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Distance [R, M] (m) along R rays from (x, y) to M discs; 0 inside, FAR where a ray misses."""
  dx, dy = shape.disc_x - x, shape.disc_y - y
  along = dx * cos[:, None] + dy * sin[:, None]
  across = dx * sin[:, None] - dy * cos[:, None]
  square = shape.radius * shape.radius - across * across
  root = jnp.sqrt(jnp.maximum(square, 0.0))
  return jnp.where((square >= 0) & (along + root >= 0), jnp.maximum(along - root, 0.0), FAR)


def ray_distances(shape: Outlines, pos: jax.Array, angles: jax.Array) -> jax.Array:
  """Distance [R, P] (m) from pos [2] along world angles [R] to every slot; FAR where a ray misses it."""
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  parts = [ray(shape, pos[0], pos[1], cos, sin) for ray in (_ray_box_distances, _ray_disc_distances)]
  return jnp.where(shape.is_solid, jnp.concatenate(parts, axis=-1), FAR)


def wall_ray_distances(walls: Walls, pos: jax.Array, angles: jax.Array, max_range: float) -> jax.Array:
  """Distance [R] (m) from pos [2] along world angles [R] to the walls, at most max_range; 0 inside them.

  Sphere tracing: nothing is nearer than the distance at a point, so a ray goes on by that much. What grazes a wall
  gets there in ever smaller steps; the rest of its way is where the last two distances meet zero.
  """
  cos, sin = jnp.cos(angles), jnp.sin(angles)

  def advance(_: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    at, gap, _ = carry
    at = jnp.minimum(at + gap, max_range)
    return at, walls_at(walls, pos[0] + at * cos, pos[1] + at * sin)[0], gap

  gap = jnp.broadcast_to(jnp.maximum(walls_distance(walls, pos[None])[0], 0.0), angles.shape)
  at, gap, before = jax.lax.fori_loop(0, _WALL_STEPS, advance, (jnp.zeros_like(gap), gap, gap))
  # the last step was as long as the distance before it
  closing = before - gap
  rest = gap * before / jnp.maximum(closing, 1e-6)
  rest = jnp.where((gap > 0) & (closing > 0), jnp.minimum(rest, max_range), gap)
  return jnp.clip(at + rest, 0.0, max_range)


def wall_clearances(walls: Walls, pos: jax.Array, yaw: jax.Array, max_range: float, sectors: int) -> jax.Array:
  """Distance [sectors] (m) from pos [2] to the nearest wall in each sector, see `sector_clearances`.

  Of some rays in each sector, its borders among them, and of the nearest place of all where the grid tells which
  that is: midway between two walls it does not.
  """
  per_sector = max(_WALL_RAYS // sectors, 2)
  width = 2 * jnp.pi / sectors
  angles = yaw + width / per_sector * jnp.arange(sectors * per_sector)
  rays = wall_ray_distances(walls, pos, angles, max_range).reshape(sectors, per_sector)
  nearest = jnp.minimum(jnp.min(rays, axis=1), jnp.roll(rays[:, 0], -1))
  distance, normal = (x[0] for x in walls_distance(walls, pos[None]))
  bearing = arctan2(-normal[1], -normal[0]) - yaw
  own = jnp.floor(bearing / width).astype(jnp.int32) % sectors
  is_surface = walls_distance(walls, (pos - distance * normal)[None])[0] < 0.5 * walls.cell
  return jnp.where((jnp.arange(sectors) == own) & is_surface, jnp.minimum(nearest, distance), nearest)


def sector_clearances(
  shape: Outlines,
  pos: jax.Array,
  yaw: jax.Array,
  max_range: float = 10.0,
  sectors: int = NUM_SECTORS,
  walls: Walls | None = None,
) -> jax.Array:
  """Distance [sectors] (m) from pos [2] to the nearest thing in each sector, at most max_range.

  Sector k spans robot-frame bearings 2 pi k / sectors to 2 pi (k + 1) / sectors, so 0 begins straight ahead and
  counts to the left. Exact, as every outline is convex: its nearest point within a wedge is its nearest point of
  all or lies on one of the two border rays. walls: of the scene; they are found to within a cell of their grid.
  """
  width = 2 * jnp.pi / sectors
  rays = jnp.min(ray_distances(shape, pos, yaw + width * jnp.arange(sectors)), axis=-1)
  distance, normal = (x[0] for x in outline_distances(shape, pos[None]))
  bearing = arctan2(-normal[:, 1], -normal[:, 0]) - yaw
  index = jnp.floor(bearing / width).astype(jnp.int32) % sectors
  own = jnp.min(jnp.where(index[None, :] == jnp.arange(sectors)[:, None], distance, FAR), axis=-1)
  nearest = jnp.minimum(own, jnp.minimum(rays, jnp.roll(rays, -1)))
  if walls is not None:
    nearest = jnp.minimum(nearest, wall_clearances(walls, pos, yaw, max_range, sectors))
  return jnp.clip(nearest, 0.0, max_range)


def clearances_ahead(shape: Outlines, pos: jax.Array, yaw: jax.Array, walls: Walls | None = None) -> jax.Array:
  """Distance [NUM_CLEARANCES] (m) to the nearest thing in sectors of 11.25 degrees ahead, from right to left."""
  around = sector_clearances(shape, pos, yaw, CLEARANCE_RANGE, _AHEAD_SECTORS, walls)
  half = NUM_CLEARANCES // 2
  return jnp.concatenate([around[-half:], around[:half]])
