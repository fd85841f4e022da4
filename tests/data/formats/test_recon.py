"""RECON recordings: HDF5 files in the published layout, written by the test."""

import h5py
import numpy as np
import pytest

from s2e_jax.data.clips import Clip
from s2e_jax.data.formats import base
from s2e_jax.data.formats.options import Options


def write(path, position, yaw, images, kind='vlen'):
  with h5py.File(path, 'w') as file:
    file['jackal/position'] = np.concatenate([position, np.ones((len(position), 1))], axis=1)
    file['jackal/yaw'] = yaw
    if kind == 'vlen':
      data = file.create_dataset('images/rgb_left', (len(images),), h5py.vlen_dtype(np.uint8))
      for i, image in enumerate(images):
        data[i] = np.frombuffer(image, np.uint8)
    elif kind == 'fixed':
      file['images/rgb_left'] = np.array(images, dtype='S')
    else:
      longest = max(map(len, images))
      file['images/rgb_left'] = np.array([np.void(i.ljust(longest, b'\0')) for i in images])
    file['jackal/linear_velocity'] = np.zeros(len(yaw))


def read_all(src, **options):
  tally = base.Tally()
  return list(base.read('recon', src, Options(**options), tally)), tally


@pytest.mark.parametrize('kind', ['vlen', 'fixed', 'void'])
def test_a_recording_becomes_a_clip(tmp_path, files, arc, kind):
  position, yaw = arc(21)
  images = [files.jpeg_bytes(files.numbered(i, 48, 64)) for i in range(21)]
  write(tmp_path / 'jackal_2019-08-02-16-23-29_0.hdf5', position, yaw, images, kind)
  (clip,), tally = read_all(tmp_path)
  assert clip.clip_id == 'jackal_2019-08-02-16-23-29_0' and clip.source == 'recon' and clip.is_rate_assumed
  np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-6)
  np.testing.assert_allclose(clip.yaw, yaw, atol=1e-6)
  np.testing.assert_allclose(clip.stamps, 0.25 * np.arange(21))
  assert [files.number_of(f) for f in clip.frames] == list(range(21)) and not tally.dropped
  camera = clip.camera  # a tenth of the published 640 x 480
  np.testing.assert_allclose(
    (camera.fx, camera.fy, camera.cx, camera.cy), (27.2547, 26.6358, 32.0, 22.0), rtol=1e-9
  )
  assert (camera.mount_height, camera.width, camera.height) == (0.95, 64, 48)


def test_broken_recordings_are_counted_skips(tmp_path, files, arc):
  position, yaw = arc(20)
  images = [files.jpeg_bytes(files.numbered(i, 48, 64)) for i in range(20)]
  for name in ('a', 'b', 'c', 'd', 'e', 'f'):
    write(tmp_path / f'{name}.hdf5', position, yaw, images)
  (tmp_path / 'b.hdf5').write_bytes((tmp_path / 'b.hdf5').read_bytes()[:3000])
  (tmp_path / 'c.hdf5').write_bytes(b'')
  with h5py.File(tmp_path / 'd.hdf5', 'a') as file:
    del file['jackal/yaw']
  write(tmp_path / 'e.hdf5', position, np.full(20, np.nan), images)
  write(tmp_path / 'f.hdf5', position[:9], yaw[:9], images)
  found, _ = read_all(tmp_path)
  assert isinstance(found[0], Clip)
  assert [s.reason for s in found[1:]] == ['bad_hdf5', 'bad_hdf5', 'bad_hdf5', 'nan_pose', 'too_short']


def test_pictures_and_poses_of_unlike_number_are_cut_to_the_shorter(tmp_path, files, arc):
  position, yaw = arc(20)
  images = [files.jpeg_bytes(files.numbered(i, 48, 64)) for i in range(22)]
  write(tmp_path / 'more.hdf5', position, yaw, images)
  write(tmp_path / 'fewer.hdf5', position, yaw, images[:17])
  (fewer, more), tally = read_all(tmp_path)
  assert (len(fewer), len(more)) == (17, 20)
  assert tally.dropped == {'image_without_pose': 2, 'missing_image': 3}
