import numpy as np
import pytest

from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.occupancy import signed_distance
from s2e_jax.navbench.routes import (
  distances_from,
  find_route,
  is_straight_open,
  length_of,
  resampled,
  route_graph,
)

GRID = Grid((-3.0, 2.0), 0.1, (120, 90))


def graph_of(drivable, distance=None, radius=0.0):
  far = np.full(drivable.shape, 9.0)
  return route_graph(GRID, drivable, far if distance is None else distance, radius)


def test_lengths_in_the_open_are_within_three_percent():
  graph = graph_of(np.ones(GRID.shape, bool))
  start = graph.nearest_node([3.0, 6.5])
  points = GRID.centres(graph.cells)
  straight = np.linalg.norm(points - points[start], axis=1)
  found = distances_from(graph, start)
  far = straight > 1
  assert (found >= straight - 1e-6).all()
  assert (found[far] / straight[far]).max() < 1.03
  assert (found[far] / straight[far]).mean() < 1.02
  assert np.isinf(distances_from(graph, start, limit=2.0)[straight > 2.1]).all()


@pytest.mark.parametrize('angle', [0.0, 0.2, 0.39, 0.7, 1.1])
def test_a_straightened_way_in_the_open_is_straight(angle):
  graph = graph_of(np.ones(GRID.shape, bool))
  middle = np.array([3.0, 6.5])
  offset = 3.5 * np.array([np.cos(angle), np.sin(angle)])
  a, b = graph.nearest_node(middle - offset), graph.nearest_node(middle + offset)
  way = find_route(graph, a, b)
  direct = np.linalg.norm(way[-1] - way[0])
  assert length_of(way) / direct < 1.005


def test_the_way_around_a_wall_is_as_long_as_the_known_one():
  drivable = np.ones(GRID.shape, bool)
  drivable[58:62, :70] = False  # a wall from the low edge to y = 9.0
  graph = graph_of(drivable)
  start, goal = graph.nearest_node([0.05, 4.05]), graph.nearest_node([6.05, 4.05])
  a, b = GRID.centres(graph.cells[[start, goal]])
  # around the cells' centres beside the two upper corners of the wall
  left, right = np.array([2.75, 9.05]), np.array([3.25, 9.05])
  known = np.linalg.norm(a - left) + np.linalg.norm(right - left) + np.linalg.norm(b - right)
  assert distances_from(graph, start)[goal] == pytest.approx(known, rel=0.03)
  way = find_route(graph, start, goal)
  assert length_of(way) == pytest.approx(known, rel=0.03)
  # but for points that lie on the very corner of a cell
  assert GRID.at(drivable, resampled(way, 0.02), outside=False).mean() > 0.99
  assert not is_straight_open(GRID, drivable, a, b)
  assert is_straight_open(GRID, drivable, a, left)


def test_no_step_cuts_the_corner_between_two_walls():
  drivable = np.ones(GRID.shape, bool)
  drivable[60, :45] = False
  drivable[59, 45:] = False  # they touch by a corner only
  graph = graph_of(drivable)
  start, goal = graph.nearest_node([0.0, 5.0]), graph.nearest_node([6.0, 5.0])
  assert np.isinf(distances_from(graph, start)[goal])
  assert find_route(graph, start, goal) is None


def test_ways_keep_to_the_middle_where_there_is_room():
  occupied = np.zeros(GRID.shape, bool)
  occupied[:, :20] = occupied[:, 45:] = True  # a corridor of 2.5 m
  distance = signed_distance(occupied, GRID.cell)
  graph = graph_of(distance > 0.3, distance, 0.3)
  low, high = GRID.origin[1] + 2.0, GRID.origin[1] + 4.5
  start, goal = graph.nearest_node([-2.5, low + 0.35]), graph.nearest_node([8.5, low + 0.35])
  way = resampled(find_route(graph, start, goal), 0.1)
  middle = way[(way[:, 0] > 0) & (way[:, 0] < 6)]
  assert (middle[:, 1] - low).min() > 0.5
  assert (high - middle[:, 1]).min() > 0.5


def test_the_longest_way_of_a_bent_corridor_is_found():
  drivable = np.zeros(GRID.shape, bool)
  drivable[5:100, 5] = drivable[99, 5:80] = True
  assert graph_of(drivable).longest_way == pytest.approx(9.4 + 7.4, abs=0.2)
  with pytest.raises(ValueError, match='no cell of the map is drivable'):
    graph_of(np.zeros(GRID.shape, bool))
