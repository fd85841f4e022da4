"""Height of the ground under a splat scene, from the near-horizontal opaque gaussians that lie lowest."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
from scipy import ndimage

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.grid import Grid, closed, filled_from_nearest

_COARSE, _MIDDLE = 2.0, 0.5  # m: cells that the ground is followed on before it is measured
_BIN = 0.1  # m of height in a coarse cell
_REACH = 0.8  # m that the ground may rise or fall from one coarse cell to the next
_LIKELY = 0.3  # m of the same that is expected: a seat beside a floor is less likely ground than the floor
_GAP = 3  # coarse cells without ground that it is followed across
_HOLE = 0.4  # m: gaps in the seen ground up to twice this wide are closed


@dataclasses.dataclass(frozen=True)
class GroundField:
  """height: [nx, ny] m of the ground everywhere on the grid. has_support: [nx, ny] bool, a gaussian of the ground
  lies in the cell. is_seen: [nx, ny] bool, the same with gaps closed and specks gone.

  num: gaussians that it was measured from. spread: m, median distance of those from the field.
  """

  grid: Grid
  height: np.ndarray
  has_support: np.ndarray
  is_seen: np.ndarray
  num: int
  spread: float

  def slope(self) -> np.ndarray:
    """[nx, ny] rise over run, over a baseline of four cells so that noise of the field does not count."""
    smooth = ndimage.uniform_filter(self.height, 3, mode='nearest')
    steps = (
      np.stack(np.gradient(smooth, self.grid.cell), axis=0) if min(self.height.shape) > 1 else np.zeros((2, 1))
    )
    return np.hypot(*steps)


def level_normals(rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """[N] |z| of the thinnest axis of each gaussian: 1 where it lies flat."""
  w, x, y, z = np.moveaxis(rotation / np.linalg.norm(rotation, axis=1, keepdims=True), 1, 0)
  third_row = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
  return np.abs(np.take_along_axis(third_row, scale.argmin(axis=1)[:, None], axis=1)[:, 0])


def find_ground(gaussians: Gaussians, cell: float = 0.1, margin: float = 1.0) -> GroundField:
  """The ground connected to the widest floor near z = 0, on a grid that covers what is seen of it and `margin` m.

  Specks of ground far from the rest, such as what a camera caught through a window, are left out.

  Raises ValueError when no ground is found near z = 0.
  """
  scale, opacity = np.asarray(gaussians.scale), np.asarray(gaussians.opacity)
  sides = np.sort(scale, axis=1)
  is_level = (level_normals(np.asarray(gaussians.rotation), scale) > 0.85) & (sides[:, 0] < 0.6 * sides[:, 1])
  picked = is_level & (opacity > 0.3)
  points = np.asarray(gaussians.mean, float)[picked]
  spreads = np.clip(sides[picked, 1:], 0.005, 0.3)
  weight = opacity[picked].astype(float) * spreads[:, 0] * spreads[:, 1]
  coarse, base, is_found = _follow(points, weight)
  cells = coarse.cells(points)
  inside = coarse.holds(cells)
  inside[inside] = is_found[tuple(cells[inside].T)]
  points, weight = points[inside], weight[inside]
  middle = coarse.refined(round(_COARSE / _MIDDLE))
  near = np.abs(points[:, 2] - coarse.sample(base, points)) < 0.3
  heights, amount = _weighted_quantile(middle, points[near], weight[near], 0.4)
  if not (amount > 0).any():
    raise _no_ground(len(points))
  base = ndimage.median_filter(filled_from_nearest(heights, amount > 0), 3, mode='nearest')
  near = np.abs(points[:, 2] - middle.sample(base, points)) < 0.12
  points, weight = points[near], weight[near]
  if len(points) < 20:
    raise _no_ground(len(points))
  points, weight = _without_specks(points, weight)
  low, high = points[:, :2].min(axis=0) - margin, points[:, :2].max(axis=0) + margin
  fine = Grid.over(low, high, cell)
  index = np.ravel_multi_index(tuple(fine.cells(points).T), fine.shape)
  num_cells = fine.shape[0] * fine.shape[1]
  amount = np.bincount(index, weight, num_cells).reshape(fine.shape)
  total = np.bincount(index, weight * points[:, 2], num_cells).reshape(fine.shape)
  # Smoothed sums rather than smoothed means: a cell with one speck of a gaussian weighs as little as it shows.
  soft = lambda x: ndimage.gaussian_filter(x, 1.0, mode='constant', truncate=3)
  support = soft(amount)
  known = support > 1e-3 * max(float(np.median(support[amount > 0])), 1e-12)
  mean = np.where(known, soft(total) / np.where(known, support, 1.0), 0.0)
  filled = filled_from_nearest(mean, known)
  smoothed = ndimage.gaussian_filter(filled, 0.5 / cell, mode='nearest')
  # Far from support the nearest value would leave cliffs along the middle of a hole.
  height = ndimage.median_filter(np.where(known, filled, smoothed), 5, mode='nearest')
  rest = np.abs(points[:, 2] - fine.sample(height, points))
  return GroundField(
    fine,
    height.astype(np.float32),
    amount > 0,
    closed(amount > 0, _HOLE / cell),
    len(points),
    float(np.median(rest)),
  )


def _without_specks(points: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Points of the patches of ground that are at least a twentieth of the widest one."""
  grid = Grid.over(points[:, :2].min(axis=0), points[:, :2].max(axis=0), 0.2)
  cells = grid.cells(points)
  mask = np.zeros(grid.shape, bool)
  mask[tuple(cells.T)] = True
  labels, _ = ndimage.label(closed(mask, _HOLE / grid.cell), np.ones((3, 3)))
  size = np.bincount(labels.ravel())
  size[0] = 0
  kept = (size >= 0.05 * size.max())[labels[tuple(cells.T)]]
  return points[kept], weight[kept]


