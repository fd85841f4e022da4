"""Streets of the procedural video: a centre line and what lies beside it.

A street is a smooth centre line with bands along it (walls, sidewalk, grass, curb, road). Places are given as
(s, d): metres along the line and metres to its left. World frame: x, y on the ground, z up, metres.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

SPACING = 0.1  # metres between points of the centre line
LEAD_IN = 12.0  # metres of street behind the start
VIEW_RANGE = 45.0  # metres beyond which nothing is drawn
KINDS = ('street', 'park', 'corridor')


@dataclasses.dataclass(frozen=True)
class Street:
  """A centre line and what lies beside it.

  kind: one of KINDS. layout: 'straight', 'curved' or 'corner'.
  centre: [n, 2] m, SPACING apart. heading: [n] rad. half_width: m of walkable ground each side.
  side: +1 if the buildings stand on the left, -1 on the right; bands are given in e = side * d.
  band_edges: [k - 1] ascending e between the k bands. band_materials: k of textures.GROUNDS.
  wall_low, wall_high: e of the walls (or hedges) that bound the view.
  wall_seed: derives the looks of the buildings.
  """

  kind: str
  layout: str
  centre: np.ndarray
  heading: np.ndarray
  half_width: float
  side: int
  band_edges: np.ndarray
  band_materials: tuple[str, ...]
  wall_low: float
  wall_high: float
  wall_seed: int

  @property
  def length(self) -> float:
    """Metres of centre line."""
    return (len(self.centre) - 1) * SPACING

  def place(self, s: ArrayLike, d: ArrayLike) -> np.ndarray:
    """World points [*B, 2] of places s, d [*B]."""
    at = np.arange(len(self.centre)) * SPACING
    base = np.stack([np.interp(np.asarray(s), at, self.centre[:, i]) for i in range(2)], axis=-1)
    heading = self.heading_at(s)
    return base + np.asarray(d)[..., None] * np.stack([-np.sin(heading), np.cos(heading)], axis=-1)

  def heading_at(self, s: ArrayLike) -> np.ndarray:
    """Heading [*B] (rad) of the centre line at s [*B]."""
    return np.interp(np.asarray(s), np.arange(len(self.heading)) * SPACING, self.heading)


def _curvature(layout: str, length: float, half_width: float, rng: np.random.Generator) -> np.ndarray:
  """Curvature (1/m) along a centre line that keeps within a quarter turn of its first heading."""
  kappa = np.zeros(math.ceil(length / SPACING) + 1)
  at, heading = LEAD_IN + rng.uniform(2, 6), 0.0
  while at < length and layout != 'straight':
    if layout == 'corner':
      radius, angle, straight = half_width + rng.uniform(0.8, 1.6), rng.uniform(1.2, 1.6), rng.uniform(9, 16)
    else:
      radius, angle, straight = rng.uniform(7, 22), rng.uniform(0.4, 1.1), rng.uniform(0, 7)
    sign = rng.choice([-1, 1])
    if abs(heading + sign * angle) > 1.7:
      sign = -sign
    first, last = round(at / SPACING), round((at + radius * angle) / SPACING)
    kappa[first:last] = sign / radius
    heading += sign * angle
    at += radius * angle + straight
  return gaussian_filter1d(kappa, 0.4 / SPACING)


def _bands(kind: str, half_width: float, rng: np.random.Generator) -> tuple[list[tuple[float, str]], float]:
  """Bands from the far wall to the near one as (upper edge e, material), and e of the far wall."""
  if kind == 'corridor':
    return [
      (-half_width + 0.12, 'stone'),
      (half_width - 0.12, str(rng.choice(['tiles', 'lino']))),
      (half_width, 'stone'),
    ], -half_width - 0.02
  if kind == 'park':
    path = str(rng.choice(['gravel', 'pavers', 'asphalt']))
    low, high = -half_width - rng.uniform(5, 10), half_width + rng.uniform(5, 10)
    return [(-half_width - 0.12, 'grass'), (-half_width, 'stone'), (half_width, path),
            (half_width + 0.12, 'stone'), (high, 'grass')], low  # fmt: skip
  strip, road = rng.uniform(0.8, 2.0) * (rng.random() < 0.7), rng.uniform(5.5, 7.5)
  curb = -half_width - strip
  middle, far = curb - 0.2 - road / 2, curb - 0.4 - road
  pavement = str(rng.choice(['pavers', 'slabs']))
  return [
    (far - 0.2, pavement), (far, 'stone'), (middle - 0.08, 'asphalt'), (middle + 0.08, 'dashes'),
    (curb - 0.2, 'asphalt'), (curb, 'stone'), (-half_width, 'grass' if strip else 'stone'),
    (half_width, pavement), (half_width + 0.35, str(rng.choice(['stone', 'grass', 'gravel']))),
  ], far - rng.uniform(2.0, 3.5)  # fmt: skip


def make_street(length: float, rng: np.random.Generator) -> Street:
  """A random street with `length` metres to drive, a lead-in behind and a view ahead of it."""
  kind = str(rng.choice(KINDS, p=[0.6, 0.25, 0.15]))
  layout = str(rng.choice(['straight', 'curved', 'corner'], p=[0.2, 0.4, 0.4]))
  half_width = rng.uniform(1.25, 1.7) if kind == 'corridor' else rng.uniform(1.35, 2.1)
  total = LEAD_IN + length + VIEW_RANGE
  kappa = _curvature(layout, total, half_width, rng)
  heading = rng.uniform(-math.pi, math.pi) + np.concatenate([[0.0], np.cumsum(kappa[:-1]) * SPACING])
  middle = (heading[1:] + heading[:-1]) / 2
  steps = SPACING * np.stack([np.cos(middle), np.sin(middle)], axis=-1)
  bands, low = _bands(kind, half_width, rng)
  return Street(
    kind=kind,
    layout=layout,
    centre=np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]),
    heading=heading,
    half_width=half_width,
    side=int(rng.choice([-1, 1])),
    band_edges=np.array([edge for edge, _ in bands[:-1]]),
    band_materials=tuple(material for _, material in bands),
    wall_low=low,
    wall_high=bands[-1][0],
    wall_seed=int(rng.integers(2**31)),
  )
