"""Spherical harmonics turned with the frame they are given in. Numpy, on the host."""

from __future__ import annotations

import numpy as np

from s2e_jax.gaussians import MAX_SH_DEGREE
from s2e_jax.render.splats.project import harmonics

# Enough directions for the seven unknowns of degree 3, spread so that the fit is well conditioned.
_NUM_DIRECTIONS = 64


def sh_basis(directions: np.ndarray, degree: int) -> np.ndarray:
  """[N, (degree + 1)^2] real spherical harmonics of unit directions [N, 3], in order and signs of 3DGS.

  Raises ValueError for a degree outside 0 to 3.
  """
  if not 0 <= degree <= MAX_SH_DEGREE:
    raise ValueError(f'degree={degree} of spherical harmonics must be 0 to {MAX_SH_DEGREE}')
  x, y, z = np.asarray(directions, float).T
  columns = harmonics((degree + 1) ** 2, x, y, z)
  return np.stack([np.broadcast_to(np.asarray(column), x.shape) for column in columns], axis=-1)


def spread_directions(num: int) -> np.ndarray:
  """[num, 3] unit directions on a Fibonacci lattice: even over the sphere, the same every time."""
  z = 1 - (2 * np.arange(num) + 1) / num
  turn = np.pi * (1 + 5**0.5) * np.arange(num)
  radius = np.sqrt(1 - z * z)
  return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=-1)


def rotate_sh(sh: np.ndarray, rotation: np.ndarray) -> np.ndarray:
  """Coefficients [..., (degree + 1)^2, 3] for directions turned by `rotation` [3, 3]: same colours, new frame.

  Every degree turns within itself; its matrix is the least-squares fit over sampled directions, which is exact
  because the turned harmonics lie in the space of the harmonics.
  """
  degree = round(sh.shape[-2] ** 0.5) - 1
  directions = spread_directions(_NUM_DIRECTIONS)
  before, after = sh_basis(directions, degree), sh_basis(directions @ rotation.T, degree)
  turned = np.array(sh, copy=True)
  for order in range(1, degree + 1):
    own = slice(order * order, (order + 1) ** 2)
    matrix = np.linalg.lstsq(after[:, own], before[:, own], rcond=None)[0].astype(sh.dtype)
    turned[..., own, :] = matrix @ sh[..., own, :]
  return turned
