"""Boxes that stand askew: fallen signs, ramps, toppled bins. Only the ray caster draws them.

They are a record of their own beside the scene, because everything else (columns, contact, routes, lidar) rests on
things being upright.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.render import light as lights
from s2e_jax.scene import Light

NONE = 1e9  # a ray that meets nothing


@struct.dataclass
class TiltedBoxes:
  """N boxes per environment, [B, N, ...]; half sides of 0 = empty.

  position: [B, N, 3] m centre in the world. rotation: [B, N, 3, 3] from the box's axes to the world's.
  half: [B, N, 3] m half sides. colour: [B, N, 3] linear 0..1.
  """

  position: jax.Array
  rotation: jax.Array
  half: jax.Array
  colour: jax.Array


def cast(boxes: TiltedBoxes, origin: jax.Array, ray: jax.Array, start: float) -> tuple[jax.Array, jax.Array]:
  """(distances [N, R] in lengths of the rays, NONE where they miss; normals [N, R, 3] of the faces met).

  boxes: of one environment, [N, ...]. origin: [3] or [3, R] m, ray: [3, R]. Boxes around the start are not seen.
  """

  def one(box: TiltedBoxes) -> tuple[jax.Array, jax.Array]:
    from_middle = origin - (box.position if origin.ndim == 1 else box.position[:, None])
    o = box.rotation.T @ from_middle
    d = box.rotation.T @ ray
    o = o[:, None] if o.ndim == 1 else o
    inverse = 1 / jnp.where(jnp.abs(d) < 1e-9, 1e-9, d)
    one_side, other = (-box.half[:, None] - o) * inverse, (box.half[:, None] - o) * inverse
    enter, leave = jnp.minimum(one_side, other), jnp.maximum(one_side, other)
    near, far = enter.max(0), leave.min(0)
    is_hit = (far > near) & (near > start) & jnp.all(box.half > 0)
    axis = jax.nn.one_hot(jnp.argmax(enter, 0), 3, axis=0) * -jnp.sign(d)
    return jnp.where(is_hit, near, NONE), (box.rotation @ axis).T

  return jax.vmap(one)(boxes)


def paint(boxes: TiltedBoxes, light: Light, index: jax.Array, normal: jax.Array, depth: jax.Array) -> jax.Array:
  """int32 [R] 0x00bbggrr of hits on boxes `index` [R] of one environment, face normals [R, 3], depth [R] m."""
  lit = jnp.maximum(normal @ light.sun, 0) * light.sun_strength
  sky = lights.SKY_ON_WALL + (1 - lights.SKY_ON_WALL) * normal[:, 2]
  radiance = light.ambient * jnp.maximum(sky, lights.SKY_BELOW) + lit
  colour = boxes.colour[index]
  batch = jax.tree.map(lambda x: x[None], light)
  word = lights.lit_word(batch, [colour[None, :, i] for i in range(3)], radiance[None], 1)
  kept = (lights.clearness(batch, depth[None], 1) * 256).astype(jnp.int32)
  fog = lights.fog_word(batch)[:, None] + 0 * word
  return lights.blend((word, fog), (kept, 256 - kept))[0]
