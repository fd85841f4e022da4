import json

import pytest

from s2e_jax.openloop import pool


def result(**clips):
  methods = ('policy', 'policy_goal_free', 'constant_velocity', 'straight_to_goal', 'stand_still')
  return {
    'per_clip': {
      clip: {
        'source': 's',
        'num_windows': n,
        'ade': dict(zip(methods, ade, strict=True)),
        'ade_at_true_speed': {name: value / 2 for name, value in zip(methods, ade, strict=True)},
      }
      for clip, (n, ade) in clips.items()
    }
  }


FIRST = result(a=(10, (0.1, 0.2, 0.3, 0.4, 1.0)), b=(30, (0.2, 0.2, 0.4, 0.3, 1.0)))
SECOND = result(c=(20, (0.4, 0.2, 0.5, 0.6, 1.0)))


def test_folds_are_averaged_over_windows():
  pooled = pool.pool_results([FIRST, SECOND])
  assert pooled['num_windows'] == 60 and pooled['num_clips'] == 3
  ade = {name: interval['value'] for name, interval in pooled['ade'].items()}
  assert ade['policy'] == pytest.approx((10 * 0.1 + 30 * 0.2 + 20 * 0.4) / 60)
  assert pooled['ade_at_true_speed']['policy']['value'] == pytest.approx(ade['policy'] / 2)
  rival = min(ade['constant_velocity'], ade['straight_to_goal'])
  assert pooled['gain']['policy']['value'] == pytest.approx(1 - ade['policy'] / rival)
  assert pooled['ade']['policy']['low'] < ade['policy'] < pooled['ade']['policy']['high']


def test_a_clip_judged_twice_is_an_error():
  with pytest.raises(ValueError, match=r"\['a'\] occur in several"):
    pool.pool_results([FIRST, result(a=(5, (1.0,) * 5))])


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
  for name, content in (('1', FIRST), ('2', SECOND)):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'results.json').write_text(json.dumps(content))
  pool.main([str(tmp_path / '1'), str(tmp_path / '2'), f'--out={tmp_path / "pooled.json"}'])
  assert '60 windows of 3 clips in 2 folds' in capsys.readouterr().out
  assert json.loads((tmp_path / 'pooled.json').read_text())['num_clips'] == 3
