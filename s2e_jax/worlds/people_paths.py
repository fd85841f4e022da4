"""Random paths for pedestrians over the pavements, crossings and plazas of any ground, in the street frame."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from s2e_jax.scene import Ground, on_pavement, to_street, to_world
from s2e_jax.worlds.distance import FAR, Outlines
from s2e_jax.worlds.people_state import NUM_WAYPOINTS

NUM_LEGS = NUM_WAYPOINTS - 1
NUM_UNIFORMS = 10  # random numbers per proposed path
_SHORT = 0.05  # m, a leg without a direction of its own
_LARGE = 0.6  # m, half side of things that one does not simply step around
_INSET = 0.6  # m that the ends of paths keep from the edges of an area
_SAMPLES = 4  # points per leg at which a path is judged


def walkable_areas(ground: Ground) -> jax.Array:
  """[6, 4] rectangles (s_low, s_high, d_low, d_high): both pavements, both of the cross street, both plazas.

  They are cut to the world and inset from their edges; absent ones have no area.
  """
  bounds = ground.bounds
  s_all, d_all = bounds[:2], bounds[2:]

  def sides(paved: jax.Array, road: jax.Array) -> tuple[jax.Array, jax.Array]:
    # without a carriageway both sides are the whole pavement
    has_road = road[1] > road[0]
    low = jnp.stack([paved[0], jnp.where(has_road, road[0], paved[1])])
    high = jnp.stack([jnp.where(has_road, road[1], paved[0]), paved[1]])
    return low, high

  right, left = sides(ground.paved, ground.road)
  cross_low, cross_high = sides(ground.cross_paved, ground.cross_road)
  rows = [jnp.concatenate([s_all, span]) for span in (left, right)]
  rows += [jnp.concatenate([span, d_all]) for span in (cross_low, cross_high)]
  areas = jnp.concatenate([jnp.stack(rows), ground.plazas])
  low = jnp.maximum(areas[:, 0::2], bounds[0::2])
  high = jnp.minimum(areas[:, 1::2], bounds[1::2])
  inset = jnp.minimum(_INSET, 0.4 * jnp.maximum(high - low, 0))
  low, high = low + inset, high - inset
  return jnp.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=-1)


def _pick(areas: jax.Array, weight: jax.Array, u: jax.Array) -> jax.Array:
  """Rows [*B, 4] of areas, drawn in proportion to weight by uniform numbers u [*B]."""
  edge = jnp.cumsum(weight)
  edge = edge / jnp.maximum(edge[-1], 1e-6)
  index = jnp.sum(u[..., None] >= edge[:-1], axis=-1)
  chosen = jnp.arange(areas.shape[0]) == index[..., None]
  return jnp.sum(jnp.where(chosen[..., None], areas, 0.0), axis=-2)


def _towards_ends(u: jax.Array) -> jax.Array:
  """Numbers in 0..1 of the arcsine distribution, from uniform ones."""
  return 0.5 - 0.5 * jnp.cos(jnp.pi * u)


def propose_paths(ground: Ground, u: jax.Array, is_turning: jax.Array) -> jax.Array:
  """Paths [*B, 6, 2] of corners (s, d): along one area, or from one to another with one or two right turns.

  u: [*B, NUM_UNIFORMS] uniform numbers. is_turning: [*B] bool.
  """
  areas = walkable_areas(ground)
  size = jnp.maximum(areas[:, 1::2] - areas[:, 0::2], 0.0)
  # the root, else a wide plaza holds everybody
  weight = jnp.sqrt(size[:, 0] * size[:, 1])
  here = _pick(areas, weight, u[..., 0])
  there = _pick(areas, weight, u[..., 1])
  low, extent = here[..., 0::2], here[..., 1::2] - here[..., 0::2]
  # ends crowd at the ends of an area, else nobody would walk all along it
  start = low + extent * _towards_ends(u[..., 2:4])
  # along an area: far along its longer side, a little across
  other = low + extent * _towards_ends(u[..., 4:6])
  share = jnp.clip(extent / jnp.maximum(extent[..., ::-1], 1e-3), 0.15, 1.0)
  straight_end = start + share * (other - start)
  end = jnp.where(is_turning[..., None], there[..., 0::2] + (there[..., 1::2] - there[..., 0::2]) * u[..., 4:6],
                  straight_end)  # fmt: skip
  # the two turns: on a crossing, or at the corner of an L
  crossing = jnp.where(u[..., 6, None] < 0.5, ground.crossings[0], ground.crossings[1])
  low, extent = crossing[..., 0::2], crossing[..., 1::2] - crossing[..., 0::2]
  on_crossing = low + extent * (0.15 + 0.7 * u[..., 7:8])
  has_crossing = (extent[..., 0] > 0) & (extent[..., 1] > 0)
  corner = jnp.where(u[..., 8, None] < 0.5, start, end)
  middle = jnp.where((has_crossing & (u[..., 9] < 0.7))[..., None], on_crossing, corner)
  s_first = u[..., 0] * 7 % 1 < 0.5
  one = jnp.where(s_first[..., None], jnp.stack([middle[..., 0], start[..., 1]], -1),
                  jnp.stack([start[..., 0], middle[..., 1]], -1))  # fmt: skip
  two = jnp.where(s_first[..., None], jnp.stack([middle[..., 0], end[..., 1]], -1),
                  jnp.stack([end[..., 0], middle[..., 1]], -1))  # fmt: skip
  # one in three goes there as the crow flies: over a plaza
  step = (end - start) / 3
  has_turns = (is_turning & (u[..., 1] * 11 % 1 < 2 / 3))[..., None]
  one = jnp.where(has_turns, one, start + step)
  two = jnp.where(has_turns, two, start + 2 * step)
  return jnp.stack([start, (start + one) / 2, one, two, (two + end) / 2, end], axis=-2)


def route_in_street(ground: Ground, route: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Corners [L, 2] in the street frame of a route [L, 2] in the world, and metres walked up to each [L]."""
  street = jnp.stack(to_street(route[:, 0], route[:, 1], ground.curvature), axis=-1)
  step = street[1:] - street[:-1]
  ds = step[:, 0] * (1 - ground.curvature * street[1:, 1])
  lengths = jnp.sqrt(ds * ds + step[:, 1] ** 2 + 1e-9)
  return street, jnp.concatenate([jnp.zeros(1), jnp.cumsum(lengths)])


