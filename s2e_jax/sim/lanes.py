"""Batches in the last axis, where a processor has its vector lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.custom_batching import custom_vmap


@struct.dataclass
class Leading:
  """Arrays whose batch axis stays in front: what is too large to be turned over in every step.

  Within `in_lanes` that axis is as long as the batch, or 1 where all of the batch shares the arrays.
  """

  tree: Any


def in_lanes(function: Callable[..., Any]) -> Callable[..., Any]:
  """`function`, written for arrays with a batch in their last axis, as a function of one element.

  Called as it is, it works on a batch of one; under `jax.vmap` the whole batch comes in the last axis, so that
  small leading axes (a few discs, a dozen contacts) cost whole vectors instead of short loops: on a CPU XLA only
  vectorises the last axis. Arguments and results are pytrees of arrays; only what arguments hold as `Leading` is
  left as it is. Wrap a function once and keep the result: what it is for one element is then traced once.
  """
  # custom_vmap traces this at every call, under vmap too, where nothing but its shapes is used
  for_one = jax.jit(function)

  @custom_vmap
  def single(*args: Any) -> Any:
    out = for_one(*_mapped(lambda x: jnp.asarray(x)[..., None], lambda x: jnp.asarray(x)[None], args))
    return jax.tree.map(lambda x: x[..., 0], out)

  @single.def_vmap
  def batched(axis_size: int, in_batched: Any, *args: Any) -> Any:
    def to_last(x: jax.Array, is_batched: bool) -> jax.Array:
      return jnp.moveaxis(x, 0, -1) if is_batched else jnp.broadcast_to(x[..., None], (*x.shape, axis_size))

    to_first = lambda x, is_batched: x if is_batched else x[None]
    out = function(*_mapped(to_last, to_first, args, tuple(in_batched)))
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), out), jax.tree.map(lambda _: True, out)

  return single


def _mapped(lanes: Callable[..., Any], leading: Callable[..., Any], tree: Any, *rest: Any) -> Any:
  """`lanes` of every leaf of `tree`, `leading` of those within a `Leading`; rest: trees like it."""
  is_leading = lambda x: isinstance(x, Leading)
  one = lambda x, *more: jax.tree.map(leading if is_leading(x) else lanes, x, *more)
  return jax.tree.map(one, tree, *rest, is_leaf=is_leading)


def once(tree: Any, is_needed: jax.Array) -> Any:
  """`tree` (zeros where the [] bool is_needed is False), computed once however many use it.

  XLA's CPU compiler copies cheap producers, sines and cosines among them, into every kernel that reads them, which
  costs more than it saves in long chains of small arrays; it does not look through a condition it cannot decide.
  """
  if jax.default_backend() != 'cpu':
    return tree
  return jax.lax.cond(is_needed, lambda x: x, lambda x: jax.tree.map(jnp.zeros_like, x), tree)
