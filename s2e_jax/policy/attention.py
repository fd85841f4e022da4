"""Multi-head attention and the feed-forward block that context and decoder share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

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


class Attention(nn.Module):
  """Multi-head attention of `queries` [*B, Q, D] over `tokens` [*B, N, D] -> [*B, Q, D].

  The key projection has no bias: softmax ignores what is added to all scores of a query, so such a bias would
  be a parameter that no gradient reaches.
  """

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, queries: jax.Array, tokens: jax.Array) -> jax.Array:
    """See the class."""
    width = queries.shape[-1]

    def heads(x: jax.Array, name: str, use_bias: bool = True) -> jax.Array:
      y = nn.Dense(width, use_bias=use_bias, dtype=self.dtype, name=name)(x)
      return y.reshape(*y.shape[:-1], self.num_heads, width // self.num_heads)

    y = attend(heads(queries, 'query'), heads(tokens, 'key', use_bias=False), heads(tokens, 'value'))
    return nn.Dense(width, dtype=self.dtype, name='out')(y.reshape(*y.shape[:-2], width))


class FeedForward(nn.Module):
  """Pre-LN feed-forward branch: LayerNorm, hidden layer of `mlp_dim`, back to D. The caller adds the residual."""

  mlp_dim: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[*B, N, D] -> [*B, N, D]."""
    y = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(x)
    y = ACTIVATIONS[self.activation](nn.Dense(self.mlp_dim, dtype=self.dtype, name='hidden')(y))
    return nn.Dense(x.shape[-1], dtype=self.dtype, name='out')(y)


class SelfAttention(nn.Module):
  """Pre-LN self-attention branch over tokens [*B, N, D]. The caller adds the residual."""

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """[*B, N, D] -> [*B, N, D]."""
    y = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(tokens)
    return Attention(self.num_heads, self.dtype, name='attention')(y, y)
