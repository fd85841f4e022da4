"""Open-loop metrics, per window, in numpy: displacement, misses, heading, and mAP over the anchors.

Shapes: N windows, M modes, H waypoints 0.25 s apart; everything in metres and in the robot frame.
"""

from __future__ import annotations

import numpy as np

BUCKETS = ('straight', 'left', 'right', 'stationary')
MOVING = BUCKETS[:3]
STATIONARY_PATH = 0.25  # metres in 2.5 s: slower than 0.1 m/s counts as standing
TURN_ANGLE = np.deg2rad(10.0)  # bearing of the end point beyond which a window turns
HIT_RADIUS = 0.1  # metres
HIT_SHARE = 0.2  # of the path length
_HEADING_STEPS = 4  # the heading at the end is the direction of the last second
_HEADING_MIN = 0.1  # metres driven in that second, below which the truth has no heading


def path_length(waypoints: np.ndarray) -> np.ndarray:
  """Length [N] (m) of the path from the origin through waypoints [N, H, 2]."""
  steps = np.diff(waypoints, axis=1, prepend=np.zeros_like(waypoints[:, :1]))
  return np.linalg.norm(steps, axis=-1).sum(axis=-1)


def hit_radius(waypoints: np.ndarray) -> np.ndarray:
  """End point error [N] (m) below which a prediction of the true waypoints [N, H, 2] is a hit."""
  return np.maximum(HIT_RADIUS, HIT_SHARE * path_length(waypoints))


def bucket_of(waypoints: np.ndarray) -> np.ndarray:
  """Index [N] into BUCKETS of true waypoints [N, H, 2].

  'stationary' by path length, else by the bearing of the end point: beyond 10 degrees to a side (an arc that turns
  by 20 degrees) is a turn; y points left.
  """
  bearing = np.arctan2(waypoints[:, -1, 1], waypoints[:, -1, 0])
  turn = np.where(bearing > TURN_ANGLE, 1, np.where(bearing < -TURN_ANGLE, 2, 0))
  return np.where(path_length(waypoints) < STATIONARY_PATH, 3, turn)


