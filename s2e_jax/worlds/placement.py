"""Where things stand: the pieces of a layout, obstacles beside the free lane, trees and lamps along the curb.

The free lane runs from the start past the goal. Nothing that stands on the pavement comes nearer to its middle
than `Street.lane_half`, so that a way is left by construction. Places are drawn beside the lane; what would still
touch it, the start, the goal or something placed before is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from s2e_jax.scene import KIND, Ground, on_road
from s2e_jax.worlds.catalogue import ThingTable
from s2e_jax.worlds.draws import Draws, lerp, pick, spread
from s2e_jax.worlds.facades import Blocks
from s2e_jax.worlds.layouts import NUM_PIECES, LayoutTable
from s2e_jax.worlds.street import Street, along, edges, lane

_ASIDE = 0.3  # share of obstacles that stand on the far side of the lane
_SMALLEST = 0.5  # of its size that a thing keeps where there is little room
_CURB_STRIP = 0.45  # m from the curb to the middle of what stands along it


# World x, y (m) and yaw (rad) of N blocks, [N] each.
Pose = tuple[jax.Array, jax.Array, jax.Array]


class Way(NamedTuple):
  """The free lane in the world, with what must stay clear of everything.

  x, y: [M] m, its middle. start, goal: [2] m. start_clear, goal_clear: m around them.
  """

  x: jax.Array
  y: jax.Array
  start: jax.Array
  goal: jax.Array
  start_clear: float
  goal_clear: float


def draw_pieces(table: LayoutTable, street: Street, num: int) -> Blocks:
  """The layout's own `num` <= NUM_PIECES boxes in the canonical street frame; slots it does not need are empty."""
  num = min(num, NUM_PIECES)
  n = street.numbers
  ends = jnp.asarray(table.ends[:, :num])[street.variant]
  places = jnp.asarray(table.places[:, :num])[street.variant]
  middle = street.first_piece + places[:, 0] * n['gap'] + places[:, 1] * n['half']
  half = places[:, 2] * n['gap'] + places[:, 3] * n['half']
  right, left = edges(street, middle)
  e = lane(street, middle)
  reach = street.lane_half + 0.06
  anchors = jnp.stack([right, left, e - reach, e + reach, jnp.ones(num)], axis=-1)
  low, high = jnp.sum(ends * anchors[:, None], axis=-1).T
  is_there = jnp.asarray(table.has_piece[:, :num])[street.variant] & (high - low > 0.12)
  s, d, heading = along(street, middle, 0.5 * (low + high))
  kind = jnp.where(is_there, jnp.asarray(table.piece)[street.variant], 0)
  return Blocks(
    s=s,
    d=d,
    heading=heading,
    half_x=half,
    half_y=0.5 * (high - low),
    low=jnp.zeros(num),
    high=jnp.broadcast_to(n['height'], (num,)),
    kind=kind,
  )


def draw_obstacles(
  draws: Draws,
  street: Street,
  ground: Ground,
  boxes: ThingTable,
  cylinders: ThingTable,
  num: tuple[int, int],
  count: jax.Array,
) -> Blocks:
  """Obstacles for num[0] box slots, then num[1] cylinder slots (half_x the radius), `count` of them present."""
  total = sum(num)
  jitter = draws.take(9, total)
  kinds, ranges = [], []
  for table, part in ((boxes, slice(0, num[0])), (cylinders, slice(num[0], total))):
    which = pick(jitter[8, part], table.shares)
    kinds.append(jnp.asarray(table.kind)[which])
    ranges.append(jnp.asarray(table.ranges)[which])
  kind, limits = jnp.concatenate(kinds), jnp.concatenate(ranges)
  half_x, half_y, height, turn = lerp(limits[..., 0], limits[..., 1], jitter[1:5].T).T
  is_round = jnp.arange(total) >= num[0]
  half_y = jnp.where(is_round, half_x, half_y)
  cos, sin = jnp.abs(jnp.cos(turn)), jnp.abs(jnp.sin(turn))
  across = jnp.where(is_round, half_x, cos * half_y + sin * half_x)

  # each in its own stretch of the way; the first `count` in a random order are spread over the whole way
  rank = jnp.sum(jitter[0][:, None] > jitter[0], axis=1)
  cell = jnp.asarray(spread(total))[rank]
  u = 1.5 + (street.goal_distance + 1.0) * (cell + 0.15 + 0.7 * jitter[5]) / max(total, 1)
  right, left = edges(street, u)
  middle = lane(street, u)
  beside = street.lane_half + 0.08
  room_left, room_right = left - 0.05 - (middle + beside), (middle - beside) - (right + 0.05)
  # a thing that is too wide for the side it is on is made smaller, to half its size at most
  need = 2 * _SMALLEST * across
  # most stand where the straight way to the goal would lead, so that it pays to look
  straight = lerp(lane(street, jnp.zeros(())), lane(street, street.goal_distance), u / street.goal_distance)
  likes_left = (straight > middle) ^ (jitter[6] < _ASIDE)
  to_left = jnp.where(likes_left, room_left > need, room_right <= need)
  room = jnp.where(to_left, room_left, room_right)
  size = jnp.clip(room / jnp.maximum(2 * across, 1e-3), _SMALLEST, 1.0)
  half_x, half_y, across = size * half_x, size * half_y, size * across
  # most stand near the lane, where they matter
  offset = beside + across + jnp.clip(room - 2 * across, 0, None) * jitter[7] ** 2
  s, d, heading = along(street, u, middle + jnp.where(to_left, offset, -offset))
  is_there = (room > need) & (rank < count)
  is_there &= ~_touches_road(street, ground, s, d, heading, jnp.hypot(half_x, half_y))
  return Blocks(
    s=s,
    d=d,
    heading=heading + turn,
    half_x=half_x,
    half_y=half_y,
    low=jnp.zeros(total),
    high=height,
    kind=jnp.where(is_there, kind, 0),
  )


