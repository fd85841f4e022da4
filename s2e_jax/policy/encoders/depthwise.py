"""Depthwise convolution in two forms: XLA's grouped convolution, and shifted multiply-adds for CPUs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]


def pad_amounts(size: tuple[int, ...], kernel: int, stride: int, padding: str) -> Padding:
  """((top, bottom), (left, right)) zeros around an image of `size` (h, w).

  'torch': kernel // 2 on every side. 'same': as TensorFlow and Keras do, for ceil(size / stride)
  output cells, the odd zero at the bottom and right (with stride 2 on even sizes this differs from 'torch').
  """
  if padding == 'torch':
    return ((kernel // 2, kernel // 2),) * 2
  total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in size]
  return ((total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2))


def depthwise_grouped(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
  """Depthwise convolution of x [B, h, w, C] with kernel [k, k, 1, C] as one grouped convolution."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def depthwise_shift(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
  """The same as k * k shifted multiply-adds, which XLA fuses into one loop (several times faster on CPUs).

  With a stride, the padded image is viewed as cells of stride x stride pixels, so that every shift reads one pixel
  of each cell in order, instead of skipping through rows and columns.
  """
  b, h, w, c = x.shape
  k = kernel.shape[0]
  (top, bottom), (left, right) = padding
  out_h, out_w = (h + top + bottom - k) // stride + 1, (w + left + right - k) // stride + 1
  # Whole cells only: pixels that no window reaches are cut off (negative padding), missing ones are zeros.
  cells_h, cells_w = out_h + (k - 1) // stride, out_w + (k - 1) // stride
  edges = ((0, 0, 0), (top, cells_h * stride - h - top, 0), (left, cells_w * stride - w - left, 0), (0, 0, 0))
  x = lax.pad(x, jnp.zeros((), x.dtype), edges).reshape(b, cells_h, stride, cells_w, stride, c)
  total = jnp.zeros((b, out_h, out_w, c), x.dtype)
  for i in range(k):
    for j in range(k):
      rows = slice(i // stride, i // stride + out_h)
      columns = slice(j // stride, j // stride + out_w)
      total = total + x[:, rows, i % stride, columns, j % stride] * kernel[i, j, 0]
  return total


def depthwise(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, form: str) -> jax.Array:
  """Depthwise convolution [B, h, w, C] -> [B, h', w', C]; kernel [k, k, 1, C]; form 'shift' or 'grouped'."""
  return {'shift': depthwise_shift, 'grouped': depthwise_grouped}[form](x, kernel, stride, padding)
