"""s2e_tiny's encoder: small enough to encode a whole batch of environments on a laptop CPU."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.encoders.strided import StridedConv

STRIDE = 16


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
  """[B, h, w, C] -> [B, h/block, w/block, block * block * C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // block, block, w // block, block, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class TinyEncoder(nn.Module):
  """uint8 images [B, h, w, 3] -> feature map [B, h/16, w/16, 32]: 4x4 patches to 24, two strided 3x3 convolutions.

  Meant for `flatten` pooling, which keeps where in the image a feature was. h and w must be multiples of 16.
  """

  dtype: jnp.dtype
  patch_dim: int = 24
  conv_dims: tuple[int, ...] = (48, 32)

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """See the class; `train` changes nothing here (no dropout, no normalisation layer)."""
    x = images.astype(self.dtype) * jnp.asarray(2 / 255, self.dtype) - 1
    x = nn.relu(nn.Dense(self.patch_dim, dtype=self.dtype, name='patches')(space_to_depth(x, 4)))
    for i, dim in enumerate(self.conv_dims):
      x = nn.relu(StridedConv(dim, self.dtype, name=f'conv_{i}')(x))
    return x
