"""Tilted boxes of the ray caster against MuJoCo's own ray casting."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from experiments.render.clutter import clutter
from s2e_jax.render.render import RenderOptions, render
from s2e_jax.render.tilted import TiltedBoxes
from s2e_jax.render.view import column_slopes, rows_of
from s2e_jax.scene import Slots, num_slots

SIZE = RenderOptions(height=36, width=64, backend='raycast')


@pytest.fixture(scope='module')
def scenes():
  """Two cluttered scenes and views, five tilted boxes in front of each camera, one slot empty."""
  scene, view = clutter(2, Slots(7, 4, 3, 2), seed=5)
  rng = np.random.default_rng(2)
  ahead = np.stack([np.cos(view.yaw), np.sin(view.yaw)], -1)[:, None]
  left = np.stack([-np.sin(view.yaw), np.cos(view.yaw)], -1)[:, None]
  far, side = rng.uniform(2, 9, (2, 5, 1)), rng.uniform(-2.5, 2.5, (2, 5, 1))
  flat = np.asarray(view.position)[:, None, :2] + far * ahead + side * left
  position = np.concatenate([flat, rng.uniform(0.2, 1.2, (2, 5, 1))], -1)
  half = rng.uniform(0.1, 0.5, (2, 5, 3))
  half[:, 4] = 0
  rotation = Rotation.random(10, rng=rng).as_matrix().reshape(2, 5, 3, 3)
  fields = position, rotation, half, rng.uniform(0.2, 0.9, (2, 5, 3))
  boxes = TiltedBoxes(*(jnp.asarray(x, jnp.float32) for x in fields))
  return scene, view, boxes


def test_depth_and_objects_are_those_of_mujocos_rays(scenes):
  scene, view, boxes = scenes
  draw = jax.jit(lambda *x: render(x[0], x[1], SIZE, ('rgb', 'segmentation', 'depth'), x[2]))
  with_boxes = jax.tree.map(np.asarray, draw(scene, view, boxes))
  without = jax.tree.map(np.asarray, draw(scene, view, boxes.replace(half=0 * boxes.half)))
  rows = np.asarray(rows_of(view, SIZE.height, SIZE.width, 0.0).slopes(SIZE.height))
  columns = np.asarray(column_slopes(view, SIZE.width))
  for b in range(2):
    geoms = []
    for i in range(4):
      quat = Rotation.from_matrix(np.asarray(boxes.rotation[b, i], np.float64)).as_quat(scalar_first=True)
      text = lambda x: ' '.join(f'{v:.9g}' for v in np.asarray(x, np.float64))
      where = f'pos="{text(boxes.position[b, i])}" quat="{text(quat)}"'
      geoms.append(f'<geom type="box" size="{text(boxes.half[b, i])}" {where}/>')
    model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{"".join(geoms)}</worldbody></mujoco>')
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    yaw = float(view.yaw[b])
    for r in range(SIZE.height):
      for c in range(SIZE.width):
        u = columns[b, c]
        ray = np.array([np.cos(yaw) + u * np.sin(yaw), np.sin(yaw) - u * np.cos(yaw), rows[b, r]])
        length = np.linalg.norm(ray)
        which = np.zeros(1, np.int32)
        hit = mujoco.mj_ray(
          model, data, np.asarray(view.position[b], np.float64), ray / length, None, 1, -1, which
        )
        depth, behind = hit / length, without.depth[b, r, c]
        if hit > 0 and (behind == 0 or depth < behind - 1e-4):
          assert with_boxes.segmentation[b, r, c] == num_slots(scene) + which[0]
          assert with_boxes.depth[b, r, c] == pytest.approx(depth, rel=1e-4)
        elif hit < 0 or depth > behind + 1e-4:
          assert with_boxes.depth[b, r, c] == behind
          assert with_boxes.segmentation[b, r, c] == without.segmentation[b, r, c]
  is_askew = (with_boxes.segmentation >= num_slots(scene)) & (with_boxes.segmentation < 128)
  assert is_askew.mean() > 0.03
  assert len(np.unique(with_boxes.rgb[is_askew], axis=0)) > 6  # faces are lit by where they look


def test_the_fast_renderer_refuses_them(scenes):
  scene, view, boxes = scenes
  with pytest.raises(ValueError, match="backend='column' draws upright things only"):
    render(scene, view, RenderOptions(), ('rgb',), boxes)
