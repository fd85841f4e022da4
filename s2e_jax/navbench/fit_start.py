"""Gaussians to start a fit from: flat discs on the surfaces that depth pictures show."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from s2e_jax.gaussians import SH_C0, Gaussians
from s2e_jax.navbench.capture import Capture, normals_of, world_points

_VOXEL = 0.05  # m; of all pixels that see one, the nearest one's colour counts
_EVEN = 0.5  # 0 spreads gaussians evenly over what is seen, 1 by how many pixels see it
_EVENED = 2  # rounds in which they move to the middles of what is nearest to them
_WIDTH, _THICKNESS = 0.62, 0.08  # standard deviations in the surface and across it, of the distance to neighbours
_NEIGHBOURS = 4
_OPACITY = 0.85


def start_gaussians(capture: Capture, num: int, seed: int = 0) -> Gaussians:
  """`num` gaussians of degree 0 on the surfaces in the pictures, numpy float32; the same for the same seed.

  Raises ValueError when the pictures show fewer than `num` places.
  """
  points = world_points(capture.views, capture.depth)
  normal = normals_of(points, capture.depth, np.asarray(capture.views.position))
  known = (capture.depth > 0) & (np.abs(normal).sum(-1) > 0)
  points, normal, rgb, depth = points[known], normal[known], capture.rgb[known], capture.depth[known]
  chosen, count = _nearest_per_voxel(points, depth)
  if len(chosen) < num:
    raise ValueError(f'the pictures show {len(chosen)} places, {num} gaussians need more or larger pictures')
  # Gumbel's trick draws without replacement in proportion to the weights
  rng = np.random.default_rng(seed)
  key = _EVEN * np.log(count) + rng.gumbel(size=len(chosen))
  seeds = np.argsort(-key, kind='stable')[:num]
  for _ in range(_EVENED):
    seeds = _evened(points[chosen], count**_EVEN, seeds)
  chosen = chosen[seeds]
  mean = points[chosen].astype(np.float32)
  apart = cKDTree(mean).query(mean, k=_NEIGHBOURS + 1)[0][:, 1:].mean(1)
  width = np.clip(_WIDTH * apart, 0.01, 0.5)
  scale = np.stack([width, width, np.clip(_THICKNESS * apart, 0.004, 0.02)], axis=1)
  return Gaussians(
    mean=mean,
    scale=scale.astype(np.float32),
    rotation=_turned_to(normal[chosen]).astype(np.float32),
    opacity=np.full(num, _OPACITY, np.float32),
    sh=((rgb[chosen] - 0.5) / SH_C0).astype(np.float32)[:, None],
  )


def _nearest_per_voxel(points: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(index [V] of the point seen from nearest in every voxel, number [V] of points in it)."""
  cell = np.floor((points - points.min(0)) / _VOXEL).astype(np.int64)
  size = cell.max(0) + 1
  flat = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
  order = np.lexsort((depth, flat))
  _, first, count = np.unique(flat[order], return_index=True, return_counts=True)
  return order[first], count


def _evened(places: np.ndarray, weight: np.ndarray, seeds: np.ndarray) -> np.ndarray:
  """Seeds (indices into places [V, 3]) moved to the place nearest to the middle of what is nearest to each.

  A step of Lloyd's algorithm: random places leave holes between them, these far fewer. Two seeds never become one.
  """
  owner = cKDTree(places[seeds]).query(places)[1]
  total = np.bincount(owner, weight, len(seeds))
  middle = np.stack([np.bincount(owner, weight * places[:, k], len(seeds)) / total for k in range(3)], axis=1)
  off = np.linalg.norm(places - middle[owner], axis=1)
  order = np.lexsort((off, owner))
  return order[np.searchsorted(owner[order], np.arange(len(seeds)))]


def _turned_to(normal: np.ndarray) -> np.ndarray:
  """Quaternions [N, 4] w, x, y, z that turn the z axis to unit normals [N, 3], the short way."""
  # half way between z and the normal; a normal that points down is turned round the x axis
  w = 1 + normal[:, 2]
  is_down = w < 1e-6
  quaternion = np.stack([w, -normal[:, 1], normal[:, 0], np.zeros(len(normal))], axis=1)
  quaternion[is_down] = (0.0, 1.0, 0.0, 0.0)
  return quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
