import dataclasses
import errno
import itertools
import json
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from s2e_jax.data import index as index_lib
from s2e_jax.data import records, staging
from s2e_jax.data import writer as writer_lib
from s2e_jax.data.clips import ClipError, Skip, checked_clip
from s2e_jax.data.dataset import DatasetWriter, fold_split, open_dataset, share_of
from s2e_jax.structs import NUM_CLEARANCES


def contents(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_clip_comes_back_as_it_was_written(tmp_path, make_clip):
  clip = make_clip('a/b-1.c_d', num_frames=37, seed=3)
  writer = DatasetWriter(tmp_path / 'set', 'set', frames_per_record=8)
  assert not writer.has(clip.clip_id)
  writer.add(clip, 'val')
  assert writer.has(clip.clip_id)
  summary = writer.finish()
  dataset = open_dataset(tmp_path / 'set')
  (info,) = dataset.clips
  for name in (
    'clip_id',
    'source',
    'licence',
    'camera',
    'footprint',
    'embodiment',
    'is_metric',
    'is_rate_assumed',
  ):
    assert getattr(info, name) == getattr(clip, name)
  assert info.split == 'val' and dataset.splits == ('val',) and info.num_frames == 37
  np.testing.assert_array_equal(info.stamps, clip.stamps)  # float64, exact at unix times
  np.testing.assert_allclose(info.position + np.array(info.origin), clip.position, atol=1e-6)
  np.testing.assert_array_equal(info.yaw, clip.yaw.astype(np.float32))
  assert dataset.frames(0, range(37)) == list(clip.frames)
  assert dataset.frames(0, [36, 0, 8, 7, 8]) == [clip.frames[i] for i in (36, 0, 8, 7, 8)]
  with pytest.raises(IndexError, match='frames 0 to 36'):
    dataset.frames(0, [37])
  assert (
    summary.frames == {'val': 37} and summary.clips == {'val': 1} and summary.content_hash == dataset.content_hash
  )


@pytest.mark.process
def test_tfds_reads_it_as_its_own_without_tensorflow(small_dataset):
  code = """
    import sys
    import tensorflow_datasets as tfds
    builder = tfds.builder_from_directory(sys.argv[1])
    source = builder.as_data_source('train')
    record = source[len(source) - 1]
    assert builder.info.splits['train'].num_examples == len(source) == 12, len(source)
    assert record['frames'][0].shape == (24, 40, 3) and record['stamps'].dtype == 'float64'
    assert record['camera']['fx'] == 31.7, record['camera']
    from s2e_jax.data import loader, windows
    from s2e_jax.data.dataset import open_dataset
    batches = loader.make_loader(
      open_dataset(sys.argv[1]), [0, 1], windows.SegmentSpec(3, 4), 24, 40, 2, 0, train=True)
    next(batches)
    assert 'tensorflow' not in sys.modules
  """
  subprocess.run([sys.executable, '-c', textwrap.dedent(code), str(small_dataset.path)], check=True, timeout=120)


KILLED_CONVERSION = """
  import os, signal, sys
  from pathlib import Path
  sys.path.insert(0, sys.argv[2])
  from conftest import small_clip
  from s2e_jax.data.dataset import DatasetWriter
  from s2e_jax.data.clips import Skip

  def convert(path):
    writer = DatasetWriter(path, 'set', frames_per_record=8, max_shard_bytes=9_000, options={'rate': 4})
    for seed in (4, 1, 3, 0):
      clip = small_clip(f'drive-{seed}', 17 + seed, seed=seed)
      if not writer.has(clip.clip_id):
        writer.add(clip, 'train' if seed else 'test')
      writer.skip(Skip('odd', f'file-{seed}', 'left out'))
    writer.finish()

  def in_child(path, kill_at):
    child = os.fork()
    if child == 0:
      real, calls = os.replace, iter(range(1_000_000))
      def replace(*names):
        moment = next(calls)
        if moment == kill_at // 2 and kill_at % 2 == 0:
          os.kill(os.getpid(), signal.SIGKILL)
        real(*names)
        if moment == kill_at // 2 and kill_at % 2 == 1:
          os.kill(os.getpid(), signal.SIGKILL)
      os.replace = replace
      status = 1
      try:
        convert(path)
        status = 0
      finally:
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

  root = Path(sys.argv[1])
  assert in_child(root / 'whole', -1) == 0
  kills = 0
  # Every rename is a moment at which something becomes visible: die just before and just after each of them.
  for kill_at in range(40):
    path = root / f'killed-{kill_at}'
    code = in_child(path, kill_at)
    if code == 0:
      break
    assert code == -signal.SIGKILL, code
    kills += 1
    if kill_at % 3 == 0 and not path.exists():
      in_child(path, kill_at % 4)  # and again
    if not path.exists():
      assert in_child(path, -1) == 0
    listing = lambda folder: {p.name: p.read_bytes() for p in folder.iterdir()}
    assert listing(path) == listing(root / 'whole'), kill_at
  print(kills)
"""


@pytest.mark.process
def test_a_conversion_killed_at_any_moment_resumes_to_the_same_bytes(tmp_path, repo, make_clip):
  script = [sys.executable, '-c', textwrap.dedent(KILLED_CONVERSION), str(tmp_path), str(repo / 'tests' / 'data')]
  done = subprocess.run(script, check=False, timeout=240, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) >= 14
  # Another process gives the same bytes as well.
  writer = DatasetWriter(tmp_path / 'here', 'set', frames_per_record=8, max_shard_bytes=9_000, options={'rate': 4})
  for seed in (4, 1, 3, 0):
    writer.add(make_clip(f'drive-{seed}', 17 + seed, seed=seed), 'train' if seed else 'test')
    writer.skip(Skip('odd', f'file-{seed}', 'left out'))
  writer.finish()
  assert contents(tmp_path / 'here') == contents(tmp_path / 'whole')


def test_only_finished_clips_count_after_an_interruption(tmp_path, make_clip):
  first = DatasetWriter(tmp_path / 'set', 'set')
  first.add(make_clip('one'), 'train')
  first.skip(Skip('bad', 'file-1', 'words'))
  with open(tmp_path / 'set.partial' / 'skips.jsonl', 'a') as file:
    file.write('{"reason": "cut sho')
  with pytest.raises(ValueError, match='did not finish'):
    open_dataset(tmp_path / 'set')
  second = DatasetWriter(tmp_path / 'set', 'set')
  assert second.resumed == {'one'} and second.has('one') and not second.has('two')
  second.skip(Skip('bad', 'file-1', 'words'))
  second.skip(Skip('bad', 'file-2', 'words'))
  second.skip(Skip('short', 'file-2', 'words'))
  second.add(make_clip('two'), 'train')
  summary = second.finish()
  assert summary.skips == {'bad': 2, 'short': 1} and summary.clips == {'train': 2}
  stored = json.loads((tmp_path / 'set' / writer_lib.SUMMARY_FILE).read_text())
  assert stored['skips'] == summary.skips and len(stored['skipped']) == 3
  assert not (tmp_path / 'set.partial').exists()


def test_a_killed_conversion_is_not_continued_with_other_settings(tmp_path, make_clip):
  DatasetWriter(tmp_path / 'set', 'set', options={'height': 64}).add(make_clip('one'), 'train')
  with pytest.raises(ValueError, match='other settings'):
    DatasetWriter(tmp_path / 'set', 'set', options={'height': 32})
  fresh = DatasetWriter(tmp_path / 'set', 'set', options={'height': 32}, resume=False)
  assert fresh.num_clips == 0


def test_a_finished_dataset_is_replaced_only_on_request(tmp_path, make_clip):
  path = tmp_path / 'set'
  for overwrite in (False, True):
    writer = DatasetWriter(path, 'set', overwrite=overwrite)
    writer.add(make_clip(f'clip-{overwrite}'), 'train')
    writer.finish()
    before = contents(path)
    with pytest.raises(ValueError, match='overwrite=True'):
      DatasetWriter(path, 'set')
    assert contents(path) == before
  assert open_dataset(path).clip_ids('train') == ['clip-True']
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'thesis.tex').write_text('precious')
  with pytest.raises(ValueError, match='is no dataset'):
    DatasetWriter(tmp_path / 'other', 'set', overwrite=True)


