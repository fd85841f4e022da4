"""The column renderer against mujoco.Renderer, which we did not write."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.render.clutter import clutter, mjcf

HEIGHT, WIDTH = 96, 192
PROBE = 'import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8)'


@pytest.fixture(scope='module')
def mujoco():
  """MuJoCo with a renderer that starts (a failing one can kill its process); skips where there is none."""
  probe = subprocess.run([sys.executable, '-c', PROBE], capture_output=True, text=True)
  if probe.returncode:
    gl = os.environ.get('MUJOCO_GL', 'not set')
    pytest.skip(
      f'mujoco.Renderer does not start, MUJOCO_GL is {gl} (apt install libosmesa6): {probe.stderr[-200:]}'
    )
  return pytest.importorskip('mujoco')


def drawn_by_mujoco(mujoco, scene, view, pitch=0.0):
  """(segmentation: slot or 255, depth) of one scene."""
  model = mujoco.MjModel.from_xml_string(mjcf(scene, view, HEIGHT, WIDTH, pitch=pitch))
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  slots = np.full(model.ngeom + 1, 255)
  for i in range(scene.kind.shape[0]):
    slots[model.geom(f'p{i}').id] = i
  renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
  renderer.enable_segmentation_rendering()
  renderer.update_scene(data, camera='c')
  segmentation = slots[renderer.render()[..., 0]]
  renderer.disable_segmentation_rendering()
  renderer.enable_depth_rendering()
  renderer.update_scene(data, camera='c')
  depth = renderer.render().copy()
  renderer.close()
  return segmentation, depth


def compare(mujoco, pictures, num, seed, pitch=0.0):
  """(share of pixels with another object [num], median relative error of depth [num])."""
  scene, view = clutter(num, seed=seed)
  size = {'height': HEIGHT, 'width': WIDTH, 'nearest': 8}
  ours = pictures(scene, view, ('segmentation', 'depth'), exact_pitch=pitch, **size)
  mismatch, error = [], []
  for i in range(num):
    one = jax.tree.map(lambda x, i=i: np.asarray(x)[i], (scene, view))
    segmentation, depth = drawn_by_mujoco(mujoco, *one, pitch=pitch)
    mine = np.where(ours.segmentation[i] < 128, ours.segmentation[i], 255)
    mismatch.append(np.mean(mine != segmentation))
    both = (mine == segmentation) & (ours.depth[i] > 0) & (depth < 60)
    error.append(np.median(np.abs(ours.depth[i] - depth)[both] / depth[both]))
  return np.array(mismatch), np.array(error)


def test_objects_and_depth_are_mujocos(mujoco, pictures):
  mismatch, error = compare(mujoco, pictures, 12, seed=11)
  assert mismatch.mean() < 1e-3
  assert np.median(error) < 1e-5 and error.max() < 1e-5


def test_a_pitched_camera_sees_what_mujocos_sees(mujoco, pictures):
  mismatch, error = compare(mujoco, pictures, 3, seed=4, pitch=0.15)
  # Columns of a pitched image are picked from those of a level one: edges are off by up to half a pixel.
  assert mismatch.mean() < 0.012
  assert error.max() < 1e-5
