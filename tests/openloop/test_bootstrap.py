import numpy as np
import pytest

from s2e_jax.openloop import bootstrap


def clustered(seed, clips=12, per_clip=30, between=1.0, within=0.1):
  rng = np.random.default_rng(seed)
  clip = np.repeat(np.arange(clips), per_clip)
  return rng.normal(0, between, clips)[clip] + rng.normal(3, within, clips * per_clip), clip


def test_value_is_the_mean_over_windows():
  values, clip = np.array([1.0, 2.0, 3.0, 10.0]), np.array([4, 4, 4, 9])
  found = bootstrap.mean_interval(values, clip)
  assert found['value'] == 4.0 and found['n'] == 4
  assert found['low'] == 2.0 and found['high'] == 10.0  # resamples draw only clip 4, or only clip 9


def test_intervals_resample_clips_not_windows():
  values, clip = clustered(0)
  by_clip = bootstrap.mean_interval(values, clip)
  by_window = bootstrap.mean_interval(values, np.arange(len(values)))
  width = lambda i: i['high'] - i['low']
  assert width(by_clip) > 3 * width(by_window)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
  found = [bootstrap.mean_interval(*clustered(seed, clips=25), num_resamples=300) for seed in range(200)]
  covered = np.mean([i['low'] <= 3 <= i['high'] for i in found])
  assert 0.87 <= covered <= 0.99


def test_missing_values_do_not_count():
  values = np.array([1.0, np.nan, 3.0, 5.0])
  assert bootstrap.mean_interval(values, np.array([0, 0, 1, 2]))['value'] == 3.0
  assert bootstrap.mean_interval(values[1:2], np.array([0])) == {'value': None, 'low': None, 'high': None, 'n': 0}


def test_one_clip_has_no_interval():
  found = bootstrap.mean_interval(np.arange(5.0), np.zeros(5, int))
  assert found == {'value': 2.0, 'low': None, 'high': None, 'n': 5}


def test_gain_is_against_the_better_of_the_others():
  rng = np.random.default_rng(1)
  clip = np.repeat(np.arange(8), 5)
  base = rng.uniform(1, 3, 8)[clip]  # clips differ by far more than the methods do
  found = bootstrap.gain_interval(0.7 * base, [base, 1.1 * base], clip)
  assert found['value'] == pytest.approx(0.3)
  assert found['low'] == pytest.approx(0.3) and found['high'] == pytest.approx(0.3)  # paired: the clip cancels


def test_weighted_intervals_of_a_mean_equal_those_of_the_mean():
  values, clip = clustered(2)
  weighted = bootstrap.weighted_intervals(
    lambda w: {'mean': np.average(values, weights=w), 'never': float('nan')}, clip, num_resamples=2000
  )
  direct = bootstrap.mean_interval(values, clip)
  assert weighted['mean']['value'] == pytest.approx(direct['value'])
  assert weighted['mean']['low'] == pytest.approx(direct['low'], abs=0.1)
  assert weighted['mean']['high'] == pytest.approx(direct['high'], abs=0.1)
  assert weighted['never']['value'] is None


def test_the_same_seed_gives_the_same_interval():
  values, clip = clustered(3)
  assert bootstrap.mean_interval(values, clip, seed=5) == bootstrap.mean_interval(values, clip, seed=5)
