"""Encodings that several splat formats share: smallest-three quaternions, colours, spherical harmonics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2e_jax.gaussians import MAX_SH_DEGREE, SH_C0, Gaussians
from s2e_jax.navbench.formats.stored import bad_file

# Coefficients per channel beyond the first, for degrees 0 to 4; a record holds degrees up to MAX_SH_DEGREE.
REST_PER_CHANNEL = (0, 3, 8, 15, 24)
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def smallest_three(others: np.ndarray, largest: np.ndarray) -> np.ndarray:
  """[N, 4] unit quaternions from their smaller components [N, 3], in order, and the place [N] of the largest.

  The largest is taken positive: a quaternion and its negative are the same rotation.
  """
  quaternions = np.zeros((len(others), 4), np.float32)
  largest = largest.astype(np.intp)
  root = np.sqrt(np.maximum(0, 1 - np.square(others).sum(axis=1)))
  np.put_along_axis(quaternions, _OTHERS[largest], others.astype(np.float32), axis=1)
  np.put_along_axis(quaternions, largest[:, None], root[:, None].astype(np.float32), axis=1)
  return quaternions


def degree_of_rest(num_values: int, path: Path, what: str) -> int:
  """Degree of spherical harmonics with `num_values` further coefficients in all; ValueError if there is none."""
  for degree, per_channel in enumerate(REST_PER_CHANNEL):
    if num_values == 3 * per_channel:
      return degree
  raise bad_file(path, f'{num_values} {what}', '0, 9, 24, 45 or 72, for degrees 0 to 4', 'export the scene again')


def with_rest(dc: np.ndarray, rest: np.ndarray | None, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
  """Coefficients [N, (degree + 1)^2, 3] from the first [N, 3] and the others [N, K, 3], and notes.

  Degree 4 is cut to 3, the highest that a record holds.
  """
  if rest is None or rest.shape[1] == 0:
    return dc[:, None, :].astype(np.float32), ()
  degree = degree_of_rest(3 * rest.shape[1], path, 'coefficients of spherical harmonics')
  kept = min(degree, MAX_SH_DEGREE)
  sh = np.empty((len(dc), (kept + 1) ** 2, 3), np.float32)
  sh[:, 0] = dc
  sh[:, 1:] = rest[:, : REST_PER_CHANNEL[kept]]
  notes = (f'spherical harmonics of degree {degree} cut to {kept}',) if degree > kept else ()
  return sh, notes


def dc_of_colour(colour: np.ndarray) -> np.ndarray:
  """First coefficients [N, 3] of colours [N, 3] in 0..1."""
  return ((colour - 0.5) / SH_C0).astype(np.float32)


def exp_scale(log_scale: np.ndarray) -> np.ndarray:
  """Standard deviations [N, 3] float32 from their logarithms; too large ones become infinite."""
  with np.errstate(over='ignore'):
    return np.exp(log_scale.astype(np.float32, copy=False))


def record(
  mean: np.ndarray, scale: np.ndarray, rotation: np.ndarray, opacity: np.ndarray, sh: np.ndarray
) -> Gaussians:
  """Gaussians of float32 arrays."""
  as_float32 = lambda array: np.ascontiguousarray(array, dtype=np.float32)
  return Gaussians(
    mean=as_float32(mean),
    scale=as_float32(scale),
    rotation=as_float32(rotation),
    opacity=as_float32(opacity),
    sh=as_float32(sh),
  )
