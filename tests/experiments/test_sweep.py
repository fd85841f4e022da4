"""Sweeps are checked before anything runs, and tabulated best first."""

import json

import pytest

from configs import finetune, pretrain
from experiments.launch import sweep

CONFIGS = {'pretrain': pretrain, 'finetune': finetune}
SHIPPED = {
  'assignment': 'pretrain',
  'data_amount': 'pretrain',
  'learning_rate': 'pretrain',
  'collisions': 'finetune',
  'entropy': 'finetune',
  'rewards': 'finetune',
}


def test_the_shipped_sweeps_fit_their_configs(repo):
  files = {p.stem: p for p in (repo / 'configs' / 'sweeps').glob('*.py') if p.name != '__init__.py'}
  assert files.keys() == SHIPPED.keys()
  for name, path in files.items():
    settings = sweep.load_settings(path)
    sweep.check_settings(CONFIGS[SHIPPED[name]].get_config(), settings)
    assert len({json.dumps(s, sort_keys=True) for s in settings}) == len(settings) > 1
    assert f'--config=configs/{SHIPPED[name]}.py' in path.read_text()


def test_the_ablation_of_rewards_leaves_every_term_out_once(repo):
  first, *others = sweep.load_settings(repo / 'configs' / 'sweeps' / 'rewards.py')
  terms = finetune.get_config().env.rewards
  assert first == {'seed': 0}  # all terms, to compare with
  assert [set(setting) for setting in others] == [
    {f'env.rewards.{name}'} for name, weight in terms.items() if weight
  ]
  assert all(value == 0.0 for setting in others for value in setting.values())


@pytest.mark.parametrize('leaves', [{'optim.learning_rat': 1.0}, {'optim.learning_rate': 'fast'}, {'nothing': 1}])
def test_a_setting_that_does_not_fit_is_named(leaves):
  with pytest.raises(ValueError, match='setting 1'):
    sweep.check_settings(pretrain.get_config(), [{'seed': 3}, leaves])


def test_an_empty_sweep_is_refused(tmp_path):
  (tmp_path / 'none.py').write_text('def sweep(add):\n  pass\n')
  with pytest.raises(ValueError, match='added nothing'):
    sweep.load_settings(tmp_path / 'none.py')


@pytest.mark.parametrize(
  ('kind', 'best', 'order'),
  [('pretrain', [0.3, 0.2, None], ['001', '000', '002']), ('finetune', [0.5, 0.6, None], ['001', '000', '002'])],
)
def test_the_best_run_comes_first_and_unfinished_ones_last(tmp_path, kind, best, order):
  figure = sweep.FIGURES[kind][0]
  for name, values in {'000': [0.5, 0.3], '001': [0.2, 0.6], '002': []}.items():
    (tmp_path / name).mkdir()
    lines = [json.dumps({'step': i, 'train/loss': 0.0} | {figure: v}) for i, v in enumerate(values)]
    (tmp_path / name / 'metrics.jsonl').write_text(''.join(line + '\n' for line in lines))
  rows = [
    {'run': n, 'setting': {'seed': int(n)}, 'best': sweep.best_figure(tmp_path / n, kind)}
    for n in ('000', '001', '002')
  ]
  assert [row['best'] for row in rows] == best
  lines = sweep.table(rows, kind).splitlines()[2:]
  assert [line.split('|')[1].strip() for line in lines] == order
