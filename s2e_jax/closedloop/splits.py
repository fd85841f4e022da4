"""Which worlds are for training, which to choose by, which for the final figures: named streams of keys.

The rule: episode i of a split begins with `fold_in(fold_in(key(20250722), number of the split), i)`. Whoever
trains in the simulator draws from `split_key('train')`; a test scene is then never met in training, whatever the
seed of the run, and episode i of a split is the same for every policy, batch size and number of episodes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SPLITS = ('train', 'validation', 'test')
_ROOT = 20250722


def split_key(split: str) -> jax.Array:
  """The typed key that a split's episodes are folded from; ValueError for a split that does not exist."""
  if split not in SPLITS:
    raise ValueError(
      f'split={split!r} must be one of {SPLITS}: train is what finetuning meets, choose by validation, and open '
      'test once per final checkpoint'
    )
  return jax.random.fold_in(jax.random.key(_ROOT), SPLITS.index(split))


def episode_keys(split: str, num: int, first: int = 0) -> jax.Array:
  """[num] typed keys of the episodes first, first + 1, ... of a split; ValueError when there are none."""
  if num < 1:
    raise ValueError(f'episodes={num} must be at least 1: there is nothing to judge')
  if first < 0:
    raise ValueError(f'first={first} must not be negative: episodes are numbered from 0')
  key = split_key(split)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(first, first + num, dtype=jnp.uint32))
