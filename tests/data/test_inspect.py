"""Inspection: every oddity is found where it was put, and nothing is reported about clean clips."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import simplejpeg

from s2e_jax import geometry
from s2e_jax.data import checks, inspect, inspect_pictures, overlay
from s2e_jax.data.clips import Clip, Skip
from s2e_jax.data.dataset import DatasetWriter, open_dataset
from s2e_jax.structs import Camera


def kinds(clip):
  return sorted({finding.kind for finding in checks.check_poses(clip)})


def frames_of(clip, kind):
  return [finding.frame for finding in checks.check_poses(clip) if finding.kind == kind]


@pytest.fixture
def clean(make_clip):
  return dataclasses.replace(make_clip(num_frames=61), is_rate_assumed=False)


def with_poses(clip, **changes):
  """`clip` with some frames of an array replaced: name={frame: value}."""
  arrays = {}
  for name, values in changes.items():
    arrays[name] = np.array(getattr(clip, name), np.float64)
    for frame, value in values.items():
      arrays[name][frame] = value
  return dataclasses.replace(clip, **arrays)


def test_a_clean_clip_has_no_findings(clean):
  assert checks.check_poses(clean) == []


def test_a_jump_is_reported_at_its_frame_and_ordinary_speeding_up_is_not(clean):
  jumped = clean.position.copy()
  jumped[30:] += [1.5, -0.5]
  assert frames_of(dataclasses.replace(clean, position=jumped), 'position_jump') == [30]
  quick = np.cumsum(np.minimum(np.arange(61) * 0.25 * 0.5, 1.6) * 0.25)
  straight = dataclasses.replace(clean, position=np.stack([quick, 0 * quick], axis=-1), yaw=np.zeros(61))
  assert kinds(straight) == []


def test_nan_yaw_is_reported_and_hides_nothing_else(clean):
  assert frames_of(with_poses(clean, yaw={7: np.nan, 9: np.inf}), 'nan_pose') == [7, 9]
  assert kinds(dataclasses.replace(with_poses(clean, yaw={7: np.nan}), is_metric=False)) == [
    'nan_pose',
    'scale_not_metric',
  ]


def test_gaps_between_stamps_are_missing_frames(clean):
  keep = np.delete(np.arange(61), [20, 21, 40])
  gappy = dataclasses.replace(
    clean,
    stamps=clean.stamps[keep],
    position=clean.position[keep],
    yaw=clean.yaw[keep],
    frames=[clean.frames[i] for i in keep],
  )
  assert frames_of(gappy, 'missing_frames') == [20, 38]
  assert kinds(gappy) == ['missing_frames']


def test_frames_picked_from_a_faster_recording_are_not_missing(make_clip):
  # 6 Hz, thinned to the nearest frames of a 4 Hz grid: intervals of 1/6 and 1/3 s.
  fast = make_clip(num_frames=91, rate=6.0)
  keep = np.unique(np.round(np.arange(0, 15, 0.25) * 6).astype(int))
  thin = dataclasses.replace(
    fast, stamps=fast.stamps[keep], position=fast.position[keep], yaw=fast.yaw[keep], frames=[b''] * len(keep)
  )
  assert len(np.unique(np.diff(keep))) == 2
  assert kinds(thin) == []


def test_unsorted_stamps_are_reported(clean):
  assert frames_of(with_poses(clean, stamps={12: clean.stamps[11]}), 'unsorted_stamps') == [12]


def test_driving_backwards_is_reported_only_while_it_lasts(make_clip):
  x = np.concatenate([np.arange(40) * 0.2, 7.8 - np.arange(1, 13) * 0.2, 5.4 + np.arange(1, 30) * 0.2])
  clip = make_clip(num_frames=len(x))
  clip = dataclasses.replace(clip, position=np.stack([x, 0 * x], axis=-1), yaw=np.zeros(len(x)))
  found = frames_of(clip, 'backwards')
  assert kinds(clip) == ['backwards']
  assert found[0] in (39, 40) and found[-1] in (49, 50) and len(found) >= 9


@pytest.mark.parametrize(
  'wrong, hint',
  [
    (lambda yaw: -yaw, 'mirrored'),
    (lambda yaw: np.pi / 2 - yaw, 'swapped'),
    (lambda yaw: yaw + np.pi / 2, 'forward axis'),
    (lambda yaw: yaw + np.pi, 'forward axis'),
    (np.rad2deg, 'degrees'),
  ],
)
def test_wrong_axes_are_reported_once_with_what_would_fit(make_clip, wrong, hint):
  clip = dataclasses.replace(make_clip(num_frames=121), is_rate_assumed=False)
  bad = dataclasses.replace(clip, yaw=wrong(clip.yaw))
  (finding,) = checks.check_poses(bad)
  assert finding.kind == 'heading_disagrees' and finding.frame is None
  assert hint in finding.detail


def test_unknown_scale_rate_camera_and_licence_are_noted(clean):
  unknown = dataclasses.replace(
    clean, is_metric=False, is_rate_assumed=True, licence='unknown', camera=Camera.guess(40, 24)
  )
  assert kinds(unknown) == ['camera_assumed', 'licence_unknown', 'rate_assumed', 'scale_not_metric']
  (rate,) = [f for f in checks.check_poses(unknown) if f.kind == 'rate_assumed']
  assert rate.detail == '4 Hz'


@pytest.mark.parametrize('scale, embodiment, expected', [
  (20.0, 'wheeled', ['implausible_speed']),
  (15.0, 'car', []),
  (100.0, 'car', ['implausible_speed']),
  (0.1, 'car', ['implausible_speed']),
  (0.001, 'wheeled', ['never_moves']),
])  # fmt: skip
def test_speeds_that_do_not_fit_the_robot_are_reported(clean, scale, embodiment, expected):
  position = (clean.position - clean.position[0]) * scale
  assert kinds(dataclasses.replace(clean, position=position, embodiment=embodiment)) == expected


@pytest.fixture(scope='module')
def odd_dataset(tmp_path_factory, make_clip):
  """One clean clip, one with a frozen camera, one that repeats frames of the first in another split."""
  path = tmp_path_factory.mktemp('inspect') / 'odd'
  writer = DatasetWriter(path, 'odd')
  first = make_clip('a/clean', 41, seed=0)
  frozen = make_clip('a/frozen', 37, seed=2)
  frames = list(frozen.frames)
  frames[11] = frames[12] = frames[10]
  writer.add(first, 'train')
  writer.add(dataclasses.replace(frozen, frames=frames), 'train')
  again = make_clip('b/again', 45, seed=3)
  writer.add(dataclasses.replace(again, frames=[*again.frames[:40], *first.frames[:5]]), 'test')
  writer.skip(Skip('nan_pose', 'c/lost', 'poses must be finite'))
  writer.finish()
  return open_dataset(path)


def test_repeated_frames_are_found_within_and_across_clips(odd_dataset):
  report = inspect.inspect_dataset(odd_dataset)
  anomalies = report['anomalies']
  assert [e['frame'] for e in anomalies['duplicated_frame']['examples']] == [11, 12]
  assert anomalies['duplicated_frame']['count'] == 2 and anomalies['duplicated_frame']['clips'] == 1
  assert anomalies['shared_frame']['count'] == 5
  assert anomalies['shared_frame']['examples'][0]['clip_id'] == 'b/again'
  assert 'a/clean frame 0' in anomalies['shared_frame']['examples'][0]['detail']
  assert {kind for kind, group in anomalies.items() if group['count']} == {'duplicated_frame', 'shared_frame'}
  assert report['skipped_by_conversion'] == {'nan_pose': 1}
  assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_totals_sources_and_splits_are_counted(odd_dataset):
  report = inspect.inspect_dataset(odd_dataset)
  assert (report['clips'], report['frames'], report['frames_read']) == (3, 123, 123)
  assert report['hours'] == pytest.approx((40 + 36 + 44) / 4 / 3600)
  assert report['image_sizes'] == {'40x24': 123}
  assert {name: row['frames'] for name, row in report['sources'].items()} == {'source-0': 78, 'source-1': 45}
  assert report['sources']['source-0']['licences'] == ['CC0-1.0']
  assert report['sources']['source-0']['rate_hz'] == pytest.approx(4.0)
  test = inspect.inspect_dataset(odd_dataset, 'test')
  assert (test['clips'], test['frames'], test['split']) == (1, 45, 'test')
  with pytest.raises(ValueError, match='val'):
    inspect.inspect_dataset(odd_dataset, 'val')
  few = inspect.inspect_dataset(odd_dataset, max_frames=50)
  assert few['frames_read'] == 50 and 'images of 50 of 123' in inspect.table(few)


def test_turns_and_speeds_of_known_motion_are_measured(clean):
  t = np.arange(61) * 0.25
  yaw = np.concatenate([np.zeros(21), np.arange(1, 21) * 0.1, np.full(20, 2.0)])
  speed = np.concatenate([np.full(40, 0.8), np.zeros(20)])
  course = (yaw[1:] + yaw[:-1]) / 2
  steps = 0.25 * speed[:, None] * np.stack([np.cos(course), np.sin(course)], axis=-1)
  clip = dataclasses.replace(
    clean, stamps=t, yaw=yaw, position=np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
  )
  found = inspect.motion_statistics([clip])
  assert found['speed_m_per_s']['0.75'] == pytest.approx(0.8) and found['speed_m_per_s']['0'] == 0
  assert found['yaw_rate_rad_per_s']['1'] == pytest.approx(0.4)
  assert found['windows'] == 51
  shares = {kind: round(share * 51) for kind, share in found['window_share'].items()}
  start = np.arange(51)
  driven = np.clip(40 - start, 0, 10)  # steps of 0.2 m
  turning = np.clip(np.minimum(start + 10, 40) - np.maximum(start, 20), 0, None)  # steps of 0.1 rad
  # Exactly one step is exactly the limit, so rounding decides it: that one window may be either.
  assert shares['right'] == 0
  assert shares['stationary'] - (driven == 0).sum() in (0, 1)
  assert shares['left'] - ((turning >= 3) & (driven >= 2)).sum() in (0, 1)
  assert sum(shares.values()) == 51


def test_the_future_of_a_frame_is_in_the_robot_frame(odd_dataset):
  clip = odd_dataset.clips[0]
  future = inspect_pictures.future_of(clip, 8)
  assert future.waypoints.shape == (10, 2) and future.goal_s == pytest.approx(8.0)
  yaw = float(clip.yaw[8])
  turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
  for k in (1, 10):
    expected = turn @ (clip.position[8 + k].astype(float) - clip.position[8].astype(float))
    np.testing.assert_allclose(future.waypoints[k - 1], expected, atol=1e-5)
  np.testing.assert_allclose(future.to_goal[0], future.waypoints[-1])
  assert len(inspect_pictures.future_of(clip, clip.num_frames - 1).waypoints) == 0


def test_chosen_frames_spread_over_sources_and_leave_a_future(odd_dataset):
  clips = odd_dataset.clips
  chosen = inspect_pictures.choose_frames(clips, 6)
  assert len(chosen) == len(set(chosen)) == 6
  assert {clips[i].source for i, _ in chosen} == {'source-0', 'source-1'}
  for i, frame in chosen:
    assert clips[i].stamps[frame] <= clips[i].stamps[-1] - 2.5
  assert inspect_pictures.choose_frames(clips, 0) == []


def test_the_command_prints_a_table_and_writes_pictures_and_json(odd_dataset, tmp_path, capsys):
  inspect.main([str(odd_dataset.path), f'--out={tmp_path / "out"}', '--num_pictures=3'])
  printed = capsys.readouterr().out
  for word in ('3 clips', 'CC0-1.0', 'duplicated_frame', 'left out by the conversion: nan_pose 1', 'stationary'):
    assert word in printed
  report = json.loads((tmp_path / 'out' / 'inspect.json').read_text())
  assert len(report['pictures']) == 4
  for name in report['pictures']:
    assert (tmp_path / 'out' / name).read_bytes().startswith(b'\x89PNG')


def test_the_command_names_what_is_wrong(tmp_path, capsys):
  with pytest.raises(SystemExit) as stop:
    inspect.main([str(tmp_path / 'nothing')])
  assert stop.value.code == 2
  assert 'does not exist' in capsys.readouterr().err


def test_assumed_cameras_and_synthetic_frames_are_marked_on_pictures(odd_dataset):
  clip = odd_dataset.clips[0]
  assert inspect_pictures.warnings_of(clip) == []
  unknown = dataclasses.replace(clip, camera=Camera.guess(40, 24), is_metric=False, source='synthetic')
  assert inspect_pictures.warnings_of(unknown) == ['camera assumed', 'scale not metric', 'synthetic']
  (jpeg,) = odd_dataset.frames(0, [9])
  image = simplejpeg.decode_jpeg(jpeg)
  marked = inspect_pictures.frame_with_future(image, unknown, 9)
  plain = inspect_pictures.frame_with_future(image, dataclasses.replace(unknown, source='x', is_metric=True), 9)
  assert marked.shape == plain.shape == (432, 720, 3)
  assert (marked[:60] != plain[:60]).any()


def test_real_road_seen_twice_matches_through_the_camera_model(shared_data):
  """KITTI 06: the same points of the road in consecutive frames, by published poses, calibration and height.

  Only where axes, scale and height are right do the fine textures agree. The published 1.65 m fit with a lens that
  looks one degree down.
  """
  folder = shared_data / 'video' / 'kitti_odometry_06'
  fx, _, cx, _, _, fy, cy = [float(v) for v in (folder / 'calib.txt').read_text().split()[:7]]
  rows = np.loadtxt(folder / 'poses.txt').reshape(-1, 3, 4)
  position, yaw = np.stack([rows[:, 2, 3], -rows[:, 0, 3]], axis=-1), -np.arctan2(rows[:, 0, 2], rows[:, 2, 2])
  grey = [
    cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) for path in sorted(folder.glob('image_l/*'))
  ]
  fine = [image - cv2.GaussianBlur(image, (0, 0), 4) for image in grey]
  height, width = grey[0].shape
  x, y = np.meshgrid(np.arange(6.5, 10, 0.03), np.arange(-1.2, 1.2, 0.03), indexing='ij')
  ground = np.stack([x, y], axis=-1).reshape(-1, 2)

  def likeness(mount_height):
    camera = Camera(width, height, fx, fy, cx, cy, 'pinhole', (), mount_height, 0.0, np.deg2rad(1.0))
    values = []
    for i in range(1, 46, 3):
      world = geometry.to_world_frame(ground, position[i], yaw[i])
      looks = []
      for k in (i, i - 1):
        pixels, _ = overlay.project_ground(geometry.to_robot_frame(world, position[k], yaw[k]), camera)
        u, v = np.float32(pixels - 0.5).T
        looks.append(cv2.remap(fine[k], u[None], v[None], cv2.INTER_LINEAR)[0])
      values.append(np.corrcoef(*looks)[0, 1])
    return np.median(values)

  assert likeness(1.65) > 0.5
  assert likeness(1.4) < 0.3 and likeness(1.9) < 0.3


def test_real_odometry_is_clean_and_its_mirror_image_is_not(shared_data):
  """20 Go2 trajectories: yaw agrees with motion as published, and no longer when yaw is turned the other way."""
  files = sorted((shared_data / 'video' / 'go2_apartment').glob('*.poses.csv'))
  assert len(files) == 20
  mirrored = 0
  for file in files:
    rows = np.loadtxt(file, delimiter=',', skiprows=1)
    clip = Clip(
      file.stem, 'go2', 'MIT', [b''] * len(rows), np.arange(len(rows)) / 4, rows[:, 1:3], rows[:, 3],
      Camera(96, 96, 40.0, 40.0, 48.0, 48.0, 'pinhole'), embodiment='quadruped',
    )  # fmt: skip
    assert [f for f in checks.check_poses(clip) if f.kind in checks.ANOMALIES] == []
    mirrored += 'heading_disagrees' in kinds(dataclasses.replace(clip, yaw=-clip.yaw))
  assert mirrored >= 18
