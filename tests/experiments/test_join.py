import copy
import json

import numpy as np
import pytest

from experiments.navbench.join import joined, table

EPISODES = 40


def result(outcomes):
  """What results.json holds of seeds' outcomes [S, 40] of one method, with its bootstrap interval."""
  per_episode = np.mean(outcomes, axis=0)
  rng = np.random.default_rng(0)
  means = per_episode[rng.integers(EPISODES, size=(4000, EPISODES))].mean(axis=1)
  interval = dict(value=float(per_episode.mean()), low=float(np.quantile(means, 0.025)))
  interval['high'] = float(np.quantile(means, 0.975))
  metrics = dict.fromkeys(('success', 'rc', 'contacts'), interval)
  return interval, metrics


def results(outcomes, names):
  _, metrics = result(outcomes)
  return {
    'benchmark': 'b', 'protocol': {'x': 1}, 'scenes': {'a': {'hash': 'h'}},
    'policies': {name: {} for name in names}, 'methods': {'m': list(names)},
    'tasks': {'empty': {'num_episodes': EPISODES, 'methods': {'m': {'metrics': metrics}}}},
  }  # fmt: skip


@pytest.mark.parametrize('likeness', [0.0, 0.7, 1.0])
def test_the_mean_is_exact_and_its_interval_holds_the_true_one(likeness):
  rng = np.random.default_rng(1)
  shared, own = rng.random((1, EPISODES)), rng.random((3, EPISODES))
  outcomes = (likeness * shared + (1 - likeness) * own < 0.45).astype(float)
  row = joined(results(outcomes[:2], ['m_s0', 'm_s1']), results(outcomes[2:], ['m_s2']))['empty']['m']
  exact, _ = result(outcomes)
  assert row['seeds'] == 3
  assert row['success']['value'] == pytest.approx(exact['value'])
  assert row['success']['low'] <= exact['low'] + 0.01 and row['success']['high'] >= exact['high'] - 0.01
  if likeness == 1.0:  # seeds that do the same in every episode: the bound is exact
    assert row['success']['low'] == pytest.approx(exact['low'], abs=0.02)


def test_methods_of_one_machine_stay_as_they_are():
  first, second = results(np.ones((2, EPISODES)), ['a_s0', 'a_s1']), results(np.zeros((1, EPISODES)), ['b'])
  second['methods'], cell = {'other': ['b']}, second['tasks']['empty']
  cell['methods'] = {'other': cell['methods']['m']}
  tasks = joined(first, second)
  assert tasks['empty']['m']['success']['value'] == 1 and tasks['empty']['other']['success']['value'] == 0
  assert table(tasks).splitlines()[2].startswith('| m | 2 | 1.00 [1.00, 1.00] / 1.00 / 1.00 |')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda r: r['scenes']['a'].update(hash='other'), 'scenes of the two results differs'),
    (lambda r: r['protocol'].update(x=2), 'protocol of the two results differs'),
    (lambda r: r['tasks']['empty'].update(num_episodes=9), 'episodes per task differ'),
    (lambda r: r['policies'].update(m_s0={}), r"policies=\['m_s0'\] are in both"),
  ],
)
def test_what_is_not_of_the_same_episodes_is_refused(change, message):
  first = results(np.ones((1, EPISODES)), ['m_s0'])
  second = copy.deepcopy(results(np.ones((1, EPISODES)), ['m_s1']))
  change(second)
  with pytest.raises(ValueError, match=message):
    joined(first, second)


def test_the_table_in_the_project_joins_with_what_was_judged_later(repo):
  folder = repo / 'experiments' / 'navbench'
  first, second = (json.loads((folder / f'results_{name}.json').read_text()) for name in ('policies', 'third'))
  tasks = joined(first, second)
  assert {row['seeds'] for row in tasks['both'].values()} <= {1, 2, 3}
  assert tasks['both']['everything by PPO']['seeds'] == 3
