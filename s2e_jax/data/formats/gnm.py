"""GNM, ViNT and NoMaD folders: TRAJECTORY/{0..T-1}.jpg beside traj_data.pkl = {position (T, 2), yaw (T,)}.

The layout of github.com/robodhruv/visualnav-transformer. It has no time stamps: frames are 4 Hz by convention,
so clips are marked `is_rate_assumed`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.data.formats import base, safe_pickle
from s2e_jax.data.formats.options import Options

OPTIONS = frozenset({'splits_dir', 'nominal_rate'})
NOMINAL_RATE = 4.0
_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')


def as_floats(value: Any, where: str, name: str) -> np.ndarray:
  """float64 array of lists, arrays and object arrays of numbers (None becomes NaN)."""

  def plain(part: Any) -> Any:
    if isinstance(part, np.ndarray):
      return plain(part.tolist())
    return [plain(p) for p in part] if isinstance(part, list | tuple) else part

  try:
    return np.asarray(plain(value), np.float64)
  except (TypeError, ValueError) as error:
    raise ClipError('bad_pickle', f'{where}: {name} is not an array of numbers: {error}') from error


def load_poses(path: Path) -> tuple[np.ndarray, np.ndarray]:
  """position [T, 2] m and yaw [T] rad of a traj_data.pkl; raises ClipError when it is unsafe or malformed."""
  where = str(path)
  content = safe_pickle.loads(path.read_bytes(), where)
  if not isinstance(content, dict) or not {'position', 'yaw'} <= set(content):
    keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
    raise ClipError('bad_pickle', f"{where}: must hold 'position' and 'yaw', holds {keys}")
  position = as_floats(content['position'], where, 'position')
  yaw = as_floats(content['yaw'], where, 'yaw')
  if position.ndim != 2 or position.shape[1] not in (2, 3):
    raise ClipError('length_mismatch', f'{where}: position {position.shape} must be (T, 2)')
  if yaw.size != len(position) or yaw.ndim > 2:
    raise ClipError('length_mismatch', f'{where}: yaw {yaw.shape} must be (T,) or (T, 1) with T={len(position)}')
  return position[:, :2], yaw.reshape(-1)


def _named_splits(splits_dir: Path) -> dict[str, str]:
  """Trajectory name -> 'train' or 'test' of a data_splits/SET folder."""
  names: dict[str, str] = {}
  for split in ('train', 'test'):
    path = splits_dir / split / 'traj_names.txt'
    if not path.is_file():
      raise ValueError(f'--splits_dir={splits_dir} must hold train/traj_names.txt and test/traj_names.txt')
    for name in path.read_text().split('\n'):
      if name.strip():
        names[name.strip().rstrip('/')] = split
  return names


def find(src: Path, options: Options) -> list[base.Item]:
  """One item per folder with a traj_data.pkl; folders with pictures and no poses become refusals."""
  folders = sorted(p.parent for p in src.rglob('traj_data.pkl'))
  splits = _named_splits(options.splits_dir) if options.splits_dir else None
  items = []
  for folder in folders:
    name = folder.relative_to(src).as_posix() if folder != src else folder.resolve().name
    item_id = base.safe_id(name)
    split = None
    if splits is not None:
      split = splits.get(name, splits.get(folder.name))
      if split is None:
        items.append(
          base.refusal(
            item_id, folder, 'not_in_splits', f'{folder} is named in neither list of {options.splits_dir}'
          )
        )
        continue
    items.append(base.Item(item_id, str(folder), functools.partial(_load, folder, item_id, src, options), split))
  with_poses = set(folders)
  for folder in sorted(p for p in src.iterdir() if p.is_dir() and p not in with_poses):
    if any(p.suffix.lower() in _IMAGE_SUFFIXES for p in folder.iterdir()):
      name = base.safe_id(folder.name)
      items.append(base.refusal(name, folder, 'missing_poses', f'{folder} has pictures but no traj_data.pkl'))
  return items


def _load(folder: Path, item_id: str, src: Path, options: Options, tally: base.Tally) -> Sequence[Clip]:
  position, yaw = load_poses(folder / 'traj_data.pkl')
  images = {
    int(p.stem): p
    for p in folder.iterdir()
    if p.suffix.lower() in _IMAGE_SUFFIXES and p.stem.isascii() and p.stem.isdigit()
  }
  count = len(position)
  if not images:
    raise ClipError('no_frames', f'{folder}: no pictures named 0.jpg, 1.jpg, ...')
  tally.drop(
    'image_without_pose', sum(i >= count for i in images), f'{folder}: {count} poses, {len(images)} pictures'
  )

  def read(indices: np.ndarray) -> Iterator[base.FrameContent]:
    for i in indices:
      path = images.get(int(i))
      yield path.read_bytes() if path else ClipError('missing_image', f'{folder} has no picture {i}')

  track = base.Track(
    item_id,
    base.nominal_stamps(count, options, NOMINAL_RATE),
    position,
    yaw,
    read,
    source=src.resolve().name,
    is_rate_assumed=True,
  )
  return base.clips_of(track, options, tally)
