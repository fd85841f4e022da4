"""What a triangle mesh occupies in the height band of a robot, such as glass that gaussians hardly show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.ground_field import GroundField
from s2e_jax.navbench.occupancy import Band, filled, without_specks

_CHUNK = 100_000  # triangles cut at a time, which bounds the memory
_REACHES = (8, 2)  # cells; triangles shorter than this are compared with the ground that near alone
_NEAR = 0.2  # m: what a mesh and gaussians show of the same thing lies less far apart


@dataclasses.dataclass(frozen=True)
class Mesh:
  """A triangle mesh in the frame of its file, which is the frame of the gaussians' file.

  file: its name. sha256: of that file. vertices: [V, 3] float32. faces: [F, 3] int, rows of vertices.
  """

  file: str
  sha256: str
  vertices: np.ndarray
  faces: np.ndarray


@dataclasses.dataclass(frozen=True)
class MeshCells:
  """What a mesh brought to the maps, in cells of the maps.

  num: cells that it crosses in the height band. num_only: cells that are occupied with it and free without it,
  with what it closes. near: share of `num` within 0.2 m of what gaussians occupy; a mesh of the whole scene with
  little of it is hardly in the frame of the gaussians.
  """

  num: int
  num_only: int
  near: float

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form."""
    return {'cells': self.num, 'cells_only_of_mesh': self.num_only, 'share_near_gaussians': round(self.near, 3)}

  @classmethod
  def counted(cls, of_mesh: np.ndarray, only_mesh: np.ndarray, distance: np.ndarray) -> MeshCells:
    """of_mesh, only_mesh: [nx, ny] bool. distance: [nx, ny] m to what gaussians occupy."""
    num = int(of_mesh.sum())
    return cls(num, int(only_mesh.sum()), float((distance[of_mesh] < _NEAR).mean()) if num else 0.0)


def check_meets(triangles: np.ndarray, grid: Grid) -> None:
  """Raises ValueError when triangles [F, 3, 3] in the world lie wholly beside the grid of the maps."""
  low, high = triangles.min(axis=(0, 1))[:2], triangles.max(axis=(0, 1))[:2]
  first = np.array(grid.origin)
  last = first + np.array(grid.shape) * grid.cell
  if (high < first).any() or (low > last).any():
    spans = [f'{a:.1f} to {b:.1f}' for a, b in (*zip(low, high, strict=True), *zip(first, last, strict=True))]
    raise ValueError(
      f'the mesh spans x {spans[0]} m, y {spans[1]} m, the ground of the gaussians x {spans[2]} m, y {spans[3]} '
      'm: a mesh must lie in its scene, in the units and axes of the file of gaussians: export it in these, or '
      'leave it out'
    )


def with_mesh(
  solid: np.ndarray, triangles: np.ndarray, ground: GroundField, has_floor: np.ndarray, band: Band, refine: int
) -> tuple[np.ndarray, np.ndarray]:
  """([fx, fy] bool with the mesh, [fx, fy] bool of the mesh alone), on cells `refine` times finer than the ground.

  solid: [fx, fy] bool, what gaussians occupy. triangles: [F, 3, 3] m in the world. has_floor: [fx, fy] bool, where
  gaussians of the ground lie. Specks of the mesh are left out as those of gaussians are; what it closes is filled
  where hardly any floor was seen. A surface has no hull of gaussians, so nothing is trimmed.
  """
  cell = ground.grid.cell / refine
  of_mesh = without_specks(surface_layers(triangles, ground, band, refine), band, cell)
  if not of_mesh.any():
    return solid, of_mesh
  return filled(solid | of_mesh, has_floor, cell, beside=of_mesh & ~solid), of_mesh


def surface_layers(triangles: np.ndarray, ground: GroundField, band: Band, refine: int = 2) -> np.ndarray:
  """[nx * refine, ny * refine] uint8: how many layers of the band, about 0.1 m each, a surface crosses in a cell.

  triangles: [F, 3, 3] m in the world. They are halved across their longest edges until those are at most half a
  fine cell; the centres of the pieces then stand for the surface. Heights are above the local ground, so that
  triangles of the ground itself cross no layer.
  """
  grid = ground.grid.refined(refine)
  num_layers = max(1, round((band.high - band.low) / 0.1))
  step = (band.high - band.low) / num_layers
  origin = np.array([*grid.origin, 0.0])
  size = np.array(grid.shape) * grid.cell
  around = [(reach * ground.grid.cell, *_extremes(ground.height, reach + 1)) for reach in _REACHES]

  def may_cross(pieces: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """Whether triangles with edges up to `longest` can lie over the grid and in the band."""
    low, high = pieces.min(axis=1), pieces.max(axis=1)
    floor = np.full((2, len(pieces)), [[ground.height.min()], [ground.height.max()]])
    cells = np.clip(ground.grid.cells(pieces.mean(axis=1) + origin), 0, np.array(ground.grid.shape) - 1)
    for reach, lowest, highest in around:
      rows = longest <= reach
      at = tuple(cells[rows].T)
      floor[:, rows] = lowest[at], highest[at]
    near = (high[:, :2] >= 0).all(axis=1) & (low[:, :2] <= size).all(axis=1)
    return near & (high[:, 2] >= floor[0] + band.low) & (low[:, 2] <= floor[1] + band.high)

  def crossed(points: np.ndarray) -> np.ndarray:
    """Numbers of the voxels that points [P, 3], relative to the origin, lie in."""
    world = points + origin
    above = world[:, 2] - ground.grid.sample(ground.height, world)
    cells = grid.cells(world)
    inside = grid.holds(cells) & (above >= band.low) & (above < band.high)
    layer = np.minimum(((above[inside] - band.low) / step).astype(np.int64), num_layers - 1)
    return np.unique(np.ravel_multi_index((*cells[inside].T, layer), (*grid.shape, num_layers)))

  found = [np.zeros(0, np.int64)]
  for start in range(0, len(triangles), _CHUNK):
    waiting = [triangles[start : start + _CHUNK] - origin]
    while waiting:
      pieces = waiting.pop()
      if len(pieces) > _CHUNK:
        waiting.append(pieces[_CHUNK:])
        pieces = pieces[:_CHUNK]
      length = np.linalg.norm(np.roll(pieces, -1, axis=1) - pieces, axis=2)
      kept = may_cross(pieces, length.max(axis=1))
      pieces, length = pieces[kept], length[kept]
      is_small = length.max(axis=1) <= grid.cell / 2
      found.append(crossed(pieces[is_small].mean(axis=1)))
      if not is_small.all():
        waiting.append(_halved(pieces[~is_small], length[~is_small].argmax(axis=1)))
  voxels = np.unique(np.concatenate(found))
  num_cells = grid.shape[0] * grid.shape[1]
  return np.bincount(voxels // num_layers, minlength=num_cells).astype(np.uint8).reshape(grid.shape)


def _halved(triangles: np.ndarray, edge: np.ndarray) -> np.ndarray:
  """[2 N, 3, 3] halves of triangles [N, 3, 3], cut from the middle of edge k (from corner k to k + 1), [N]."""
  rows = np.arange(len(triangles))
  a, b, c = (triangles[rows, (edge + k) % 3] for k in range(3))
  middle = (a + b) / 2
  return np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])


def _extremes(height: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest value within `reach` cells, [nx, ny] each."""
  size = 2 * reach + 1
  return ndimage.minimum_filter(height, size, mode='nearest'), ndimage.maximum_filter(height, size, mode='nearest')
