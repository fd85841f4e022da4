"""3x3 convolution with stride 2 whose gradient, and what it needs, are matrix products.

XLA's CPU backend hands a convolution's gradient to a fast library only outside of loops: within `lax.scan`, where
the epochs of PPO run, s2e_tiny's encoder takes 8 to 33 times as long as outside. Matrix products are fast in both
places (benchmark `encoder_gradient_in_loop`). Where no gradient is taken the library's convolution is no slower
outside of loops and faster within.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def _taps(x: jax.Array) -> jax.Array:
  """[B, h, w, C] -> [B, h/2, w/2, 9C]: the pixels that each output reads; zeros below and right of the image."""
  b, h, w, c = x.shape
  # Cells of 2 x 2 pixels, so that every tap is a plain slice of one pixel per cell.
  cells = jnp.pad(x, ((0, 0), (0, 2), (0, 2), (0, 0))).reshape(b, h // 2 + 1, 2, w // 2 + 1, 2, c)
  taps = [
    cells[:, i // 2 : i // 2 + h // 2, i % 2, j // 2 : j // 2 + w // 2, j % 2] for i in range(3) for j in range(3)
  ]
  return jnp.concatenate(taps, axis=-1)


@jax.custom_vjp
def strided_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolution of x [B, h, w, C] with kernel [3, 3, C, O], stride 2 -> [B, h/2, w/2, O]; h and w even.

  Padded as 'SAME' does for even sizes: one row of zeros at the bottom and one column at the right.
  """
  return lax.conv_general_dilated(x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  taps = _taps(x)
  return taps @ kernel.reshape(-1, kernel.shape[-1]), (taps, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
  taps, kernel = kept
  b, h, w, features = grad.shape
  c = kernel.shape[2]
  flat = (-1, features)
  to_kernel = lax.dot_general(taps.reshape(-1, 9 * c), grad.reshape(flat), (((0,), (0,)), ((), ())))
  # The cell (i, j) is read by the outputs (i, j), (i-1, j), (i, j-1) and (i-1, j-1): its four pixels are one
  # product of these four with the kernel's entries that read them, zero where an output does not reach a pixel.
  padded = jnp.pad(grad, ((0, 0), (1, 0), (1, 0), (0, 0)))
  near = [grad, padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, :-1, :-1]]
  reach = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(2, 2, 2, 2, c, features)
  # [above, row, left, column, C, O] -> [left, above, O, row, column, C], in the order of `near`
  back = reach.transpose(2, 0, 5, 1, 3, 4).reshape(4 * features, 4 * c)
  pixels = (jnp.concatenate(near, axis=-1) @ back).reshape(b, h, w, 2, 2, c)
  return pixels.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c), to_kernel.reshape(kernel.shape)


strided_conv.defvjp(_forward, _backward)


class StridedConv(nn.Module):
  """`strided_conv` and a bias; parameters are named and initialised like those of `flax.linen.Conv`."""

  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, h, w, C] -> [B, h/2, w/2, features]; h and w even."""
    kernel = self.param('kernel', nn.initializers.lecun_normal(), (3, 3, x.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return strided_conv(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)
