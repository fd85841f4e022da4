"""The study of rivals plans what is missing, and pools and pairs episodes as a plain loop does."""

import json
import types

import numpy as np
import pytest

from experiments.rivals import compare, run

LAYOUTS = ('straight', 'courtyard')
BY_LAYOUT = {'success': 1.0, 'contacts': 0.5, 'any_contact': 1.0}
FIGURES = ('rc', 'contacts', 'contact_share', 'spl', 'speed')


def judged(folder, success, first=0):
  """episodes.jsonl of policies with these outcomes, {name: [0 or 1, ...]}; other figures follow from them."""
  folder.mkdir(parents=True)
  rows = [
    {'policy': name, 'episode': first + n, 'layout': LAYOUTS[n % 2], 'success': bool(won)}
    | dict.fromkeys(FIGURES, 0.5 * won)
    for name, outcomes in success.items()
    for n, won in enumerate(outcomes)
  ]
  (folder / 'episodes.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.fixture
def study(tmp_path):
  """One cell judged twice: bc, and two seeds of ram, the second later."""
  cell = tmp_path / compare.JUDGED / 'B_both'
  judged(cell / '00', {'bc': [0, 0, 1, 1, 0, 0], 'ram_s0': [1, 0, 1, 1, 1, 0]})
  judged(cell / '01', {'ram_s1': [1, 1, 1, 0, 1, 0]})
  return tmp_path


def test_seeds_are_pooled_and_differences_paired_by_episode(study):
  shown = compare.write(study, 'bc')
  results = json.loads((study / 'results.json').read_text())
  ram = results['cells']['B_both']['ram']
  assert ram['seeds'] == 2 and ram['success_by_seed'] == pytest.approx([4 / 6, 4 / 6], abs=1e-4)
  by_episode = (np.array([1, 0, 1, 1, 1, 0]) + np.array([1, 1, 1, 0, 1, 0])) / 2
  change = by_episode - np.array([0, 0, 1, 1, 0, 0])
  found = ram['less_reference']['success']
  assert found['value'] == pytest.approx(change.mean()) and found['n'] == 6
  # the paired interval, by resampling in a plain loop
  rng = np.random.default_rng(1)
  means = [rng.choice(change, 6).mean() for _ in range(4000)]
  np.testing.assert_allclose([found['low'], found['high']], np.percentile(means, [2.5, 97.5]), atol=0.1)
  assert ram['figures']['rc']['value'] == pytest.approx(0.5 * by_episode.mean())
  assert results['episodes'] == {'B_both': 6}
  # whoever arrives has half a contact here, and so an episode with one
  assert ram['figures']['any_contact']['value'] == pytest.approx(by_episode.mean())
  assert ram['less_reference']['any_contact']['value'] == pytest.approx(change.mean())
  assert ram['layouts'] == {
    name: {'episodes': 3}
    | {key: pytest.approx(share * by_episode[i::2].mean()) for key, share in BY_LAYOUT.items()}
    for i, name in enumerate(LAYOUTS)
  }
  assert '| B, both | ram | 2 |' in shown and (study / 'table.md').read_text() == shown
  assert (study / 'success.png').stat().st_size > 1000


def test_differences_to_another_variant_have_files_of_their_own(study):
  compare.write(study, 'bc')
  compare.write(study, 'ram', '_less_ram')
  found = [json.loads((study / f'results{suffix}.json').read_text()) for suffix in ('', '_less_ram')]
  ahead, behind = (
    found[0]['cells']['B_both']['ram']['less_reference']['success']['value'],
    found[1]['cells']['B_both']['bc']['less_reference']['success']['value'],
  )
  assert ahead == pytest.approx(-behind) and ahead > 0 and found[1]['reference'] == 'ram'
  assert 'SR less ram' in (study / 'table_less_ram.md').read_text()
  assert [path.name for path in study.glob('success*')] == ['success.png']  # it shows no differences


def test_comparing_is_a_command(study, monkeypatch, capsys):
  given = types.SimpleNamespace(FLAGS=types.SimpleNamespace(out=str(study), reference='ram'))
  monkeypatch.setattr(compare, 'flags', given)
  compare.main(['compare'])
  assert 'SR less ram' in capsys.readouterr().out and (study / 'success.png').is_file()
  with pytest.raises(compare.app.UsageError, match='unexpected arguments'):
    compare.main(['compare', 'bc'])


def test_policies_of_other_episodes_or_judged_twice_are_refused(study):
  cell = study / compare.JUDGED / 'B_both'
  judged(cell / '02', {'sft_s0': [1] * 6}, first=1)
  with pytest.raises(ValueError, match=r"\['sft_s0'\] drove other episodes"):
    compare.write(study, 'bc')
  judged(cell / '03', {'bc': [1] * 6})
  with pytest.raises(ValueError, match=r"\['bc'\] were judged before in this cell"):
    compare.write(study, 'bc')


def test_a_study_without_episodes_or_without_its_reference_says_so(study, tmp_path):
  with pytest.raises(ValueError, match='holds no episodes'):
    compare.write(tmp_path / 'nothing', 'bc')
  with pytest.raises(ValueError, match="'base' was not judged here"):
    compare.write(study, 'base')


def test_names_give_variant_and_seed():
  assert run.run_name('ppo_full', 3) == 'ppo_full_s3'
  names = ['ppo_full_s3', 'bc', 'straight_to_goal', 'stand_still', 'x_s1_s2']
  assert [compare.variant_of(name) for name in names] == [
    'ppo_full',
    'bc',
    'straight_to_goal',
    'stand_still',
    'x_s1',
  ]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'variants': ['ram', 'rom']}, r"variants=\['rom'\] are unknown"),
    ({'looks': ['D']}, r"looks=\['D'\] are unknown"),
    ({'tasks': ['hard']}, r"tasks=\['hard'\] are unknown"),
    ({'seeds': [0, 0]}, r'seeds=\[0, 0\] must name at least one, each once'),
    ({'variants': []}, r'variants=\[\] must name at least one'),
    ({'checkpoint': 'absent'}, 'is no folder'),
    ({'checkpoint': 'ram_s0'}, 'is named like a run of this study'),
    ({'reference': 'sft'}, r"reference='sft' must be one of the variants \['ram'\]"),
  ],
)
def test_a_study_that_cannot_be_is_refused_before_it_begins(tmp_path, changes, message):
  for name in ('bc', 'ram_s0'):
    (tmp_path / name).mkdir()
  given = {'variants': ['ram'], 'seeds': [0], 'looks': ['B'], 'tasks': ['both']} | changes
  given['checkpoint'] = tmp_path / given.get('checkpoint', 'bc')
  with pytest.raises(ValueError, match=message):
    run.check(**given)


def test_the_commands_fit_the_configs_they_name(study):
  from configs import closedloop, finetune

  train = run.train_command(study / 'bc', study, 'sft', 2, 500)
  config = finetune.get_config(train[1].split(':', 1)[1])
  assert (config.variant, config.train.steps, config.checkpoint) == ('sft', 500, str(study / 'bc'))
  assert train[2:] == ['--config.seed=2', f'--workdir={study / "sft_s2"}']
  cell = study / compare.JUDGED / 'B_both'
  (cell / '02').mkdir()
  (cell / '02' / 'results.json').write_text('{}')  # cut off before its episodes were written: done again
  judge = run.judge_command([study / 'sft_s2'], cell, 'C-near', 'empty', 40)
  config = closedloop.get_config(judge[1].split(':', 1)[1])
  assert (config.world.look, config.task, config.split, config.num_episodes) == ('C-near', 'empty', 'test', 40)
  assert '--config.baselines=()' in judge and judge[-1] == f'--out={cell / "02"}'
