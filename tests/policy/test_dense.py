"""Linear layers as products of matrices against flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.dense import Dense, dot_rows


@pytest.mark.parametrize('shape', [(7, 5), (2, 3, 5), (2, 3, 4, 5), (5,), (0, 5)])
def test_layer_and_gradients_are_those_of_flax(shape):
  x = jax.random.normal(jax.random.key(0), shape)
  ours, theirs = Dense(6), nn.Dense(6)
  parameters = theirs.init(jax.random.key(1), x)
  again = ours.init(jax.random.key(1), x)
  jax.tree.map(np.testing.assert_array_equal, again, parameters)

  def run(layer):
    value, pull = jax.vjp(layer.apply, parameters, x)
    return value, pull(jnp.cos(value))

  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), run(ours), run(theirs))


def test_the_gradient_of_a_kernel_sums_over_one_axis():
  x, kernel = jnp.ones((2, 3, 4, 5)), jnp.ones((5, 6))

  def summed_axes(product):
    jaxpr = jax.make_jaxpr(jax.grad(lambda kernel: product(x, kernel).sum()))(kernel)
    dots = [e.params['dimension_numbers'][0] for e in jaxpr.jaxpr.eqns if e.primitive.name == 'dot_general']
    return {len(axes) for contracted in dots for axes in contracted}

  assert summed_axes(dot_rows) == {1} and summed_axes(jnp.matmul) == {1, 3}


def test_a_layer_computes_in_the_type_that_it_is_told():
  x = jnp.ones((2, 3, 5))
  layer = Dense(6, dtype=jnp.bfloat16)
  assert layer.apply(layer.init(jax.random.key(0), x), x).dtype == jnp.bfloat16
