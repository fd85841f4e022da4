"""Shadows on the ground, column by column.

The shadow of an upright convex primitive on a horizontal plane is convex, so a column of pixels, a line on that
plane, meets it in one interval of inverse distances w, and rows are linear in w. Each interval becomes bits of
rows, and the union over all primitives is an OR. A point lies in shadow where the way to the sun, t metres along
the
ground, meets the footprint while it is between bottom and top: three strips for a box, two discs and what lies
between them for the rest (the ends of capsules are discs once lengths along the sun shrink by its elevation's
sine).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.render.bits import MAGIC, MAGIC_BITS
from s2e_jax.render.primitives import Primitives
from s2e_jax.render.view import Rows
from s2e_jax.scene import Light

NEVER = 1e9


def _lines(
  sign: jax.Array, p: jax.Array, q: jax.Array, scale: jax.Array, off: float
) -> tuple[jax.Array, jax.Array]:
  """Coefficients (a, b) of a bound a + b u on w where `sign`, and of one that never counts elsewhere."""
  return jnp.where(sign, p * scale, off), jnp.where(sign, q * scale, 0)


def _strip(p: jax.Array, q: jax.Array, middle: jax.Array, half: jax.Array) -> tuple[list, list]:
  """(lower, upper): two linear bounds on w each, which hold where |(p + q u) / w - middle| <= half; all [B, P]."""
  lower, upper = [], []
  # (p + q u) <= (half + middle) w and -(p + q u) <= (half - middle) w.
  for sign in (1.0, -1.0):
    c = half + sign * middle
    scale = sign / jnp.where(jnp.abs(c) < 1e-6, 1e-6, c)
    lower.append(_lines(c > 0, p, q, scale, -NEVER))
    upper.append(_lines(c <= 0, p, q, scale, NEVER))
  return lower, upper


@struct.dataclass
class Casters:
  """What casts shadows on one level, as bounds on w that are linear in u; leading axis: bounds.

  box_lower, box_upper: [2, 6, B, N] coefficients of 1 and u, the greatest lower and the least upper bound count.
  round_lower, round_upper: [2, 4, B, M] the same, of what lies between the two ends of a round.
  ends: [2, 8, B, M] of either end: forward and side coefficients of 1 and u (4), squared radius (0: absent),
    1 / power, the same where the camera is outside (else 0), its offset (else NEVER).
  """

  box_lower: jax.Array
  box_upper: jax.Array
  round_lower: jax.Array
  round_upper: jax.Array
  ends: jax.Array


def casters_of(prims: Primitives, light: Light, yaw: jax.Array, level: jax.Array) -> tuple[Casters, jax.Array]:
  """(casters, [2, 2, 2, B, 1]) onto the ground `level` m above the camera [B] (negative).

  The second: how far the ray (1, -u) goes along the sun and across it, for cylinders and for capsules.
  """
  n = prims.num_boxes
  sun = light.sun
  c, s = jnp.cos(yaw), jnp.sin(yaw)
  flat = jnp.sqrt(sun[:, 0] ** 2 + sun[:, 1] ** 2) + 1e-6
  ex = ((c * sun[:, 0] + s * sun[:, 1]) / flat)[:, None]
  ey = ((c * sun[:, 1] - s * sun[:, 0]) / flat)[:, None]
  rise = jnp.maximum(sun[:, 2], 0.02)
  run, sine = (flat / rise)[:, None], (rise / jnp.sqrt(flat * flat + rise * rise))[:, None]
  level = level[:, None]
  casts = (prims.high - level > 0.02) & (prims.high > prims.low)

  b = jax.tree.map(lambda f: f[:, :n], prims)
  first, last = (jnp.maximum(h[:, :n] - level, 0) * run for h in (prims.low, prims.high))
  mean, span = (first + last) / 2, (last - first) / 2
  bx, by = b.cos * ex + b.sin * ey, b.cos * ey - b.sin * ex
  half = lambda h, e: jnp.where(casts[:, :n], h + span * jnp.abs(e), -1.0)
  zero = jnp.zeros_like(b.x)
  strips = (
    _strip(b.cos, -b.sin, b.x - bx * mean, half(b.half_x, bx)),
    _strip(-b.sin, -b.cos, b.y - by * mean, half(b.half_y, by)),
    _strip(ey + zero, ex + zero, b.x * by - b.y * bx, b.half_x * jnp.abs(by) + b.half_y * jnp.abs(bx)),
  )
  gather = lambda strips, i: jnp.stack([jnp.stack(bound) for strip in strips for bound in strip[i]], 1)
  box_lower, box_upper = gather(strips, 0), gather(strips, 1)

  x, y, radius = prims.x[:, n:], prims.y[:, n:], prims.half_x[:, n:]
  there = casts[:, n:]
  is_capsule = jnp.arange(x.shape[1]) >= prims.num_cylinders
  cap = jnp.where(is_capsule, radius, 0.0)
  shrink = jnp.where(is_capsule, sine, 1.0)
  first = jnp.maximum(prims.low[:, n:] + cap - level, 0) * run
  last = jnp.maximum(prims.high[:, n:] - cap - level, 0) * run
  along, across = (x * ex + y * ey) * shrink, x * ey - y * ex
  p, q, r, t = ex * shrink, -ey * shrink, ey + 0 * x, ex + 0 * x
  mean, span = (first + last) / 2 * shrink, (last - first) / 2 * shrink
  sides = (_strip(p, q, along - mean, jnp.where(there, span, -1.0)), _strip(r, t, across, radius))
  ends = []
  for end in (first, last):
    centre = along - end * shrink
    power = centre * centre + across * across - radius * radius
    scale = 1 / jnp.where(jnp.abs(power) < 1e-6, 1e-6, power)
    outside = power > 0
    ends.append(
      jnp.stack([
        p * centre + r * across, q * centre + t * across, p * across - r * centre, q * across - t * centre,
        jnp.where(there, radius * radius, 0), scale, jnp.where(outside, scale, 0), jnp.where(outside, 0.0, NEVER),
      ])
    )  # fmt: skip
  rays = jnp.stack([jnp.stack([jnp.stack([ex * f, -ey * f]), jnp.stack([ey, ex])]) for f in (1.0, sine)])
  return Casters(box_lower, box_upper, gather(sides, 0), gather(sides, 1), jnp.stack(ends)), rays


def shadow_intervals(
  casters: Casters, rays: jax.Array, num_cylinders: int, u: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
  """((low, high) of boxes, (low, high) of rounds), [B, *, W]: inverse distances between which it is dark."""
  column = u[:, None]
  line = lambda a, b: a[..., None] + b[..., None] * column

  def extreme(bounds: jax.Array, pick: Callable) -> jax.Array:
    return functools.reduce(pick, [line(bounds[0, i], bounds[1, i]) for i in range(bounds.shape[1])])

  boxes = extreme(casters.box_lower, jnp.maximum), extreme(casters.box_upper, jnp.minimum)
  low, high = extreme(casters.round_lower, jnp.maximum), extreme(casters.round_upper, jnp.minimum)
  is_empty = jnp.maximum(low, 0) > high
  low, high = jnp.where(is_empty, NEVER, low), jnp.where(is_empty, -NEVER, high)
  squares = [line(r[0, 0], r[0, 1]) ** 2 + line(r[1, 0], r[1, 1]) ** 2 for r in rays]
  is_capsule = (jnp.arange(low.shape[1]) >= num_cylinders)[:, None]
  square = jnp.where(is_capsule, squares[1], squares[0])
  for end in casters.ends:
    forward, side = line(end[0], end[1]), line(end[2], end[3])
    wide = lambda i, end=end: end[i][..., None]
    inside = wide(4) * square - side * side
    root = jnp.sqrt(jnp.maximum(inside, 0))
    hit = inside > 0
    low = jnp.minimum(low, jnp.where(hit, (forward - root) * wide(5), NEVER))
    high = jnp.maximum(high, jnp.where(hit, (forward + root) * wide(6) + wide(7), -NEVER))
  return boxes, (low, high)


def row_spans(low: jax.Array, high: jax.Array, level: jax.Array, rows: Rows, height: int) -> jax.Array:
  """int32 [B, P, W]: first row in an interval and, 16 bits higher, the row after the last; equal for none.

  low, high: [B, P, W] inverse distances on the plane `level` m above the camera [B], negative.
  """
  slope = level[:, None, None]
  bits = lambda x: lax.bitcast_convert_type(jnp.clip(x, 0, height) + MAGIC, jnp.int32) - MAGIC_BITS
  # Rows i with low <= w_i <= high: ceil(x) is round(x + 1/2), but for whole x.
  begin = bits(rows.index(jnp.maximum(low, 0) * slope) + 0.5)
  end = bits(rows.index(high * slope) + 0.5)
  return begin | (jnp.maximum(end, begin) << 16)


def row_bits(spans: list[jax.Array], first: jax.Array) -> jax.Array:
  """int32 [B, W]: bit i set where row first + i lies in any of the spans, a list of [B, P, W]; 0 <= i < 32."""
  below = lambda i: ~lax.shift_left(jnp.int32(-1), jnp.maximum(i - first, 0))
  words = [below(s >> 16) & ~below(s & 0xFFFF) for s in spans]
  parts = [lax.reduce(w, jnp.int32(0), lax.bitwise_or, (1,)) for w in words]
  return functools.reduce(jnp.bitwise_or, parts)
