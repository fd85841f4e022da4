"""The rasteriser against a float64 painter, scipy's harmonics and numerical derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from painter import paint, real_harmonics
from scipy.spatial.transform import Rotation

from s2e_jax.gaussians import Gaussians
from s2e_jax.render.splats.cameras import look_at
from s2e_jax.render.splats.draw import draw_gaussians, draw_splats
from s2e_jax.render.splats.hierarchy import make_splat_scene
from s2e_jax.render.splats.lists import depth_order
from s2e_jax.render.splats.options import SplatOptions
from s2e_jax.render.splats.project import harmonics

H, W = 24, 40
OPTIONS = SplatOptions(H, W, smallest=64)


def camera_of(cameras, b):
  return jax.tree.map(lambda x: np.asarray(x[b], float), cameras)


def painted(gaussians, cameras, options, limit=None, degree=0):
  """[B, h, w, 5] by the painter."""
  images = []
  with jax.enable_x64(True):
    exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), gaussians)
    for b in range(len(cameras.focal)):
      camera = camera_of(cameras, b)
      place = -camera.cam_from_world.T @ camera.translation
      ray = np.asarray(gaussians.mean, float) - place
      basis = real_harmonics(ray / np.linalg.norm(ray, axis=1, keepdims=True), degree)
      hidden_from = None if limit is None else jnp.asarray(limit[b], jnp.float64)
      run = jax.jit(lambda g, c, n, k: paint(g, c, options, n, k))
      images.append(np.asarray(run(exact, jax.tree.map(jnp.asarray, camera), hidden_from, jnp.asarray(basis))))
  return np.stack(images)


def stacked(pictures):
  return np.concatenate(
    [np.asarray(pictures.rgb), np.asarray(pictures.depth)[..., None], np.asarray(pictures.alpha)[..., None]], -1
  )


@pytest.fixture(scope='module')
def scene_and_truth(blobs, cameras):
  gaussians, seen_from = blobs(1500, degree=2), cameras(3, H, W)
  return gaussians, seen_from, painted(gaussians, seen_from, OPTIONS, degree=2)


@pytest.fixture(scope='module')
def exact_picture():
  return jax.jit(lambda scene, cameras, limit: draw_splats(scene, cameras, OPTIONS, limit))


def test_exact_mode_is_the_painter(scene_and_truth, exact_picture):
  gaussians, seen_from, truth = scene_and_truth
  nothing = jnp.full((3, H, W), jnp.inf)
  ours = stacked(exact_picture(make_splat_scene(gaussians), seen_from, nothing))
  error = np.abs(ours - truth)
  assert (truth[..., 4] > 0.9).mean() > 0.3  # there is something to see, and some of it is stopped
  assert error[..., [0, 1, 2, 4]].mean() <= 1e-6
  assert error[..., [0, 1, 2, 4]].max() <= 2e-3
  assert error[..., 3].mean() <= 1e-5  # m


def test_what_lies_behind_a_limit_is_hidden(scene_and_truth, exact_picture):
  gaussians, seen_from, _ = scene_and_truth
  limit = np.full((3, H, W), np.inf, np.float32)
  limit[:, 6:18, 11:28] = 5.0
  truth = painted(gaussians, seen_from, OPTIONS, limit, degree=2)
  ours = stacked(exact_picture(make_splat_scene(gaussians), seen_from, jnp.asarray(limit)))
  # a splat's plane may pass the limit within rounding in a pixel: then that pixel differs, by that splat
  wrong = np.abs(ours - truth)[..., :3].max(-1) > 1e-3
  assert wrong.mean() < 1e-3
  assert np.abs(ours - truth)[..., :3].mean() <= 1e-5


@pytest.mark.parametrize('antialias', [False, True])
def test_gradients_of_all_parameters_are_the_painters(blobs, cameras, antialias):
  options = SplatOptions(16, 24, antialias=antialias, smallest=32)
  gaussians, seen_from = blobs(96, seed=3), cameras(2, 16, 24)
  weight = np.random.default_rng(0).normal(size=(2, 16, 24, 5))
  weight[..., 3] *= 0.1

  def ours(g):
    picture = draw_gaussians(g, seen_from, options)
    image = jnp.concatenate([picture.rgb, picture.depth[..., None], picture.alpha[..., None]], -1)
    return jnp.sum(image * weight)

  value, found = jax.jit(jax.value_and_grad(ours))(jax.tree.map(jnp.asarray, gaussians))
  with jax.enable_x64(True):
    exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), gaussians)
    views = [jax.tree.map(jnp.asarray, camera_of(seen_from, b)) for b in range(2)]

    def truth(g):
      return sum(jnp.sum(paint(g, views[b], options) * weight[b]) for b in range(2))

    true_value, wanted = jax.jit(jax.value_and_grad(truth))(exact)
    wanted, true_value = jax.device_get((wanted, true_value))
  assert float(value) == pytest.approx(float(true_value), rel=1e-4)
  for field in dataclasses.fields(gaussians):
    a, b = np.asarray(getattr(found, field.name), float).ravel(), getattr(wanted, field.name).ravel()
    assert np.linalg.norm(b) > 0
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine > 0.999, field.name
    assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=2e-2), field.name


def test_the_colour_basis_is_that_of_scipys_spherical_harmonics():
  rng = np.random.default_rng(0)
  direction = rng.normal(size=(200, 3))
  direction /= np.linalg.norm(direction, axis=1, keepdims=True)
  basis = harmonics(16, *direction.T)
  ours = np.stack([np.broadcast_to(column, 200) for column in basis], axis=1)
  np.testing.assert_allclose(ours, real_harmonics(direction, 3), atol=1e-6)


@pytest.mark.parametrize('num', [33, 5000, 70000])
def test_depth_order_is_a_stable_argsort(num):
  rng = np.random.default_rng(num)
  depth = rng.uniform(0.06, 400, num).astype(np.float32)
  depth[: num // 3] = np.ceil(depth[: num // 3])  # ties
  is_seen = rng.random(num) < 0.8
  order = jax.jit(lambda d, s: depth_order(d, s, OPTIONS))(depth, is_seen)
  wanted = np.argsort(np.where(is_seen, depth, np.inf), kind='stable')
  np.testing.assert_array_equal(order, wanted)


def test_mean_depth_is_that_of_a_wall_seen_aslant():
  """Flat gaussians on a plane: every pixel's depth is the plane's, not that of the gaussians' centres.

  The blur of 0.3 pixels^2 flattens their slopes, so pixels are small here beside the gaussians.
  """
  height, width = 48, 80
  y, z = np.meshgrid(np.linspace(-8, 8, 54), np.linspace(-5, 5, 34))
  angle = 0.9  # the wall's normal leans away from the camera's axis
  mean = np.stack([5 + np.tan(angle) * y * 0.5, y, z], -1).reshape(-1, 3).astype(np.float32)
  along = np.array([np.tan(angle) * 0.5, 1, 0]) / np.hypot(1, np.tan(angle) * 0.5)
  axes = np.stack([along, [0, 0, 1], np.cross(along, [0, 0, 1])], axis=1)
  x_, y_, z_, w_ = Rotation.from_matrix(axes).as_quat()
  num = len(mean)
  wall = Gaussians(
    mean,
    np.tile(np.array([0.35, 0.35, 1e-3], np.float32), (num, 1)),
    np.tile(np.array([w_, x_, y_, z_], np.float32), (num, 1)),
    np.full(num, 0.95, np.float32),
    np.zeros((num, 1, 3), np.float32),
  )
  view = look_at(jnp.zeros((1, 3)), jnp.array([[1.0, 0, 0]]), 0.7, height, width)
  picture = jax.jit(lambda s: draw_splats(s, view, SplatOptions(height, width, smallest=64)))(
    make_splat_scene(wall)
  )
  u = ((np.arange(width) + 0.5) / width * 2 - 1) * 0.7
  truth = 5 / (1 + np.tan(angle) * 0.5 * u)  # x of the point of the wall on the ray (1, -u, v)
  depth = np.asarray(picture.depth / picture.alpha)[0]
  assert (np.asarray(picture.alpha)[0, :, 5:-5] > 0.99).all()
  assert np.abs(depth / truth - 1)[:, 5:-5].max() < 1e-2
