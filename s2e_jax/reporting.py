"""What reports of every kind share: bootstrap intervals, tables of them, and files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LEVEL = 0.95
Interval = dict[str, Any]  # {'value', 'low', 'high', 'n'}; None where undefined, as JSON has no NaN


def interval(value: Any, low: Any, high: Any, count: int) -> Interval:
  """JSON-able interval of a figure over `count` things; what is not finite becomes None."""
  plain = lambda x: float(x) if np.isfinite(x) else None
  return {'value': plain(value), 'low': plain(low), 'high': plain(high), 'n': int(count)}


def percentile_bootstrap(
  columns: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray], num_resamples: int, seed: int
) -> tuple[float, float]:
  """(low, high) of statistic(*columns) by resampling the rows of columns [N] together, 95 %, percentile method.

  statistic: takes columns [..., N] and reduces their last axis.
  """
  from scipy import stats  # takes long to import, and training writes files without it

  result = stats.bootstrap(
    columns,
    lambda *samples, axis=-1: statistic(*samples),
    paired=True,
    vectorized=True,
    n_resamples=num_resamples,
    confidence_level=LEVEL,
    method='percentile',
    rng=np.random.default_rng(seed),
  )
  return result.confidence_interval


def interval_cell(given: Interval | None, form: str) -> str:
  """'value [low, high]' in a format like '.3f', without the bounds where they are None; '-' for no value."""
  if given is None or given['value'] is None:
    return '-'
  text = format(given['value'], form)
  if given['low'] is not None:
    text += f' [{given["low"]:{form}}, {given["high"]:{form}}]'
  return text


def interval_table(
  corner: str, columns: Mapping[str, tuple[str, str]], rows: Mapping[str, Mapping[str, Interval]]
) -> list[str]:
  """Lines of a Markdown table; columns: title -> (figure, format), rows: name -> figure -> interval."""
  lines = [f'| {corner} | ' + ' | '.join(columns) + ' |', '|---|' + '---:|' * len(columns)]
  for name, figures in rows.items():
    cells = [interval_cell(figures.get(figure), form) for figure, form in columns.values()]
    lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  return lines


def write_whole(path: Path, content: str | bytes) -> Path:
  """Writes a file whole or not at all; returns its path."""
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_bytes(content.encode() if isinstance(content, str) else content)
  os.replace(temporary, path)
  return path
