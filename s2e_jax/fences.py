"""Values that XLA's CPU backend computes once.

It computes a cheap value again in every kernel that reads it: ten outputs cost ten times the work, and compiling.
It drops `optimization_barrier` before it fuses. What a conditional returns, or a loop, it must store.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

T = TypeVar('T')


def settle(is_true: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
  """The arrays themselves, computed once and stored; for code that works on whole batches.

  is_true: [] bool that is always true, but not to the compiler's knowledge. Under `vmap` the conditional would
  become a selection and hold nothing: use `computed_once` there.
  """
  hold = lambda flag, *xs: lax.cond(flag, lambda *a: a, lambda *a: tuple(jnp.zeros_like(x) for x in a), *xs)
  plain = lambda flag, *xs: lax.optimization_barrier(xs)
  return lax.platform_dependent(is_true, *arrays, cpu=hold, default=plain)


def computed_once(tree: T) -> T:
  """`tree` of arrays unchanged (numbers below 1e30), behind a loop that XLA does not fuse across.

  Works under `vmap` too, at the price of a copy.
  """
  leaves, structure = jax.tree.flatten(tree)
  flat = jnp.concatenate([leaf.astype(jnp.float32).reshape(-1) for leaf in leaves])
  rows = jnp.pad(flat, (0, flat.shape[0] % 2)).reshape(2, -1)
  # a bound that nothing reaches, but that the compiler cannot know
  bound = -1e30 - jnp.abs(flat[0])
  flat = lax.scan(lambda low, row: (low, jnp.maximum(row, low)), bound, rows)[1].reshape(-1)
  parts = jnp.split(flat[: sum(leaf.size for leaf in leaves)], np.cumsum([leaf.size for leaf in leaves])[:-1])
  restored = [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
  return jax.tree.unflatten(structure, restored)
