"""LeRobot datasets v3 (shared parquet and mp4 files) and v2 (one parquet and one mp4 per episode).

Which columns hold the pose is found by name (x, y and yaw, heading or theta of one feature; or a position feature
beside a yaw feature) or given as --pose_keys. Time stamps are those of the dataset.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.data.formats import base, video
from s2e_jax.data.formats.options import Options

OPTIONS = frozenset({'pose_keys', 'video_key', 'yaw_unit'})
_X = re.compile(r'(?:(?P<of>.*?)[._ /-])?x(?:_?m)?$')
_YAW = re.compile(r'(?:^|.*[._ /-])(?:yaw|heading|theta)(?:_?rad|_?deg)?$')

Column = tuple[str, int]  # feature and index into it


@dataclasses.dataclass(frozen=True)
class Layout:
  """What meta/info.json says: version, fps, paths, features, and which of them are used."""

  root: Path
  info: dict[str, Any]
  picture_key: str
  pose: tuple[Column, Column, Column]

  @property
  def is_v3(self) -> bool:
    """Whether episodes share files."""
    return str(self.info.get('codebase_version', '')).lstrip('v').startswith('3')

  @property
  def in_parquet(self) -> bool:
    """Whether pictures are stored in the parquet files instead of videos."""
    return self.info['features'][self.picture_key]['dtype'] == 'image'


def columns(features: dict[str, Any]) -> dict[str, list[str]]:
  """Feature -> lower-case names of its elements ('0', '1', ... where it names none), numeric features only."""
  table = {}
  for key, feature in features.items():
    if feature.get('dtype') in ('video', 'image', 'string', 'language'):
      continue
    size = math.prod(feature.get('shape') or [1])
    names = feature.get('names')
    if isinstance(names, dict):
      names = next(iter(names.values()), None) if len(names) == 1 else list(names)
    is_named = isinstance(names, list) and len(names) == size and all(isinstance(n, str) for n in names)
    table[key] = [n.lower() for n in names] if is_named else [str(i) for i in range(size)]
  return table


def _given(pose_keys: str, table: dict[str, list[str]]) -> tuple[Column, ...]:
  """Columns of --pose_keys: 'x,y,yaw' as FEATURE:NAME or FEATURE:INDEX, or a position feature and a yaw one."""
  found: list[Column] = []
  for word in pose_keys.split(','):
    key, _, part = word.strip().rpartition(':') if word.strip() not in table else (word.strip(), '', '')
    if key not in table:
      raise ValueError(f'--pose_keys names {word!r}; features are {_listed(table)}')
    if not part:
      found += [(key, i) for i in range(min(2, len(table[key])))]
    elif part.lower() in table[key]:
      found.append((key, table[key].index(part.lower())))
    elif part.isdigit() and int(part) < len(table[key]):
      found.append((key, int(part)))
    else:
      raise ValueError(f'--pose_keys: {key} has no element {part!r}; it has {table[key]}')
  if len(found) != 3:
    raise ValueError(f'--pose_keys={pose_keys!r} gives {len(found)} columns, three are needed: x, y, yaw')
  return tuple(found)


def _listed(table: dict[str, list[str]]) -> str:
  return '; '.join(f'{key}: {names}' for key, names in sorted(table.items()))


def find_pose(features: dict[str, Any], pose_keys: str | None) -> tuple[Column, Column, Column]:
  """Columns of x, y (m) and yaw; ValueError lists what there is when they are not found or not unique."""
  table = columns(features)
  if pose_keys:
    x, y, yaw = _given(pose_keys, table)
    return x, y, yaw
  candidates: list[tuple[Column, Column, Column]] = []
  observed = {key: names for key, names in table.items() if not key.startswith('action')}
  for key, names in observed.items():
    yaws = [i for i, name in enumerate(names) if _YAW.match(name)]
    for i, name in enumerate(names):
      match = _X.match(name)
      y_name = name[: match.start()] + re.sub(r'x(_?m)?$', r'y\1', name) if match else ''
      if match and y_name in names and len(yaws) == 1:
        candidates.append(((key, i), (key, names.index(y_name)), (key, yaws[0])))
  if not candidates:
    places = [k for k, names in observed.items() if re.search(r'(?:^|[._])position$', k) and len(names) in (2, 3)]
    turns = [k for k, names in observed.items() if _YAW.match(k) and len(names) == 1]
    candidates = [((p, 0), (p, 1), (t, 0)) for p in places for t in turns]
  if len(candidates) != 1:
    told = 'are not found by name' if not candidates else f'are not unique ({len(candidates)} candidates)'
    raise ValueError(
      f'pose columns {told}; give --pose_keys=FEATURE:X,FEATURE:Y,FEATURE:YAW (names or indices). '
      f'Features are {_listed(table)}'
    )
  return candidates[0]


def find_picture_key(features: dict[str, Any], video_key: str | None) -> str:
  """The feature with the forward camera's pictures; ValueError lists them when it is not clear which."""
  keys = [k for k, f in features.items() if f.get('dtype') in ('video', 'image')]
  if video_key:
    if video_key not in keys:
      raise ValueError(f'--video_key={video_key!r} must be one of {keys}')
    return video_key
  plain = [k for k in keys if not re.search('depth|rear|back|left|right|wrist', k)] or keys
  front = [k for k in plain if 'front' in k] or plain
  if len(front) != 1:
    raise ValueError(f'there are {len(front)} cameras; choose one with --video_key: {keys}')
  return front[0]


