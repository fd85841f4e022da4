"""Ways over the drivable region: geodesic distances and short ways that keep away from things."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from s2e_jax.navbench.grid import Grid

# Half of the 16 neighbours (the graph is symmetric) with the cells that the step crosses besides its ends: it is
# open only when those are. Lengths along 16 directions exceed the true ones by at most 2.8 %.
_STEPS = (
  ((1, 0), ()),
  ((0, 1), ()),
  ((1, 1), ((1, 0), (0, 1))),
  ((1, -1), ((1, 0), (0, -1))),
  ((2, 1), ((1, 0), (1, 1))),
  ((2, -1), ((1, 0), (1, -1))),
  ((1, 2), ((0, 1), (1, 1))),
  ((1, -2), ((0, -1), (1, -1))),
)
COMFORT = 0.5  # m of room beyond the robot's radius from which more is no better
_SIGHT = 0.2  # cells between the points that a straight line is checked at
_RELUCTANCE = 2.0  # how many times longer a way counts where the robot would brush along things


@dataclasses.dataclass(frozen=True)
class RouteGraph:
  """Neighbouring cells of a drivable region.

  cells: [N, 2] int cells of the nodes. node: [nx, ny] int node of each cell, -1 where none. weight: [nx, ny], how
  many times longer a metre there counts, 1 where there is room. lengths, costs: [N, N] sparse, metres of each
  step, and the same with weights.
  """

  grid: Grid
  cells: np.ndarray
  node: np.ndarray
  weight: np.ndarray
  lengths: sparse.csr_array
  costs: sparse.csr_array

  @property
  def num(self) -> int:
    """Number of nodes N."""
    return len(self.cells)

  @functools.cached_property
  def longest_way(self) -> float:
    """m of a way that is about the longest in a connected region: from its farthest corner to the one opposite."""
    first = distances_from(self, 0)
    second = distances_from(self, int(np.argmax(np.where(np.isfinite(first), first, -1))))
    return float(second[np.isfinite(second)].max())

  def nearest_node(self, point: np.ndarray) -> int:
    """The node nearest to a point [2] in the world."""
    return int(np.argmin(((self.grid.centres(self.cells) - np.asarray(point)[:2]) ** 2).sum(axis=1)))


def route_graph(grid: Grid, drivable: np.ndarray, distance: np.ndarray, robot_radius: float) -> RouteGraph:
  """The graph of a drivable region [nx, ny]; distance [nx, ny] m to things makes narrow places cost more.

  Raises ValueError when nothing is drivable.
  """
  if not drivable.any():
    raise ValueError('no cell of the map is drivable: there is no way to look for')
  cells = np.argwhere(drivable)
  node = np.full(drivable.shape, -1, np.int64)
  node[drivable] = np.arange(len(cells))
  room = np.clip((distance - robot_radius) / COMFORT, 0, 1)
  weight = 1 + _RELUCTANCE * (1 - room) ** 2
  padded = np.pad(node, 2, constant_values=-1)
  shifted = lambda step: padded[2 + cells[:, 0] + step[0], 2 + cells[:, 1] + step[1]]
  sources, targets, lengths, costs = [], [], [], []
  for step, between in _STEPS:
    target = shifted(step)
    is_open = target >= 0
    for cell in between:
      is_open &= shifted(cell) >= 0
    source, target = np.flatnonzero(is_open), target[is_open]
    length = np.full(len(source), np.hypot(*step) * grid.cell)
    sources.append(source)
    targets.append(target)
    lengths.append(length)
    along = (weight[tuple(cells[source].T)] + weight[tuple(cells[target].T)]) / 2
    costs.append(length * along)
  ends = np.concatenate(sources), np.concatenate(targets)
  shape = (len(cells), len(cells))
  matrix = lambda values: sparse.csr_array((np.concatenate(values), ends), shape=shape)
  return RouteGraph(grid, cells, node, weight, matrix(lengths), matrix(costs))


def distances_from(graph: RouteGraph, node: int, limit: float = np.inf) -> np.ndarray:
  """[N] m of the shortest way over the region from a node to every other; inf beyond `limit`."""
  return csgraph.dijkstra(graph.lengths, directed=False, indices=node, limit=limit)


def find_route(graph: RouteGraph, start: int, goal: int, likely_length: float = np.inf) -> np.ndarray | None:
  """[W, 2] m corners of a short way that prefers open ground, from node to node; None where there is none.

  likely_length: m; a way not much longer is looked for first, which is quicker in a large scene.
  """
  for limit in dict.fromkeys((1.3 * likely_length + 1.0, np.inf)):
    cost, before = csgraph.dijkstra(
      graph.costs, directed=False, indices=start, return_predecessors=True, limit=limit
    )
    if np.isfinite(cost[goal]):
      break
  else:
    return None
  trail = [goal]
  while trail[-1] != start:
    trail.append(int(before[trail[-1]]))
  return _straightened(graph, np.array(trail[::-1]), cost)


def length_of(way: np.ndarray) -> float:
  """m along a way [W, 2]."""
  return float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())


def resampled(way: np.ndarray, spacing: float) -> np.ndarray:
  """[n, 2] points at most `spacing` m apart along a way [W, 2], both ends included."""
  along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
  places = np.linspace(0, along[-1], max(2, int(np.ceil(along[-1] / spacing)) + 1))
  return np.stack([np.interp(places, along, way[:, k]) for k in (0, 1)], axis=1)


def is_straight_open(grid: Grid, drivable: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
  """Whether the straight line between two points [2] stays on the drivable region [nx, ny]."""
  points = resampled(np.stack([a, b]), _SIGHT * grid.cell)
  return bool(grid.at(drivable, points, outside=False).all())


def _straightened(graph: RouteGraph, trail: np.ndarray, cost: np.ndarray) -> np.ndarray:
  """Corners of the trail [n] of nodes with every stretch replaced that a straight line covers at no more cost."""
  points, reached = graph.grid.centres(graph.cells[trail]), cost[trail]
  kept, at = [0], 0
  while at < len(trail) - 1:
    # Doubling steps, then halving ones: a few lines of sight per corner instead of one for every pair.
    reach, step, is_growing = at + 1, 1, True
    while step >= 1:
      ahead = reach + step
      if ahead < len(trail) and _is_shortcut(graph, points[at], points[ahead], reached[ahead] - reached[at]):
        reach, step = ahead, step * 2 if is_growing else step // 2
      else:
        is_growing, step = False, step // 2
    kept.append(reach)
    at = reach
  return points[kept]


def _is_shortcut(graph: RouteGraph, a: np.ndarray, b: np.ndarray, cost: float) -> bool:
  """Whether the straight line is open and costs no more than the trail: it must not cut a corner to a wall."""
  points = resampled(np.stack([a, b]), _SIGHT * graph.grid.cell)
  if not graph.grid.at(graph.node >= 0, points, outside=False).all():
    return False
  weight = graph.grid.at(graph.weight, points, outside=np.inf)
  return bool(weight.mean() * np.linalg.norm(b - a) <= 1.02 * cost)
