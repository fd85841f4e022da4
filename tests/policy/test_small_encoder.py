"""The small encoders against Flax's own layers, and a few images at a time against all of them at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.encoders.small import SIZES, images_at_once, small_encoder, space_to_depth

HEIGHT, WIDTH = 32, 48
encoders = pytest.mark.parametrize('name', sorted(SIZES))


def parameters(name):
  """Of an encoder none of whose layers is zero."""
  fresh = small_encoder(name, jnp.float32).init(jax.random.key(0), images(1))
  return jax.tree.map(lambda leaf: leaf + 0.02 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), fresh)


def images(num):
  return jnp.asarray(np.random.default_rng(num).integers(0, 256, (num, HEIGHT, WIDTH, 3)), jnp.uint8)


def summed(encoder, seen, weights):
  return lambda parameters: jnp.sum(encoder.apply(parameters, seen) * weights)


class Twin(nn.Module):
  """The same encoder, with the same parameters, of Flax's convolutions."""

  patch_dim: int
  conv_dims: tuple[int, ...]
  num_blocks: int

  @nn.compact
  def __call__(self, images):
    x = images.astype(jnp.float32) / 127.5 - 1
    x = nn.Dense(self.patch_dim, name='patches')(space_to_depth(x, 4))
    for i, dim in enumerate(self.conv_dims):
      x = nn.Conv(dim, (3, 3), (2, 2), name=f'conv_{i}')(nn.relu(x))
    for i in range(self.num_blocks):
      y = nn.Conv(dim, (3, 3), name=f'block_{i}_conv_0')(nn.relu(x))
      x = x + nn.Conv(dim, (3, 3), name=f'block_{i}_conv_1')(nn.relu(y))
    return nn.relu(x)


@encoders
def test_features_and_gradients_are_those_of_flax_layers(name):
  given, seen, twin = parameters(name), images(3), Twin(**SIZES[name])
  ours = small_encoder(name, jnp.float32)
  features = ours.apply(given, seen)
  assert features.shape == (3, HEIGHT // 16, WIDTH // 16, SIZES[name]['conv_dims'][-1])
  np.testing.assert_allclose(features, twin.apply(given, seen), atol=1e-4)
  weights = jax.random.normal(jax.random.key(1), features.shape)
  want = jax.grad(summed(twin, seen, weights))(given)
  have = jax.grad(summed(ours, seen, weights))(given)
  jax.tree.map(lambda mine, its: np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-3), have, want)


def test_residual_blocks_begin_as_the_identity():
  fresh = small_encoder('small', jnp.float32).init(jax.random.key(0), images(2))
  shallow = Twin(**(SIZES['small'] | {'num_blocks': 0}))
  without = {'params': {k: v for k, v in fresh['params'].items() if not k.startswith('block')}}
  ours = small_encoder('small', jnp.float32).apply(fresh, images(2))
  np.testing.assert_allclose(ours, shallow.apply(without, images(2)), atol=1e-5)


@encoders
@pytest.mark.parametrize(('num', 'chunk'), [(12, 4), (11, 4)])
def test_chunks_change_neither_features_nor_gradients(name, num, chunk):
  seen, given = images(num), parameters(name)
  whole, parts = small_encoder(name, jnp.float32), small_encoder(name, jnp.float32, chunk)
  features = whole.apply(given, seen)
  np.testing.assert_allclose(parts.apply(given, seen), features, atol=1e-5)
  # weights that are not zero where the last chunk is filled up would show in the gradient
  weights = jax.random.normal(jax.random.key(1), features.shape)
  want = jax.grad(summed(whole, seen, weights))(given)
  have = jax.jit(jax.grad(summed(parts, seen, weights)))(given)
  for mine, its in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(mine, its, rtol=1e-4, atol=2e-3)


@encoders
def test_parameters_are_the_same_whatever_the_chunk(name):
  whole = small_encoder(name, jnp.float32).init(jax.random.key(0), images(1))
  again = small_encoder(name, jnp.float32, chunk=2).init(jax.random.key(0), images(5))
  assert jax.tree.structure(again) == jax.tree.structure(whole)
  for mine, its in zip(jax.tree.leaves(again), jax.tree.leaves(whole), strict=True):
    np.testing.assert_array_equal(mine, its)


def test_a_gradient_keeps_nothing_of_a_chunk_but_its_images():
  """Features of the patches are kept when all is computed at once; in chunks only what is of the whole's shape."""
  given = parameters('tiny')

  def largest_kept(chunk):
    encoder = small_encoder('tiny', jnp.float32, chunk)
    _, pull = jax.vjp(lambda p: encoder.apply(p, images(32)), given)
    return max(leaf.nbytes for leaf in jax.tree.leaves(pull))

  assert largest_kept(4) <= images(32).nbytes < largest_kept(0)


def test_only_cpus_take_images_in_chunks():
  assert images_at_once('cpu') == 16 and images_at_once('gpu') == images_at_once('tpu') == 0
