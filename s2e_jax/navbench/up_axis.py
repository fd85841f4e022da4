"""Which way is up in a splat: directions with a wide plane at the bottom and the rest of the scene on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from s2e_jax.gaussians import Gaussians, rotation_matrices
from s2e_jax.navbench.sh_rotation import spread_directions

AXES = {
  sign + name: value * np.eye(3)[i] for i, name in enumerate('xyz') for sign, value in (('', 1.0), ('-', -1.0))
}
_MAX_SURFACES = 120_000  # that directions are judged by; more only cost time
_BINS = 400  # of heights over the central extent
_CELLS = 40  # per side of the grid that the coverage of a plane is counted on
_FLAT = np.cos(np.radians(20))  # a surface lies across a direction when its normal is this near
# How common each axis is as up among splat files; a direction between the axes is a file nobody levelled.
_CUSTOM = {'z': 1.0, '-y': 0.95, 'y': 0.9, '-z': 0.7, 'x': 0.6, '-x': 0.6}
_UNLEVELLED = 0.85
_SNAP = np.cos(np.radians(6))


@dataclasses.dataclass(frozen=True)
class Surfaces:
  """F flat opaque gaussians. centre: [F, 3]. normal: [F, 3] unit, of either sign. area: [F] opacity-weighted."""

  centre: np.ndarray
  normal: np.ndarray
  area: np.ndarray

  @property
  def num(self) -> int:
    """Number of surfaces F."""
    return len(self.area)


@dataclasses.dataclass(frozen=True)
class Plane:
  """The lowest wide plane across a direction `up`.

  height: along up, in units of the file. normal: [3] median normal of its surfaces, near up. num: gaussians on it.
  share: its part of all surface. score: how well it serves as the ground, comparable between directions.
  """

  up: np.ndarray
  height: float
  normal: np.ndarray
  num: int
  share: float
  score: float


def as_direction(up: str | Sequence[float]) -> np.ndarray:
  """[3] unit vector of 'z', '+z', '-y', ..., '0,-0.9,0.1' or three numbers; ValueError for anything else."""
  if isinstance(up, str):
    name = up.strip().lower().removeprefix('+')
    if name in AXES:
      return AXES[name]
    parts: Sequence[str | float] = name.split(',')
  else:
    parts = up
  try:
    vector = np.array([float(part) for part in parts])
  except (TypeError, ValueError):
    vector = np.zeros(0)
  if vector.shape != (3,) or not np.isfinite(vector).all() or not np.linalg.norm(vector) > 0:
    raise ValueError(f'up={up!r} must be one of {sorted(AXES)} or three numbers such as 0,-0.9,0.1')
  return vector / np.linalg.norm(vector)


def flat_surfaces(gaussians: Gaussians, max_num: int = _MAX_SURFACES) -> Surfaces:
  """Every n-th of the flat opaque gaussians so that at most `max_num` are left."""
  sides = np.sort(np.asarray(gaussians.scale, np.float32), axis=1)
  picked = np.flatnonzero((np.asarray(gaussians.opacity) > 0.3) & (sides[:, 0] < 0.5 * sides[:, 1]))
  picked = picked[:: max(1, -(-len(picked) // max_num))]
  scale = np.asarray(gaussians.scale)[picked]
  turned = rotation_matrices(np.asarray(gaussians.rotation)[picked].astype(float))
  normal = np.take_along_axis(turned, scale.argmin(1)[:, None, None], axis=2)[..., 0]
  area = np.asarray(gaussians.opacity)[picked] * sides[picked, 1] * sides[picked, 2]
  if len(area):  # a handful of backdrop gaussians, each a house in size, must not outvote the scene
    area = np.minimum(area, np.quantile(area, 0.9))
  return Surfaces(np.asarray(gaussians.mean, float)[picked], normal, np.asarray(area, float))


def lowest_plane(surfaces: Surfaces, up: np.ndarray) -> Plane | None:
  """The lowest wide plane across `up`, or None where no surface lies across it."""
  toward = surfaces.normal @ up
  across = np.abs(toward) > _FLAT
  if across.sum() < 2 or not surfaces.area[across].sum() > 0:
    return None
  height = surfaces.centre @ up
  low, high = np.percentile(height, [0.5, 99.5])
  width = max(high - low, 1e-9) / _BINS
  level = np.floor((height[across] - low) / width).astype(int)
  within = (level >= 0) & (level < _BINS)
  amount = np.bincount(level[within], surfaces.area[across][within], minlength=_BINS)
  smooth = ndimage.gaussian_filter1d(amount, 2.0, mode='constant')
  # of slabs, not of single levels: a ceiling without any relief would dwarf every real floor
  slab = ndimage.uniform_filter1d(amount, 11, mode='constant')
  peaks = np.flatnonzero((smooth == ndimage.maximum_filter1d(smooth, 9)) & (slab >= 0.2 * slab.max()))
  if not len(peaks):
    return None
  level_of_plane = low + (peaks[0] + 0.5) * width
  near = across & (np.abs(height - level_of_plane) < 5 * width)
  weight = surfaces.area[near]
  # The median: lids of boxes and what else lies in the slab do not tilt a ground that slopes.
  normal = np.median(surfaces.normal[near] * np.sign(toward[near])[:, None], axis=0)
  normal /= np.linalg.norm(normal)
  above = surfaces.area[height > level_of_plane - 5 * width].sum() / surfaces.area.sum()
  covered = _coverage(surfaces.centre, surfaces.centre[near], up)
  clutter = _clutter(height, surfaces.area, level_of_plane, float(high), width)
  centre = np.average(height[near], weights=weight) if weight.sum() > 0 else level_of_plane
  share = float(weight.sum() / surfaces.area.sum())
  # not the share itself: a smooth ceiling may have four times the surface of a floor that things stand on
  score = covered * np.sqrt(share) * above**4 * clutter
  return Plane(up, float(centre), normal, int(near.sum()), share, float(score))


def vertical_planes(surfaces: Surfaces) -> list[Plane]:
  """Planes that could be the ground, best first, one per direction that normals gather around, both its signs."""
  if surfaces.num < 2:
    return []
  starts = np.concatenate([np.eye(3), spread_directions(80)[:40]])
  found: list[np.ndarray] = []
  for axis in _gathering_places(surfaces, starts):
    nearest = int(np.argmax(np.abs(axis)))
    snapped = np.sign(axis[nearest]) * np.eye(3)[nearest]
    line = snapped if axis @ snapped > _SNAP else axis
    if all(abs(line @ other) < np.cos(np.radians(8)) for other in found):
      found.append(line)
  planes = []
  for line in found:
    for up in (line, -line):
      plane = lowest_plane(surfaces, up)
      if plane is not None:
        planes.append(dataclasses.replace(plane, score=plane.score * _custom(up)))
  return sorted(planes, key=lambda plane: -plane.score)


def _gathering_places(surfaces: Surfaces, starts: np.ndarray) -> list[np.ndarray]:
  """Mean shift of the starts over the normals, as lines without sign; those with most surface around first."""
  step = max(1, surfaces.num // 20_000)
  normal, area = surfaces.normal[::step], surfaces.area[::step]
  lines = starts
  for _ in range(15):
    along = normal @ lines.T
    weight = area[:, None] * np.exp((np.abs(along) - 1) * 60) * np.sign(along)
    lines = weight.T @ normal
    lines /= np.maximum(np.linalg.norm(lines, axis=1, keepdims=True), 1e-12)
  support = area @ (np.abs(normal @ lines.T) > _FLAT)
  order = np.argsort(-support, kind='stable')
  return [lines[i] for i in order if support[i] > 0.03 * area.sum()]


def _coverage(everything: np.ndarray, points: np.ndarray, up: np.ndarray) -> float:
  """Part of the ground plan that the points cover."""
  side = np.eye(3)[int(np.argmin(np.abs(up)))]
  first = np.cross(up, side)
  first /= np.linalg.norm(first)
  plan = np.stack([first, np.cross(up, first)], axis=1)
  flat = everything @ plan
  low, high = np.percentile(flat, [1, 99], axis=0)
  size = max(float((high - low).max()), 1e-9) / _CELLS
  cell = np.floor((points @ plan - low) / size).astype(int)
  inside = ((cell >= 0) & (cell < _CELLS)).all(axis=1)
  return len(np.unique(cell[inside] @ np.array([_CELLS, 1]))) / _CELLS**2


def _clutter(height: np.ndarray, area: np.ndarray, floor: float, top: float, width: float) -> float:
  """Above 1 where more stands on the plane than hangs from the top: what tells a floor from a ceiling."""
  relative = (height - floor) / max(top - floor, width)
  lower = area[(relative > 0.08) & (relative < 0.4)].sum()
  upper = area[(relative > 0.6) & (relative < 0.92)].sum()
  return float(np.clip((lower + 1e-12) / (upper + 1e-12), 0.25, 4.0))


def _custom(up: np.ndarray) -> float:
  for name, axis in AXES.items():
    if up @ axis > _SNAP:
      return _CUSTOM[name]
  return _UNLEVELLED
