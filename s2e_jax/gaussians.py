"""3D gaussians: the record that files are read into, geometry is found in and pictures are made of.

Conventions of 3D Gaussian Splatting (Kerbl et al., SIGGRAPH 2023): a gaussian is an ellipsoid with an opacity and
a colour that depends on the direction it is seen from, given by spherical harmonics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import struct

Array = Any  # numpy.ndarray on the host, jax.Array in programs

MAX_SH_DEGREE = 3
# Y_0^0: the colour of a gaussian without further coefficients is 0.5 + SH_C0 * sh[0].
SH_C0 = 0.28209479177387814


@struct.dataclass
class Gaussians:
  """N gaussians in one frame; the frame of the file they were read from, or a world with z up and metres.

  mean: [N, 3] centre. scale: [N, 3] standard deviations along the gaussian's own axes, > 0 (not their logarithms).
  rotation: [N, 4] unit quaternion w, x, y, z that turns the own axes into the frame's. opacity: [N] in 0..1 (not
  its logit). sh: [N, (degree + 1)^2, 3] coefficients of red, green and blue; the colour is
  max(0, 0.5 + sum_k basis_k(direction from the camera) sh_k), sRGB as the pictures it was fitted to.
  """

  mean: Array
  scale: Array
  rotation: Array
  opacity: Array
  sh: Array

  @property
  def num(self) -> int:
    """Number of gaussians N."""
    return int(self.mean.shape[0])

  @property
  def sh_degree(self) -> int:
    """Degree of the spherical harmonics, 0 to 3."""
    return round(self.sh.shape[-2] ** 0.5) - 1


def rotation_matrices(rotation: np.ndarray) -> np.ndarray:
  """[..., 3, 3] of quaternions [..., 4] w, x, y, z of any length but zero; columns are the turned axes."""
  w, x, y, z = np.moveaxis(np.asarray(rotation) / np.linalg.norm(rotation, axis=-1, keepdims=True), -1, 0)
  rows = (
    (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
    (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
    (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
  )
  return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
