"""What lines a street: buildings, hedges or walls on both sides, and parked vehicles along the curbs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.scene import KIND
from s2e_jax.worlds.draws import Draws, lerp
from s2e_jax.worlds.layouts import LayoutTable
from s2e_jax.worlds.street import CORNER, ROAD, Street, lines, world_bounds

# Lines that buildings stand along, and in which order slots go to them: without and with a cross street. The slots
# of one line stand wall to wall; `vista` closes the view down the street.
_STREET_ORDER = ('near', 'far', 'near', 'far', 'vista', 'near', 'far', 'near')
_CROSS_ORDER = (
  'near_cross', 'beyond_cross', 'near', 'far', 'vista', 'far_beyond', 'near_cross', 'beyond_cross', 'beyond',
)  # fmt: skip
_LINES = ('near', 'far', 'near_cross', 'beyond_cross', 'far_beyond', 'beyond', 'vista')
_OPEN_VISTA = 0.25  # share of streets whose far end stays open
_BEHIND, _BEYOND = 6.0, 16.0  # m that lines go on before and after the world
_DEPTH = 9.0  # m of a building's other side
# Heights of what encloses a street, by kind (m).
_HEIGHTS = {'empty': (0.0, 0.0), 'building': (5.0, 17.0), 'hedge': (0.9, 2.2), 'wall': (1.2, 3.2)}


class Blocks(NamedTuple):
  """N boxes in the canonical street frame (m, rad): middle, heading against x, half sides, z above their floor.

  kind: [N] int32, 0 = empty.
  """

  s: jax.Array
  d: jax.Array
  heading: jax.Array
  half_x: jax.Array
  half_y: jax.Array
  low: jax.Array
  high: jax.Array
  kind: jax.Array


def _shares(order: tuple[str, ...], num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Line, place on it and number of places on it, for each of `num` slots."""
  names = [order[i % len(order)] for i in range(num)]
  index = [names[:i].count(name) for i, name in enumerate(names)]
  count = [names.count(name) for name in names]
  return np.array([_LINES.index(name) for name in names], int), np.array(index, int), np.array(count, int)


def draw_facades(draws: Draws, table: LayoutTable, street: Street, num: int) -> Blocks:
  """`num` boxes that stand wall to wall along the street, whose faces leave its ground free."""
  left, right = lines(street)
  bounds = world_bounds(street)
  n = street.numbers
  has_cross = n['cross_road'] > 0
  cross_low = street.cross_low - jnp.where(street.turn == CORNER, n['cross_pavement'], 2.0) - n['verge_left']
  cross_high = street.cross_high + n['far_pavement'] + n['verge_left']
  first, last = bounds[0] - _BEHIND, bounds[1] + _BEYOND
  far_end = bounds[3] + jnp.where(street.turn == CORNER, _BEYOND, 12.0)
  stop = jnp.where(has_cross, cross_low - jnp.where(has_cross, _DEPTH, 0.0), last)
  # origin along the line, length, fixed coordinate, direction outwards; lines across have s and d exchanged
  zero, one = jnp.float32(0), jnp.float32(1)
  by_line = [
    (first, jnp.maximum(stop - first, 1.0), left, one, zero),
    (first, jnp.where(has_cross, cross_low, last) - first, right, -one, zero),
    (left, far_end - left, cross_low, -one, one),
    (left, far_end - left, cross_high, one, one),
    (cross_high, jnp.maximum(last - cross_high, 12.0), right, -one, zero),
    (cross_high + _DEPTH, jnp.maximum(last - cross_high - _DEPTH, 12.0), left, one, zero),
    (right - 9.0, left - right + 18.0, last + 2.0, one, one),
  ]
  lines_of = jnp.stack([jnp.stack(row) for row in by_line])
  plans = [_shares(order, num) for order in (_STREET_ORDER, _CROSS_ORDER)]
  line, index, count = (jnp.where(has_cross, b, a) for a, b in zip(*plans, strict=True))
  start, length, face, out, is_across = lines_of[line].T

  jitter = draws.take(5, num)
  # slots of one line share it; narrow gaps let the sky in between
  pitch = length / count
  low = start + pitch * index + 0.5 * jitter[0] * (jitter[4] < 0.4)
  high = start + pitch * (index + 1)
  k = street.curvature
  half_along, middle = 0.5 * (high - low) * (1 - k * jnp.where(is_across > 0, 0, face)), 0.5 * (low + high)
  depth = lerp(0.7, 1.0, jitter[1]) * _DEPTH
  # inside a bend a straight face would cut into the pavement by the height of its arc
  inside = jnp.maximum(k * out, 0) * (1 - is_across)
  sag = 0.5 * inside * half_along**2 / jnp.maximum(1 - k * face, 0.2)
  front = face + out * (sag + 0.3 * jitter[2] * (jitter[2] < 0.7))
  centre = front + 0.5 * out * depth
  is_far = (line == _LINES.index('far')) | (line == _LINES.index('far_beyond'))
  kind = jnp.where(is_far, jnp.asarray(table.right)[street.variant], jnp.asarray(table.left)[street.variant])
  is_open = (line == _LINES.index('vista')) & (jitter[4] < _OPEN_VISTA)
  limits = np.zeros((len(KIND), 2), np.float32)
  for name, heights in _HEIGHTS.items():
    limits[KIND[name]] = heights
  height = jnp.asarray(limits)[kind]
  is_thin = kind != KIND['building']
  thin = 0.5 * jnp.where(kind == KIND['hedge'], 0.9, 0.3)
  half_depth = jnp.where(is_thin, thin, 0.5 * depth)
  centre = jnp.where(is_thin, front + out * thin, centre)
  return Blocks(
    s=jnp.where(is_across > 0, centre, middle),
    d=jnp.where(is_across > 0, middle, centre),
    heading=jnp.zeros(num),
    half_x=jnp.where(is_across > 0, half_depth, half_along),
    half_y=jnp.where(is_across > 0, half_along, half_depth),
    low=jnp.zeros(num),
    high=lerp(height[:, 0], height[:, 1], jitter[3]),
    kind=jnp.where(is_open, 0, kind),
  )


