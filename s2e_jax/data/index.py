"""The index of an internal dataset: metadata and poses of all clips, and where their frames lie."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from s2e_jax.data import records
from s2e_jax.structs import Camera, Footprint

INDEX_FILE = 'index.npz'


@dataclasses.dataclass(frozen=True)
class ClipInfo:
  """Everything about a clip but its frames; fields as in `clips.Clip`, clearances NaN where nobody knows them.

  split: 'train', 'val' or 'test'. first_record: number of its first record within the split.
  record_starts: [R + 1] first frame of each of its R records, and num_frames at the end.
  """

  clip_id: str
  split: str
  source: str
  licence: str
  stamps: np.ndarray
  position: np.ndarray
  yaw: np.ndarray
  clearances: np.ndarray
  camera: Camera
  footprint: Footprint
  embodiment: str
  origin: tuple[float, float]
  is_metric: bool
  is_rate_assumed: bool
  first_record: int
  record_starts: np.ndarray

  @property
  def num_frames(self) -> int:
    """Number of frames T."""
    return len(self.stamps)


@dataclasses.dataclass(frozen=True)
class Index:
  """clips: in record order, split by split. content_hash: SHA-256 over all records in order.

  num_records: per split, to notice an index that belongs to other records.
  """

  clips: tuple[ClipInfo, ...]
  num_records: dict[str, int]
  content_hash: str

  def save(self, folder: Path) -> None:
    """Writes the index file into the dataset's folder, whole or not at all."""
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for clip in self.clips:
      rows.append(
        {f.name: getattr(clip, f.name) for f in dataclasses.fields(clip) if f.name not in _ARRAYS}
        | {'camera': clip.camera.to_dict(), 'footprint': dataclasses.asdict(clip.footprint)}
      )
    for name in _ARRAYS:
      arrays[name] = np.concatenate([getattr(clip, name) for clip in self.clips])
    meta = {'clips': rows, 'num_records': self.num_records, 'content_hash': self.content_hash}
    lengths = np.array([[clip.num_frames, len(clip.record_starts)] for clip in self.clips], np.int64)
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), lengths=lengths, **arrays)
    temporary = folder / f'{INDEX_FILE}.{os.getpid()}.tmp'
    try:
      temporary.write_bytes(buffer.getvalue())
      os.replace(temporary, folder / INDEX_FILE)
    finally:
      temporary.unlink(missing_ok=True)


_ARRAYS = ('stamps', 'position', 'yaw', 'clearances', 'record_starts')


def load_index(folder: Path) -> Index:
  """The stored index of a dataset folder; raises OSError, ValueError or KeyError when it cannot be read."""
  with np.load(folder / INDEX_FILE, allow_pickle=False) as stored:
    meta = json.loads(stored['meta'].tobytes())
    ends = np.cumsum(stored['lengths'], axis=0)[:-1]
    arrays = {name: stored[name] for name in _ARRAYS if name in stored.files}
    if 'clearances' not in arrays:  # of a dataset of version 1.0.0
      arrays['clearances'] = records.unknown_clearances(len(arrays['stamps']))
    columns = {name: np.split(arrays[name], ends[:, int(name == 'record_starts')]) for name in _ARRAYS}
  clips = []
  for i, row in enumerate(meta['clips']):
    row |= {
      'camera': Camera.from_dict(row['camera']),
      'footprint': Footprint(**row['footprint']),
      'origin': tuple(row['origin']),
    }
    row |= {name: columns[name][i] for name in _ARRAYS}
    clips.append(ClipInfo(**row))
  return Index(tuple(clips), meta['num_records'], meta['content_hash'])


def raw_sources(folder: Path) -> dict[str, Any]:
  """Per split the TFDS random-access source of serialised records."""
  builder = tfds.builder_from_directory(folder)
  return {
    split: builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    for split in sorted(builder.info.splits, key=records.SPLITS.index)
  }


def build_index(folder: Path) -> Index:
  """The index made from the records themselves; raises ValueError when a clip's records are not all there."""
  digest = hashlib.sha256()
  clips: list[ClipInfo] = []
  num_records = {}
  for split, source in raw_sources(folder).items():
    num_records[split] = len(source)
    digest.update(f'{split}:{len(source)}\n'.encode())
    groups: list[dict[str, Any]] = []
    for i in range(len(source)):
      raw = source[i]
      digest.update(hashlib.sha256(raw).digest())
      record = records.decode_record(raw)
      del record['frames']
      if record['group'] != len(groups) or (groups and record['clip_id'] != groups[0]['clip_id']):
        raise ValueError(
          f'{folder}: record {i} of split {split!r} is group {record["group"]} of clip {record["clip_id"]!r}, out '
          'of order; the dataset is damaged, convert it again'
        )
      groups.append(record)
      if len(groups) == record['num_groups']:
        clips.append(_clip_info(groups, split, i + 1 - len(groups)))
        groups = []
    if groups:
      raise ValueError(f'{folder}: clip {groups[0]["clip_id"]!r} lacks records; convert the dataset again')
  return Index(tuple(clips), num_records, digest.hexdigest())


def _clip_info(groups: list[dict[str, Any]], split: str, first_record: int) -> ClipInfo:
  """One clip from its decoded records."""
  one = groups[0]
  stamps = np.concatenate([group['stamps'] for group in groups])
  return ClipInfo(
    clip_id=one['clip_id'],
    split=split,
    source=one['source'],
    licence=one['licence'],
    stamps=stamps,
    position=np.concatenate([group['position'] for group in groups]),
    yaw=np.concatenate([group['yaw'] for group in groups]),
    clearances=np.concatenate([group['clearances'] for group in groups]),
    camera=Camera.from_dict(one['camera']),
    footprint=Footprint(**one['footprint']),
    embodiment=one['embodiment'],
    origin=(float(one['origin'][0]), float(one['origin'][1])),
    is_metric=bool(one['is_metric']),
    is_rate_assumed=bool(one['is_rate_assumed']),
    first_record=first_record,
    record_starts=np.array([group['first_frame'] for group in groups] + [len(stamps)], np.int64),
  )
