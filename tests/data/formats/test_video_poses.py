"""Video with pose text: every frame has its own time, poses are interpolated inside the overlap only."""

import fractions

import av
import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation

from s2e_jax.data.clips import Skip
from s2e_jax.data.formats import base, video, video_poses
from s2e_jax.data.formats.options import Options


def robot_poses(times):
  """t x y z qx qy qz qw of a robot (x ahead, z up) on a bent path, with some roll and pitch."""
  x, y, yaw = 1.0 + 0.8 * times, 0.3 * times**2 / 4, 0.1 + 0.2 * times
  quat = Rotation.from_euler('ZYX', np.stack([yaw, 0.05 * np.sin(times), 0.03 * np.cos(times)], axis=1)).as_quat()
  return np.column_stack([times, x, y, 0.4 + 0 * times, quat]), np.stack([x, y], axis=1), yaw


def write_poses(path, poses, header=False):
  lines = ['# t x y z qx qy qz qw'] * header + [' '.join(f'{v:.9f}' for v in row) for row in poses]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n')


def read_all(src, **options):
  tally = base.Tally()
  return list(base.read('video', src, Options(**options), tally)), tally


@pytest.fixture
def pair(tmp_path, files):
  """Writes src/NAME.mp4 at the given ms and src/NAME.txt at the given seconds; returns src."""

  def make(ticks, pose_times, name='drive', codec='libx264', **kw):
    files.write_video(tmp_path / 'src' / f'{name}.mp4', ticks, codec, **kw)
    write_poses(tmp_path / 'src' / f'{name}.txt', robot_poses(np.asarray(pose_times, float))[0])
    return tmp_path / 'src'

  return make


def test_frames_get_the_pose_of_their_own_time(pair, files):
  src = pair([100 * i for i in range(41)], np.arange(-0.1, 4.2, 0.13))
  (clip,), tally = read_all(src, rate=0)
  np.testing.assert_allclose(clip.stamps, 0.1 * np.arange(41), atol=1e-6)
  assert [files.number_of(f) for f in clip.frames] == list(range(41))
  _, position, yaw = robot_poses(np.arange(-0.1, 4.2, 0.13))
  expected = interp1d(np.arange(-0.1, 4.2, 0.13), position, axis=0)(clip.stamps)
  np.testing.assert_allclose(clip.position + np.array(clip.origin), expected, atol=1e-5)
  np.testing.assert_allclose(clip.yaw, interp1d(np.arange(-0.1, 4.2, 0.13), yaw)(clip.stamps), atol=2e-3)
  assert clip.is_metric and not clip.is_rate_assumed and not tally.dropped


@pytest.mark.parametrize('codec', ['libx264', 'mpeg4', 'libsvtav1'])
def test_variable_frame_rate_uses_the_frames_own_times(pair, files, codec):
  try:
    av.codec.Codec(codec, 'w')
  except av.codec.codec.UnknownCodecError:
    pytest.skip(f'this build of PyAV cannot encode {codec}')
  rng = np.random.default_rng(1)
  ticks = np.concatenate([[0], np.cumsum(rng.integers(30, 300, 35))]).tolist()
  (clip,), _ = read_all(pair(ticks, np.arange(0, 8, 0.2), codec=codec))
  seconds = np.array(ticks) / 1000
  chosen = [files.number_of(f) for f in clip.frames]
  np.testing.assert_allclose(clip.stamps, seconds[chosen], atol=1e-6)
  assert chosen == base.select_rate(seconds, 4.0).tolist()
  _, position, _ = robot_poses(clip.stamps)
  np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=2e-3)
  by_index = np.arange(36) / (35 / seconds[-1])  # index / average fps would be off by this much
  assert np.abs(by_index - seconds).max() > 0.2


def test_poses_shorter_than_the_video_drop_the_frames_outside(pair, files):
  (clip,), tally = read_all(pair([100 * i for i in range(60)], np.arange(1.0, 5.01, 0.1)), rate=0)
  assert [files.number_of(clip.frames[0]), files.number_of(clip.frames[-1])] == [10, 50]
  assert tally.dropped == {'frame_outside_poses': 19}


def test_poses_longer_than_the_video_are_no_trouble(pair):
  (clip,), tally = read_all(pair([100 * i for i in range(40)], np.arange(-5, 30, 0.25)), rate=0)
  assert len(clip) == 40 and not tally.dropped


