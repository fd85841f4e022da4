"""Image folders with KITTI poses: twelve numbers per line, the 3x4 camera-to-world matrix of every frame.

Takes one sequence (poses.txt beside an image folder) or the published tree (sequences/NN and poses/NN.txt).
Planar pose: x = t_z, y = -t_x, yaw = -atan2(R02, R22) (camera axes: x right, y down, z ahead).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.data.formats import base, frames
from s2e_jax.data.formats.options import Options
from s2e_jax.structs import Camera, Footprint

OPTIONS = frozenset({'images', 'poses', 'nominal_rate'})
NOMINAL_RATE = 10.0
# Of the published recording car (cameras 1.65 m above the ground); poses are those of the camera.
MOUNT_HEIGHT = 1.65
CAR = Footprint(4.8, 1.8)
_IMAGE_FOLDERS = ('image_2', 'image_3', 'image_0', 'image_1', 'image_l', 'image_left', 'images', 'image', 'rgb')
_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')


def _rows(path: Path, columns: int) -> np.ndarray:
  """[N, columns] numbers of a text file; a leading 'NAME:' is passed over. Raises ClipError 'bad_pose_file'."""
  rows = []
  for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
    words = line.split(':')[-1].replace(',', ' ').split()
    if not words:
      continue
    try:
      row = [float(word) for word in words]
    except ValueError:
      row = []
    if len(row) != columns:
      raise ClipError('bad_pose_file', f'{path} line {number}: {line[:60]!r} is not {columns} numbers')
    rows.append(row)
  if not rows:
    raise ClipError('bad_pose_file', f'{path} is empty')
  return np.array(rows)


def planar(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Position [N, 2] m (x ahead, y left of the first camera) and yaw [N] rad of [N, 12] camera-to-world rows."""
  m = matrices.reshape(-1, 3, 4)
  return np.stack([m[:, 2, 3], -m[:, 0, 3]], axis=1), -np.arctan2(m[:, 0, 2], m[:, 2, 2])


def load_calibration(path: Path, image_folder: str) -> tuple[float, float, float, float]:
  """fx, fy, cx, cy in pixels from calib.txt: the projection P of that camera ('image_2' -> P2), else P0."""
  named: dict[str, list[float]] = {}
  for line in path.read_text(errors='replace').splitlines():
    name, colon, numbers = line.rpartition(':')
    try:
      values = [float(word) for word in numbers.split()]
    except ValueError:
      continue
    if len(values) == 12:
      named[name.strip() if colon else f'P{len(named)}'] = values
  wanted = f'P{image_folder[-1]}' if image_folder[-1:].isdigit() else 'P0'
  p = named.get(wanted) or named.get('P0')
  if p is None or not (p[0] > 0 and p[5] > 0):
    raise ClipError('bad_calibration', f"{path} must hold a line 'P0: ' with 12 numbers; or give --camera")
  return p[0], p[5], p[2], p[6]


def _image_folder(sequence: Path, options: Options) -> Path | None:
  names = [options.images] if options.images else _IMAGE_FOLDERS
  for name in names:
    folder = sequence / name
    if folder.is_dir():
      return folder
  return sequence if any(p.suffix.lower() in _IMAGE_SUFFIXES for p in sequence.iterdir()) else None


def _sequences(src: Path, options: Options) -> list[tuple[Path, Path]]:
  """(sequence folder, pose file) pairs, pose files may not exist."""
  root = src / 'sequences' if (src / 'sequences').is_dir() else src
  if (src / 'poses.txt').is_file() or (root == src and _image_folder(src, options)):
    return [(src, options.poses if options.poses and options.poses.is_file() else src / 'poses.txt')]
  pairs = []
  for folder in sorted(p for p in root.iterdir() if p.is_dir()):
    if not _image_folder(folder, options):
      continue
    own, shared = folder / 'poses.txt', (options.poses or src / 'poses') / f'{folder.name}.txt'
    pairs.append((folder, own if own.is_file() else shared))
  return pairs


def find(src: Path, options: Options) -> list[base.Item]:
  """One item per sequence; sequences without poses become refusals."""
  items = []
  for folder, poses in _sequences(src, options):
    item_id = base.safe_id(folder.resolve().name)
    images = _image_folder(folder, options)
    if not poses.is_file():
      items.append(base.refusal(item_id, folder, 'missing_poses', f'{folder}: no poses at {poses}; give --poses'))
    elif images is None:
      items.append(base.refusal(item_id, folder, 'no_frames', f'{folder}: no image folder; give --images=NAME'))
    else:
      load = functools.partial(_load, folder, images, poses, item_id, options)
      items.append(base.Item(item_id, str(folder), load))
  return items


def _load(
  folder: Path, images: Path, pose_path: Path, item_id: str, options: Options, tally: base.Tally
) -> Sequence[Clip]:
  position, yaw = planar(_rows(pose_path, 12))
  count = len(position)
  files = sorted(p for p in images.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
  if not files:
    raise ClipError('no_frames', f'{images} holds no pictures')
  # Numbered names say which pose they belong to, so a missing picture does not shift the rest.
  numbered = all(p.stem.isascii() and p.stem.isdigit() for p in files)
  by_row = {int(p.stem) if numbered else i: p for i, p in enumerate(files)}
  tally.drop(
    'image_without_pose', sum(i >= count for i in by_row), f'{folder}: {count} poses, {len(files)} pictures'
  )

  times = next((p for p in (folder / 'times.txt', images / 'times.txt') if p.is_file()), None)
  if times is not None:
    stamps = _rows(times, 1)[:, 0]
    if len(stamps) < count:
      raise ClipError('length_mismatch', f'{times} holds {len(stamps)} stamps for {count} poses')
    stamps = stamps[:count]
  else:
    stamps = base.nominal_stamps(count, options, NOMINAL_RATE)

  def read(indices: np.ndarray) -> Iterator[base.FrameContent]:
    for i in indices:
      path = by_row.get(int(i))
      yield path.read_bytes() if path else ClipError('missing_image', f'{images} has no picture {i}')

  track = base.Track(
    item_id,
    stamps,
    position,
    yaw,
    read,
    source='kitti',
    is_rate_assumed=times is None,
    camera=_camera(folder, images, files, options),
    mount_height=MOUNT_HEIGHT,
    embodiment='car',
    footprint=CAR,
  )
  return base.clips_of(track, options, tally)


def _camera(folder: Path, images: Path, files: Sequence[Path], options: Options) -> Camera | None:
  """The calibrated camera for pictures of the size of the first readable file; None without calib.txt."""
  path = folder / 'calib.txt'
  if options.camera is not None or not path.is_file():
    return None
  fx, fy, cx, cy = load_calibration(path, images.name)
  for file in files:
    try:
      height, width = frames.decode(file.read_bytes()).shape[:2]
    except ClipError:
      continue
    return Camera(width, height, fx, fy, cx, cy, model='pinhole', mount_height=MOUNT_HEIGHT)
  return None
