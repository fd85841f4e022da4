"""Primitives of the scene record among splats: what hides what, pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.gaussians import SH_C0, Gaussians
from s2e_jax.render.compose import compose
from s2e_jax.render.render import RenderOptions, render
from s2e_jax.render.splats.cameras import cameras_of
from s2e_jax.render.splats.draw import draw_splats
from s2e_jax.render.splats.hierarchy import make_splat_scene
from s2e_jax.render.splats.options import SplatOptions
from s2e_jax.render.view import View
from s2e_jax.scene import MAX_PRIMITIVES
from s2e_jax.worlds.builders import empty_scene, with_box

pytestmark = pytest.mark.usefixtures('compiled_quickly')

H, W = 24, 48
OPTIONS = SplatOptions(H, W, smallest=64)


def curtain(distance, red, opacity=0.98):
  """A red sheet of splats across the view, `distance` m ahead of the origin along x."""
  y, z = np.meshgrid(np.linspace(-12, 12, 48), np.linspace(-7, 7, 28))
  num = y.size
  sh = np.zeros((num, 1, 3), np.float32)
  sh[:, 0] = (np.array([red, 0.0, 0.0]) - 0.5) / SH_C0
  return Gaussians(
    np.stack([np.full(num, distance), y.ravel(), z.ravel()], 1).astype(np.float32),
    np.tile(np.array([1e-3, 0.5, 0.5], np.float32), (num, 1)),
    np.tile(np.array([1, 0, 0, 0], np.float32), (num, 1)),
    np.full(num, opacity, np.float32),
    sh,
  )


@pytest.fixture(scope='module')
def composed():
  return jax.jit(lambda splats, scenes, views: compose(splats, scenes, views, OPTIONS, chunk=2))


@pytest.fixture(scope='module')
def moment():
  """(scenes, views, picture of the record alone) of three cameras before a box 4 m ahead."""
  scene = with_box(empty_scene(), 0, x=4.5, y=0.0, half_x=0.5, half_y=0.7, height=1.2)
  scenes = jax.tree.map(lambda x: jnp.stack([x] * 3), scene)
  views = View(
    position=jnp.array([[0.0, 0.0, 0.8], [0.1, 0.6, 0.8], [-0.2, -0.5, 0.7]]),
    yaw=jnp.array([0.0, -0.1, 0.15]),
    tan_pitch=jnp.full(3, 0.1),
    half_width=jnp.full(3, 0.9),
  )
  record = RenderOptions(H, W, shadow=False)
  return scenes, views, render(scenes, views, record, want=('rgb', 'segmentation', 'depth'))


def test_splats_behind_a_thing_are_hidden_by_it_and_seen_beside_it(moment, composed):
  scenes, views, alone = moment
  picture = composed(make_splat_scene(curtain(8.0, red=0.8)), scenes, views)
  is_thing = np.asarray(alone.segmentation) < MAX_PRIMITIVES
  assert 0.05 < is_thing.mean() < 0.8
  np.testing.assert_array_equal(np.asarray(picture.rgb)[is_thing], np.asarray(alone.rgb)[is_thing])
  beside = np.asarray(picture.rgb)[~is_thing].astype(float)
  assert np.abs(beside - [0.8 * 255, 0, 0]).mean() < 12
  assert np.abs(np.asarray(picture.depth)[~is_thing] - 8.0).mean() < 0.5  # seen from a little beside x = 0
  np.testing.assert_allclose(np.asarray(picture.depth)[is_thing], np.asarray(alone.depth)[is_thing], rtol=1e-5)


def test_splats_before_a_thing_cover_it_by_their_opacity(moment, composed):
  scenes, views, alone = moment
  splats = make_splat_scene(curtain(2.0, red=0.6, opacity=0.3))
  picture = composed(splats, scenes, views)
  front = draw_splats(splats, cameras_of(views, H, W), OPTIONS)
  alpha = np.asarray(front.alpha)[..., None]
  assert 0.3 < alpha.mean() < 0.95
  wanted = np.asarray(front.rgb) * 255 + (1 - alpha) * np.asarray(alone.rgb, float)
  assert np.abs(np.asarray(picture.rgb, float) - wanted).max() <= 0.51 + 1e-3


def test_where_no_splats_are_the_record_is_seen(moment, composed):
  scenes, views, alone = moment
  away = curtain(-8.0, red=0.8)  # behind the cameras
  picture = composed(make_splat_scene(away), scenes, views)
  np.testing.assert_array_equal(picture.rgb, alone.rgb)


def test_only_the_splats_of_wanted_pictures_are_drawn(moment):
  scenes, views, alone = moment
  splats = make_splat_scene(curtain(2.0, red=0.6, opacity=0.3))
  draw = jax.jit(lambda wanted: compose(splats, scenes, views, OPTIONS, chunk=2, wanted=wanted))
  everybody, some = draw(None), draw(jnp.array([True, False, True]))
  np.testing.assert_allclose(np.asarray(some.rgb, int)[[0, 2]], np.asarray(everybody.rgb, int)[[0, 2]], atol=1)
  np.testing.assert_allclose(some.depth[jnp.array([0, 2])], everybody.depth[jnp.array([0, 2])], rtol=1e-5)
  if jax.default_backend() == 'cpu':  # elsewhere all are drawn together
    np.testing.assert_array_equal(some.rgb[1], alone.rgb[1])
  assert (np.asarray(everybody.rgb[1]) != np.asarray(alone.rgb[1])).any()


def test_chunks_do_not_change_pictures(moment):
  scenes, views, _ = moment
  splats = make_splat_scene(curtain(2.0, red=0.6, opacity=0.3))
  whole = compose(splats, scenes, views, OPTIONS, chunk=8)
  parts = compose(splats, scenes, views, OPTIONS, chunk=1)
  assert np.abs(np.asarray(whole.rgb, int) - np.asarray(parts.rgb, int)).max() <= 1
  assert whole.rgb.shape == (3, H, W, 3) and whole.rgb.dtype == jnp.uint8
