"""What readers share: items found in a source, tracks of frames with poses, and the way from track to clips."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.data.clips import Clip, ClipError, Skip, checked_clip
from s2e_jax.data.formats import frames
from s2e_jax.data.formats.options import Options
from s2e_jax.structs import Camera, Footprint

FORMATS = {
  'gnm': 's2e_jax.data.formats.gnm',
  'rlds': 's2e_jax.data.formats.rlds',
  'video': 's2e_jax.data.formats.video_poses',
  'kitti': 's2e_jax.data.formats.kitti',
  'lerobot': 's2e_jax.data.formats.lerobot',
  'recon': 's2e_jax.data.formats.recon',
}

FrameContent = bytes | np.ndarray | ClipError


@dataclasses.dataclass
class Tally:
  """What happened inside items that were read: frames left out by reason, and remarks that cost nothing.

  dropped: reason -> frames. notes: remark -> count. The first example of each is kept in `examples`.
  """

  dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  notes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  examples: dict[str, str] = dataclasses.field(default_factory=dict)

  def drop(self, reason: str, count: int, example: str = '') -> None:
    """Counts `count` frames left out because of `reason`."""
    if count:
      self.dropped[reason] += count
      self.examples.setdefault(reason, example)

  def note(self, remark: str, count: int = 1, example: str = '') -> None:
    """Counts a remark."""
    if count:
      self.notes[remark] += count
      self.examples.setdefault(remark, example)


@dataclasses.dataclass(frozen=True)
class Item:
  """One recording found in a source.

  item_id: becomes the clip id (with '.1', '.2' ... behind it where a recording is cut at gaps).
  where: path for messages. split: set when the source itself says so.
  load: reads it; returns the clips, or raises ClipError when it cannot be used.
  """

  item_id: str
  where: str
  load: Callable[[Tally], Sequence[Clip]]
  split: str | None = None


@dataclasses.dataclass(frozen=True)
class Track:
  """A recording before frames are read: N pictures that each have a stamp and a pose.

  stamps [N] s, position [N, 2] m, yaw [N] rad (NaN where unknown). `read` yields, for increasing indices into
  them, the encoded or decoded picture, or the ClipError that says why it is left out. camera: as the format
  states it, for images of any size of that shape.
  """

  item_id: str
  stamps: np.ndarray
  position: np.ndarray
  yaw: np.ndarray
  read: Callable[[np.ndarray], Iterable[FrameContent]]
  source: str
  is_rate_assumed: bool = False
  is_metric: bool = True
  camera: Camera | None = None
  mount_height: float = 0.5
  embodiment: str = 'unknown'
  footprint: Footprint = Footprint()


def reader(name: str) -> Any:
  """The reader module of a format; raises ValueError when its packages are missing."""
  if name not in FORMATS:
    raise ValueError(f'--from={name!r} must be one of {sorted(FORMATS)}')
  try:
    return importlib.import_module(FORMATS[name])
  except ModuleNotFoundError as error:
    raise ValueError(f"--from={name} needs the package {error.name!r}; pip install 's2e_jax[data]'") from error


def read(name: str, src: Path, options: Options, tally: Tally | None = None) -> Iterator[Clip | Skip]:
  """Every clip of a source, and a Skip for everything in it that cannot be used."""
  tally = tally if tally is not None else Tally()
  for item in reader(name).find(Path(src), options):
    try:
      yield from item.load(tally)
    except ClipError as error:
      yield Skip(error.reason, item.where, str(error))


def refusal(item_id: str, where: str | Path, reason: str, message: str) -> Item:
  """An item that is known to be unusable before it is opened."""

  def load(tally: Tally) -> Sequence[Clip]:
    raise ClipError(reason, message)

  return Item(item_id, str(where), load)


def safe_id(text: str) -> str:
  """`text` with everything that a clip id may not hold replaced by '_'."""
  kept = ''.join(c if (c.isascii() and c.isalnum()) or c in '._-/' else '_' for c in text)
  return kept.strip('/') or 'clip'


def select_rate(stamps: np.ndarray, rate: float) -> np.ndarray:
  """Indices of the frames nearest to the points of a `rate` Hz grid that starts at the first stamp.

  Every frame belongs to the grid point nearest to it and every grid point keeps its nearest frame, so a source
  slower than the grid keeps all of its frames. rate 0 keeps everything.
  """
  if rate <= 0 or len(stamps) < 2:
    return np.arange(len(stamps))
  phase = (stamps - stamps[0]) * rate
  cell = np.rint(phase).astype(np.int64)
  # 1e-6: a tie between the frame before and the one after goes to the earlier, whatever the rounding.
  order = np.lexsort((np.arange(len(stamps)), np.round(np.abs(phase - cell), 6), cell))
  first = np.concatenate([[True], np.diff(cell[order]) != 0])
  return np.sort(order[first])


def nominal_stamps(count: int, options: Options, default: float) -> np.ndarray:
  """[count] s at --nominal_rate, or at the format's usual rate in Hz."""
  return np.arange(count) / (options.nominal_rate or default)


