"""Writing the internal dataset: clip by clip, resumable after a kill, atomic at the end."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath

from s2e_jax.data import index as index_lib
from s2e_jax.data import records, staging
from s2e_jax.data.clips import Clip, ClipError, Skip, checked_clip

SUMMARY_FILE = 'conversion.json'


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a finished conversion holds.

  clips, frames, hours: per split. sources: per source clips, frames, hours and licence.
  skips: how many things were left out, per reason; skipped: each of them.
  """

  name: str
  content_hash: str
  clips: dict[str, int]
  frames: dict[str, int]
  hours: dict[str, float]
  sources: dict[str, dict[str, Any]]
  skips: dict[str, int]
  skipped: tuple[Skip, ...]
  options: dict[str, Any]

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form, as stored in the dataset's conversion.json."""
    return dataclasses.asdict(self)


class DatasetWriter:
  """Writes clips to a TFDS dataset at `path`; nothing appears there before `finish`.

  Until then each clip is one file in `path` + '.partial', renamed into place when whole: a conversion that is
  killed loses at most the clip at hand, and when run again gives the same bytes as one that was not. Needs twice
  the size of the dataset on disk for a moment, in `finish`.

  path: folder of the dataset; must not exist, unless `overwrite`, which replaces it when the new one is whole.
  name: dataset name for TFDS (letters, digits, _). resume: go on with a killed conversion; False starts afresh.
  frames_per_record: length of a step group. max_shard_bytes: about the largest ArrayRecord file.
  options: what decides the content (source folder, rate, sizes), JSON-able; a killed conversion is only continued
    with the same name and options.
  Raises ValueError when the dataset exists already, or a killed conversion had other options.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    name: str,
    resume: bool = True,
    *,
    overwrite: bool = False,
    frames_per_record: int = 32,
    max_shard_bytes: int = 256 << 20,
    options: Mapping[str, Any] | None = None,
  ):
    """Opens or continues the conversion; see the class."""
    self.path = Path(os.path.abspath(path))
    self.name, self._max_shard_bytes = name, max_shard_bytes
    if not (name.isidentifier() and name.isascii()):
      raise ValueError(f'dataset name={name!r} must be letters, digits and _, not starting with a digit')
    if frames_per_record < 1:
      raise ValueError(f'frames_per_record={frames_per_record} must be at least 1')
    self._frames_per_record = frames_per_record
    self._staging = self.path.with_name(self.path.name + '.partial')
    self._replaced = self.path.with_name(self.path.name + '.replaced')
    if self._replaced.exists() and not self.path.exists():
      os.replace(self._replaced, self.path)  # killed between the two renames of an overwrite
    if self.path.exists() and not overwrite and (self.path.is_file() or any(self.path.iterdir())):
      raise ValueError(
        f'{self.path} exists already; choose another folder, or overwrite=True (--overwrite) to replace it'
      )
    if (
      self.path.exists()
      and overwrite
      and not (self.path / 'dataset_info.json').exists()
      and any(self.path.iterdir())
    ):
      raise ValueError(f'{self.path} is no dataset, so overwrite=True will not delete it; choose another folder')
    if not resume:
      shutil.rmtree(self._staging, ignore_errors=True)
    self.options = json.loads(json.dumps(dict(options or {})))
    about = {'name': name, 'frames_per_record': frames_per_record, 'options': self.options}
    about_file = self._staging / 'about.json'
    if about_file.exists():
      before = json.loads(about_file.read_text())
      if before != about:
        raise ValueError(
          f'{self._staging} holds an unfinished conversion with other settings ({before}, now {about}); '
          'run it with the same settings or start afresh with resume=False (--fresh)'
        )
    with staging.explained('starting', self._staging):
      (self._staging / 'clips').mkdir(parents=True, exist_ok=True)
      staging.write_atomically(about_file, json.dumps(about).encode())
    self._clips: dict[str, tuple[str, Path]] = {}
    for file in sorted((self._staging / 'clips').glob('*.clip')):
      header, _ = staging.read_header(file)
      self._clips[header['clip_id']] = (header['split'], file)
    self.resumed = frozenset(self._clips)  # ids of clips that an earlier, killed run had finished
    self._skips = self._read_skips()

  @property
  def num_clips(self) -> int:
    """Clips written so far, those of a killed run included."""
    return len(self._clips)

  def has(self, clip_id: str) -> bool:
    """Whether the clip is written already, in this run or in a killed one (see also `resumed`)."""
    return clip_id in self._clips

  def add(self, clip: Clip, split: str) -> None:
    """Checks and stores one clip in `split` ('train', 'val' or 'test').

    Raises ClipError when the clip breaks a rule of `clips.checked_clip` or `records.checked_frames`, or
    ('duplicate_id') when its id is taken; OSError when the disk is full. In each case nothing of it is kept.
    """
    if split not in records.SPLITS:
      raise ValueError(f'split={split!r} must be one of {records.SPLITS}')
    records.check_clip_id(clip.clip_id)
    if self.has(clip.clip_id):
      raise ClipError('duplicate_id', f'clip_id {clip.clip_id!r} is written already; ids must be unique')
    clip = checked_clip(clip)
    records.checked_frames(clip)
    parts = list(records.encode_clip(clip, self._frames_per_record))
    with staging.explained(f'storing clip {clip.clip_id!r}', self._staging):
      file = staging.write_clip(self._staging / 'clips', clip.clip_id, split, parts)
    self._clips[clip.clip_id] = (split, file)

  def skip(self, skip: Skip) -> None:
    """Counts something left out; the same reason and place again (a resumed run) count once."""
    if (skip.reason, skip.where) in self._skips:
      return
    self._skips[skip.reason, skip.where] = skip
    with staging.explained('noting a skip', self._staging), open(self._staging / 'skips.jsonl', 'a') as file:
      file.write(json.dumps(dataclasses.asdict(skip)) + '\n')

  def skip_counts(self) -> dict[str, int]:
    """How many things were left out so far, per reason."""
    return dict(sorted(Counter(skip.reason for skip in self._skips.values()).items()))

  def finish(self) -> Summary:
    """Assembles the dataset, checks it by reading it back, and moves it to `path` in one rename.

    Raises ValueError when no clip was written, OSError when the disk is full (call again after making room).
    """
    if not self._clips:
      raise ValueError(
        f'no clip was written to {self.path}; skipped: {self.skip_counts() or "nothing"}; check the source folder '
        'and format'
      )
    whole = self._staging / 'dataset'
    shutil.rmtree(whole, ignore_errors=True)
    try:
      with staging.explained('assembling the dataset', self._staging):
        whole.mkdir()
        self._write_shards(whole)
        index = index_lib.build_index(whole)
        missing = set(self._clips) ^ {clip.clip_id for clip in index.clips}
        if missing:
          raise RuntimeError(f'records read back differ from those written for clips {sorted(missing)[:5]}')
        index.save(whole)
        summary = self._summary(index)
        staging.write_atomically(whole / SUMMARY_FILE, json.dumps(summary.to_dict(), indent=1).encode())
        self._move_into_place(whole)
    except BaseException:
      shutil.rmtree(whole, ignore_errors=True)
      raise
    shutil.rmtree(self._staging)
    return summary

  def _write_shards(self, whole: Path) -> None:
    """Fills `whole` with ArrayRecord shards and TFDS metadata; clips sorted by id, so order never matters."""
    core = tfds.core
    info = core.DatasetInfo(
      builder=core.dataset_info.DatasetIdentity(
        name=self.name, version=records.VERSION, data_dir=str(whole), module_name=''
      ),
      features=records.features(),
      description='Navigation clips: JPEG frames with stamped planar poses, in groups of consecutive frames.',
      disable_shuffling=True,
    )
    info.set_file_format('array_record')
    splits = []
    for split in records.SPLITS:
      files = [file for _, (of, file) in sorted(self._clips.items()) if of == split]
      shards: list[list[Path]] = []
      filled = self._max_shard_bytes
      for file in files:
        if filled >= self._max_shard_bytes:
          shards.append([])
          filled = 0
        shards[-1].append(file)
        filled += file.stat().st_size
      template = core.ShardedFileTemplate(
        dataset_name=self.name, data_dir=epath.Path(whole), split=split, filetype_suffix='array_record'
      )
      lengths, num_bytes = [], 0
      for i, shard in enumerate(shards):
        path = Path(template.sharded_filepath(shard_index=i, num_shards=len(shards)))
        # TFDS's own setting: every record can be read alone.
        writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
        count = 0
        for file in shard:
          for record in staging.read_records(file):
            writer.write(record)
            count, num_bytes = count + 1, num_bytes + len(record)
        writer.close()
        staging.sync(path)
        lengths.append(count)
      if shards:
        splits.append(
          core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=num_bytes, filename_template=template)
        )
    info.set_splits(core.splits.SplitDict(splits))
    info.write_to_directory(epath.Path(whole))

  def _summary(self, index: index_lib.Index) -> Summary:
    """Counts over the finished dataset."""
    splits: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, Any]] = {}
    for clip in index.clips:
      row = sources.setdefault(clip.source, {'clips': 0, 'frames': 0, 'hours': 0.0, 'licence': clip.licence})
      for total in (splits.setdefault(clip.split, {'clips': 0, 'frames': 0, 'hours': 0.0}), row):
        total['clips'] += 1
        total['frames'] += clip.num_frames
        total['hours'] += float(clip.stamps[-1] - clip.stamps[0]) / 3600
    return Summary(
      name=self.name,
      content_hash=index.content_hash,
      clips={split: row['clips'] for split, row in splits.items()},
      frames={split: row['frames'] for split, row in splits.items()},
      hours={split: row['hours'] for split, row in splits.items()},
      sources=sources,
      skips=self.skip_counts(),
      skipped=tuple(skip for _, skip in sorted(self._skips.items())),
      options=self.options,
    )

  def _move_into_place(self, whole: Path) -> None:
    """Renames the finished folder to `path`; a dataset it replaces is deleted afterwards."""
    if self.path.exists():
      shutil.rmtree(self._replaced, ignore_errors=True)
      os.replace(self.path, self._replaced)
    os.replace(whole, self.path)
    shutil.rmtree(self._replaced, ignore_errors=True)

  def _read_skips(self) -> dict[tuple[str, str], Skip]:
    """Skips noted by a killed run; a last line cut short by the kill will be noted again."""
    skips = {}
    file = self._staging / 'skips.jsonl'
    for line in file.read_text().splitlines(keepends=True) if file.exists() else []:
      if line.endswith('\n'):
        skip = Skip(**json.loads(line))
        skips[skip.reason, skip.where] = skip
    return skips
