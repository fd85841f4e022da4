"""A horizontal grid over the world, and look-ups of fields on it. Cell (i, j) covers x by i and y by j."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage


@dataclasses.dataclass(frozen=True)
class Grid:
  """nx by ny square cells. origin: (x, y) m of the low corner of cell (0, 0). cell: m. shape: (nx, ny)."""

  origin: tuple[float, float]
  cell: float
  shape: tuple[int, int]

  @classmethod
  def over(cls, low: np.ndarray, high: np.ndarray, cell: float) -> Grid:
    """The grid that covers low..high (m, [2] each), its corner on a multiple of the cell."""
    first = np.floor(np.asarray(low, float) / cell)
    num = np.maximum(np.ceil(np.asarray(high, float) / cell) - first, 1).astype(int)
    x, y = np.round(first * cell, 6)
    return cls((float(x), float(y)), float(cell), (int(num[0]), int(num[1])))

  @property
  def area_of_cell(self) -> float:
    """m^2."""
    return self.cell**2

  def refined(self, factor: int) -> Grid:
    """The same area in cells `factor` times smaller."""
    return Grid(self.origin, self.cell / factor, (self.shape[0] * factor, self.shape[1] * factor))

  def cells(self, points: np.ndarray) -> np.ndarray:
    """[..., 2] int cells of points [..., 2 or more] in the world; they may lie outside the grid."""
    return np.floor((np.asarray(points)[..., :2] - np.array(self.origin)) / self.cell).astype(np.int64)

  def holds(self, cells: np.ndarray) -> np.ndarray:
    """[...] bool: cells [..., 2] lie on the grid."""
    return np.all((cells >= 0) & (cells < np.array(self.shape)), axis=-1)

  def centres(self, cells: np.ndarray | None = None) -> np.ndarray:
    """[..., 2] m of the centres of cells [..., 2], or [nx, ny, 2] of all."""
    if cells is None:
      cells = np.stack(np.meshgrid(*(np.arange(n) for n in self.shape), indexing='ij'), axis=-1)
    return np.array(self.origin) + (np.asarray(cells) + 0.5) * self.cell

  def sample(self, field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[...] bilinear values of a field [nx, ny] at points [..., 2 or more]; beyond the border the border's."""
    place = (np.asarray(points, float)[..., :2] - np.array(self.origin)) / self.cell - 0.5
    flat = place.reshape(-1, 2).T
    return ndimage.map_coordinates(field, flat, order=1, mode='nearest').reshape(place.shape[:-1])

  def at(self, field: np.ndarray, points: np.ndarray, outside: float | bool) -> np.ndarray:
    """[...] values of the cells that points lie in, `outside` beyond the grid."""
    cells = self.cells(points)
    inside = self.holds(cells)
    safe = np.where(inside[..., None], cells, 0)
    return np.where(inside, field[safe[..., 0], safe[..., 1]], outside)


def filled_from_nearest(field: np.ndarray, is_known: np.ndarray) -> np.ndarray:
  """The field with its unknown cells set to the nearest known cell's value; at least one must be known."""
  nearest = ndimage.distance_transform_edt(~is_known, return_distances=False, return_indices=True)
  return field[tuple(nearest)]


def closed(mask: np.ndarray, radius: float) -> np.ndarray:
  """The mask with gaps up to twice `radius` (cells) wide closed by a disc; the border is no gap."""
  pad = int(np.ceil(radius)) + 1
  padded = np.pad(mask, pad)
  if not padded.any():
    return mask
  grown = ndimage.distance_transform_edt(~padded) <= radius
  shrunk = ndimage.distance_transform_edt(grown) > radius
  return (shrunk | padded)[pad:-pad, pad:-pad]
