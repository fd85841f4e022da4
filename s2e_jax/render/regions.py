"""Which surface the ground shows, column by column, as bits of rows.

A column of pixels is a straight line on the ground. It crosses lines of constant d, circles, where a quadratic in
inverse distance w vanishes, and lines of constant s, radii, where a linear function does; rows are linear in w. So
d <= d1 holds in one interval of rows or outside one, and so does s >= s1; roads, pavements and crossings follow by
AND, OR and NOT of whole words of 32 rows, and a pixel only tests a bit.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from s2e_jax.render.shadows import row_spans
from s2e_jax.render.view import Rows
from s2e_jax.scene import Ground

NEVER = 1e9


def _columns(ground: Ground) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """(d [B, 12], s [B, 12], whether the d-ranges [B, 6] and s-ranges [B, 6] are there) of all borders.

  Ranges of d: road, pavement, plazas, crossings; of s: cross road, cross pavement, plazas, crossings.
  """
  rectangles = jnp.concatenate([ground.plazas, ground.crossings], 1)
  d = jnp.concatenate([ground.road[:, None], ground.paved[:, None], rectangles[..., 2:]], 1)
  s = jnp.concatenate([ground.cross_road[:, None], ground.cross_paved[:, None], rectangles[..., :2]], 1)
  flat = lambda x: x.reshape(x.shape[0], 12)
  return flat(d), flat(s), d[..., 1] > d[..., 0], s[..., 1] > s[..., 0]


def border_spans(
  ground: Ground, eye: jax.Array, dx: jax.Array, dy: jax.Array, level: jax.Array, rows: Rows, height: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(circles, lines: spans of rows [B, 12, W] as of `row_spans`, flip [B, 12]: holds outside the span instead).

  For columns of direction dx, dy [B, W] from eye [B, 3], on the plane `level` m above it [B].
  circles: where d is at most the border's. lines: where s is at least the border's.
  """
  d, s, _, _ = _columns(ground)
  one = lambda f: f[:, None]
  k, x, y = one(ground.curvature), one(eye[:, 0]), one(eye[:, 1])
  # d <= d1 where q = 2 d - k d^2 <= q1, and q = 2 y - k (x^2 + y^2): a w^2 + b w + c <= 0.
  a = 2 * y - k * (x * x + y * y) - d * (2 - k * d)
  b = (2 * (dy - k * (x * dx + y * dy)))[:, None]
  c = (-k * (dx * dx + dy * dy))[:, None]
  half = (0.5 / jnp.where(jnp.abs(a) < 1e-6, 1e-6, a))[..., None]
  square = b * b - (4 * a)[..., None] * c
  root = jnp.sqrt(jnp.maximum(square, 0))
  one_end, other_end = (-b - root) * half, (root - b) * half
  low = jnp.where(square > 0, jnp.minimum(one_end, other_end), NEVER)
  circles = row_spans(low, jnp.maximum(one_end, other_end), level, rows, height)
  # s >= s1 where x cos(k s1) - (1 - k y) sin(k s1) / k >= 0: p w + q >= 0.
  angle = k * s
  small = jnp.abs(angle) < 1e-3
  cos = jnp.cos(angle)
  sin = s * jnp.where(small, 1 - angle * angle / 6, jnp.sin(angle) / jnp.where(small, 1.0, angle))
  p = x * cos - (1 - k * y) * sin
  q = dx[:, None] * cos[..., None] + (dy * k)[:, None] * sin[..., None]
  at = -q * (1 / jnp.where(jnp.abs(p) < 1e-6, 1e-6, p))[..., None]
  ahead = (p > 0)[..., None]
  lines = row_spans(jnp.where(ahead, at, -NEVER), jnp.where(ahead, NEVER, at), level, rows, height)
  return circles, lines, jnp.where(a < 0, -1, 0)


def region_bits(
  ground: Ground, borders: tuple[jax.Array, jax.Array, jax.Array], start: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(carriageway, pavement, crossings) int32 [B, W]: bit i set where row start + i lies there, 0 <= i < 32."""
  circles, lines, flip = borders
  below = lambda i: ~lax.shift_left(jnp.int32(-1), jnp.maximum(i - start, 0))
  bits = lambda spans: below(spans >> 16) & ~below(spans & 0xFFFF)
  under, beyond = bits(circles) ^ flip[..., None], bits(lines)
  _, _, has_d, has_s = _columns(ground)
  # Whole words that are all ones where a range is there.
  there = lambda has, i: jnp.where(has[:, i], -1, 0)[:, None]
  in_d = lambda i: under[:, 2 * i + 1] & ~under[:, 2 * i] & there(has_d, i)
  in_s = lambda i: beyond[:, 2 * i] & ~beyond[:, 2 * i + 1] & there(has_s, i)
  box = lambda i: in_d(i) & in_s(i)
  plaza = box(2) | box(3)
  return (in_d(0) | in_s(0)) & ~plaza, in_d(1) | in_s(1) | plaza, box(4) | box(5)
