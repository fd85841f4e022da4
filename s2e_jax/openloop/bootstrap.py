"""Confidence intervals by resampling clips, not windows: windows of one clip are far from independent."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from s2e_jax.reporting import LEVEL, Interval, interval, percentile_bootstrap


def mean_interval(values: np.ndarray, clip: np.ndarray, num_resamples: int = 2000, seed: int = 0) -> Interval:
  """Mean of values [N] over windows with its interval; clip: [N] int, the clip of each window. NaNs do not count.

  low and high are None when the values come from a single clip: one clip says nothing about the next.
  """
  sums, counts = _per_clip([values], clip)
  return _interval(lambda s, n: _ratio(s.sum(-1), n.sum(-1)), (sums[0], counts), num_resamples, seed)


def gain_interval(
  ours: np.ndarray, others: Sequence[np.ndarray], clip: np.ndarray, num_resamples: int = 2000, seed: int = 0
) -> Interval:
  """1 - mean(ours) / min over others of mean(other): the share by which an error [N] is below the best of others.

  Paired: every resample of clips judges all of them on the same windows.
  """
  sums, counts = _per_clip([ours, *others], clip)

  def gain(mine: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    best = np.min([other.sum(-1) for other in rest[:-1]], axis=0)
    return 1 - _ratio(mine.sum(-1), best)

  return _interval(gain, (*sums, counts), num_resamples, seed)


def weighted_intervals(
  statistic: Callable[[np.ndarray], dict[str, float]], clip: np.ndarray, num_resamples: int = 500, seed: int = 0
) -> dict[str, Interval]:
  """Intervals of statistics that are not means: `statistic(weight [N])` is asked with resampled window weights.

  A window weighs as often as its clip was drawn.
  """
  clips, index = np.unique(clip, return_inverse=True)
  names = list(statistic(np.ones(len(clip))))

  def resampled(draws: np.ndarray) -> np.ndarray:
    weight = np.bincount(draws.astype(int), minlength=len(clips))[index]
    found = statistic(weight.astype(float))
    return np.array([found[name] for name in names])

  value = resampled(np.arange(len(clips)))
  low = high = np.full(len(names), np.nan)
  if len(clips) > 1:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', stats.DegenerateDataWarning)  # a bucket may be empty: its value is missing
      result = stats.bootstrap(
        (np.arange(len(clips)),),
        resampled,
        vectorized=False,
        n_resamples=num_resamples,
        confidence_level=LEVEL,
        method='percentile',
        rng=np.random.default_rng(seed),
      )
    # buckets that a resample misses have no value there
    draws = np.ma.masked_invalid(result.bootstrap_distribution)
    tails = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    known = [row.compressed() for row in draws]
    low, high = np.array([np.percentile(row, tails) if len(row) else [np.nan] * 2 for row in known]).T
  return {name: interval(value[i], low[i], high[i], len(clip)) for i, name in enumerate(names)}


def _per_clip(columns: Sequence[np.ndarray], clip: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
  """Sums per clip of each column over windows where all columns are finite, and the number of these windows."""
  columns = [np.asarray(c, float) for c in columns]
  is_known = np.all([np.isfinite(c) for c in columns], axis=0)
  _, index = np.unique(np.asarray(clip)[is_known], return_inverse=True)
  return [np.bincount(index, c[is_known]) for c in columns], np.bincount(index).astype(float)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return a / np.where(b == 0, np.nan, b)


def _interval(
  statistic: Callable[..., np.ndarray], columns: tuple[np.ndarray, ...], num_resamples: int, seed: int
) -> Interval:
  """Percentile interval; the last of columns [clips] counts windows."""
  count = int(columns[-1].sum())
  if not count:
    return interval(np.nan, np.nan, np.nan, 0)
  low = high = float('nan')
  if len(columns[0]) > 1:
    low, high = percentile_bootstrap(columns, statistic, num_resamples, seed)
  return interval(statistic(*columns), low, high, count)
