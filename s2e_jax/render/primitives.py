"""Primitives as one camera sees them: positions in its frame, looks packed into a few words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.render import light as lights
from s2e_jax.render import patterns
from s2e_jax.render.bits import pack_halves
from s2e_jax.render.view import View
from s2e_jax.scene import KIND, Boxes, Rounds, Scene

ABSENT = -1e6  # m ahead of the camera: where empty slots stand
TALL = 2.0  # m; boxes at least as high as this keep the sun from whole primitives


@struct.dataclass
class Primitives:
  """P primitives per camera, fields [B, P] unless said.

  cos, sin: heading of a box relative to the camera (1, 0 for rounds). x, y: centre from the camera along the
  primitive's own axes (m); for rounds forward and left. half_x, half_y: half sides of a box, twice the radius of
  others. low, high: z of bottom and top above the camera (m).
  base, accent: int32 0x00bbggrr of the two colours where the sun meets it best. lit: two halves: share of the sky
  and of the sun in that light. ends: two halves: brightness of a top and of an underside compared with it.
  words: three int32 fields packed by `patterns`. cells: two halves: pattern cells per metre along the face and up.
  num_boxes, num_cylinders: static counts; the rest are capsules.
  """

  cos: jax.Array
  sin: jax.Array
  x: jax.Array
  y: jax.Array
  half_x: jax.Array
  half_y: jax.Array
  low: jax.Array
  high: jax.Array
  base: jax.Array
  accent: jax.Array
  lit: jax.Array
  ends: jax.Array
  words: tuple[jax.Array, jax.Array, jax.Array]
  cells: jax.Array
  num_boxes: int = struct.field(pytree_node=False)
  num_cylinders: int = struct.field(pytree_node=False)


def sunlight_share(scene: Scene) -> jax.Array:
  """[B, P] 0..1: how much of the sun a primitive's middle sees past the tall boxes of its scene.

  Softened over half a metre, so that people do not flicker when they cross the edge of a shadow.
  """
  parts = (scene.boxes, scene.cylinders, scene.capsules)
  x, y, low, high = (jnp.concatenate([getattr(p, n) for p in parts], -1) for n in ('x', 'y', 'low', 'high'))
  z = (low + high) / 2
  sun = scene.light.sun
  flat = jnp.sqrt(sun[:, 0] ** 2 + sun[:, 1] ** 2) + 1e-6
  wide = lambda f: f[:, None, None]
  ex, ey, run = wide(sun[:, 0] / flat), wide(sun[:, 1] / flat), wide(flat / jnp.maximum(sun[:, 2], 1e-3))
  b = jax.tree.map(lambda f: f[:, :, None], scene.boxes)
  cos, sin = jnp.cos(b.yaw), jnp.sin(b.yaw)
  inverse = lambda t: 1 / jnp.where(jnp.abs(t) < 1e-4, 1e-4, t)
  ix, iy = inverse(cos * ex + sin * ey), inverse(cos * ey - sin * ex)
  ox, oy = x[:, None] - b.x, y[:, None] - b.y
  ahead_x, ahead_y = -(cos * ox + sin * oy) * ix, (sin * ox - cos * oy) * iy
  reach_x, reach_y = b.half_x * jnp.abs(ix), b.half_y * jnp.abs(iy)
  near = jnp.maximum(ahead_x - reach_x, ahead_y - reach_y)
  far = jnp.minimum(ahead_x + reach_x, ahead_y + reach_y)
  rest = jnp.maximum(near, 0)
  depth = jnp.minimum(far - rest, (b.high - z[:, None]) * run - rest)
  is_other = ~jnp.eye(b.x.shape[1], x.shape[1], dtype=bool)
  blocks = (b.high - b.low > TALL) & (near > -0.25) & is_other
  return 1 - jnp.where(blocks, jnp.clip(2 * depth, 0, 1), 0).max(1)


def primitives_of(scene: Scene, view: View, share: jax.Array) -> Primitives:
  """Primitives of B scenes as B cameras see them; share: [B, P] of the sun that reaches each."""
  c, s = jnp.cos(view.yaw)[:, None], jnp.sin(view.yaw)[:, None]
  eye = view.position[:, :, None]

  def place(part: Boxes | Rounds, cos: jax.Array, sin: jax.Array, half_x: jax.Array, half_y: jax.Array) -> tuple:
    dx, dy = part.x - eye[:, 0], part.y - eye[:, 1]
    forward, left = c * dx + s * dy, c * dy - s * dx
    there = part.high > part.low
    x, y = cos * forward + sin * left, cos * left - sin * forward
    low, high = part.low - eye[:, 2], part.high - eye[:, 2]
    fix = lambda value, other: jnp.where(there, value, other)
    return cos, sin, fix(x, ABSENT * cos), fix(y, -ABSENT * sin), fix(half_x, 0.0), fix(half_y, 0.0), low, high

  b = scene.boxes
  turn = b.yaw - view.yaw[:, None]
  rows = [place(b, jnp.cos(turn), jnp.sin(turn), b.half_x, b.half_y)]
  for part in (scene.cylinders, scene.capsules):
    one = jnp.ones_like(part.x)
    rows.append(place(part, one, 0 * one, part.radius, part.radius))
  fields = [jnp.concatenate(f, 1) for f in zip(*rows, strict=True)]
  cos, sin, x, y, half_x, half_y, low, high = fields
  height = high - low
  is_head = (scene.kind == KIND['person']) & (height < 0.5)
  words, per_width, per_height = patterns.pack_walls(
    scene.pattern, is_head, scene.scale, half_x, jnp.maximum(height, 1e-3)
  )

  # The brightest light on anything seen of it, and how all other light compares with that.
  sun = scene.light.sun
  column = lambda f: f[:, None]
  ahead, left = c * column(sun[:, 0]) + s * column(sun[:, 1]), c * column(sun[:, 1]) - s * column(sun[:, 0])
  face = jnp.maximum(-jnp.sign(x) * (cos * ahead + sin * left), -jnp.sign(y) * (cos * left - sin * ahead))
  num_boxes = b.x.shape[1]
  is_box = jnp.arange(x.shape[1]) < num_boxes
  facing = jnp.maximum(jnp.where(is_box, face, jnp.sqrt(ahead**2 + left**2)), 0)
  strength, ambient = column(scene.light.sun_strength) * share, column(scene.light.ambient)
  wall = lights.SKY_ON_WALL * ambient + strength * facing
  top = ambient + strength * jnp.maximum(column(sun[:, 2]), 0)
  peak = jnp.maximum(jnp.where(is_box & (high > 0), wall, jnp.maximum(wall, top)), 1e-4)
  word = lambda colour: lights.lit_word(scene.light, [colour[..., i] for i in range(3)], peak, 1)
  root = lambda radiance: jnp.sqrt(jnp.minimum(radiance / peak, 1))
  return Primitives(
    cos=cos,
    sin=sin,
    x=x,
    y=y,
    half_x=half_x,
    half_y=half_y,
    low=low,
    high=high,
    base=word(scene.colour),
    accent=word(scene.accent),
    lit=pack_halves(lights.SKY_ON_WALL * ambient / peak, strength / peak),
    ends=pack_halves(root(top), root(lights.SKY_BELOW * ambient)),
    words=words,
    cells=pack_halves(per_width, per_height),
    num_boxes=num_boxes,
    num_cylinders=scene.cylinders.x.shape[1],
  )
