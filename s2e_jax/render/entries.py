"""The column pass: which primitives a column meets first, and everything about them that is the same all down it.

Distances are inverse (1/m ahead of the camera): the ray w -> (1/w) (1, -u) crosses the faces of a box where w is
linear in u, so the search for the nearest needs no division.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.fences import settle
from s2e_jax.render import light as lights
from s2e_jax.render import patterns
from s2e_jax.render.bits import MAGIC, unpack_halves
from s2e_jax.render.primitives import Primitives
from s2e_jax.scene import Light

NEAREST = 1 / 0.03  # 1/m; what begins nearer is not drawn: the camera is inside it
NEVER = 1e9
STEEP = 1000.0
FOOT = 0.35  # m above its bottom over which a wall lightens


@struct.dataclass
class Entries:
  """What K primitives look like in W columns, nearest first, [B, K, W] each; unused ones have low > high.

  near: inverse distance (1/m). low, high: slopes between which it is seen.
  base, accent: int32 0x00bbggrr of its two colours where it is brightest, lit and behind fog, the slot resp. the
  shade at its foot above them. rise, shift: 256ths of pattern rows are bits of v * rise + shift.
  spans, seeds: of `patterns.wall_columns`. shades: four bytes: brightness of wall, top and underside, noise.
  bend, level: v * bend + level is 1 where the surface looks up, -1 where it looks down, 0 where it is upright.
  forward, square, foot, head: only for exact depth: see `pixels.exact_distance`.
  """

  near: jax.Array
  low: jax.Array
  high: jax.Array
  base: jax.Array
  accent: jax.Array
  rise: jax.Array
  shift: jax.Array
  spans: jax.Array
  seeds: jax.Array
  shades: jax.Array
  bend: jax.Array
  level: jax.Array
  forward: jax.Array
  square: jax.Array
  foot: jax.Array
  head: jax.Array


def hovering(prims: Primitives) -> jax.Array:
  """[B, P]: inverse distance of primitives right above or below the camera, as near as any; NEVER for others."""
  outside_x, outside_y = jnp.abs(prims.x) - prims.half_x, jnp.abs(prims.y) - prims.half_y
  is_round = jnp.arange(prims.x.shape[1]) >= prims.num_boxes
  square = prims.x * prims.x + prims.y * prims.y - prims.half_x * prims.half_x
  is_in = jnp.where(is_round, square <= 0, (outside_x <= 0) & (outside_y <= 0))
  return jnp.where(is_in & ((prims.low > 0) | (prims.high < 0)), 0.99 * NEAREST, NEVER)


def nearness_keys(prims: Primitives, u: jax.Array) -> jax.Array:
  """int32 [B, P, W]: bits of the inverse distance with 127 - slot in the low 7; 0 where the column misses."""
  n = prims.num_boxes
  column = u[:, None]
  c, s, x, y = (f[:, :n] for f in (prims.cos, prims.sin, prims.x, prims.y))
  near: jax.Array = hovering(prims)[:, :n, None]
  far: jax.Array = jnp.zeros((1, 1, 1))
  # A ray (1, -u) turns into (c - u s, -s - u c) along the box's axes.
  for middle, half, a, b in ((x, prims.half_x[:, :n], c, -s), (y, prims.half_y[:, :n], -s, -c)):
    side = jnp.sign(middle)
    outside = jnp.abs(middle) - half
    is_out = outside > 0
    face = side / jnp.where(jnp.abs(outside) < 1e-6, 1e-6, outside)
    back = side / jnp.maximum(jnp.abs(middle) + half, 1e-6)
    line = lambda scale, offset, a=a, b=b: (
      (a * scale)[..., None] + offset[..., None] + column * (b * scale)[..., None]
    )
    enter = line(jnp.where(is_out, face, 0), jnp.where(is_out, 0.0, NEVER))
    leave = jnp.maximum(line(back, 0 * back), line(jnp.where(is_out, 0, face), jnp.where(is_out, -NEVER, 0.0)))
    near = jnp.minimum(near, enter)
    far = jnp.maximum(far, leave)
  boxes = _key(near, (near > far) & (near < NEAREST), 0)
  x, y, radius = prims.x[:, n:], prims.y[:, n:], prims.half_x[:, n:]
  square = x * x + y * y - radius * radius
  scale = 1 / jnp.where(jnp.abs(square) < 1e-6, 1e-6, square)
  wide = lambda f: f[..., None]
  across = wide(y) + column * wide(x)
  inside = wide(radius * radius) * (1 + column * column) - across * across
  near = (wide(x) - column * wide(y) + jnp.sqrt(jnp.maximum(inside, 0))) * wide(scale)
  near = jnp.minimum(jnp.where(wide(square) > 0, near, NEVER), hovering(prims)[:, n:, None])
  rounds = _key(near, (inside > 0) & (near > 0) & (near < NEAREST), n)
  return jnp.concatenate([boxes, rounds], 1)


def _key(near: jax.Array, hit: jax.Array, first: int) -> jax.Array:
  slots = 127 - first - jnp.arange(near.shape[1], dtype=jnp.int32)[None, :, None]
  return jnp.where(hit, (lax.bitcast_convert_type(near, jnp.int32) & ~127) | slots, 0)


def nearest_slots(keys: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """(slots int32 [B, K, W] nearest first, bool [B, K, W] whether there is one) of the K largest keys."""
  best = [_largest(keys)]
  for _ in range(count - 1):
    best.append(_largest(jnp.where(keys < best[-1][:, None], keys, 0)))
  chosen = jnp.stack(best, 1)
  return 127 - (chosen & 127), chosen > 0


def _largest(keys: jax.Array) -> jax.Array:
  """Maximum over axis 1, in parts of 32: longer axes XLA's CPU backend reduces in two slower passes."""
  return functools.reduce(jnp.maximum, [keys[:, i : i + 32].max(1) for i in range(0, keys.shape[1], 32)])


