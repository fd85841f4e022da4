"""The conversion command: any format to the internal dataset, resumable, everything left out counted."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg

from s2e_jax.data import convert as convert_lib
from s2e_jax.data.clips import Skip
from s2e_jax.data.dataset import open_dataset
from s2e_jax.data.formats import base, gnm
from s2e_jax.data.formats.options import Options


@pytest.fixture
def source(tmp_path):
  """GNM folder of `count` usable drives, one too short and one without a pickle."""

  def make(count=6):
    for k in range(count + 2):
      frames = 8 if k == count else 20 + k
      folder = tmp_path / 'src' / f'drive_{k}'
      folder.mkdir(parents=True)
      for i in range(frames):
        image = np.full((30, 50, 3), 10 * k + i, np.uint8)
        (folder / f'{i}.jpg').write_bytes(simplejpeg.encode_jpeg(image))
      position = np.stack([0.2 * np.arange(frames), np.full(frames, k)], axis=1)
      if k <= count:
        (folder / 'traj_data.pkl').write_bytes(pickle.dumps({'position': position, 'yaw': np.zeros(frames)}))
    (tmp_path / 'src' / 'drive_1' / '3.jpg').write_bytes(b'no picture')
    (tmp_path / 'src' / 'drive_2' / '25.jpg').write_bytes(b'beyond the poses')
    return tmp_path / 'src'

  return make


def run(*args):
  return convert_lib.main([str(a) for a in args])


def test_a_source_becomes_a_dataset_with_everything_counted(source, tmp_path, capsys):
  src, dst = source(), tmp_path / 'out' / 'drives'
  args = ['--from=gnm', f'--src={src}', f'--dst={dst}', '--source=yard', '--licence=CC0', '--embodiment=wheeled']
  assert run(*args, '--splits=train:0.5,val:0.25,test:0.25', '--footprint=0.7x0.5', '--camera_height=0.3') == 0
  dataset = open_dataset(dst)
  # six usable of eight folders: 4 + 1 + 1 of the eight are cut from a shuffled list of all folders
  assert sorted(c.clip_id for c in dataset.clips) == [f'drive_{k}' for k in range(6)]
  assert {c.split for c in dataset.clips} <= {'train', 'val', 'test'}
  for index, clip in enumerate(dataset.clips):
    k = int(clip.clip_id[-1])
    kept = [i for i in range(20 + k) if (k, i) != (1, 3)]
    assert (clip.source, clip.licence, clip.embodiment, clip.is_rate_assumed) == ('yard', 'CC0', 'wheeled', True)
    assert (clip.footprint.length, clip.footprint.width, clip.camera.mount_height) == (0.7, 0.5, 0.3)
    np.testing.assert_allclose(clip.position[:, 0], 0.2 * np.array(kept), atol=1e-6)
    stored = dataset.frames(index, list(range(clip.num_frames)))
    assert stored == [(src / clip.clip_id / f'{i}.jpg').read_bytes() for i in kept]
  summary = json.loads((dst / 'conversion.json').read_text())
  assert sum(summary['clips'].values()) == 6
  assert sum(summary['frames'].values()) == sum(range(20, 26)) - 1
  assert summary['skips'] == {'missing_poses': 1, 'too_short': 1}
  assert summary['dropped_frames'] == {'bad_image': 1, 'image_without_pose': 1}
  assert summary['options']['from'] == 'gnm' and summary['options']['footprint'] == '0.7x0.5'
  shown = capsys.readouterr().out
  for word in ('train', 'hours', 'too_short', 'missing_poses', 'bad_image', 'image_without_pose'):
    assert word in shown


def test_frames_are_resized_on_request_only(source, tmp_path):
  src = source(1)
  assert run('--from=gnm', f'--src={src}', f'--dst={tmp_path / "small"}', '--height=12', '--width=16') == 0
  dataset = open_dataset(tmp_path / 'small')
  clip = dataset.clips[0]
  assert (clip.camera.height, clip.camera.width) == (12, 16)
  image = simplejpeg.decode_jpeg(dataset.frames(0, [5])[0])
  assert image.shape == (12, 16, 3) and abs(image.mean() - 5) < 2


class Killed(BaseException):
  """Stands for a signal."""


def test_a_killed_conversion_goes_on_and_ends_the_same(source, tmp_path, monkeypatch):
  src = source()
  whole = convert_lib.convert('gnm', src, tmp_path / 'whole', quiet=True)
  loads = []
  plain_load = gnm._load

  def load(folder, *args):
    loads.append(folder.name)
    if len(loads) == 4:
      raise Killed
    return plain_load(folder, *args)

  monkeypatch.setattr(gnm, '_load', load)
  with pytest.raises(Killed):
    convert_lib.convert('gnm', src, tmp_path / 'killed', quiet=True)
  assert not (tmp_path / 'killed').exists()
  before = list(loads)
  resumed = convert_lib.convert('gnm', src, tmp_path / 'killed', quiet=True)
  assert loads[len(before) :] == ['drive_3', 'drive_4', 'drive_5', 'drive_6']  # nothing finished is read again
  assert resumed.content_hash == whole.content_hash and resumed.skips == whole.skips
  reports = [json.loads((tmp_path / name / 'conversion.json').read_text()) for name in ('whole', 'killed')]
  for key in ('clips', 'frames', 'skips', 'dropped_frames', 'notes'):
    assert reports[0][key] == reports[1][key]


def test_a_recording_killed_between_its_parts_is_completed(source, tmp_path, monkeypatch):
  src = source(1)
  poses = pickle.loads((src / 'drive_0' / 'traj_data.pkl').read_bytes())
  count = 60
  for i in range(20, count):
    (src / 'drive_0' / f'{i}.jpg').write_bytes((src / 'drive_0' / '0.jpg').read_bytes())
  poses = {'position': np.stack([0.2 * np.arange(count), np.zeros(count)], axis=1), 'yaw': np.zeros(count)}
  poses['yaw'][25:32] = np.nan
  (src / 'drive_0' / 'traj_data.pkl').write_bytes(pickle.dumps(poses))
  add = convert_lib.DatasetWriter.add

  def killing_add(self, clip, split):
    if clip.clip_id == 'drive_0.1':
      raise Killed
    add(self, clip, split)

  with monkeypatch.context() as patch:
    patch.setattr(convert_lib.DatasetWriter, 'add', killing_add)
    with pytest.raises(Killed):
      convert_lib.convert('gnm', src, tmp_path / 'out', quiet=True)
  convert_lib.convert('gnm', src, tmp_path / 'out', quiet=True)
  dataset = open_dataset(tmp_path / 'out')
  lengths = {c.clip_id: c.num_frames for c in dataset.clips}
  assert lengths == {'drive_0': 25, 'drive_0.1': 28}
  assert len({c.split for c in dataset.clips}) == 1  # parts of one recording never straddle splits
  assert json.loads((tmp_path / 'out' / 'conversion.json').read_text())['dropped_frames']['nan_pose'] == 7


def test_finished_datasets_are_only_replaced_on_request(source, tmp_path, capsys):
  args = ['--from=gnm', f'--src={source(2)}', f'--dst={tmp_path / "out"}', '--quiet']
  assert run(*args) == 0
  before = (tmp_path / 'out' / 'conversion.json').read_bytes()
  assert run(*args) == 2
  assert 'exists already' in capsys.readouterr().err
  assert (tmp_path / 'out' / 'conversion.json').read_bytes() == before
  assert run(*args, '--limit=1', '--overwrite') == 0
  assert len(open_dataset(tmp_path / 'out').clips) == 1


def test_a_killed_conversion_only_goes_on_with_the_same_options(source, tmp_path, monkeypatch, capsys):
  src = source(2)

  def killed(self):
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(convert_lib.DatasetWriter, 'finish', killed)
    with pytest.raises(Killed):
      convert_lib.convert('gnm', src, tmp_path / 'out', quiet=True)
  args = ['--from=gnm', f'--src={src}', f'--dst={tmp_path / "out"}', '--quiet', '--height=12', '--width=20']
  assert run(*args) == 2
  assert '--fresh' in capsys.readouterr().err
  assert run(*args, '--fresh') == 0
  assert {c.camera.height for c in open_dataset(tmp_path / 'out').clips} == {12}


@pytest.mark.parametrize(
  'extra, words',
  [
    (['--splits=train:0.8,val:0.1'], 'sum to 1'),
    (['--splits=training:1'], '--splits'),
    (['--rate=-4'], '--rate=-4'),
    (['--height=0'], '--height=0'),
    (['--footprint=wide'], 'LENGTHxWIDTH'),
    (['--footprint=0x1'], 'positive sides'),
    (['--camera=none.json'], 'does not exist'),
    (['--camera=1,2,3'], 'fx,fy,cx,cy'),
    (['--pose_keys=a,b,c'], '--pose_keys means nothing to --from=gnm'),
    (['--splits_dir=/nowhere'], '--splits_dir=/nowhere does not exist'),
    (['--limit=0'], '--limit=0'),
    (['--src=/nowhere'], '--src=/nowhere does not exist'),
    (['--time_offset=noon'], '--time_offset'),
    (['--from=kitti'], 'missing_poses'),
  ],
)
def test_mistakes_say_what_is_wrong_and_write_nothing(source, tmp_path, capsys, extra, words):
  assert run('--from=gnm', f'--src={source(2)}', f'--dst={tmp_path / "out"}', *extra) == 2
  assert words in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_unknown_flags_and_formats_are_refused(tmp_path, capsys):
  for args in (['--from=gnm', '--src=a', '--dst=b', '--hieght=3'], ['--from=rosbag', '--src=a', '--dst=b']):
    with pytest.raises(SystemExit):
      run(*args)
  assert '--hieght' in capsys.readouterr().err


def test_sources_without_anything_usable_are_an_error(source, tmp_path, capsys):
  (tmp_path / 'bare').mkdir()
  assert run('--from=gnm', f'--src={tmp_path / "bare"}', f'--dst={tmp_path / "out"}') == 2
  assert 'holds nothing' in capsys.readouterr().err
  assert run('--from=gnm', f'--src={source(2)}', f'--dst={tmp_path / "out"}', '--min_seconds=99') == 2
  assert 'too_short' in capsys.readouterr().err
  assert sorted(p.name for p in tmp_path.iterdir()) == ['bare', 'src']  # so better options can be tried at once


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'h5py', None)
  monkeypatch.delitem(sys.modules, 's2e_jax.data.formats.recon', raising=False)
  assert run('--from=recon', f'--src={tmp_path}', f'--dst={tmp_path / "out"}') == 2
  assert 's2e_jax[data]' in capsys.readouterr().err


def items(*names, split=None):
  return [base.Item(name, name, lambda tally: (), split) for name in names]


def test_shares_of_splits_are_exact_and_repeatable():
  found = items(*(f'c{i}' for i in range(20)))
  splits = convert_lib.assign_splits(found, {'train': 0.8, 'val': 0.1, 'test': 0.1})
  assert sorted(splits.values()).count('train') == 16 and sorted(splits.values()).count('val') == 2
  assert splits == convert_lib.assign_splits(found[::-1], {'train': 0.8, 'val': 0.1, 'test': 0.1})
  assert sorted(convert_lib.assign_splits(found[:3], {'train': 0.8, 'val': 0.1, 'test': 0.1}).values()) == [
    'test',
    'train',
    'val',
  ]
  assert convert_lib.assign_splits(found[:1], {'train': 0.8, 'val': 0.1, 'test': 0.1}) == {'c0': 'train'}
  assert set(convert_lib.assign_splits(found, {'test': 1.0}).values()) == {'test'}


def test_splits_of_the_source_are_kept_and_val_comes_out_of_train():
  found = items(*(f'a{i}' for i in range(10)), split='train') + items('t0', 't1', split='test')
  splits = convert_lib.assign_splits(found, {'train': 0.8, 'val': 0.2, 'test': 0.0})
  assert [splits[k] for k in ('t0', 't1')] == ['test', 'test']
  assert sorted(splits[f'a{i}'] for i in range(10)) == ['train'] * 8 + ['val'] * 2


def test_names_that_collide_are_counted_not_lost(source, tmp_path):
  src = source(2)
  (src / 'drive_0').rename(src / 'drive 9')
  (src / 'drive_1').rename(src / 'drive_9')
  convert_lib.convert('gnm', src, tmp_path / 'out', quiet=True)
  summary = json.loads((tmp_path / 'out' / 'conversion.json').read_text())
  assert summary['skips']['duplicate_id'] == 1 and sum(summary['clips'].values()) == 1


def test_camera_files_are_read(source, tmp_path):
  path = tmp_path / 'camera.json'
  fields = dict(width=500, height=300, fx=200.0, fy=210.0, cx=250.0, cy=150.0, model='fisheye', mount_height=0.4)
  path.write_text(json.dumps(fields | {'distortion': [0.1, 0.02, 0, 0]}))
  camera = Options(camera=str(path)).camera_for(50, 30)
  assert (camera.fx, camera.fy, camera.cx, camera.model, camera.distortion[0]) == (20, 21, 25, 'fisheye', 0.1)
  path.write_text(json.dumps(fields | {'focal': 3}))
  with pytest.raises(ValueError, match='focal'):
    Options(camera=str(path))


def test_every_option_has_a_flag_and_help():
  shown = convert_lib.parser().format_help()
  for name in convert_lib._HELP:
    assert f'--{name}' in shown


@pytest.mark.process
def test_the_command_imports_neither_tensorflow_nor_an_accelerator(source, tmp_path):
  code = (
    'import sys; from s2e_jax.data import convert; status = convert.main(sys.argv[1:]); '
    'assert "tensorflow" not in sys.modules; sys.exit(status)'
  )
  args = ['--from=gnm', f'--src={source(2)}', f'--dst={tmp_path / "out"}']
  done = subprocess.run([sys.executable, '-c', code, *args], capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  assert (
    open_dataset(tmp_path / 'out').splits == ('train', 'val') or len(open_dataset(tmp_path / 'out').clips) == 2
  )


def test_real_go2_recordings_convert_and_open(shared_data, tmp_path):
  src, dst = shared_data / 'video' / 'go2_apartment' / 'raw', tmp_path / 'go2'
  summary = convert_lib.convert('gnm', src, dst, Options(source='go2_apartment', licence='MIT'), quiet=True)
  assert summary.clips == {'train': 16, 'val': 2, 'test': 2} and sum(summary.frames.values()) == 1776
  assert not summary.skips
  dataset = open_dataset(dst)
  index = dataset.indices_of(['go2_20250717_175015'])[0]
  assert dataset.clips[index].num_frames == 109
  assert dataset.frames(index, [108]) == [(src / 'go2_20250717_175015' / '108.jpg').read_bytes()]


def test_the_real_kitti_sequence_converts_and_opens(shared_data, tmp_path):
  src = shared_data / 'video' / 'kitti_odometry_06'
  convert_lib.convert('kitti', src, tmp_path / 'k', Options(width=613), quiet=True)
  (clip,) = open_dataset(tmp_path / 'k').clips
  assert (clip.camera.width, clip.camera.height, clip.num_frames) == (613, 185, 21)
  assert clip.camera.fx == pytest.approx(707.0912 / 2) and clip.split == 'train'


def test_readers_can_be_used_without_a_dataset(source):
  found = list(base.read('gnm', source(2), Options()))
  assert sorted(type(x).__name__ for x in found) == ['Clip', 'Clip', 'Skip', 'Skip']
  assert all(x.where and x.message for x in found if isinstance(x, Skip))
