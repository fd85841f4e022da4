"""The benchmark harness reports ratios of interleaved calls (against a clock that the test moves)."""

import pytest

from experiments.bench import timing


@pytest.fixture
def clock(monkeypatch):
  class Clock:
    now = 0.0
    calls = ()

    def takes(self, name, seconds):
      def call():
        self.calls += (name,)
        self.now += seconds * (1 + len(self.calls))  # the machine slows down all the time

      return call

  clock = Clock()
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock.now)
  return clock


def test_the_ratio_is_baseline_time_over_our_time_in_the_same_round(clock):
  row = timing.interleaved(
    'x',
    clock.takes('ours', 1.0),
    clock.takes('base', 3.0),
    work=5,
    unit='u/s',
    baseline_name='b',
    rounds=50,
    warmup=1,
  )
  assert clock.calls == ('ours', 'base') * 51
  assert row.ratio == pytest.approx(3.0, rel=0.03)
  assert row.spread[0] <= row.ratio <= row.spread[1]


def test_different_amounts_of_work_are_compared_per_unit(clock):
  row = timing.interleaved(
    'x', clock.takes('ours', 2.0), clock.takes('base', 1.0), work=8, baseline_work=1, unit='u/s',
    baseline_name='b', rounds=50, warmup=1,
  )  # fmt: skip
  assert row.ratio == pytest.approx(4.0, rel=0.03)


def test_the_row_has_exactly_the_published_keys():
  row = timing.Row('a', 1.0, 'u', 'b', 2.0, (1.5, 2.5))
  assert set(row.to_dict()) == {'name', 'value', 'unit', 'baseline', 'ratio', 'spread'}
  assert '2.00x' in timing.table([row])
