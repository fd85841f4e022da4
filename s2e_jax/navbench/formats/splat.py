"""The `.splat` format of antimatter15's viewer: 32 bytes per gaussian, no header, no spherical harmonics.

Position and standard deviations as 3 + 3 floats, red green blue opacity as 4 bytes, quaternion w x y z as 4 bytes
of 128 + 128 q.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2e_jax.navbench.formats.packing import dc_of_colour, record
from s2e_jax.navbench.formats.stored import Stored, bad_file, check_count

ROW = np.dtype([('mean', '<f4', 3), ('scale', '<f4', 3), ('colour', 'u1', 4), ('rotation', 'u1', 4)])


def read(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of a `.splat` file; raises ValueError when its size is not a multiple of 32 bytes."""
  size = path.stat().st_size
  if size % ROW.itemsize:
    raise bad_file(
      path,
      f'{size} bytes',
      f'a multiple of {ROW.itemsize}',
      'the file is cut short or not a .splat: copy it again or give it its right suffix',
    )
  check_count(path, size // ROW.itemsize, max_gaussians)
  rows = np.fromfile(path, ROW)
  gaussians = record(
    mean=rows['mean'],
    scale=rows['scale'],
    rotation=(rows['rotation'].astype(np.float32) - 128) / 128,
    opacity=rows['colour'][:, 3] / np.float32(255),
    sh=dc_of_colour(rows['colour'][:, :3] / np.float32(255))[:, None],
  )
  return Stored(gaussians, 'splat', '')