def entries_of(
  prims: Primitives,
  light: Light,
  yaw: jax.Array,
  u: jax.Array,
  pixel: jax.Array,
  slots: jax.Array,
  found: jax.Array,
) -> Entries:
  """Entries of chosen primitives: slots, found [B, K, W]; u [B, W]; pixel [B]: slope of one pixel."""
  num, count = prims.x.shape
  flat = (slots + count * jnp.arange(num, dtype=jnp.int32)[:, None, None]).reshape(-1)
  pick = lambda f: f.reshape(-1).at[flat].get(mode='promise_in_bounds').reshape(slots.shape)
  hold = functools.partial(settle, pixel[0] > 0)
  cos, sin, x, y, half_x, half_y, low, high = (
    pick(f) for f in (prims.cos, prims.sin, prims.x, prims.y, prims.half_x, prims.half_y, prims.low, prims.high)
  )
  words = tuple(pick(w) for w in prims.words)
  per_width, per_height = unpack_halves(pick(prims.cells))
  u = u[:, None]
  one = lambda f: f[:, None, None]
  is_box = slots < prims.num_boxes
  is_capsule = slots >= prims.num_boxes + prims.num_cylinders

  # Boxes: where each axis is entered and left, as in `nearness_keys`.
  dx, dy = cos - u * sin, -sin - u * cos
  ways = []
  for middle, half, d in ((x, half_x, dx), (y, half_y, dy)):
    outside = jnp.abs(middle) - half
    t = jnp.sign(middle) * d / jnp.where(jnp.abs(outside) < 1e-6, 1e-6, outside)
    back = jnp.sign(middle) * d / jnp.maximum(jnp.abs(middle) + half, 1e-6)
    ways.append((jnp.where(outside > 0, t, NEVER), jnp.maximum(back, jnp.where(outside > 0, -NEVER, t))))
  is_x = ways[0][0] < ways[1][0]
  box_near, box_far = jnp.minimum(ways[0][0], ways[1][0]), jnp.maximum(ways[0][1], ways[1][1])

  # Rounds: the circle in which the ground plan cuts them.
  radius = half_x
  square = x * x + y * y - radius * radius
  forward, across = x - u * y, y + u * x
  root = jnp.sqrt(jnp.maximum(radius * radius * (1 + u * u) - across * across, 0))
  scale = 1 / jnp.where(jnp.abs(square) < 1e-6, 1e-6, square)
  near = jnp.where(is_box, box_near, jnp.where(square > 0, (forward + root) * scale, NEVER))
  near = jnp.clip(near, 1e-4, 0.99 * NEAREST)
  far = jnp.maximum(jnp.where(is_box, box_far, (forward - root) * scale), 0)
  near, far, distance, is_x, root = hold(near, far, 1 / near, is_x, root)

  # Slopes between which it is seen: corners of prisms, tangents to the caps of capsules.
  cap_low, cap_high = low + radius, high - radius
  length = jnp.sqrt(1 + u * u)
  middle, cut = forward / length, root / length

  def tangent(height: jax.Array, sign: float) -> jax.Array:
    reach = jnp.sqrt(jnp.maximum(middle * middle - cut * cut + height * height, 1e-9))
    rise = height * reach + sign * cut * middle
    return rise / jnp.maximum(middle * reach - sign * cut * height, 1e-9) * length

  bottom = jnp.where(is_capsule, tangent(cap_low, -1.0), low * jnp.where(low <= 0, near, far))
  top = jnp.where(is_capsule, tangent(cap_high, 1.0), high * jnp.where(high >= 0, near, far))

  # Light on the face that the column meets first.
  sun = light.sun
  c, s = jnp.cos(yaw), jnp.sin(yaw)
  sun_x, sun_y = one(c * sun[:, 0] + s * sun[:, 1]), one(c * sun[:, 1] - s * sun[:, 0])
  face = jnp.where(is_x, -jnp.sign(x) * (cos * sun_x + sin * sun_y), -jnp.sign(y) * (cos * sun_y - sin * sun_x))
  normal_x, normal_y = distance - x, -u * distance - y
  facing = jnp.where(is_box, face, (normal_x * sun_x + normal_y * sun_y) / radius)
  sky_share, sun_share = unpack_halves(pick(prims.lit))
  wall = jnp.sqrt(jnp.minimum(sky_share + sun_share * jnp.maximum(facing, 0), 1))

  # Pattern cells along the face; around rounds by an angle that needs no arc tangent.
  c, s = one(c), one(s)
  east, north = c * normal_x - s * normal_y, s * normal_x + c * normal_y
  diamond = north / (jnp.abs(east) + jnp.abs(north) + 1e-6)
  angle = jnp.where(east > 0, diamond, jnp.where(diamond > 0, 2 - diamond, -2 - diamond))
  along = jnp.where(is_box, jnp.where(is_x, distance * dy - y, distance * dx - x), angle * radius * (jnp.pi / 2))
  per_width = jnp.where(
    (words[2] & patterns.FITTED) != 0, 1 / jnp.maximum(jnp.where(is_x & is_box, half_y, half_x), 0.05), per_width
  )
  clear = lights.clearness(light, distance, 2)
  fade, noise, cover = patterns.wall_contrast(words[2], per_width, distance * one(pixel))
  cells, wall, clear, fade = hold(along * per_width, wall, clear, fade)
  spans, seeds = patterns.wall_columns(words, cells, slots)

  # Where the surface turns from upright to flat, and how bright it is there.
  is_ball = is_capsule & (high - low < 3 * radius)
  looks_down = ~is_capsule & (low > 0)
  turns = is_capsule | (high < 0) | (low > 0)
  steep = jnp.where(is_capsule, 1 / jnp.maximum(radius, 1e-3), STEEP) * jnp.where(looks_down, -1.0, 1.0)
  edge = jnp.where(is_ball, (low + high) / 2, jnp.where(is_capsule, cap_high, jnp.where(looks_down, low, high)))
  over, under = unpack_halves(pick(prims.ends))
  over, under = jnp.where(looks_down, under, over), jnp.where(is_ball, under, wall)
  shade = lambda value: (255.5 - 255 * (1 - value) * clear).astype(jnp.int32)
  shades = shade(wall) | (shade(over) << 8) | (shade(under) << 16) | ((noise * clear).astype(jnp.int32) << 24)

  # Colours, in 256ths of the two that it has and of fog.
  base, accent = pick(prims.base), pick(prims.accent)
  fog = one(lights.fog_word(light)) + 0 * base
  kept = (clear * 256).astype(jnp.int32)
  blended = (kept.astype(jnp.float32) * (1 - fade)).astype(jnp.int32)
  to_accent = (blended.astype(jnp.float32) * cover).astype(jnp.int32)
  to_base = blended - to_accent
  base_word = lights.blend((base, accent, fog), (kept - to_accent, to_accent, 256 - kept))
  accent_word = lights.blend((base, accent, fog), (to_base, kept - to_base, 256 - kept))
  # How fast the foot lightens (5 bits) and how dark it is at the bottom (3 bits), behind fog.
  foot = jnp.clip(1.75 / (FOOT * per_height), 1, 31).astype(jnp.int32) | ((clear * 7.5).astype(jnp.int32) << 5)
  row = 256 * per_height
  return Entries(
    near=near,
    low=jnp.where(found, bottom, NEVER),
    high=jnp.where(found, top, -NEVER),
    base=base_word | (slots << 24),
    accent=accent_word | (foot << 24),
    rise=distance * row,
    shift=-low * row + MAGIC,
    spans=spans,
    seeds=seeds,
    shades=shades,
    bend=jnp.where(turns, distance * steep, 0.0),
    level=jnp.where(turns, -edge * steep, 0.0),
    forward=forward,
    square=jnp.where(is_capsule, square, -1.0),
    foot=jnp.where(is_capsule, cap_low, 0.0),
    head=jnp.where(is_capsule, cap_high, jnp.where(high < 0, high, jnp.where(low > 0, low, 0.0))),
  )
