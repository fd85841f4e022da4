"""The encoders of s2e_tiny and s2e_small: small enough to encode a whole batch of environments on a laptop CPU."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.dense import Dense
from s2e_jax.policy.encoders.conv3x3 import Conv3x3

STRIDE = 16  # of the feature map, whatever the size
# Of `SmallEncoder`, by encoder. 'small' has four times the multiplications of 'tiny'.
SIZES: dict[str, dict[str, Any]] = {
  'tiny': dict(patch_dim=24, conv_dims=(48, 32), num_blocks=0),
  'small': dict(patch_dim=32, conv_dims=(64, 64), num_blocks=2),
}


def images_at_once(backend: str | None = None) -> int:
  """`chunk` that suits the default (or given) JAX backend: what a CPU core's cache holds, else all."""
  return 16 if (backend or jax.default_backend()) == 'cpu' else 0


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
  """[B, h, w, C] -> [B, h/block, w/block, block * block * C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // block, block, w // block, block, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class SmallEncoder(nn.Module):
  """uint8 images [B, h, w, 3] -> feature map [B, h/16, w/16, conv_dims[-1]].

  4x4 patches to patch_dim, two strided 3x3 convolutions, then num_blocks residual blocks of two 3x3 convolutions
  (He et al. 2016, activation first; without normalisation: a block begins as the identity). Meant for `flatten`
  pooling, which keeps where in the image a feature was. h and w must be multiples of 16.
  chunk: images at a time, one chunk after the other, 0 = all at once. A gradient computes the features of each
  chunk anew, so that what it needs of them is still in a CPU's cache when it is read.
  """

  dtype: jnp.dtype
  patch_dim: int
  conv_dims: tuple[int, ...]
  num_blocks: int
  chunk: int = 0

  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """See the class; `train` changes nothing here (no dropout, no normalisation layer)."""
    num = images.shape[0]
    if not self.chunk or num <= self.chunk:
      return self.features(images)
    size = -(-num // -(-num // self.chunk))  # as many chunks, of a size that fills the last one best
    padded = jnp.pad(images, ((0, -num % size), (0, 0), (0, 0), (0, 0)))
    again = nn.remat(lambda encoder, images: encoder.features(images), prevent_cse=False)
    one = lambda encoder, carry, images: (carry, again(encoder, images))
    in_turn = nn.scan(one, variable_broadcast='params', split_rngs={'params': False})
    _, features = in_turn(self, (), padded.reshape(-1, size, *images.shape[1:]))
    return features.reshape(-1, *features.shape[2:])[:num]

  @nn.compact
  def features(self, images: jax.Array) -> jax.Array:
    """The feature maps of images that are all computed at once."""
    x = images.astype(self.dtype) * jnp.asarray(2 / 255, self.dtype) - 1
    x = Dense(self.patch_dim, dtype=self.dtype, name='patches')(space_to_depth(x, 4))
    for i, dim in enumerate(self.conv_dims):
      x = Conv3x3(dim, 2, self.dtype, name=f'conv_{i}')(nn.relu(x))
    for i in range(self.num_blocks):
      y = Conv3x3(x.shape[-1], 1, self.dtype, name=f'block_{i}_conv_0')(nn.relu(x))
      y = Conv3x3(x.shape[-1], 1, self.dtype, nn.initializers.zeros, name=f'block_{i}_conv_1')(nn.relu(y))
      x = x + y
    return nn.relu(x)


def small_encoder(name: str, dtype: jnp.dtype, chunk: int = 0) -> SmallEncoder:
  """The encoder 'tiny' or 'small'."""
  return SmallEncoder(dtype=dtype, chunk=chunk, **SIZES[name])