def displacement(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Average and final displacement errors [N, M] (m) of predicted [N, M, H, 2] against truth [N, H, 2]."""
  error = np.linalg.norm(predicted - truth[:, None], axis=-1)
  return error.mean(axis=-1), error[..., -1]


def best_of_top(error: np.ndarray, score: np.ndarray, k: int) -> np.ndarray:
  """Smallest error [N] among the k modes of the highest score; error and score are [N, M]."""
  top = np.argsort(-score, axis=1, kind='stable')[:, :k]
  return np.take_along_axis(error, top, axis=1).min(axis=1)


def heading_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Angle [N] (rad, 0 to pi) between predicted and true direction of the last second, waypoints [N, H, 2].

  NaN where the truth hardly moves in that second. A prediction that does not move keeps its heading: straight on.
  """

  def last_second(waypoints: np.ndarray) -> np.ndarray:
    h = waypoints.shape[1]
    return waypoints[:, -1] - (waypoints[:, -1 - _HEADING_STEPS] if h > _HEADING_STEPS else 0.0)

  ours, theirs = last_second(predicted), last_second(truth)
  gap = np.arctan2(ours[:, 1], ours[:, 0]) - np.arctan2(theirs[:, 1], theirs[:, 0])
  gap = np.abs((gap + np.pi) % (2 * np.pi) - np.pi)
  return np.where(np.linalg.norm(theirs, axis=-1) < _HEADING_MIN, np.nan, gap)


def ade_at_true_speed(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """ADE [N] (m) of predicted [N, H, 2] at the path length of truth; one that stands still stays so."""
  length = path_length(predicted)
  scale = np.where(length > 1e-6, path_length(truth) / np.maximum(length, 1e-6), 0.0)
  return np.linalg.norm(scale[:, None, None] * predicted - truth, axis=-1).mean(axis=-1)


def window_metrics(predicted: np.ndarray, score: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
  """Metrics [N] of every window: predicted [N, M, H, 2] and truth [N, H, 2] in metres, score [N, M].

  minADE@k and minFDE@k for k in 1, 3, M (those that M allows), ADE and FDE of the top mode, miss rates (no hit by
  the top mode, by any mode; a hit as in mAP) and heading_error_deg of the top mode (NaN where undefined).
  ade_at_true_speed is the ADE of the top mode stretched to the true path length: what is left of the error once
  somebody tells how fast to drive.
  """
  ade, fde = displacement(predicted, truth)
  num_modes = score.shape[1]
  top = np.argmax(score, axis=1)
  rows = np.arange(len(truth))
  chosen = predicted[rows, top]
  out = {'ade': ade[rows, top], 'fde': fde[rows, top], 'ade_at_true_speed': ade_at_true_speed(chosen, truth)}
  for k in sorted({k for k in (1, 3, num_modes) if k <= num_modes}):
    name = 'M' if k == num_modes and k > 1 else str(k)
    out[f'minADE@{name}'] = best_of_top(ade, score, k)
    out[f'minFDE@{name}'] = best_of_top(fde, score, k)
  radius = hit_radius(truth)
  out['miss_rate'] = (out['fde'] >= radius).astype(float)
  out['miss_rate@M'] = (fde.min(axis=1) >= radius).astype(float)
  out['heading_error_deg'] = np.rad2deg(heading_error(chosen, truth))
  return out


def true_positives(predicted: np.ndarray, confidence: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Which modes [N, M] bool are the one true positive of their window: its hit of the highest confidence."""
  _, fde = displacement(predicted, truth)
  is_hit = fde < hit_radius(truth)[:, None]
  best = np.argmax(np.where(is_hit, confidence, -np.inf), axis=1)
  return is_hit & (np.arange(confidence.shape[1]) == best[:, None])


class AveragePrecision:
  """Average precision of one pool of predictions, sorted once so that bootstrap weights are cheap to try.

  The area under the precision-recall curve over falling confidence, precision replaced by the best precision at
  that recall or beyond (as in the Waymo open motion challenge). Predictions of equal confidence enter together, so
  the order of the input does not matter.
  """

  def __init__(self, confidence: np.ndarray, is_true: np.ndarray):
    """confidence: [N, M]; is_true: [N, M] bool, at most one per row: every row is one thing to find."""
    self._num_windows, num_modes = confidence.shape
    order = np.argsort(-confidence, axis=None, kind='stable')
    sorted_confidence = confidence.ravel()[order]
    self._window, self._is_true = order // num_modes, is_true.ravel()[order]
    self._last_of_tie = np.append(np.diff(sorted_confidence) != 0, True)

  def __call__(self, weight: np.ndarray | None = None) -> float:
    """AP when window n counts weight[n] times ([N], default once); NaN when no window counts."""
    weight = np.ones(self._num_windows) if weight is None else weight
    total = weight.sum()
    if total == 0:
      return float('nan')
    entering = weight[self._window]
    found = np.cumsum(np.where(self._is_true, entering, 0.0))[self._last_of_tie]
    claimed = np.cumsum(entering)[self._last_of_tie]
    precision = found / np.maximum(claimed, 1e-12)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(found, prepend=0.0) * precision) / total)


class MeanAveragePrecision:
  """mAP over the anchors in the Waymo-motion sense (S2E, arXiv:2507.22028, reports it on RECON).

  One AP per bucket of BUCKETS, modes of all its windows pooled. 'mAP' is the mean over the moving buckets that
  occur: standing still scores nothing. 'mAP_with_stationary' is the mean over all buckets that occur.
  """

  def __init__(self, predicted: np.ndarray, confidence: np.ndarray, truth: np.ndarray):
    """predicted: [N, M, H, 2] m; confidence: [N, M]; truth: [N, H, 2] m."""
    bucket = bucket_of(truth)
    is_true = true_positives(predicted, confidence, truth)
    self._members = {name: np.flatnonzero(bucket == i) for i, name in enumerate(BUCKETS)}
    self._pools = {
      name: AveragePrecision(confidence[rows], is_true[rows]) for name, rows in self._members.items() if len(rows)
    }

  def __call__(self, weight: np.ndarray | None = None) -> dict[str, float]:
    """{'mAP', 'mAP_with_stationary', 'AP_straight', ...}; weight [N] as in AveragePrecision; NaN where empty."""
    scores = {
      name: self._pools[name](None if weight is None else weight[rows]) if len(rows) else float('nan')
      for name, rows in self._members.items()
    }
    return {
      'mAP': _mean(scores[name] for name in MOVING),
      'mAP_with_stationary': _mean(scores.values()),
      **{f'AP_{name}': value for name, value in scores.items()},
    }


def _mean(values) -> float:
  known = [v for v in values if not np.isnan(v)]
  return float(np.mean(known)) if known else float('nan')
