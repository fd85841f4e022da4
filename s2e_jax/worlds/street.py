"""A street drawn from a layout: its numbers, the way along it, its free lane and its ground.

Everything here is in the canonical street frame: the road lies to the right of the pavement, d = 0 is the middle
of the pavement. A scene is mirrored (`Street.mirror` = -1) when it is brought into the world.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from s2e_jax.scene import SURFACES, Ground, to_world
from s2e_jax.worlds.draws import Draws, lerp, pick
from s2e_jax.worlds.layouts import NUMBERS, TURNS, LayoutTable

BEHIND = 3.5  # m of the way before the start
AHEAD = 4.0  # m of the way after the last possible goal
STRETCH = 1.15  # m of the way per metre of goal distance: the inside of a bend is shorter than its middle
NUM_LANE = 64  # points of the free lane
_BLEND = 3.0  # m over which the lane leaves the start, and reaches the goal
_KNOT = 4.0  # m between the random swerves of the lane
_FAR = 1e3
_APRON = 0.8  # m
CORNER, ROAD = TURNS.index('corner'), TURNS.index('road')


class Street(NamedTuple):
  """Numbers of one street (all [] unless said otherwise, m); those of `layouts.Layout` by their names.

  variant: int32, row of the layout table. mirror: -1 or 1. goal_distance: m of way from the start to the goal.
  first_s: s of the start. leg1, leg2: lengths of the way before and inside its turn. turn: int32 of TURNS.
  side: +1 or -1, to the left or right, of the turn.
  cross_low, cross_high: s-range of the cross street's carriageway, _FAR beyond the world without one.
  room: m that the lane's middle may swerve to either side. first_piece: u of the pieces' first place.
  swerve: [13] random swerves. ends: [2] swerve at start and goal in -1..1.
  """

  variant: jax.Array
  mirror: jax.Array
  goal_distance: jax.Array
  numbers: dict[str, jax.Array]
  first_s: jax.Array
  leg1: jax.Array
  leg2: jax.Array
  turn: jax.Array
  side: jax.Array
  curvature: jax.Array
  cross_low: jax.Array
  cross_high: jax.Array
  lane_half: jax.Array
  first_piece: jax.Array
  swerve: jax.Array
  ends: jax.Array


def draw_street(draws: Draws, table: LayoutTable, goal_distance: jax.Array, lane_half: float) -> Street:
  """A street of the table's layouts whose way is `goal_distance` (m) long, or longer where a crossing needs it."""
  variant = pick(draws.take(), table.shares)
  ranges = jnp.asarray(table.ranges)[variant]
  values = lerp(ranges[:, 0], ranges[:, 1], draws.take(len(NUMBERS)))
  n = {name: values[i] for i, name in enumerate(NUMBERS)}
  turn = jnp.asarray(table.turn)[variant]
  is_corner, is_road = turn == CORNER, turn == ROAD
  has_cross = n['cross_road'] > 0
  is_side = has_cross & ~is_corner
  over = 0.5 * n['pavement'] + n['road'] + 0.5 * n['far_pavement']
  distance = jnp.where(is_road, jnp.maximum(goal_distance, over + 4.5), goal_distance)
  distance = jnp.where(is_side, jnp.maximum(distance, n['cross_road'] + 4.0), distance)
  where = draws.take()
  leg1 = jnp.where(is_corner, jnp.maximum(lerp(0.35, 0.6, where) * distance, 3.5), _FAR)
  leg1 = jnp.where(is_road, 1.0 + where * jnp.maximum(0.95 * distance - over - 3.5, 0), leg1)
  leg2 = jnp.where(is_road, over, _FAR)
  end = way_end(distance)
  middle = 0.5 * (jnp.where(is_road, end - over, end) - BEHIND)
  first_s = -jnp.where(is_corner, leg1, middle)
  # the cross street lies behind the corner, or somewhere on the way
  half_cross = 0.5 * n['cross_pavement']
  cross_low = jnp.where(
    is_corner, half_cross, first_s + 1.5 + where * jnp.maximum(0.95 * distance - n['cross_road'] - 3.0, 0)
  )
  cross_low = jnp.where(has_cross, cross_low, _FAR)
  curvature = n['curvature'] * draws.sign()
  slack = jnp.maximum(distance - 6.4 - n['gap'] - n['half'], 0)
  return Street(
    variant=variant,
    mirror=draws.sign(),
    goal_distance=distance,
    numbers=n,
    first_s=first_s,
    leg1=leg1,
    leg2=leg2,
    turn=turn,
    side=jnp.where(is_road, -1.0, 1.0),
    curvature=curvature,
    cross_low=cross_low,
    cross_high=cross_low + n['cross_road'],
    lane_half=jnp.asarray(lane_half),
    first_piece=3.2 + 0.6 * slack * draws.take(),
    swerve=draws.within((-1.0, 1.0), 13),
    ends=draws.within((-1.0, 1.0), 2),
  )


