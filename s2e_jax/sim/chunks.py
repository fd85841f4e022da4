"""Work on those of many environments that need it, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def refreshed(wanted: jax.Array, chunk: int, tree: Any, make: Callable[[Callable[[Any], Any]], Any]) -> Any:
  """`tree` [B, ...] with fresh rows where `wanted` [B] bool, made in chunks: only as many as are needed.

  make: gets a function that picks the rows of a chunk from any tree [B, ...], and returns fresh rows [chunk, ...]
  in the form of `tree`; rows beyond the last one that is wanted are made in vain and dropped.
  """
  num = wanted.shape[0]
  order = jnp.concatenate([jnp.argsort(~wanted, stable=True), jnp.full(chunk, num)])
  count = jnp.sum(wanted)

  def one(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
    done, tree = carry
    rows = jax.lax.dynamic_slice(order, (done,), (chunk,))
    rows = jnp.where(done + jnp.arange(chunk) < count, rows, num)
    pick = lambda source: jax.tree.map(lambda x: jnp.take(x, rows, axis=0, mode='clip'), source)
    put = lambda old, new: old.at[rows].set(new, mode='drop')
    return done + chunk, jax.tree.map(put, tree, make(pick))

  return jax.lax.while_loop(lambda carry: carry[0] < count, one, (jnp.zeros((), count.dtype), tree))[1]


def chunk_size(num: int) -> int:
  """Rows per chunk for `num` environments: as many as one step is likely to need, num / 64, but 4 to 64.

  Larger chunks cost less per row, but what exceeds the need is thrown away.
  """
  return min(max(num // 64, 4), 64, num)
