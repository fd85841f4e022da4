"""What the ground looks like: paving patterns in street coordinates, road markings, crossings."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from s2e_jax.render import light as lights
from s2e_jax.render.bits import MAGIC, hashed
from s2e_jax.render.ground import FAR, GroundHits
from s2e_jax.scene import PATTERNS, Ground, Light

# Half of the widest thing a row of pixels can show without flicker, in pixels.
NEVER = 1e9
MARKING = 0.07  # m, half width of lines on the road


@dataclasses.dataclass(frozen=True)
class Paving:
  """How one pattern covers the ground; a cell is `cell` times Ground.scale long (along s) and wide (along d).

  joint: (along, across) 0..1 of a cell that is joint. round: cells are rhombs with this half diagonal (in cells,
  0: not). shift: of odd rows. check: every other cell is dark. zig: rows sway by this many cells.
  depth: of joints (or checks), noise: of the hash, per cell, or per eighth where `fine`; both times the contrast.
  """

  cell: tuple[float, float] = (1.0, 1.0)
  joint: tuple[float, float] = (0.0, 0.0)
  round: float = 0.0
  shift: float = 0.0
  check: bool = False
  fine: bool = False
  zig: float = 0.0
  depth: float = 0.7
  noise: float = 0.3


PAVINGS: dict[str, Paving] = {
  'plain': Paving(noise=0.1),
  'noise': Paving(fine=True, noise=0.9),
  'windows': Paving(joint=(0.1, 0.1)),
  'bricks': Paving(cell=(0.5, 0.25), joint=(0.06, 0.1), shift=0.5, noise=0.7),
  'planks': Paving(cell=(3.0, 0.3), joint=(0.01, 0.1), shift=0.37, noise=0.6),
  'stripes': Paving(cell=(1.0, 4.0), joint=(0.5, 0.0), depth=0.8),
  'panels': Paving(cell=(2.0, 2.0), joint=(0.02, 0.02), noise=0.3),
  'shopfront': Paving(joint=(0.1, 0.1)),
  'foliage': Paving(fine=True, noise=1.0),
  'person': Paving(),
  'vehicle': Paving(),
  'bands': Paving(cell=(4.0, 1.0), joint=(0.0, 0.5), depth=0.8),
  'slabs': Paving(joint=(0.045, 0.045), noise=0.4),
  'bond': Paving(cell=(1.0, 0.6), joint=(0.04, 0.06), shift=0.5, noise=0.45),
  'cobbles': Paving(cell=(0.3, 0.3), joint=(0.12, 0.12), round=0.72, shift=0.5, noise=0.8),
  'asphalt': Paving(cell=(0.7, 0.7), fine=True, noise=0.7),
  'grass': Paving(cell=(0.5, 0.5), fine=True, noise=1.0),
  'checks': Paving(check=True, noise=0.15, depth=0.9),
  'dots': Paving(round=0.55, noise=0.1, depth=0.8, shift=0.5),
  'zigzag': Paving(cell=(1.0, 0.6), joint=(0.0, 0.4), zig=0.8, depth=0.8, noise=0.1),
  'hexagons': Paving(cell=(0.8, 0.7), joint=(0.06, 0.1), round=0.88, shift=0.5, noise=0.5),
}


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(int32 [N] word of joints and shift, int32 [N] word of flags, float32 [N, 4] cell, depth, noise)."""
  shapes, flags, numbers = [], [], []
  byte = lambda value: int(np.clip(round(value * 256), 0, 255))
  for name in PATTERNS:
    p = PAVINGS[name]
    shapes.append(byte(p.joint[0]) | byte(p.joint[1]) << 8 | byte(p.shift) << 16 | p.check << 24 | p.fine << 25)
    flags.append((byte(p.round) if p.round else 255) | byte(p.zig) << 8)
    numbers.append([*p.cell, p.depth, p.noise])
  return np.array(shapes, np.int32), np.array(flags, np.int32), np.array(numbers, np.float32)


@struct.dataclass
class SurfacePatterns:
  """Patterns of the five surfaces, by index of scene.SURFACES, [B, 1, 1] each.

  shapes, flags: packed. long, wide: 256ths of cells per m along s and d.
  """

  shapes: tuple[jax.Array, ...]
  flags: tuple[jax.Array, ...]
  long: tuple[jax.Array, ...]
  wide: tuple[jax.Array, ...]


