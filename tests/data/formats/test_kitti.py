"""KITTI folders: the published tree written by the test, and a real sequence."""

import csv

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from s2e_jax.data.clips import Clip
from s2e_jax.data.formats import base
from s2e_jax.data.formats.options import Options


def camera_poses(count):
  """[N, 12] rows and what they mean: x ahead, y left, yaw; a car that turns left while driving."""
  yaw = 0.02 * np.arange(count)
  ahead, left = 0.9 * np.arange(count), 0.05 * np.arange(count) ** 1.5
  rotation = Rotation.from_euler('Y', -yaw[:, None]).as_matrix()  # camera y points down: left is negative
  translation = np.stack([-left, 0 * left, ahead], axis=1)
  return np.concatenate([rotation, translation[:, :, None]], axis=2).reshape(count, 12), ahead, left, yaw


@pytest.fixture
def tree(tmp_path, files):
  """Writes ROOT/sequences/NN/{image_0,image_2,calib.txt,times.txt} and ROOT/poses/NN.txt; returns ROOT."""

  def make(name='07', count=20, with_poses=True):
    sequence = tmp_path / 'kitti' / 'sequences' / name
    for folder in ('image_0', 'image_2'):
      (sequence / folder).mkdir(parents=True)
      for i in range(count):
        image = files.numbered(i)
        data = files.png_bytes(image[..., 0] if folder == 'image_0' else image)
        (sequence / folder / f'{i:06d}.png').write_bytes(data)
    lines = [f'P{k}: {30 + k} 0 20 {-k} 0 {31 + k} 12 0 0 0 1 0' for k in range(4)]
    (sequence / 'calib.txt').write_text('\n'.join([*lines, 'Tr: 1 0 0 0 0 1 0 0 0 0 1 0']))
    (sequence / 'times.txt').write_text('\n'.join(f'{0.2 * i + 0.01 * (i % 3):.6e}' for i in range(count)))
    if with_poses:
      (tmp_path / 'kitti' / 'poses').mkdir(exist_ok=True)
      np.savetxt(tmp_path / 'kitti' / 'poses' / f'{name}.txt', camera_poses(count)[0])
    return tmp_path / 'kitti'

  return make


def read_all(src, **options):
  tally = base.Tally()
  return list(base.read('kitti', src, Options(**options), tally)), tally


def test_the_published_tree_is_read(tree, files):
  (clip,), tally = read_all(tree(), rate=0)
  _, ahead, left, yaw = camera_poses(20)
  assert clip.clip_id == '07' and clip.embodiment == 'car' and not clip.is_rate_assumed and not tally.dropped
  np.testing.assert_allclose(clip.stamps, [0.2 * i + 0.01 * (i % 3) for i in range(20)], atol=1e-6)
  np.testing.assert_allclose(clip.position + np.array(clip.origin), np.stack([ahead, left], axis=1), atol=1e-5)
  np.testing.assert_allclose(clip.yaw, yaw, atol=1e-6)
  assert [files.number_of(f) for f in clip.frames] == list(range(20))
  camera = clip.camera
  assert (camera.fx, camera.fy, camera.cx, camera.cy) == (32, 33, 20, 12)  # P2 of image_2
  assert (camera.width, camera.height, camera.model, camera.mount_height) == (40, 24, 'pinhole', 1.65)


def test_grey_images_can_be_chosen(tree, files):
  (clip,), _ = read_all(tree(), rate=0, images='image_0')
  assert clip.camera.fx == 30
  image = cv2.imdecode(np.frombuffer(clip.frames[3], np.uint8), cv2.IMREAD_UNCHANGED)
  assert image.shape == (24, 40, 3) and files.number_of(clip.frames[3]) == 3


def test_a_missing_picture_does_not_shift_the_others(tree, files):
  root = tree()
  (root / 'sequences' / '07' / 'image_2' / '000006.png').unlink()
  (clip,), tally = read_all(root, rate=0)
  kept = [i for i in range(20) if i != 6]
  assert [files.number_of(f) for f in clip.frames] == kept and tally.dropped == {'missing_image': 1}
  np.testing.assert_allclose(clip.yaw, camera_poses(20)[3][kept], atol=1e-6)


def test_pictures_without_poses_are_dropped_and_counted(tree):
  root = tree()
  rows = (root / 'poses' / '07.txt').read_text().splitlines()
  (root / 'poses' / '07.txt').write_text('\n'.join(rows[:19]))
  (clip,), tally = read_all(root, rate=0)
  assert len(clip) == 19 and tally.dropped == {'image_without_pose': 1}


def test_without_times_the_rate_is_assumed(tree):
  root = tree(count=50)
  (root / 'sequences' / '07' / 'times.txt').unlink()
  (clip,), _ = read_all(root, rate=0)
  assert clip.is_rate_assumed
  np.testing.assert_allclose(clip.stamps, 0.1 * np.arange(50))
  (clip,), _ = read_all(root, rate=0, nominal_rate=5.0)
  np.testing.assert_allclose(clip.stamps, 0.2 * np.arange(50))


def test_broken_sequences_are_counted_skips(tree):
  root = tree('00')
  tree('01', with_poses=False)
  tree('02')
  tree('03')
  tree('04')
  (root / 'poses' / '02.txt').write_text('1 2 3\n')
  (root / 'sequences' / '03' / 'calib.txt').write_text('nothing')
  times = (root / 'sequences' / '04' / 'times.txt').read_text().splitlines()
  times[5], times[6] = times[6], times[5]
  (root / 'sequences' / '04' / 'times.txt').write_text('\n'.join(times))
  found, _ = read_all(root)
  assert isinstance(found[0], Clip)
  assert [s.reason for s in found[1:]] == ['missing_poses', 'bad_pose_file', 'bad_calibration', 'unsorted_stamps']


def test_the_first_picture_may_be_damaged(tree):
  root = tree()
  (root / 'sequences' / '07' / 'image_2' / '000000.png').write_bytes(b'')
  (clip,), tally = read_all(root, rate=0)
  assert len(clip) == 19 and tally.dropped == {'bad_image': 1} and clip.camera.fx == 32


def test_the_real_sequence_06_equals_its_planar_table(shared_data):
  root = shared_data / 'video' / 'kitti_odometry_06'
  (clip,), tally = read_all(root, rate=0)
  with open(root / 'poses_planar_derived.csv') as file:
    rows = np.array([[float(v) for v in list(r.values())[1:]] for r in csv.DictReader(file)])
  assert len(clip) == 51 and not tally.dropped and clip.is_rate_assumed
  np.testing.assert_allclose(clip.stamps, rows[:, 0], atol=1e-9)
  np.testing.assert_allclose(clip.position + np.array(clip.origin), rows[:, 1:3], atol=1e-4)
  np.testing.assert_allclose(clip.yaw, rows[:, 3], atol=2e-5)
  assert clip.camera.fx == pytest.approx(707.0912) and clip.camera.cx == pytest.approx(601.8873)
  png = cv2.imread(str(root / 'image_l' / '000007.png'), cv2.IMREAD_COLOR)
  jpeg = cv2.imdecode(np.frombuffer(clip.frames[7], np.uint8), cv2.IMREAD_COLOR)
  assert png.shape == jpeg.shape == (clip.camera.height, clip.camera.width, 3)
  assert np.abs(png.astype(float) - jpeg).mean() < 2
  (at_4_hz,), _ = read_all(root)
  assert len(at_4_hz) == 21 and np.abs(at_4_hz.stamps - 0.25 * np.arange(21)).max() <= 0.0501
