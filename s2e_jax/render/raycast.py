"""The oracle: every ray against every primitive, in three dimensions, one environment at a time.

Slow and obvious. What is seen, how far it is and what lies in shadow is found without a thought for columns; what
it looks like is then asked of the same shading, with every pixel as a column of its own.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from s2e_jax.render import entries, ground, light, paving, pixels, sky, tilted
from s2e_jax.render.primitives import primitives_of, sunlight_share
from s2e_jax.render.view import View
from s2e_jax.scene import (
  CROSSING,
  CURB,
  GRASS,
  ROAD,
  SIDEWALK,
  SKY,
  Boxes,
  Ground,
  Rounds,
  Scene,
  in_rectangles,
  on_pavement,
  on_road,
  to_street,
)

NONE = 1e9  # a ray that meets nothing
Vector = tuple[jax.Array, jax.Array, jax.Array]


def _quadratic(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(whether real, smaller root, larger root) of a t^2 - 2 b t + c = 0 for a > 0."""
  d = b * b - a * c
  root = jnp.sqrt(jnp.maximum(d, 0))
  return d > 0, (b - root) / a, (b + root) / a


def _entered(is_hit: jax.Array, enter: jax.Array, leave: jax.Array, start: float) -> jax.Array:
  """Where a convex body is entered after `start`; bodies that hold the start of the ray are not seen."""
  return jnp.where(is_hit & (leave > enter) & (enter > start), enter, NONE)


