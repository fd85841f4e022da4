"""Front door: pictures of B scenes from B cameras."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.render import column, raycast
from s2e_jax.render.tilted import TiltedBoxes
from s2e_jax.render.view import View, column_slopes, rows_of
from s2e_jax.scene import Scene

Drawn = tuple[jax.Array | None, jax.Array | None]
BACKENDS = ('column', 'raycast')
WANTED = ('rgb', 'segmentation', 'depth')


@dataclasses.dataclass(frozen=True)
class RenderOptions:
  """How pictures are made; static, so a change compiles anew.

  height, width: pixels. nearest: primitives that may be seen behind one another in one image column (8 is exact
  to 5e-4 of the pixels with 64 primitives; 12 for 128). shadow: whether the sun casts shadows on the ground.
  backend: 'column' (fast) or 'raycast' (every ray against every primitive; the oracle).
  chunk: environments drawn at once, which bounds the memory. exact_pitch: rad that all cameras look down, turned
  rather than shifted; verticals then converge as in a real pitched camera.
  """

  height: int = 64
  width: int = 128
  nearest: int = 8
  shadow: bool = True
  backend: str = 'column'
  chunk: int = 64
  exact_pitch: float = 0.0

  def __post_init__(self) -> None:
    """Raises ValueError when an option breaks its rule."""
    for name in ('height', 'width', 'nearest', 'chunk'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r} must be at least 1')
    if self.backend not in BACKENDS:
      raise ValueError(f'backend={self.backend!r} must be one of {BACKENDS}')
    if not abs(self.exact_pitch) < 1.0:
      raise ValueError(f'exact_pitch={self.exact_pitch} must lie within -1 to 1 rad')


@struct.dataclass
class Pictures:
  """B pictures of h x w pixels; what was not asked for is None.

  rgb: [B, h, w, 3] uint8. segmentation: [B, h, w] uint8, slot of the primitive or scene.SKY, ROAD, CURB,
  SIDEWALK, GRASS, CROSSING. depth: [B, h, w] float32 m along the camera's forward axis, 0 in the sky.
  """

  rgb: jax.Array | None = None
  segmentation: jax.Array | None = None
  depth: jax.Array | None = None


def render(
  scenes: Scene,
  views: View,
  options: RenderOptions,
  want: Sequence[str] = ('rgb',),
  tilted: TiltedBoxes | None = None,
) -> Pictures:
  """Pictures of B scenes seen from B views; pure, and bounded in memory by `options.chunk`.

  tilted: boxes that stand askew, which only the ray caster draws.
  ValueError when `want` is empty or names something that is not in a Pictures, or the backend cannot tilt.
  """
  if not want or set(want) - set(WANTED):
    raise ValueError(f'want={tuple(want)!r} must name at least one of {WANTED}, and nothing else')
  if tilted is not None and options.backend != 'raycast':
    raise ValueError(f"backend={options.backend!r} draws upright things only; tilted boxes need 'raycast'")
  num = views.yaw.shape[0]
  chunk = min(options.chunk, num)
  pad = -num % chunk
  names = tuple(name for name in WANTED if name in want)
  draw = functools.partial(_draw, options=options, want=names)
  if num == chunk:
    return draw((scenes, views, tilted))
  split = lambda x: jnp.concatenate([x, x[:pad]]).reshape(-1, chunk, *x.shape[1:])
  pictures = lax.map(draw, jax.tree.map(split, (scenes, views, tilted)))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num], pictures)


def _draw(part: tuple[Scene, View, TiltedBoxes | None], options: RenderOptions, want: tuple[str, ...]) -> Pictures:
  """Pictures of one chunk."""
  scene, view, tilted = part
  height, width, pitch = options.height, options.width, options.exact_pitch
  rows, u = rows_of(view, height, width, pitch), column_slopes(view, width)
  stretch = rows.stretch(height)[:, :, None]
  if options.backend == 'raycast':
    across = u[:, None] * stretch if pitch else jnp.broadcast_to(u[:, None], (*rows.slopes(height).shape, width))
    up = jnp.broadcast_to(rows.slopes(height)[:, :, None], across.shape)
    drawn: Drawn = raycast.draw(scene, view, across, up, rows.step, options.shadow, 'rgb' in want, tilted)
  elif pitch:
    # A level camera sees the same rows wider or narrower: draw the widest, then pick columns row by row.
    widest = stretch.max((1, 2))
    count = 8 * -(-width * 13 // 80)
    wide = u[:, :1] * widest[:, None] * (1 - (jnp.arange(count) + 0.5) * (2 / count)) * (width / (width - 1))
    drawn = column.draw(scene, view, wide, rows, height, options.nearest, options.shadow, want)
    step = (wide[:, 1] - wide[:, 0])[:, None, None]
    index = jnp.round((u[:, None] * stretch - wide[:, :1, None]) / step).astype(jnp.int32)
    index = jnp.clip(index, 0, count - 1)
    pick = lambda x: None if x is None else jnp.take_along_axis(x, index, axis=2)
    drawn = pick(drawn[0]), pick(drawn[1])
  else:
    drawn = column.draw(scene, view, u, rows, height, options.nearest, options.shadow, want)
  word, depth = drawn
  if pitch and depth is not None:
    depth = depth * (math.cos(pitch) - rows.slopes(height)[:, :, None] * math.sin(pitch))
  rgb, segmentation = (None, None) if word is None else column.unpack(word)
  return Pictures(
    rgb=rgb if 'rgb' in want else None,
    segmentation=segmentation if 'segmentation' in want else None,
    depth=depth if 'depth' in want else None,
  )
