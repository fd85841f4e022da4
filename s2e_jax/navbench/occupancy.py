"""Where a splat is solid in the height band of a robot: optical depth of voxels above the local ground."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy import ndimage

from s2e_jax.gaussians import Gaussians, rotation_matrices
from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.ground_field import GroundField

_SIGMAS = 2.0  # how far a gaussian reaches
_WIDEN = 0.35  # of a voxel, added to every gaussian so that thin discs still touch the centres of voxels
_TILE = 256  # fine cells per side of the tiles that bound the memory
_CHUNK = 1_500_000  # voxel values computed at a time


@dataclasses.dataclass(frozen=True)
class Band:
  """What counts as an obstacle. low, high: m above the local ground.

  opacity: of a voxel (light lost on the way through it) from which it is solid. min_opacity: of the gaussians that
  count. min_area: m^2 and min_height: m; what is smaller in both is a speck of the reconstruction.
  """

  low: float = 0.1
  high: float = 1.2
  opacity: float = 0.5
  min_opacity: float = 0.1
  min_area: float = 0.04
  min_height: float = 0.35

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    if not 0 <= self.low < self.high:
      raise ValueError(f'band {self.low} to {self.high} m must have 0 <= low < high')
    if not 0 < self.opacity < 1:
      raise ValueError(f'band opacity={self.opacity} must lie between 0 and 1')


def solid_layers(gaussians: Gaussians, ground: GroundField, band: Band, refine: int = 2) -> np.ndarray:
  """[nx * refine, ny * refine] uint8: how many voxel layers of the band are solid over each fine cell.

  Layers follow the ground. A gaussian counts with the light it takes on the way through one voxel, so that fog of
  wide gaussians is not a wall while a wall of thin ones is.
  """
  grid = ground.grid.refined(refine)
  step = 0.1
  num_layers = max(1, round((band.high - band.low) / step))
  step = (band.high - band.low) / num_layers
  prepared = _prepare(gaussians, ground, band, grid, step)
  solid = np.zeros(grid.shape, np.uint8)
  threshold = -np.log1p(-band.opacity)
  for i in range(0, grid.shape[0], _TILE):
    for j in range(0, grid.shape[1], _TILE):
      first = np.array([i, j, 0])
      last = np.array([min(i + _TILE, grid.shape[0]), min(j + _TILE, grid.shape[1]), num_layers])
      depth = _optical_depth(prepared, first, last)
      solid[i : last[0], j : last[1]] = (depth > threshold).sum(axis=2)
  return solid


@dataclasses.dataclass(frozen=True)
class _Voxelised:
  """Gaussians in units of voxels, above the ground; voxel centres at whole numbers.

  centre: [N, 3]. precision: [N, 6] xx, yy, zz, xy, xz, yz. low, high: [N, 3] first and last voxel. opacity: [N].
  thinness: [N] part of the loss of light that falls to one voxel.
  """

  centre: np.ndarray
  precision: np.ndarray
  low: np.ndarray
  high: np.ndarray
  opacity: np.ndarray
  thinness: np.ndarray


def _prepare(gaussians: Gaussians, ground: GroundField, band: Band, grid: Grid, step: float) -> _Voxelised:
  mean, scale = np.asarray(gaussians.mean, np.float32), np.asarray(gaussians.scale, np.float32)
  opacity = np.asarray(gaussians.opacity, np.float32)
  reach = _SIGMAS * np.minimum(scale.max(axis=1), 3.0)
  low = np.array(grid.origin) - reach[:, None]
  high = np.array(grid.origin) + np.array(grid.shape) * grid.cell + reach[:, None]
  chosen = (opacity > band.min_opacity) & ((mean[:, :2] > low) & (mean[:, :2] < high)).all(axis=1)
  above = mean[:, 2] - ground.grid.sample(ground.height, mean).astype(np.float32)
  chosen &= (above + reach > band.low) & (above - reach < band.high)
  mean, scale, opacity, above = mean[chosen], scale[chosen], opacity[chosen], above[chosen]
  axes = rotation_matrices(np.asarray(gaussians.rotation, np.float32)[chosen]) * scale[:, None, :]
  voxel = np.array([grid.cell, grid.cell, step], np.float32)
  axes /= voxel[:, None]
  cov = axes @ axes.transpose(0, 2, 1) + _WIDEN**2 * np.eye(3, dtype=np.float32)
  place = np.stack(
    [*((mean[:, :2] - np.array(grid.origin, np.float32)) / grid.cell).T, (above - band.low) / step], 1
  )
  centre = place - 0.5
  extent = _SIGMAS * np.sqrt(np.einsum('nii->ni', cov))
  inverse = np.linalg.inv(cov)
  precision = np.stack([inverse[:, a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))], axis=1)
  # Light crosses a wide gaussian over more than one voxel: only that voxel's part of the loss counts.
  thickness = np.sqrt(2 * np.pi) * scale.min(axis=1) / step
  return _Voxelised(
    centre.astype(np.float32),
    precision.astype(np.float32),
    np.ceil(centre - extent).astype(np.int64),
    np.floor(centre + extent).astype(np.int64),
    np.minimum(opacity, 0.99),
    1 / np.maximum(thickness, 1.0),
  )


def _optical_depth(given: _Voxelised, first: np.ndarray, last: np.ndarray) -> np.ndarray:
  """[x, y, z] float32 sums over the voxels first..last of one tile."""
  shape = last - first
  depth = np.zeros(int(np.prod(shape)), np.float32)
  low, high = np.maximum(given.low, first), np.minimum(given.high, last - 1)
  here = np.flatnonzero((high >= low).all(axis=1))
  if not len(here):
    return depth.reshape(tuple(shape))
  low, high = low[here] - first, high[here] - first
  size = high - low + 1
  # Boxes of the same size in one batch; sides rounded up so that there are few sizes.
  rounded = np.where(size <= 8, size, -(-size // 4) * 4)
  key = (rounded[:, 0] * 1000 + rounded[:, 1]) * 1000 + rounded[:, 2]
  order = np.argsort(key, kind='stable')
  bounds = np.flatnonzero(np.diff(key[order], prepend=-1, append=-1))
  waiting: list[tuple[np.ndarray, np.ndarray]] = []
  for start, stop in itertools.pairwise(bounds):
    box = rounded[order[start]]
    batch = max(1, _CHUNK // int(np.prod(box)))
    for at in range(start, stop, batch):
      rows = order[at : min(at + batch, stop)]
      waiting.append(_box_values(given, here[rows], low[rows], high[rows], first, shape, box))
      if sum(len(value) for _, value in waiting) > _CHUNK:
        _add(depth, waiting)
  _add(depth, waiting)
  return depth.reshape(tuple(shape))


def _add(depth: np.ndarray, waiting: list[tuple[np.ndarray, np.ndarray]]) -> None:
  """Adds values at flat indices and forgets them; many boxes at once, as each sum passes over the whole tile."""
  if waiting:
    index, value = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
    depth += np.bincount(index, value, minlength=len(depth)).astype(np.float32)
    waiting.clear()


def _box_values(
  given: _Voxelised,
  rows: np.ndarray,
  low: np.ndarray,
  high: np.ndarray,
  first: np.ndarray,
  shape: np.ndarray,
  box: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """(index, value), flat: optical depth of gaussians `rows` in boxes of one size that begin at voxels `low`."""
  offset = (low + first - given.centre[rows]).astype(np.float32)
  x, y, z = (offset[:, a, None] + np.arange(box[a], dtype=np.float32) for a in range(3))
  xx, yy, zz, xy, xz, yz = (given.precision[rows, a, None] for a in range(6))
  plane = (xx * x * x)[:, :, None] + (yy * y * y)[:, None, :] + (2 * xy * x)[:, :, None] * y[:, None, :]
  cross = (2 * xz * x)[:, :, None] + (2 * yz * y)[:, None, :]
  square = cross[..., None] * z[:, None, None, :]
  square += plane[..., None]
  square += (zz * z * z)[:, None, None, :]
  opacity = given.opacity[rows, None, None, None]
  reached = square < _SIGMAS**2
  value = np.exp(np.multiply(square, -0.5, out=square), out=square)
  value *= -opacity
  np.log1p(value, out=value)
  value *= -given.thinness[rows, None, None, None]
  value *= reached
  # Rounded-up boxes reach beyond the tile or the gaussian: such voxels are pinned and add nothing.
  places = []
  for a in range(3):
    voxel = low[:, a, None] + np.arange(box[a])
    within = voxel <= high[:, a, None]
    if not within.all():
      value *= np.expand_dims(within, tuple(k for k in (1, 2, 3) if k != a + 1))
    places.append(np.minimum(voxel, shape[a] - 1))
  index = (places[0] * shape[1])[:, :, None] + places[1][:, None, :]
  index = index[..., None] * shape[2] + places[2][:, None, None, :]
  return index.ravel(), value.ravel()


def clean(layers: np.ndarray, has_floor: np.ndarray, band: Band, cell: float) -> np.ndarray:
  """[nx, ny] bool from solid layers [nx, ny] on cells of `cell` m: specks gone, closed outlines filled.

  has_floor: [nx, ny] bool, where gaussians of the ground lie. An outline is filled where there are hardly any
  inside: the reconstruction of a solid thing is its hull. A room, whose floor was seen, stays free.
  """
  return _trimmed(filled(without_specks(layers, band, cell), has_floor, cell))


def without_specks(layers: np.ndarray, band: Band, cell: float) -> np.ndarray:
  """[nx, ny] bool: where layers [nx, ny] on cells of `cell` m are solid, less patches that are small and low."""
  mask = layers > 0
  labels, num = ndimage.label(mask, np.ones((3, 3)))
  step = (band.high - band.low) / max(1, round((band.high - band.low) / 0.1))
  area = np.bincount(labels.ravel(), minlength=num + 1) * cell**2
  tallest = np.zeros(num + 1)
  np.maximum.at(tallest, labels.ravel(), layers.ravel() * step)
  keep = (area >= band.min_area) | (tallest >= band.min_height)
  keep[0] = False
  return keep[labels]


def filled(mask: np.ndarray, has_floor: np.ndarray, cell: float, beside: np.ndarray | None = None) -> np.ndarray:
  """The mask [nx, ny] with closed outlines filled in which hardly any floor was seen.

  beside: [nx, ny] bool; where given, only outlines are filled that touch these cells.
  """
  holes, num = ndimage.label(~mask)
  if not num:
    return mask
  at_border = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
  size = np.bincount(holes.ravel(), minlength=num + 1)
  seen = np.bincount(holes.ravel(), has_floor.ravel(), minlength=num + 1)
  fill = (seen < 0.3 * size) | (size * cell**2 < 0.05)
  if beside is not None:
    touched = np.bincount(holes.ravel(), ndimage.binary_dilation(beside, np.ones((3, 3))).ravel(), num + 1)
    fill &= touched > 0
  fill[at_border] = False
  fill[0] = False
  return mask | fill[holes]


def _trimmed(mask: np.ndarray) -> np.ndarray:
  """The mask less its outermost cells, which the hull of gaussians swells by; thin parts keep theirs.

  Light is lost up to two sigmas before a surface, so a thing of many cells comes out a cell too large all around.
  """
  return ndimage.binary_erosion(mask, border_value=1) | thin_parts(mask)


def thin_parts(mask: np.ndarray) -> np.ndarray:
  """[nx, ny] bool: cells of a mask that are not beside any cell which has all four neighbours in it."""
  core = ndimage.binary_erosion(mask, border_value=1)
  return mask & ~ndimage.binary_dilation(core, np.ones((3, 3)))


def signed_distance(mask: np.ndarray, cell: float) -> np.ndarray:
  """[nx, ny] m from cell centres to the outline of a mask, negative inside; 'far' where nothing is occupied."""
  if not mask.any():
    return np.full(mask.shape, float(np.hypot(*mask.shape)) * cell)
  outside = ndimage.distance_transform_edt(~mask) if not mask.all() else np.zeros(mask.shape)
  inside = ndimage.distance_transform_edt(mask) if not mask.all() else np.ones(mask.shape)
  return np.where(mask, 0.5 - inside, outside - 0.5) * cell
