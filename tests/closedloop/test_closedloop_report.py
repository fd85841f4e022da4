"""Intervals and comparisons against scipy, the page against its figures, keys of splits, and bad input."""

import json

import jax
import numpy as np
import pytest
from scipy import stats

from s2e_jax.closedloop import intervals, report, splits
from s2e_jax.closedloop.metrics import CLASSES
from s2e_jax.closedloop.pictures import telling_rows
from s2e_jax.sim.episode import episode_key

RNG = np.random.default_rng(0)


def test_the_interval_of_a_mean_is_scipys():
  values = RNG.gamma(2.0, size=50)
  found = intervals.mean_interval(np.append(values, np.nan), 500, seed=3)
  low, high = stats.bootstrap(
    (values,), np.mean, n_resamples=500, method='percentile', rng=np.random.default_rng(3)
  ).confidence_interval
  assert found == {
    'value': pytest.approx(values.mean()),
    'low': pytest.approx(low),
    'high': pytest.approx(high),
    'n': 50,
  }
  assert found['low'] < found['value'] < found['high']


def test_where_all_are_alike_an_interval_is_wilsons_or_none():
  share = intervals.mean_interval(np.zeros(20), is_share=True)
  assert share['low'] == 0 and share['high'] == pytest.approx(3.841 / (20 + 3.841), rel=1e-3)  # z^2 / (n + z^2)
  assert intervals.mean_interval(np.ones(20), is_share=True)['low'] == pytest.approx(1 - share['high'])
  assert intervals.mean_interval(np.zeros(20)) == {'value': 0.0, 'low': None, 'high': None, 'n': 20}
  assert intervals.mean_interval(np.full(5, np.nan)) == {'value': None, 'low': None, 'high': None, 'n': 0}


def test_a_ratio_is_of_sums():
  found = intervals.ratio_interval(np.array([0.0, 3.0, 1.0]), np.array([10.0, 20.0, 10.0]), 100.0, 200)
  assert found['value'] == pytest.approx(10.0) and 0 <= found['low'] < 10 < found['high'] <= 15
  assert intervals.ratio_interval(np.zeros(3), np.zeros(3))['value'] is None


def test_contacts_per_distance_say_nothing_of_a_robot_that_stands():
  pushed = {'contacts': np.array([1.0, 0.0, 2.0]), 'metres': np.array([0.1, 0.0, 0.2])}
  assert intervals.contacts_per_100m(pushed, 100)['value'] is None
  driven = {'contacts': pushed['contacts'], 'metres': np.array([10.0, 20.0, 30.0])}
  assert intervals.contacts_per_100m(driven, 100)['value'] == pytest.approx(5.0)


def test_a_paired_difference_is_scipys_and_narrower_than_an_unpaired_one():
  hard = RNG.random(200) * 10  # how hard an episode is for everybody
  a, b = hard + RNG.normal(size=200), hard + 0.5 + RNG.normal(size=200)
  found = intervals.paired_difference(a, b, 1000)
  low, high = stats.bootstrap(
    (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), paired=True, n_resamples=1000, method='percentile',
    rng=np.random.default_rng(0),
  ).confidence_interval  # fmt: skip
  assert (found['low'], found['high']) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
  alone = intervals.mean_interval(a, 1000)
  assert found['high'] - found['low'] < 0.5 * (alone['high'] - alone['low'])
  assert found['high'] < 0
  with pytest.raises(ValueError, match='same episodes'):
    intervals.paired_difference(a, b[:-1])


def test_mcnemar_is_the_exact_binomial():
  ours = np.array([1] * 9 + [0] * 2 + [1] * 30 + [0] * 20)
  others = np.array([0] * 9 + [1] * 2 + [1] * 30 + [0] * 20)
  found = intervals.mcnemar(ours, others)
  # two-sided: 2 * sum_{k <= 2} C(11, k) / 2^11 = 2 * 67 / 2048
  assert found == {'only_ours': 9, 'only_others': 2, 'p': pytest.approx(134 / 2048)}
  table = [[30, 9], [2, 20]]
  assert found['p'] == pytest.approx(stats.binomtest(table[0][1], table[0][1] + table[1][0]).pvalue)
  assert intervals.mcnemar(ours, ours)['p'] == 1.0


def figures(success, contacts):
  num = len(success)
  base = {name: RNG.random(num) for name in ('rc', 'rc_way', 'spl', 'speed', 'contact_share', 'metres', 'seconds')}
  zeros = np.zeros(num)
  return base | {
    'success': np.array(success, float), 'contacts': np.array(contacts, float), 'contacts_by_robot': zeros,
    'contacts_with_people': zeros, 'hit_by_people': zeros, 'nan_commands': zeros,
    'time_to_goal': np.where(np.array(success) > 0, 20.0, np.nan), 'person_gap': np.full(num, np.nan),
    'failure': np.where(np.array(success) > 0, 0, 1).astype(float),
  }  # fmt: skip


