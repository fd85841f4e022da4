"""One token per frame: what the poolings keep, and batch norm's statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.config import policy_config
from s2e_jax.policy.encoders.efficientnet import BatchNorm
from s2e_jax.policy.encoders.pooling import FrameProjection
from s2e_jax.policy.encoders.small import space_to_depth
from s2e_jax.policy.policy import Policy, example_observation

CONFIG = policy_config('s2e_tiny', num_history=1, num_context_layers=0, num_decoder_layers=0)


def _tokens(pooling, frames):
  policy = Policy(dataclasses.replace(CONFIG, pooling=pooling))
  variables = jax.jit(policy.init)(jax.random.key(0), example_observation(CONFIG))
  return np.asarray(jax.jit(lambda v, f: policy.apply(v, f, method='encode_frames'))(variables, frames))


def _blobs(n, seed):
  """Grey noise with one bright disc, and where it is: column -1..1."""
  rng = np.random.default_rng(seed)
  column, row = rng.uniform(20, 108, n), rng.uniform(16, 48, n)
  y, x = np.mgrid[0:64, 0:128]
  inside = (x - column[:, None, None]) ** 2 + (y - row[:, None, None]) ** 2 < 100
  frames = np.where(inside, 230, 90)[..., None] + rng.integers(-20, 20, (n, 64, 128, 3))
  return frames.astype('uint8'), (column - 64) / 44


def test_left_and_right_survive_in_the_token():
  frames, column = _blobs(400, 0)
  explained = {}
  for pooling in ('mean', 'flatten', 'attention'):
    tokens = _tokens(pooling, frames)
    assert tokens.shape == (400, 128)
    design = np.concatenate([tokens, np.ones((400, 1))], axis=1)
    gram = design[:300].T @ design[:300] + 1e-3 * np.eye(129) * np.trace(design[:300].T @ design[:300]) / 129
    weights = np.linalg.solve(gram, design[:300].T @ column[:300])
    explained[pooling] = 1 - np.var(design[300:] @ weights - column[300:]) / np.var(column[300:])
  assert explained['flatten'] > 0.5 and explained['attention'] > 0.3, explained
  assert explained['mean'] < 0.2, explained


@pytest.mark.parametrize('pooling', ['flatten', 'attention'])
def test_mirrored_frames_give_other_tokens(pooling):
  frames, _ = _blobs(4, 1)
  a, b = _tokens(pooling, frames), _tokens(pooling, frames[:, :, ::-1])
  assert np.linalg.norm(a - b, axis=1).min() > 0.05 * np.linalg.norm(a, axis=1).max()


def test_mean_pooling_forgets_where():
  features = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5, 6)), jnp.float32)
  for pooling, is_blind in (('mean', True), ('flatten', False), ('attention', False)):
    module = FrameProjection(8, pooling, 2, jnp.dtype('float32'))
    variables = module.init(jax.random.key(1), features)
    a, b = module.apply(variables, features), module.apply(variables, features[:, ::-1, ::-1])
    assert a.shape == (3, 8)
    assert (float(jnp.abs(a - b).max()) < 1e-5) == is_blind


def test_space_to_depth_takes_whole_patches():
  x = np.random.default_rng(0).normal(size=(2, 6, 9, 2))
  y = np.asarray(space_to_depth(jnp.asarray(x), 3))
  assert y.shape == (2, 2, 3, 18)
  np.testing.assert_allclose(y[1, 1, 2], x[1, 3:6, 6:9].reshape(-1), rtol=1e-6)


def _batch_norm(norm, axis_name=None):
  return BatchNorm(norm, 1e-3, axis_name, jnp.dtype('float32'))


def _norm_inputs():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(4, 3, 5, 6)) * 2 + 1, jnp.float32)
  stats = {
    'mean': jnp.asarray(rng.normal(size=6), jnp.float32),
    'var': jnp.asarray(rng.uniform(1, 2, 6), jnp.float32),
  }
  params = {'scale': jnp.asarray(rng.uniform(1, 2, 6), jnp.float32), 'bias': jnp.ones(6)}
  return x, {'params': params, 'batch_stats': stats}


@pytest.mark.parametrize('norm,train', [('frozen', True), ('frozen', False), ('batch', False)])
def test_running_statistics_are_used_and_kept(norm, train):
  x, variables = _norm_inputs()
  y, changed = _batch_norm(norm).apply(variables, x, train, mutable=['batch_stats'])
  s, p = variables['batch_stats'], variables['params']
  np.testing.assert_allclose(
    y, (x - s['mean']) / np.sqrt(s['var'] + 1e-3) * p['scale'] + p['bias'], rtol=1e-4, atol=1e-5
  )
  jax.tree.map(np.testing.assert_array_equal, changed['batch_stats'], s)


def test_batch_statistics_are_shared_between_devices():
  x, variables = _norm_inputs()
  want, stats = _batch_norm('batch').apply(variables, x, True, mutable=['batch_stats'])
  np.testing.assert_allclose(
    want, (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3) * variables['params']['scale'] + 1, atol=1e-4
  )
  np.testing.assert_allclose(
    stats['batch_stats']['mean'], 0.99 * variables['batch_stats']['mean'] + 0.01 * x.mean((0, 1, 2)), rtol=1e-4
  )
  sharded = jax.pmap(
    lambda x: _batch_norm('batch', 'devices').apply(variables, x, True, mutable=['batch_stats']),
    axis_name='devices',
  )
  got, got_stats = sharded(x.reshape(2, 2, 3, 5, 6))
  np.testing.assert_allclose(got.reshape(x.shape), want, atol=1e-4)
  for i in range(2):
    np.testing.assert_allclose(got_stats['batch_stats']['var'][i], stats['batch_stats']['var'], rtol=1e-5)
