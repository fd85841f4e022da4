import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.render import column, raycast
from s2e_jax.render.primitives import primitives_of, sunlight_share
from s2e_jax.render.view import column_slopes, rows_of

HEIGHT, WIDTH = 64, 81  # an odd width: shadows at full resolution


@jax.jit
def words_of(scene, view, u, rows):
  prims = primitives_of(scene, view, sunlight_share(scene))
  return column.row_words(prims, scene, view, u, rows, HEIGHT, True)


@pytest.fixture(scope='module')
def shadows(small_clutter):
  """(by columns, by rays, whether the ground is seen): bool [2 levels, B, h, w]."""
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  view = view.replace(tan_pitch=jnp.linspace(0.0, 0.4, 5))
  angle = jnp.linspace(0.0, 5.0, 5)  # a low sun, all around
  low = jnp.stack([jnp.cos(angle) * 0.95, jnp.sin(angle) * 0.95, jnp.full(5, 0.312)], -1)
  scene = scene.replace(light=scene.light.replace(sun=low))
  u, rows = column_slopes(view, WIDTH), rows_of(view, HEIGHT, WIDTH)
  words = words_of(scene, view, u, rows)
  bits = (words[:, 4:, :, None] >> np.arange(32)[:, None]) & 1  # [2 words, level, B, 32, w]
  by_column = np.moveaxis(np.asarray(bits), 0, 2).reshape(2, 5, HEIGHT, WIDTH) != 0

  v = rows.slopes(HEIGHT)[:, :, None]
  by_ray, seen = [], []
  for level in (scene.ground.curb_height, 0 * scene.ground.curb_height):
    z = (level - view.position[:, 2])[:, None, None]
    far = jnp.broadcast_to(z / jnp.minimum(v, -1e-3), (5, HEIGHT, WIDTH))
    c, s = jnp.cos(view.yaw)[:, None, None], jnp.sin(view.yaw)[:, None, None]
    x = view.position[:, 0, None, None] + far * (c + u[:, None] * s)
    y = view.position[:, 1, None, None] + far * (s - u[:, None] * c)

    def one(scene, x, y, z):
      flat = (x.reshape(-1), y.reshape(-1), jnp.full(x.size, z))
      sun = tuple(jnp.full(x.size, scene.light.sun[i]) for i in range(3))
      return (raycast.cast(scene, flat, sun, 0.0).min(0) < raycast.NONE).reshape(x.shape)

    by_ray.append(jax.vmap(one)(scene, x, y, level + 1e-3))
    seen.append((v < 0) & (far < 40))
  return by_column, np.asarray(by_ray), np.asarray(seen)


@pytest.mark.parametrize('level', [0, 1])
def test_shadows_are_where_a_ray_to_the_sun_is_blocked(shadows, level):
  by_column, by_ray, seen = (x[level] for x in shadows)
  share = by_ray[seen].mean()
  assert 0.05 < share < 0.95
  # The oracle's rays start a millimetre above the ground; things sunk into a level stand on no shadow there.
  wrong = (by_column != by_ray) & seen
  assert wrong.sum() / seen.sum() < 4e-3


def test_half_resolution_repeats_each_column(small_clutter):
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  words = words_of(scene, view, column_slopes(view, 80), rows_of(view, HEIGHT, 80))
  dark = np.asarray(words[:, 4:])
  assert dark.any()
  np.testing.assert_array_equal(dark[..., ::2], dark[..., 1::2])


def test_no_shadow_without_things(small_clutter):
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  parts = {n: getattr(scene, n).replace(high=getattr(scene, n).low) for n in ('boxes', 'cylinders', 'capsules')}
  scene = scene.replace(**parts)
  assert (sunlight_share(scene) == 1).all()
  words = words_of(scene, view, column_slopes(view, 80), rows_of(view, HEIGHT, 80))
  assert not np.asarray(words[:, 4:]).any()


def test_who_stands_behind_a_house_is_in_its_shade(small_clutter):
  scene, _ = small_clutter
  scene = jax.tree.map(np.array, scene)
  scene.light.sun[:] = np.array([0.8, 0.0, 0.6])
  scene.boxes.high[:, 1:] = scene.boxes.low[:, 1:] - 1
  for name, value in (
    ('x', 10.0),
    ('y', 0.0),
    ('yaw', 0.0),
    ('half_x', 2.0),
    ('half_y', 3.0),
    ('low', 0),
    ('high', 8),
  ):
    getattr(scene.boxes, name)[:, 0] = value
  first = scene.boxes.x.shape[1]
  scene.cylinders.x[:] = np.array([5.0, 5.0, -5.0, 15.0])
  scene.cylinders.y[:] = np.array([0.0, 5.0, 0.0, 0.0])
  share = np.asarray(sunlight_share(jax.tree.map(jnp.asarray, scene)))[:, first : first + 4]
  np.testing.assert_allclose(share, np.tile([0.0, 1.0, 1.0, 1.0], (5, 1)), atol=1e-6)
