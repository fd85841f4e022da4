import dataclasses
import subprocess
import sys
import textwrap
from collections import Counter

import cv2
import numpy as np
import pytest
import simplejpeg

from s2e_jax.data import loader as loader_lib
from s2e_jax.data import windows
from s2e_jax.data.dataset import DatasetWriter, open_dataset
from s2e_jax.data.loader import make_loader
from s2e_jax.data.segments import SegmentPlan
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.structs import SegmentBatch

SPEC = SegmentSpec(num_history=3, num_windows=4, goal_dropout=0.3)
TRAIN = [0, 1, 2, 3, 4]


def loader_of(dataset, train=True, batch=3, seed=7, spec=SPEC, clips=TRAIN, **options):
  return make_loader(dataset, clips, spec, 24, 40, batch, seed, train=train, **({'num_threads': 0} | options))


def leaves(batch):
  return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}


def assert_same(one, other):
  for name, leaf in leaves(one).items():
    np.testing.assert_array_equal(leaf, leaves(other)[name], err_msg=name)


def identified(dataset, batches, spec=SPEC, clips=TRAIN):
  """(clip, frame) of every valid window, found by its picture among all pictures of the dataset."""
  pictures = {}
  for i in clips:
    for j, jpeg in enumerate(dataset.frames(i, range(dataset.clips[i].num_frames))):
      pictures[simplejpeg.decode_jpeg(jpeg).tobytes()] = (i, j)
  for batch in batches:
    for b, w in zip(*np.nonzero(batch.window_mask), strict=True):
      history = [pictures[frame.tobytes()] for frame in batch.frames[b, w : w + spec.num_history]]
      yield history, (b, w), batch


def test_batches_have_the_agreed_shapes_and_types(small_dataset):
  with loader_of(small_dataset, batch=5) as batches:
    batch = next(batches)
  assert isinstance(batch, SegmentBatch) and batches.num_batches is None
  assert {name: (leaf.shape, leaf.dtype.name) for name, leaf in leaves(batch).items()} == {
    'frames': ((5, 6, 24, 40, 3), 'uint8'),
    'goal_in_robot': ((5, 4, 2), 'float32'),
    'has_goal': ((5, 4), 'bool'),
    'waypoints_in_robot': ((5, 4, 10, 2), 'float32'),
    'waypoint_mask': ((5, 4, 10), 'bool'),
    'window_mask': ((5, 4), 'bool'),
    'clearances': ((5, 4, 8), 'float32'),
  }
  assert all(type(leaf) is np.ndarray for leaf in leaves(batch).values())


def test_evaluation_gives_every_full_future_window_once_with_its_own_frames_and_labels(small_dataset):
  for_training_only = {'flip_prob': 1.0, 'photometric': 1.0, 'hue': 3.0}
  batches = loader_of(small_dataset, train=False, **for_training_only)
  assert batches.too_short == ('set/drive-4',)
  seen = Counter()
  everything = list(batches)
  assert len(everything) == batches.num_batches
  for history, (b, w), batch in identified(small_dataset, everything):
    clip_index, present = history[-1]
    assert history == [(clip_index, max(0, present - back)) for back in (2, 1, 0)]
    clip = small_dataset.clips[clip_index]
    truth = windows.segment_labels(clip, [present], SPEC, np.random.default_rng(0))
    np.testing.assert_allclose(batch.waypoints_in_robot[b, w], truth['waypoints_in_robot'][0], atol=1e-6)
    assert batch.waypoint_mask[b, w].all()
    seen[clip_index, present] += 1
  full = {(i, t): 1 for i in TRAIN for t in range(small_dataset.clips[i].num_frames - SPEC.horizon)}
  assert seen == Counter(full)
  assert batches.num_windows == len(full) == 31 + 13 + 57 + 2
  with pytest.raises(StopIteration):
    next(batches)


