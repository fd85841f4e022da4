"""Distances to walls in a grid, against scipy's distance transform and against exact ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from s2e_jax.scene import Walls
from s2e_jax.worlds.walls import bounds_of, check_walls, walls_distance
from tests.worlds import rooms

distances = jax.jit(walls_distance)
CELL, ORIGIN = 0.1, (3.0, -7.0)


def blobs(seed=0, shape=(120, 90)):
  """Walls of random shape, solid at the edge, and for every cell the nearest solid one [2, I, J] (m)."""
  noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 6)
  is_solid = noise > 0.8 * noise.std()
  is_solid[[0, -1]] = is_solid[:, [0, -1]] = True
  outside, nearest = ndimage.distance_transform_edt(~is_solid, return_indices=True)
  inside = ndimage.distance_transform_edt(is_solid)
  grid = CELL * np.where(is_solid, 0.5 - inside, outside - 0.5)
  walls = Walls(jnp.asarray(grid, jnp.float32), jnp.array(ORIGIN), jnp.float32(CELL))
  return walls, CELL * nearest + np.array(ORIGIN)[:, None, None]


@pytest.fixture(scope='module')
def walls():
  return blobs()[0]


def points_in(walls, num, seed=1, beyond=0.0):
  low_x, high_x, low_y, high_y = np.asarray(bounds_of(walls))
  low, high = np.array([low_x, low_y]) - beyond, np.array([high_x, high_y]) + beyond
  return np.random.default_rng(seed).uniform(low, high, (num, 2)).astype(np.float32)


def test_the_distance_is_that_of_the_grid_at_its_cells_and_bilinear_between(walls):
  rng = np.random.default_rng(2)
  i, j = rng.integers(1, 118, 200), rng.integers(1, 88, 200)
  grid = np.asarray(walls.distance)
  at = np.stack([i, j], -1) * CELL + np.array(ORIGIN)
  np.testing.assert_allclose(distances(walls, at.astype(np.float32))[0], grid[i, j], atol=2e-5)
  expected = 0.75 * (0.5 * grid[i, j] + 0.5 * grid[i, j + 1]) + 0.25 * (
    0.5 * grid[i + 1, j] + 0.5 * grid[i + 1, j + 1]
  )
  between = at + np.array([0.25, 0.5]) * CELL
  np.testing.assert_allclose(distances(walls, between.astype(np.float32))[0], expected, atol=2e-5)


def test_normals_are_unit_and_lead_away_from_what_is_nearest():
  walls, nearest = blobs()
  points = points_in(walls, 4000)
  distance, normal = (np.asarray(x) for x in distances(walls, points))
  np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1.0, atol=1e-5)
  i, j = (np.round((points - np.array(ORIGIN)) / CELL).astype(int)).T
  away = points - nearest[:, i, j].T
  away /= np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)
  # midway between two things the distance has no slope
  has_slope = np.hypot(*np.gradient(np.asarray(walls.distance), CELL))[i, j] > 0.85
  is_free = (distance > 2 * CELL) & has_slope
  agree = np.sum(away * normal, axis=-1)[is_free]
  assert is_free.sum() > 1500
  assert (agree > np.cos(np.radians(25))).mean() > 0.98
  # a step along the normal leads away, by as much as it is long: outside and inside
  ahead, behind = (np.asarray(distances(walls, points + s * 0.02 * normal)[0]) for s in (1, -1))
  slope = (ahead - behind) / 0.04
  assert (slope > 0).mean() > 0.98 and np.median(slope) > 0.95


def test_beyond_the_grid_everything_is_solid(walls):
  low_x, high_x, low_y, high_y = (float(v) for v in bounds_of(walls))
  middle = 0.5 * (low_y + high_y)
  # even where the grid itself holds free space up to its edge
  free = dataclasses.replace(walls, distance=jnp.full_like(walls.distance, 3.0))
  for grid in (walls, free):
    points = jnp.array(
      [(low_x - 2.0, middle), (high_x + 1.5, middle), (low_x - 3, low_y - 4), (1e4, -1e5)], jnp.float32
    )
    distance, normal = distances(grid, points)
    outside = jnp.array([2.0, 1.5, 5.0, np.hypot(1e4 - high_x, -1e5 - low_y)])
    assert (np.asarray(distance) <= -np.asarray(outside) * (1 - 1e-5)).all()
    np.testing.assert_allclose(normal[:3], [(1, 0), (-1, 0), (0.6, 0.8)], atol=1e-5)
  inside = jnp.array([(low_x + 0.5, middle), (high_x - 1.0, middle), (0.5 * (low_x + high_x), high_y - 0.25)])
  distance, normal = distances(free, inside)
  np.testing.assert_allclose(distance, [0.5, 1.0, 0.25], atol=1e-5)
  np.testing.assert_allclose(normal, [(1, 0), (-1, 0), (0, -1)], atol=1e-5)


def test_everything_is_finite_and_batches_are_what_single_grids_are():
  several = [blobs(seed)[0] for seed in range(3)]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *several)
  points = np.stack([points_in(several[0], 50, seed, beyond=5.0) for seed in range(3)])
  found = jax.jit(jax.vmap(walls_distance))(stacked, points)
  for k, walls in enumerate(several):
    for batch, single in zip(found, distances(walls, points[k]), strict=True):
      np.testing.assert_allclose(batch[k], single, rtol=1e-5, atol=1e-5)
  flat = Walls(jnp.full((4, 3), 0.02), jnp.zeros(2), jnp.float32(0.1))
  for value in distances(flat, jnp.array([(0.15, 0.1), (0.1, 0.1), (0.3, 0.2)])):
    assert np.isfinite(value).all()


def test_the_twin_of_primitives_has_their_distances():
  scene = rooms.by_primitives()
  points = rooms.free_points(scene, 500, 0.0)
  expected = np.asarray(rooms.to_things(scene, points))
  found = np.asarray(rooms.to_things(rooms.by_walls(scene), points))
  np.testing.assert_allclose(found, expected, atol=0.5 * rooms.CELL)
  assert np.abs(found - expected).mean() < 0.002


def test_a_scene_without_walls_has_no_leaf_for_them():
  scene = rooms.by_primitives()
  assert scene.walls is None
  walled = rooms.by_walls(scene)
  assert len(jax.tree.leaves(walled)) == len(jax.tree.leaves(scene)) + 3
  assert len(jax.tree.leaves(dataclasses.replace(walled, walls=None))) == len(jax.tree.leaves(scene))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'distance': np.zeros(5)}, 'at least 2 cells'),
    ({'cell': 0.0}, 'cell=0.0 must be > 0'),
    ({'origin': np.zeros(3)}, 'must be'),
    ({'distance': np.full((5, 4), np.inf)}, '20 of the 20 distances'),
    ({'distance': np.full((5, 4), -1.0)}, 'no cell of the walls is free'),
    ({'cell': 0.01}, 'give metres'),
  ],
)
def test_what_is_no_grid_of_distances_is_refused(walls, changes, message):
  check_walls(walls)
  with pytest.raises(ValueError, match=message):
    check_walls(dataclasses.replace(walls, **changes))
