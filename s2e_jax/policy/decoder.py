"""Anchor queries that read the context through cross-attention (S2E, arXiv:2507.22028, trajectory decoder)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.attention import LAYER_NORM_EPSILON, Attention, FeedForward, SelfAttention


class CrossAttention(nn.Module):
  """Pre-LN cross-attention psi(Q; K, V; Theta_D): anchors [*B, M, D] read context [*B, N, D]. No residual inside.

  The context arrives normalised, so only the queries have a LayerNorm here.
  """

  num_heads: int
  dtype: jnp.dtype

  def setup(self) -> None:
    """Parameters `norm` and `attention`."""
    self.norm = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype)
    self.attention = Attention(self.num_heads, self.dtype)

  def __call__(self, queries: jax.Array, context: jax.Array) -> jax.Array:
    """[*B, M, D] -> [*B, M, D]."""
    return self.attention(self.norm(queries), context)


class DecoderBlock(nn.Module):
  """(x + self-attention among anchors,) x + cross-attention, x + feed-forward: [*B, M, D] -> [*B, M, D].

  Seam for a residual-attention branch (S2E's RAM, Q' = psi(Q; K, V; Theta_D) + Z_out(psi(Z_in(Q); K, V;
  Theta_r))): everything psi owns lies under `decoder/block_<i>/cross_attention`, and its output is added in one
  place, so a branch is a further submodule of this block whose output joins the same sum. Theta_r is a copy of the
  `cross_attention` subtree, whose `norm` and `attention` can be called apart, with Z_in between them. No existing
  parameter changes its name, and checkpoints without a branch load into the same tree.
  """

  num_heads: int
  mlp_dim: int
  activation: str
  anchor_self_attention: bool
  dtype: jnp.dtype

  def setup(self) -> None:
    """Submodules; `self_attention` exists only when asked for."""
    self.cross_attention = CrossAttention(self.num_heads, self.dtype)
    if self.anchor_self_attention:
      self.self_attention = SelfAttention(self.num_heads, self.dtype)
    self.mlp = FeedForward(self.mlp_dim, self.activation, self.dtype)

  def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
    """Anchor features [*B, M, D] after one look at the context [*B, N, D]."""
    if self.anchor_self_attention:
      x = x + self.self_attention(x)
    x = x + self.cross_attention(x, context)
    return x + self.mlp(x)


class Decoder(nn.Module):
  """Stack of decoder blocks and a final LayerNorm. Without self-attention among anchors, modes are independent."""

  num_layers: int
  num_heads: int
  mlp_dim: int
  activation: str
  anchor_self_attention: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, anchor_features: jax.Array, context: jax.Array) -> jax.Array:
    """anchor_features [M, D], context [*B, N, D] -> [*B, M, D]."""
    context = context.astype(self.dtype)
    x = jnp.broadcast_to(anchor_features, (*context.shape[:-2], *anchor_features.shape))
    for i in range(self.num_layers):
      x = DecoderBlock(
        self.num_heads, self.mlp_dim, self.activation, self.anchor_self_attention, self.dtype, name=f'block_{i}'
      )(x, context)
    return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(x)
