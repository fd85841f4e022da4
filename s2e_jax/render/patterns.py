"""Procedural surface patterns, all of one family, so that no pixel ever branches on a pattern.

A wall is divided into cells. In each cell the second colour fills one vertical interval whose height depends on
where in the cell an image column cuts it: rectangles (windows, panels), discs (wheels, dots), joints (bricks,
planks), zigzags. Odd rows, or all rows but the first, may be shifted and shaped differently. A hash darkens cells
or eighths of cells. So a column of pixels needs two intervals, two seeds and one line to count rows, and a pattern
is one row of WALLS. The ground uses the same idea with cells in street coordinates (GROUNDS).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.render.bits import hashed
from s2e_jax.scene import PATTERNS


@dataclasses.dataclass(frozen=True)
class Wall:
  """How one pattern covers an upright face; lengths in cells, a cell is `cell` times Scene.scale wide and high.

  even, odd: (width, height, centre) of the interval of the second colour in even and odd rows, or in the first
  row and all others where `first`. joint: the second colour is what lies outside width, and height at the bottom.
  disc: the interval's height follows a circle, where `first` only in the first row. shift: of odd rows, in cells.
  zig: how far the centre swings.
  rows: fits this many rows into the height of the primitive, and one cell into half its length (0: by scale).
  mirror: the face's left half mirrors the right. noise: depth of the hash, per cell, or per eighth where `fine`.
  """

  cell: tuple[float, float] = (1.0, 1.0)
  even: tuple[float, float, float] = (0.0, 0.0, 0.5)
  odd: tuple[float, float, float] | None = None
  joint: bool = False
  disc: bool = False
  first: bool = False
  fine: bool = False
  mirror: bool = False
  shift: float = 0.0
  zig: float = 0.0
  rows: int = 0
  noise: float = 0.08


WALLS: dict[str, Wall] = {
  'plain': Wall(noise=0.04),
  'noise': Wall(cell=(0.5, 0.5), fine=True, noise=0.3),
  'windows': Wall(cell=(1.0, 1.15), even=(0.5, 0.55, 0.55), noise=0.1),
  'bricks': Wall(cell=(0.5, 0.2), even=(0.93, 0.14, 0.0), joint=True, shift=0.5, noise=0.28),
  'planks': Wall(cell=(0.2, 4.0), even=(0.88, 0.0, 0.0), joint=True, noise=0.22),
  'stripes': Wall(cell=(0.5, 1.0), even=(0.5, 1.0, 0.5), noise=0.03),
  'panels': Wall(cell=(1.0, 1.0), even=(0.96, 0.04, 0.0), joint=True, noise=0.12),
  'shopfront': Wall(
    cell=(1.3, 1.3), even=(0.86, 0.72, 0.42), odd=(0.45, 0.55, 0.5), first=True, noise=0.08
  ),
  'foliage': Wall(cell=(0.35, 0.35), even=(0.8, 0.7, 0.5), disc=True, shift=0.5, zig=0.6, fine=True, noise=0.55),
  'person': Wall(even=(1.0, 1.0, 0.5), odd=(0.0, 0.0, 0.5), first=True, rows=2, noise=0.08),
  'vehicle': Wall(even=(0.34, 0.95, 0.12), disc=True, mirror=True, rows=1, noise=0.02),
  'bands': Wall(cell=(1.0, 0.4), even=(1.0, 0.5, 0.5), noise=0.03),
  'slabs': Wall(cell=(1.0, 0.6), even=(0.95, 0.07, 0.0), joint=True, noise=0.14),
  'bond': Wall(cell=(0.8, 0.4), even=(0.94, 0.1, 0.0), joint=True, shift=0.5, noise=0.18),
  'cobbles': Wall(cell=(0.25, 0.25), even=(0.8, 0.8, 0.5), disc=True, shift=0.5, noise=0.35),
  'asphalt': Wall(cell=(0.4, 0.4), fine=True, noise=0.2),
  'grass': Wall(cell=(0.3, 0.6), fine=True, noise=0.45),
  'checks': Wall(cell=(0.5, 0.25), even=(0.5, 1.0, 0.5), shift=0.5, noise=0.05),
  'dots': Wall(cell=(0.5, 0.5), even=(0.6, 0.6, 0.5), disc=True, shift=0.5, noise=0.03),
  'zigzag': Wall(cell=(0.6, 0.6), even=(1.0, 0.4, 0.5), zig=0.9, noise=0.03),
  'hexagons': Wall(cell=(0.6, 0.5), even=(0.92, 0.16, 0.1), joint=True, shift=0.5, zig=0.7, noise=0.2),
}  # fmt: skip
HEAD = Wall(even=(1.0, 0.45, 0.85), rows=1, noise=0.05)  # hair over skin

# Bits of the flags in the third word.
JOINT, DISC, MIRROR, FIRST, FINE, FITTED = 1, 2, 4, 8, 16, 32


def _byte(value: np.ndarray) -> np.ndarray:
  return np.clip(np.round(np.asarray(value) * 255), 0, 255).astype(np.int64)


def _wall_table() -> tuple[np.ndarray, np.ndarray]:
  """(int32 [N, 3] words, float32 [N, 3] cells: width, height, rows) of all patterns and of heads."""
  words, cells = [], []
  for wall in (*(WALLS[name] for name in PATTERNS), HEAD):
    odd = wall.even if wall.odd is None else wall.odd
    four = lambda *values: int(sum(int(_byte(v)) << (8 * i) for i, v in enumerate(values)))
    flags = (
      JOINT * wall.joint + DISC * wall.disc + MIRROR * wall.mirror + FIRST * wall.first + FINE * wall.fine
    ) + FITTED * (wall.rows > 0)
    share = wall.even[0] * wall.even[1]
    if wall.joint:
      share = 1 - wall.even[0] * (1 - wall.even[1])
    words.append(
      [four(*wall.even, wall.shift), four(*odd, wall.zig), flags | (four(0, wall.noise, share) & 0xFFFF00)]
    )
    cells.append([*wall.cell, wall.rows])
  return np.array(words, np.int64).astype(np.uint32).view(np.int32), np.array(cells, np.float32)


def pack_walls(
  pattern: jax.Array, is_head: jax.Array, scale: jax.Array, half: jax.Array, height: jax.Array
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array, jax.Array]:
  """(three int32 words, cells per m along the face, cells per m upwards) of primitives [B, P].

  half: half length of a box or radius (m). height: m.
  """
  words, cells = _wall_table()
  row = jnp.where(is_head, len(PATTERNS), jnp.clip(pattern, 0, len(PATTERNS) - 1))
  word = jnp.asarray(words)[row]
  cell = jnp.asarray(cells)[row]
  fitted = cell[..., 2] > 0
  size = jnp.maximum(scale, 0.05)
  per_width = jnp.where(fitted, 1 / jnp.maximum(half, 0.05), 1 / (cell[..., 0] * size))
  per_height = jnp.where(fitted, cell[..., 2] / height, 1 / (cell[..., 1] * size))
  return (word[..., 0], word[..., 1], word[..., 2]), per_width, per_height


def wall_columns(
  words: tuple[jax.Array, jax.Array, jax.Array], cells: jax.Array, slot: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """(spans, seeds) int32 of image columns that cut walls `cells` pattern cells from the middle of a face.

  slot: int32, makes equal primitives differ. spans: four bytes, first and last 256th of a cell's height in the
  second colour, for even and odd rows. seeds: two of 15 bits; bit 15: hash eighths of cells; bit 31: all rows but
  the first are odd.
  """
  flags = words[2]
  is_set = lambda bit: (flags & bit) != 0
  byte = lambda word, i: ((word >> (8 * i)) & 255).astype(jnp.float32) * (1 / 255)
  cells = jnp.where(is_set(MIRROR), jnp.abs(cells), cells) + 512.0
  zig, shift, joint = byte(words[1], 3), byte(words[0], 3), is_set(JOINT)
  spans, seeds = [], []
  for parity in (0, 1):
    width, tall, centre = (byte(words[parity], i) for i in range(3))
    at = cells + (shift if parity else 0.0)
    cell = jnp.floor(at)
    off = jnp.abs(at - cell - 0.5)
    reach = off * 2 / jnp.maximum(width, 1e-3)
    inside = reach < 1
    centre = centre + zig * (off - 0.25)
    is_disc = is_set(DISC) & ~is_set(FIRST) if parity else is_set(DISC)
    half = 0.5 * tall * jnp.where(is_disc, jnp.sqrt(jnp.maximum(1 - reach * reach, 0)), 1.0)
    # A joint is at the bottom of its cell, and all of a cell that lies beside the stone.
    low = jnp.where(joint, jnp.where(inside & (zig > 0), centre, 0.0), centre - half)
    high = jnp.where(joint, jnp.where(inside, low + tall, 1.0), centre + half)
    first = (jnp.clip(low, 0, 1) * 255).astype(jnp.int32)
    last = (jnp.clip(high, 0, 1) * 255).astype(jnp.int32)
    spans.append(jnp.where((inside | joint) & (first < last), first | (last << 8), 255))
    grain = jnp.where(is_set(FINE), jnp.floor(at * 8), cell).astype(jnp.int32)
    seeds.append((hashed(grain * 131 + slot * 2731) >> 8) & 0x7FFF)
  seed = seeds[0] | jnp.where(is_set(FINE), 0x8000, 0) | (seeds[1] << 16)
  return spans[0] | (spans[1] << 16), seed | jnp.where(is_set(FIRST), jnp.int32(-(2**31)), 0)


def wall_contrast(
  word: jax.Array, per_width: jax.Array, pixel: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(0..1 of a pattern's contrast that is left, 0..255 of its noise, 0..1 share of its second colour).

  word: the third. pixel: m, size of a pixel on the wall: what is smaller must not be seen, or it flickers.
  """
  width = 1 / per_width
  fade = jnp.clip(width / pixel * 0.5 - 0.6, 0, 1)
  grain = jnp.where((word & FINE) != 0, width / 8, width)
  byte = lambda i: ((word >> (8 * i)) & 255).astype(jnp.float32)
  return fade, byte(1) * jnp.clip(grain / pixel - 0.4, 0, 1), byte(2) * (1 / 255)
