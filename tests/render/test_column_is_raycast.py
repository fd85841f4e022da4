import jax
import numpy as np
import pytest

from experiments.render.clutter import clutter
from s2e_jax.scene import CROSSING, CURB, GRASS, ROAD, SIDEWALK, SKY, SLOTS


@pytest.fixture(scope='module')
def both(small_clutter, pictures):
  scene, view = small_clutter
  view = view.replace(
    tan_pitch=np.linspace(-0.1, 0.3, 5, dtype=np.float32), half_width=np.linspace(0.7, 1.4, 5, dtype=np.float32)
  )
  return [pictures(scene, view, backend=backend) for backend in ('column', 'raycast')]


def test_every_pixel_shows_the_same_thing(both):
  column, cast = both
  assert set(np.unique(cast.segmentation)) >= {SKY, ROAD, CURB, SIDEWALK, GRASS, CROSSING}
  assert np.mean(column.segmentation != cast.segmentation) < 3e-4


def test_depth_agrees(both):
  column, cast = both
  same = column.segmentation == cast.segmentation
  sky = cast.segmentation == SKY
  assert (cast.depth[sky] == 0).all() and (column.depth[same & sky] == 0).all()
  a, b = column.depth[same & ~sky], cast.depth[same & ~sky]
  error = np.abs(a - b) / b
  assert np.median(error) < 1e-6
  assert np.quantile(error, 0.99) < 1e-3
  # Where a curb's face begins and ends it is a secant against a bisection.
  assert np.mean(error > 1e-2) < 2e-3


def test_colours_agree(both):
  column, cast = both
  same = column.segmentation == cast.segmentation
  error = np.abs(column.rgb.astype(int) - cast.rgb).max(-1)
  objects, ground = cast.segmentation < 128, (cast.segmentation >= 128) & (cast.segmentation != SKY)
  assert np.mean(error[same & objects] > 8) < 1e-3
  assert (error[same & (cast.segmentation == SKY)] <= 2).all()
  # Joints, and shadows of half the resolution.
  assert np.mean(error[same & ground] > 8) < 0.02


def test_what_lies_too_deep_in_a_column_is_all_that_is_lost(pictures):
  scene, view = clutter(4, SLOTS['standard'], seed=5)
  cast = pictures(scene, view, ('segmentation',), backend='raycast').segmentation
  lost = []
  for nearest in (2, 8):
    column = pictures(scene, view, ('segmentation',), nearest=nearest).segmentation
    lost.append((column != cast).mean())
    # Ground and sky never come in place of one another.
    assert (np.minimum(cast, column)[column != cast] < scene.kind.shape[1]).all()
  assert lost[0] > 5 * lost[1] and lost[0] > 0.005 and lost[1] < 3e-3


def test_exact_pitch_is_the_oracles_but_for_the_nearest_column(small_clutter, pictures):
  scene, view = small_clutter
  column, cast = (
    pictures(scene, view, ('segmentation', 'depth'), exact_pitch=0.2, backend=b) for b in ('column', 'raycast')
  )
  assert np.mean(column.segmentation != cast.segmentation) < 0.025
  same = (column.segmentation == cast.segmentation) & (cast.segmentation != SKY)
  assert np.median(np.abs(column.depth[same] - cast.depth[same]) / cast.depth[same]) < 1e-5


def test_things_overhead_are_drawn_though_the_camera_is_in_their_outline(small_clutter, pictures):
  scene, view = small_clutter
  scene = jax.tree.map(np.array, scene)
  x, y = np.asarray(view.position)[:, 0], np.asarray(view.position)[:, 1]
  for part, slot in ((scene.boxes, 2), (scene.cylinders, 1), (scene.capsules, 7)):
    part.x[:, slot], part.y[:, slot], part.low[:, slot] = x + 0.2, y - 0.1, 2.2
    part.high[:, slot] = 2.2 + (3.0 if part is scene.capsules else 0.2)
  scene.boxes.half_x[:, 2] = scene.boxes.half_y[:, 2] = 3.0
  scene.cylinders.radius[:, 1], scene.capsules.radius[:, 7] = 1.0, 1.5
  scene.boxes.high[:, 2] = 2.4
  view = view.replace(half_width=np.full(5, 2.0, np.float32), tan_pitch=np.full(5, -1.5, np.float32))
  for shown in (2, 8):
    column, cast = (pictures(scene, view, backend=b) for b in ('column', 'raycast'))
    assert (cast.segmentation == shown).any()
    assert np.mean(column.segmentation != cast.segmentation) < 1e-3
    scene.boxes.high[:, 2] = 0
