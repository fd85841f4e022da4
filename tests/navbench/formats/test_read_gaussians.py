"""What holds for every format: which gaussians are left out, what is refused, how files are told apart."""

import struct
import time

import numpy as np
import pytest

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.formats.read import read_gaussians, write_ply
from s2e_jax.navbench.formats.stored import Stored, join, usable


def simple(num=20):
  rotation = np.zeros((num, 4), np.float32)
  rotation[:, 0] = 2
  return Gaussians(
    mean=np.arange(num * 3, dtype=np.float32).reshape(num, 3),
    scale=np.full((num, 3), 0.1, np.float32),
    rotation=rotation,
    opacity=np.full(num, 0.5, np.float32),
    sh=np.zeros((num, 4, 3), np.float32),
  )


def with_faults():
  given = simple()
  given.mean[0, 1] = np.nan
  given.scale[1, 2] = np.inf
  given.sh[2, 3, 1] = np.nan
  given.rotation[3, 2] = -np.inf
  given.opacity[4] = np.nan
  given.rotation[5] = 0
  given.opacity[6] = 0
  given.scale[7, 0] = 0
  given.scale[8, 1] = 2e4
  given.mean[9, 2] = -2e6
  return given


def test_faulty_gaussians_are_dropped_and_counted_under_their_first_reason(tmp_path):
  given = with_faults()
  given.opacity[5] = -1  # a zero quaternion too
  found, report = usable(Stored(given, 'x', ''), tmp_path)
  assert report.dropped == {
    'non_finite': 5,
    'zero_quaternion': 1,
    'non_positive_opacity': 1,
    'non_positive_scale': 1,
    'absurd_scale': 1,
    'absurd_position': 1,
  }
  assert (report.num_read, report.num_dropped, report.num_kept, found.num) == (20, 10, 10, 10)
  np.testing.assert_array_equal(found.mean, simple().mean[10:])
  np.testing.assert_array_equal(found.rotation, [[1, 0, 0, 0]] * 10)
  assert [getattr(found, f).dtype for f in ('mean', 'scale', 'rotation', 'opacity', 'sh')] == [np.float32] * 5


def test_faults_in_a_file_are_counted(tmp_path):
  path = write_ply(tmp_path / 'a.ply', simple())
  rows = bytearray(path.read_bytes())
  at = rows.index(b'end_header\n') + 11
  size = (len(rows) - at) // 20
  rows[at : at + 4] = struct.pack('<f', np.nan)
  rows[at + size + size - 4 * 5 : at + size + size - 4 * 4] = struct.pack('<f', 20)  # scale_2 = e^20
  rows[at + 3 * size - 16 : at + 3 * size] = bytes(16)
  path.write_bytes(bytes(rows))
  found, report = read_gaussians(path)
  assert report.dropped == {'non_finite': 1, 'zero_quaternion': 1, 'absurd_scale': 1}
  assert found.num == 17


def test_a_file_without_usable_gaussians_or_mostly_broken_is_refused(tmp_path):
  path = tmp_path / 'a'
  empty = simple().replace(opacity=np.zeros(20, np.float32))
  with pytest.raises(ValueError, match=r'no usable gaussian \(non_positive_opacity 20\)'):
    usable(Stored(empty, 'x', ''), path)
  mostly = simple()
  mostly.mean[:11] = np.nan
  with pytest.raises(ValueError, match='11 of 20 gaussians that cannot be'):
    usable(Stored(mostly, 'x', ''), path)
  mostly.mean[10] = 0
  assert usable(Stored(mostly, 'x', ''), path)[0].num == 10


def test_records_of_different_degrees_are_joined(tmp_path):
  both = join([simple(2), simple(3).replace(sh=np.ones((3, 1, 3), np.float32))])
  assert both.num == 5 and both.sh_degree == 1
  np.testing.assert_array_equal(both.sh[2:], [[[1] * 3, [0] * 3, [0] * 3, [0] * 3]] * 3)


def test_more_gaussians_than_wanted_are_refused_by_number(tmp_path):
  path = write_ply(tmp_path / 'a.ply', simple())
  with pytest.raises(ValueError, match=r'20 gaussians, more than max_gaussians=19; .*level'):
    read_gaussians(path, max_gaussians=19)
  assert read_gaussians(path, max_gaussians=20)[0].num == 20


def test_a_level_of_a_file_without_levels_is_refused(tmp_path):
  with pytest.raises(ValueError, match='level=0 is for streamed SOG'):
    read_gaussians(write_ply(tmp_path / 'a.ply', simple()), level=0)


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.ply', b'', '0 bytes'),
    ('a.ply', b'PLY but not really', 'bytes that begin'),
    ('a.png', b'\x89PNG\r\n\x1a\n' + bytes(56), 'bytes that begin'),
    ('a.ply', b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    ('a.zip', b'PK\x03\x04' + bytes(50), 'damaged zip'),
    ('a.json', b'{"scene": 1}', 'without a count'),
    ('a.bin', bytes(64), 'bytes that begin'),
  ],
)
def test_foreign_files_are_refused_by_what_they_hold(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError, match=message):
    read_gaussians(tmp_path / name)


def test_missing_paths_and_folders_of_other_things_are_refused(tmp_path):
  with pytest.raises(ValueError, match='check the path'):
    read_gaussians(tmp_path / 'gone.ply')
  with pytest.raises(ValueError, match=r'lod-meta\.json'):
    read_gaussians(tmp_path)


def test_the_content_decides_and_not_the_suffix(tmp_path):
  path = write_ply(tmp_path / 'a.splat', simple())
  assert read_gaussians(str(path))[1].format == '3dgs ply'


def test_two_hundred_thousand_gaussians_take_no_loop_over_them(tmp_path):
  many = simple(200_000)
  path = write_ply(tmp_path / 'a.ply', many)
  start = time.process_time()
  found, _ = read_gaussians(path)
  # about 0.1 s; one Python step per gaussian would take longer than this
  assert time.process_time() - start < 3
  assert found.num == 200_000