def test_no_label_is_made_up_across_a_hole_in_the_poses(pair, files):
  times = np.concatenate([np.arange(0, 4.01, 0.1), np.arange(7, 11.01, 0.1)])
  (first, second), tally = read_all(pair([250 * i for i in range(44)], times))
  assert (first.clip_id, second.clip_id) == ('drive', 'drive.1')
  assert first.stamps[-1] == pytest.approx(4.0) and second.stamps[0] == pytest.approx(7.0)
  assert tally.dropped == {'frame_in_pose_gap': 11}


def test_nan_pose_lines_are_passed_over_and_counted(pair, files, tmp_path):
  src = pair([250 * i for i in range(20)], np.arange(0, 5, 0.25))
  poses = robot_poses(np.arange(0, 5, 0.25))[0]
  poses[7, 2] = np.nan
  poses[12, 4:] = 0
  write_poses(src / 'drive.txt', poses, header=True)
  (clip,), tally = read_all(src)
  assert len(clip) == 20 and tally.notes == {'pose_lines_not_finite': 2}
  np.testing.assert_allclose(clip.position + np.array(clip.origin), robot_poses(clip.stamps)[1], atol=6e-3)
  poses[2:] = np.nan
  poses[1] = np.nan
  write_poses(src / 'drive.txt', poses)
  assert read_all(src)[0][0].reason == 'nan_pose'


def test_damaged_and_lonely_files_are_counted_skips(pair, tmp_path):
  times = np.arange(0, 5, 0.25)
  for name in ('a_good', 'b_empty', 'c_cut', 'd_text', 'e_lonely', 'f_unsorted', 'g_words', 'h_far'):
    src = pair([250 * i for i in range(20)], times, name=name)
  (src / 'b_empty.mp4').write_bytes(b'')
  (src / 'c_cut.mp4').write_bytes((src / 'c_cut.mp4').read_bytes()[:400])
  (src / 'd_text.mp4').write_text('<html>not found</html>' * 20)
  (src / 'e_lonely.txt').unlink()
  write_poses(src / 'f_unsorted.txt', robot_poses(times)[0][::-1])
  (src / 'g_words.txt').write_text('0 0 0 0 0 0 0 1\n1 2 3\n')
  write_poses(src / 'h_far.txt', robot_poses(times + 1.7e9)[0])
  found, _ = read_all(src)
  reasons = {x.where.split('/')[-1]: x.reason for x in found if isinstance(x, Skip)}
  assert reasons == {
    'b_empty.mp4': 'empty_video',
    'c_cut.mp4': 'bad_video',
    'd_text.mp4': 'bad_video',
    'e_lonely.mp4': 'missing_poses',
    'f_unsorted.mp4': 'unsorted_stamps',
    'g_words.mp4': 'bad_pose_file',
    'h_far.mp4': 'no_overlap',
  }
  assert [x.clip_id for x in found if not isinstance(x, Skip)] == ['a_good']
  message = next(x.message for x in found if isinstance(x, Skip) and x.reason == 'bad_pose_file')
  assert 'line 2' in message and 'eight' in message


def test_a_video_cut_short_in_the_middle_never_gives_wrong_pairs(pair, files, tmp_path):
  src = pair([100 * i for i in range(60)], np.arange(0, 6.1, 0.1), name='x')
  with av.open(str(src / 'x.mp4')) as source, av.open(str(src / 'y.ts'), 'w') as sink:
    stream = sink.add_stream_from_template(source.streams.video[0])
    for packet in source.demux(source.streams.video[0]):
      if packet.dts is not None:
        packet.stream = stream
        sink.mux(packet)
  data = (src / 'y.ts').read_bytes()
  (src / 'y.ts').write_bytes(data[: int(0.8 * len(data))])
  (src / 'y.txt').write_text((src / 'x.txt').read_text())
  (src / 'x.mp4').unlink()
  (clip,), _ = read_all(src, rate=0, time_offset='start')
  start = clip.stamps[0]
  assert 35 < len(clip) < 60
  assert [files.number_of(f) for f in clip.frames] == [round((t - start) * 10) for t in clip.stamps]