def _layout(src: Path, options: Options) -> Layout:
  path = src / 'meta' / 'info.json'
  if not path.is_file():
    raise ValueError(f'--src={src} must be a LeRobot dataset; {path} does not exist')
  info = json.loads(path.read_text())
  version = str(info.get('codebase_version', ''))
  if not re.match(r'v?[23](\.|$)', version):
    raise ValueError(f'{path}: codebase_version={version!r} must be v2.x or v3.x; convert it with LeRobot first')
  return Layout(
    src,
    info,
    find_picture_key(info['features'], options.video_key),
    find_pose(info['features'], options.pose_keys),
  )


def _episodes(layout: Layout) -> list[dict[str, Any]]:
  """One dict per episode, in order."""
  meta = layout.root / 'meta'
  if layout.is_v3:
    files = sorted((meta / 'episodes').rglob('*.parquet'))
    if not files:
      raise ValueError(f'{meta}/episodes holds no parquet file; download the dataset again')
    # Statistics are hundreds of columns that nothing here needs.
    rows = [row for f in files for row in _table(f, lambda name: not name.startswith('stats/')).to_pylist()]
  else:
    path = meta / 'episodes.jsonl'
    if not path.is_file():
      raise ValueError(f'{path} does not exist; download the dataset again')
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
  return sorted(rows, key=lambda row: row['episode_index'])


def _table(path: Path, wanted: Any) -> pa.Table:
  file = pq.ParquetFile(path)
  return file.read(columns=[name for name in file.schema_arrow.names if wanted(name)])


@functools.lru_cache(maxsize=2)
def _data(path: Path, names: tuple[str, ...]) -> pa.Table:
  """Columns of one data file; cached because v3 episodes share files."""
  return _table(path, lambda name: name in names)


def find(src: Path, options: Options) -> list[base.Item]:
  """One item per episode."""
  layout = _layout(src, options)
  items = []
  for row in _episodes(layout):
    item_id = f'episode_{row["episode_index"]:06d}'
    items.append(base.Item(item_id, f'{src} {item_id}', functools.partial(_load, layout, row, item_id, options)))
  return items


def _files(layout: Layout, row: dict[str, Any]) -> tuple[Path, Path, float]:
  """Data file, video file, and the video time at which the episode starts."""
  index, key = row['episode_index'], layout.picture_key
  data_path, video_path = layout.info['data_path'], layout.info.get('video_path') or ''
  if not layout.is_v3:
    chunk = index // layout.info.get('chunks_size', 1000)
    fields = {'episode_chunk': chunk, 'episode_index': index, 'video_key': key}
    return layout.root / data_path.format(**fields), layout.root / video_path.format(**fields), 0.0
  data = data_path.format(chunk_index=row['data/chunk_index'], file_index=row['data/file_index'])
  if layout.in_parquet:
    return layout.root / data, layout.root, 0.0
  prefix = f'videos/{key}/'
  shared = video_path.format(
    video_key=key, chunk_index=row[prefix + 'chunk_index'], file_index=row[prefix + 'file_index']
  )
  return layout.root / data, layout.root / shared, float(row[prefix + 'from_timestamp'])


def _column(rows: pa.Table, column: Column) -> np.ndarray:
  key, index = column
  values = np.array(rows[key].to_pylist(), np.float64).reshape(len(rows), -1)
  return values[:, index]


def yaw_in_radians(heading: np.ndarray, unit: str) -> np.ndarray:
  """Counter-clockwise yaw (rad) from x of headings in 'rad', 'deg', or clockwise from north ('compass_...').

  With compass headings x must point east and y north.
  """
  radians = np.deg2rad(heading) if unit.endswith('deg') else heading
  return math.pi / 2 - radians if unit.startswith('compass') else radians


def _load(
  layout: Layout, row: dict[str, Any], item_id: str, options: Options, tally: base.Tally
) -> Sequence[Clip]:
  data_path, video_path, video_start = _files(layout, row)
  if not data_path.is_file():
    raise ClipError('missing_data', f'{data_path} does not exist; download the dataset again')
  names = {'episode_index', 'frame_index', 'timestamp', *(key for key, _ in layout.pose)}
  if layout.in_parquet:
    names.add(layout.picture_key)
  try:
    table = _data(data_path, tuple(sorted(names)))
  except (pa.ArrowInvalid, OSError) as error:
    raise ClipError('bad_parquet', f'{data_path} cannot be read ({error}); download it again') from error
  rows = table.filter(pc.equal(table['episode_index'], row['episode_index']))
  if 'length' in row and len(rows) != row['length']:
    raise ClipError(
      'length_mismatch', f'{data_path}: {item_id} has {len(rows)} rows, its entry says {row["length"]}'
    )
  stamps = _column(rows, ('timestamp', 0))
  x, y, heading = (_column(rows, column) for column in layout.pose)

  def from_parquet(indices: np.ndarray) -> Iterator[base.FrameContent]:
    pictures = rows[layout.picture_key]
    for i in indices:
      picture = pictures[int(i)].as_py()
      content = picture.get('bytes') if isinstance(picture, dict) else picture
      yield content or ClipError('missing_image', f'{data_path}: {item_id} row {i} has no picture')

  def from_video(indices: np.ndarray) -> Iterator[base.FrameContent]:
    return video.read_frames(video_path, video_start + stamps[indices], 0.5 / float(layout.info['fps']))

  track = base.Track(
    item_id,
    stamps,
    np.stack([x, y], axis=1),
    yaw_in_radians(heading, options.yaw_unit),
    from_parquet if layout.in_parquet else from_video,
    source=layout.root.resolve().name,
    embodiment=str(layout.info.get('robot_type') or 'unknown'),
  )
  return base.clips_of(track, options, tally)
