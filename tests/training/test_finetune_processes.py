"""Finetuning by several processes, whose arrays are of all of them, is that by one."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from s2e_jax.store.checkpoint import CheckpointStore
from s2e_jax.store.metrics import read_records
from s2e_jax.training import pretrain
from tests.processes import exit_codes, free_port

ITERATIONS = 6


@pytest.mark.process
@pytest.mark.timeout(300)
def test_two_processes_finetune_the_same_parameters_as_one(repo, tmp_path, make_config, quick_environment):
  pretrain.run(make_config(), tmp_path / 'pretrained')
  joined = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{free_port()}', 'JAX_NUM_PROCESSES': '2'}
  lives = [('one', '4', {})] + [('two', '2', joined | {'JAX_PROCESS_ID': str(i)}) for i in range(2)]
  children = []
  for i, (name, devices, env) in enumerate(lives):
    command = [sys.executable, '-m', 'tests.training.toy_finetune', tmp_path / 'pretrained', tmp_path / name]
    with (tmp_path / f'{i}.log').open('w') as log:
      env = quick_environment | env | {'JAX_NUM_CPU_DEVICES': devices, 'PYTHONPATH': str(repo)}
      children.append(subprocess.Popen(command, cwd=repo, env=env, stdout=log, stderr=subprocess.STDOUT))
  codes = exit_codes(children)
  assert codes == [0, 0, 0], [(tmp_path / f'{i}.log').read_text()[-2000:] for i in range(3)]
  stores = [CheckpointStore(tmp_path / name / 'checkpoints', read_only=True) for name in ('one', 'two')]
  devices = [store.description(ITERATIONS)['devices'] for store in stores]
  assert devices[0] | {'processes': 2} == devices[1] and devices[1]['count'] == 4
  one, two = (store.load(ITERATIONS, 'policy', 'actors') for store in stores)
  begun = stores[0].load(stores[0].steps()[0], 'policy')
  moved = 0
  for x, y, z in zip(*(jax.tree.leaves(items['policy']) for items in (one, two, begun)), strict=True):
    moved += not np.array_equal(x, z)
    assert np.linalg.norm(x - y) <= 1e-2 * np.linalg.norm(x - z) + 1e-6
  assert moved > 4
  for x, y in zip(*(jax.tree.leaves(items['actors']) for items in (one, two)), strict=True):
    assert x.shape == y.shape and x.shape[0] == 4
  for r, s in zip(*(read_records(tmp_path / name / 'metrics.jsonl') for name in ('one', 'two')), strict=True):
    assert r['step'] == s['step'] and r.keys() == s.keys()
    for name in ('rollout/reward', 'ppo/policy_loss', 'ppo/kl', 'episodes/ended'):
      assert r[name] == pytest.approx(s[name], rel=1e-3, abs=1e-5)