def test_order_of_conversion_does_not_matter(tmp_path, make_clip):
  clips = [make_clip(f'c-{i}', 9 + i, seed=i) for i in range(4)]
  for name, order in (('x', (0, 1, 2, 3)), ('y', (2, 0, 3, 1))):
    writer = DatasetWriter(tmp_path / name, 'set')
    for i in order:
      writer.add(clips[i], 'train')
    writer.finish()
  assert contents(tmp_path / 'x') == contents(tmp_path / 'y')
  writer = DatasetWriter(tmp_path / 'z', 'set')
  for clip in clips[:3] + [dataclasses.replace(clips[3], yaw=clips[3].yaw + 1e-6)]:
    writer.add(clip, 'train')
  assert writer.finish().content_hash != open_dataset(tmp_path / 'x').content_hash


def test_clearances_come_back_and_are_unknown_where_there_are_none(tmp_path, make_clip):
  known = np.random.default_rng(0).uniform(0, 10, (20, NUM_CLEARANCES)).astype(np.float32)
  writer = DatasetWriter(tmp_path / 'set', 'set', frames_per_record=8)
  writer.add(dataclasses.replace(make_clip('a', 20), clearances=known), 'train')
  writer.add(make_clip('b', 9), 'train')
  writer.finish()
  for _ in range(2):  # from the index, and from the records when there is none
    one, other = open_dataset(tmp_path / 'set').clips
    np.testing.assert_array_equal(one.clearances, known)
    assert other.clearances.shape == (9, NUM_CLEARANCES) and np.isnan(other.clearances).all()
    (tmp_path / 'set' / 'index.npz').unlink()


