import dataclasses

import numpy as np
import pytest

from s2e_jax.navbench.frame import apply_similarity, detect_frame
from s2e_jax.navbench.grid import Grid, closed
from s2e_jax.navbench.ground_field import find_ground
from s2e_jax.navbench.maps import build_maps
from s2e_jax.navbench.occupancy import Band, clean, signed_distance, solid_layers
from tests.navbench.procedural_splats import Solid, World, courtyard, splat

RADIUS = 0.3


def maps_of(world, radius=RADIUS, seed=0, **options):
  gaussians = splat(world, seed)
  similarity, _ = detect_frame(gaussians, up='z')
  return build_maps(apply_similarity(gaussians, similarity), radius, **options), similarity


@pytest.fixture(scope='module')
def court():
  (maps, ground), _ = maps_of(courtyard())
  return maps, ground


def on_the_ground(world, points, margin=0.1):
  return ((points > np.add(world.low, margin)) & (points < np.subtract(world.high, margin))).all(axis=-1)


@pytest.mark.parametrize(('slope', 'spacing', 'seed'), [(0.0, 0.08, 1), (0.1, 0.08, 2), (0.0, 0.12, 3)])
def test_occupancy_and_distance_agree_with_the_truth(slope, spacing, seed):
  world = dataclasses.replace(courtyard(), slope=slope, spacing=spacing)
  (maps, _), similarity = maps_of(world, seed=seed)
  points = maps.grid.centres()
  inside = on_the_ground(world, points)
  truth = world.distance(points)
  both, either = maps.occupied & (truth < 0) & inside, (maps.occupied | (truth < 0)) & inside
  assert both.sum() / either.sum() > 0.95
  error = np.abs(maps.distance - truth)[inside & (truth > 0)]
  assert np.median(error) < 0.03
  assert np.quantile(error, 0.95) < 0.2
  assert (maps.distance[inside & (truth < -0.15)] < 0).mean() > 0.99
  height = world.ground(points) + similarity.translation[2]
  assert np.median(np.abs(maps.ground - height)[inside & (truth > 0.2)]) < 0.02


def test_driven_paths_are_judged_as_the_truth_judges_them(court):
  maps, _ = court
  world, rng = courtyard(), np.random.default_rng(5)
  verdicts = []
  for k in range(3000):
    # 6 s at up to 0.8 m/s, straight or on an arc
    speed, turning = rng.uniform(0.2, 0.8), 0.0 if k % 2 else rng.uniform(-0.6, 0.6)
    yaw = rng.uniform(-np.pi, np.pi) + turning * np.arange(0, 6, 0.1)
    steps = 0.1 * speed * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    path = rng.uniform((-6.5, -4), (6.5, 4)) + np.cumsum(steps, axis=0)
    truth = (world.distance(path) < RADIUS).any()
    seen = (maps.grid.sample(maps.distance, path) < RADIUS).any()
    verdicts.append((truth, seen))
  truth, seen = np.array(verdicts).T
  assert 0.2 < truth.mean() < 0.8
  assert (truth == seen).mean() > 0.98


def test_the_drivable_region_is_what_the_truth_leaves_free(court):
  maps, _ = court
  points = maps.grid.centres()
  truth = courtyard().distance(points)
  assert (truth[maps.drivable] > RADIUS - 0.1).all()
  inner = (np.abs(points) < (7.2, 4.4)).all(axis=-1)
  assert maps.drivable[inner & (truth > RADIUS + 0.15)].mean() > 0.97
  assert not maps.drivable[~on_the_ground(courtyard(), points, 0.0)].any()


def test_the_band_decides_what_is_driven_over_and_under():
  low, hanging = Solid(-2, 0, 0.8, 0.8, 0.25), Solid(2, 0, 0.8, 0.8, 1.0)
  world = World((low, hanging), low=(-5, -3), high=(5, 3))
  gaussians = splat(world)
  over = np.hypot(gaussians.mean[:, 0] - 2, gaussians.mean[:, 1]) < 1.3
  lifted = gaussians.mean + np.where(over & (gaussians.mean[:, 2] > 0.1), 1.5, 0.0)[:, None] * np.array([0, 0, 1])
  lifted = gaussians.replace(mean=lifted.astype(np.float32))
  maps, _ = build_maps(lifted, RADIUS)
  at = lambda maps, x: bool(maps.grid.at(maps.occupied, np.array([x, 0.0]), False))
  assert at(maps, -2.75) and not at(maps, 2.75)
  higher, _ = build_maps(lifted, RADIUS, band=Band(low=0.35))
  assert not at(higher, -2.75)
  tall, _ = build_maps(lifted, RADIUS, band=Band(high=2.6))
  assert at(tall, 2.75)


