"""The 3x3 convolutions and their products against XLA's own, values and gradients, in and out of a loop."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from s2e_jax.policy.encoders.conv3x3 import Conv3x3, dense_conv, strided_conv

OURS = {1: dense_conv, 2: strided_conv}
strides = pytest.mark.parametrize('stride', [1, 2])


def xlas_own(x, kernel, stride):
  numbers, strides = ('NHWC', 'HWIO', 'NHWC'), (stride, stride)
  return lax.conv_general_dilated(x, kernel, strides, 'SAME', dimension_numbers=numbers, precision='highest')


def drawn(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@strides
@pytest.mark.parametrize('shape', [(2, 6, 8, 3), (1, 2, 2, 5), (3, 4, 14, 1)])
def test_values_and_gradients_are_those_of_the_convolution(shape, stride):
  x, kernel, conv = drawn(*shape), drawn(3, 3, shape[-1], 7, seed=1), OURS[stride]
  ours, ours_back = jax.vjp(conv, x, kernel)
  want, want_back = jax.vjp(functools.partial(xlas_own, stride=stride), x, kernel)
  np.testing.assert_allclose(ours, want, atol=1e-5)
  np.testing.assert_allclose(conv(x, kernel), want, atol=1e-5)  # computed otherwise than for a gradient
  grad = drawn(*want.shape, seed=2)
  for name, mine, its in zip(('x', 'kernel'), ours_back(grad), want_back(grad), strict=True):
    np.testing.assert_allclose(mine, its, atol=2e-5, err_msg=name)


@strides
def test_a_loop_over_chunks_gives_the_gradient_of_the_whole(stride):
  x, kernel = drawn(6, 8, 16, 4), drawn(3, 3, 4, 5, seed=1)
  gradient = jax.grad(lambda kernel, x: jnp.sum(OURS[stride](x, kernel) ** 2))

  @jax.jit
  def in_loop(kernel, chunks):
    add = lambda total, chunk: (total + gradient(kernel, chunk), None)
    return lax.scan(add, jnp.zeros_like(kernel), chunks)[0]

  want = jax.grad(lambda kernel: jnp.sum(xlas_own(x, kernel, stride) ** 2))(kernel)
  np.testing.assert_allclose(in_loop(kernel, x.reshape(3, 2, 8, 16, 4)), want, rtol=1e-4, atol=1e-3)


@strides
def test_the_layer_takes_the_parameters_of_flax_convolutions(stride):
  x = drawn(2, 8, 16, 4)
  theirs, ours = nn.Conv(6, (3, 3), (stride, stride)), Conv3x3(6, stride, jnp.float32)
  params = theirs.init(jax.random.key(0), x)
  jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0), x), params)
  params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # a bias that is not zero
  np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), atol=1e-5)
  outputs = lambda layer: jax.vjp(lambda params: layer.apply(params, x), params)[0]
  np.testing.assert_allclose(outputs(ours), outputs(theirs), atol=1e-5)


def test_halves_are_computed_in_halves():
  x = drawn(1, 4, 4, 3)
  layer = Conv3x3(5, 2, jnp.bfloat16)
  assert layer.apply(layer.init(jax.random.key(0), x), x).dtype == jnp.bfloat16
