"""Interleaved timing of two callables, and the row that every benchmark prints and writes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
  """One benchmark's outcome.

  value: our figure in `unit`, from the median of our times. baseline: what it is compared with.
  ratio: median over rounds of baseline time / our time (> 1: ours is faster).
  spread: (smallest, largest) ratio of a single round.
  """

  name: str
  value: float
  unit: str
  baseline: str
  ratio: float
  spread: tuple[float, float]

  def to_dict(self) -> dict[str, Any]:
    """The row as written to JSON."""
    return dataclasses.asdict(self) | {'spread': list(self.spread)}


class Unavailable(RuntimeError):
  """A benchmark whose baseline is not installed here; says what is missing and how to get it."""


def _seconds(call: Callable[[], Any], clock: Callable[[], float]) -> float:
  """Time of one call by a clock, its JAX outputs included."""
  start = clock()
  jax.block_until_ready(call())
  return clock() - start


def interleaved(
  name: str,
  ours: Callable[[], Any],
  baseline: Callable[[], Any],
  *,
  work: float,
  unit: str,
  baseline_name: str,
  baseline_work: float | None = None,
  rounds: int = 9,
  warmup: int = 2,
  clock: Callable[[], float] | None = None,
) -> Row:
  """Row of `ours` against `baseline`, called in turn `rounds` times after `warmup` uncounted calls of each.

  work: units done by one call of ours (value = work / seconds, in `unit`); baseline_work: by one call of the
  baseline where it differs (times are then compared per unit of work). Machines drift, so the ratio is taken
  within each round before the median over rounds. clock: seconds, wall time if None; `time.process_time` adds up
  all cores, which is fair to a baseline that uses one only, and to both on a machine that does other work.
  """
  read = time.perf_counter if clock is None else clock
  for _ in range(warmup):
    jax.block_until_ready(ours())
    jax.block_until_ready(baseline())
  times = np.array([(_seconds(ours, read), _seconds(baseline, read)) for _ in range(rounds)])
  per_unit = times / np.array([work, work if baseline_work is None else baseline_work])
  ratios = per_unit[:, 1] / per_unit[:, 0]
  return Row(
    name=name,
    value=float(1 / np.median(per_unit[:, 0])),
    unit=unit,
    baseline=baseline_name,
    ratio=float(np.median(ratios)),
    spread=(float(ratios.min()), float(ratios.max())),
  )


def table(rows: list[Row]) -> str:
  """Aligned text table of rows."""
  head = ('name', 'value', 'unit', 'baseline', 'ratio', 'spread')
  body = [
    (r.name, f'{r.value:,.0f}', r.unit, r.baseline, f'{r.ratio:.2f}x', f'{r.spread[0]:.2f}..{r.spread[1]:.2f}')
    for r in rows
  ]
  widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
  return '\n'.join(
    '  '.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in [head, *body]
  )