def test_layers_do_not_depend_on_the_tiles(monkeypatch, court):
  from s2e_jax.navbench import occupancy

  gaussians = splat(World(courtyard().solids[5:8], low=(-6, -4), high=(6, 4)))
  ground = find_ground(gaussians)
  whole = solid_layers(gaussians, ground, Band())
  monkeypatch.setattr(occupancy, '_TILE', 37)
  monkeypatch.setattr(occupancy, '_CHUNK', 3000)
  assert (solid_layers(gaussians, ground, Band()) == whole).mean() > 0.9999
  assert whole.any()


def test_specks_go_and_posts_stay():
  layers = np.zeros((40, 50), np.uint8)
  layers[10:12, 10] = 2  # 2 fine cells, 0.2 m: a floater
  layers[20, 30] = 9  # 0.9 m: a thin post
  kept = clean(layers, np.zeros(layers.shape, bool), Band(), 0.05)
  assert not kept[10:12, 10].any()
  assert kept[20, 30]


def test_hulls_are_filled_and_rooms_are_not():
  layers, floor = np.zeros((60, 90), np.uint8), np.zeros((60, 90), bool)
  for j in (5, 45):
    layers[5:35, j : j + 2] = layers[5:35, j + 28 : j + 30] = 11
    layers[5:7, j : j + 30] = layers[33:35, j : j + 30] = 11
  floor[8:32, 48:72] = True
  kept = clean(layers, floor, Band(), 0.05)
  assert kept[20, 20]
  assert not kept[20, 60]


def test_signed_distance_is_exact_for_a_half_plane():
  mask = np.zeros((12, 7), bool)
  mask[:5] = True
  distance = signed_distance(mask, 0.1)
  np.testing.assert_allclose(distance[:, 3], (np.arange(12) + 0.5 - 5) * 0.1)
  assert (signed_distance(np.zeros((3, 4), bool), 0.1) > 0.4).all()


def test_ground_steeper_than_the_limit_is_not_drivable():
  steep = World((), low=(-6, -4), high=(6, 4), slope=0.25)
  gaussians = splat(steep)
  with pytest.raises(ValueError, match=r'largest drivable region is .* check up= and scale='):
    build_maps(gaussians, RADIUS, max_slope=0.15)
  maps, _ = build_maps(gaussians, RADIUS)
  assert maps.drivable_area > 60


def test_too_little_free_ground_is_refused(court):
  world = World((Solid(0, 0, 1.6, 1.6, 1.0),), low=(-2, -2), high=(2, 2))
  with pytest.raises(ValueError, match=r'a scene needs 4 m\^2 .*robot radius 0.3 m'):
    build_maps(splat(world), RADIUS)
  with pytest.raises(ValueError, match='cell=2'):
    build_maps(splat(world), RADIUS, cell=2.0)
  with pytest.raises(ValueError, match='low < high'):
    Band(low=1.0, high=0.5)


def test_a_ground_far_from_zero_is_not_taken(court):
  gaussians = splat(World((), low=(-3, -3), high=(3, 3)), num_floaters=0)
  with pytest.raises(ValueError, match='no ground found near z = 0'):
    find_ground(gaussians.replace(mean=gaussians.mean + np.float32(9)))


def test_grid_looks_up_cells_and_between_them():
  grid = Grid.over(np.array([-1.04, 0.0]), np.array([1.0, 0.5]), 0.1)
  assert grid.shape == (21, 5)
  assert grid.origin == (-1.1, 0.0)
  field = grid.centres()[..., 0] + 10 * grid.centres()[..., 1]
  points = np.array([[0.33, 0.21], [-0.5, 0.4]])
  np.testing.assert_allclose(grid.sample(field, points), points @ [1, 10], atol=1e-9)
  assert grid.at(field > -99, np.array([[5.0, 5.0], [0.0, 0.1]]), False).tolist() == [False, True]
  np.testing.assert_allclose(grid.cells(grid.centres(np.array([3, 4]))), [3, 4])


def test_closing_fills_gaps_and_keeps_the_outline():
  mask = np.ones((30, 20), bool)
  mask[10:13] = False
  assert closed(mask, 2)[:, 2:-2].all()
  alone = np.zeros((30, 20), bool)
  alone[5, 5] = True
  np.testing.assert_array_equal(closed(alone, 3), alone)
