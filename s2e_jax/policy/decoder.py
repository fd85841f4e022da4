"""Anchor queries that read the context through cross-attention (S2E, arXiv:2507.22028, trajectory decoder)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.attention import LAYER_NORM_EPSILON, Attention, FeedForward, SelfAttention
from s2e_jax.policy.residual import ResidualBranch


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

  With ram_input, the cross-attention is Q' = psi(Q; K, V; Theta_D) + Z_out(psi(Z_in(X); K, V; Theta_r)) (S2E,
  arXiv:2507.22028, RAM): psi owns `cross_attention`, the branch owns `residual`, and both join the same sum. X is
  Q ('query') or psi's output ('frozen_out'). The branch is all that is new: no other parameter has another name or
  shape, so that pretrained checkpoints fit once they have one (`residual.add_residual`).
  """

  num_heads: int
  mlp_dim: int
  activation: str
  anchor_self_attention: bool
  dtype: jnp.dtype
  ram_input: str = 'none'

  def setup(self) -> None:
    """Submodules; `self_attention` and `residual` exist only when asked for."""
    self.cross_attention = CrossAttention(self.num_heads, self.dtype)
    if self.ram_input != 'none':
      self.residual = ResidualBranch(self.num_heads, self.dtype)
    if self.anchor_self_attention:
      self.self_attention = SelfAttention(self.num_heads, self.dtype)
    self.mlp = FeedForward(self.mlp_dim, self.activation, self.dtype)

  def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
    """Anchor features [*B, M, D] after one look at the context [*B, N, D]."""
    if self.anchor_self_attention:
      x = x + self.self_attention(x)
    attended = self.cross_attention(x, context)
    if self.ram_input != 'none':
      attended = attended + self.residual(attended if self.ram_input == 'frozen_out' else x, context)
    x = x + attended
    return x + self.mlp(x)


class Decoder(nn.Module):
  """Stack of decoder blocks and a final LayerNorm. Without self-attention among anchors, modes are independent.

  With ram_input, no gradient leaves the decoder: neither context nor anchor features get any (S2E, RAM).
  """

  num_layers: int
  num_heads: int
  mlp_dim: int
  activation: str
  anchor_self_attention: bool
  dtype: jnp.dtype
  ram_input: str = 'none'

  @nn.compact
  def __call__(self, anchor_features: jax.Array, context: jax.Array) -> jax.Array:
    """anchor_features [M, D], context [*B, N, D] -> [*B, M, D]."""
    if self.ram_input != 'none':
      anchor_features, context = jax.lax.stop_gradient((anchor_features, context))
    context = context.astype(self.dtype)
    # Not broadcast: until they have read the context, anchors are the same in all of B, and so are their queries.
    x = anchor_features
    for i in range(self.num_layers):
      x = DecoderBlock(
        self.num_heads,
        self.mlp_dim,
        self.activation,
        self.anchor_self_attention,
        self.dtype,
        self.ram_input,
        name=f'block_{i}',
      )(x, context)
    return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(x)
