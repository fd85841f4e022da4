"""From an encoder's feature map to one token per frame."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.dense import Dense

POOLINGS = ('mean', 'flatten', 'attention')


class FrameProjection(nn.Module):
  """Feature map [B, h', w', C] -> one token [B, D] per frame: pooling, then a linear layer.

  pooling 'mean' is the paper's global average pool: it forgets where in the image a feature was. 'flatten' and
  'attention' are ours and keep it, so that left and right survive even where the encoder's receptive field is
  small: 'flatten' gives every cell its own weights in the linear layer; 'attention' lets `num_heads` learned
  queries, each scoring cells by content and by a learned score per cell, take a softmax average of linear values
  to which a learned position vector is added.
  """

  width: int
  pooling: str
  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """See the class."""
    b, h, w, c = features.shape
    cells = features.reshape(b, h * w, c)
    if self.pooling == 'mean':
      x = cells.astype(jnp.float32).mean(axis=1).astype(self.dtype)
    elif self.pooling == 'flatten':
      x = cells.reshape(b, h * w * c)
    else:
      place = self.param('place', nn.initializers.normal(0.02), (h * w, c))
      cells = cells + place.astype(cells.dtype)
      place_score = self.param('place_score', nn.initializers.normal(1.0), (h * w, self.num_heads))
      # No bias on the scores: softmax over cells ignores it.
      score = Dense(self.num_heads, use_bias=False, dtype=self.dtype, name='score')(cells)
      weight = jax.nn.softmax(score.astype(jnp.float32) + place_score, axis=1).astype(self.dtype)
      value = Dense(self.width, dtype=self.dtype, name='value')(cells)
      value = value.reshape(b, h * w, self.num_heads, self.width // self.num_heads)
      x = jnp.einsum('bnh,bnhd->bhd', weight, value).reshape(b, self.width)
    return Dense(self.width, dtype=self.dtype, name='out')(x)
