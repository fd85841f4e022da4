"""Levels of detail, batches, options: what is kept, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.render.splats.cameras import cameras_of
from s2e_jax.render.splats.cut import choose_units
from s2e_jax.render.splats.draw import draw_gaussians, draw_splats
from s2e_jax.render.splats.hierarchy import make_splat_scene, spatial_order
from s2e_jax.render.splats.options import SplatOptions
from s2e_jax.render.view import View, column_slopes, rows_of

pytestmark = pytest.mark.usefixtures('compiled_quickly')

H, W = 24, 40
EXACT = SplatOptions(H, W, smallest=64)


def psnr(a, b):
  return -10 * np.log10(np.mean((np.asarray(a) - np.asarray(b)) ** 2))


@pytest.fixture(scope='module')
def dense(blobs):
  return blobs(12_000, seed=5, size=0.03)


@pytest.fixture(scope='module')
def pictures(dense, cameras):
  scene, seen_from = make_splat_scene(dense), cameras(3, H, W)
  draw = jax.jit(draw_splats, static_argnums=2)
  return {
    budget: draw(scene, seen_from, SplatOptions(H, W, budget=budget, smallest=64)) for budget in (0, 4096, 12_288)
  }


def test_spatial_order_is_a_permutation_into_compact_runs():
  points = np.random.default_rng(0).normal(size=(1000, 3))
  order = spatial_order(points)
  assert sorted(order) == list(range(1000))
  runs = points[order][:960].reshape(-1, 32, 3)
  assert np.median(np.ptp(runs, axis=1).max(-1)) < 0.5 * np.median(
    np.ptp(points[:960].reshape(-1, 32, 3), axis=1).max(-1)
  )


def test_a_budget_that_holds_everything_in_view_is_exact(pictures):
  np.testing.assert_array_equal(pictures[12_288].rgb, pictures[0].rgb)


def test_a_small_budget_stays_close_and_leaves_no_holes(pictures):
  assert psnr(pictures[4096].before(0.5), pictures[0].before(0.5)) > 25
  assert np.abs(np.asarray(pictures[4096].alpha - pictures[0].alpha)).mean() < 0.05


def test_a_cut_takes_every_gaussian_in_view_exactly_once(dense, cameras):
  scene, seen_from = make_splat_scene(dense), cameras(3, H, W)
  first = np.cumsum((0, *scene.levels))
  for b in range(3):
    camera = jax.tree.map(lambda x, b=b: x[b], seen_from)
    units, is_drawn = jax.jit(lambda c: choose_units(scene, c, SplatOptions(H, W, budget=4096)))(camera)
    times = np.zeros(scene.levels[0], int)
    chosen = np.asarray(units)[np.asarray(is_drawn)]
    assert len(set(chosen)) == len(chosen) <= 4096 // 32
    for unit in chosen:
      level = np.searchsorted(first, unit, side='right') - 1
      start, run = (unit - first[level]) * 4**level, 4**level
      times[start : start + run] += 1
    exact, all_drawn = choose_units(scene, camera, EXACT)
    in_view = np.asarray(exact)[np.asarray(all_drawn)]
    assert times.max() == 1
    assert times[in_view].min() == 1


def test_cameras_of_one_batch_do_not_see_each_other(dense, cameras):
  scene, seen_from = make_splat_scene(dense), cameras(3, H, W)
  draw = jax.jit(lambda c: draw_splats(scene, c, EXACT).rgb)
  together = draw(seen_from)
  for b in range(3):
    alone = draw(jax.tree.map(lambda x, b=b: x[b : b + 1], seen_from))
    np.testing.assert_allclose(alone[0], together[b], atol=1e-5)


def test_tile_and_group_do_not_change_the_picture(dense, cameras):
  scene, seen_from = make_splat_scene(dense, with_levels=False), cameras(1, H, W)
  one = draw_splats(scene, seen_from, EXACT).rgb
  other = draw_splats(scene, seen_from, SplatOptions(H, W, tile=16, group=8, smallest=2)).rgb
  np.testing.assert_allclose(one, other, atol=1e-5)


def test_one_compile_for_any_pose(dense, cameras):
  scene = make_splat_scene(dense, with_levels=False)
  draw = jax.jit(lambda s, c: draw_splats(s, c, EXACT).rgb)
  for seed in range(3):
    moved = cameras(2, H, W)
    draw(scene, moved.replace(translation=moved.translation + seed))
  assert draw._cache_size() == 1


def test_cameras_of_views_look_along_the_simulators_rays():
  view = View(jnp.array([[1.0, 2.0, 0.6]]), jnp.array([0.7]), jnp.array([0.15]), jnp.array([0.9]))
  camera = jax.tree.map(lambda x: np.asarray(x[0]), cameras_of(view, H, W))
  u = np.asarray(column_slopes(view, W))[0]
  v = np.asarray(rows_of(view, H, W).slopes(H))[0]
  forward, right = np.array([np.cos(0.7), np.sin(0.7), 0]), np.array([np.sin(0.7), -np.cos(0.7), 0])
  for i, j in ((0, 0), (H - 1, 5), (17, W - 1)):
    point = np.array([1.0, 2.0, 0.6]) + 4.0 * (forward + u[j] * right + v[i] * np.array([0, 0, 1.0]))
    x, y, z = camera.cam_from_world @ point + camera.translation
    assert z == pytest.approx(4.0, abs=1e-5)
    assert camera.focal * np.array([x, y]) / z + camera.centre == pytest.approx([j + 0.5, i + 0.5], abs=1e-3)


def test_compensated_opacity_is_closer_to_supersampled_truth(blobs, cameras):
  """Many gaussians smaller than a pixel: 8 x 8 samples per pixel, averaged, are the truth."""
  scene = make_splat_scene(blobs(6000, seed=8, size=0.008))
  fine = draw_splats(
    scene, cameras(1, 8 * H, 8 * W), SplatOptions(8 * H, 8 * W, antialias=False, tile=16, smallest=64)
  )
  truth = np.asarray(fine.before(0.0))[0].reshape(H, 8, W, 8, 3).mean((1, 3))
  found = {
    a: psnr(
      draw_splats(scene, cameras(1, H, W), SplatOptions(H, W, antialias=a, smallest=64)).before(0.0)[0], truth
    )
    for a in (False, True)
  }
  assert found[True] >= found[False] + 6


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'height': 0}, 'height=0'),
    ({'budget': 100}, 'use 128'),
    ({'near': 2.0, 'far': 1.0}, 'near=2.0, far=1.0'),
    ({'height': 5000, 'tile': 8}, 'tile=20'),
  ],
)
def test_options_name_value_rule_and_remedy(fields, words):
  with pytest.raises(ValueError, match=words):
    SplatOptions(**fields)


def test_a_budget_below_the_coarsest_level_is_refused(dense, cameras):
  scene = make_splat_scene(dense)
  with pytest.raises(ValueError, match=f'at least {scene.levels[-1] * 32}'):
    draw_splats(scene, cameras(1, H, W), SplatOptions(H, W, budget=32))
  with pytest.raises(ValueError, match='a scene with levels'):
    draw_splats(make_splat_scene(dense, with_levels=False), cameras(1, H, W), SplatOptions(H, W, budget=4096))


def test_no_gaussians_are_refused(blobs, cameras):
  nothing = jax.tree.map(lambda x: x[:0], blobs(4))
  with pytest.raises(ValueError, match='0 gaussians'):
    make_splat_scene(nothing)
  with pytest.raises(ValueError, match='multiple of 32'):
    draw_gaussians(blobs(33), cameras(1, H, W), EXACT)
