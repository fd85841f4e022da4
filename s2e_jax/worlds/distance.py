"""Signed distances on the ground plane from points to a scene's primitives and to the fence around the world.

Every primitive is upright, so what a body of some height can touch is a set of rectangles
and discs, its *outlines*.
Distances are exact: negative inside, with unit normals that point away from the primitive.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.scene import KIND, Ground, Scene, ground_height, to_street, to_world
from s2e_jax.worlds.walls import walls_distance

# Distance (m) reported for slots that hold nothing a robot could touch.
FAR = 1e3
# A robot drives over what ends lower than this above the ground (m).
STEP_OVER = 0.05


@struct.dataclass
class Outlines:
  """What a body can touch of P primitives, in slot order: N rectangles, then M discs.

  x, y: [N] centre (m). cos, sin: [N] of the heading. half_x, half_y: [N] half sides (m).
  disc_x, disc_y, radius: [M] (m).
  is_solid: [P] bool: the slot can be touched. is_person: [P] bool.
  """

  x: jax.Array
  y: jax.Array
  cos: jax.Array
  sin: jax.Array
  half_x: jax.Array
  half_y: jax.Array
  disc_x: jax.Array
  disc_y: jax.Array
  radius: jax.Array
  is_solid: jax.Array
  is_person: jax.Array


def outlines(scene: Scene, height: float | jax.Array = 0.65) -> Outlines:
  """Outlines of one scene's primitives between STEP_OVER and `height` (m) above the ground they stand on.

  A capsule whose caps alone reach into that band counts with the widest circle it has there.
  """
  boxes, cylinders, capsules = scene.boxes, scene.cylinders, scene.capsules
  x = jnp.concatenate([boxes.x, cylinders.x, capsules.x])
  y = jnp.concatenate([boxes.y, cylinders.y, capsules.y])
  low = jnp.concatenate([boxes.low, cylinders.low, capsules.low])
  high = jnp.concatenate([boxes.high, cylinders.high, capsules.high])
  floor = ground_height(scene.ground, *to_street(x, y, scene.ground.curvature))
  bottom, top = floor + STEP_OVER, floor + height
  num_boxes, num_capsules = boxes.x.shape[-1], capsules.x.shape[-1]
  r = capsules.radius
  start = low.shape[-1] - num_capsules
  # height between the band and the capsule's straight part
  above = jnp.maximum(capsules.low + r - top[start:], 0) + jnp.maximum(bottom[start:] - capsules.high + r, 0)
  waist = jnp.sqrt(jnp.maximum(r * r - above * above, 0))
  return Outlines(
    x=boxes.x,
    y=boxes.y,
    cos=jnp.cos(boxes.yaw),
    sin=jnp.sin(boxes.yaw),
    half_x=boxes.half_x,
    half_y=boxes.half_y,
    disc_x=x[num_boxes:],
    disc_y=y[num_boxes:],
    radius=jnp.concatenate([cylinders.radius, waist]),
    is_solid=(high > low) & (high > bottom) & (low < top),
    is_person=scene.kind == KIND['person'],
  )


def outline_distances(shape: Outlines, points: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Signed distances [N, P] (m) of points [N, 2] to all outlines, FAR where nothing is; normals [N, P, 2].

  In the very middle of an outline the normal is any unit vector.
  """
  px, py = points[:, None, 0], points[:, None, 1]
  dx, dy = px - shape.x, py - shape.y
  u, v = shape.cos * dx + shape.sin * dy, shape.cos * dy - shape.sin * dx
  qu, qv = jnp.abs(u) - shape.half_x, jnp.abs(v) - shape.half_y
  out_u, out_v = jnp.maximum(qu, 0), jnp.maximum(qv, 0)
  outside = jnp.sqrt(out_u * out_u + out_v * out_v)
  is_inside = jnp.maximum(qu, qv) <= 0
  box_distance = jnp.where(is_inside, jnp.maximum(qu, qv), outside)
  scale = 1 / jnp.where(is_inside, 1.0, outside)
  nu = jnp.where(is_inside, (qu > qv).astype(u.dtype), out_u * scale) * jnp.where(u < 0, -1.0, 1.0)
  nv = jnp.where(is_inside, (qu <= qv).astype(u.dtype), out_v * scale) * jnp.where(v < 0, -1.0, 1.0)
  box_normal = jnp.stack([shape.cos * nu - shape.sin * nv, shape.sin * nu + shape.cos * nv], axis=-1)

  dx, dy = px - shape.disc_x, py - shape.disc_y
  to_axis = jnp.sqrt(dx * dx + dy * dy)
  is_middle = to_axis < 1e-6
  scale = 1 / jnp.where(is_middle, 1.0, to_axis)
  disc_normal = jnp.stack([jnp.where(is_middle, 1.0, dx * scale), jnp.where(is_middle, 0.0, dy * scale)], axis=-1)
  distance = jnp.concatenate([box_distance, to_axis - shape.radius], axis=-1)
  normal = jnp.concatenate([box_normal, disc_normal], axis=-2)
  return jnp.where(shape.is_solid, distance, FAR), normal


