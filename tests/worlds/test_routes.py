"""Ways through scenes: against Dijkstra, against a slow twin, through narrow gaps and out of dead ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from s2e_jax.scene import Slots, to_street, to_world
from s2e_jax.worlds.builders import empty_scene, with_box, with_cylinder
from s2e_jax.worlds.distance import clearance
from s2e_jax.worlds.routes import (
  GRID,
  UNREACHABLE,
  cell_centres,
  cell_sizes,
  free_space,
  geodesic,
  geodesic_at,
  reference_path,
)

pytestmark = pytest.mark.usefixtures('compiled_quickly')

OPEN = {'road': (0.0, -1.0), 'paved': (-20.0, 20.0)}  # pavement everywhere
SLOTS = Slots(10, 6, 0, 1)
GOAL = (9.0, 2.0)


@jax.jit
def solve(scene, radius, keep_clear, clear_cost, off_pavement, goal):
  free = free_space(scene, radius, keep_clear, clear_cost, off_pavement)
  return free, geodesic(scene, free, goal)


@jax.jit
def walk(grid, scene, start, goal):
  return reference_path(grid, scene.ground, start, goal, 64, 0.4)


def metres(scene, radius=0.375, goal=GOAL, keep_clear=0.6, clear_cost=0.0, off_pavement=0.0):
  """Free space that costs its length alone, unless told otherwise, and the way in it."""
  return solve(scene, radius, keep_clear, clear_cost, off_pavement, jnp.asarray(goal, jnp.float32))


def at(grid, scene, *points):
  return np.asarray(geodesic_at(grid, scene.ground, jnp.asarray(points, jnp.float32)))


def cluttered(seed, curvature=0.0, num=10):
  rng = np.random.default_rng(seed)
  scene = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), curvature=curvature, **OPEN)
  for i in range(num):
    x, y = rng.uniform(-12, 12), rng.uniform(-7, 6)
    half = rng.uniform(0.1, 2.0, 2)
    if np.hypot(x - GOAL[0], y - GOAL[1]) > 3.2:
      scene = with_box(scene, i, x, y, half[0], half[1], 1.0, yaw=rng.uniform(-3, 3))
  for i in range(4):
    x, y = rng.uniform(-12, 6), rng.uniform(-7, 6)
    scene = with_cylinder(scene, i, x, y, rng.uniform(0.1, 0.6), 1.0)
  return scene


def wall_with_gap(x, gap_middle, gap, half_thickness=0.1, **ground):
  """A wall across the whole world with one gap in it."""
  scene = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), **OPEN | ground)
  low, high = gap_middle - gap / 2, gap_middle + gap / 2
  scene = with_box(scene, 0, x, (low - 9) / 2, half_thickness, (low + 9) / 2, 2.0)
  return with_box(scene, 1, x, (high + 8) / 2, half_thickness, (8 - high) / 2, 2.0)


def cells_around(scene):
  """Lengths [2, GRID, GRID] of a step along s and across d at each cell."""
  _, d = cell_centres(scene.ground)
  step_s, step_d = cell_sizes(scene.ground)
  along = float(step_s) * (1 - float(scene.ground.curvature) * np.asarray(d))
  return np.stack([np.broadcast_to(along, (GRID, GRID)), np.full((GRID, GRID), float(step_d))])


def seeds(scene, cost, goal):
  """Distances of the cells around the goal, as the solver starts from them."""
  s, d = (np.asarray(v) for v in cell_centres(scene.ground))
  goal_s, goal_d = (
    float(v) for v in to_street(jnp.float32(goal[0]), jnp.float32(goal[1]), scene.ground.curvature)
  )
  step_s, step_d = (float(v) for v in cell_sizes(scene.ground))
  near = (np.abs(s - goal_s) < 1.5 * step_s)[:, None] & (np.abs(d - goal_d) < 1.5 * step_d)[None]
  along = (s[:, None] - goal_s) * (1 - float(scene.ground.curvature) * (d[None] + goal_d) / 2)
  straight = np.hypot(along, d[None] - goal_d)
  return np.where(near & np.isfinite(cost), straight * np.where(np.isfinite(cost), cost, 0), np.inf)


def shifted(grid, i, j):
  """`grid` with grid[a + i, b + j] at [a, b], inf beyond the edge."""
  wide = np.pad(grid, 1, constant_values=np.inf)
  return wide[1 + i : 1 + i + GRID, 1 + j : 1 + j + GRID]


def by_relaxation(scene, cost, goal):
  """The slow twin: every cell through every point of the eight edges around it, until nothing changes."""
  ds, dd = cells_around(scene)
  closed = ~np.isfinite(cost)
  grid = seeds(scene, cost, goal)
  cost = np.where(closed, 1.0, cost)
  shares = np.linspace(0, 1, 65)[:, None, None]
  for _ in range(400):
    before = grid.copy()
    for near, corner, step, cross in (
      *(((i, 0), (i, j), ds, dd) for i in (-1, 1) for j in (-1, 1)),
      *(((0, j), (i, j), dd, ds) for i in (-1, 1) for j in (-1, 1)),
    ):
      a, b = shifted(grid, *near), shifted(grid, *corner)
      with np.errstate(invalid='ignore'):
        through = (1 - shares) * a + shares * b + cost * np.hypot(step, shares * cross)
      through[0] = a + cost * step
      through = np.nanmin(np.where(np.isfinite(a), through, np.inf), axis=0)
      grid = np.where(closed, np.inf, np.minimum(grid, through))
    if np.array_equal(grid, before):
      break
  return grid


def by_dijkstra(scene, cost, goal):
  """Shortest ways over the eight neighbours of a cell, none between two closed cells."""
  ds, dd = cells_around(scene)
  index = np.arange(GRID * GRID).reshape(GRID, GRID)
  is_free = np.isfinite(cost)
  rows, columns, weights = [], [], []
  for i, j in ((1, 0), (0, 1), (1, 1), (1, -1)):
    other, open_there = shifted(index.astype(float), i, j), shifted(np.where(is_free, 1.0, np.inf), i, j)
    beside = np.isfinite(shifted(np.where(is_free, 1.0, np.inf), i, 0))
    beside |= np.isfinite(shifted(np.where(is_free, 1.0, np.inf), 0, j))
    usable = is_free & np.isfinite(open_there) & np.isfinite(other) & beside
    rows.append(index[usable])
    columns.append(other[usable].astype(int))
    weights.append(np.hypot(i * ds, j * dd)[usable])
  start = seeds(scene, cost, goal)
  source = GRID * GRID
  near = np.isfinite(start)
  rows.append(np.full(near.sum(), source))
  columns.append(index[near])
  weights.append(start[near] + 1e-9)
  graph = coo_matrix(
    (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(source + 1, source + 1)
  )
  return dijkstra(graph.tocsr(), directed=False, indices=source)[:-1].reshape(GRID, GRID)


@pytest.mark.parametrize(('seed', 'curvature'), [(0, 0.0), (1, 0.02), (2, -0.03)])
def test_distances_lie_just_below_those_over_eight_neighbours(seed, curvature):
  scene = cluttered(seed, curvature)
  free, grid = metres(scene)
  exact = by_dijkstra(scene, np.asarray(free), GOAL)
  grid = np.asarray(grid)
  reached = np.isfinite(exact)
  assert 0.5 < reached.mean() < 1
  np.testing.assert_array_equal(reached, grid < UNREACHABLE)
  assert (grid[reached] <= exact[reached] * 1.002 + 0.02).all()
  # a way between two of the eight directions is replaced by one along both of them
  ds, dd = cells_around(scene)
  longest = 1 / np.cos(0.5 * np.arctan(np.maximum(ds / dd, dd / ds).max()))
  assert 1.1 < longest < 1.2
  assert (grid[reached] >= exact[reached] / longest - 0.2).all()
  assert grid[reached].mean() < 0.985 * exact[reached].mean()


@pytest.mark.parametrize(('seed', 'curvature'), [(3, 0.0), (4, 0.03)])
def test_sweeps_find_what_relaxation_over_all_edges_finds(seed, curvature):
  scene = cluttered(seed, curvature)
  free, grid = metres(scene, clear_cost=1.0)
  exact = by_relaxation(scene, np.asarray(free), GOAL)
  grid = np.asarray(grid)
  reached = np.isfinite(exact)
  np.testing.assert_array_equal(reached, grid < UNREACHABLE)
  error = np.abs(grid[reached] - exact[reached])
  assert np.percentile(error, 99) < 0.02
  assert error.max() < 0.3


@pytest.mark.parametrize('curvature', [0.0, 0.03, -0.03])
def test_in_the_open_distances_are_straight_lines(curvature):
  scene = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), curvature=curvature, **OPEN)
  goal = np.array(to_world(jnp.float32(6.0), jnp.float32(0.5), jnp.float32(curvature)))
  _, grid = metres(scene, goal=goal)
  rng = np.random.default_rng(0)
  s, d = jnp.asarray(rng.uniform(-6, 12, 200)), jnp.asarray(rng.uniform(-4, 4, 200))
  points = np.stack(to_world(s, d, jnp.float32(curvature)), axis=-1)
  straight = np.linalg.norm(points - goal, axis=-1)
  found = at(grid, scene, *points)
  assert np.abs(found - straight).max() < 0.35
  far = straight > 4
  assert np.abs(found[far] / straight[far] - 1).max() < 0.04


@pytest.mark.parametrize('middle', np.linspace(-0.25, 0.25, 7))
def test_a_gap_of_110_cm_lets_a_robot_of_75_cm_through_wherever_it_lies(middle):
  for x in (0.0, 0.1, 0.23, 0.31):
    scene = wall_with_gap(x, middle, 1.1, half_thickness=0.3)
    _, grid = metres(scene)
    assert 15 < at(grid, scene, (-9.0, 2.0))[0] < 22


@pytest.mark.parametrize('middle', np.linspace(-0.25, 0.25, 5))
def test_a_gap_that_is_too_narrow_stays_closed_and_thin_walls_do_not_leak(middle):
  for x in (0.0, 0.15, 0.3):
    scene = wall_with_gap(x, middle, 0.4, half_thickness=0.03)
    _, grid = metres(scene, radius=0.375)
    assert at(grid, scene, (-9.0, 2.0))[0] >= UNREACHABLE
  empty = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), **OPEN)
  slanted = with_box(empty, 0, middle, 0.0, 0.03, 12.0, 1.0, yaw=0.4 + middle)
  _, grid = metres(slanted, radius=0.25)
  assert at(grid, slanted, (-9.0, 2.0))[0] >= UNREACHABLE


def pocket():
  """A dead end open to the left, whose back stands between start and goal."""
  scene = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), **OPEN)
  scene = with_box(scene, 0, 2.0, 0.0, 0.15, 2.5, 1.5)
  scene = with_box(scene, 1, -0.5, 2.5, 2.5, 0.15, 1.5)
  return with_box(scene, 2, -0.5, -2.5, 2.5, 0.15, 1.5)


def test_the_way_out_of_a_dead_end_leads_back_first():
  scene = pocket()
  _, grid = metres(scene, goal=(9.0, 0.0))
  start = (1.0, 0.0)
  # round the corner of the pocket, which keeps the robot's radius away
  corner = np.array([-3.0, 2.65 + 0.375])
  around = np.hypot(*(corner - start)) + np.hypot(*(np.array([2.15, 2.65 + 0.375]) - (9.0, 0.0))) + 5.15
  assert at(grid, scene, start)[0] == pytest.approx(around, rel=0.06)
  assert at(grid, scene, (0.0, 0.0))[0] < at(grid, scene, start)[0]


def test_the_reference_path_keeps_clear_and_is_as_long_as_the_distance_says():
  scene = pocket()
  goal = jnp.array([9.0, 0.0])
  _, grid = metres(scene, goal=goal, clear_cost=1.0)
  plain = metres(scene, goal=(9.0, 0.0))[1]
  start = jnp.array([1.0, 0.3])
  path = np.asarray(walk(grid, scene, start, goal))
  np.testing.assert_allclose(path[0], start)
  np.testing.assert_allclose(path[-1], goal, atol=1e-5)
  fine = np.concatenate([path[:-1] + t * np.diff(path, axis=0) for t in np.linspace(0, 1, 9)])
  assert clearance(scene, jnp.asarray(fine))[0].min() > 0.3
  length = np.linalg.norm(np.diff(path, axis=0), axis=-1).sum()
  assert at(plain, scene, start)[0] * 0.97 < length < at(plain, scene, start)[0] * 1.15


def test_ways_are_finite_everywhere_and_lead_out_of_things():
  scene = with_box(empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), **OPEN), 0, 0.0, 0.0, 1.0, 1.0, 1.0)
  _, grid = metres(scene)
  rng = np.random.default_rng(0)
  found = at(grid, scene, *rng.uniform(-30, 30, (500, 2)))
  assert np.isfinite(found).all() and (found >= 0).all() and (found < UNREACHABLE).all()
  # from the face towards the free cells
  assert at(grid, scene, (-0.95, 0.0))[0] > at(grid, scene, (-1.2, 0.0))[0] - 0.05


def test_who_is_shut_in_has_no_way():
  scene = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), **OPEN)
  for i, (x, y, half_x, half_y) in enumerate(((-2, 0, 0.1, 2), (2, 0, 0.1, 2), (0, 2, 2, 0.1), (0, -2, 2, 0.1))):
    scene = with_box(scene, i, x, y, half_x, half_y, 1.0)
  _, grid = metres(scene)
  assert at(grid, scene, (0.0, 0.0))[0] >= UNREACHABLE
  assert at(grid, scene, (-5.0, 0.0))[0] < 20
  _, none = metres(scene, goal=(0.0, 2.0))  # a goal inside a wall
  assert (np.asarray(none) >= UNREACHABLE).mean() > 0.9


def test_routes_keep_away_from_things_and_off_the_road_if_asked():
  scene = empty_scene(SLOTS, bounds=(-14.0, 14.0, -8.0, 7.0), road=(-8.0, -2.0), paved=(-8.0, 7.0))
  scene = with_box(scene, 0, 0.0, 0.0, 0.5, 2.0, 1.0)
  start, goal = jnp.array([-8.0, -1.0]), jnp.array([8.0, -1.0])

  def lowest(**costs):
    return np.asarray(walk(metres(scene, goal=goal, **costs)[1], scene, start, goal))

  over_road = lowest(clear_cost=0.0, off_pavement=0.0)
  on_pavement = lowest(clear_cost=0.0, off_pavement=5.0)
  wide = lowest(clear_cost=2.0, keep_clear=1.5, off_pavement=5.0)
  assert over_road[:, 1].min() < -2.2
  assert on_pavement[:, 1].min() > -2.0
  assert clearance(scene, jnp.asarray(wide))[0].min() > clearance(scene, jnp.asarray(on_pavement))[0].min() + 0.3
  closed, _ = metres(scene, off_pavement=jnp.inf)
  s, d = cell_centres(scene.ground)
  assert not np.isfinite(np.asarray(closed)[:, np.asarray(d) < -2.0]).any()
  assert np.isfinite(np.asarray(closed)[:, np.asarray(d) > 2.6][:, 2:-2][2:-2]).all()
  assert s.shape == d.shape == (GRID,)


def test_a_batch_of_scenes_gives_what_each_gives_alone_with_one_compile():
  scenes = [cluttered(seed, curvature) for seed, curvature in ((5, 0.0), (6, 0.02), (7, -0.02))]
  goals = jnp.array([[9.0, 2.0], [8.5, 2.5], [9.5, 1.5]])

  def whole(scene, goal):
    _, grid = solve(scene, 0.3, 0.6, 1.0, 3.0, goal)
    return grid, walk(grid, scene, goal - jnp.array([15.0, 4.0]), goal)

  together = jax.jit(jax.vmap(whole))
  batch = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
  grids, paths = together(batch, goals)
  together(batch, goals + 0.1)
  assert together._cache_size() == 1
  alone = jax.jit(whole)
  for i, scene in enumerate(scenes):
    grid, path = alone(scene, goals[i])
    np.testing.assert_allclose(grids[i], grid, atol=1e-3)
    np.testing.assert_allclose(paths[i], path, atol=2e-2)
