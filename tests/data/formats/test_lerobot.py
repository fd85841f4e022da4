"""LeRobot v3 and v2.1: the published layouts, written by the test."""

import fractions
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2e_jax.data.clips import Clip, Skip
from s2e_jax.data.formats import base, lerobot
from s2e_jax.data.formats.options import Options

FPS = 10
KEY = 'observation.images.front'
STATE = {'dtype': 'float32', 'shape': [5], 'names': {'axes': ['speed', 'X', 'Y', 'yaw', 'battery']}}
V3_PATHS = {
  'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
  'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
}
V2_PATHS = {
  'data_path': 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
  'video_path': 'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4',
}


def write_info(root, version, state=STATE, **more):
  features = {
    KEY: {'dtype': 'video', 'shape': [48, 64, 3], 'names': ['height', 'width', 'channels']},
    'observation.state': state,
    'action': {'dtype': 'float32', 'shape': [2], 'names': ['linear_velocity', 'angular_velocity']},
    **{k: {'dtype': t, 'shape': [1], 'names': None} for k, t in (('timestamp', 'float32'), ('index', 'int64'))},
  } | more
  paths = V3_PATHS if version == 'v3.0' else V2_PATHS
  info = {
    'codebase_version': version,
    'robot_type': 'rover',
    'fps': FPS,
    'features': features,
    'chunks_size': 1000,
  }
  (root / 'meta').mkdir(parents=True)
  (root / 'meta' / 'info.json').write_text(json.dumps(info | paths))


def rows_of(episode, position, yaw, first_index=0):
  n = len(yaw)
  state = np.column_stack([np.zeros(n), position, yaw, np.ones(n)]).astype(np.float32)
  return {
    'observation.state': state.tolist(),
    'action': np.zeros((n, 2), np.float32).tolist(),
    'timestamp': (np.arange(n) / FPS).astype(np.float32),
    'frame_index': np.arange(n),
    'episode_index': np.full(n, episode),
    'index': first_index + np.arange(n),
    'task_index': np.zeros(n, int),
  }


def write_table(path, parts):
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(pa.concat_tables([pa.table(part) for part in parts]), path)


@pytest.fixture
def v3(tmp_path, files, arc):
  """Three episodes: two share one parquet and one mp4, the third lies in second files."""

  def make(codec='libx264', state=STATE):
    root = tmp_path / 'rover_v3'
    drives = [arc(38), arc(41, turn=0.02), arc(40, start=(9, 9))]
    write_info(root, 'v3.0', state)
    write_table(root / 'data/chunk-000/file-000.parquet', [rows_of(0, *drives[0]), rows_of(1, *drives[1], 38)])
    write_table(root / 'data/chunk-000/file-001.parquet', [rows_of(2, *drives[2], 79)])
    ticks, base_ = fractions.Fraction(1, 1000), root / 'videos' / KEY / 'chunk-000'
    files.write_video(base_ / 'file-000.mp4', [100 * i for i in range(79)], codec, ticks)
    files.write_video(base_ / 'file-001.mp4', [100 * i for i in range(40)], codec, ticks)
    starts, files_of = [0.0, 3.8, 0.0], [0, 0, 1]
    prefix = f'videos/{KEY}/'
    write_table(
      root / 'meta/episodes/chunk-000/file-000.parquet',
      [
        {
          'episode_index': [0, 1, 2],
          'tasks': [['drive']] * 3,
          'length': [38, 41, 40],
          'data/chunk_index': [0, 0, 0],
          'data/file_index': files_of,
          'dataset_from_index': [0, 38, 79],
          'dataset_to_index': [38, 79, 119],
          prefix + 'chunk_index': [0, 0, 0],
          prefix + 'file_index': files_of,
          prefix + 'from_timestamp': starts,
          prefix + 'to_timestamp': [3.8, 7.9, 4.0],
          'stats/action/mean': [[0.0, 0.0]] * 3,
        }
      ],
    )
    return root, drives

  return make


def read_all(src, **options):
  tally = base.Tally()
  return list(base.read('lerobot', src, Options(**options), tally)), tally


