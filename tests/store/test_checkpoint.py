import errno
import json
import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from s2e_jax.store import checkpoint


def example(seed=0, width=5):
  rng = np.random.default_rng(seed)
  params = {
    'encoder': {'kernel': jnp.asarray(rng.normal(size=(3, width)), jnp.float32), 'bias': jnp.zeros(width)},
    'heads': {'kernel': jnp.asarray(rng.normal(size=(width, 2)), jnp.bfloat16)},
  }
  return {'policy': {'params': params}, 'trainer': {'opt': optax.adamw(1e-3).init(params), 'step': np.int32(seed)}}


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_is_saved_comes_back_bitwise_in_its_own_structure(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path / 'c')
  tree = example(3)
  store.save(3, tree, {'model': 's2e_tiny'})
  store.wait()
  restored = store.restore(3, example(0))
  assert_same(restored, tree)
  assert restored['policy']['params']['heads']['kernel'].dtype == jnp.bfloat16
  assert store.description(3) == {'model': 's2e_tiny', 'step': 3}


def test_saving_does_not_see_later_changes_of_what_is_saved(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  array = np.ones((400, 300), np.float32)
  description = {'norms': [1.0]}
  store.save(1, {'a': {'x': array}}, description)
  array[:] = 7
  description['norms'] += [2.0] * 100_000
  store.wait()
  assert store.description(1)['norms'] == [1.0]
  np.testing.assert_array_equal(store.load(1, 'a')['a']['x'], 1)


def test_only_the_newest_are_kept(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path, keep=2)
  for step in (10, 20, 30, 40):
    store.save(step, example(step), {})
  store.close()
  assert store.steps() == [30, 40] and store.latest() == 40
  assert sorted(p.name for p in tmp_path.iterdir()) == ['30', '40']


def test_the_best_is_kept_by_metric_over_reopening(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path, by_metric=True)
  for step, metric in ((10, 3.0), (20, 1.0), (30, 2.0), (40, float('nan'))):
    if store.is_better(metric):
      store.save(step, example(step), {}, metric=metric)
  store.close()
  assert store.best() == 20 and store.steps() == [20]
  again = checkpoint.CheckpointStore(tmp_path, by_metric=True)
  assert not again.is_better(1.0) and again.is_better(0.5)
  # A run resumed from before the best one may find a better one earlier in time.
  again.save(15, example(15), {}, metric=0.5)
  again.close()
  assert again.best() == 15 and again.steps() == [15]


def test_every_mismatching_path_is_listed(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  store.save(1, example(), {})
  store.wait()
  other = example(width=6)
  other['policy']['params']['extra'] = {'scale': np.zeros(2, np.float32)}
  del other['policy']['params']['encoder']['bias']
  with pytest.raises(checkpoint.MismatchError) as caught:
    store.restore(1, {'policy': other['policy']})
  text = str(caught.value)
  assert 'missing in the checkpoint: params/extra/scale float32[2]' in text
  assert 'unknown to this model: params/encoder/bias float32[5]' in text
  assert 'differs: params/encoder/kernel is float32[3, 5] in the checkpoint, float32[3, 6] here' in text
  assert 'params/heads/kernel' in text and '4 places' in text


def test_a_checkpoint_without_the_training_state_cannot_be_resumed(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  store.save(1, {'policy': example()['policy']}, {})
  store.wait()
  with pytest.raises(checkpoint.MismatchError, match='trainer'):
    store.restore(1, example())


def test_an_unknown_step_names_those_that_exist(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  store.save(7, example(), {})
  store.wait()
  with pytest.raises(ValueError, match=r'no checkpoint of step 8; it has \[7\]'):
    store.load(8, 'policy')


@pytest.mark.parametrize('when', ['at once', 'in the background'])
def test_a_full_disk_is_a_clear_error_and_leaves_older_checkpoints_whole(tmp_path, monkeypatch, when):
  store = checkpoint.CheckpointStore(tmp_path, keep=1)
  store.save(10, example(10), {'model': 's2e_tiny'})
  store.wait()

  async def no_space(*args, **kwargs):
    if when == 'in the background':
      return [Late()]
    raise OSError(errno.ENOSPC, 'No space left on device')

  class Late(ocp.future.Future):
    def result(self, timeout=None):
      raise RuntimeError('write failed') from OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(ocp.StandardCheckpointHandler, 'async_save', no_space)

  def save_and_wait():
    store.save(20, example(20), {})
    store.wait()

  with pytest.raises(checkpoint.SaveError) as caught:
    save_and_wait()
  assert caught.value.errno == errno.ENOSPC
  text = str(caught.value)
  assert 'step 20' in text and 'disk is full' in text and '[10]' in text and 'same command to resume' in text
  monkeypatch.undo()
  assert store.steps() == [10]
  # The next start is another process: nothing of the one that failed still writes into what is cleaned up there.
  for thread in threading.enumerate():
    if thread.name.endswith('_save'):
      thread.join(60)
  again = checkpoint.CheckpointStore(tmp_path, keep=1)  # after some space was freed
  assert_same(again.restore(10, example()), example(10))
  again.save(20, example(20), {})
  again.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['20']


def test_leftovers_of_a_killed_process_are_never_taken_for_whole(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  store.save(10, example(10), {})
  store.close()
  (tmp_path / '20.orbax-checkpoint-tmp-123' / 'policy').mkdir(parents=True)
  (tmp_path / '30' / 'policy').mkdir(parents=True)  # e.g. a copy that was cut short
  (tmp_path / '.trash' / '5').mkdir(parents=True)
  again = checkpoint.CheckpointStore(tmp_path)
  assert again.latest() == 10
  again.save(20, example(20), {})  # the leftovers are removed in the background, but before the next save
  again.close()
  assert again.steps() == [20]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['20', '30.incomplete']


def test_damaged_arrays_are_an_error_that_names_the_folder_and_the_way_out(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path, keep=3)
  for step in (10, 20):
    store.save(step, example(step), {})
  store.close()
  for path in (tmp_path / '20' / 'policy').rglob('*'):
    if path.is_file() and path.stat().st_size > 200:
      os.truncate(path, path.stat().st_size // 2)
  with pytest.raises(ValueError, match=r'delete that folder to go on from another one: \[10\]'):
    checkpoint.CheckpointStore(tmp_path, keep=3).restore(20, example())


def test_reading_beside_a_writer_changes_nothing(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path, keep=3)
  for step in (1, 2, 3):
    store.save(step, example(step), {})
  store.close()
  (tmp_path / '4.orbax-checkpoint-tmp-9').mkdir()
  before = sorted(p.name for p in tmp_path.iterdir())
  reader = checkpoint.CheckpointStore(tmp_path, read_only=True)
  assert_same(reader.restore(2, example()), example(2))
  reader.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_arrays_without_elements_are_refused_before_anything_is_written(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  with pytest.raises(ValueError, match='a/x'):
    store.save(1, {'t': {'a': {'x': np.zeros((0, 3))}}}, {})
  assert store.steps() == []


KILLED = """
import sys, numpy as np
from s2e_jax.store import checkpoint
store = checkpoint.CheckpointStore(sys.argv[1], keep=2)
step = store.latest() or 0
while True:
  step += 1
  store.save(step, {'a': {str(i): np.full((64, 500), step, np.float32) for i in range(20)}}, {'value': step})
  print(step, flush=True)
"""


@pytest.mark.process
def test_a_writer_killed_at_random_moments_leaves_only_whole_checkpoints(tmp_path):
  rng = np.random.default_rng(0)
  last = 0
  for _ in range(3):
    child = subprocess.Popen([sys.executable, '-c', KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    first = int(child.stdout.readline())
    assert first > last  # it went on from what was there
    time.sleep(rng.uniform(0.1, 0.6))
    child.kill()
    child.wait()
    child.stdout.close()
    store = checkpoint.CheckpointStore(tmp_path, read_only=True)
    assert store.steps() and store.latest() >= first - 1
    for step in store.steps():
      assert store.description(step)['value'] == step
      for array in jax.tree.leaves(store.load(step, 'a')):
        np.testing.assert_array_equal(array, step)
    last = store.latest()


def test_the_description_is_plain_json_on_disk(tmp_path):
  store = checkpoint.CheckpointStore(tmp_path)
  store.save(1, example(), {'policy': {'anchors': [[1.0, 0.5]]}})
  store.close()
  assert json.loads((tmp_path / '1' / 'description' / 'metadata').read_text())['policy'] == {
    'anchors': [[1.0, 0.5]]
  }
