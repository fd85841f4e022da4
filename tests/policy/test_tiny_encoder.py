"""The small encoder a few images at a time against all of them at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.encoders.tiny import TinyEncoder, images_at_once

HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope='module')
def parameters():
  return TinyEncoder(jnp.float32).init(jax.random.key(0), images(1))


def images(num):
  return jnp.asarray(np.random.default_rng(num).integers(0, 256, (num, HEIGHT, WIDTH, 3)), jnp.uint8)


def summed(encoder, seen, weights):
  return lambda parameters: jnp.sum(encoder.apply(parameters, seen) * weights)


@pytest.mark.parametrize(('num', 'chunk'), [(12, 4), (11, 4)])
def test_chunks_change_neither_features_nor_gradients(parameters, num, chunk):
  seen = images(num)
  whole, parts = TinyEncoder(jnp.float32), TinyEncoder(jnp.float32, chunk=chunk)
  features = whole.apply(parameters, seen)
  np.testing.assert_allclose(parts.apply(parameters, seen), features, atol=1e-5)
  # weights that are not zero where the last chunk is filled up would show in the gradient
  weights = jax.random.normal(jax.random.key(1), features.shape)
  want = jax.grad(summed(whole, seen, weights))(parameters)
  have = jax.jit(jax.grad(summed(parts, seen, weights)))(parameters)
  for mine, its in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-3)


def test_parameters_are_the_same_whatever_the_chunk(parameters):
  again = TinyEncoder(jnp.float32, chunk=2).init(jax.random.key(0), images(5))
  assert jax.tree.structure(again) == jax.tree.structure(parameters)
  for mine, its in zip(jax.tree.leaves(again), jax.tree.leaves(parameters), strict=True):
    np.testing.assert_array_equal(mine, its)


def test_a_gradient_keeps_nothing_of_a_chunk_but_its_images(parameters):
  """Features of the patches are kept when all is computed at once; in chunks only what is of the whole's shape."""

  def largest_kept(chunk):
    encoder = TinyEncoder(jnp.float32, chunk=chunk)
    _, pull = jax.vjp(lambda p: encoder.apply(p, images(32)), parameters)
    return max(leaf.nbytes for leaf in jax.tree.leaves(pull))

  assert largest_kept(4) <= images(32).nbytes < largest_kept(0)


def test_only_cpus_take_images_in_chunks():
  assert images_at_once('cpu') == 16 and images_at_once('gpu') == images_at_once('tpu') == 0
