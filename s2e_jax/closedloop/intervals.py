"""Intervals of figures over episodes, and paired comparisons of two policies on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from s2e_jax.reporting import LEVEL, Interval, interval, percentile_bootstrap


def mean_interval(
  values: np.ndarray, num_resamples: int = 2000, seed: int = 0, is_share: bool = False
) -> Interval:
  """Mean of values [B] with its percentile bootstrap interval over episodes; NaNs do not count.

  Where all values are alike a bootstrap knows nothing of what was not drawn: low and high are None, or Wilson's
  interval where the values are zeros and ones (`is_share`).
  """
  values = np.asarray(values, float)
  values = values[np.isfinite(values)]
  if not len(values):
    return interval(np.nan, np.nan, np.nan, 0)
  if (values == values[0]).all():
    low = high = np.nan
    if is_share:
      low, high = stats.binomtest(int(values.sum()), len(values)).proportion_ci(LEVEL, method='wilson')
    return interval(values[0], low, high, len(values))
  return _bootstrap((values,), lambda v: v.mean(axis=-1), num_resamples, seed)


def ratio_interval(
  above: np.ndarray,
  below: np.ndarray,
  scale: float = 1.0,
  num_resamples: int = 2000,
  seed: int = 0,
  least: float = 0.0,
) -> Interval:
  """scale * sum(above) / sum(below) of columns [B] with its percentile bootstrap interval over episodes.

  Undefined where the mean of `below` is at most `least`; low and high are None where `above` is zero throughout.
  """
  above, below = np.asarray(above, float), np.asarray(below, float)
  if not below.sum() > least * len(below):
    return interval(np.nan, np.nan, np.nan, len(above))
  if not above.any() or len(above) < 2:
    return interval(scale * above.sum() / below.sum(), np.nan, np.nan, len(above))
  ratio = lambda a, b: scale * a.sum(axis=-1) / np.maximum(b.sum(axis=-1), 1e-9)
  return _bootstrap((above, below), ratio, num_resamples, seed)


def contacts_per_100m(figures: Mapping[str, np.ndarray], num_resamples: int = 2000) -> Interval:
  """Contacts per 100 m driven, of the episodes' `contacts` [B] and `metres` [B].

  Undefined below half a metre per episode: of a robot that stands, and is touched, it says nothing.
  """
  return ratio_interval(figures['contacts'], figures['metres'], 100.0, num_resamples, least=0.5)


def paired_difference(ours: np.ndarray, others: np.ndarray, num_resamples: int = 2000, seed: int = 0) -> Interval:
  """mean(ours - others) over the same episodes [B], with a paired percentile bootstrap interval.

  Episodes in which either is NaN do not count; low and high are None where all differences are alike. Raises
  ValueError when the columns are not of the same episodes' length.
  """
  ours, others = np.asarray(ours, float), np.asarray(others, float)
  if ours.shape != others.shape:
    raise ValueError(f'{ours.shape} and {others.shape} figures cannot be paired: judge both on the same episodes')
  change = ours - others
  change = change[np.isfinite(change)]
  if not len(change) or (change == change[0]).all():
    return interval(change[0] if len(change) else np.nan, np.nan, np.nan, len(change))
  return _bootstrap((change,), lambda d: d.mean(axis=-1), num_resamples, seed)


def mcnemar(ours: np.ndarray, others: np.ndarray) -> dict[str, Any]:
  """Exact McNemar test of two columns of success [B] on the same episodes.

  {'only_ours', 'only_others': episodes that one alone did, 'p': two-sided, of the binomial with share 1/2}; p is 1
  where the two never differ.
  """
  ours, others = np.asarray(ours) > 0, np.asarray(others) > 0
  only_ours, only_others = int((ours & ~others).sum()), int((others & ~ours).sum())
  differ = only_ours + only_others
  p = float(stats.binomtest(only_ours, differ, 0.5).pvalue) if differ else 1.0
  return {'only_ours': only_ours, 'only_others': only_others, 'p': p}


def _bootstrap(columns: tuple[np.ndarray, ...], statistic: Any, num_resamples: int, seed: int) -> Interval:
  low, high = percentile_bootstrap(columns, statistic, num_resamples, seed)
  return interval(statistic(*columns), low, high, len(columns[0]))
