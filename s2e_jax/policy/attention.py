"""Multi-head attention and the feed-forward block that context and decoder share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.dense import Dense, dot_rows

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'gelu': functools.partial(nn.gelu, approximate=True),
  'relu': nn.relu,
}
LAYER_NORM_EPSILON = 1e-5


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Softmax attention [*B, Q, heads, d] of queries over keys and values [*B, N, heads, d], softmax in float32."""
  scores = jnp.einsum('...qhd,...khd->...hqk', query, key, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1).astype(value.dtype)
  return jnp.einsum('...hqk,...khd->...qhd', weights, value)


AffineMap = tuple[jax.Array, jax.Array]  # kernel [D, E] and bias [E]: x -> x kernel + bias


class Affine(nn.Module):
  """The parameters of an `nn.Dense`, for those who multiply them by others first."""

  width: int
  dtype: jnp.dtype
  kernel_init: nn.initializers.Initializer = nn.linear.default_kernel_init

  @nn.compact
  def __call__(self, num_inputs: int) -> AffineMap:
    """Kernel [num_inputs, width] and bias [width]."""
    kernel = self.param('kernel', self.kernel_init, (num_inputs, self.width))
    bias = self.param('bias', nn.initializers.zeros, (self.width,))
    return kernel.astype(self.dtype), bias.astype(self.dtype)


def apply_in_turn(x: jax.Array, *maps: AffineMap) -> jax.Array:
  """Features [*B, D] through one affine map after the other.

  Where there are many more rows than columns the maps are multiplied first, which is one product per row instead
  of one per row and map, forwards and backwards; few rows go through each. The difference is one of rounding.
  """
  if len(maps) > 1 and x.size >= 2 * x.shape[-1] * max(kernel.shape[-1] for kernel, _ in maps):
    whole, shift = maps[0]
    for kernel, bias in maps[1:]:
      whole, shift = whole @ kernel, shift @ kernel + bias
    maps = ((whole, shift),)
  x = x.astype(maps[0][0].dtype)
  for kernel, bias in maps:
    x = dot_rows(x, kernel) + bias
  return x


class Attention(nn.Module):
  """Multi-head attention of `queries` [*B, Q, D] over `tokens` [*B, N, D] -> [*B, Q, D].

  The key projection has no bias: softmax ignores what is added to all scores of a query, so such a bias would
  be a parameter that no gradient reaches.
  """

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    queries: jax.Array,
    tokens: jax.Array,
    before: tuple[AffineMap, ...] = (),
    after: tuple[AffineMap, ...] = (),
  ) -> jax.Array:
    """See the class. before, after: affine maps D -> D that queries and output go through besides."""
    width = queries.shape[-1]

    def heads(y: jax.Array) -> jax.Array:
      return y.reshape(*y.shape[:-1], self.num_heads, width // self.num_heads)

    query = apply_in_turn(queries, *before, Affine(width, self.dtype, name='query')(width))
    key = Dense(width, use_bias=False, dtype=self.dtype, name='key')(tokens)
    value = Dense(width, dtype=self.dtype, name='value')(tokens)
    y = attend(heads(query), heads(key), heads(value))
    return apply_in_turn(y.reshape(*y.shape[:-2], width), Affine(width, self.dtype, name='out')(width), *after)


class FeedForward(nn.Module):
  """Pre-LN feed-forward branch: LayerNorm, hidden layer of `mlp_dim`, back to D. The caller adds the residual."""

  mlp_dim: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[*B, N, D] -> [*B, N, D]."""
    y = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(x)
    y = ACTIVATIONS[self.activation](Dense(self.mlp_dim, dtype=self.dtype, name='hidden')(y))
    return Dense(x.shape[-1], dtype=self.dtype, name='out')(y)


class SelfAttention(nn.Module):
  """Pre-LN self-attention branch over tokens [*B, N, D]. The caller adds the residual."""

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """[*B, N, D] -> [*B, N, D]."""
    y = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(tokens)
    return Attention(self.num_heads, self.dtype, name='attention')(y, y)