def _slab(origin: jax.Array, direction: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
  inverse = 1 / jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
  a, b = (low - origin) * inverse, (high - origin) * inverse
  return jnp.minimum(a, b), jnp.maximum(a, b)


def cast_box(box: Boxes, origin: Vector, ray: Vector, start: float) -> jax.Array:
  """Distance along rays, in their lengths, to one box; NONE where they miss."""
  c, s = jnp.cos(box.yaw), jnp.sin(box.yaw)
  ox, oy = origin[0] - box.x, origin[1] - box.y
  x = _slab(c * ox + s * oy, c * ray[0] + s * ray[1], -box.half_x, box.half_x)
  y = _slab(c * oy - s * ox, c * ray[1] - s * ray[0], -box.half_y, box.half_y)
  z = _slab(origin[2], ray[2], box.low, box.high)
  enter, leave = jnp.maximum(jnp.maximum(x[0], y[0]), z[0]), jnp.minimum(jnp.minimum(x[1], y[1]), z[1])
  return _entered(box.high > box.low, enter, leave, start)


def cast_cylinder(part: Rounds, origin: Vector, ray: Vector, start: float) -> jax.Array:
  """Distance along rays to one upright cylinder."""
  ox, oy = part.x - origin[0], part.y - origin[1]
  a = jnp.maximum(ray[0] ** 2 + ray[1] ** 2, 1e-12)
  is_hit, near, far = _quadratic(a, ray[0] * ox + ray[1] * oy, ox**2 + oy**2 - part.radius**2)
  z = _slab(origin[2], ray[2], part.low, part.high)
  enter, leave = jnp.maximum(near, z[0]), jnp.minimum(far, z[1])
  return _entered(is_hit & (part.high > part.low), enter, leave, start)


def cast_capsule(part: Rounds, origin: Vector, ray: Vector, start: float) -> jax.Array:
  """Distance along rays to one upright capsule: its shaft or one of its balls, whichever is entered first."""
  low, high = part.low + part.radius, part.high - part.radius
  ox, oy = part.x - origin[0], part.y - origin[1]
  flat = ray[0] ** 2 + ray[1] ** 2
  along = ray[0] * ox + ray[1] * oy
  enters, leaves = [], []
  for end in (low, high):
    oz = end - origin[2]
    is_hit, near, far = _quadratic(flat + ray[2] ** 2, along + ray[2] * oz, ox**2 + oy**2 + oz**2 - part.radius**2)
    enters.append(jnp.where(is_hit, near, NONE))
    leaves.append(jnp.where(is_hit, far, -NONE))
  is_hit, near, far = _quadratic(jnp.maximum(flat, 1e-12), along, ox**2 + oy**2 - part.radius**2)
  z = _slab(origin[2], ray[2], low, high)
  near, far = jnp.maximum(near, z[0]), jnp.minimum(far, z[1])
  enters.append(jnp.where(is_hit & (far > near), near, NONE))
  leaves.append(jnp.where(is_hit & (far > near), far, -NONE))
  enter, leave = jnp.stack(enters).min(0), jnp.stack(leaves).max(0)
  return _entered(part.high > part.low, enter, leave, start)


def cast(scene: Scene, origin: Vector, ray: Vector, start: float) -> jax.Array:
  """[P, N] distances along N rays to all primitives of one scene, in slot order; NONE where a ray misses."""
  rows = []
  for part, one in ((scene.boxes, cast_box), (scene.cylinders, cast_cylinder), (scene.capsules, cast_capsule)):
    rows.append(jax.vmap(lambda p, one=one: one(p, origin, ray, start))(part))
  return jnp.concatenate(rows, 0)


def cast_ground(record: Ground, origin: Vector, ray: Vector) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """(distance, surface, s, d) of N rays on the ground of one scene; distance ground.FAR where they find none.

  The face of a curb is searched by bisection between the two levels.
  """
  down = jnp.minimum(ray[2], -1e-5)
  is_road = lambda t: on_road(record, *to_street(origin[0] + t * ray[0], origin[1] + t * ray[1], record.curvature))
  upper, lower = (record.curb_height - origin[2]) / down, -origin[2] / down
  is_low = is_road(upper)
  is_face = is_low & ~is_road(lower)
  here, there = upper, lower
  for _ in range(24):
    middle = (here + there) / 2
    on_it = is_road(middle)
    here, there = jnp.where(on_it, middle, here), jnp.where(on_it, there, middle)
  distance = jnp.where(is_face, here, jnp.where(is_low, lower, upper))
  s, d = to_street(origin[0] + distance * ray[0], origin[1] + distance * ray[1], record.curvature)
  zebra = in_rectangles(s, d, record.crossings)
  low = jnp.where(is_face, CURB, jnp.where(zebra, CROSSING, ROAD))
  surface = jnp.where(is_low, low, jnp.where(on_pavement(record, s, d), SIDEWALK, GRASS))
  is_seen = (ray[2] < 0) & (upper < ground.FAR)
  return jnp.where(is_seen, distance, ground.FAR), jnp.where(is_seen, surface, SKY), s, d


def draw_one(
  scene: Scene,
  view: View,
  askew: tilted.TiltedBoxes | None,
  u: jax.Array,
  v: jax.Array,
  pixel: jax.Array,
  shadow: bool,
  with_colour: bool,
) -> tuple[jax.Array, jax.Array]:
  """(int32 [N] 0xssbbggrr, depth [N]) of N rays of slopes u to the right and v upwards; pixel: [] slope of one.

  askew: tilted boxes, numbered in the segmentation after the scene's slots.
  """
  c, s = jnp.cos(view.yaw), jnp.sin(view.yaw)
  origin: Vector = (view.position[0], view.position[1], view.position[2])
  ray: Vector = (c + u * s, s - u * c, v)
  distances = cast(scene, origin, ray, 1 / entries.NEAREST)
  slot, near = jnp.argmin(distances, 0).astype(jnp.int32), distances.min(0)
  far, surface, along, across = cast_ground(scene.ground, origin, ray)
  is_down, is_object = surface != SKY, near < jnp.minimum(far, NONE)
  is_object = jnp.where(is_down, is_object, near < NONE)
  segment = jnp.where(is_object, slot, surface)
  depth = jnp.where(is_object, near, jnp.where(is_down, far, 0.0))
  rays, is_askew = jnp.stack(jnp.broadcast_arrays(*ray)), jnp.zeros(u.shape, bool)
  if askew is not None:
    reached, normals = tilted.cast(askew, jnp.stack(origin), rays, 1 / entries.NEAREST)
    which, front = jnp.argmin(reached, 0), reached.min(0)
    is_askew = (front < NONE) & ((depth == 0) | (front < depth))
    segment = jnp.where(is_askew, distances.shape[0] + which.astype(jnp.int32), segment)
    depth = jnp.where(is_askew, front, depth)
  if not with_colour:
    return segment << 24, depth
  batch = lambda x: jax.tree.map(lambda f: f[None], x)
  scenes, views, u, v = batch(scene), batch(view), u[None], v[None]
  prims = primitives_of(scenes, views, sunlight_share(scenes))
  chosen = entries.entries_of(
    prims, scenes.light, views.yaw, u, pixel[None], slot[None, None], jnp.ones((1, 1, slot.size), bool)
  )
  look = {name: getattr(chosen, name) for name in pixels.LOOKS}
  colour = light.dim(*pixels.paint(look, v[:, None]))
  words, patterns = paving.surfaces_of(scenes.ground, scenes.light, views.position[:, 2], v, pixel[None])
  hits = ground.GroundHits(
    distance=far[None, None],
    s=along[None, None],
    d=across[None, None],
    is_road=((surface == ROAD) | (surface == CURB) | (surface == CROSSING))[None, None],
    is_face=(surface == CURB)[None, None],
    is_paved=(surface == SIDEWALK)[None, None],
    is_crossing=(surface == CROSSING)[None, None],
  )
  in_shadow = None
  if shadow:
    x, y = origin[0] + far * ray[0], origin[1] + far * ray[1]
    z = jnp.where((surface == ROAD) | (surface == CROSSING), 0.0, scene.ground.curb_height)
    z = jnp.where(surface == CURB, origin[2] + far * v[0], z)
    # A hair above the ground, on which nearly everything stands.
    along_sun = jnp.broadcast_to(scene.light.sun[:, None], (3, x.size))
    sun: Vector = (along_sun[0], along_sun[1], along_sun[2])
    is_dark = cast(scene, (x, y, z + 1e-3), sun, 0.0).min(0) < NONE
    if askew is not None:
      is_dark |= tilted.cast(askew, jnp.stack([x, y, z + 1e-3]), along_sun, 0.0)[0].min(0) < NONE
    in_shadow = is_dark[None, None]
  floor = paving.paint(ground.expand(scenes.ground, 2), hits, words[:, :, None], patterns, in_shadow)
  columns, sky_words, sky_numbers = sky.sky_of(scenes.light, views, u, v)
  above = sky.paint(columns, jnp.stack(sky_words)[:, :, None], jnp.stack(sky_numbers)[:, :, None])
  behind = jnp.where(is_down, light.dim(*floor)[0, 0], above[0, 0])
  seen = jnp.where(is_object, colour[0, 0], behind)
  if askew is not None:
    normal = jnp.take_along_axis(normals, which[None, :, None], axis=0)[0]
    seen = jnp.where(is_askew, tilted.paint(askew, scene.light, which, normal, front), seen)
  return (segment << 24) | seen, depth


def draw(
  scenes: Scene,
  views: View,
  u: jax.Array,
  v: jax.Array,
  pixel: jax.Array,
  shadow: bool,
  with_colour: bool,
  askew: tilted.TiltedBoxes | None = None,
) -> tuple[jax.Array, jax.Array]:
  """(int32 [B, h, w] 0xssbbggrr, depth float32 [B, h, w]) of rays of slopes u, v [B, h, w]; pixel: [B]."""
  shape = u.shape

  def one(part: Any) -> tuple[jax.Array, jax.Array]:
    scene, view, boxes, across, up, step = part
    return draw_one(scene, view, boxes, across, up, step, shadow, with_colour)

  flat = lambda x: x.reshape(shape[0], -1)
  word, depth = lax.map(one, (scenes, views, askew, flat(u), flat(v), pixel))
  return word.reshape(shape), depth.reshape(shape)