def surfaces_of(
  ground: Ground, light: Light, eye_z: jax.Array, v: jax.Array, pixel: jax.Array
) -> tuple[jax.Array, SurfacePatterns]:
  """(words, patterns) of the ground as rows of slopes v [B, H] see it from eye_z [B] (m).

  pixel: [B] slope of one pixel. words: int32 [15, B, H]: colours of the five surfaces 0x00bbggrr behind fog, in
  sun and in shadow, then depth of joints and of noise (two bytes) where they are still large enough to be seen.
  """
  one = lambda x: x[:, None]
  above = one(eye_z - ground.curb_height)
  distance = jnp.minimum(above / jnp.maximum(-v, 1e-5), FAR)
  clear = lights.clearness(light, distance, 1)
  share = (clear * 256).astype(jnp.int32)
  fog = lights.fog_word(light)
  behind = lambda word: lights.blend((one(word), one(fog)), (share, 256 - share))
  sun, sky = light.sun_strength * jnp.maximum(light.sun[:, 2], 0), light.ambient
  footprint = distance * one(pixel) * (0.5 + 0.5 * jnp.maximum(distance / jnp.maximum(above, 0.1), 1))
  shapes, flags, numbers = (jnp.asarray(t) for t in _tables())
  pattern = jnp.clip(ground.pattern, 0, len(PATTERNS) - 1)
  shape, flag, number = shapes[pattern], flags[pattern], numbers[pattern]
  size = jnp.maximum(ground.scale, 0.02)[..., None] * number[..., :2]
  cell = size.min(-1)
  grain = jnp.where(((shape >> 25) & 1) > 0, cell / 8, cell)
  sunny, shady, strengths = [], [], []
  for i in range(5):
    albedo = [ground.colour[:, i, c] for c in range(3)]
    face = 0.7 if i == 1 else 1.0  # a curb shows its side
    sunny.append(behind(lights.lit_word(light, albedo, (sky + sun) * face, 0)))
    shady.append(behind(lights.lit_word(light, albedo, sky * face, 0)))
    seen = lambda length: jnp.clip(2 * one(length) / footprint - 0.4, 0, 1) * clear
    contrast = one(ground.contrast[:, i])
    depth = (contrast * one(number[:, i, 2]) * seen(cell[:, i] / 3) * 255).astype(jnp.int32)
    noise = (contrast * one(number[:, i, 3]) * seen(grain[:, i] * 1.5) * 255).astype(jnp.int32)
    strengths.append(depth | (noise << 8))
  split = lambda x: tuple(x[:, i, None, None] for i in range(5))
  patterns = SurfacePatterns(split(shape), split(flag), split(256 / size[..., 0]), split(256 / size[..., 1]))
  return jnp.stack([*sunny, *shady, *strengths]), patterns


def paint(
  ground: Ground,
  hits: GroundHits,
  words: jax.Array,
  patterns: SurfacePatterns,
  in_shadow: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """(colour int32 0x00bbggrr, brightness int32 0..256) of ground pixels.

  ground: expanded. paved, zebra: whether they are pavement or, on the road, a crossing. words: int32 [15, B, h,
  1].
  in_shadow: None for nowhere.
  """
  s, d = hits.s, hits.d
  where = jnp.where

  def choose(road: jax.Array, curb: jax.Array, walk: jax.Array, grass: jax.Array) -> jax.Array:
    return where(hits.is_road, where(hits.is_face, curb, road), where(hits.is_paved, walk, grass))

  four = lambda fields: choose(fields[0], fields[1], fields[2], fields[3])
  # Lines: the middle of the main road, dashed, and its edges; crossings are barred along the traffic.
  middle, half = (ground.road[..., 0] + ground.road[..., 1]) / 2, (ground.road[..., 1] - ground.road[..., 0]) / 2
  off = jnp.abs(d - middle)
  on_main = off < half
  junction = (s > ground.cross_road[..., 0]) & (s < ground.cross_road[..., 1])
  line = jnp.where(fraction(s * 0.25) < 0.4, off, NEVER) < MARKING
  line = (line | (jnp.abs(off - half + 0.25) < MARKING)) & ~junction
  bar = fraction(where(on_main, d, s)) < 0.5
  marked = where(hits.is_crossing, bar, line) & hits.is_road & ~hits.is_face
  colour = where(marked, words[4], four(words))
  if in_shadow is not None:
    colour = where(in_shadow, where(marked, words[9], four(words[5:])), colour)

  shape, flag, strength = four(patterns.shapes), four(patterns.flags), four(words[10:])
  bits = lambda x: lax.bitcast_convert_type(jnp.clip(x, -4e6, 4e6) + MAGIC, jnp.int32)
  a, b = bits(s * four(patterns.long)), bits(d * four(patterns.wide))
  sway = jnp.abs((a & 255) - 128)
  b = b + ((sway * ((flag >> 8) & 255)) >> 8)
  row = b >> 8
  a = a + where((row & 1) != 0, (shape >> 16) & 255, 0)
  column = a >> 8
  across, along = jnp.abs((b & 255) - 128), jnp.abs((a & 255) - 128)
  joint = (along + ((shape & 255) >> 1) > 128) | (across + (((shape >> 8) & 255) >> 1) > 128)
  joint = joint | (along + across > (flag & 255))
  dark = ((row ^ column) & (shape >> 24) & 1) != 0
  fine = (shape & (1 << 25)) != 0
  grain = where(fine, (b >> 5) * 4099 + (a >> 5), row * 4099 + column)
  noise = lax.shift_right_logical(hashed(grain), jnp.int32(24))
  bright = 256 - ((noise * (strength >> 8)) >> 8) - where(joint | dark, strength & 255, 0)
  return colour, jnp.maximum(bright, 0)


def fraction(x: jax.Array) -> jax.Array:
  """The part of x after the point."""
  return x - jnp.floor(x)