def _no_ground(num: int) -> ValueError:
  return ValueError(
    f'no ground found near z = 0: {num} near-horizontal opaque gaussians lie there, 20 are needed: check up= and '
    'scale= of the frame'
  )


def _follow(points: np.ndarray, weight: np.ndarray) -> tuple[Grid, np.ndarray, np.ndarray]:
  """Coarse grid, height [cx, cy] and whether it is found there: the ground followed from the widest floor.

  Every cell takes the likeliest height within reach of the neighbour that it is reached from, the best supported
  cells first, so that tables, upper floors and what lies behind windows are left out.
  """
  if len(points) < 20:
    raise _no_ground(len(points))
  low, high = np.percentile(points[:, :2], [0.2, 99.8], axis=0)
  grid = Grid.over(low, high, _COARSE)
  num_levels, bottom = 240, -12.0
  cells = np.concatenate([grid.cells(points), np.floor((points[:, 2:] - bottom) / _BIN).astype(int)], axis=1)
  shape = (*grid.shape, num_levels)
  inside = grid.holds(cells[:, :2]) & (cells[:, 2] >= 0) & (cells[:, 2] < num_levels)
  index = np.ravel_multi_index(tuple(cells[inside].T), shape)
  amount = np.bincount(index, weight[inside], np.prod(shape)).reshape(shape)
  amount = ndimage.uniform_filter1d(amount, 3, axis=2, mode='constant')
  level = bottom + (np.arange(num_levels) + 0.5) * _BIN
  is_floor = np.abs(level) < 0.3
  start = np.where(is_floor, amount, 0.0)
  positive = start.max(axis=2)[start.max(axis=2) > 0]
  if not len(positive):
    raise _no_ground(int(inside.sum()))
  least = 0.02 * float(np.quantile(positive, 0.9))
  height = np.full(grid.shape, np.nan)
  gap = np.full(grid.shape, _GAP + 1)
  first = np.unravel_index(int(start.max(axis=2).argmax()), grid.shape)
  queue = [(-float(start.max()), int(first[0]), int(first[1]), float(level[start[first].argmax()]), 0)]
  while queue:
    _, i, j, parent, run = heapq.heappop(queue)
    if gap[i, j] <= run:
      continue
    likely = amount[i, j] * np.exp(-(((level - parent) / _LIKELY) ** 2)) * (np.abs(level - parent) <= _REACH)
    support = float(likely.max())
    if support >= least:
      height[i, j], gap[i, j] = level[likely.argmax()], 0
    else:
      height[i, j], gap[i, j], support = parent, run + 1, 0.0
    if gap[i, j] > _GAP:
      continue
    for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
      if 0 <= a < grid.shape[0] and 0 <= b < grid.shape[1] and gap[a, b] > gap[i, j]:
        near = amount[a, b][np.abs(level - height[i, j]) <= _REACH]
        heapq.heappush(queue, (-float(near.max()), a, b, float(height[i, j]), int(gap[i, j])))
  is_found = gap <= 0
  base = filled_from_nearest(height, ~np.isnan(height))
  base = np.where(is_found, base, ndimage.median_filter(base, 3, mode='nearest'))
  return grid, base, is_found


def _weighted_quantile(
  grid: Grid, points: np.ndarray, weight: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
  """Weighted quantile of the heights in each cell, and the weight in it, [nx, ny] each."""
  cells = grid.cells(points)
  inside = grid.holds(cells)
  key = np.ravel_multi_index(tuple(cells[inside].T), grid.shape)
  z, w = points[inside, 2], weight[inside]
  order = np.lexsort((z, key))
  key, z, w = key[order], z[order], w[order]
  num = grid.shape[0] * grid.shape[1]
  total = np.bincount(key, w, num)
  running = np.cumsum(w)
  before = np.concatenate([[0.0], np.cumsum(total)[:-1]])
  reached = running - before[key] >= share * total[key]
  heights = np.zeros(num)
  hits = np.flatnonzero(reached)[::-1]  # the first that reaches the share is written last
  heights[key[hits]] = z[hits]
  return heights.reshape(grid.shape), total.reshape(grid.shape)
