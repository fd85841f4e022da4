"""Pairs of policies over several judgements: what is read, pooled and refused."""

import json

import numpy as np
import pytest

from experiments.rivals import pairs

WON = {'ram_s0': [1, 0, 1, 1, 0, 1], 'ram_s1': [1, 1, 1, 0, 0, 1], 'sft_s0': [0, 0, 1, 0, 1, 1]}


def judged(folder, won, settings=None, scene=None, first=0):
  """A judgement's two files; contacts follow from who arrived."""
  folder.mkdir(parents=True)
  place = {} if scene is None else {'scene': scene, 'task': 'empty'}
  rows = [
    place
    | {'policy': name, 'episode': first + n, 'success': bool(x), 'contacts': 2.0 * (1 - x), 'contact_share': 0.5}
    | {'rc': float(x), 'spl': None, 'speed': 1.0}
    for name, outcomes in won.items()
    for n, x in enumerate(outcomes)
  ]
  (folder / 'episodes.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  (folder / 'results.json').write_text(json.dumps({'settings': settings or {}}))


@pytest.fixture
def folder(tmp_path):
  """One cell of simulated worlds in two judgements, and two splat scenes in another."""
  here = {'look': 'B', 'task': 'both'}
  judged(tmp_path / 'judged' / '00', {name: WON[name] for name in ('ram_s0', 'sft_s0')}, here)
  judged(tmp_path / 'judged' / '01', {'ram_s1': WON['ram_s1']}, here)
  for scene in ('alley', 'hall'):
    judged(tmp_path / scene, {name: WON[name] for name in ('ram_s0', 'sft_s0')}, scene=scene)
  return tmp_path


def test_differences_are_those_of_a_plain_loop(folder):
  found = pairs.differences(pairs.read([folder], ['ram', 'sft']), 'ram', ['sft'])
  assert list(found) == ['B_both', 'empty']
  plain = [(WON['ram_s0'][n] + WON['ram_s1'][n]) / 2 - WON['sft_s0'][n] for n in range(6)]
  success = found['B_both']['sft']['success']
  assert success['value'] == pytest.approx(np.mean(plain)) and success['n'] == 6
  rng = np.random.default_rng(5)
  means = [rng.choice(plain, 6).mean() for _ in range(4000)]
  np.testing.assert_allclose([success['low'], success['high']], np.percentile(means, [2.5, 97.5]), atol=0.1)
  assert found['B_both']['sft']['contacts']['value'] == pytest.approx(-2 * np.mean(plain))
  assert found['B_both']['sft']['any_contact']['value'] == pytest.approx(-np.mean(plain))
  assert found['B_both']['sft']['contact_share']['value'] == 0
  # episodes of both scenes, the same in each
  once = [WON['ram_s0'][n] - WON['sft_s0'][n] for n in range(6)]
  assert found['empty']['sft']['success']['value'] == pytest.approx(np.mean(once))
  assert found['empty']['sft']['success']['n'] == 12
  assert '| B, both | sft | +0.167 [' in pairs.table(found, 'ram')


def test_a_policy_judged_twice_alike_counts_once(folder):
  judged(folder / 'again', {'sft_s0': WON['sft_s0']}, {'look': 'B', 'task': 'both'})
  found = pairs.differences(pairs.read([folder], ['ram', 'sft']), 'ram', ['sft'])
  assert found['B_both']['sft']['success']['n'] == 6


def test_the_same_episode_driven_differently_is_refused(folder):
  judged(folder / 'again', {'sft_s0': [1, 0, 1, 0, 1, 1]}, {'look': 'B', 'task': 'both'})
  with pytest.raises(ValueError, match=r"sft_s0 drove episode \('', 0\) differently elsewhere; leave one out"):
    pairs.read([folder], ['ram', 'sft'])


@pytest.mark.parametrize(
  ('name', 'message'),
  [('dagger_s0', "'ram' and 'dagger' drove different episodes"), ('ram_s2', "seeds of 'ram' drove different")],
)
def test_other_episodes_are_refused(folder, name, message):
  judged(folder / 'more', {name: WON['ram_s0']}, {'look': 'B', 'task': 'both'}, first=6)
  other = 'dagger' if name == 'dagger_s0' else 'sft'
  with pytest.raises(ValueError, match=message):
    pairs.differences(pairs.read([folder], ['ram', other]), 'ram', [other])


def test_what_is_not_there_is_named(folder, tmp_path):
  with pytest.raises(ValueError, match=r"\['dagger'\] drove nowhere below"):
    pairs.read([folder], ['ram', 'dagger'])
  (tmp_path / 'bare').mkdir()
  with pytest.raises(ValueError, match=r'holds no episodes\.jsonl: give folders that a judgement has written'):
    pairs.read([tmp_path / 'bare'], ['ram'])
  (folder / 'alley' / 'results.json').unlink()
  with pytest.raises(ValueError, match=r'alley/results\.json., which names the cell, is missing'):
    pairs.read([folder / 'alley'], ['ram'])
  (folder / 'alley' / 'episodes.jsonl').unlink()
  judged(folder / 'far', {'solo_s0': WON['ram_s0']}, {'look': 'C-far', 'task': 'both'})
  with pytest.raises(ValueError, match=r"'ram' and \['solo'\] share no cell"):
    pairs.differences(pairs.read([folder], ['ram', 'solo']), 'ram', ['solo'])


def test_a_policy_is_not_compared_with_itself(folder):
  with pytest.raises(ValueError, match=r"--others=\['sft', 'ram'\] names 'ram', which is --ours"):
    pairs.differences(pairs.read([folder], ['ram', 'sft']), 'ram', ['sft', 'ram'])
