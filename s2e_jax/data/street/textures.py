"""Tiling textures of the procedural video: grounds, facades and skies, with mip levels."""

from __future__ import annotations

import cv2
import numpy as np

TEXELS = 128  # per side of a tile
NUM_LEVELS = 8
GROUND_TILE = 4.0  # metres per ground tile
WALL_TILE = 8.0  # metres per wall tile, along the wall and upwards
GROUNDS = ('pavers', 'slabs', 'asphalt', 'dashes', 'grass', 'stone', 'gravel', 'tiles', 'lino')
WALLS = ('windows', 'shops', 'brick', 'hedge', 'corridor')
SKY_ROWS, SKY_COLUMNS = 64, 1024

Array = np.ndarray


def noise(rows: int, columns: int, power: float, rng: np.random.Generator) -> Array:
  """[rows, columns] periodic noise, mean 0, deviation 1; amplitude falls with frequency**power."""
  fy, fx = np.fft.fftfreq(rows)[:, None] * rows, np.fft.rfftfreq(columns)[None] * columns
  frequency = np.hypot(fy, fx)
  frequency[0, 0] = np.inf
  spectrum = np.fft.rfft2(rng.normal(size=(rows, columns))) * frequency**-power
  image = np.fft.irfft2(spectrum, s=(rows, columns))
  return image / image.std()


