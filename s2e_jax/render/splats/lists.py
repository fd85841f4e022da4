"""Which gaussians each tile blends, nearest first: depth order, bit words, rank and select.

A tile's list is never written down. Membership is separable: a gaussian is in tile (i, j) where its rows hold i
and its columns hold j, so one bit per gaussian and axis says all. A running count of bits per tile and word then
finds the n-th entry of any list by bisection. No list is ever cut off.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from s2e_jax.render.splats.options import WORD, SplatOptions
from s2e_jax.render.splats.project import Footprints


class Lists(NamedTuple):
  """Gaussians of one camera, sorted by depth, and their membership in tiles. V = M / WORD words.

  across: [tiles across, V] uint32, down: [tiles down, V] uint32: bit k of word v is sorted gaussian v WORD + k.
  counts: [T, V] int32: members of tile t = i * across + j in the words up to and with v.
  """

  across: jax.Array
  down: jax.Array
  counts: jax.Array


def depth_order(depth: jax.Array, is_seen: jax.Array, options: SplatOptions) -> jax.Array:
  """[M] int32: numbers of the gaussians by depth, exactly as float32 sorts it, ties by number; unseen ones last.

  A radix sort made of sorts of single words, digit of the depth's bits above the number: a third of argsort's
  time.
  """
  num = depth.shape[-1]
  index_bits = max(1, (num - 1).bit_length())
  digit = 32 - index_bits
  index = jnp.arange(num, dtype=jnp.uint32)
  base = int(np.float32(options.near).view(np.uint32))
  top = int(np.float32(options.far).view(np.uint32)) - base
  bits = lax.bitcast_convert_type(jnp.where(is_seen, depth, options.near), jnp.uint32) - jnp.uint32(base)
  bits = jnp.where(is_seen, bits, jnp.uint32(top))
  order, current = None, bits
  for shift in range(0, top.bit_length(), digit):
    key = (((current >> shift) & jnp.uint32((1 << digit) - 1)) << index_bits) | index
    rank = (lax.sort(key) & jnp.uint32((1 << index_bits) - 1)).astype(jnp.int32)
    order = rank if order is None else order[rank]
    current = bits[order]
  assert order is not None
  return order


def _words(low: jax.Array, high: jax.Array, num_tiles: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
  """[num_tiles[k], V] uint32 for both axes k, of tile ranges low <= tile < high, each [2, M]."""
  at_once = min(num_tiles)
  parts = [(axis, first) for axis in (0, 1) for first in range(0, num_tiles[axis], at_once)]

  def one(_: None, part: jax.Array) -> tuple[None, jax.Array]:
    tile = part[1] + jnp.arange(at_once, dtype=jnp.int32)[:, None]
    begin, end = (x[part[0]].reshape(-1, WORD).T for x in (low, high))
    word = jnp.zeros((at_once, begin.shape[1]), jnp.uint32)
    for bit in range(WORD):
      word |= jnp.where((begin[bit] <= tile) & (tile < end[bit]), jnp.uint32(1 << bit), jnp.uint32(0))
    return None, word

  # a loop: otherwise XLA computes every word anew in each of its readers
  words = lax.scan(one, None, jnp.array(parts, jnp.int32))[1]
  num = -(-num_tiles[0] // at_once)
  across, down = (x.reshape(-1, x.shape[-1]) for x in (words[:num], words[num:]))
  return across[: num_tiles[0]], down[: num_tiles[1]]


def make_lists(prints: Footprints, options: SplatOptions) -> tuple[jax.Array, Lists]:
  """Order [M] of one camera's gaussians by depth, and the tiles' lists of the sorted ones; M is whole words."""
  features = lax.stop_gradient(prints.features)
  order = depth_order(features[:, 6], prints.is_seen, options)
  rows, columns = options.tiles

  def span(centre: jax.Array, reach: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    low, high = jnp.floor((centre - reach) / options.tile), jnp.ceil((centre + reach) / options.tile)
    return jnp.clip(low, 0, num).astype(jnp.int32), jnp.clip(high, 0, num).astype(jnp.int32)

  reach_x, reach_y = lax.stop_gradient((prints.reach_x, prints.reach_y))
  left, right = span(features[:, 0], reach_x, columns)
  upper, lower = span(features[:, 1], reach_y, rows)
  # one gather for four numbers
  packed = jnp.where(prints.is_seen, left | right << 8 | upper << 16 | lower << 24, 0)[order]
  byte = lambda shift: (packed >> shift) & 255
  across, down = _words(jnp.stack([byte(0), byte(16)]), jnp.stack([byte(8), byte(24)]), (columns, rows))
  members = (down[:, None] & across[None]).reshape(rows * columns, -1)
  return order, Lists(across, down, jnp.cumsum(lax.population_count(members).astype(jnp.int32), axis=-1))


def _bit_of_rank(word: jax.Array, rank: jax.Array) -> jax.Array:
  """Place of the rank-th (from 0) set bit of words."""
  place = jnp.zeros_like(rank)
  for half in (16, 8, 4, 2, 1):
    low = word & jnp.uint32((1 << half) - 1)
    count = lax.population_count(low).astype(jnp.int32)
    is_above = rank >= count
    rank = jnp.where(is_above, rank - count, rank)
    word = jnp.where(is_above, word >> half, low)
    place += jnp.where(is_above, half, 0)
  return place


def entries(lists: Lists, tile: jax.Array, ranks: jax.Array, num_columns: int) -> jax.Array:
  """Sorted numbers [n, G] of the entries of rank `ranks` [n, G] in the lists of B cameras.

  lists: with a leading axis [B] on every field. tile: [n] number of the tile, camera after camera. What lies past
  the end of a list is undefined: mask it by the count.
  """
  _, num_tiles, num_words = lists.counts.shape
  counts, across, down = (x.reshape(-1) for x in (lists.counts, lists.across, lists.down))
  camera, place = tile // num_tiles, tile % num_tiles
  num_rows = num_tiles // num_columns
  of_counts = (tile * num_words)[:, None]
  of_across = ((camera * num_columns + place % num_columns) * num_words)[:, None]
  of_down = ((camera * num_rows + place // num_columns) * num_words)[:, None]
  # number of words whose running count does not exceed the rank
  before, step = jnp.zeros(ranks.shape, jnp.int32), 1 << (num_words.bit_length() - 1)
  while step:
    further = before + step
    is_before = (further <= num_words) & (counts[of_counts + jnp.minimum(further, num_words) - 1] <= ranks)
    before = jnp.where(is_before, further, before)
    step >>= 1
  word = jnp.minimum(before, num_words - 1)
  members = across[of_across + word] & down[of_down + word]
  count = counts[of_counts + word] - lax.population_count(members).astype(jnp.int32)
  return word * WORD + _bit_of_rank(members, jnp.maximum(ranks - count, 0))