def test_time_offset_brings_other_clocks_together(pair):
  src = pair([250 * i for i in range(20)], np.arange(0, 5, 0.25))
  poses = robot_poses(np.arange(0, 5, 0.25))[0]
  poses[:, 0] += 1.7e9
  write_poses(src / 'drive.txt', poses)
  for offset in ('start', '-1.7e9'):
    (clip,), _ = read_all(src, time_offset=offset)
    assert len(clip) == 20
    np.testing.assert_allclose(clip.position + np.array(clip.origin), robot_poses(clip.stamps)[1], atol=1e-5)


def test_a_folder_of_poses_and_single_files_work(pair, tmp_path):
  src = pair([250 * i for i in range(20)], np.arange(0, 5, 0.25), name='v')
  (src / 'poses').mkdir()
  (src / 'v.txt').rename(src / 'poses' / 'v.txt')
  assert len(read_all(src)[0][0]) == 20
  (src / 'poses').rename(tmp_path / 'elsewhere')
  assert len(read_all(src, poses=tmp_path / 'elsewhere')[0][0]) == 20
  assert len(read_all(src / 'v.mp4', poses=tmp_path / 'elsewhere' / 'v.txt')[0][0]) == 20


def test_camera_axes_in_the_plane_xz():
  rng = np.random.default_rng(3)
  turn = rng.uniform(-3, 3, 40)  # about the camera's y axis, which points down: positive turns right
  rotation = Rotation.from_euler(
    'YXZ', np.stack([turn, 0.1 * rng.normal(size=40), 0.1 * rng.normal(size=40)], axis=1)
  )
  xyz = rng.normal(size=(40, 3))
  position, yaw = video_poses.planar(np.concatenate([xyz, 3 * rotation.as_quat()], axis=1), 'xz')
  np.testing.assert_allclose(position, np.stack([xyz[:, 2], -xyz[:, 0]], axis=1))
  np.testing.assert_allclose(np.sin(yaw - -turn), 0, atol=1e-9)
  np.testing.assert_allclose(np.cos(yaw - -turn), 1, atol=1e-9)


def test_forward_axes_in_the_plane_xy():
  rng = np.random.default_rng(4)
  rotation = Rotation.random(50, random_state=5)
  poses = np.concatenate([rng.normal(size=(50, 3)), rotation.as_quat()], axis=1)
  for axis, vector in (('x', [1, 0, 0]), ('z', [0, 0, 1])):
    ahead = rotation.apply(vector)
    _, yaw = video_poses.planar(poses, 'xy', axis)
    np.testing.assert_allclose(yaw, np.arctan2(ahead[:, 1], ahead[:, 0]), atol=1e-9)


def test_scale_and_metric_flags(pair):
  src = pair([250 * i for i in range(20)], np.arange(0, 5, 0.25))
  plain, scaled = read_all(src)[0][0], read_all(src, scale=2.5)[0][0]
  np.testing.assert_allclose(scaled.position, 2.5 * plain.position, atol=1e-5)
  assert not read_all(src, plane='xz')[0][0].is_metric
  assert read_all(src, plane='xz', scale=1.0)[0][0].is_metric
  assert not read_all(src, is_metric=False)[0][0].is_metric


def test_frames_are_resized_with_their_camera(pair, files):
  src = pair([250 * i for i in range(20)], np.arange(0, 5, 0.25), height=48, width=64)
  (clip,), _ = read_all(src, width=32, camera='50,50,32,24')
  assert (clip.camera.width, clip.camera.height, clip.camera.fx) == (32, 24, 25)
  assert [files.number_of(f) for f in clip.frames] == list(range(20))


def test_reading_starts_near_the_wanted_time(tmp_path, files):
  path = tmp_path / 'long.mp4'
  files.write_video(path, [40 * i for i in range(40)], time_base=fractions.Fraction(1, 1000))
  images = list(video.read_frames(path, np.array([1.2, 1.24, 1.36, 9.0]), 0.02))
  assert [files.number_of(files.jpeg_bytes(i)) for i in images[:3]] == [30, 31, 34]
  assert images[3].reason == 'no_video_frame'
  np.testing.assert_allclose(video.frame_times(path), 0.04 * np.arange(40), atol=1e-9)


def test_the_nearest_frame_is_taken_not_the_first_or_last_in_reach(tmp_path, files):
  path = tmp_path / 'v.mp4'
  files.write_video(path, [40 * i for i in range(40)])
  images = video.read_frames(path, np.array([0.09, 0.595, 0.61, 1.6]), 0.1)
  assert [files.number_of(files.jpeg_bytes(image)) for image in images] == [2, 15, 15, 39]