def _grid(period: int, joint: int, shift_rows: bool = False) -> tuple[Array, Array]:
  """[TEXELS, TEXELS] bool joints of a grid with `period` texels, and the index of the cell of each texel."""
  i, j = np.mgrid[:TEXELS, :TEXELS]
  if shift_rows:
    j = (j + (i // period % 2) * (period // 2)) % TEXELS
  return (i % period < joint) | (j % period < joint), i // period * 64 + j // period


def _paved(colour: Array, period: int, contrast: float, rng: np.random.Generator, shift: bool = True) -> Array:
  """Stones of one size with darker joints and a shade each."""
  joint, cell = _grid(period, 1, shift)
  shade = 1 + contrast * rng.normal(size=64 * 64)[cell] + 0.04 * noise(TEXELS, TEXELS, 1.0, rng)
  return colour * np.where(joint, 0.55, shade)[..., None]


def _ground(name: str, rng: np.random.Generator) -> Array:
  """[TEXELS, TEXELS, 3] RGB of one ground: rows along the street, columns across."""
  grain, cloud = noise(TEXELS, TEXELS, 0.3, rng), noise(TEXELS, TEXELS, 1.4, rng)
  if name in ('pavers', 'slabs', 'tiles'):
    warm = rng.uniform(-0.06, 0.06)
    colour = np.array([0.58 + warm, 0.56, 0.54 - warm]) * rng.uniform(0.8, 1.2)
    period = {'pavers': 16, 'slabs': 32, 'tiles': 16}[name]
    return _paved(colour, period, 0.08, rng, shift=name != 'tiles') * (1 + 0.05 * cloud[..., None])
  if name == 'grass':
    green = np.array([0.24, 0.4, 0.14]) + rng.uniform(-0.05, 0.1) * np.array([1, 0.3, 0])
    return green * (1 + 0.2 * grain + 0.15 * cloud)[..., None]
  if name == 'gravel':
    return np.array([0.62, 0.55, 0.44]) * (1 + 0.16 * grain + 0.08 * cloud)[..., None]
  if name == 'stone':
    joint = np.arange(TEXELS) % 32 < 1
    return np.array([0.72, 0.71, 0.68]) * ((1 + 0.04 * grain) * np.where(joint, 0.7, 1.0)[:, None])[..., None]
  if name == 'lino':
    return np.array([0.5, 0.53, 0.5]) * rng.uniform(0.8, 1.3) * (1 + 0.03 * grain + 0.05 * cloud)[..., None]
  asphalt = np.array([0.27, 0.27, 0.285]) * (1 + 0.09 * grain + 0.08 * cloud)[..., None]
  if name == 'dashes':
    asphalt[: TEXELS // 2] = 0.85
  return asphalt


def _wall(name: str, rng: np.random.Generator) -> Array:
  """[TEXELS, TEXELS, 3] RGB of one wall in grey or its own colour: row 0 is the foot, columns along the wall."""
  image = np.ones((TEXELS, TEXELS, 3)) * (1 + 0.05 * noise(TEXELS, TEXELS, 1.0, rng))[..., None]
  glass = np.array([0.3, 0.36, 0.42])
  if name == 'brick':
    joint, cell = _grid(4, 1, shift_rows=True)
    image *= np.where(joint, 1.15, 1 + 0.1 * rng.normal(size=64 * 64)[cell])[..., None]
  if name in ('windows', 'brick'):
    image[:10] *= 0.75
    for floor in (16, 64 + 12):
      for column in range(8, TEXELS, 40):
        image[floor - 2 : floor + 34, column - 2 : column + 24] = 1.15
        image[floor : floor + 32, column : column + 22] = glass * rng.uniform(0.6, 1.6)
        image[floor + 15 : floor + 17, column : column + 22] = 1.0
  elif name == 'shops':
    for column in range(4, TEXELS, 62):
      image[6:38, column : column + 34] = glass * rng.uniform(0.7, 1.9)
      image[0:36, column + 40 : column + 54] = rng.uniform(0.1, 0.5, 3)
    image[40:50] = rng.uniform(0.15, 0.9, 3)
    for column in range(10, TEXELS, 30):
      image[68:100, column : column + 16] = glass * rng.uniform(0.6, 1.6)
  elif name == 'hedge':
    image = np.array([0.16, 0.3, 0.1]) * (1 + 0.35 * noise(TEXELS, TEXELS, 0.6, rng))[..., None]
  elif name == 'corridor':
    image[:3] *= 0.5
    image[16:18] *= 0.7
    for column in (12, 76):
      image[:33, column : column + 17] = 0.45
      image[:32, column + 1 : column + 16] = rng.uniform(0.25, 0.7, 3)
      image[15:17, column + 13 : column + 15] = 0.9
  return image


def with_levels(tile: Array) -> Array:
  """[NUM_LEVELS, TEXELS, TEXELS, 3] float32: the tile, then averaged over 2, 4, 8 ... texels."""
  levels = [tile]
  for level in range(1, NUM_LEVELS):
    n = 2**level
    small = tile.reshape(TEXELS // n, n, TEXELS // n, n, 3).mean(axis=(1, 3))
    levels.append(cv2.resize(small, (TEXELS, TEXELS), interpolation=cv2.INTER_NEAREST))
  return np.clip(np.stack(levels), 0, 1.3).astype(np.float32)


def ground_atlas(names: tuple[str, ...], rng: np.random.Generator) -> Array:
  """[k, NUM_LEVELS, TEXELS, TEXELS, 3] of the named grounds."""
  return np.stack([with_levels(_ground(name, rng)) for name in names])


def wall_atlas(names: tuple[str, ...], rng: np.random.Generator) -> Array:
  """[k, NUM_LEVELS, TEXELS, TEXELS, 3] of the named walls."""
  return np.stack([with_levels(_wall(name, rng)) for name in names])


def ceiling() -> Array:
  """[NUM_LEVELS, TEXELS, TEXELS, 3] of a plain ceiling with a lamp per tile."""
  tile = np.full((TEXELS, TEXELS, 3), 0.72)
  tile[:4] = tile[:, :4] = 0.62
  tile[40:70, 50:90] = 1.3
  return with_levels(tile)


def level_of(texels: Array) -> Array:
  """Mip level (int) for rays that each cover `texels` texels."""
  return np.clip(np.log2(np.maximum(texels, 1)), 0, NUM_LEVELS - 1).astype(int)


def sky(far: Array, weather: str, rng: np.random.Generator) -> Array:
  """[SKY_ROWS, SKY_COLUMNS, 3] float32: row 0 at the horizon, the last at slope 1; columns once round.

  far: [3] colour at the horizon. weather: 'sunny', 'overcast' or 'evening'.
  """
  up = np.linspace(0, 1, SKY_ROWS)[:, None, None]
  zenith = {'sunny': (0.35, 0.55, 0.88), 'overcast': (0.66, 0.68, 0.72), 'evening': (0.5, 0.55, 0.75)}[weather]
  image = far * (1 - up) + np.array(zenith) * up
  cloud = np.clip(noise(SKY_ROWS * 2, SKY_COLUMNS, 1.6, rng)[:SKY_ROWS] * 0.6 + rng.uniform(-0.4, 0.4), 0, 1)
  image = image + (0.95 - image) * (cloud * (0.3 + 0.7 * up[..., 0]))[..., None]
  # A far skyline, so that turning shows even on an open square.
  ridge = 5 + 1.6 * noise(1, SKY_COLUMNS, 0.9, rng)[0]
  image = np.where((np.arange(SKY_ROWS)[:, None] < ridge)[..., None], far * rng.uniform(0.55, 0.75), image)
  return image.astype(np.float32)
