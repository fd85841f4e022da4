"""Whether the mixture means what it says: likelihood in metres, coverage of ellipses, reliability of scores."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax import mixture as mx
from s2e_jax.structs import TrajectoryMixture

COVERAGES = (0.5, 0.9)


def ellipse_radius2(coverage: float) -> float:
  """Squared Mahalanobis radius of the ellipse that holds `coverage` of a bivariate Gaussian."""
  return -2.0 * float(np.log1p(-coverage))


@jax.jit
def _judge(mixture: TrajectoryMixture, waypoints: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Negative log-likelihood per waypoint [N], squared Mahalanobis distances in metres and of shapes [N, M, H]."""
  is_seen = jnp.ones(waypoints.shape[:-1], bool)
  metric = mx.in_metres(mixture)
  nll = -mx.mixture_log_prob(metric, waypoints, is_seen) / waypoints.shape[-2]
  return nll, _distance2(metric, waypoints), _distance2(mixture, mx.normalise_targets(waypoints, is_seen)[0])


def _distance2(mixture: TrajectoryMixture, waypoints: jax.Array) -> jax.Array:
  """Squared Mahalanobis distances [N, M, H] of waypoints [N, H, 2] in mean's units."""
  z = (waypoints[..., None, :, :] - mixture.mean) * jnp.exp(-mixture.log_std)
  zx, zy, rho = z[..., 0], z[..., 1], mixture.rho
  return zx * zx + (zy - rho * zx) ** 2 / ((1.0 - rho) * (1.0 + rho))


def window_calibration(
  mixture: TrajectoryMixture, truth: np.ndarray, assigned: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """What each window says about calibration: (values [N], shares per waypoint [N, H]).

  mixture: N windows. truth: [N, H, 2] m. assigned: [N] int, the mode that the training rule gives the truth to.

  values: nll_metres, the negative log-density of the whole mixture in metres, in nats per waypoint (the predicted
    v is part of it, unlike in the normalised training loss; it may be negative); coverage_C_top, _assigned, _shape
    for C = 50, 90: the share of waypoints inside that ellipse, in metres, of the top and of the assigned mode, and
    of the assigned mode once the truth is divided by its own v. Training fits sigma to shapes alone, so a low
    coverage in metres beside a good one of shapes says that the error of v is what sigma does not know.
  The second dict has the same coverage keys, one waypoint at a time. Ideal: 0.5 and 0.9. The top mode may honestly
  cover less when the mixture spreads its belief over several.
  """
  nll, metres, shapes = jax.tree.map(np.asarray, _judge(mixture, truth))
  rows = np.arange(len(truth))
  top = np.argmax(np.asarray(mixture.logits), axis=1)
  kinds = {'top': metres[rows, top], 'assigned': metres[rows, assigned], 'shape': shapes[rows, assigned]}
  inside = {
    f'coverage_{round(100 * coverage)}_{name}': (distance2 < ellipse_radius2(coverage)).astype(float)
    for name, distance2 in kinds.items()
    for coverage in COVERAGES
  }
  return {'nll_metres': nll} | {key: value.mean(axis=1) for key, value in inside.items()}, inside


def reliability(confidence: np.ndarray, chosen: np.ndarray, num_bins: int = 10) -> dict[str, Any]:
  """Stated score against observed frequency, all modes of all windows pooled into bins of equal width.

  confidence: [N, M] scores q. chosen: [N] int, the mode that was assigned to the truth.
  Returns {'stated', 'observed': mean score and share of chosen modes per bin (None if empty), 'count': per bin,
  'ece': expected calibration error, the count-weighted mean gap}.
  """
  is_chosen = (np.arange(confidence.shape[1]) == np.asarray(chosen)[:, None]).ravel()
  flat = np.asarray(confidence, float).ravel()
  bins = np.minimum((flat * num_bins).astype(int), num_bins - 1)
  count = np.bincount(bins, minlength=num_bins)
  total = np.maximum(count, 1)
  stated = np.bincount(bins, flat, num_bins) / total
  observed = np.bincount(bins, is_chosen, num_bins) / total
  known = lambda values: [float(v) if c else None for v, c in zip(values, count, strict=True)]
  return {
    'stated': known(stated),
    'observed': known(observed),
    'count': count.tolist(),
    'ece': float((count * np.abs(stated - observed)).sum() / max(count.sum(), 1)),
  }


def mode_statistics(mixture: TrajectoryMixture, assigned: np.ndarray) -> dict[str, Any]:
  """Signs of mode collapse: shares [M] of being top and of being assigned, and mean score entropy (nats)."""
  logits = np.asarray(mixture.logits, float)
  num_windows, num_modes = logits.shape
  log_q = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
  share = lambda modes: (np.bincount(modes, minlength=num_modes) / num_windows).tolist()
  return {
    'top_share': share(np.argmax(logits, axis=1)),
    'assigned_share': share(np.asarray(assigned)),
    'score_entropy': float(-(np.exp(log_q) * log_q).sum(axis=1).mean()),
    'score_entropy_max': float(np.log(num_modes)),
  }
