import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.render.render import RenderOptions
from s2e_jax.render.view import View, column_slopes, rows_of, view_of
from s2e_jax.scene import Mount


def views(num=3, **changes):
  full = lambda x: jnp.full((num,), x, jnp.float32)
  fields = {'position': jnp.zeros((num, 3)), 'yaw': full(0.0), 'tan_pitch': full(0.0), 'half_width': full(1.0)}
  return View(**(fields | changes))


def test_pixels_have_the_slopes_of_the_contract():
  view = views(half_width=jnp.array([1.0, 0.5, 1.3]), tan_pitch=jnp.array([0.0, 0.2, -0.1]))
  h, w = 5, 9
  u, v = np.asarray(column_slopes(view, w)), np.asarray(rows_of(view, h, w).slopes(h))
  for b in range(3):
    for j in range(w):
      assert u[b, j] == pytest.approx(((j + 0.5) / w * 2 - 1) * float(view.half_width[b]), abs=1e-6)
    for i in range(h):
      expected = -((i + 0.5) / h * 2 - 1) * float(view.half_width[b]) * h / w - float(view.tan_pitch[b])
      assert v[b, i] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('pitch', [0.0, 0.3, -0.2])
def test_a_row_finds_itself_by_its_slope(pitch):
  rows = rows_of(views(half_width=jnp.array([1.0, 0.5, 1.3])), 7, 12, pitch)
  np.testing.assert_allclose(rows.index(rows.slopes(7)), np.tile(np.arange(7.0), (3, 1)), atol=2e-5)


def test_a_pitched_camera_turns_its_rays():
  pitch, h, w = 0.25, 6, 10
  rows, u = rows_of(views(), h, w, pitch), column_slopes(views(), w)
  camera = np.stack(np.broadcast_arrays(1.0, np.asarray(u)[:, None], np.asarray(rows.in_camera(h))[..., None]), -1)
  c, s = np.cos(pitch), np.sin(pitch)
  forward, right, up = (
    camera[..., 0] * c + camera[..., 2] * s,
    camera[..., 1],
    camera[..., 2] * c - camera[..., 0] * s,
  )
  np.testing.assert_allclose(rows.slopes(h)[..., None] + 0 * right, up / forward, atol=1e-6)
  np.testing.assert_allclose(u[:, None] * rows.stretch(h)[..., None], right / forward, atol=1e-6)


def test_the_camera_sits_where_it_is_mounted():
  mount = Mount(*(jnp.array(x) for x in (0.6, 0.25, -0.07, 1.19)))
  view = view_of(mount, jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([0.0, np.pi / 2]), jnp.array([0.15, 0.0]))
  np.testing.assert_allclose(view.position, [[1.25, 2.0, 0.75], [3.0, -0.75, 0.6]], atol=1e-6)
  np.testing.assert_allclose(view.tan_pitch, [-0.07, -0.07])
  np.testing.assert_allclose(view.half_width, [1.19, 1.19])


@pytest.mark.parametrize(
  'change',
  [{'height': 0}, {'width': 0}, {'nearest': 0}, {'chunk': 0}, {'backend': 'opengl'}, {'exact_pitch': 1.5}],
)
def test_options_that_make_no_picture_are_refused(change):
  with pytest.raises(ValueError, match=next(iter(change))):
    RenderOptions(**change)
