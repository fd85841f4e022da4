"""Vision transformer ViT-S/16 in the DINOv3 shape (Simeoni et al., arXiv:2508.10104), so that its weights fit."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.policy.attention import attend
from s2e_jax.policy.dense import Dense
from s2e_jax.policy.encoders.efficientnet import normalise_images
from s2e_jax.policy.encoders.small import space_to_depth

ROPE_BASE = 100.0
LAYER_SCALE_INIT = 1e-5
NORM_EPSILON = 1e-5


def rope_angles(rows: int, columns: int, head_dim: int) -> np.ndarray:
  """Rotation angles [rows * columns, head_dim / 2] (radians) of 2-D rotary position embedding.

  Patch centres are scaled to (-1, 1) along each axis; head_dim / 4 frequencies 2 pi 100^(-4 i / head_dim) turn by
  the vertical coordinate, as many by the horizontal one.
  """
  frequency = 2 * math.pi * ROPE_BASE ** (-np.arange(head_dim // 4) / (head_dim / 4))
  y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in (rows, columns))
  grid = np.stack(np.meshgrid(y, x, indexing='ij'), axis=-1).reshape(-1, 2)
  return (grid[:, :, None] * frequency).reshape(len(grid), head_dim // 2).astype(np.float32)


def rotate_pairs(x: jax.Array, angles: jax.Array) -> jax.Array:
  """x [B, N, heads, d] with components (i, i + d/2) turned by angles [N, d/2]."""
  cos, sin = jnp.cos(angles)[:, None, :].astype(x.dtype), jnp.sin(angles)[:, None, :].astype(x.dtype)
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class VitBlock(nn.Module):
  """x + LayerScale(attention(LN(x))), then x + LayerScale(MLP(LN(x))); rotary positions on patch tokens only."""

  num_heads: int
  mlp_dim: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, angles: jax.Array) -> jax.Array:
    """x [B, P + N, D] with P prefix tokens before the N patches; angles [N, D / heads / 2]."""
    width, num_prefix = x.shape[-1], x.shape[1] - angles.shape[0]
    dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=nn.initializers.truncated_normal(0.02))
    norm = functools.partial(nn.LayerNorm, epsilon=NORM_EPSILON, dtype=self.dtype)
    layer_scale = nn.initializers.constant(LAYER_SCALE_INIT)

    def heads(y: jax.Array, name: str, use_bias: bool = True) -> jax.Array:
      y = dense(width, use_bias=use_bias, name=name)(y)
      return y.reshape(*y.shape[:-1], self.num_heads, width // self.num_heads)

    def turned(y: jax.Array) -> jax.Array:
      return jnp.concatenate([y[:, :num_prefix], rotate_pairs(y[:, num_prefix:], angles)], axis=1)

    y = norm(name='norm_attention')(x)
    y = attend(turned(heads(y, 'query')), turned(heads(y, 'key', use_bias=False)), heads(y, 'value'))
    y = dense(width, name='out')(y.reshape(*x.shape))
    x = x + y * self.param('scale_attention', layer_scale, (width,)).astype(self.dtype)

    y = norm(name='norm_mlp')(x)
    y = dense(width, name='mlp_out')(nn.gelu(dense(self.mlp_dim, name='mlp_hidden')(y), approximate=False))
    return x + y * self.param('scale_mlp', layer_scale, (width,)).astype(self.dtype)


class VisionTransformer(nn.Module):
  """Images [B, h, w, 3] (0..255) -> normalised patch tokens as a feature map [B, h/16, w/16, 384].

  One class token and four register tokens go before the patches and are dropped at the end. The key projection
  has no bias. There is no stochastic depth, and rotary coordinates are not jittered.
  """

  dtype: jnp.dtype
  image_mean: tuple[float, float, float]
  image_std: tuple[float, float, float]
  patch: int = 16
  width: int = 384
  num_layers: int = 12
  num_heads: int = 6
  mlp_dim: int = 1536
  num_registers: int = 4

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """See the class; `train` changes nothing here."""
    b, h, w = images.shape[0], images.shape[1] // self.patch, images.shape[2] // self.patch
    x = normalise_images(images, self.image_mean, self.image_std, self.dtype)
    x = Dense(self.width, dtype=self.dtype, name='patches')(space_to_depth(x, self.patch))
    x = x.reshape(b, h * w, self.width)

    init = nn.initializers.normal(0.02)
    class_token = self.param('class_token', init, (1, self.width))
    registers = self.param('registers', init, (self.num_registers, self.width))
    prefix = jnp.concatenate([class_token, registers]).astype(self.dtype)
    x = jnp.concatenate([jnp.broadcast_to(prefix, (b, *prefix.shape)), x], axis=1)

    angles = jnp.asarray(rope_angles(h, w, self.width // self.num_heads))
    for i in range(self.num_layers):
      x = VitBlock(self.num_heads, self.mlp_dim, self.dtype, name=f'block_{i}')(x, angles)
    x = nn.LayerNorm(epsilon=NORM_EPSILON, dtype=self.dtype, name='norm')(x[:, 1 + self.num_registers :])
    return x.reshape(b, h, w, self.width)
