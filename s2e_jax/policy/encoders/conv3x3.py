"""3x3 convolutions whose gradients, and what these need, are matrix products.

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

_Kept = tuple[jax.Array, jax.Array]


def _library(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  return lax.conv_general_dilated(x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _product(taps: jax.Array, kernel: jax.Array) -> tuple[jax.Array, _Kept]:
  """The convolution whose outputs read `taps`, and what its gradient needs."""
  return taps @ kernel.reshape(-1, kernel.shape[-1]), (taps, kernel)


def _kernel_gradient(taps: jax.Array, grad: jax.Array, like: jax.Array) -> jax.Array:
  rows = lambda x: x.reshape(-1, x.shape[-1])
  return lax.dot_general(rows(taps), rows(grad), (((0,), (0,)), ((), ()))).reshape(like.shape)


def _strided_taps(x: jax.Array) -> jax.Array:
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
  return _library(x, kernel, 2)


def _strided_backward(kept: _Kept, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
  taps, kernel = kept
  b, h, w, features = grad.shape
  c = kernel.shape[2]
  # The cell (i, j) is read by the outputs (i, j), (i-1, j), (i, j-1) and (i-1, j-1): its four pixels are one
  # product of these four with the kernel's entries that read them, zero where an output does not reach a pixel.
  padded = jnp.pad(grad, ((0, 0), (1, 0), (1, 0), (0, 0)))
  near = [grad, padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, :-1, :-1]]
  reach = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(2, 2, 2, 2, c, features)
  # [above, row, left, column, C, O] -> [left, above, O, row, column, C], in the order of `near`
  back = reach.transpose(2, 0, 5, 1, 3, 4).reshape(4 * features, 4 * c)
  pixels = (jnp.concatenate(near, axis=-1) @ back).reshape(b, h, w, 2, 2, c)
  pixels = pixels.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c)
  return pixels, _kernel_gradient(taps, grad, kernel)


strided_conv.defvjp(lambda x, kernel: _product(_strided_taps(x), kernel), _strided_backward)


def _dense_taps(x: jax.Array) -> jax.Array:
  """[B, h, w, C] -> [B, h, w, 9C]: each pixel and its eight neighbours, row by row; zeros around the image."""
  h, w = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return jnp.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)


@jax.custom_vjp
def dense_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolution of x [B, h, w, C] with kernel [3, 3, C, O], stride 1 -> [B, h, w, O]; zeros around the image."""
  return _library(x, kernel, 1)


def _dense_backward(kept: _Kept, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
  taps, kernel = kept
  # A pixel is read by its neighbours through the opposite entries of the kernel.
  back = kernel[::-1, ::-1].swapaxes(2, 3).reshape(-1, kernel.shape[2])
  return _dense_taps(grad) @ back, _kernel_gradient(taps, grad, kernel)


dense_conv.defvjp(lambda x, kernel: _product(_dense_taps(x), kernel), _dense_backward)


class Conv3x3(nn.Module):
  """A 3x3 convolution with stride 1 or 2 and a bias; parameters are named like those of `flax.linen.Conv`."""

  features: int
  stride: int
  dtype: jnp.dtype
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, h, w, C] -> [B, h/stride, w/stride, features]; h and w must be even for stride 2."""
    kernel = self.param('kernel', self.kernel_init, (3, 3, x.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    conv = {1: dense_conv, 2: strided_conv}[self.stride]
    return conv(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)
