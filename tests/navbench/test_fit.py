"""Cameras stand free, pictures are the truth, and a short fit makes gaussians look more like it."""

import jax
import numpy as np
import pytest

from s2e_jax.navbench.blocks import BAND, make_block
from s2e_jax.navbench.capture import Rig, capture, normals_of, sample_views, world_points
from s2e_jax.navbench.fit import FitOptions, fit, judge
from s2e_jax.navbench.fit_start import start_gaussians
from s2e_jax.worlds.distance import clearance

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SIZE = (24, 40)
NEAREST = 6  # fewer than the truth has, but soon compiled


@pytest.fixture(scope='module')
def block():
  return make_block('rooms')


@pytest.fixture(scope='module')
def train(block):
  return capture(block, sample_views(block, 24, seed=0), *SIZE, NEAREST)


@pytest.fixture(scope='module')
def held_out(block):
  return capture(block, sample_views(block, 8, seed=1), *SIZE, NEAREST)


def test_cameras_stand_free_within_their_ranges_and_are_the_same_again(block):
  rig = Rig(clearance=0.6)
  views = sample_views(block, 50, 3, rig)
  distance = jax.jit(clearance)(block.scene, views.position[:, :2], height=BAND)[0]
  # a cell of the grid and the jitter in it
  assert float(distance.min()) > 0.6 - 0.05
  for value, (low, high) in (
    (views.position[:, 2], rig.height),
    (views.tan_pitch, rig.tan_pitch),
    (views.half_width, rig.half_width),
  ):
    assert low <= value.min() and value.max() <= high
  again = sample_views(block, 50, 3, rig)
  assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(views), jax.tree.leaves(again), strict=True))
  assert not np.array_equal(views.yaw, sample_views(block, 50, 4, rig).yaw)


def test_pictures_are_in_range_and_rooms_have_hardly_any_sky(train):
  assert train.rgb.shape == (24, *SIZE, 3) and train.depth.shape == (24, *SIZE)
  assert train.rgb.min() >= 0 and train.rgb.max() <= 1 and train.rgb.std() > 0.1
  assert train.coverage.min() >= 0 and train.coverage.max() <= 1 and train.coverage.mean() > 0.97
  assert (train.depth > 0).mean() > 0.65


def test_points_lie_on_the_floor_and_on_surfaces_whose_normals_look_at_the_camera(train):
  points = world_points(train.views, train.depth)
  normals = normals_of(points, train.depth, np.asarray(train.views.position))
  known = (train.depth > 0) & (np.abs(normals).sum(-1) > 0)
  assert known.mean() > 0.6
  assert points[known][:, 2].min() > -0.01 and points[known][:, 2].max() < 2.75
  up = known & (normals[..., 2] > 0.999)
  on_floor = up & (points[..., 2] < 0.2)
  assert on_floor.mean() > 0.08
  np.testing.assert_allclose(points[on_floor][:, 2], 0.0, atol=0.02)
  to_camera = np.asarray(train.views.position)[:, None, None] - points
  assert (np.sum(to_camera * normals, axis=-1)[known] >= 0).all()


def test_gaussians_start_as_flat_discs_on_what_is_seen(train):
  start = start_gaussians(train, 1024)
  assert start.num == 1024 and start.sh.shape == (1024, 1, 3)
  assert (start.scale[:, 2] < 0.5 * start.scale[:, 0]).all()
  assert len(np.unique(start.mean, axis=0)) == 1024
  np.testing.assert_allclose(np.linalg.norm(start.rotation, axis=1), 1, atol=1e-5)
  # the third axis is the normal of the floor for those that lie on it
  _, x, y, _ = start.rotation[start.mean[:, 2] < 0.01].T
  assert np.median(1 - 2 * (x * x + y * y)) > 0.99


def test_more_gaussians_than_places_are_refused(train):
  with pytest.raises(ValueError, match='need more or larger pictures'):
    start_gaussians(train, 10**6)


def test_a_short_fit_improves_pictures_it_has_not_seen_and_is_the_same_again(train, held_out):
  options = FitOptions(steps=30, views=2)
  start = start_gaussians(train, 1024)
  lines = []
  fitted, report = fit(start, train, held_out, options, seed=5, say=lines.append)
  assert report.after.psnr > report.before.psnr + 0.5
  assert report.after.depth_error < 1.5 * report.before.depth_error + 0.01
  assert report.after == judge(fitted, held_out)
  assert any('steps/s' in line and 's left' in line for line in lines)
  again, _ = fit(start, train, held_out, options, seed=5, say=lines.append)
  assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(fitted), jax.tree.leaves(again), strict=True))


def test_a_number_of_gaussians_that_fills_no_words_is_refused(train, held_out):
  with pytest.raises(ValueError, match='1000 gaussians must be a multiple of 32'):
    fit(start_gaussians(train, 1000), train, held_out)
