"""A splat scene made ready to be drawn: gaussians in spatial order, in units, with coarser and coarser levels.

On the host, once per scene. Level 0 holds the gaussians themselves; each higher level merges runs of four of the
one below into one that keeps their mean, covariance and how much they cover. Units of WORD gaussians have a
bounding sphere, so that a camera chooses whole units.
"""

from __future__ import annotations

import numpy as np
from flax import struct

from s2e_jax.gaussians import Array, Gaussians, rotation_matrices
from s2e_jax.render.splats.options import ALPHA_MAX, EXTENT, WORD

MERGED = 4  # gaussians of one level that become one of the next
COARSEST = 64  # units: no coarser level is made once one has so few
_SIZE_SHARE = 75  # percentile of a unit's sizes that decides whether it is fine enough


@struct.dataclass
class SplatScene:
  """Units of all levels, finest level first.

  geometry: [U, 10, WORD] rows of `project.NUM_GEOMETRY`. sh: [U, 3 K, WORD]. centre: [U, 3] m, radius: [U] m, 0 of
  an empty unit. size: [U] m, standard deviation that most of a unit's gaussians do not exceed, 0 at level 0.
  levels: number of units of every level.
  """

  geometry: Array
  sh: Array
  centre: Array
  radius: Array
  size: Array
  levels: tuple[int, ...] = struct.field(pytree_node=False)

  @property
  def capacity(self) -> int:
    """Gaussians of the finest level, with those added to fill the last units."""
    return self.levels[0] * WORD


def spatial_order(points: np.ndarray, leaf: int = MERGED) -> np.ndarray:
  """Order [N] in which every aligned run of leaf 2^k points [N, 3] is compact: halved along the widest axis."""
  order = np.arange(len(points))
  todo = [(0, len(points), 1 << max(0, len(points) - 1).bit_length())]
  while todo:
    first, last, size = todo.pop()
    if last - first <= leaf or size <= leaf:
      continue
    half = size // 2
    if last - first <= half:
      todo.append((first, last, half))
      continue
    here = points[order[first:last]]
    # far outliers would decide the widest axis of a big group
    spread = np.subtract(*np.percentile(here, (95, 5), axis=0)) if len(here) > 64 else np.ptp(here, axis=0)
    order[first:last] = order[first:last][np.argpartition(here[:, np.argmax(spread)], half - 1)]
    todo += [(first, first + half, half), (first + half, last, half)]
  return order


def _area(cov: np.ndarray) -> np.ndarray:
  """Grows like the mean area [...] of the shadows of ellipsoids with covariances [..., 3, 3]."""
  minors = sum(cov[..., i, i] * cov[..., j, j] - cov[..., i, j] ** 2 for i, j in ((0, 1), (0, 2), (1, 2)))
  return np.sqrt(np.maximum(minors, 1e-20))


