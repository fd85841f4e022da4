"""The demo of the README runs from nothing to films, and goes on with what it has left."""

import json
import subprocess
import sys

import pytest

from experiments import demo


@pytest.mark.process
@pytest.mark.timeout(1500)
def test_the_demo_ends_with_tables_curves_and_films(repo, tmp_path, quick_environment):
  out = tmp_path / 'demo'
  # Of fewer drives the one that is held out may be seen from elsewhere.
  small = ['--clips=6', '--steps=4', '--rl_steps=1', '--envs=16', '--episodes=2']
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.demo', f'--out={out}', *small],
    cwd=repo, env=quick_environment, capture_output=True, text=True, timeout=1200,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  assert '[1/6] Drive' in done.stdout and done.stdout.count('| constant_velocity |') == 1
  results = json.loads((out / 'closedloop' / 'results.json').read_text())
  assert list(results['policies'])[:2] == ['bc', 'full'] and 'straight_to_goal' in results['policies']
  assert set(demo.shipped()) <= set(results['policies'])
  assert (out / 'closedloop' / 'table.md').read_text() in done.stdout
  shown = [line for line in done.stdout.splitlines() if line.endswith(('.png', '.mp4'))]
  for name in ('curves.png', 'before_and_after.mp4', 'side_by_side.mp4', 'contact_sheet.png'):
    assert any(line.endswith(name) for line in shown), name
  assert all((repo / picture).stat().st_size > 1000 for picture in shown)
  assert 'Synthetic data: these figures show' in (out / 'openloop' / 'table.md').read_text()


def test_data_that_are_there_are_kept(tmp_path):
  fresh = demo.stages(tmp_path, 3, 'B', 4, 1, 16, 2)
  (tmp_path / 'data').mkdir()
  (tmp_path / 'data' / 'dataset_info.json').write_text('{}')
  again = demo.stages(tmp_path, 3, 'B', 4, 1, 16, 2)
  assert again == fresh[1:] and 's2e_jax.demos' in fresh[0][1]