def draw_furniture(
  draws: Draws, street: Street, ground: Ground, table: ThingTable, num: int, share: jax.Array
) -> Blocks:
  """Up to `num` cylinders (half_x the radius) in rows along the curb and on the verge, present with `share`."""
  n = street.numbers
  jitter = draws.take(6, num)
  which = pick(jitter[0], table.shares)
  limits = jnp.asarray(table.ranges)[which]
  radius, height = (
    lerp(limits[:, 0, 0], limits[:, 0, 1], jitter[1]),
    lerp(limits[:, 2, 0], limits[:, 2, 1], jitter[2]),
  )
  span = street.goal_distance * 1.15 + 5.0
  u = -2.5 + span * (jnp.arange(num) + 0.2 + 0.6 * jitter[3]) / max(num, 1)
  right, left = edges(street, u)
  has_road = n['road'] > 0
  verge = 0.5 * jnp.where(has_road, n['verge_left'], n['verge_left'] * 0.8)
  near = jnp.where(u > street.leg1 + street.leg2, left - _CURB_STRIP, right + _CURB_STRIP)
  near = jnp.where(has_road, near, right - 0.5 * n['verge_right'])
  far = 0.5 * n['pavement'] * -1 - n['road'] - 0.5
  on_left = left + verge
  other = jnp.where(n['verge_left'] > 1.2, on_left, jnp.where(has_road, far, left - _CURB_STRIP))
  e = jnp.where(jitter[4] < 0.6, near, other)
  s, d, heading = along(street, u, e)
  is_there = (jitter[5] < share) & ~_touches_road(street, ground, s, d, heading, radius)
  # what stands outside the first leg has no curb of its own
  is_there &= (u < street.leg1 - 1) | (u > street.leg1 + street.leg2 + 1) | (e > right) & (e < left)
  return Blocks(
    s=s,
    d=d,
    heading=heading,
    half_x=radius,
    half_y=radius,
    low=jnp.zeros(num),
    high=height,
    kind=jnp.where(is_there, jnp.asarray(table.kind)[which], 0),
  )


def _touches_road(
  street: Street, ground: Ground, s: jax.Array, d: jax.Array, heading: jax.Array, reach: jax.Array
) -> jax.Array:
  """Whether something at canonical (s, d) [N] on a pavement reaches onto a carriageway along its heading."""
  step = jnp.array([[-1.0], [0.0], [1.0]]) * reach
  s, d = s + step * jnp.cos(heading), d + step * jnp.sin(heading)
  return jnp.any(on_road(ground, s, street.mirror * d), axis=0)


def rectangle_distance(x: jax.Array, y: jax.Array, blocks: Blocks, at: Pose) -> jax.Array:
  """Distance [N, M] (m, 0 inside) of world points [M] or [N, M] to N blocks at world (x, y, yaw) [N]."""
  dx, dy = x - at[0][:, None], y - at[1][:, None]
  cos, sin = jnp.cos(at[2])[:, None], jnp.sin(at[2])[:, None]
  u = jnp.maximum(jnp.abs(cos * dx + sin * dy) - blocks.half_x[:, None], 0)
  v = jnp.maximum(jnp.abs(cos * dy - sin * dx) - blocks.half_y[:, None], 0)
  return jnp.sqrt(u * u + v * v)


def keeps_clear(blocks: Blocks, at: Pose, is_round: jax.Array, way: Way, lane_half: jax.Array) -> jax.Array:
  """[N] bool: blocks at world (x, y, yaw) leave the lane, the start and the goal free."""
  points_x = jnp.concatenate([way.x, way.start[:1], way.goal[:1]])
  points_y = jnp.concatenate([way.y, way.start[1:], way.goal[1:]])
  box = rectangle_distance(points_x, points_y, blocks, at)
  disc = jnp.hypot(points_x - at[0][:, None], points_y - at[1][:, None]) - blocks.half_x[:, None]
  distance = jnp.where(is_round[:, None], disc, box)
  is_free = jnp.min(distance[:, :-2], axis=1) >= lane_half
  return is_free & (distance[:, -2] >= way.start_clear) & (distance[:, -1] >= way.goal_clear)


def keeps_apart(
  blocks: Blocks,
  at: Pose,
  is_there: jax.Array,
  others: Blocks,
  others_at: Pose,
) -> jax.Array:
  """[N] bool: blocks, taken as discs, touch no present block before them in the list, and none of the others."""
  reach = jnp.hypot(blocks.half_x, blocks.half_y)
  apart = jnp.hypot(at[0][:, None] - at[0], at[1][:, None] - at[1]) > reach[:, None] + reach + 0.1
  earlier = jnp.tril(jnp.ones((reach.shape[0],) * 2, bool), -1)
  is_clash = jnp.any(~apart & earlier & is_there[None, :], axis=1)
  distance = rectangle_distance(at[0], at[1], others, others_at).T
  touches = jnp.any((distance < reach[:, None] + 0.05) & (others.kind > 0), axis=1)
  return ~is_clash & ~touches


def crowns(draws: Draws, trunks: Blocks, num: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Radius, low and high z (m above the floor) of crowns [num] on the first trunks; high = low without a tree."""
  jitter = draws.take(2, num)
  is_tree = trunks.kind[:num] == KIND['trunk']
  radius = lerp(0.8, 1.7, jitter[0])
  low = jnp.maximum(trunks.high[:num] - 0.35 * radius, 1.75)
  tall = lerp(1.0, 1.5, jitter[1])
  return radius, low, jnp.where(is_tree, low + 2 * radius * tall, low)