@pytest.mark.parametrize('codec', ['libx264', 'libsvtav1'])
def test_v3_episodes_in_shared_files_are_told_apart(v3, files, codec):
  root, drives = v3(codec)
  found, tally = read_all(root, rate=0)
  assert [c.clip_id for c in found] == [f'episode_{i:06d}' for i in range(3)] and not tally.dropped
  for clip, (position, yaw), first in zip(found, drives, (0, 38, 0), strict=True):
    np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-5)
    np.testing.assert_allclose(clip.yaw, yaw, atol=1e-6)
    np.testing.assert_allclose(clip.stamps, np.arange(len(yaw)) / FPS, atol=1e-6)
    assert [files.number_of(f) for f in clip.frames] == list(range(first, first + len(yaw)))
    assert clip.embodiment == 'rover' and clip.source == 'rover_v3' and not clip.is_rate_assumed
  found, _ = read_all(root)
  chosen = base.select_rate(np.arange(41) / FPS, 4.0)
  assert [files.number_of(f) for f in found[1].frames] == (38 + chosen).tolist()


def test_v2_episodes_in_their_own_files(tmp_path, files, arc):
  root = tmp_path / 'rover_v2'
  write_info(root, 'v2.1')
  drives = {3: arc(40), 1004: arc(36)}  # the second in another chunk
  lines = []
  for episode, drive in drives.items():
    chunk = episode // 1000
    write_table(root / f'data/chunk-{chunk:03d}/episode_{episode:06d}.parquet', [rows_of(episode, *drive)])
    path = root / f'videos/chunk-{chunk:03d}/{KEY}/episode_{episode:06d}.mp4'
    files.write_video(path, [100 * i for i in range(len(drive[1]))])
    lines.append(json.dumps({'episode_index': episode, 'tasks': ['drive'], 'length': len(drive[1])}))
  (root / 'meta' / 'episodes.jsonl').write_text('\n'.join(lines) + '\n')
  found, _ = read_all(root, rate=0)
  for clip, (episode, (position, yaw)) in zip(found, drives.items(), strict=True):
    assert clip.clip_id == f'episode_{episode:06d}'
    np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-5)
    assert [files.number_of(f) for f in clip.frames] == list(range(len(yaw)))


def test_pictures_inside_parquet_are_read(tmp_path, files, arc):
  root = tmp_path / 'inline'
  position, yaw = arc(40)
  write_info(root, 'v2.1', **{KEY: {'dtype': 'image', 'shape': [24, 40, 3], 'names': None}})
  rows = rows_of(0, position, yaw)
  rows[KEY] = [{'bytes': files.png_bytes(files.numbered(i)), 'path': f'{i}.png'} for i in range(40)]
  rows[KEY][7] = {'bytes': None, 'path': '7.png'}
  write_table(root / 'data/chunk-000/episode_000000.parquet', [rows])
  (root / 'meta' / 'episodes.jsonl').write_text(json.dumps({'episode_index': 0, 'length': 40}))
  (clip,), tally = read_all(root, rate=0)
  assert [files.number_of(f) for f in clip.frames] == [i for i in range(40) if i != 7]
  assert tally.dropped == {'missing_image': 1}


def test_damaged_episodes_are_counted_skips(v3):
  root, _ = v3()
  (root / 'videos' / KEY / 'chunk-000' / 'file-001.mp4').write_bytes(b'')
  found, _ = read_all(root)
  assert [type(x) for x in found] == [Clip, Clip, Skip] and found[2].reason == 'empty_video'
  (root / 'data/chunk-000/file-000.parquet').write_bytes(b'PAR1 broken')
  lerobot._data.cache_clear()
  assert [s.reason for s in read_all(root)[0]] == ['bad_parquet', 'bad_parquet', 'empty_video']
  (root / 'data/chunk-000/file-000.parquet').unlink()
  lerobot._data.cache_clear()
  assert read_all(root)[0][0].reason == 'missing_data'


def features_with(*names, **more):
  return {'observation.state': {'dtype': 'float32', 'shape': [len(names)], 'names': list(names)}} | more


