"""GNM folders: the published layout with all its traps, and real recordings."""

import csv
import pickle

import numpy as np
import pytest

from s2e_jax.data.clips import Clip, Skip
from s2e_jax.data.formats import base
from s2e_jax.data.formats.options import Options


@pytest.fixture
def write(tmp_path, files):
  """Writes src/NAME/{0..}.jpg and traj_data.pkl; returns src."""

  def make(name, position, yaw, num_images=None, sizes=None):
    folder = tmp_path / 'src' / name
    folder.mkdir(parents=True)
    for i in range(len(position) if num_images is None else num_images):
      height, width = sizes[i] if sizes else (24, 40)
      (folder / f'{i}.jpg').write_bytes(files.jpeg_bytes(files.numbered(i, height, width)))
    (folder / 'traj_data.pkl').write_bytes(pickle.dumps({'position': position, 'yaw': yaw}))
    return tmp_path / 'src'

  return make


def read_all(src, **options):
  tally = base.Tally()
  return list(base.read('gnm', src, Options(**options), tally)), tally


def test_a_folder_becomes_a_clip(write, arc, files):
  position, yaw = arc(23)
  (clip,), tally = read_all(
    write('drive_1', position, yaw), licence='CC0', embodiment='wheeled', footprint='0.7x0.5'
  )
  assert clip.clip_id == 'drive_1' and clip.source == 'src' and clip.licence == 'CC0'
  assert clip.is_rate_assumed and clip.is_metric and (clip.footprint.length, clip.footprint.width) == (0.7, 0.5)
  np.testing.assert_allclose(clip.stamps, 0.25 * np.arange(23))
  np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-6)
  np.testing.assert_allclose(clip.yaw, yaw, atol=1e-6)
  assert [files.number_of(f) for f in clip.frames] == list(range(23))
  assert clip.frames[4] == files.jpeg_bytes(files.numbered(4))  # not re-encoded
  assert (clip.camera.width, clip.camera.height, clip.camera.model) == (40, 24, 'unknown')
  assert not tally.dropped


@pytest.mark.parametrize(
  'form', ['lists', 'object', 'column', 'object_column', 'object_rows', 'three_d', 'float32']
)
def test_all_forms_of_poses_are_read_alike(write, arc, form):
  position, yaw = arc(19)
  forms = {
    'lists': (position.tolist(), yaw.tolist()),
    'object': (position.astype(object), yaw.astype(object)),
    'column': (position, yaw[:, None]),
    'object_column': (position.astype(object), yaw[:, None].astype(object)),
    'object_rows': ([*position], [*yaw[:, None]]),
    'three_d': (np.concatenate([position, np.full((19, 1), 7.0)], axis=1), yaw),
    'float32': (position.astype(np.float32), yaw.astype(np.float32)),
  }
  (clip,), _ = read_all(write('a', *forms[form]))
  np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-5)
  np.testing.assert_allclose(clip.yaw, yaw, atol=1e-5)


def test_nan_yaw_frames_are_dropped_and_counted(write, arc, files):
  position, yaw = arc(30)
  yaw[[0, 11, 12]] = np.nan
  (clip,), tally = read_all(write('a', position, yaw))
  assert tally.dropped == {'nan_pose': 3}
  kept = [i for i in range(30) if i not in (0, 11, 12)]
  assert [files.number_of(f) for f in clip.frames] == kept
  np.testing.assert_allclose(clip.stamps, 0.25 * np.array(kept))  # time is not closed over the hole


def test_a_clip_is_cut_where_poses_are_missing_for_long(write, arc, files):
  position, yaw = arc(45)
  position[20:25] = np.nan
  (first, second), tally = read_all(write('a', position, yaw))
  assert (first.clip_id, second.clip_id) == ('a', 'a.1') and (len(first), len(second)) == (20, 20)
  assert files.number_of(second.frames[0]) == 25
  np.testing.assert_allclose(second.position + np.array(second.origin), position[25:], atol=1e-6)
  assert tally.dropped == {'nan_pose': 5} and tally.notes == {'recordings_cut_at_gaps': 1}


