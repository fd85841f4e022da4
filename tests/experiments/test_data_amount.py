"""The study of data amounts: nested shares, the same episodes for all, and both curves from what the runs left."""

import json

import numpy as np
import pytest

from configs import pretrain
from experiments.data_amount import run as study
from experiments.drawn import write_drawn
from experiments.rivals import compare


def trained(folder, errors):
  folder.mkdir(parents=True)
  rows = [{'step': 100 * i, 'val/ade_top': error, 'val/loss': 5 - error} for i, error in enumerate(errors)]
  rows.append({'step': 1, 'loss': 2.0})
  (folder / study.METRICS).write_text(''.join(json.dumps(row) + '\n' for row in rows))


def finetuned(folder, success, every=2):
  """A run of 8 environments for 4 steps per iteration, tried every second iteration."""
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps({'kind': 'finetune', 'num_envs': 8, 'ppo': {'horizon': 4}}))
  rows = [{'step': every * i, 'validation/success': value} for i, value in enumerate(success)]
  (folder / study.METRICS).write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return folder


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp('drawn') / 'data'
  write_drawn(path, 6, 8.0, 0, height=32, width=64)
  return path


@pytest.fixture
def out(tmp_path):
  trained(tmp_path / 'out' / 'share_0.25', [0.5, 0.4, 0.45])
  trained(tmp_path / 'out' / 'share_1', [0.5, 0.3])
  cell = tmp_path / 'out' / compare.JUDGED / 'B_empty' / '00'
  cell.mkdir(parents=True)
  outcomes = {'share_0.25': [0, 1, 0, 0], 'share_1': [1, 1, 0, 1], 'straight_to_goal': [1, 0, 0, 0]}
  rows = [
    {'policy': name, 'episode': n, 'success': bool(won), 'contacts': 2 * won + n}
    for name, own in outcomes.items()
    for n, won in enumerate(own)
  ]
  (cell / 'episodes.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return tmp_path / 'out'


def test_points_are_what_the_runs_and_judgements_left(out, data, tmp_path):
  runs = [finetuned(tmp_path / 'ram_s0', [0.5, 0.6, 0.8]), finetuned(tmp_path / 'ram_s1', [0.5, 0.7, 0.6])]
  results = study.results_of(out, data, [0.25, 1.0], runs)
  small, whole = results['points']
  assert (small['val_ade_m'], whole['val_ade_m']) == (0.4, 0.3)
  assert (small['val_loss'], whole['val_loss']) == (4.5, 4.5)  # before the error was least
  assert small['cells']['B_empty']['success']['value'] == 0.25
  assert whole['cells']['B_empty']['success']['value'] == 0.75
  assert whole['cells']['B_empty']['contacts']['value'] == pytest.approx(np.mean([2, 3, 2, 5]))
  assert results['straight_to_goal'] == {'B_empty': 0.25}
  summary = json.loads((data / 'conversion.json').read_text())
  assert whole['clips'] == summary['clips']['train'] and whole['frames'] == summary['frames']['train']
  assert whole['hours'] == pytest.approx(summary['hours']['train'])
  assert small['clips'] == max(1, round(0.25 * whole['clips'])) and small['hours'] < whole['hours']
  assert [trial['policy_steps'] for trial in results['budget']] == [0, 64, 128]
  assert results['budget'][1]['success_by_run'] == [0.6, 0.7]
  shown = study.table(results)
  assert f'| 0.25 | {small["clips"]} |' in shown and '| 128 | 0.800 | 0.600 | 0.700 |' in shown
  study.plot(results, tmp_path / 'amount.png')
  assert (tmp_path / 'amount.png').stat().st_size > 1000
  json.dumps(results, allow_nan=False)


def test_runs_that_were_tried_at_other_times_are_not_averaged(tmp_path):
  runs = [finetuned(tmp_path / 'a', [0.5, 0.6]), finetuned(tmp_path / 'b', [0.5, 0.6], every=3)]
  with pytest.raises(ValueError, match=r"\['a', 'b'\] were tried after .* must be the same"):
    study.budget_of(runs)
  assert study.budget_of([]) == []
  (runs[0] / 'config.json').write_text('{"kind": "pretrain"}')
  with pytest.raises(ValueError, match=r"is a run of kind 'pretrain': name folders of finetuning runs"):
    study.check([0.1], ['B'], ['empty'], runs[:1])


def test_an_earlier_study_joins_in_the_cells_of_both(out, data, tmp_path):
  runs = [finetuned(tmp_path / 'ram_s0', [0.5, 0.6])]
  earlier, path = study.results_of(out, data, [1.0], runs), tmp_path / 'results.json'
  earlier['points'][0]['cells']['A_both'] = earlier['points'][0]['cells']['B_empty']
  path.write_text(json.dumps(earlier))
  found = study.joined(
    study.results_of(out, data, [0.25], []), study.read_earlier(path, [0.25], ['B'], ['empty', 'obstacle'])
  )
  whole = study.results_of(out, data, [0.25, 1.0], runs)
  assert found == whole  # as if all had been driven at once
  path.write_text('{"rows": []}')
  for given, message in [
    ((tmp_path / 'none.json', [0.25], ['B'], ['empty']), 'also=.*none.json is not there'),
    ((path, [0.25], ['B'], ['empty']), 'also=.* has no points'),
  ]:
    with pytest.raises(ValueError, match=message):
      study.read_earlier(*given)
  path.write_text(json.dumps(earlier))
  with pytest.raises(ValueError, match=r'also=.* has the shares \[1.0\], too'):
    study.read_earlier(path, [0.25, 1.0], ['B'], ['empty'])
  with pytest.raises(ValueError, match=r"also=.* drove in \['B_empty', 'A_both'\]: name one of these"):
    study.read_earlier(path, [0.25], ['A'], ['empty'])


def test_a_cell_that_not_all_drove_in_is_left_out(out, data):
  (out / compare.JUDGED / 'A_both' / '00').mkdir(parents=True)
  row = {'policy': 'share_1', 'episode': 0, 'success': True, 'contacts': 0}
  (out / compare.JUDGED / 'A_both' / '00' / 'episodes.jsonl').write_text(json.dumps(row) + '\n')
  assert list(study.results_of(out, data, [0.25, 1.0], [])['points'][0]['cells']) == ['B_empty']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'shares': [0.5, 1.5]}, r'shares=\[1.5\] must lie in \(0, 1\]'),
    ({'shares': [0.5, 0.5]}, r'shares=\[0.5, 0.5\] must name at least one, each once'),
    ({'looks': ['D']}, r"looks=\['D'\] are unknown"),
    ({'tasks': []}, r'tasks=\[\] must name at least one'),
    ({'finetuned': ['nothing']}, r'finetuned=.*nothing.* hold no metrics.jsonl'),
  ],
)
def test_a_study_that_cannot_be_is_refused(tmp_path, changes, message):
  given = {'shares': [0.1, 1.0], 'looks': ['B'], 'tasks': ['empty'], 'finetuned': []} | changes
  given['finetuned'] = [tmp_path / name for name in given['finetuned']]
  with pytest.raises(ValueError, match=message):
    study.check(**given)


def test_the_command_fits_the_config_that_it_names(tmp_path):
  words = study.train_command(tmp_path / 'data', tmp_path, 0.03, 500)
  config = pretrain.get_config(words[1].split(':', 1)[1])
  assert (config.data.path, config.train.steps) == (str(tmp_path / 'data'), 500)
  assert words[2:] == ['--config.data.train_share=0.03', f'--workdir={tmp_path / "share_0.03"}']