@pytest.mark.parametrize(
  'names, expected',
  [
    (('x', 'y', 'yaw'), (0, 1, 2)),
    (('heading', 'pos_x', 'pos_y', 'speed'), (1, 2, 0)),
    (('position.x', 'position.y', 'position.z', 'orientation.yaw'), (0, 1, 3)),
    (('base_x_m', 'base_y_m', 'theta_rad'), (0, 1, 2)),
  ],
)
def test_pose_columns_are_found_by_name(names, expected):
  pose = lerobot.find_pose(features_with(*names), None)
  assert pose == tuple(('observation.state', i) for i in expected)


def test_pose_features_of_their_own_are_found():
  features = {
    'observation.position': {'dtype': 'float64', 'shape': [3], 'names': None},
    'observation.yaw': {'dtype': 'float64', 'shape': [1], 'names': None},
    'action': {'dtype': 'float32', 'shape': [3], 'names': ['x', 'y', 'yaw']},
  }
  assert lerobot.find_pose(features, None) == (
    ('observation.position', 0),
    ('observation.position', 1),
    ('observation.yaw', 0),
  )


@pytest.mark.parametrize(
  'names', [('motor_0', 'motor_1', 'motor_2'), ('x', 'y'), ('a.x', 'a.y', 'b.x', 'b.y', 'yaw')]
)
def test_unclear_pose_columns_are_an_error_that_lists_them(names):
  with pytest.raises(ValueError, match='--pose_keys') as caught:
    lerobot.find_pose(features_with(*names), None)
  assert names[0] in str(caught.value)


def test_given_pose_columns_win():
  features = features_with(
    'a.x', 'a.y', 'b.x', 'b.y', 'yaw', place={'dtype': 'float64', 'shape': [2], 'names': None}
  )
  by_name = lerobot.find_pose(features, 'observation.state:b.x,observation.state:b.y,observation.state:yaw')
  assert by_name == (('observation.state', 2), ('observation.state', 3), ('observation.state', 4))
  assert lerobot.find_pose(features, 'observation.state:2,observation.state:3,observation.state:4') == by_name
  mixed = lerobot.find_pose(features, 'place,observation.state:yaw')
  assert mixed == (('place', 0), ('place', 1), ('observation.state', 4))
  for wrong in ('nowhere:x', 'observation.state:q,place', 'place', 'observation.state:9,place'):
    with pytest.raises(ValueError, match='--pose_keys'):
      lerobot.find_pose(features, wrong)


def test_the_front_camera_is_chosen_and_doubt_is_an_error():
  def cameras(*keys):
    return {f'observation.images.{k}': {'dtype': 'video', 'shape': [4, 4, 3]} for k in keys}

  assert lerobot.find_picture_key(cameras('front', 'rear'), None).endswith('front')
  assert lerobot.find_picture_key(cameras('rgb', 'depth'), None).endswith('rgb')
  assert lerobot.find_picture_key(cameras('rear'), None).endswith('rear')
  assert lerobot.find_picture_key(cameras('a', 'b'), 'observation.images.b').endswith('b')
  for keys, given in ((('a', 'b'), None), ((), None), (('a',), 'c')):
    with pytest.raises(ValueError, match='--video_key'):
      lerobot.find_picture_key(cameras(*keys), given)


def test_headings_of_all_units_agree():
  yaw = np.array([-1.2, 0.0, 0.5, 2.0])
  for unit, heading in (
    ('rad', yaw),
    ('deg', np.degrees(yaw)),
    ('compass_rad', np.pi / 2 - yaw),
    ('compass_deg', 90 - np.degrees(yaw)),
  ):
    np.testing.assert_allclose(lerobot.yaw_in_radians(heading, unit), yaw, atol=1e-12)


def test_sources_that_are_no_lerobot_dataset_say_so(tmp_path):
  with pytest.raises(ValueError, match=r'info\.json'):
    lerobot.find(tmp_path, Options())
  write_info(tmp_path / 'old', 'v1.6')
  with pytest.raises(ValueError, match='codebase_version'):
    lerobot.find(tmp_path / 'old', Options())
