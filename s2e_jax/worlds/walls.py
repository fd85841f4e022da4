"""Distances to walls that are given as a grid (`scene.Walls`): bilinear between the middles of its cells.

Beyond the middles of the outermost cells everything is solid: inside, no distance is larger than that to the edge
of the grid; outside, it is minus the way back. So the distance stays one, whatever the grid holds at its edge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.scene import Walls

MAX_SLOPE = 1.5  # change of a distance per metre: 1, a little more where a grid was smoothed or filled
_FLAT = 1e-6  # length of a gradient that has no direction


def sampled(
  take: Callable[[jax.Array], jax.Array],
  shape: tuple[int, int],
  origin: tuple[jax.Array, jax.Array],
  cell: jax.Array,
  x: jax.Array,
  y: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Distance (m) at points x, y [...] in a grid [I, J] = shape, and the unit normal (x, y) away from the walls.

  take: values of the raveled grid at an index [...] int32. origin, cell: as in `scene.Walls`.
  """
  rows, columns = shape
  i, j = (x - origin[0]) / cell, (y - origin[1]) / cell
  at_i, at_j = jnp.clip(i, 0, rows - 1), jnp.clip(j, 0, columns - 1)
  low_i, low_j = jnp.minimum(jnp.floor(at_i), rows - 2), jnp.minimum(jnp.floor(at_j), columns - 2)
  a, b = at_i - low_i, at_j - low_j
  corner = low_i.astype(jnp.int32) * columns + low_j.astype(jnp.int32)
  here, left, ahead, both = (take(corner + step) for step in (0, 1, columns, columns + 1))
  inner = (1 - a) * ((1 - b) * here + b * left) + a * ((1 - b) * ahead + b * both)
  slope_x, slope_y = (1 - b) * (ahead - here) + b * (both - left), (1 - a) * (left - here) + a * (both - ahead)

  # the edge of the grid: a side, or from outside the nearest point of the grid
  to_x, to_y = jnp.minimum(i, rows - 1 - i) * cell, jnp.minimum(j, columns - 1 - j) * cell
  out_x, out_y = (at_i - i) * cell, (at_j - j) * cell
  square = out_x * out_x + out_y * out_y
  is_out = square > 0
  outside = jnp.sqrt(jnp.where(is_out, square, 1.0))
  edge = jnp.minimum(to_x, to_y)
  is_edge = is_out | (edge < inner)
  along_x = (to_x < to_y).astype(x.dtype)
  in_x, in_y = jnp.where(2 * i < rows - 1, along_x, -along_x), jnp.where(2 * j < columns - 1, 1.0, -1.0)
  edge_x = jnp.where(is_out, out_x, in_x)
  edge_y = jnp.where(is_out, out_y, in_y * (1 - along_x))
  distance = jnp.where(is_out, jnp.minimum(inner, 0.0) - outside, jnp.minimum(inner, edge))

  nx, ny = jnp.where(is_edge, edge_x, slope_x), jnp.where(is_edge, edge_y, slope_y)
  length = jnp.sqrt(nx * nx + ny * ny)
  is_flat = length < _FLAT
  scale = 1 / jnp.where(is_flat, 1.0, length)
  return distance, jnp.where(is_flat, 1.0, nx * scale), jnp.where(is_flat, 0.0, ny * scale)


def walls_at(walls: Walls, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Signed distance (m) of world points x, y [...] to the walls, and the unit normal (x, y) [...] off them."""
  rows, columns = walls.distance.shape
  flat = walls.distance.reshape(-1)
  take = lambda index: jnp.take(flat, index, mode='clip')
  return sampled(take, (rows, columns), (walls.origin[0], walls.origin[1]), walls.cell, x, y)


def walls_distance(walls: Walls, points: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Signed distance [N] (m) of world points [N, 2] to the walls, and the unit normal [N, 2] away from them.

  Bilinear in the grid, the normal along the gradient of that; finite everywhere. Where the distance has no slope
  the normal is any unit vector.
  """
  distance, nx, ny = walls_at(walls, points[:, 0], points[:, 1])
  return distance, jnp.stack([nx, ny], axis=-1)


def seen_from(walls: Walls, position: jax.Array) -> Walls:
  """The walls in coordinates relative to a world point [2] (m)."""
  return dataclasses.replace(walls, origin=walls.origin - position)


def bounds_of(walls: Walls) -> jax.Array:
  """[4] m (x_low, x_high, y_low, y_high) of the grid."""
  rows, columns = walls.distance.shape
  high = walls.origin + walls.cell * jnp.array([rows - 1, columns - 1])
  return jnp.stack([walls.origin[0], high[0], walls.origin[1], high[1]])


def check_walls(walls: Walls) -> None:
  """Raises ValueError, on the host, for a record that is no grid of distances in metres with some free space."""
  grid = np.asarray(walls.distance)
  if grid.ndim != 2 or min(grid.shape) < 2:
    raise ValueError(f'walls.distance {grid.shape} must be [I, J] with at least 2 cells along each side')
  if np.shape(walls.origin) != (2,) or np.shape(walls.cell) != ():
    raise ValueError(f'walls.origin {np.shape(walls.origin)} must be [2] and walls.cell {np.shape(walls.cell)} []')
  cell = float(walls.cell)
  if not 0 < cell < float('inf'):
    raise ValueError(f'walls.cell={cell!r} must be > 0 m')
  num = int(np.sum(~np.isfinite(grid)))
  if num:
    raise ValueError(f'{num} of the {grid.size} distances of the walls are not finite; clip them')
  if grid.max() <= 0:
    raise ValueError('no cell of the walls is free: every distance is <= 0; distances are positive outside things')
  steepest = max(np.abs(np.diff(grid, axis=axis)).max() for axis in (0, 1)) / cell
  if steepest > MAX_SLOPE:
    raise ValueError(
      f'the distances of the walls change by {steepest:.2f} m per m, at most {MAX_SLOPE} is possible: '
      'give metres (not cells) to the nearest surface, negative inside, and the cell they were sampled at'
    )
