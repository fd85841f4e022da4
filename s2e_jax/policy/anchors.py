"""Anchors: M end points in normalised space (units of one mean step) that the modes of the mixture start from."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.policy.attention import ACTIVATIONS
from s2e_jax.policy.dense import Dense

Anchors = tuple[tuple[float, float], ...]


def fan_anchors(num_anchors: int, horizon: int = 10, half_angle: float = math.pi / 3) -> Anchors:
  """M end points spread uniformly over the forward direction (ours; S2E v1 states 8 such anchors).

  Even M: M/2 headings within +-`half_angle` radians at each of two radii, `horizon` (a straight drive) and
  `horizon`/2 (a winding or slowing one). Odd M: M headings at the outer radius. M <= 2 heads straight ahead.
  Ordered by radius, then from right to left.
  """
  if num_anchors < 1:
    raise ValueError(f'num_anchors={num_anchors} must be >= 1')
  radii = (horizon / 2, float(horizon)) if num_anchors % 2 == 0 else (float(horizon),)
  num_headings = num_anchors // len(radii)
  headings = np.linspace(-half_angle, half_angle, num_headings) if num_headings > 1 else np.zeros(1)
  return tuple((float(r * math.cos(a)), float(r * math.sin(a))) for r in radii for a in headings)


def kmeans_anchors(
  endpoints: np.ndarray, num_anchors: int, seed: int = 0, num_iterations: int = 100, max_points: int = 200_000
) -> Anchors:
  """Centres of M clusters of normalised end points [n, 2] (scipy's k-means, k-means++ start).

  Deterministic for a seed; more than `max_points` end points are subsampled. Ordered from right to left.
  Raises ValueError when there are fewer distinct finite end points than anchors.
  """
  from scipy.cluster.vq import kmeans2  # takes long to import, and only the data's own anchors want it

  rng = np.random.default_rng(seed)
  points = np.asarray(endpoints, np.float64).reshape(-1, 2)
  points = points[np.isfinite(points).all(axis=-1)]
  if len(points) > max_points:
    points = points[rng.choice(len(points), max_points, replace=False)]
  num_distinct = len(np.unique(points, axis=0))
  if num_anchors < 1 or num_distinct < num_anchors:
    raise ValueError(
      f'num_anchors={num_anchors} must lie between 1 and the {num_distinct} distinct end points of the data; '
      'use fewer anchors, more data, or anchor_kind=fan'
    )
  centres, _ = kmeans2(points, num_anchors, iter=num_iterations, minit='++', rng=rng)
  order = np.argsort(np.arctan2(centres[:, 1], centres[:, 0]), kind='stable')
  return tuple((float(x), float(y)) for x, y in centres[order])


class AnchorEncoder(nn.Module):
  """Anchor features f_P [M, D], the queries of the decoder: an MLP of each anchor's end point.

  horizon: H, which brings normalised end points to about unit scale.
  """

  width: int
  horizon: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, anchors: jax.Array) -> jax.Array:
    """Features [M, D] of anchors [M, 2]."""
    x = anchors / self.horizon
    x = ACTIVATIONS[self.activation](Dense(self.width, dtype=self.dtype, name='hidden')(x))
    return Dense(self.width, dtype=self.dtype, name='out')(x)
