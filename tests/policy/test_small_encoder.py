"""The small encoders against Flax's own layers, and a few images at a time against all of them at once."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.encoders.small import SIZES, images_at_once, small_encoder, space_to_depth

pytestmark = pytest.mark.usefixtures('compiled_quickly')

HEIGHT, WIDTH = 32, 48
encoders = pytest.mark.parametrize('name', sorted(SIZES))


@functools.cache
def fresh(name):
  return jax.jit(small_encoder(name, jnp.float32).init)(jax.random.key(0), images(1))


@functools.cache
def parameters(name):
  """Of an encoder none of whose layers is zero."""
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: leaf + np.float32(0.02) * rng.normal(size=leaf.shape).astype('f'), fresh(name))


def images(num):
  return jnp.asarray(np.random.default_rng(num).integers(0, 256, (num, HEIGHT, WIDTH, 3)), jnp.uint8)


def features_and_gradient(encoder, given, seen):
  """Of a sum whose weights are not zero where the last chunk is filled up: that would show in the gradient."""

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def summed(given):
    features = encoder.apply(given, seen)
    return jnp.sum(features * jnp.cos(jnp.arange(features.size, dtype='f').reshape(features.shape))), features

  (_, features), gradient = summed(given)
  return features, gradient


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
  given, seen = parameters(name), images(3)
  features, have = features_and_gradient(small_encoder(name, jnp.float32), given, seen)
  wanted, want = features_and_gradient(Twin(**SIZES[name]), given, seen)
  assert features.shape == (3, HEIGHT // 16, WIDTH // 16, SIZES[name]['conv_dims'][-1])
  np.testing.assert_allclose(features, wanted, atol=1e-4)
  jax.tree.map(lambda mine, its: np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-3), have, want)


def test_residual_blocks_begin_as_the_identity():
  shallow = Twin(**(SIZES['small'] | {'num_blocks': 0}))
  without = {'params': {k: v for k, v in fresh('small')['params'].items() if not k.startswith('block')}}
  ours = jax.jit(small_encoder('small', jnp.float32).apply)(fresh('small'), images(2))
  np.testing.assert_allclose(ours, jax.jit(shallow.apply)(without, images(2)), atol=1e-5)


@encoders
@pytest.mark.parametrize(('num', 'chunk'), [(12, 4), (11, 4)])
def test_chunks_change_neither_features_nor_gradients(name, num, chunk):
  seen, given = images(num), parameters(name)
  features, have = features_and_gradient(small_encoder(name, jnp.float32, chunk), given, seen)
  wanted, want = features_and_gradient(small_encoder(name, jnp.float32), given, seen)
  np.testing.assert_allclose(features, wanted, atol=1e-5)
  jax.tree.map(lambda mine, its: np.testing.assert_allclose(mine, its, rtol=1e-4, atol=2e-3), have, want)


@encoders
def test_parameters_are_the_same_whatever_the_chunk(name):
  again = jax.jit(small_encoder(name, jnp.float32, chunk=2).init)(jax.random.key(0), images(5))
  jax.tree.map(np.testing.assert_array_equal, again, fresh(name))


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
