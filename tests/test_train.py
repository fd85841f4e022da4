import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.drawn import write_drawn
from experiments.kill_resume import run as kill_resume
from s2e_jax.store.checkpoint import CheckpointStore
from s2e_jax.store.metrics import read_records
from s2e_jax.training.restore import load_policy
from tests.processes import exit_codes, free_port

SIZES = [f'--{name}={value}' for name, value in kill_resume.SIZES.items()]
# Pictures as large as the demo's, whose test has compiled the same drives by then.
SAME_PICTURES = [word for word in SIZES if 'image_' not in word]


def train(*words, cwd, env=None, timeout=900):
  command = [sys.executable, '-m', 's2e_jax.train', *map(str, words)]
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'} | (env or {})
  return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp('drawn') / 'data'
  write_drawn(path, 6, 8.0, 0, height=32, width=64)
  return path


def test_the_entry_point_is_short(repo):
  assert len((repo / 's2e_jax' / 'train.py').read_text().splitlines()) < 80


@pytest.mark.parametrize(
  'words, message',
  [
    (['--config=configs/pretrain.py', '--config.optim.lerning_rate=1'], 'Did you mean "learning_rate"'),
    (['--config=configs/pretrain.py', '--config.kind=pretrian'], "must be one of ['finetune', 'pretrain']"),
  ],
)
def test_a_typo_is_named_and_nothing_is_trained(repo, tmp_path, words, message):
  done = train(*words, f'--workdir={tmp_path / "run"}', cwd=repo)
  assert done.returncode != 0
  assert message in done.stderr + done.stdout
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.process
@pytest.mark.timeout(1200)  # compiles the planner's drives where nothing has done so before
def test_the_embedded_default_trains_is_labelled_synthetic_and_can_be_used(repo, tmp_path, quick_environment):
  workdir = tmp_path / 'run'
  words = [
    '--config=configs/pretrain.py:smoke,steps=4',
    f'--workdir={workdir}',
    *SAME_PICTURES,
    '--config.train.eval_every=4',
  ]
  first = train(*words, cwd=repo, env=quick_environment)
  assert first.returncode == 0, first.stderr[-3000:]
  assert 'SYNTHETIC' in first.stderr and 'compilation took' in first.stderr
  assert 'step 4/4' in first.stderr and str(workdir / '') in first.stderr + '/'
  assert 'orbax' not in first.stderr.lower()
  description = json.loads((workdir / 'description.json').read_text())
  assert description['data']['is_synthetic'] and description['data']['sources'] == ['synthetic/A']
  assert [r['step'] for r in read_records(workdir / 'metrics.jsonl')] == [4, 4]
  policy, variables, loaded = load_policy(workdir)
  assert loaded['step'] == 4 and policy.config.width == 32 and variables['params']
  generated = {p: p.stat().st_mtime_ns for p in (workdir / 'synthetic_data').rglob('*') if p.is_file()}
  again = train(*words, cwd=repo, env=quick_environment)
  assert again.returncode == 0 and 'is complete: 4 steps' in again.stderr
  assert {p: p.stat().st_mtime_ns for p in (workdir / 'synthetic_data').rglob('*') if p.is_file()} == generated


@pytest.mark.process
def test_a_run_killed_twice_ends_with_the_same_bits(tmp_path):
  results = kill_resume.study(tmp_path, kills=2, steps=30, seed=0, longest_s=1.0, sizes=kill_resume.SIZES)
  assert results['faults'] == [] and results['is_bitwise_equal'] and results['kills'] == 2
  assert kill_resume.table(results).startswith('2 kills')
  # The comparison itself can fail: one bit more in one array is seen.
  other = shutil.copytree(tmp_path / 'reference', tmp_path / 'other')
  store = CheckpointStore(other / 'checkpoints')
  items, description = store.load(30, 'policy', 'trainer'), store.description(30)
  shutil.rmtree(other / 'checkpoints' / '30')
  kernel = items['policy']['params']['goal']['hidden']['kernel']
  kernel[0, 0] = np.nextafter(kernel[0, 0], np.float32(np.inf))
  store = CheckpointStore(other / 'checkpoints')
  store.save(30, items, description)
  store.close()
  assert kill_resume.same_end(tmp_path / 'reference', other, 30) == ['1 final arrays differ']


@pytest.mark.process
@pytest.mark.timeout(300)
def test_two_processes_train_the_same_parameters_as_one(repo, tmp_path, data, quick_environment):
  words = [f'--config=configs/pretrain.py:smoke,data={data},steps=6', *SIZES, '--config.optim.ema_decay=0.9']
  four = quick_environment | {'JAX_NUM_CPU_DEVICES': '4'}
  one = train(*words, f'--workdir={tmp_path / "one"}', cwd=repo, env=four)
  assert one.returncode == 0, one.stderr[-3000:]
  address = f'127.0.0.1:{free_port()}'
  children = []
  for i in range(2):
    env = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': str(i)}
    env['JAX_NUM_CPU_DEVICES'] = '2'
    command = [sys.executable, '-m', 's2e_jax.train', *words, f'--workdir={tmp_path / "two"}', '--distributed']
    with (tmp_path / f'process_{i}.log').open('w') as log:
      children.append(
        subprocess.Popen(command, cwd=repo, env=quick_environment | env, stdout=log, stderr=subprocess.STDOUT)
      )
  codes = exit_codes(children)
  assert codes == [0, 0], (tmp_path / 'process_0.log').read_text()[-3000:]
  stores = [CheckpointStore(tmp_path / name / 'checkpoints', read_only=True) for name in ('one', 'two')]
  assert stores[0].description(6)['devices'] | {'processes': 2} == stores[1].description(6)['devices']
  assert stores[1].description(6)['devices']['count'] == 4
  a, b = (store.load(6, 'policy')['policy'] for store in stores)
  initial = CheckpointStore(tmp_path / 'one' / 'checkpoints', read_only=True).load(3, 'policy')['policy']
  for x, y, z in zip(*map(jax.tree.leaves, (a, b, initial)), strict=True):
    assert np.linalg.norm(x - y) <= 5e-3 * np.linalg.norm(x - z)
    assert np.linalg.norm(x - y) <= 1e-5 * max(np.linalg.norm(x), 0.1)
  # Both number the same steps, and the metrics are those of all processes together.
  for r, s in zip(*(read_records(tmp_path / name / 'metrics.jsonl') for name in ('one', 'two')), strict=True):
    assert r['step'] == s['step']
    assert r.keys() == s.keys()
    for name in {'train/loss', 'train/count', 'val/loss', 'val/ade_top', 'val/count'} & r.keys():
      assert r[name] == pytest.approx(s[name], rel=1e-4)