def test_evaluation_does_not_depend_on_batch_size_or_processes(small_dataset):
  def windows_of(**options):
    found = {}
    for history, (b, w), batch in identified(small_dataset, loader_of(small_dataset, train=False, **options)):
      found[history[-1]] = (batch.has_goal[b, w], batch.goal_in_robot[b, w].tobytes())
    return found

  alone = windows_of(batch=3)
  assert alone == windows_of(batch=7)
  shares = [windows_of(batch=4, process_index=p, process_count=3) for p in range(3)]
  assert sum(len(share) for share in shares) == len(alone)
  assert shares[0] | shares[1] | shares[2] == alone
  counts = {
    loader_of(small_dataset, train=False, batch=4, process_index=p, process_count=3).num_batches for p in range(3)
  }
  assert len(counts) == 1  # all processes take equally many steps


def test_an_epoch_of_training_holds_every_window_in_an_order_of_its_own(small_dataset):
  batches = loader_of(small_dataset, batch=1, flip_prob=0.0, photometric=0.0)
  wanted = {(i, t) for i in TRAIN for t in range(small_dataset.clips[i].num_frames - SPEC.min_waypoints)}
  assert batches.num_windows == len(wanted)
  orders, partitions = [], []
  for _ in range(3):
    epoch = [next(batches) for _ in range(batches.num_segments)]
    found = [history[-1] for history, _, _ in identified(small_dataset, epoch)]
    assert set(found) == wanted
    # A segment that would be half empty overlaps its neighbour instead: never more than one segment per clip.
    assert len(found) - len(wanted) < SPEC.num_windows * len(TRAIN)
    orders.append(tuple(found))
    partitions.append({h[-1] for h, (_, w), _ in identified(small_dataset, epoch) if w == 0})
  assert len(set(orders)) == 3
  assert partitions[0] != partitions[1] or partitions[1] != partitions[2]


def test_training_shards_are_disjoint_and_cover_everything(small_dataset):
  alone = loader_of(small_dataset, batch=1)
  num = alone.num_segments
  whole = [next(alone).frames.tobytes() for _ in range(2 * num)]
  shares = []
  for p in range(2):
    share = loader_of(small_dataset, batch=1, process_index=p, process_count=2)
    shares.append([next(share).frames.tobytes() for _ in range(num)])
  assert shares[0] == whole[0::2] and shares[1] == whole[1::2]


@pytest.mark.parametrize('options', [{'num_threads': 2, 'prefetch': 5}, {'num_threads': 1, 'prefetch': 1}])
def test_threads_change_nothing(small_dataset, options):
  plain = loader_of(small_dataset)
  with loader_of(small_dataset, **options) as threaded:
    for _ in range(30):
      assert_same(next(plain), next(threaded))


def test_the_seed_decides_the_batches(small_dataset):
  assert_same(next(loader_of(small_dataset)), next(loader_of(small_dataset)))
  assert (next(loader_of(small_dataset)).frames != next(loader_of(small_dataset, seed=8)).frames).any()


@pytest.mark.parametrize('train', [True, False])
def test_a_saved_position_continues_bit_for_bit(small_dataset, train):
  with loader_of(small_dataset, train, num_threads=2, prefetch=4) as first:
    for _ in range(4):
      next(first)
    state = first.get_state()
    assert isinstance(state, bytes)
    rest = [next(first) for _ in range(5)]
    later = first.get_state()
  for options in ({'num_threads': 2}, {'num_threads': 0}):
    with loader_of(small_dataset, train, **options) as second:
      next(second)  # a used iterator can be set as well
      second.set_state(state)
      for batch in rest:
        assert_same(batch, next(second))
      assert second.get_state() == later


def test_a_position_of_other_data_or_settings_is_refused(small_dataset):
  state = loader_of(small_dataset).get_state()
  for options in (
    {'seed': 8}, {'batch': 2}, {'spec': dataclasses.replace(SPEC, goal_dropout=0.1)}, {'clips': [0, 1]},
    {'train': False}, {'process_count': 2}, {'flip_prob': 0.1},
  ):  # fmt: skip
    with pytest.raises(ValueError, match='belongs to a loader with other'):
      loader_of(small_dataset, **options).set_state(state)


