"""Things and people of the simulator inside a splat scene: one picture, composed pixel by pixel by depth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.render.render import RenderOptions, render
from s2e_jax.render.splats.cameras import cameras_of
from s2e_jax.render.splats.draw import draw_splats
from s2e_jax.render.splats.hierarchy import SplatScene
from s2e_jax.render.splats.options import SplatOptions
from s2e_jax.render.view import View
from s2e_jax.scene import MAX_PRIMITIVES, Scene


@struct.dataclass
class ComposedPictures:
  """B pictures of h x w pixels. rgb: [B, h, w, 3] uint8. depth: [B, h, w] m along the camera's axis: mean depth of
  the splats where they cover more than half, else that of the thing behind them; 0 where neither is.
  """

  rgb: jax.Array
  depth: jax.Array


def compose(
  splats: SplatScene,
  scenes: Scene,
  views: View,
  options: SplatOptions,
  chunk: int = 16,
  nearest: int = 8,
  splats_from: View | None = None,
  wanted: jax.Array | None = None,
) -> ComposedPictures:
  """Pictures of B moments in one splat scene: splats, and the primitives of B scene records among them.

  Splats behind a primitive's surface are hidden by it pixel by pixel, those before it cover it by their opacity.
  What no splat covers is the record's own sky and ground. chunk: cameras drawn at once, nearest: see
  RenderOptions. wanted: [B] bool, None for all; splats of the others may be missing, see `draw_splats`.
  """
  record = RenderOptions(options.height, options.width, nearest=nearest, shadow=False)

  splats_from = views if splats_from is None else splats_from

  def draw(part: tuple[Scene, View, View, jax.Array | None]) -> ComposedPictures:
    scene, view, among, wanted = part
    behind = render(scene, view, record, want=('rgb', 'segmentation', 'depth'))
    assert behind.rgb is not None and behind.segmentation is not None and behind.depth is not None
    is_thing = behind.segmentation < MAX_PRIMITIVES
    limit = jnp.where(is_thing, behind.depth, jnp.inf)
    cameras = cameras_of(among, options.height, options.width)
    front = draw_splats(splats, cameras, options, limit, wanted)
    rgb = front.before(behind.rgb.astype(jnp.float32) / 255)
    mean_depth = front.depth / jnp.maximum(front.alpha, 1e-6)
    depth = jnp.where(front.alpha > 0.5, mean_depth, jnp.where(is_thing, behind.depth, 0.0))
    return ComposedPictures(to_bytes(rgb), depth)

  num = views.yaw.shape[0]
  if num <= chunk:
    return draw((scenes, views, splats_from, wanted))
  pad = -num % chunk
  split = lambda x: jnp.concatenate([x, x[:pad]]).reshape(-1, chunk, *x.shape[1:])
  pictures = lax.map(draw, jax.tree.map(split, (scenes, views, splats_from, wanted)))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num], pictures)


def to_bytes(rgb: jax.Array) -> jax.Array:
  """uint8 of colours in about 0..1."""
  return (jnp.clip(rgb, 0, 1) * 255 + 0.5).astype(jnp.uint8)
