"""The last K frame tokens of every environment, so that each new frame is encoded only once.

Holds what encoding a stack of the last K frames anew would give, as long as the image encoder does not change.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def push_token(tokens: jax.Array, token: jax.Array, begins: jax.Array) -> jax.Array:
  """[B, K, D] tokens, oldest first, after one more [B, D]; K times the new one where an episode begins [B] bool.

  That is what `sim.batch.UrbanBatch` does to a stack of frames.
  """
  shifted = jnp.concatenate([tokens[:, 1:], token[:, None]], axis=1)
  return jnp.where(begins[:, None, None], token[:, None], shifted)


def frame_index(begins: jax.Array, num_history: int) -> jax.Array:
  """[F - K + 1, K, ...] int32: which of F frames fill the stack that ends with each frame from number K - 1 on.

  begins: [F, ...] bool, whether a frame is the first of its episode. A stack, oldest frame first, has no frame of
  an earlier episode, but repeats the first one of its own.
  """
  time = jnp.arange(begins.shape[0], dtype=jnp.int32).reshape(-1, *[1] * (begins.ndim - 1))
  first = jax.lax.cummax(jnp.where(begins, time, 0), axis=0)[num_history - 1 :]
  offset = jnp.arange(1 - num_history, 1, dtype=jnp.int32).reshape(1, -1, *[1] * (begins.ndim - 1))
  return jnp.maximum(time[num_history - 1 :, None] + offset, first[:, None])
