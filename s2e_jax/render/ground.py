"""The ground under a pixel: two levels with a curb face between them, in street coordinates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.scene import CROSSING, CURB, GRASS, ROAD, SIDEWALK, Ground

FACE_STEPS = 2  # of false position, before the last, in the search for the face of a curb
FAR = 400.0  # m; the ground ends there and the sky begins


@struct.dataclass
class GroundHits:
  """Where pixel rays meet the ground, fields [B, h, W].

  distance: m along the camera's forward axis. s, d: street coordinates of the point (m). is_road: on a carriageway
  or on the face of its curb. is_face: on that face. is_paved, is_crossing: of what lies off resp. on it.
  """

  distance: jax.Array
  s: jax.Array
  d: jax.Array
  is_road: jax.Array
  is_face: jax.Array
  is_paved: jax.Array
  is_crossing: jax.Array


def street_coordinates(x: jax.Array, y: jax.Array, curvature: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Street (s, d) of world points: `scene.to_street` without root, quotient or arc tangent.

  XLA's CPU backend would store every root and quotient on the way. d is 5e-6 off (relative), s at most 2e-5.
  """
  k = curvature
  q = 2 * y - k * (x * x + y * y)
  w = jnp.maximum(1 - k * q, 1e-6)
  root = w * _inverse_root(w)
  one, two = 1 + root, jnp.maximum(1 - k * y + root, 1e-3)
  inverse = _inverse(one * two)
  d = q * (two * inverse)
  t = x * (one * inverse)  # tangent of half the angle, over k
  z = jnp.minimum((k * t) ** 2, 1.0)
  atan = 1 + z * (-0.3333047 + z * (0.1985442 + z * (-0.1301778 + z * (0.0683441 - z * 0.0180232))))
  return 2 * t * atan, d


def _inverse_root(x: jax.Array) -> jax.Array:
  """1 / sqrt(x) to 5e-6, x > 0: a guess from the bits, two steps of Newton."""
  y = lax.bitcast_convert_type(0x5F3759DF - (lax.bitcast_convert_type(x, jnp.int32) >> 1), jnp.float32)
  for _ in range(2):
    y = y * (1.5 - 0.5 * x * y * y)
  return y


def _inverse(x: jax.Array) -> jax.Array:
  """1 / x to 1e-6, x > 0: a guess from the bits, three steps of Newton."""
  y = lax.bitcast_convert_type(0x7EF311C7 - lax.bitcast_convert_type(x, jnp.int32), jnp.float32)
  for _ in range(3):
    y = y * (2 - x * y)
  return y


def _outside(value: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
  """Signed distance to a range, negative inside; a range with high <= low is far away."""
  half = jnp.where(high > low, (high - low) / 2, -1e4)
  return jnp.abs(value - (low + high) / 2) - half


def _outside_any(s: jax.Array, d: jax.Array, rectangles: jax.Array) -> jax.Array:
  distance = None
  for i in range(rectangles.shape[-2]):
    r = rectangles[..., i, :]
    one = jnp.maximum(_outside(s, r[..., 0], r[..., 1]), _outside(d, r[..., 2], r[..., 3]))
    distance = one if distance is None else jnp.minimum(distance, one)
  assert distance is not None
  return distance


def outside_road(ground: Ground, s: jax.Array, d: jax.Array) -> jax.Array:
  """Signed distance (m, in street coordinates) from the carriageways, negative on them."""
  road = jnp.minimum(
    _outside(d, ground.road[..., 0], ground.road[..., 1]),
    _outside(s, ground.cross_road[..., 0], ground.cross_road[..., 1]),
  )
  return jnp.maximum(road, -_outside_any(s, d, ground.plazas))


def segment(hits: GroundHits) -> jax.Array:
  """int32 segmentation id of ground pixels."""
  low = jnp.where(hits.is_face, CURB, jnp.where(hits.is_crossing, CROSSING, ROAD))
  return jnp.where(hits.is_road, low, jnp.where(hits.is_paved, SIDEWALK, GRASS))


def expand(record: Ground, axes: int) -> Ground:
  """The record with `axes` more axes of one after the batch axis, so that it broadcasts against pixels."""
  return jax.tree.map(lambda x: x.reshape(x.shape[:1] + (1,) * axes + x.shape[1:]), record)


def ground_hits(
  ground: Ground,
  eye: jax.Array,
  dx: jax.Array,
  dy: jax.Array,
  v: jax.Array,
  bits: tuple[jax.Array, ...],
  is_exact: bool,
) -> GroundHits:
  """Where rays from eye [B, 3] along dx, dy [B, 1, W] and v [B, h, 1] meet the ground, which is expanded.

  bits: four bool [B, h, W]: carriageway and pavement where the ray meets the pavements' level, carriageway and
  crossing where it meets the carriageways'. is_exact: find the distance of curb faces too, else it is the road's.
  """
  x, y, z = (eye[:, i].reshape(-1, 1, 1) for i in range(3))
  down = 1 / jnp.minimum(v, -1e-5)
  upper = (ground.curb_height - z) * down
  lower = -z * down
  is_road = bits[0]
  is_face = is_road & ~bits[2]
  distance = jnp.where(is_road, lower, upper)
  street = lambda far: street_coordinates(x + far * dx, y + far * dy, ground.curvature)
  s, d = street(distance)
  if is_exact:
    here, there = (upper, outside_road(ground, *street(upper))), (lower, outside_road(ground, s, d))
    for _ in range(FACE_STEPS):
      share = jnp.clip(here[1] / jnp.minimum(here[1] - there[1], -1e-6), 0.05, 0.95)
      middle = here[0] + share * (there[0] - here[0])
      off = outside_road(ground, *street(middle))
      is_off = off > 0
      here = (jnp.where(is_off, here[0], middle), jnp.where(is_off, here[1], off))
      there = (jnp.where(is_off, middle, there[0]), jnp.where(is_off, off, there[1]))
    share = jnp.clip(here[1] / jnp.minimum(here[1] - there[1], -1e-6), 0, 1)
    distance = jnp.where(is_face, here[0] + share * (there[0] - here[0]), distance)
  return GroundHits(
    distance=distance, s=s, d=d, is_road=is_road, is_face=is_face, is_paved=bits[1], is_crossing=bits[3]
  )
