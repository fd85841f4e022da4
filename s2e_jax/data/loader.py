"""Batches of segments through Grain: shuffled, sharded per process, decoded by threads or workers, resumable."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
import simplejpeg
from absl import flags

from s2e_jax.data import augment, windows
from s2e_jax.data.dataset import Dataset
from s2e_jax.data.segments import SegmentPlan
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.structs import SegmentBatch

_PADDING = -1  # number of a segment that only fills the last batch


def decode_frame(jpeg: bytes, height: int, width: int) -> np.ndarray:
  """[height, width, 3] uint8 RGB of one JPEG.

  A larger image is decoded at the smallest of the JPEG scales (n/8) that still covers that size, then
  area-averaged. ValueError when it cannot be decoded.
  """
  image = simplejpeg.decode_jpeg(jpeg, 'RGB', min_height=height, min_width=width)
  if image.shape != (height, width, 3):
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
  return image


class _LoadBatch:
  """(epoch, segment number) pairs -> one batch; holds no state, so that any thread or worker gives the same."""

  def __init__(
    self,
    dataset: Dataset,
    plan: SegmentPlan,
    height: int,
    width: int,
    flip_prob: float,
    photometric: float,
    hue: float,
  ):
    self.dataset, self.plan, self.height, self.width = dataset, plan, height, width
    self.flip_prob, self.photometric, self.hue = flip_prob, photometric, hue

  def __call__(self, keys: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Arrays of a SegmentBatch of len(keys) segments."""
    spec = self.plan.spec
    frames = np.empty((len(keys), spec.num_frames, self.height, self.width, 3), np.uint8)
    rows = [self._segment(epoch, number, frames[i]) for i, (epoch, number) in enumerate(keys)]
    return {'frames': frames} | {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _segment(self, epoch: int, number: int, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of one segment; its images are written into `frames` [F, h, w, 3]."""
    spec = self.plan.spec
    if number == _PADDING:
      frames[:] = 0
      some = self.dataset.clips[0]
      return windows.segment_labels(some, np.full(spec.num_windows, -1), spec, np.random.default_rng(0))
    # What a segment looks like depends on seed, epoch and number alone, not on batch size, worker or process.
    rng = np.random.default_rng((self.plan.seed, 1, epoch, number))
    segment = self.plan.segment(epoch, number)
    clip = self.dataset.clips[segment.clip_index]
    labels = windows.segment_labels(clip, segment.present_indices, spec, rng)
    is_flipped = rng.uniform() < self.flip_prob
    draw = augment.draw_photometric(rng, self.photometric, self.hue)
    relight = augment.photometric_op(draw)
    # Image by image, so that each stays in the cache from decoding to its place in the batch.
    unique, first, place = np.unique(segment.frame_indices, return_index=True, return_inverse=True)
    for frame, slot, jpeg in zip(
      unique, first, self.dataset.frames(segment.clip_index, unique.tolist()), strict=True
    ):
      try:
        image = decode_frame(jpeg, self.height, self.width)
      except ValueError as error:
        raise ValueError(
          f'{self.dataset.path}: frame {frame} of clip {clip.clip_id!r} cannot be decoded ({error}); the dataset '
          'is damaged, convert it again'
        ) from error
      if self.photometric or self.hue:
        image = relight(image)
      if is_flipped:
        augment.flip_image(image, frames[slot])
      else:
        frames[slot] = image
    for slot in np.flatnonzero(first[place] != np.arange(len(frames))):
      frames[slot] = frames[first[place[slot]]]
    return augment.flip_labels(labels) if is_flipped else labels


class Loader(Iterator[SegmentBatch]):
  """Iterator of `SegmentBatch`es with numpy leaves; see `make_loader`.

  num_segments, num_windows: of one epoch over all processes. num_batches: that this process gives (None: endless).
  too_short: ids of clips that hold no window.
  """

  def __init__(
    self, batches: grain.MapDataset, plan: SegmentPlan, identity: str, threads: grain.ReadOptions, num_workers: int
  ):
    """Use `make_loader`."""
    self._batches, self._identity, self._threads, self._num_workers = batches, identity, threads, num_workers
    self.num_segments, self.num_windows = plan.num_segments, plan.num_windows
    self.num_batches = None if plan.train else len(batches)
    self.too_short = tuple(plan.too_short)
    self._delivered = 0
    self._iterator: grain.DatasetIterator | None = None

  def __next__(self) -> SegmentBatch:
    """The next batch; StopIteration after one pass if not training."""
    if self._iterator is None:
      self._iterator = self._start()
    batch = next(self._iterator)
    if self._num_workers:
      # Workers hand over shared memory that dies with them; copies are ours and free it at once.
      batch = {name: np.array(leaf) for name, leaf in batch.items()}
    self._delivered += 1
    return SegmentBatch(**batch)

  def _start(self) -> grain.DatasetIterator:
    """Reading ahead from the batch after the last one delivered."""
    batches = self._batches[self._delivered :].to_iter_dataset(self._threads)
    if self._num_workers:
      # Worker processes inherit absl's flags, which Grain takes from the parent only once they are parsed.
      if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
      ahead = max(1, self._threads.prefetch_buffer_size // self._num_workers)
      batches = batches.mp_prefetch(grain.MultiprocessingOptions(self._num_workers, per_worker_buffer_size=ahead))
    return iter(batches)

  def get_state(self) -> bytes:
    """Where the iterator stands, to be given to `set_state` of a loader made with the same data and seed."""
    return json.dumps({'delivered': self._delivered, 'identity': self._identity}).encode()

  def set_state(self, state: bytes) -> None:
    """Goes on behind the batch after which `state` was taken, bit for bit, whatever the threads and workers.

    ValueError when the state belongs to other data, windows, sizes, seed or shards.
    """
    stored = json.loads(state)
    if stored['identity'] != self._identity:
      raise ValueError(
        'the saved position belongs to a loader with other data, windows, image size, batch size, seed, '
        'augmentation or number of processes; use the config of the run that saved it'
      )
    self.close()
    self._delivered = int(stored['delivered'])

  def close(self) -> None:
    """Stops threads and workers; the loader can still be used and starts them again."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None

  def __enter__(self) -> Loader:
    """The loader itself; closed at the end of the block."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Closes."""
    self.close()


class _Shuffled:
  """Place in the endless sequence of epochs -> (epoch, segment number), each epoch in an order of its own.

  Grain's own shuffle computes one index at a time, which for a few hundred segments takes longer than decoding the
  images; a permutation per epoch costs nothing.
  """

  def __init__(self, num_segments: int, seed: int):
    self.num_segments, self.seed = num_segments, seed
    self._orders: dict[int, np.ndarray] = {}

  def __call__(self, index: int, _: Any) -> tuple[int, int]:
    epoch, place = divmod(index, self.num_segments)
    order = self._orders.get(epoch)
    if order is None:
      order = np.random.default_rng((self.seed, 2, epoch)).permutation(self.num_segments)
      # Threads may be an epoch apart where one ends; the swap is one assignment, so no lock is needed.
      self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1} | {epoch: order}
    return epoch, int(order[place])


class _OrPadding:
  """Segment number of one pass -> (0, number), or padding past the end."""

  def __init__(self, num_segments: int):
    self.num_segments = num_segments

  def __call__(self, number: int) -> tuple[int, int]:
    return 0, number if number < self.num_segments else _PADDING


def make_loader(
  dataset: Dataset,
  clip_indices: Sequence[int],
  spec: SegmentSpec,
  image_height: int,
  image_width: int,
  batch_segments: int,
  seed: int,
  *,
  train: bool,
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int = 2,
  num_workers: int = 0,
  prefetch: int = 8,
  flip_prob: float = 0.5,
  photometric: float = 0.25,
  hue: float = 0.0,
) -> Loader:
  """Iterator of batches of `batch_segments` segments, which is this process's share of a global batch.

  train=True: endless; each epoch (over all processes together) holds every window, in a new order.
  train=False: one pass without augmentation over every window with a full future, each exactly once; padded with
  segments whose window_mask is all False so that all processes give equally many, equally large batches.
  flip_prob, photometric, hue: augmentation of whole segments; the last two as in `augment.draw_photometric`.
  num_threads: threads (per worker) that read and decode; 0 = none. prefetch: batches decoded ahead.
  num_workers: processes; worth it only where many cores are idle, and only below `if __name__ == '__main__'`.
  The batches depend on data, spec, sizes, seed and shards, never on threads, workers or prefetch.
  Raises ValueError for bad numbers and when no clip holds a window.
  """
  for name, value, least in (
    ('image_height', image_height, 1),
    ('image_width', image_width, 1),
    ('batch_segments', batch_segments, 1),
    ('seed', seed, 0),
    ('num_threads', num_threads, 0),
    ('num_workers', num_workers, 0),
    ('prefetch', prefetch, 0),
  ):
    if value < least:
      raise ValueError(f'{name}={value} must be at least {least}')
  if not 0 <= process_index < process_count:
    raise ValueError(f'process_index={process_index} must lie in 0 .. process_count - 1 = {process_count - 1}')
  augment.check(flip_prob, photometric, hue)
  if not train:
    flip_prob = photometric = hue = 0.0
  plan = SegmentPlan(dataset.clips, clip_indices, spec, train, seed)
  load = _LoadBatch(dataset, plan, image_height, image_width, flip_prob, photometric, hue)
  if train:
    keys = grain.MapDataset.range(plan.num_segments).repeat().map_with_index(_Shuffled(plan.num_segments, seed))
  else:
    share = batch_segments * process_count
    padded = -(-plan.num_segments // share) * share
    keys = grain.MapDataset.range(padded).map(_OrPadding(plan.num_segments))
  batches = keys[process_index::process_count].batch(batch_segments, drop_remainder=True, batch_fn=list).map(load)
  content = {
    'data': dataset.content_hash,
    'clips': [int(i) for i in clip_indices],
    'spec': dataclasses.asdict(spec),
    'sizes': (image_height, image_width, batch_segments),
    'seed': (seed, train),
    'shard': (process_index, process_count),
    'augmentation': (flip_prob, photometric, hue),
  }
  identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()
  threads = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
  return Loader(batches, plan, identity, threads, num_workers)