def test_records_of_the_first_version_are_read(make_clip, monkeypatch):
  clip = make_clip('a', 5)
  old = records.features(with_clearances=False)
  encode = old.encode_example
  monkeypatch.setattr(records, 'features', lambda with_clearances=True: old)
  monkeypatch.setattr(old, 'encode_example', lambda e: encode({k: v for k, v in e.items() if k != 'clearances'}))
  (record,) = records.encode_clip(clip, 8)
  monkeypatch.undo()
  assert b'clearances' not in record
  found = records.decode_record(record)
  assert found['clearances'].shape == (5, NUM_CLEARANCES) and np.isnan(found['clearances']).all()
  np.testing.assert_allclose(found['yaw'], clip.yaw, rtol=1e-6)


@pytest.mark.parametrize(
  ('shape', 'value'), [((20, 3), 1.0), ((19, NUM_CLEARANCES), 1.0), ((20, NUM_CLEARANCES), -1.0)]
)
def test_bad_clearances_are_named(make_clip, shape, value):
  with pytest.raises(ClipError, match=r'must be .20, 8. metres and not negative'):
    checked_clip(dataclasses.replace(make_clip('a', 20), clearances=np.full(shape, value)))


def test_full_disk_while_adding_keeps_what_was_there(tmp_path, make_clip, monkeypatch):
  writer = DatasetWriter(tmp_path / 'set', 'set')
  writer.add(make_clip('one'), 'train')
  before = contents(tmp_path / 'set.partial' / 'clips')
  with monkeypatch.context() as patch:
    patch.setattr(
      staging.os, 'fsync', lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'No space left on device'))
    )
    with pytest.raises(OSError, match=r'disk full while storing clip .two.*free space and run the same') as caught:
      writer.add(make_clip('two', seed=1), 'train')
  assert caught.value.errno == errno.ENOSPC
  assert contents(tmp_path / 'set.partial' / 'clips') == before and not writer.has('two')
  writer.add(make_clip('two', seed=1), 'train')
  assert writer.finish().clips == {'train': 2}


class FullDiskWriter:
  """Fails as the real one does on /dev/full."""

  def __init__(self, path, options):
    self.file = open(path, 'wb')  # noqa: SIM115

  def write(self, record):
    self.file.write(record[:10])

  def close(self):
    self.file.close()
    raise RuntimeError(
      'write() failed: No space left on device; writing x; at byte 0; Failed to close chunk_writer'
    )


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full on this system')
def test_the_real_writer_reports_a_full_disk_the_way_we_expect():
  writer = writer_lib.array_record_module.ArrayRecordWriter('/dev/full', 'group_size:1')
  writer.write(b'x')
  with pytest.raises(RuntimeError, match='No space left on device'):
    writer.close()