def way_end(goal_distance: jax.Array) -> jax.Array:
  """u (m) where the world ends."""
  return STRETCH * goal_distance + AHEAD


def _in_turn(street: Street, u: jax.Array) -> jax.Array:
  return (u > street.leg1) & (u < street.leg1 + street.leg2)


def edges(street: Street, u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """e of the right and left edge of the pavement beside places u [*B] of the way."""
  n = street.numbers
  in_turn, is_road = _in_turn(street, u), street.turn == ROAD
  inside = jnp.where(is_road, n['zebra'], 0.5 * n['cross_pavement'])
  behind = jnp.where(is_road, 0.5 * n['far_pavement'], inside)
  is_behind = u >= street.leg1 + street.leg2
  right = jnp.where(in_turn, -inside, jnp.where(is_behind, -behind, -0.5 * n['pavement']))
  left = jnp.where(in_turn, inside, jnp.where(is_behind, behind, 0.5 * n['pavement'] + n['depth']))
  return right, left


def along(street: Street, u: jax.Array, e: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Canonical (s, d) of places (u, e) of the way, and its heading there against the street (rad)."""
  in_turn = _in_turn(street, u)
  straight = jnp.minimum(u, street.leg1) + jnp.maximum(u - street.leg1 - street.leg2, 0)
  across = street.side * jnp.clip(u - street.leg1, 0, street.leg2)
  s = street.first_s + straight - jnp.where(in_turn, street.side * e, 0)
  return s, across + jnp.where(in_turn, 0, e), jnp.where(in_turn, street.side * jnp.pi / 2, 0.0)


def lane(street: Street, u: jax.Array) -> jax.Array:
  """e of the middle of the free lane at places u [*B]; it keeps `lane_half` + 5 cm from the pavement's edges."""
  n = street.numbers
  right, left = edges(street, u)
  room = jnp.maximum(0.5 * (left - right) - street.lane_half - 0.05, 0)
  step = jnp.clip(1 - jnp.abs(u[..., None] / _KNOT + 1 - jnp.arange(13)), 0, 1)
  weight = step * step * (3 - 2 * step)
  noise = jnp.sum(weight * street.swerve, axis=-1)
  phase = (u - street.first_piece - n['half']) / n['gap']
  wave = jnp.clip(1.25 * jnp.cos(jnp.pi * phase), -1, 1)
  constant = n['const'] * (1 - n['wave'])
  e = room * constant + jnp.minimum(room, 1.6) * n['wave'] * wave
  e = e + jnp.minimum(room, 2.0) * n['noise'] * (1 - jnp.abs(constant)) * (1 - n['wave']) * noise
  away = street.ends * jnp.minimum(room[..., None], 1.5)
  e = lerp(away[..., 0], e, _smooth(u / _BLEND))
  e = lerp(e, away[..., 1], _smooth((u - street.goal_distance) / _BLEND + 1))
  # towards a turn everything comes back to the middle, where both legs meet
  to_turn = jnp.minimum(jnp.abs(u - street.leg1), jnp.abs(u - street.leg1 - street.leg2))
  return 0.5 * (left + right) * (to_turn > 2.5) + e * _smooth(to_turn / 2.5)


def _smooth(x: jax.Array) -> jax.Array:
  x = jnp.clip(x, 0, 1)
  return x * x * (3 - 2 * x)


def in_world(street: Street, s: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
  """World (x, y) of canonical places."""
  return to_world(s, street.mirror * d, street.mirror * street.curvature)


def yaw_in_world(street: Street, s: jax.Array, heading: jax.Array) -> jax.Array:
  """World yaw of a heading (rad) against the street at s, both canonical."""
  return street.mirror * (heading + street.curvature * s)


def lines(street: Street) -> tuple[jax.Array, jax.Array]:
  """d of the lines where buildings stand, left and right of everything."""
  n = street.numbers
  left = 0.5 * n['pavement'] + n['depth'] + n['verge_left']
  return left, -0.5 * n['pavement'] - n['road'] - n['far_pavement'] - n['verge_right']


def world_bounds(street: Street) -> jax.Array:
  """[4] canonical (s_low, s_high, d_low, d_high) of the world."""
  n = street.numbers
  end, (left, right) = way_end(street.goal_distance), lines(street)
  is_corner = street.turn == CORNER
  s_high = street.first_s + jnp.where(street.turn == ROAD, end - street.leg2, end)
  s_high = jnp.where(is_corner, street.cross_high + n['far_pavement'], s_high)
  d_high = jnp.where(is_corner, end - street.leg1, left)
  return jnp.stack([street.first_s - BEHIND, s_high, right, d_high])


def make_ground(street: Street, curb_height: jax.Array) -> Ground:
  """The ground in the world's street frame, its surfaces still without a look."""
  n, m = street.numbers, street.mirror
  half = 0.5 * n['pavement']
  bounds = world_bounds(street)
  is_corner, is_road, has_cross = street.turn == CORNER, street.turn == ROAD, n['cross_road'] > 0
  absent = jnp.array([0.0, -1.0])

  def span(low: jax.Array, high: jax.Array) -> jax.Array:
    """Mirrored range of d."""
    return jnp.where(m > 0, jnp.stack([low, high]), jnp.stack([-high, -low]))

  def rectangle(is_there: jax.Array, s_low: jax.Array, s_high: jax.Array, across: jax.Array) -> jax.Array:
    return jnp.where(is_there, jnp.concatenate([jnp.stack([s_low, s_high]), across]), jnp.tile(absent, 2))

  # pavements reach under what stands along them, so that no grass shows at its foot
  apron_left, apron_right = (jnp.where(n[f'verge_{side}'] > 0, 0.0, _APRON) for side in ('left', 'right'))
  apron_left = jnp.where(n['depth'] > 0, 0.0, apron_left)
  road = span(-half - n['road'], -half)
  walk = jnp.where(is_corner, n['cross_pavement'], 2.0)
  # over the cross street in line with the pavement; over the road where the way or the cross street's pavement is
  first = rectangle(has_cross, street.cross_low, street.cross_high, span(-half, half))
  turn_s = street.first_s + street.leg1
  low = jnp.where(is_road, turn_s - n['zebra'], street.cross_low - walk)
  high = jnp.where(is_road, turn_s + n['zebra'], street.cross_low)
  second = rectangle(is_road | (has_cross & (n['road'] > 0)), low, high, road)
  plaza = rectangle(n['depth'] > 0, bounds[0] - 20, bounds[1] + 20, span(half, half + n['depth'] + _APRON))
  surfaces = len(SURFACES)
  cross = jnp.stack([street.cross_low, street.cross_high])
  beside = jnp.stack([-walk - apron_left, n['far_pavement'] + apron_left])
  return Ground(
    curvature=m * street.curvature,
    road=jnp.where(n['road'] > 0, road, absent),
    paved=span(-half - n['road'] - n['far_pavement'] - apron_right, half + apron_left),
    cross_road=jnp.where(has_cross, cross, absent),
    cross_paved=jnp.where(has_cross, cross + beside, absent),
    crossings=jnp.stack([first, second]),
    plazas=jnp.stack([plaza, jnp.tile(absent, 2)]),
    curb_height=curb_height,
    bounds=jnp.concatenate([bounds[:2], span(bounds[2], bounds[3])]),
    colour=jnp.zeros((surfaces, 3)),
    pattern=jnp.zeros(surfaces, jnp.int32),
    scale=jnp.ones(surfaces),
    contrast=jnp.zeros(surfaces),
  )