def test_the_page_tells_the_figures(tmp_path):
  both = {'full': figures([1, 1, 1, 0], [0, 0, 1, 2]), 'bc': figures([1, 0, 0, 0], [3, 1, 1, 2])}
  both['bc']['nan_commands'] = np.array([0, 0, 5, 0.0])
  results = report.summarise(both, 100)
  assert results['num_episodes'] == 4
  assert results['policies']['full']['metrics']['success']['value'] == 0.75
  assert results['policies']['bc']['failures'] == dict(zip(CLASSES, [1, 3, 0, 0, 0, 0], strict=True))
  (pair,) = results['pairs']
  assert (pair['first'], pair['second']) == ('full', 'bc')
  assert pair['difference']['success']['value'] == 0.5 and pair['difference']['contacts']['value'] == -1.0
  assert pair['mcnemar'] == {'only_ours': 2, 'only_others': 0, 'p': 0.5}
  layouts = ['straight', 'curve', 'corner', 'curve']
  rows = list(report.episode_rows(both, layouts, first=10))
  assert rows[5]['policy'] == 'bc' and rows[5]['episode'] == 11 and rows[5]['layout'] == 'curve'
  assert (
    rows[5]['failure'] == 'collision_stuck' and rows[5]['success'] is False and rows[5]['time_to_goal'] is None
  )
  metrics = {name: policy['metrics']['any_contact'] for name, policy in results['policies'].items()}
  assert metrics['full']['value'] == 0.5
  assert metrics['bc']['value'] == 1.0
  assert metrics['bc']['low'] == pytest.approx(4 / (4 + 3.841), rel=1e-3)  # Wilson's n / (n + z^2)
  assert pair['difference']['any_contact']['value'] == -0.5
  results['layouts'] = report.by_layout({name: report.with_any_contact(f) for name, f in both.items()}, layouts)
  assert list(results['layouts']) == ['curve', 'corner', 'straight']
  assert results['layouts']['curve'] == {
    'num_episodes': 2,
    'policies': {
      'full': {'success': 0.5, 'contacts': 1.0, 'any_contact': 0.5},
      'bc': {'success': 0.0, 'contacts': 1.5, 'any_contact': 1.0},
    },
  }
  results['checkpoints'] = {'bc': {'path': 'runs/bc', 'model': 's2e_tiny', 'step': 7}}
  paths = report.write_report(results, rows, tmp_path)
  assert {p.name for p in paths} == {'results.json', 'episodes.jsonl', 'table.md'}
  assert json.loads((tmp_path / 'results.json').read_text()) == results
  text = (tmp_path / 'table.md').read_text()
  assert '- bc: `runs/bc` (s2e_tiny, step 7)' in text
  assert '| full | 0.750 [' in text and '| bc | 1 | 3 | 0 | 0 | 0 | 0 |' in text and '| 2 / 0 | 0.5 |' in text
  assert '| curve | 2 | 0.50 / 1.00 | 0.00 / 1.50 |' in text
  assert 'bc gave 5 commands that are not numbers' in text


def test_policies_judged_on_other_episodes_are_not_compared():
  with pytest.raises(ValueError, match='same ones for all'):
    report.summarise({'a': figures([1, 0], [0, 0]), 'b': figures([1], [0])})


def test_splits_share_no_episode_and_are_the_same_for_any_number():
  seen = set()
  for split in splits.SPLITS:
    keys = np.asarray(jax.vmap(episode_key)(splits.episode_keys(split, 4000)))
    seen |= {tuple(key) for key in keys.tolist()}
    some = np.asarray(jax.vmap(episode_key)(splits.episode_keys(split, 5, first=7)))
    np.testing.assert_array_equal(some, keys[7:12])
  assert len(seen) == 3 * 4000


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('dev', 3), r"split='dev' must be one of \('train', 'validation', 'test'\)"),
    (('test', 0), 'episodes=0 must be at least 1'),
    (('test', 3, -1), 'first=-1 must not be negative'),
  ],
)
def test_unknown_splits_and_empty_ones_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    splits.episode_keys(*arguments)


def test_episodes_that_show_what_the_table_says_come_first():
  alike = {'success': np.array([1, 0, 0, 1, 0]), 'rc': np.array([1.0, 0.1, 0.9, 1.0, 0.5])}
  better = {'success': np.array([0, 1, 1, 1, 0]), 'rc': np.array([0.0, 1.0, 1.0, 1.0, 0.1])}
  # 1 and 2 are what the better one gained, 1 from farther behind; 0 it lost; in 4 neither arrived; 3 is the same
  assert telling_rows({'a': alike, 'b': better}, 5) == [1, 2, 0, 4, 3]
  assert telling_rows({'a': better, 'b': alike}, 3) == [1, 2, 0]
  assert telling_rows({'a': alike, 'b': better, 'c': alike}, 1) == [0]