def primitive_distances(
  scene: Scene, points: jax.Array, height: float | jax.Array = 0.65
) -> tuple[jax.Array, jax.Array]:
  """Signed distances [N, P] (m) of world points [N, 2] to every slot, and unit normals [N, P, 2] away from it.

  height: m above the ground up to which something is in the way. Slots that are empty or overhead give FAR.
  """
  return outline_distances(outlines(scene, height), points)


def clearance(
  scene: Scene, points: jax.Array, include_people: bool = False, height: float | jax.Array = 0.65
) -> tuple[jax.Array, jax.Array]:
  """Signed distance [N] (m) of world points [N, 2] to the nearest primitive or wall, unit normal [N, 2] off it.

  People count only with include_people. FAR where the scene is empty.
  """
  shape = outlines(scene, height)
  distance, normal = outline_distances(shape, points)
  if not include_people:
    distance = jnp.where(shape.is_person, FAR, distance)
  nearest = jnp.argmin(distance, axis=-1)
  # a masked sum instead of a gather: gathers are slow inside vmap on a CPU
  chosen = jnp.arange(distance.shape[-1]) == nearest[:, None]
  least, away = jnp.min(distance, axis=-1), jnp.sum(jnp.where(chosen[..., None], normal, 0.0), axis=-2)
  if scene.walls is None:
    return least, away
  to_walls, off_walls = walls_distance(scene.walls, points)
  return jnp.minimum(least, to_walls), jnp.where((to_walls < least)[:, None], off_walls, away)


def fence_distance(ground: Ground, points: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Distance [N] (m) of world points [N, 2] to the nearest side of `ground.bounds`, and its normal [N, 2] inwards.

  Positive inside. Outside it is minus the depth behind the side that was left farthest.
  """
  k, bounds = ground.curvature, ground.bounds
  x, y = points[:, 0], points[:, 1]
  s, d = to_street(x, y, k)
  # the sides of constant s are straight lines across the street, those of constant d are parallel to its centre
  end_x, end_y = to_world(bounds[:2], jnp.zeros_like(bounds[:2]), k)
  end_cos, end_sin = jnp.cos(k * bounds[:2]), jnp.sin(k * bounds[:2])
  along = (x[:, None] - end_x) * end_cos + (y[:, None] - end_y) * end_sin
  heading_cos, heading_sin = jnp.cos(k * s), jnp.sin(k * s)
  ones = jnp.ones_like(x)
  sides = (
    (along[:, 0], end_cos[0] * ones, end_sin[0] * ones),
    (-along[:, 1], -end_cos[1] * ones, -end_sin[1] * ones),
    (d - bounds[2], -heading_sin, heading_cos),
    (bounds[3] - d, heading_sin, -heading_cos),
  )
  distance, nx, ny = sides[0]
  for other, other_x, other_y in sides[1:]:
    closer = other < distance
    distance, nx, ny = (
      jnp.where(closer, other, distance),
      jnp.where(closer, other_x, nx),
      jnp.where(closer, other_y, ny),
    )
  return distance, jnp.stack([nx, ny], axis=-1)