def _merged(
  mean: np.ndarray, cov: np.ndarray, opacity: np.ndarray, sh: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Every four consecutive gaussians as one of equal moments; opacity times area is kept."""
  mean, cov, opacity, sh = (x.reshape(-1, MERGED, *x.shape[1:]) for x in (mean, cov, opacity, sh))
  weight = np.maximum(opacity * _area(cov), 1e-20)
  total = weight.sum(1)
  share = weight / total[:, None]
  middle = np.einsum('nk,nki->ni', share, mean)
  apart = mean - middle[:, None]
  spread = np.einsum('nk,nkij->nij', share, cov) + np.einsum('nk,nki,nkj->nij', share, apart, apart)
  covered = np.where(opacity.max(1) > 0, np.clip(total / _area(spread), 0, ALPHA_MAX), 0.0)
  return middle, spread, covered, np.einsum('nk,nkc->nc', share, sh)


def make_splat_scene(gaussians: Gaussians, with_levels: bool = True) -> SplatScene:
  """The scene of gaussians on the host, float32; without levels it can only be drawn exactly.

  Raises ValueError when there are no gaussians.
  """
  if not gaussians.num:
    raise ValueError('0 gaussians: a scene needs at least one; was everything dropped as broken?')
  order = spatial_order(np.asarray(gaussians.mean, np.float32))
  mean = np.asarray(gaussians.mean, float)[order]
  axes = rotation_matrices(np.asarray(gaussians.rotation, float)[order])
  axes = axes * np.asarray(gaussians.scale, float)[order][:, None, :]
  cov = axes @ axes.transpose(0, 2, 1)
  opacity = np.asarray(gaussians.opacity, float)[order]
  sh = np.asarray(gaussians.sh, np.float32)[order].transpose(0, 2, 1).reshape(len(order), -1)

  levels: list[dict[str, np.ndarray]] = []
  while True:
    mean, cov, opacity, sh = _filled(mean, cov, opacity, sh)
    levels.append(_units(mean, cov, opacity, sh, is_finest=not levels))
    if not with_levels or len(levels[-1]['radius']) <= COARSEST:
      break
    mean, cov, opacity, sh = _merged(mean, cov, opacity, sh)
  joined = {name: np.concatenate([level[name] for level in levels]).astype(np.float32) for name in levels[0]}
  return SplatScene(**joined, levels=tuple(len(level['radius']) for level in levels))


def _filled(
  mean: np.ndarray, cov: np.ndarray, opacity: np.ndarray, sh: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """The gaussians with invisible ones behind them, so that the next level fills whole units too."""
  pad = -len(mean) % (WORD * MERGED)
  return (
    np.concatenate([mean, np.repeat(mean[-1:], pad, 0)]),
    np.concatenate([cov, np.broadcast_to(1e-8 * np.eye(3), (pad, 3, 3))]),
    np.concatenate([opacity, np.zeros(pad)]),
    np.concatenate([sh, np.zeros((pad, sh.shape[1]), sh.dtype)]),
  )


def _units(
  mean: np.ndarray, cov: np.ndarray, opacity: np.ndarray, sh: np.ndarray, is_finest: bool
) -> dict[str, np.ndarray]:
  """Fields of SplatScene for one level."""
  in_units = lambda x: x.reshape(-1, WORD, *x.shape[1:])
  largest = in_units(np.sqrt(np.linalg.eigvalsh(cov)[:, -1]))
  is_there, places = in_units(opacity > 0), in_units(mean)
  low = np.where(is_there[..., None], places, np.inf).min(1)
  high = np.where(is_there[..., None], places, -np.inf).max(1)
  is_used = is_there.any(1)[:, None]
  centre = (np.where(is_used, low, 0.0) + np.where(is_used, high, 0.0)) / 2
  reach = np.linalg.norm(places - centre[:, None], axis=-1) + EXTENT * largest
  size = np.percentile(np.where(is_there, largest, 0.0), _SIZE_SHARE, axis=1)
  six = np.stack([cov[:, i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], axis=1)
  geometry = np.concatenate([mean, six, opacity[:, None]], axis=1)
  return {
    'geometry': in_units(geometry).transpose(0, 2, 1),
    'sh': in_units(sh).transpose(0, 2, 1),
    'centre': centre,
    'radius': np.where(is_there, reach, 0.0).max(1),
    'size': np.zeros(len(centre)) if is_finest else size,
  }


def padded_scene(scene: SplatScene, levels: tuple[int, ...]) -> SplatScene:
  """The scene with empty units added so that it has `levels`, at least its own; the pictures are the same.

  Scenes of one shape share a program. Raises ValueError where it has more units on a level.
  """
  if len(levels) < len(scene.levels) or any(a > b for a, b in zip(scene.levels, levels, strict=False)):
    raise ValueError(f'levels={levels} must hold the scene with {scene.levels} units')
  first = np.cumsum((0, *scene.levels))
  own = (*scene.levels, *[0] * (len(levels) - len(scene.levels)))
  fields = {}
  for name in ('geometry', 'sh', 'centre', 'radius', 'size'):
    values = np.asarray(getattr(scene, name))
    parts = []
    for level, (num, most) in enumerate(zip(own, levels, strict=True)):
      here = values[first[level] : first[level] + num] if num else values[:0]
      # nothing is fine enough for an empty unit, so it never stands for the units below it
      fill = np.inf if name == 'size' and level else 0.0
      parts.append(np.concatenate([here, np.full((most - num, *values.shape[1:]), fill, values.dtype)]))
    fields[name] = np.concatenate(parts)
  return SplatScene(**fields, levels=tuple(levels))
