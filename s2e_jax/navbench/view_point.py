"""From where a page looks at something first: a place behind and above it that nothing stands in front of."""

from __future__ import annotations

import numpy as np

_ABOVE = 0.5  # m above the floor that is looked at
_DISTANCES = (7.5, 4.5, 2.5)  # m
_ELEVATIONS = np.radians((40.0, 60.0, 25.0))
_TURNS = np.radians((0.0, 45.0, -45.0, 90.0, -90.0, 135.0, -135.0, 180.0))  # away from behind
_CLEAR = 0.6  # share of light that has to come through
_WIDE = 3.0  # standard deviations that a gaussian reaches
_LEAST = 1e-8  # m^2 added to variances: flat gaussians have an inverse too


def transmittance(
  centers: np.ndarray, covariances: np.ndarray, opacities: np.ndarray, eye: np.ndarray, target: np.ndarray
) -> float:
  """Share of light 0..1 that comes from `target` [3] m to `eye` [3] m through gaussians.

  centers: [N, 3] m. covariances: [N, 3, 3] m^2. opacities: [N] at their centres. A gaussian dims by its opacity
  times its density where the line is nearest to it in standard deviations.
  """
  ahead = target - eye
  # far ones need no inverse
  along = np.clip((centers - eye) @ ahead / (ahead @ ahead), 0.0, 1.0)
  off = np.linalg.norm(centers - (eye + along[:, None] * ahead), axis=1)
  near = off < _WIDE * np.sqrt(np.trace(covariances, axis1=1, axis2=2))
  offset = centers[near] - eye
  precision = np.linalg.inv(covariances[near].astype(np.float64) + _LEAST * np.eye(3))
  towards = precision @ ahead
  place = np.clip((offset * towards).sum(-1) / (towards @ ahead), 0.0, 1.0)
  rest = offset - place[:, None] * ahead
  density = np.exp(-0.5 * np.einsum('ni,nij,nj->n', rest, precision, rest))
  return float(np.prod(1.0 - np.clip(opacities[near], 0.0, 0.999) * density))


def first_view(
  centers: np.ndarray, covariances: np.ndarray, opacities: np.ndarray, position: np.ndarray, yaw: float
) -> tuple[np.ndarray, np.ndarray]:
  """(eye [3] m, looked at [3] m) for something at `position` [3] m on the floor that faces `yaw` radians.

  The first of a list of places with a clear sight, behind and above at first; the clearest where none is.
  """
  target = position + np.array([0.0, 0.0, _ABOVE])
  best, most = target, -1.0
  for distance in _DISTANCES:
    for elevation in _ELEVATIONS:
      for turn in _TURNS:
        back = yaw + np.pi + turn
        flat = np.cos(elevation)
        eye = target + distance * np.array([flat * np.cos(back), flat * np.sin(back), np.sin(elevation)])
        light = transmittance(centers, covariances, opacities, eye, target)
        if light >= _CLEAR:
          return eye, target
        if light > most:
          best, most = eye, light
  return best, target
