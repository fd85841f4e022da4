"""Writes `.spz` files of version 3: gzip of a header and five streams, 20 bytes per gaussian before.

The published layout of Niantic: positions are 24-bit fixed point, opacities byte / 255, colours
(byte / 255 - 0.5) / 0.15, log scales byte / 16 - 10, and of quaternions x y z w the smallest three in 10 bits.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.formats.spz import MAGIC
from s2e_jax.reporting import write_whole

_VERSION = 3  # version 2 has no w: rotations by half a turn come back 10 degrees off
_FRACTIONAL_BITS = 12  # a quarter of a millimetre, up to 2 km from the origin
_COLOUR_STEP = 0.15
_ANTIALIASED = 1  # flag: fitted with small gaussians losing opacity, see `SplatOptions`
_HEADER = struct.Struct('<4sIIBBBB')


def spz_bytes(gaussians: Gaussians) -> bytes:
  """The file of N gaussians of degree 0, in the axes they have; the same bytes for the same gaussians.

  Precision: mean 1/8192, log scale 1/32, opacity 1/510, display colour 1/270 in -0.44..1.44, quaternion 1/1400.
  Raises ValueError for further coefficients and for positions that do not fit.
  """
  if gaussians.sh_degree:
    raise ValueError(f'degree {gaussians.sh_degree} is not written: only the first coefficient is')
  mean = np.round(np.asarray(gaussians.mean, float) * 2**_FRACTIONAL_BITS)
  if not np.abs(mean).max(initial=0) < 2**23:
    limit = 2 ** (23 - _FRACTIONAL_BITS)
    raise ValueError(f'positions must be finite and within {limit} of the origin: move the scene there')
  fixed = mean.astype('<i4').view(np.uint8).reshape(gaussians.num, 3, 4)[:, :, :3]
  streams = [
    fixed,
    _byte(np.asarray(gaussians.opacity, float) * 255),
    _byte((np.asarray(gaussians.sh, float)[:, 0] * _COLOUR_STEP + 0.5) * 255),
    _byte((np.log(np.asarray(gaussians.scale, float)) + 10) * 16),
    _smallest_three(np.asarray(gaussians.rotation, float)),
  ]
  header = _HEADER.pack(MAGIC, _VERSION, gaussians.num, 0, _FRACTIONAL_BITS, _ANTIALIASED, 0)
  # without a time stamp the same gaussians are the same file
  return gzip.compress(header + b''.join(stream.tobytes() for stream in streams), 9, mtime=0)


def write_spz(path: str | Path, gaussians: Gaussians) -> Path:
  """Writes the file of gaussians whole or not at all; returns its path. Raises as `spz_bytes`."""
  return write_whole(Path(path), spz_bytes(gaussians))


def _smallest_three(rotation: np.ndarray) -> np.ndarray:
  """[N] uint32 of quaternions w, x, y, z: index of the largest of x y z w, then sign and 9 bits of the others."""
  xyzw = rotation[:, [1, 2, 3, 0]] / np.linalg.norm(rotation, axis=1, keepdims=True)
  largest = np.abs(xyzw).argmax(1)
  rows = np.arange(len(xyzw))
  # the sign of the whole is free: the largest is positive
  xyzw = xyzw * np.where(xyzw[rows, largest] < 0, -1.0, 1.0)[:, None]
  others = xyzw[np.arange(4) != largest[:, None]].reshape(-1, 3)
  size = np.minimum(np.round(np.abs(others) * np.sqrt(2) * 511), 511).astype(np.uint32)
  fields = size | np.where(others < 0, np.uint32(512), np.uint32(0))
  packed = largest.astype(np.uint32)
  for k in range(3):
    packed = packed << np.uint32(10) | fields[:, k]
  return packed.astype('<u4')


def _byte(value: np.ndarray) -> np.ndarray:
  return np.clip(np.round(value), 0, 255).astype(np.uint8)
