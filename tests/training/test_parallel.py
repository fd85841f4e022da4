import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.training import parallel


def test_pmap_is_used_in_one_file_only(repo):
  users = [p.name for p in (repo / 's2e_jax').rglob('*.py') if 'jax.pmap' in p.read_text()]
  assert users == ['parallel.py']


def test_a_batch_is_split_over_the_devices_in_order():
  batch = {'x': np.arange(24 * 3).reshape(24, 3), 'mask': np.arange(24) % 5 == 0}
  shards = parallel.shard(batch)
  assert shards['x'].shape == (8, 3, 3) and shards['mask'].dtype == bool
  for i, piece in enumerate(shards['x'].addressable_shards):
    np.testing.assert_array_equal(np.asarray(piece.data)[0], batch['x'][3 * i : 3 * i + 3])
  assert len({piece.device for piece in shards['x'].addressable_shards}) == 8


def test_replicating_and_back_is_the_identity():
  tree = {'a': np.arange(6.0, dtype=np.float32).reshape(2, 3), 'n': np.int32(4)}
  copies = parallel.replicate(tree)
  assert copies['a'].shape == (8, 2, 3)
  back = parallel.unreplicate(parallel.fetch_async(copies))
  np.testing.assert_array_equal(back['a'], tree['a'])
  assert back['n'] == 4 and back['n'].dtype == np.int32


def test_sums_and_means_run_over_all_devices():
  step = parallel.pmap(lambda x: (parallel.psum(x.sum()), parallel.pmean(x.sum())))
  x = np.arange(16.0, dtype=np.float32)
  total, mean = parallel.unreplicate(step(parallel.shard(x)))
  assert total == x.sum() and mean == x.sum() / 8


def test_a_program_compiled_beside_others_is_the_same_and_is_traced_once():
  traces = []

  def step(state, x):
    traces.append(x.shape)
    total = parallel.psum(jnp.sum(x**2))
    return state * 0.9 + jnp.sin(x).sum() + total, {'total': total}

  state, x = parallel.replicate(np.ones(3, np.float32)), parallel.shard(np.linspace(-1, 1, 16, dtype=np.float32))
  plain = parallel.pmap(step, donate=(0,))
  expected = jax.tree.map(np.asarray, plain(parallel.replicate(np.ones(3, np.float32)), x))
  ahead, shapes = parallel.compiled_beside(parallel.pmap(step, donate=(0,)), state, x)
  assert not state.is_deleted()
  found = ahead(state, x)
  assert state.is_deleted()
  assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda v: (v.shape, v.dtype), found)
  again = ahead(found[0], x)
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, found[1]), expected[1])
  assert np.asarray(again[0]).shape == (8, 3) and traces == [(2,)]
  # shapes do for the next program, which is lowered before the first one has run
  after, _ = parallel.compiled_beside(parallel.pmap(lambda state: state.sum()), shapes[0])
  np.testing.assert_allclose(np.asarray(after(again[0])), np.asarray(again[0]).sum(axis=1), rtol=1e-6)


def test_what_a_compilation_raised_comes_with_the_first_call():
  lowered = type('Lowered', (), {'out_info': None, 'compile': lambda self: 1 / 0})
  pmapped = type('Pmapped', (), {'lower': lambda self, *arguments: lowered()})
  ahead, _ = parallel.compiled_beside(pmapped())
  with pytest.raises(ZeroDivisionError):
    ahead()


def test_several_processes_compile_at_their_first_call(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  doubled = parallel.pmap(lambda x: 2 * x)
  assert parallel.compiled_beside(doubled, np.ones(8)) == (doubled, None)


def test_a_local_map_needs_no_axis():
  doubled = parallel.pmap_local(lambda x: 2 * x)(parallel.shard(np.arange(8.0)))
  np.testing.assert_array_equal(np.asarray(doubled)[:, 0], 2 * np.arange(8.0))


@pytest.mark.parametrize('value, remedy', [(12, '8 or 16'), (3, '8'), (0, '8')])
def test_an_indivisible_batch_says_value_rule_and_remedy(value, remedy):
  with pytest.raises(ValueError) as caught:
    parallel.check_divisible('train.batch_segments', value)
  assert str(caught.value) == f'train.batch_segments={value} must be divisible by the 8 devices; use {remedy}'
  assert parallel.check_divisible('train.batch_segments', 16) == 2


def test_one_process_meets_itself():
  assert parallel.any_process(True) and not parallel.any_process(False)
  assert parallel.gather_bytes(b'\x00abc') == [b'\x00abc']
  total = parallel.sum_over_processes({'a': np.float32(0.5), 'b': jnp.arange(3)})
  np.testing.assert_array_equal(total['b'], [0, 1, 2])
  assert total['a'] == 0.5


def test_half_a_cluster_in_the_environment_is_an_error(monkeypatch):
  monkeypatch.setenv('JAX_PROCESS_ID', '1')
  monkeypatch.delenv('JAX_NUM_PROCESSES', raising=False)
  monkeypatch.delenv('JAX_COORDINATOR_ADDRESS', raising=False)
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *a: pytest.fail('must not join'))
  with pytest.raises(ValueError, match='JAX_PROCESS_ID'):
    parallel.initialise_distributed()
