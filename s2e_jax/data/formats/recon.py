"""RECON recordings (HDF5): jackal/position (T, 3), jackal/yaw (T,), images/rgb_left (T encoded pictures).

Shah et al., "Rapid Exploration for Open-World Navigation with Latent Goal Models". The files hold no time stamps;
4 Hz is the rate that the GNM family of datasets takes for them, so clips are marked `is_rate_assumed`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.data.formats import base
from s2e_jax.data.formats.options import Options
from s2e_jax.structs import Camera, Footprint

OPTIONS = frozenset({'nominal_rate'})
NOMINAL_RATE = 4.0
# As published with visualnav-transformer (data_config.yaml, recon: camera_metrics).
CAMERA = Camera(
  width=640,
  height=480,
  fx=272.547,
  fy=266.358,
  cx=320.0,
  cy=220.0,
  model='pinhole',
  distortion=(-0.038483, -0.010456, 0.003930, -0.001007, 0.0),
  mount_height=0.95,
  mount_forward=0.45,
)
JACKAL = Footprint(0.508, 0.43)


def find(src: Path, options: Options) -> list[base.Item]:
  """One item per .hdf5 file."""
  paths = [src] if src.is_file() else sorted(p for p in src.rglob('*') if p.suffix.lower() in ('.hdf5', '.h5'))
  root = src if src.is_dir() else src.parent
  items = []
  for path in paths:
    item_id = base.safe_id(path.relative_to(root).with_suffix('').as_posix())
    items.append(base.Item(item_id, str(path), functools.partial(_load, path, item_id, options)))
  return items


def picture_bytes(element: object) -> bytes:
  """Encoded picture of one element of images/rgb_left: bytes, a void scalar or an array of uint8."""
  if isinstance(element, bytes):
    return element
  if isinstance(element, np.ndarray | np.void):
    return element.tobytes()
  raise ClipError('bad_image', f'images/rgb_left holds {type(element).__name__}, encoded pictures are expected')


def _load(path: Path, item_id: str, options: Options, tally: base.Tally) -> Sequence[Clip]:
  try:
    with h5py.File(path, 'r') as file:
      missing = [key for key in ('jackal/position', 'jackal/yaw', 'images/rgb_left') if key not in file]
      if missing:
        raise ClipError('bad_hdf5', f'{path} has no {missing}; RECON recordings are expected')
      position = np.asarray(file['jackal/position'], np.float64)
      yaw = np.asarray(file['jackal/yaw'], np.float64)
      images = file['images/rgb_left']
      if position.ndim != 2 or position.shape[1] not in (2, 3) or yaw.size != len(position):
        raise ClipError('length_mismatch', f'{path}: jackal/position {position.shape}, jackal/yaw {yaw.shape}')
      count = min(len(position), len(images))
      tally.drop('image_without_pose', len(images) - count, str(path))
      tally.drop('missing_image', len(position) - count, str(path))

      def read(indices: np.ndarray) -> Iterator[base.FrameContent]:
        for i in indices:
          yield picture_bytes(images[int(i)])

      track = base.Track(
        item_id,
        base.nominal_stamps(count, options, NOMINAL_RATE),
        position[:count, :2],
        yaw.reshape(-1)[:count],
        read,
        source='recon',
        is_rate_assumed=True,
        camera=CAMERA,
        embodiment='wheeled',
        footprint=JACKAL,
      )
      return base.clips_of(track, options, tally)
  except OSError as error:
    raise ClipError('bad_hdf5', f'{path} cannot be read ({error}); copy it again') from error