WORKERS = """
  import hashlib, sys
  from s2e_jax.data.dataset import open_dataset
  from s2e_jax.data.loader import make_loader
  from s2e_jax.data.windows import SegmentSpec

  def digest(batch):
    return hashlib.sha256(b''.join(leaf.tobytes() for _, leaf in sorted(vars(batch).items()))).hexdigest()

  if __name__ == '__main__':
    spec = SegmentSpec(num_history=3, num_windows=4, goal_dropout=0.3)
    make = lambda **options: make_loader(
      open_dataset(sys.argv[1]), [0, 1, 2, 3, 4], spec, 24, 40, 3, 7, train=True, **options)
    with make(num_workers=2, num_threads=1, prefetch=4) as first:
      start = [digest(next(first)) for _ in range(3)]
      state = first.get_state()
      rest = [digest(next(first)) for _ in range(4)]
    with make(num_workers=2, num_threads=0) as second:
      second.set_state(state)
      assert [digest(next(second)) for _ in range(4)] == rest
    print(state.decode(), *start, *rest, sep='\\n')
"""


@pytest.mark.process
def test_worker_processes_give_the_same_batches_and_resume_in_another_process(small_dataset, tmp_path):
  script = tmp_path / 'workers.py'
  script.write_text(textwrap.dedent(WORKERS))
  done = subprocess.run(
    [sys.executable, str(script), str(small_dataset.path)],
    check=False,
    timeout=240,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert 'leaked' not in done.stderr
  state, *digests = done.stdout.split('\n')[:8]
  names = {'__name__': 'not main'}
  exec(textwrap.dedent(WORKERS), names)  # its digest function
  here = loader_of(small_dataset)
  assert [names['digest'](next(here)) for _ in range(3)] == digests[:3]
  resumed = loader_of(small_dataset)
  resumed.set_state(state.encode())
  assert [names['digest'](next(resumed)) for _ in range(4)] == digests[3:]


def test_a_frame_is_decoded_once_per_segment(small_dataset, monkeypatch):
  decoded = []
  real = loader_lib.decode_frame
  monkeypatch.setattr(loader_lib, 'decode_frame', lambda jpeg, *size: (decoded.append(jpeg), real(jpeg, *size))[1])
  for train in (True, False):
    batches = loader_of(small_dataset, train, batch=1)
    for _ in range(batches.num_segments):
      decoded.clear()
      batch = next(batches)
      assert len(decoded) == len(set(decoded)) <= 6
      valid = int(batch.window_mask.sum())
      # Frames that no window looks at are not decoded either.
      assert len(decoded) <= valid + SPEC.num_history - 1


def test_flips_and_light_are_drawn_once_per_segment(small_dataset):
  spec = dataclasses.replace(SPEC, num_history=1)
  options = {'spec': spec, 'batch': 1, 'photometric': 0.0}
  plain, flipped = (loader_of(small_dataset, flip_prob=p, **options) for p in (0.0, 1.0))
  mixed = loader_of(small_dataset, flip_prob=0.5, **options)
  counts = Counter()
  for _ in range(plain.num_segments):
    a, b, c = next(plain), next(flipped), next(mixed)
    np.testing.assert_array_equal(b.frames, a.frames[..., ::-1, :])
    np.testing.assert_array_equal(b.waypoints_in_robot, a.waypoints_in_robot * np.float32([1, -1]))
    np.testing.assert_array_equal(b.goal_in_robot, a.goal_in_robot * np.float32([1, -1]))
    is_flipped = (c.frames != a.frames).any()
    assert_same(c, b if is_flipped else a)
    counts[is_flipped] += 1
  assert min(counts[True], counts[False]) >= 3
  lit = next(loader_of(small_dataset, flip_prob=0.0, **(options | {'photometric': 0.5}))).frames
  dull = next(loader_of(small_dataset, flip_prob=0.0, **options)).frames
  turned = next(loader_of(small_dataset, flip_prob=0.0, hue=3.0, **options)).frames
  assert (lit != dull).any() and (turned != dull).any()


@pytest.mark.parametrize('size', [(24, 40), (12, 20), (11, 17), (7, 40), (48, 80)])
def test_frames_are_decoded_at_the_size_asked_for(make_clip, size):
  jpeg = make_clip(height=24, width=40).frames[0]
  out = loader_lib.decode_frame(jpeg, *size)
  assert out.shape == (*size, 3) and out.dtype == np.uint8
  full = simplejpeg.decode_jpeg(jpeg)
  if size == (24, 40):
    np.testing.assert_array_equal(out, full)
  wanted = cv2.resize(full, size[::-1], interpolation=cv2.INTER_AREA).astype(float)
  # Decoding at a JPEG scale filters a little differently from averaging pixels.
  assert np.abs(out - wanted).mean() < 3.0


def test_a_grey_image_becomes_rgb():
  grey = np.random.default_rng(0).integers(0, 256, (16, 24, 1), dtype=np.uint8)
  out = loader_lib.decode_frame(simplejpeg.encode_jpeg(grey, colorspace='GRAY', quality=100), 16, 24)
  assert np.abs(out.astype(int) - grey).max() <= 3


@pytest.fixture(scope='module')
def odd_dataset(tmp_path_factory, make_clip):
  """Clips at 10 Hz, at 2 Hz, with a hole, and at unsteady rate."""
  path = tmp_path_factory.mktemp('odd') / 'odd'
  writer = DatasetWriter(path, 'odd')
  writer.add(make_clip('a', 101, rate=10.0, seed=1), 'train')
  writer.add(make_clip('b', 31, rate=2.0, seed=2), 'train')
  holey = make_clip('c', 60, seed=3)
  writer.add(dataclasses.replace(holey, stamps=holey.stamps + 2.0 * (np.arange(60) >= 24)), 'train')
  unsteady = make_clip('d', 80, seed=4)
  gaps = np.random.default_rng(0).uniform(0.05, 0.4, 80)
  writer.add(dataclasses.replace(unsteady, stamps=np.cumsum(gaps)), 'train')
  writer.finish()
  return open_dataset(path)


def test_history_keeps_to_the_4_hz_grid_at_any_rate(odd_dataset):
  for train in (False, True):
    batches = loader_of(odd_dataset, train, batch=1, clips=[0, 1, 3], flip_prob=0.0, photometric=0.0)
    some = [next(batches) for _ in range(batches.num_segments)]
    presents = Counter()
    for history, _, _ in identified(odd_dataset, some, clips=[0, 1, 3]):
      clip_index = history[-1][0]
      stamps = odd_dataset.clips[clip_index].stamps
      seen = stamps[[frame for _, frame in history]]
      off = 0.5 * np.diff(stamps).max() + 1e-6
      if history[0] != history[1] and seen[0] > stamps[0] + 0.5:
        np.testing.assert_allclose(np.diff(seen), 0.25, atol=2 * off)
      presents[history[-1]] += 1
    if not train:
      assert max(presents.values()) == 1
      assert sum(presents.values()) == batches.num_windows


def test_training_sees_all_frames_of_a_fast_clip_over_the_epochs(odd_dataset):
  batches = loader_of(odd_dataset, batch=1, clips=[0], flip_prob=0.0, photometric=0.0)
  some = [next(batches) for _ in range(12 * batches.num_segments)]
  seen = {history[-1][1] for history, _, _ in identified(odd_dataset, some, clips=[0])}
  possible = set(range(101 - 13))
  assert seen <= possible and len(seen) > 0.95 * len(possible)


def test_a_segment_never_reaches_across_a_hole(odd_dataset):
  for train in (True, False):
    batches = loader_of(odd_dataset, train, batch=1, clips=[2], flip_prob=0.0, photometric=0.0)
    some = [next(batches) for _ in range(2 * batches.num_segments if train else batches.num_segments)]
    presents = set()
    for history, _, _ in identified(odd_dataset, some, clips=[2]):
      sides = {frame >= 24 for _, frame in history}
      assert len(sides) == 1
      presents.add(history[-1][1])
    left = SPEC.min_waypoints if train else SPEC.horizon
    assert presents == set(range(24 - left)) | set(range(24, 60 - left))


def test_clips_without_windows_are_listed_or_an_error_when_there_are_no_others(small_dataset):
  assert loader_of(small_dataset, clips=[4, 0, 3], train=False).too_short == ('set/drive-4',)
  with pytest.raises(ValueError, match='no window can be cut from 1 clips'):
    loader_of(small_dataset, clips=[4])
  with pytest.raises(ValueError, match='no window'):
    loader_of(small_dataset, clips=[])


def test_a_clip_shorter_than_a_segment_is_padded_and_masked(small_dataset):
  batch = next(loader_of(small_dataset, clips=[3], train=False, batch=2, flip_prob=0.0, photometric=0.0))
  np.testing.assert_array_equal(batch.window_mask, [[True, True, False, False], [False] * 4])
  assert not batch.frames[1].any() and not batch.has_goal[1].any() and not batch.waypoint_mask[1].any()
  for frame in batch.frames[0, 4:]:
    np.testing.assert_array_equal(frame, batch.frames[0, 3])


@pytest.mark.parametrize(
  'options, word',
  [
    ({'batch': 0}, 'batch_segments=0'),
    ({'seed': -1}, 'seed=-1'),
    ({'num_threads': -1}, 'num_threads'),
    ({'process_index': 2, 'process_count': 2}, 'process_index=2'),
    ({'flip_prob': 1.5}, 'flip_prob'),
    ({'photometric': -0.5}, 'photometric'),
    ({'hue': 4.0}, 'hue=4.0 must be an angle'),
  ],
)
def test_bad_numbers_are_errors_before_anything_is_read(small_dataset, options, word):
  with pytest.raises(ValueError, match=word):
    loader_of(small_dataset, **options)


def test_damage_in_the_dataset_names_clip_and_frame(small_dataset, monkeypatch):
  monkeypatch.setattr(type(small_dataset), 'frames', lambda self, clip, which: [b'\xff\xd8 nothing'] * len(which))
  with pytest.raises(ValueError, match=r'frame \d+ of clip .set/drive-0. cannot be decoded'):
    next(loader_of(small_dataset, clips=[0]))


def test_segments_of_a_clip_meet_at_other_places_each_epoch(small_dataset):
  plan = SegmentPlan(small_dataset.clips, [2], SPEC, train=True, seed=0)
  num, count = plan.num_segments, 67 - SPEC.min_waypoints
  all_starts = set()
  for epoch in range(30):
    presents = [plan.segment(epoch, k).present_indices for k in range(num)]
    assert set(np.concatenate(presents)) == set(range(count))
    starts = tuple(int(p[0]) for p in presents)
    assert starts[0] == 0 and starts[-1] == count - 4 and max(np.diff(starts)) <= 4
    all_starts.add(starts)
  assert len(all_starts) > 15


def test_kitti_frames_stay_on_their_grid(shared_data):
  table = shared_data / 'video' / 'kitti_odometry_06' / 'poses_planar_derived.csv'
  stamps = np.loadtxt(table, delimiter=',', skiprows=1)[:, 1]
  assert len(stamps) == 51 and windows.num_phases(stamps) == 3
  grid = windows.frame_grid(stamps)
  assert len(grid) == 21 and np.abs(stamps[grid] - 0.25 * np.arange(21)).max() < 0.051
