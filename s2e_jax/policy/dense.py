"""Linear layers whose gradients are plain matrix products."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
from jax import lax


def dot_rows(x: jax.Array, kernel: jax.Array, dimension_numbers: Any = None, **options: Any) -> jax.Array:
  """`lax.dot_general` of features [*B, D] with a kernel [D, E] -> [*B, E], as one product of matrices.

  The same bits. But the gradient of the kernel then sums over one axis of rows: over several, XLA's CPU backend
  turns both factors around in memory first, which costs as much as the product. dimension_numbers: as flax gives
  them, always the last axis and the first.
  """
  rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
  product = lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
  return product.reshape(*x.shape[:-1], kernel.shape[-1])


class Dense(nn.Dense):
  """`flax.linen.Dense` by `dot_rows`; the same parameters."""

  dot_general: Any = dot_rows