def along_route(street: jax.Array, arc: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Points s, d [*B] at arc lengths at [*B] of the route street [L, 2] with arc lengths arc [L]."""
  return jnp.interp(at, arc, street[:, 0]), jnp.interp(at, arc, street[:, 1])


def paths_along_route(street: jax.Array, arc: jax.Array, u: jax.Array) -> jax.Array:
  """Paths [*B, 6, 2] along most of the robot's route, a little beside it; u: [*B, 3 or more] uniform numbers."""
  begin, end = 0.35 * u[..., 0:1], 1 - 0.35 * u[..., 1:2]
  at = arc[-1] * (begin + (end - begin) * jnp.linspace(0.0, 1.0, NUM_WAYPOINTS))
  path = jnp.stack(along_route(street, arc, at), axis=-1)
  return offset_paths(path, 1.2 * (u[..., 2] - 0.5))


def leg_lengths(paths: jax.Array, curvature: jax.Array) -> jax.Array:
  """Lengths [*B, 5] (m) of the legs of paths [*B, 6, 2] in the street frame."""
  middle = (paths[..., 1:, :] + paths[..., :-1, :]) / 2
  step = paths[..., 1:, :] - paths[..., :-1, :]
  ds = step[..., 0] * (1 - curvature * middle[..., 1])
  return jnp.sqrt(ds * ds + step[..., 1] ** 2 + 1e-12)


def path_points(paths: jax.Array, num: int = _SAMPLES) -> jax.Array:
  """Points [*B, 5 num, 2] spread over the legs of paths [*B, 6, 2]."""
  t = (jnp.arange(num) + 0.5) / num
  a, b = paths[..., :-1, None, :], paths[..., 1:, None, :]
  points = a + (b - a) * t[:, None]
  return points.reshape(*paths.shape[:-2], NUM_LEGS * num, 2)


def paved_share(ground: Ground, paths: jax.Array, half_width: jax.Array) -> jax.Array:
  """Share [*B] of the length of paths [*B, 6, 2] on which a party of half_width [*B] (m) keeps to the pavement."""
  points = path_points(paths)
  s, d, w = points[..., 0], points[..., 1], half_width[..., None]
  paved = on_pavement(ground, s + w, d + w) & on_pavement(ground, s - w, d - w)
  legs = leg_lengths(paths, ground.curvature)
  per_leg = jnp.mean(paved.reshape(*paved.shape[:-1], NUM_LEGS, _SAMPLES), axis=-1)
  return jnp.sum(per_leg * legs, axis=-1) / jnp.sum(legs, axis=-1)


def pass_boxes(box: tuple[jax.Array, ...], start: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Shares of the way at which segments enter and leave boxes; the first is larger where they pass beside them.

  box: x, y, cos, sin, half_x, half_y. start, step: [*B, 2] m, beginning of a segment and way to its end. All of
  it broadcasts.
  """
  x, y, c, s, half_x, half_y = box
  dx, dy, ox, oy = step[..., 0], step[..., 1], start[..., 0] - x, start[..., 1] - y
  du, dv, ou, ov = c * dx + s * dy, c * dy - s * dx, c * ox + s * oy, c * oy - s * ox
  per_u = 1 / jnp.where(jnp.abs(du) < 1e-5, 1e-5, du)
  per_v = 1 / jnp.where(jnp.abs(dv) < 1e-5, 1e-5, dv)
  wide_u, wide_v = half_x * jnp.abs(per_u), half_y * jnp.abs(per_v)
  return jnp.maximum(-ou * per_u - wide_u, -ov * per_v - wide_v), jnp.minimum(
    wide_u - ou * per_u, wide_v - ov * per_v
  )


def nearest_object(shape: Outlines, x: jax.Array, y: jax.Array) -> jax.Array:
  """Distance [*B] (m) from world points x, y [*B] to the nearest outline: negative inside, FAR for none."""
  # outlines lead and points come last, so that the minimum is one plain loop; hence no `outline_distances`
  x, y = jax.lax.optimization_barrier((x, y))
  column = lambda values: values.reshape(-1, *(1,) * x.ndim)
  num = shape.x.shape[0]
  dx, dy, c, s = x - column(shape.x), y - column(shape.y), column(shape.cos), column(shape.sin)
  qu = jnp.abs(c * dx + s * dy) - column(shape.half_x)
  qv = jnp.abs(c * dy - s * dx) - column(shape.half_y)
  out_u, out_v = jnp.maximum(qu, 0), jnp.maximum(qv, 0)
  box = jnp.sqrt(out_u * out_u + out_v * out_v) + jnp.minimum(jnp.maximum(qu, qv), 0)
  box = jnp.min(jnp.where(column(shape.is_solid[:num]), box, FAR), axis=0, initial=FAR)
  dx, dy = x - column(shape.disc_x), y - column(shape.disc_y)
  disc = jnp.where(column(shape.is_solid[num:]), jnp.sqrt(dx * dx + dy * dy) - column(shape.radius), FAR)
  return jnp.minimum(box, jnp.min(disc, axis=0, initial=FAR))


def is_blocked(ground: Ground, shape: Outlines, paths: jax.Array, half_width: jax.Array) -> jax.Array:
  """Whether [*B, 5] each leg of paths [*B, 6, 2] runs into something large, for a party of half_width [*B] (m).

  People find their way round small things themselves.
  """
  x, y = to_world(paths[..., 0], paths[..., 1], ground.curvature)
  # boxes lead and paths come last, so that the rest is one plain loop
  x, y = jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0)
  start, step = jnp.stack([x[:-1], y[:-1]], axis=-1), jnp.stack([x[1:] - x[:-1], y[1:] - y[:-1]], axis=-1)
  start, step, half_width = jax.lax.optimization_barrier((start, step, half_width))
  box = [
    v.reshape(-1, *(1,) * x.ndim) for v in (shape.x, shape.y, shape.cos, shape.sin, shape.half_x, shape.half_y)
  ]
  enter, leave = pass_boxes((*box[:4], box[4] + half_width, box[5] + half_width), start, step)
  is_large = (jnp.maximum(shape.half_x, shape.half_y) > _LARGE) & shape.is_solid[: shape.x.shape[0]]
  hit = (enter < leave) & (enter < 1) & (leave > 0) & is_large.reshape(box[0].shape)
  return jnp.moveaxis(jnp.any(hit, axis=0), 0, -1)


def point_along(
  paths: jax.Array, curvature: jax.Array, share: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Point [*B, 2] at a share [*B] of the length of paths [*B, 6, 2], index [*B] (0..4) and direction of its leg.

  The direction is a unit vector [*B, 2] of the street frame.
  """
  legs = leg_lengths(paths, curvature)
  end = jnp.cumsum(legs, axis=-1)
  at = share * end[..., -1]
  leg = jnp.sum(at[..., None] > end[..., :-1], axis=-1)
  chosen = jnp.arange(NUM_LEGS) == leg[..., None]
  begin = jnp.sum(jnp.where(chosen, end - legs, 0.0), axis=-1)
  length = jnp.sum(jnp.where(chosen, legs, 0.0), axis=-1)
  t = jnp.clip((at - begin) / length, 0.0, 1.0)
  a = jnp.sum(jnp.where(chosen[..., None], paths[..., :-1, :], 0.0), axis=-2)
  step = jnp.sum(jnp.where(chosen[..., None], paths[..., 1:, :], 0.0), axis=-2) - a
  size = jnp.sqrt(jnp.sum(step * step, axis=-1, keepdims=True))
  return a + step * t[..., None], leg, step / jnp.maximum(size, 1e-6)


def offset_paths(paths: jax.Array, offset: jax.Array) -> jax.Array:
  """Paths [*B, 6, 2] moved sideways by offset [*B] (m, positive left), corners mitred."""
  step = paths[..., 1:, :] - paths[..., :-1, :]
  length = jnp.sqrt(jnp.sum(step * step, axis=-1, keepdims=True))
  direction = step / jnp.maximum(length, 1e-6)
  # a leg without length takes the direction of the one before, the first that of the next with a length
  forward = direction[..., -1, :]
  for i in reversed(range(NUM_LEGS)):
    forward = jnp.where(length[..., i, :] < _SHORT, forward, direction[..., i, :])
  normals = []
  for i in range(NUM_LEGS):
    forward = jnp.where(length[..., i, :] < _SHORT, forward, direction[..., i, :])
    normals.append(jnp.stack([-forward[..., 1], forward[..., 0]], axis=-1))
  mitres = [normals[0]]
  for a, b in itertools.pairwise(normals):
    mitres.append((a + b) / jnp.maximum(1 + jnp.sum(a * b, axis=-1, keepdims=True), 0.5))
  mitres.append(normals[-1])
  return paths + offset[..., None, None] * jnp.stack(mitres, axis=-2)
