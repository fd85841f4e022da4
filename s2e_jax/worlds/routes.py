"""Shortest ways through a scene: where a robot fits, how far every place is from the goal, and the way there.

A grid of I x J cells covers `ground.bounds` in street coordinates, index [i, j] for s and d; GRID x GRID unless
the caller wants others. A step along s is (1 - curvature d) times as long as on the centre line.

Distances solve the eikonal equation |grad D| = cost by semi-Lagrangian updates over the eight triangles around a
cell (Tsitsiklis 1995), which favour no direction, swept in four directions like fast sweeping (Zhao 2005): a row
takes all its updates from the row before it, so that a sweep works on whole rows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from s2e_jax.scene import Ground, Scene, on_pavement, to_street, to_world
from s2e_jax.worlds.distance import Outlines, outlines
from s2e_jax.worlds.walls import walls_at

GRID = 64
SHAPE: tuple[int, ...] = (GRID, GRID)
# Values from here on mark cells that no way leads from.
UNREACHABLE = 1e3
# The field is done when no cell changes by more than this (m), at the latest after so many rounds of sweeps.
SETTLED, MAX_ROUNDS = 0.02, 16


def cell_sizes(ground: Ground, grid: tuple[int, ...] = SHAPE) -> tuple[jax.Array, jax.Array]:
  """Length of a cell along the centre line and across it (m), of a grid of this shape."""
  b = ground.bounds
  return (b[1] - b[0]) / grid[0], (b[3] - b[2]) / grid[1]


def cell_centres(ground: Ground, grid: tuple[int, ...] = SHAPE) -> tuple[jax.Array, jax.Array]:
  """Street coordinates s [I] and d [J] (m) of the cells' centres."""
  step_s, step_d = cell_sizes(ground, grid)
  middle_s = jnp.arange(grid[0]) + 0.5
  middle_d = middle_s if grid[1] == grid[0] else jnp.arange(grid[1]) + 0.5
  return ground.bounds[0] + middle_s * step_s, ground.bounds[2] + middle_d * step_d


