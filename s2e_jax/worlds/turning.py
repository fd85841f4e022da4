"""How far every pose is from the goal for a robot that has to drive to turn: a search over places and headings.

Backwards from the goal, round by round: a pose has a way of n arcs where one arc from it, driven forwards and free
of things, ends in a pose that has one of n - 1. Arcs are all of one length, straight or with half or full lock to
either side, so that they lead from heading to heading of a fixed fan. Hybrid A* (Dolgov et al. 2010) searches the
same poses for one way; here all of them are reached at once, and what comes out is a field.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.worlds.routes import UNREACHABLE

HEADINGS = 24
_LOCK = 2  # headings that an arc of full lock turns by
_TURNS = np.arange(-_LOCK, _LOCK + 1)
_AT_GOAL = 0.4  # m from the goal where ways end
_MOST_ARCS = 250
_PAD = 40  # cells beyond the grid that an arc may point to, enough for arcs of 0.7 m on cells of 0.02 m
_TAPS = 7  # places over the length of an arc that the rounds are averaged over


@struct.dataclass
class Turning:
  """Ways to the goal along forward arcs.

  way: [T, I, J] float16 m from heading 2 pi t / T in each cell; UNREACHABLE where there is none. origin: [2] m of
  the middle of cell [0, 0]. cell: [] m.
  """

  way: jax.Array
  origin: jax.Array
  cell: jax.Array


def arc_length(curvature: float) -> float:
  """m of one arc of the search for a robot whose tightest turn has this curvature (1/m)."""
  return _LOCK * 2 * math.pi / HEADINGS / curvature


def _ends(curvature: float, share: float) -> np.ndarray:
  """[T, C, 2] m from a pose of each heading to where its arcs are after this share of them."""
  heading = 2 * np.pi / HEADINGS * np.arange(HEADINGS)[:, None]
  turn = share * 2 * np.pi / HEADINGS * _TURNS
  chord = share * arc_length(curvature) * np.sinc(turn / 2 / np.pi)
  return chord[:, None] * np.stack([np.cos(heading + turn / 2), np.sin(heading + turn / 2)], axis=-1)


def turning_ways(
  clearance: jax.Array,
  origin: jax.Array,
  cell: jax.Array,
  goal: jax.Array,
  curvature: float,
  radius: float,
  reach: float,
) -> Turning:
  """The field to goal [2] (m) of a robot whose tightest turn has this curvature (1/m).

  clearance: [I, J] m from the middle of each cell to the nearest thing or wall. radius: m that the discs at the
  front and rear of the robot need around their middles, which lie `reach` (m) ahead of and behind its origin.
  Not to be vmapped on a CPU, where the shifts would become gathers: use `jax.lax.map`.
  """
  shape = clearance.shape
  padded = jnp.pad(clearance, _PAD, constant_values=-1.0)

  def cells_of(metres: np.ndarray) -> jax.Array:
    return jnp.clip(jnp.round(jnp.asarray(metres, jnp.float32) / cell), -_PAD, _PAD).astype(jnp.int32)

  def shifted(grid: jax.Array, offset: jax.Array) -> jax.Array:
    return jax.lax.dynamic_slice(grid, (_PAD + offset[0], _PAD + offset[1]), shape)

  angle = 2 * np.pi / HEADINGS * np.arange(HEADINGS)
  ahead = reach * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  middles, ends = cells_of(_ends(curvature, 0.5)), cells_of(_ends(curvature, 1.0))
  next_heading = jnp.asarray((np.arange(HEADINGS)[:, None] + _TURNS) % HEADINGS)

  def fits_of(ahead: jax.Array) -> jax.Array:
    return (shifted(padded, ahead) > radius) & (shifted(padded, -ahead) > radius)

  fits = jax.lax.map(fits_of, cells_of(ahead))  # [T, I, J]
  is_free = jnp.pad(clearance > radius, _PAD)

  def opened(middles: jax.Array) -> jax.Array:
    return jnp.stack([shifted(is_free, middles[c]) for c in range(len(_TURNS))])

  # an arc is open where its middle is free; its end has to be reached, and then fits
  is_open = jax.lax.map(opened, middles)  # [T, C, I, J]
  x = origin[0] + cell * jnp.arange(shape[0])[:, None] - goal[0]
  y = origin[1] + cell * jnp.arange(shape[1])[None, :] - goal[1]
  near = x * x + y * y < _AT_GOAL**2
  reached = fits & near

  def one_round(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> tuple:
    reached, level, num, _ = carry
    wide = jnp.pad(reached, ((0, 0), (_PAD, _PAD), (_PAD, _PAD)))

    def heading(inputs: tuple[jax.Array, ...]) -> jax.Array:
      ends, next_heading, is_open, fits = inputs
      joined = jnp.zeros(shape, bool)
      for c in range(len(_TURNS)):
        start = (next_heading[c], _PAD + ends[c, 0], _PAD + ends[c, 1])
        joined |= is_open[c] & jax.lax.dynamic_slice(wide, start, (1, *shape))[0]
      return joined & fits

    now = jax.lax.map(heading, (ends, next_heading, is_open, fits)) & ~reached
    return reached | now, jnp.where(now, (num + 1).astype(jnp.uint8), level), num + 1, jnp.any(now)

  goes_on = lambda carry: carry[3] & (carry[2] < _MOST_ARCS)
  begin = reached, jnp.zeros(reached.shape, jnp.uint8), jnp.int32(0), jnp.bool_(True)
  reached, level, _, _ = jax.lax.while_loop(goes_on, one_round, begin)
  length = arc_length(curvature)
  smooth = lambda inputs: _smoothed(inputs[0].astype(jnp.float32), inputs[1], length / cell)
  way = length * jax.lax.map(smooth, (level, reached))
  return Turning(jnp.where(reached, way, UNREACHABLE).astype(jnp.float16), origin, cell)


def _smoothed(level: jax.Array, reached: jax.Array, width: jax.Array) -> jax.Array:
  """Mean [I, J] of the level over what is reached within `width` cells along both axes: rounds become a slope."""
  sums = jnp.stack([jnp.where(reached, level, 0.0), reached.astype(jnp.float32)])
  taps = jnp.clip(jnp.round(jnp.linspace(-0.5, 0.5, _TAPS) * width), -_PAD, _PAD).astype(jnp.int32) + _PAD
  for axis, size in ((1, level.shape[0]), (2, level.shape[1])):
    wide = jnp.pad(sums, [(_PAD, _PAD) if axis == k else (0, 0) for k in range(3)])
    slides = [jax.lax.dynamic_slice_in_dim(wide, tap, size, axis) for tap in taps]
    sums = jnp.sum(jnp.stack(slides), axis=0)
  return sums[0] / jnp.maximum(sums[1], 1.0)


def turning_at(turning: Turning, x: jax.Array, y: jax.Array, heading: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Way (m) from poses x, y (m in the world), heading (rad), [C] each, and how much of it is known, 0 to 1.

  Between the middles of the four cells and the two headings around, of those that have a way.
  """
  num, rows, columns = turning.way.shape
  i = jnp.clip((x - turning.origin[0]) / turning.cell, 0, rows - 1.001)
  j = jnp.clip((y - turning.origin[1]) / turning.cell, 0, columns - 1.001)
  t = jnp.mod(heading * (num / (2 * math.pi)), num)
  low_i, low_j, low_t = jnp.floor(i), jnp.floor(j), jnp.floor(t)
  a, b, c = i - low_i, j - low_j, t - low_t
  corner = low_i.astype(jnp.int32) * columns + low_j.astype(jnp.int32)
  flat = turning.way.reshape(-1)
  total = weights = jnp.zeros_like(x)
  for step, part in ((0, 1 - c), (1, c)):
    first = jnp.mod(low_t.astype(jnp.int32) + step, num) * (rows * columns) + corner
    for offset, share in ((0, (1 - a) * (1 - b)), (1, (1 - a) * b), (columns, a * (1 - b)), (columns + 1, a * b)):
      way = jnp.take(flat, first + offset, mode='clip').astype(jnp.float32)
      weight = jnp.where(way < UNREACHABLE, part * share, 0.0)
      total, weights = total + weight * way, weights + weight
  return total / jnp.maximum(weights, 1e-6), weights
