"""s2e_tiny's encoder: small enough to encode a whole batch of environments on a laptop CPU."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.dense import Dense
from s2e_jax.policy.encoders.strided import StridedConv

STRIDE = 16


def images_at_once(backend: str | None = None) -> int:
  """`TinyEncoder.chunk` that suits the default (or given) JAX backend: what a CPU core's cache holds, else all."""
  return 16 if (backend or jax.default_backend()) == 'cpu' else 0


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
  """[B, h, w, C] -> [B, h/block, w/block, block * block * C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // block, block, w // block, block, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class TinyEncoder(nn.Module):
  """uint8 images [B, h, w, 3] -> feature map [B, h/16, w/16, 32]: 4x4 patches to 24, two strided 3x3 convolutions.

  Meant for `flatten` pooling, which keeps where in the image a feature was. h and w must be multiples of 16.
  chunk: images at a time, one chunk after the other, 0 = all at once. A gradient computes the features of each
  chunk anew, so that what it needs of them is still in a CPU's cache when it is read.
  """

  dtype: jnp.dtype
  chunk: int = 0
  patch_dim: int = 24
  conv_dims: tuple[int, ...] = (48, 32)

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
    x = nn.relu(Dense(self.patch_dim, dtype=self.dtype, name='patches')(space_to_depth(x, 4)))
    for i, dim in enumerate(self.conv_dims):
      x = nn.relu(StridedConv(dim, self.dtype, name=f'conv_{i}')(x))
    return x
