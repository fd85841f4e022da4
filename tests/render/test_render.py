import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.render import render as front
from s2e_jax.render.render import RenderOptions, render
from s2e_jax.scene import SIDEWALK, SKY

OPTIONS = RenderOptions(height=48, width=80, nearest=16)


def test_only_what_is_wanted_is_returned(small_clutter, pictures):
  scene, view = small_clutter
  whole = pictures(scene, view)
  assert whole.rgb.shape == (5, 48, 80, 3) and whole.rgb.dtype == np.uint8
  assert whole.segmentation.shape == (5, 48, 80) and whole.segmentation.dtype == np.uint8
  assert whole.depth.shape == (5, 48, 80) and whole.depth.dtype == np.float32
  for name in front.WANTED:
    part = pictures(scene, view, (name,))
    for other in front.WANTED:
      if other == name:
        np.testing.assert_array_equal(getattr(part, other), getattr(whole, other))
      else:
        assert getattr(part, other) is None


@pytest.mark.parametrize('want', [(), ('rgb', 'normals')])
def test_an_unknown_picture_is_refused(small_clutter, want):
  with pytest.raises(ValueError, match='want'):
    render(*small_clutter, RenderOptions(), want)


@pytest.mark.parametrize('chunk', [2, 5])
def test_the_chunk_changes_no_pixel(small_clutter, pictures, chunk):
  scene, view = small_clutter
  whole, parts = (pictures(scene, view, ('segmentation',), **c) for c in ({}, {'chunk': chunk}))
  jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_a_batch_is_its_environments_one_by_one_and_mapped(small_clutter, pictures):
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  whole = pictures(scene, view, ('segmentation',))

  def one(scene, view):
    batch = jax.tree.map(lambda x: x[None], (scene, view))
    return render(*batch, OPTIONS, ('segmentation',)).segmentation[0]

  np.testing.assert_array_equal(whole.segmentation, jax.jit(jax.vmap(one))(scene, view))


def test_it_compiles_once(small_clutter):
  traces = []

  @jax.jit
  def draw(scene, view):
    traces.append(1)
    return render(scene, view, OPTIONS, ('segmentation',)).segmentation

  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  draw(scene, view)
  moved = view.replace(position=view.position + 0.5, yaw=view.yaw - 1.0, tan_pitch=view.tan_pitch + 0.1)
  with jax.transfer_guard('disallow'):
    draw(scene, moved)
  assert len(traces) == 1


def empty(scene):
  parts = {n: getattr(scene, n).replace(high=getattr(scene, n).low) for n in ('boxes', 'cylinders', 'capsules')}
  return scene.replace(**parts)


def test_empty_slots_are_never_seen(small_clutter, pictures):
  scene, view = small_clutter
  pictures_of_nothing = pictures(empty(scene), view)
  assert (pictures_of_nothing.segmentation >= 128).all()
  # ... wherever they are said to be, also around the camera, with whatever size.
  parts = jax.tree.map(np.array, empty(scene))
  for part in (parts.boxes, parts.cylinders, parts.capsules):
    part.x[:], part.y[:] = np.asarray(view.position)[:, :1] + 0.1, np.asarray(view.position)[:, 1:2]
    part.low[:], part.high[:] = 2.0, -1.0
  parts.boxes.half_x[:] = parts.cylinders.radius[:] = parts.capsules.radius[:] = 1.0
  again = pictures(parts, view)
  jax.tree.map(np.testing.assert_array_equal, pictures_of_nothing, again)


def test_a_camera_inside_a_thing_looks_out_of_it(small_clutter, pictures):
  scene, view = small_clutter
  inside = jax.tree.map(np.array, empty(scene))
  eye = np.asarray(view.position)
  for part, slot in ((inside.boxes, 0), (inside.cylinders, 0), (inside.capsules, 0)):
    part.x[:, slot], part.y[:, slot], part.low[:, slot], part.high[:, slot] = eye[:, 0], eye[:, 1], 0.0, 3.0
  inside.boxes.half_x[:] = inside.boxes.half_y[:] = inside.cylinders.radius[:] = inside.capsules.radius[:] = 0.7
  a, b = (pictures(s, view, ('segmentation', 'depth')) for s in (inside, empty(scene)))
  np.testing.assert_array_equal(a.segmentation, b.segmentation)
  np.testing.assert_array_equal(a.depth, b.depth)


def test_without_shadow_only_the_ground_changes(small_clutter, pictures):
  scene, view = small_clutter
  dark, bright = (pictures(scene, view, shadow=shadow) for shadow in (True, False))
  changed = (dark.rgb != bright.rgb).any(-1)
  assert changed.any()
  assert ((dark.segmentation[changed] >= 128) & (dark.segmentation[changed] != SKY)).all()
  assert (dark.rgb <= bright.rgb).all()


def test_light_reaches_the_picture(small_clutter, pictures):
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  mean = lambda s, channel=slice(None): pictures(s, view, ('rgb',)).rgb[..., channel].mean()
  lit = lambda **changes: scene.replace(light=scene.light.replace(**changes))
  assert mean(lit(exposure=scene.light.exposure * 0.5)) < 0.85 * mean(scene)
  assert mean(lit(sun_strength=scene.light.sun_strength * 0.2)) < mean(scene)
  red = jnp.array([1.0, 0.5, 0.5])
  assert mean(lit(white_balance=jnp.broadcast_to(red, (5, 3))), 2) < 0.85 * mean(scene, 2)
  assert mean(lit(white_balance=jnp.broadcast_to(red, (5, 3))), 0) == pytest.approx(mean(scene, 0))


def test_fog_swallows_what_is_far(small_clutter, pictures):
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  thick = scene.replace(light=scene.light.replace(fog=jnp.full(5, 5.0)))
  drawn = pictures(thick, view)
  far = (drawn.depth > 3) & (drawn.segmentation != SKY)
  horizon = drawn.rgb[far].reshape(-1, 3).astype(int)
  assert horizon.std(0).max() < 40  # five horizons of one colour each
  for i in range(5):
    inside = drawn.rgb[i][far[i]].astype(int)
    assert np.ptp(inside, 0).max() <= 3


def test_a_lens_shift_moves_the_horizon(small_clutter, pictures):
  scene, view = jax.tree.map(jnp.asarray, small_clutter)
  level, down = (
    pictures(empty(scene), view.replace(tan_pitch=jnp.full(5, t)), ('segmentation',)).segmentation
    for t in (0.0, 10 * 2 / 80)
  )
  np.testing.assert_array_equal(level[:, 10:], down[:, :-10])
  assert (level == SIDEWALK).any()
