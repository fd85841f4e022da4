"""Fan and k-means anchors."""

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from s2e_jax.policy.anchors import fan_anchors, kmeans_anchors


def test_fan_is_forward_symmetric_and_distinct():
  for m in (1, 2, 3, 8, 64):
    anchors = np.asarray(fan_anchors(m))
    assert anchors.shape == (m, 2)
    assert len(np.unique(anchors.round(6), axis=0)) == m
    assert (anchors[:, 0] > 0).all()
    assert np.abs(np.arctan2(anchors[:, 1], anchors[:, 0])).max() <= np.pi / 3 + 1e-9
    mirrored = anchors * [1, -1]
    assert {tuple(a) for a in anchors.round(6) + 0.0} == {tuple(a) for a in mirrored.round(6) + 0.0}
  np.testing.assert_allclose(fan_anchors(1), [[10, 0]])
  np.testing.assert_allclose(np.hypot(*np.asarray(fan_anchors(8, horizon=6)).T), [3] * 4 + [6] * 4)


def test_kmeans_finds_separate_clusters():
  rng = np.random.default_rng(0)
  centres = np.array([[8.0, -3], [9.5, 0], [8, 3], [0.2, 0]])
  points = np.concatenate(
    [c + 0.05 * rng.normal(size=(n, 2)) for c, n in zip(centres, (50, 80, 30, 20), strict=True)]
  )
  found = np.asarray(kmeans_anchors(points, 4, seed=3))
  for c in centres:
    assert np.linalg.norm(found - c, axis=1).min() < 0.05


def test_kmeans_is_as_good_as_scipy_and_deterministic():
  points = np.random.default_rng(1).normal(size=(700, 2)) * [3, 1]
  ours = kmeans_anchors(points, 7, seed=5)
  assert ours == kmeans_anchors(points, 7, seed=5)
  theirs = min(
    (kmeans2(points, 7, minit='++', seed=s, iter=100)[0] for s in range(5)), key=lambda c: _inertia(points, c)
  )
  assert _inertia(points, np.asarray(ours)) < 1.15 * _inertia(points, theirs)


def _inertia(points, centres):
  return ((points[:, None] - centres[None]) ** 2).sum(-1).min(1).sum()


def test_kmeans_refuses_too_little_data():
  points = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0], [np.nan, 0.0]])
  with pytest.raises(ValueError, match=r'num_anchors=3.*2 distinct'):
    kmeans_anchors(points, 3)
  assert len(kmeans_anchors(points, 2)) == 2