def _quarter_distances(
  scene: Scene, shape: Outlines, include_people: bool, grid: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """Distance [I, J] (m) to the nearest outline or wall: at the centre and at the best middle of a cell's quarters.

  Distances at the quarters come from the distance at the centre and its gradient: exact beside straight outlines.
  """
  ground = scene.ground
  k = ground.curvature
  s, d = cell_centres(ground, grid)
  step_s, step_d = cell_sizes(ground, grid)
  x, y = to_world(s[:, None], d[None, :], k)
  # half a quarter along s and across, in the world
  shift = 0.25 * step_s * (1 - k * d)[None, :]
  cos, sin = jnp.cos(k * s)[:, None], jnp.sin(k * s)[:, None]
  solid = shape.is_solid if include_people else shape.is_solid & ~shape.is_person
  num_boxes = shape.x.shape[0]
  far = jnp.full(grid, 1e3)
  best: tuple[jax.Array, ...] = (far,) * 5  # centre, then the quarters

  def add(best: tuple, distance: jax.Array, nx: jax.Array, ny: jax.Array, is_solid: jax.Array) -> tuple:
    distance = jnp.where(is_solid, distance, 1e3)
    along = (cos * nx + sin * ny) * shift
    across = (cos * ny - sin * nx) * (0.25 * step_d)
    offsets: tuple[Any, ...] = (0.0, along + across, along - across, across - along, -along - across)
    return tuple(jnp.minimum(b, distance + o) for b, o in zip(best, offsets, strict=True))

  def add_box(best: tuple, one: tuple) -> tuple[tuple, None]:
    at_x, at_y, c, s_, half_x, half_y, is_solid = one
    dx, dy = x - at_x, y - at_y
    u, v = c * dx + s_ * dy, c * dy - s_ * dx
    qu, qv = jnp.abs(u) - half_x, jnp.abs(v) - half_y
    out_u, out_v = jnp.maximum(qu, 0), jnp.maximum(qv, 0)
    outside = jnp.sqrt(out_u * out_u + out_v * out_v)
    scale = 1 / jnp.maximum(outside, 1e-6)
    nu, nv = jnp.copysign(out_u * scale, u), jnp.copysign(out_v * scale, v)
    distance = outside + jnp.minimum(jnp.maximum(qu, qv), 0)
    return add(best, distance, c * nu - s_ * nv, s_ * nu + c * nv, is_solid), None

  def add_disc(best: tuple, one: tuple) -> tuple[tuple, None]:
    at_x, at_y, radius, is_solid = one
    dx, dy = x - at_x, y - at_y
    to_axis = jnp.sqrt(dx * dx + dy * dy)
    scale = 1 / jnp.maximum(to_axis, 1e-6)
    return add(best, to_axis - radius, dx * scale, dy * scale, is_solid), None

  # loops, not one long expression: XLA would copy that into everything that reads it, and compile for a minute
  boxes = (shape.x, shape.y, shape.cos, shape.sin, shape.half_x, shape.half_y, solid[:num_boxes])
  discs = (shape.disc_x, shape.disc_y, shape.radius, solid[num_boxes:])
  best, _ = jax.lax.scan(add_box, best, boxes)
  best, _ = jax.lax.scan(add_disc, best, discs)
  if scene.walls is not None:
    # a way between two walls has no gradient in its middle: what the quarters have is looked up
    to_walls = [walls_at(scene.walls, x, y)[0]]
    for i, j in ((0.25, 0.25), (0.25, -0.25), (-0.25, 0.25), (-0.25, -0.25)):
      middle = to_world(s[:, None] + i * step_s, d[None, :] + j * step_d, k)
      to_walls.append(walls_at(scene.walls, *middle)[0])
    best = tuple(jnp.minimum(b, w) for b, w in zip(best, to_walls, strict=True))
  quarters = jnp.maximum(jnp.maximum(best[1], best[2]), jnp.maximum(best[3], best[4]))
  return best[0], quarters


def free_space(
  scene: Scene,
  radius: float | jax.Array,
  keep_clear: float | jax.Array = 0.6,
  clear_cost: float | jax.Array = 1.0,
  off_pavement: float | jax.Array = 3.0,
  height: float | jax.Array = 0.65,
  include_people: bool = False,
  grid: tuple[int, ...] = SHAPE,
) -> jax.Array:
  """Cost [I, J] (the shape `grid`) of a metre of way in each cell, inf where a disc of `radius` (m) does not fit.

  1 on clear pavement; up to 1 + clear_cost, quadratically, where less than `keep_clear` (m) is left beside the
  disc; `off_pavement` more on the carriageway (but for crossings) and on grass: inf there closes it.
  A passage wider than the disc by half a cell is always found. height: m above ground of what is in the way.
  """
  ground = scene.ground
  s, d = cell_centres(ground, grid)
  step_s, step_d = cell_sizes(ground, grid)
  centre, quarters = _quarter_distances(scene, outlines(scene, height), include_people, grid)
  stretch = 1 - ground.curvature * d
  b = ground.bounds
  to_fence_s = jnp.minimum(s - b[0], b[1] - s)[:, None] * stretch[None, :]
  to_fence = jnp.minimum(to_fence_s, jnp.minimum(d - b[2], b[3] - d)[None, :])
  quarters = jnp.minimum(quarters, to_fence + 0.25 * jnp.minimum(step_s, step_d))
  # no wall, however thin, has a free cell centre on either side within half a cell
  half_cell = 0.5 * jnp.maximum(step_s * stretch[None, :], step_d)
  is_free = (quarters >= radius) & (centre >= jnp.minimum(radius, half_cell))
  crowding = jnp.clip(1 - (quarters - radius) / jnp.maximum(keep_clear, 1e-3), 0, 1)
  paved = on_pavement(ground, s[:, None], d[None, :])
  cost = 1 + clear_cost * crowding * crowding + jnp.where(paved, 0.0, off_pavement)
  return jnp.where(is_free, cost, jnp.inf)


def _triangle(near: jax.Array, side: jax.Array, step: jax.Array, cross: jax.Array, cost: jax.Array) -> jax.Array:
  """Least distance through the edge from a neighbour at `step` (m) to the cell `cross` (m) beside it.

  The minimum of (1 - t) near + t side + cost sqrt(step^2 + (t cross)^2) over t in 0..1, in closed form.
  """
  gain = jnp.maximum(near - side, 0) / cross
  diagonal = jnp.sqrt(step * step + cross * cross)
  inner = near + step * jnp.sqrt(jnp.maximum(cost * cost - gain * gain, 0))
  return jnp.where(gain * diagonal < cost * cross, inner, side + cost * diagonal)


def _sweep(grid: jax.Array, cost: jax.Array, step: jax.Array, cross: jax.Array, reverse: bool) -> jax.Array:
  """One sweep over the rows of distances [N, M]: each takes its least way over the row swept before.

  step: [] or [M] m between rows. cross: [N] m within a row.
  """

  wall = jnp.full((1,), UNREACHABLE)

  def row(before: Any, inputs: Any) -> tuple[Any, jax.Array]:
    near, left, right = before
    here, cost, cross = inputs
    # only the better side can hold the least way; none squeezes diagonally between two cells that are closed
    through = _triangle(near, jnp.minimum(left, right), step, cross, cost)
    here = jnp.minimum(here, jnp.where(near < UNREACHABLE, through, UNREACHABLE))
    # the barrier keeps the shifts below out of the arithmetic, which then runs in vectors
    here = jax.lax.optimization_barrier(here)
    return (here, jnp.concatenate([wall, here[:-1]]), jnp.concatenate([here[1:], wall])), here

  first = jnp.full(grid.shape[1:], UNREACHABLE)
  return jax.lax.scan(row, (first, first, first), (grid, cost, cross), reverse=reverse)[1]


def geodesic(scene: Scene, free: jax.Array, goal: jax.Array) -> jax.Array:
  """Length [I, J] of the least costly way to goal [2] (m in the world), from costs `free` [I, J] of `free_space`.

  2 UNREACHABLE where there is none. Cells where the robot does not fit but beside which it does hold UNREACHABLE
  plus the length from there, so that `geodesic_at` knows the way out.
  Rounds of four sweeps go on until nothing changes; a way may turn back against all directions once per round.
  """
  ground = scene.ground
  k = ground.curvature
  s, d = cell_centres(ground, free.shape)
  step_s, step_d = cell_sizes(ground, free.shape)
  stretch = 1 - k * d
  is_free = jnp.isfinite(free)
  cost = jnp.where(is_free, free, 1e6)
  goal_s, goal_d = to_street(goal[0], goal[1], k)
  along = (s[:, None] - goal_s) * (1 - k * 0.5 * (d[None, :] + goal_d))
  straight = jnp.sqrt(along * along + (d[None, :] - goal_d) ** 2)
  near = (jnp.abs(s[:, None] - goal_s) < 1.5 * step_s) & (jnp.abs(d[None, :] - goal_d) < 1.5 * step_d)
  grid = jnp.where(near & is_free, straight * cost, UNREACHABLE)

  steps_s, steps_d, cost_t = step_s * stretch, jnp.broadcast_to(step_d, s.shape), cost.T

  def sweeps(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    before, _, count = carry
    grid = before
    for reverse in (False, True):
      grid = _sweep(grid, cost, steps_s, steps_d, reverse)
    grid = grid.T
    for reverse in (False, True):
      grid = _sweep(grid, cost_t, step_d, steps_s, reverse)
    return grid.T, jnp.any(before - grid.T > SETTLED), count + 1

  goes_on = lambda carry: carry[1] & (carry[2] < MAX_ROUNDS)
  grid, _, _ = jax.lax.while_loop(goes_on, sweeps, (grid, jnp.bool_(True), jnp.int32(0)))
  grid = jnp.where(is_free & (grid < UNREACHABLE), grid, 2 * UNREACHABLE)
  return jnp.where(is_free, grid, jnp.minimum(UNREACHABLE + _spill(grid, step_s, step_d), 2 * UNREACHABLE))


def _spill(grid: jax.Array, step_s: jax.Array, step_d: jax.Array, cells: int = 3) -> jax.Array:
  """Distances extended from reachable cells over up to `cells` cells where the robot does not fit."""
  wide = grid
  for _ in range(cells):
    padded = jnp.pad(wide, 1, constant_values=2 * UNREACHABLE)
    beside = jnp.minimum(padded[1:-1, :-2], padded[1:-1, 2:]) + 2 * step_d
    ahead = jnp.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]) + 2 * step_s
    wide = jnp.where(wide < UNREACHABLE, wide, jnp.minimum(beside, ahead))
  return wide


