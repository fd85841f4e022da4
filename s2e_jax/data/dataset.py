"""The internal dataset: a TFDS dataset in ArrayRecord, opened for random access without TensorFlow."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
import threading
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from s2e_jax.data import index as index_lib
from s2e_jax.data import records
from s2e_jax.data.index import ClipInfo
from s2e_jax.data.writer import DatasetWriter, Summary

__all__ = ['ClipInfo', 'Dataset', 'DatasetWriter', 'Summary', 'fold_split', 'open_dataset']


class Dataset:
  """An open dataset; safe to read from several threads and to send to other processes.

  path: its folder. name: its TFDS name. clips: all of them, split by split, sorted by id within a split.
  content_hash: SHA-256 hex over all records.
  """

  def __init__(self, path: Path, index: index_lib.Index):
    """Use `open_dataset`."""
    self.path, self._index = path, index
    self.clips: list[ClipInfo] = list(index.clips)
    self.content_hash = index.content_hash
    self._sources: dict[str, Any] | None = None
    self._lock = threading.Lock()

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits that hold clips, in the order train, val, test."""
    return tuple(self._index.num_records)

  def clip_ids(self, split: str | None = None) -> list[str]:
    """Ids of the clips of one split, or of all."""
    return [self.clips[i].clip_id for i in self.clip_indices(split)]

  def clip_indices(self, split: str | None = None) -> list[int]:
    """Positions in `clips` of the clips of one split, or of all; ValueError for a split that is not there."""
    if split is not None and split not in self.splits:
      raise ValueError(f'{self.path} has no split {split!r}; it has {self.splits}')
    return [i for i, clip in enumerate(self.clips) if split in (None, clip.split)]

  def indices_of(self, clip_ids: Iterable[str]) -> list[int]:
    """Positions in `clips` of the given ids, in their order; ValueError names the unknown ones."""
    position = {clip.clip_id: i for i, clip in enumerate(self.clips)}
    clip_ids = list(clip_ids)
    unknown = [clip_id for clip_id in clip_ids if clip_id not in position]
    if unknown:
      raise ValueError(f'{self.path} has no clips {unknown[:5]} ({len(unknown)} unknown ids)')
    return [position[clip_id] for clip_id in clip_ids]

  def frames(self, clip_index: int, frame_indices: Sequence[int]) -> list[bytes]:
    """JPEG images of one clip in the order asked for; each record is read once. IndexError past the ends."""
    clip = self.clips[clip_index]
    found: dict[int, Sequence[bytes]] = {}
    out = []
    for frame in frame_indices:
      if not 0 <= frame < clip.num_frames:
        raise IndexError(f'clip {clip.clip_id!r} has frames 0 to {clip.num_frames - 1}, not {frame}')
      record = bisect.bisect_right(clip.record_starts, frame) - 1
      if record not in found:
        raw = self._source(clip.split)[clip.first_record + record]
        found[record] = records.frames_of_record(raw)
      out.append(found[record][int(frame - clip.record_starts[record])])
    return out

  def _source(self, split: str) -> Any:
    """Random-access source of a split's serialised records, opened on first use in each process."""
    with self._lock:
      if self._sources is None:
        self._sources = index_lib.raw_sources(self.path)
      return self._sources[split]

  def __getstate__(self) -> dict[str, Any]:
    """Open files do not travel to another process."""
    return {k: v for k, v in self.__dict__.items() if k not in ('_sources', '_lock')}

  def __setstate__(self, state: dict[str, Any]) -> None:
    """Inverse of `__getstate__`; files are opened again when needed."""
    self.__dict__.update(state, _sources=None, _lock=threading.Lock())


def open_dataset(path: str | os.PathLike) -> Dataset:
  """The dataset in folder `path`; its index is made again from the records if it is absent or does not fit.

  Raises ValueError when there is no dataset, it is unfinished, or it holds no clip.
  """
  folder = Path(os.path.abspath(path))
  remedy = 'write one with python -m s2e_jax.data.convert'
  if not (folder / 'dataset_info.json').exists():
    if folder.with_name(folder.name + '.partial').exists():
      raise ValueError(
        f'{folder}: the conversion did not finish; run the same convert command again to continue it'
      )
    what = 'is not a dataset' if folder.exists() else 'does not exist'
    raise ValueError(f'{folder} {what}: no dataset_info.json; {remedy}')
  sources = index_lib.raw_sources(folder)
  num_records = {split: len(source) for split, source in sources.items()}
  if not sum(num_records.values()):
    raise ValueError(f'{folder} is empty: it holds no clip; {remedy}')
  try:
    index = index_lib.load_index(folder)
    fits = index.num_records == num_records
  except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
    fits = False
  if not fits:
    index = index_lib.build_index(folder)
    # On a read-only or full disk the index serves this process and is made again next time.
    with contextlib.suppress(OSError):
      index.save(folder)
  return Dataset(folder, index)


def _shuffled(clip_ids: Iterable[str]) -> list[str]:
  """In the order of a hash of the ids, which depends on nothing else."""
  return sorted(clip_ids, key=lambda clip_id: hashlib.sha256(clip_id.encode()).digest())


def share_of(clip_ids: Iterable[str], share: float) -> list[str]:
  """A share of the clips, at least one, drawn by a hash of their ids: a smaller share is part of a larger one.

  Raises ValueError for a share that is not in (0, 1].
  """
  if not 0 < share <= 1:
    raise ValueError(f'data.train_share={share} must lie in (0, 1]: the part of the training clips that is used')
  ids = _shuffled(clip_ids)
  return sorted(ids[: max(1, round(share * len(ids)))])


def fold_split(clip_ids: Iterable[str], num_folds: int, fold: int) -> dict[str, list[str]]:
  """Cross-validation by clip: fold `fold` tests, the next one validates (chooses checkpoints), the rest train.

  Clips are dealt to folds in the order of a hash of their ids, so the result depends on nothing else, and every
  clip is in the test part of exactly one fold. Raises ValueError for fewer than 3 folds or fewer clips than folds.
  """
  ids = _shuffled(clip_ids)
  if num_folds < 3 or not 0 <= fold < num_folds:
    raise ValueError(f'num_folds={num_folds}, fold={fold}: at least 3 folds, and fold from 0 to num_folds - 1')
  if len(set(ids)) != len(ids):
    raise ValueError('clip_ids must be unique')
  if len(ids) < num_folds:
    raise ValueError(f'num_folds={num_folds} must be at most the number of clips, {len(ids)}')
  parts: dict[str, list[str]] = {'train': [], 'val': [], 'test': []}
  for i, clip_id in enumerate(ids):
    away = (i - fold) % num_folds
    parts['test' if away == 0 else 'val' if away == 1 else 'train'].append(clip_id)
  return {name: sorted(part) for name, part in parts.items()}
