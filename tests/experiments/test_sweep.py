"""Sweeps are checked before anything runs, and tabulated best first."""

import json

import pytest

from configs import pretrain
from experiments.launch import sweep


def test_the_shipped_sweeps_fit_the_pretraining_config(repo):
  files = [p for p in (repo / 'configs' / 'sweeps').glob('*.py') if p.name != '__init__.py']
  assert len(files) >= 2
  for path in files:
    settings = sweep.load_settings(path)
    sweep.check_settings(pretrain.get_config(), settings)
    assert len({json.dumps(s, sort_keys=True) for s in settings}) == len(settings) > 1


@pytest.mark.parametrize('leaves', [{'optim.learning_rat': 1.0}, {'optim.learning_rate': 'fast'}, {'nothing': 1}])
def test_a_setting_that_does_not_fit_is_named(leaves):
  with pytest.raises(ValueError, match='setting 1'):
    sweep.check_settings(pretrain.get_config(), [{'seed': 3}, leaves])


def test_an_empty_sweep_is_refused(tmp_path):
  (tmp_path / 'none.py').write_text('def sweep(add):\n  pass\n')
  with pytest.raises(ValueError, match='added nothing'):
    sweep.load_settings(tmp_path / 'none.py')


def test_the_best_run_comes_first_and_unfinished_ones_last(tmp_path):
  for name, values in {'000': [0.5, 0.3], '001': [0.2, 0.4], '002': []}.items():
    (tmp_path / name).mkdir()
    lines = [json.dumps({'step': i, 'train/loss': 0.0} | {sweep.FIGURE: v}) for i, v in enumerate(values)]
    (tmp_path / name / 'metrics.jsonl').write_text(''.join(line + '\n' for line in lines))
  rows = [
    {'run': n, 'setting': {'seed': int(n)}, 'best': sweep.best_figure(tmp_path / n)} for n in ('000', '001', '002')
  ]
  assert [row['best'] for row in rows] == [0.3, 0.2, None]
  lines = sweep.table(rows).splitlines()[2:]
  assert [line.split('|')[1].strip() for line in lines] == ['001', '000', '002']
