"""The benchmark harness reports ratios of interleaved calls."""

import time

import pytest

from experiments.bench import timing


def test_the_ratio_is_baseline_time_over_our_time():
  order = []

  def ours():
    order.append('ours')
    time.sleep(0.01)

  def baseline():
    order.append('baseline')
    time.sleep(0.03)

  row = timing.interleaved('x', ours, baseline, work=5, unit='things/s', baseline_name='slow', rounds=5, warmup=1)
  assert order == ['ours', 'baseline'] * 6
  assert 2.0 < row.ratio < 4.0
  assert row.spread[0] <= row.ratio <= row.spread[1]
  assert 200 < row.value < 510


def test_different_amounts_of_work_are_compared_per_unit():
  row = timing.interleaved(
    'x', lambda: time.sleep(0.02), lambda: time.sleep(0.01), work=8, baseline_work=1, unit='u/s', baseline_name='b',
    rounds=3, warmup=1,
  )  # fmt: skip
  assert row.ratio == pytest.approx(4.0, rel=0.4)


def test_the_row_has_exactly_the_published_keys():
  row = timing.Row('a', 1.0, 'u', 'b', 2.0, (1.5, 2.5))
  assert set(row.to_dict()) == {'name', 'value', 'unit', 'baseline', 'ratio', 'spread'}
  assert '2.00x' in timing.table([row])