def draw_vehicles(draws: Draws, street: Street, num: int, share: jax.Array) -> tuple[Blocks, Blocks]:
  """Bodies and cabins of up to `num` vehicles parked at both curbs, each there with probability `share`."""
  n = street.numbers
  bounds = world_bounds(street)
  jitter = draws.take(8, num)
  half_x, half_y = lerp(1.9, 2.4, jitter[0]), lerp(0.82, 0.95, jitter[1])
  is_van = jitter[2] < 0.25
  cell = (bounds[1] - bounds[0] - 4.0) / max(num, 1)
  room = jnp.maximum(cell - 2 * half_x - 1.0, 0)
  s = bounds[0] + 2.0 + cell * (jnp.arange(num) + 0.5) + room * (jitter[3] - 0.5)
  is_near = jitter[4] < 0.6
  curb = 0.5 * n['pavement']
  d = jnp.where(is_near, -curb - half_y - 0.25, -curb - n['road'] + half_y + 0.25)
  # parked cars keep off crossings and cross streets
  turn_s = street.first_s + street.leg1
  near_zebra = (street.turn == ROAD) & (jnp.abs(s - turn_s) < n['zebra'] + half_x + 0.8)
  near_cross = (s + half_x > street.cross_low - 4.5) & (s - half_x < street.cross_high + 2.5)
  is_there = (jitter[5] < share) & (n['road'] >= 5) & ~near_zebra & ~(near_cross & (n['cross_road'] > 0))
  is_there &= jnp.abs(street.curvature) * jnp.abs(d) < 0.6
  kind = jnp.where(is_there, KIND['vehicle'], 0)
  zero = jnp.zeros(num)
  turned = jnp.where(is_near, 0.0, jnp.pi) + 0.03 * (jitter[6] - 0.5)
  waist = jnp.where(is_van, 1.15, lerp(0.78, 0.95, jitter[7]))
  roof = jnp.where(is_van, lerp(1.9, 2.3, jitter[7]), waist + lerp(0.5, 0.62, jitter[0]))
  body = Blocks(s, d, turned, half_x, half_y, zero + 0.22, waist, kind)
  back = jnp.where(is_van, -0.12, -0.08) * half_x
  cabin_s = s + jnp.where(is_near, 1.0, -1.0) * back
  length = jnp.where(is_van, 0.86, 0.58) * half_x
  cabin = Blocks(cabin_s, d, turned, length, half_y - 0.09, waist, roof, kind)
  return body, cabin