def test_full_disk_while_finishing_leaves_no_half_dataset(tmp_path, make_clip, monkeypatch):
  writer = DatasetWriter(tmp_path / 'set', 'set')
  writer.add(make_clip('one'), 'train')
  with monkeypatch.context() as patch:
    patch.setattr(writer_lib.array_record_module, 'ArrayRecordWriter', FullDiskWriter)
    with pytest.raises(OSError, match='disk full while assembling'):
      writer.finish()
  assert not (tmp_path / 'set').exists() and not (tmp_path / 'set.partial' / 'dataset').exists()
  assert DatasetWriter(tmp_path / 'set', 'set').finish().clips == {'train': 1}


def test_empty_missing_and_foreign_folders_are_errors(tmp_path, make_clip):
  writer = DatasetWriter(tmp_path / 'empty', 'set')
  writer.skip(Skip('nan_pose', 'x', 'y'))
  with pytest.raises(ValueError, match=r'no clip was written.*nan_pose'):
    writer.finish()
  with pytest.raises(ValueError, match=r'does not exist.*convert'):
    open_dataset(tmp_path / 'nowhere')
  (tmp_path / 'foreign').mkdir()
  with pytest.raises(ValueError, match='is not a dataset'):
    open_dataset(tmp_path / 'foreign')
  writer.add(make_clip('one'), 'train')
  writer.finish()
  info = json.loads((tmp_path / 'empty' / 'dataset_info.json').read_text())
  (tmp_path / 'empty' / 'dataset_info.json').write_text(json.dumps(info | {'splits': []}))
  with pytest.raises(ValueError, match='is empty'):
    open_dataset(tmp_path / 'empty')


def broken(clip, **changes):
  return dataclasses.replace(clip, **changes)