def _usable(track: Track, tally: Tally) -> np.ndarray:
  """Indices of frames with a finite pose; raises ClipError on lengths, stamps, or when no pose is finite."""
  n = len(track.stamps)
  if track.position.shape != (n, 2) or track.yaw.shape != (n,):
    raise ClipError(
      'length_mismatch',
      f'{track.item_id}: {n} stamps, positions {track.position.shape}, yaw {track.yaw.shape} must agree',
    )
  if n == 0:
    raise ClipError('empty', f'{track.item_id} has no frame with a pose')
  steps = np.diff(track.stamps)
  if not np.isfinite(track.stamps).all() or (steps <= 0).any():
    at = int(np.flatnonzero(~(steps > 0))[0]) + 1 if n > 1 else 0
    raise ClipError(
      'unsorted_stamps',
      f'{track.item_id}: time stamps must be finite and increase strictly; stamp {at} is {track.stamps[at]} after '
      f'{track.stamps[max(at - 1, 0)]}; sort or repair the file',
    )
  finite = np.isfinite(track.position).all(axis=1) & np.isfinite(track.yaw)
  if not finite.any():
    raise ClipError('nan_pose', f'{track.item_id}: none of its {n} poses is finite')
  tally.drop('nan_pose', int(n - finite.sum()), f'{track.item_id} frame {int(np.argmin(finite))}')
  return np.flatnonzero(finite)


def clips_of(track: Track, options: Options, tally: Tally) -> list[Clip]:
  """Clips of a recording: poses checked, frames chosen, read, brought to one size, cut where time has holes.

  Raises ClipError when nothing usable is left.
  """
  usable = _usable(track, tally)
  keep = usable[select_rate(track.stamps[usable], options.rate)]
  span = float(track.stamps[keep[-1]] - track.stamps[keep[0]])
  if span < options.min_seconds - 1e-6:
    raise ClipError('too_short', _too_short(track.item_id, len(keep), span, options))

  kept, images, befores, afters = [], [], [], []
  for index, content in zip(keep, track.read(keep), strict=True):
    try:
      if isinstance(content, ClipError):
        raise content
      data, before, after = frames.to_jpeg(content, options.width, options.height)
    except ClipError as error:
      tally.drop(error.reason, 1, f'{track.item_id} frame {index}: {error}')
      continue
    kept.append(index)
    images.append(data)
    befores.append(before)
    afters.append(after)
  if not kept:
    raise ClipError('no_frames', f'{track.item_id}: none of its {len(keep)} frames can be read')
  size = frames.common_size(afters)
  if len(set(afters)) > 1:
    tally.note('frames_resized_in_mixed_clips', sum(a != size for a in afters), track.item_id)
    images = [
      data if after == size else frames.encode(frames.resize(frames.decode(data), *size))
      for data, after in zip(images, afters, strict=True)
    ]
  camera = options.camera_for(*befores[afters.index(size)], track.camera, track.mount_height).resized(*size)
  return _cut(track, options, tally, np.array(kept), images, camera)


def _too_short(item_id: str, num_frames: int, span: float, options: Options) -> str:
  return (
    f'{item_id}: {num_frames} frames over {span:.2f} s, at least --min_seconds={options.min_seconds} are needed '
    '(history and future of one window)'
  )


def _cut(
  track: Track, options: Options, tally: Tally, kept: np.ndarray, images: list[bytes], camera: Camera
) -> list[Clip]:
  """Parts between gaps that are long enough, as clips."""
  stamps = track.stamps[kept]
  steps = np.diff(stamps)
  gap = max(options.max_gap, 2.5 * float(np.median(steps))) if len(steps) else options.max_gap
  edges = [0, *(np.flatnonzero(steps > gap) + 1).tolist(), len(kept)]
  scale = options.scale or 1.0
  is_metric = track.is_metric if options.scale is None else True
  clips: list[Clip] = []
  for start, stop in itertools.pairwise(edges):
    rows = kept[start:stop]
    span = float(stamps[stop - 1] - stamps[start])
    if span < options.min_seconds - 1e-6 or len(rows) < 2:
      tally.drop('too_short_between_gaps', len(rows), _too_short(track.item_id, len(rows), span, options))
      continue
    clips.append(
      checked_clip(
        Clip(
          clip_id=track.item_id + (f'.{len(clips)}' if clips else ''),
          source=options.source or track.source,
          licence=options.licence,
          frames=images[start:stop],
          stamps=track.stamps[rows],
          position=track.position[rows] * scale,
          yaw=track.yaw[rows],
          camera=camera,
          footprint=options.robot_footprint(track.footprint),
          embodiment=options.embodiment or track.embodiment,
          is_rate_assumed=track.is_rate_assumed,
          is_metric=is_metric if options.is_metric is None else options.is_metric,
        )
      )
    )
  if not clips:
    raise ClipError('too_short', _too_short(track.item_id, len(kept), float(stamps[-1] - stamps[0]), options))
  if len(clips) > 1:
    tally.note('recordings_cut_at_gaps', 1, track.item_id)
  return clips