def geodesic_at(grid: jax.Array, ground: Ground, points: jax.Array) -> jax.Array:
  """Way to the goal [N] (m) of world points [N, 2] in a grid of `geodesic`: bilinear over the cells that are free.

  Always finite: where no cell around is free, the distance of the nearest way out; else 2 UNREACHABLE.
  """
  rows, columns = grid.shape
  step_s, step_d = cell_sizes(ground, (rows, columns))
  s, d = to_street(points[:, 0], points[:, 1], ground.curvature)
  i = jnp.clip((s - ground.bounds[0]) / step_s - 0.5, 0, rows - 1.001)
  j = jnp.clip((d - ground.bounds[2]) / step_d - 0.5, 0, columns - 1.001)
  low_i, low_j = jnp.floor(i), jnp.floor(j)
  a, b = i - low_i, j - low_j
  corner = (low_i * columns + low_j).astype(jnp.int32)
  flat = grid.reshape(-1)
  total = free_weight = way_out = jnp.zeros_like(s)
  corners = (0, (1 - a) * (1 - b)), (1, (1 - a) * b), (columns, a * (1 - b)), (columns + 1, a * b)
  for offset, weight in corners:
    value = jnp.take(flat, corner + offset, mode='clip')
    weight = weight + 1e-4
    is_free = value < UNREACHABLE
    total = total + jnp.where(is_free, weight * value, 0.0)
    free_weight = free_weight + jnp.where(is_free, weight, 0.0)
    way_out = way_out + weight * jnp.where(value < 2 * UNREACHABLE, value - UNREACHABLE, value)
  return jnp.where(free_weight > 0, total / jnp.maximum(free_weight, 1e-6), way_out / (1 + 4e-4))


def reference_path(
  grid: jax.Array, ground: Ground, start: jax.Array, goal: jax.Array, length: int = 48, spacing: float = 0.75
) -> jax.Array:
  """Points [length, 2] (m in the world) `spacing` (m) apart down a grid of `geodesic` from start [2] to goal [2].

  Repeats the goal once there; the way is cut off after length * spacing metres.
  """
  angle = jnp.arange(16) * (2 * jnp.pi / 16)
  around = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

  def advance(point: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
    values = geodesic_at(grid, ground, point + spacing * around)
    # a soft choice among the directions, so that the way has no corners of its own
    weight = jax.nn.softmax((jnp.min(values) - values) / (0.05 * spacing))
    step = jnp.sum(weight[:, None] * around, axis=0)
    step = step * (spacing / jnp.maximum(jnp.linalg.norm(step), 1e-3))
    to_goal = jnp.linalg.norm(goal - point)
    return jnp.where(to_goal <= 1.2 * spacing, goal, point + step), point

  return jax.lax.scan(advance, start, None, length=length)[1]