@pytest.mark.parametrize('where', [0, 6])
@pytest.mark.parametrize(
  'reason, spoil',
  [
    ('bad_jpeg', lambda jpeg: jpeg[: len(jpeg) * 2 // 3]),
    ('bad_jpeg', lambda jpeg: jpeg[:-2]),
    ('bad_jpeg', lambda jpeg: b''),
    ('bad_jpeg', lambda jpeg: b'\x89PNG\r\n\x1a\n' + jpeg),
    ('mixed_sizes', lambda jpeg: simplejpeg.encode_jpeg(np.zeros((24, 32, 3), np.uint8))),
  ],
)
def test_bad_images_are_refused_before_anything_is_kept(tmp_path, make_clip, reason, spoil, where):
  clip = make_clip('one', 7)
  frames = list(clip.frames)
  frames[where] = spoil(frames[where])
  writer = DatasetWriter(tmp_path / 'set', 'set')
  with pytest.raises(ClipError, match='one') as caught:
    writer.add(broken(clip, frames=frames), 'train')
  assert caught.value.reason == reason
  assert not writer.has('one') and not list((tmp_path / 'set.partial' / 'clips').iterdir())


@pytest.mark.parametrize(
  'reason, change',
  [
    ('nan_pose', lambda clip: broken(clip, yaw=np.where(np.arange(7) == 3, np.nan, clip.yaw))),
    ('unsorted_stamps', lambda clip: broken(clip, stamps=clip.stamps[::-1])),
    ('length_mismatch', lambda clip: broken(clip, frames=clip.frames[:-1])),
    ('camera_size', lambda clip: broken(clip, camera=clip.camera.resized(20, 12))),
    ('bad_clip_id', lambda clip: broken(clip, clip_id='../a b')),
    ('duplicate_id', lambda clip: broken(clip, clip_id='taken')),
  ],
)
def test_broken_clips_are_refused_with_their_reason(tmp_path, make_clip, reason, change):
  writer = DatasetWriter(tmp_path / 'set', 'set')
  writer.add(make_clip('taken'), 'train')
  with pytest.raises(ClipError) as caught:
    writer.add(change(make_clip('one', 7)), 'train')
  assert caught.value.reason == reason
  with pytest.raises(ValueError, match='split'):
    writer.add(make_clip('two'), 'training')


@pytest.mark.parametrize('damage', ['absent', 'garbage', 'cut', 'stale'])
def test_the_index_is_made_again_from_the_records(tmp_path, make_clip, damage):
  writer = DatasetWriter(tmp_path / 'set', 'set', frames_per_record=8)
  for i in range(3):
    writer.add(make_clip(f'c-{i}', 11 + 5 * i, seed=i), ('train', 'test', 'train')[i])
  writer.finish()
  file = tmp_path / 'set' / index_lib.INDEX_FILE
  good = file.read_bytes()
  before = open_dataset(tmp_path / 'set')
  if damage == 'absent':
    file.unlink()
  elif damage == 'stale':
    index_lib.Index(tuple(before.clips), {'train': 1}, 'other').save(tmp_path / 'set')
  else:
    file.write_bytes(b'no zip' if damage == 'garbage' else good[: len(good) // 2])
  after = open_dataset(tmp_path / 'set')
  assert file.read_bytes() == good and after.content_hash == before.content_hash
  assert [c.clip_id for c in after.clips] == ['c-0', 'c-2', 'c-1']
  assert after.frames(1, [20]) == before.frames(1, [20])


def test_a_dataset_travels_to_other_processes(small_dataset):
  frames = small_dataset.frames(2, [40, 3])
  again = pickle.loads(pickle.dumps(small_dataset))
  assert again.frames(2, [40, 3]) == frames and again.content_hash == small_dataset.content_hash


def test_clips_are_found_by_split_and_id(small_dataset):
  assert small_dataset.splits == ('train', 'test')
  assert small_dataset.clip_ids('test') == ['set/drive-9']
  assert small_dataset.indices_of(['set/drive-9', 'set/drive-1']) == [5, 1]
  assert small_dataset.clip_indices() == list(range(6))
  with pytest.raises(ValueError, match="no split 'val'"):
    small_dataset.clip_ids('val')
  with pytest.raises(ValueError, match='unknown ids'):
    small_dataset.indices_of(['x'])


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 7), st.integers(7, 40), st.randoms())
def test_folds_partition_the_clips_whatever_their_order(num_folds, num_clips, random):
  ids = [f'clip-{i}' for i in range(num_clips)]
  shuffled = random.sample(ids, num_clips)
  tested = []
  for fold in range(num_folds):
    parts = fold_split(ids, num_folds, fold)
    assert parts == fold_split(shuffled, num_folds, fold)
    assert sorted(clip_id for part in parts.values() for clip_id in part) == sorted(ids)
    assert parts['val'] == fold_split(ids, num_folds, (fold + 1) % num_folds)['test']
    assert abs(len(parts['test']) - num_clips / num_folds) < 1
    tested += parts['test']
  assert sorted(tested) == sorted(ids)


def test_folds_that_cannot_be_are_errors():
  for ids, folds, fold in (
    (['a', 'b', 'c'], 2, 0),
    (['a', 'b', 'c'], 3, 3),
    (['a', 'b'], 3, 0),
    (['a'] * 4, 3, 0),
  ):
    with pytest.raises(ValueError):
      fold_split(ids, folds, fold)


def test_shares_of_clips_are_nested_and_depend_on_the_ids_alone():
  ids = [f'clip_{i}' for i in range(200)]
  shares = [share_of(ids, share) for share in (0.001, 0.01, 0.1, 0.5, 1.0)]
  assert [len(share) for share in shares] == [1, 2, 20, 100, 200]
  for smaller, larger in itertools.pairwise(shares):
    assert set(smaller) < set(larger)
  assert share_of(reversed(ids), 0.1) == shares[2] != ids[:20]


@pytest.mark.parametrize('share', [0.0, -0.5, 1.5, float('nan')])
def test_a_share_that_is_none_is_refused(share):
  with pytest.raises(ValueError, match=r'must lie in \(0, 1\]'):
    share_of(['a', 'b'], share)
