"""The shipped scenes load and still look like the blocks they were fitted to; making one gives its files again."""

import numpy as np
import pytest

from s2e_jax.navbench.blocks import BLOCKS, make_block
from s2e_jax.navbench.blocks_shipped import FOLDER, load_shipped, shipped_names
from s2e_jax.navbench.capture import capture, sample_views
from s2e_jax.navbench.fit import FitOptions, judge
from s2e_jax.navbench.make_scenes import Settings, contact_sheet, make_scene

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SHIPPED = shipped_names()
MOST_BYTES = 8e6
SIZE = (24, 40)
NEAREST = 6  # fewer than the truth has, but soon compiled


def test_every_block_is_shipped_and_all_of_them_are_small():
  assert set(SHIPPED) == set(BLOCKS)
  assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_scene_is_what_its_facts_say(name):
  scene = load_shipped(name)
  facts = scene.facts
  assert scene.path.stat().st_size == facts['num_bytes']
  assert scene.gaussians.num == facts['num_gaussians'] and scene.gaussians.sh_degree == 0
  assert (facts['up'], facts['scale'], facts['name']) == ('z', 1.0, name)
  assert facts['bounds'] == pytest.approx(scene.block.bounds)
  assert facts['start'] == pytest.approx(scene.block.start)
  held_out = facts['held_out']
  assert held_out['after']['psnr'] >= held_out['before']['psnr'] + 2
  assert held_out['after']['depth_error'] <= held_out['before']['depth_error']
  np.testing.assert_allclose(np.asarray(scene.light.sun), np.asarray(scene.block.scene.light.sun), atol=1e-6)
  # z is up, the ground is at 0 and the things are inside the block and its walls
  x0, x1, y0, y1 = facts['bounds']
  mean = scene.gaussians.mean
  on_ground = np.abs(mean[:, 2]) < 0.1
  assert on_ground.mean() > 0.1 and np.median(np.abs(mean[on_ground, 2])) < 0.02
  inside = (mean[:, 0] > x0 - 5) & (mean[:, 0] < x1 + 5) & (mean[:, 1] > y0 - 5) & (mean[:, 1] < y1 + 5)
  assert inside.mean() > 0.95


# one outdoors, one indoors; all take the same path
@pytest.mark.parametrize('name', ['alley', 'rooms'])
def test_a_shipped_scene_looks_like_fresh_pictures_of_its_block(name):
  scene = load_shipped(name)
  fresh = capture(scene.block, sample_views(scene.block, 8, seed=77), *SIZE, NEAREST)
  quality = judge(scene.gaussians, fresh)
  assert quality.psnr > 20
  assert quality.depth_error < 0.03


def test_an_unknown_scene_is_refused_with_those_there_are():
  with pytest.raises(ValueError, match="'nowhere' must be one of"):
    load_shipped('nowhere')


def test_making_a_scene_writes_files_that_load_and_are_the_same_again(tmp_path):
  settings = Settings(512, 8, SIZE, 4, SIZE, NEAREST, FitOptions(steps=4))
  lines = []
  made = make_scene('rooms', tmp_path / 'a', 1, settings, lines.append)
  make_scene('rooms', tmp_path / 'b', 1, settings, lines.append)
  for name in ('rooms.spz', 'rooms.json'):
    assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
  loaded = load_shipped('rooms', tmp_path / 'a')
  assert loaded.block.seed == 1 and loaded.facts == made.facts
  assert loaded.gaussians.num == made.gaussians.num <= 512
  again = make_block('rooms', 1).scene.boxes
  np.testing.assert_array_equal(np.asarray(loaded.block.scene.boxes.x), np.asarray(again.x))
  assert contact_sheet(made, num=2, enlarged=1).shape == (48, 120, 3)
  assert 'held-out PSNR' in lines[-1]