def test_trajectories_without_any_finite_pose_are_skipped(write, arc):
  position, yaw = arc(20)
  (skip,), _ = read_all(write('a', position, np.full_like(yaw, np.nan)))
  assert isinstance(skip, Skip) and skip.reason == 'nan_pose'


def test_more_images_than_poses_and_a_missing_last_image_are_counted(write, arc):
  position, yaw = arc(20)
  (clip,), tally = read_all(write('a', position, yaw, num_images=22))
  assert len(clip) == 20 and tally.dropped == {'image_without_pose': 2}
  (_, clip), tally = read_all(write('b', position, yaw, num_images=19))
  assert len(clip) == 19 and tally.dropped['missing_image'] == 1


def test_too_short_trajectories_are_skipped(write, arc):
  src = write('short', *arc(14))
  write('enough', *arc(15))
  found, _ = read_all(src)
  assert [type(x) for x in found] == [Clip, Skip]
  assert found[1].reason == 'too_short' and '--min_seconds=3.5' in found[1].message


def test_damaged_images_are_dropped_and_counted(write, arc, files):
  src = write('a', *arc(24))
  whole = (src / 'a' / '5.jpg').read_bytes()
  (src / 'a' / '5.jpg').write_bytes(whole[: len(whole) // 2])
  (src / 'a' / '9.jpg').write_bytes(b'this is no picture')
  (src / 'a' / '10.jpg').write_bytes(b'')
  (clip,), tally = read_all(src)
  assert tally.dropped == {'truncated_image': 1, 'bad_image': 2}
  assert [files.number_of(f) for f in clip.frames] == [i for i in range(24) if i not in (5, 9, 10)]


def test_mixed_sizes_of_one_shape_are_brought_to_the_common_one(write, arc, files):
  sizes = [(24, 40)] * 12 + [(48, 80)] * 5
  (clip,), tally = read_all(write('a', *arc(17), sizes=sizes), camera='30,30,20,12,40,24')
  assert tally.notes == {'frames_resized_in_mixed_clips': 5}
  assert (clip.camera.width, clip.camera.height, clip.camera.fx) == (40, 24, 30)
  assert [files.number_of(f) for f in clip.frames] == list(range(17))


def test_mixed_shapes_are_skipped_unless_a_size_is_given(write, arc):
  src = write('a', *arc(17), sizes=[(24, 40)] * 12 + [(40, 40)] * 5)
  (skip,), _ = read_all(src)
  assert skip.reason == 'mixed_shapes'
  (clip,), _ = read_all(src, height=12, width=20)
  assert (clip.camera.height, clip.camera.width, len(clip)) == (12, 20, 17)


def test_intrinsics_follow_the_resize(write, arc):
  (clip,), _ = read_all(write('a', *arc(17)), width=20, camera='30,28,21,11', camera_height=0.4, camera_pitch=0.1)
  camera = clip.camera
  assert (camera.width, camera.height) == (20, 12)
  assert (camera.fx, camera.fy, camera.cx, camera.cy) == (15, 14, 10.5, 5.5)
  assert (camera.model, camera.mount_height, camera.pitch) == ('pinhole', 0.4, 0.1)


def test_intrinsics_for_another_shape_are_a_counted_skip(write, arc):
  (skip,), _ = read_all(write('a', *arc(17)), camera='300,300,320,240,640,480')
  assert skip.reason == 'camera_shape' and '640x480' in skip.message and '40x24' in skip.message


class Shell:
  """Runs a command when unpickled carelessly."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    import os

    return os.system, (f'touch {self.path}',)


def test_a_pickle_that_runs_code_is_skipped_and_does_not_run(write, arc, tmp_path):
  position, _ = arc(20)
  src = write('evil', position, Shell(tmp_path / 'ran'))
  write('good', *arc(20))
  skip, clip = read_all(src)[0]
  assert skip.reason == 'unsafe_pickle' and 'system' in skip.message
  assert clip.clip_id == 'good' and not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
  'position, yaw, reason',
  [
    (np.zeros((20, 2)), np.zeros(18), 'length_mismatch'),
    (np.zeros((20, 4)), np.zeros(20), 'length_mismatch'),
    (np.zeros(20), np.zeros(20), 'length_mismatch'),
    ([[0.0, 1.0], [2.0]], [0.0, 1.0], 'bad_pickle'),
    ('abc', 'abc', 'bad_pickle'),
  ],
)
def test_malformed_poses_are_skipped(write, position, yaw, reason):
  (skip,), _ = read_all(write('a', position, yaw, num_images=3))
  assert skip.reason == reason


def test_folders_without_poses_and_files_without_keys_are_skipped(write, arc):
  src = write('a', *arc(20))
  (src / 'a' / 'traj_data.pkl').rename(src / 'kept.pkl')
  assert [s.reason for s in read_all(src)[0]] == ['missing_poses']
  (src / 'a' / 'traj_data.pkl').write_bytes(pickle.dumps({'position': [[0, 0]]}))
  assert [s.reason for s in read_all(src)[0]] == ['bad_pickle']


def test_published_splits_are_honoured(write, arc, tmp_path):
  for name in ('a', 'b', 'c'):
    src = write(name, *arc(20))
  for split, text in (('train', 'a\n'), ('test', 'b\n')):
    (tmp_path / 'lists' / split).mkdir(parents=True)
    (tmp_path / 'lists' / split / 'traj_names.txt').write_text(text)
  items = base.reader('gnm').find(src, Options(splits_dir=tmp_path / 'lists'))
  assert {i.item_id: i.split for i in items} == {'a': 'train', 'b': 'test', 'c': None}
  assert [type(x).__name__ for x in read_all(src, splits_dir=tmp_path / 'lists')[0]] == ['Clip', 'Clip', 'Skip']
  with pytest.raises(ValueError, match='traj_names'):
    read_all(src, splits_dir=src)


def test_rate_keeps_the_frames_nearest_to_the_grid(write, arc, files):
  (clip,), _ = read_all(write('a', *arc(41)), nominal_rate=10.0)
  # 10 Hz against 0.25 s: ties go to the earlier frame
  assert [files.number_of(f) for f in clip.frames] == [
    0,
    2,
    5,
    7,
    10,
    12,
    15,
    17,
    20,
    22,
    25,
    27,
    30,
    32,
    35,
    37,
    40,
  ]
  np.testing.assert_allclose(np.diff(clip.stamps), [0.2, 0.3] * 8, atol=1e-9)


def test_select_rate_agrees_with_a_plain_search():
  rng = np.random.default_rng(0)
  for _ in range(30):
    stamps = 5 + np.cumsum(rng.uniform(0.01, 0.6, size=rng.integers(1, 60)))
    keep = base.select_rate(stamps, 4.0)
    expected = []
    for k in range(int((stamps[-1] - stamps[0]) * 4) + 2):
      grid = stamps[0] + k / 4
      cell = [i for i in range(len(stamps)) if round((stamps[i] - stamps[0]) * 4) == k]
      expected += sorted(cell, key=lambda i: abs(stamps[i] - grid))[:1]
    assert keep.tolist() == sorted(expected)
  np.testing.assert_array_equal(base.select_rate(np.arange(9) / 3.0, 4.0), np.arange(9))  # slower: all stay
  np.testing.assert_array_equal(base.select_rate(np.arange(9) / 3.0, 0.0), np.arange(9))


def test_real_go2_recordings_equal_their_csv(shared_data):
  root = shared_data / 'video' / 'go2_apartment'
  found, tally = read_all(root / 'raw')
  assert len(found) == 20 and all(isinstance(c, Clip) for c in found)
  assert (
    tally.dropped == {'image_without_pose': 1} and 'go2_20250717_175015' in tally.examples['image_without_pose']
  )
  for clip in found:
    with open(root / f'{clip.clip_id}.poses.csv') as file:
      rows = list(csv.DictReader(file))
    table = np.array([[float(r['x_m']), float(r['y_m']), float(r['yaw_rad'])] for r in rows])
    np.testing.assert_allclose(clip.position + np.array(clip.origin), table[:, :2], atol=2e-6)
    np.testing.assert_allclose(clip.yaw, table[:, 2], atol=2e-6)
    images = [(root / 'raw' / clip.clip_id / f'{i}.jpg').read_bytes() for i in range(len(rows))]
    assert list(clip.frames) == images
