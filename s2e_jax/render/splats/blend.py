"""Front-to-back blending of every tile's list, for all cameras' tiles in one loop, with its own gradient.

Each round every tile takes `group` more gaussians of its list. As soon as half of the tiles are done (opaque, or
their list at its end) the others are moved together and the loop goes on with half the shapes, so that one long
list does not keep all tiles waiting. The gradient walks the lists once more from the front, with the finished
picture at hand: memory does not grow with the lists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from s2e_jax.render.splats.lists import Lists, entries
from s2e_jax.render.splats.options import ALPHA_MAX, ALPHA_MIN, STOP, SplatOptions
from s2e_jax.render.splats.project import NUM_FEATURES

NUM_CHANNELS = 5  # red, green, blue, depth, alpha
Step = Callable[[jax.Array, jax.Array, tuple[jax.Array, ...], Any], tuple[tuple[jax.Array, ...], Any]]


def _walk(
  lists: Lists, options: SplatOptions, num_channels: int, shared: Any, step: Step
) -> tuple[jax.Array, Any]:
  """Drives `step` through all lists; returns the channels [B T, P, C] that it gathered and what was shared.

  step(first rank, tiles [n], (transmittance, *channels) each [n, P], shared) -> (the same, shared) takes
  `options.group` entries of each list.
  """
  totals = lists.counts[..., -1].reshape(-1)
  num, num_pixels = totals.shape[0], options.tile**2
  tiles = jnp.arange(num, dtype=jnp.int32)
  state = (jnp.ones((num, num_pixels)),) + (jnp.zeros((num, num_pixels)),) * num_channels
  done = jnp.zeros((num, num_pixels, num_channels))
  first, is_active = jnp.int32(0), totals > 0
  while True:
    is_last = num <= options.smallest
    enough = 0 if is_last else -(-num // 2)

    def body(carry: Any, tiles: jax.Array = tiles, enough: int = enough) -> Any:
      _, first, state, shared, _ = carry
      state, shared = step(first, tiles, state, shared)
      first = first + options.group
      is_active = (first < totals[tiles]) & (state[0].max(1) > STOP)
      return is_active.sum() > enough, first, state, shared, is_active

    carry = (is_active.sum() > enough, first, state, shared, is_active)
    _, first, state, shared, is_active = lax.while_loop(lambda carry: carry[0], body, carry)
    done = done.at[tiles].set(jnp.stack(state[1:], axis=-1))
    if is_last:
      return done, shared
    # active tiles first, in order: one sort of words, the number below the flag
    key = jnp.where(is_active, 0, 1 << 24).astype(jnp.uint32) | jnp.arange(num, dtype=jnp.uint32)
    kept = (lax.sort(key)[:enough] & jnp.uint32((1 << 24) - 1)).astype(jnp.int32)
    tiles, is_active = tiles[kept], is_active[kept]
    state = tuple(x[kept] for x in state)
    num = enough


def _pixels(tiles: jax.Array, lists: Lists, options: SplatOptions) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Camera [n], and left and upper edge [n] (pixels) of tiles [n]."""
  num_tiles, columns = lists.counts.shape[1], options.tiles[1]
  place = tiles % num_tiles
  return tiles // num_tiles, (place % columns) * options.tile, (place // columns) * options.tile


def _fetch(
  table: jax.Array,
  lists: Lists,
  limit: jax.Array | None,
  options: SplatOptions,
  first: jax.Array,
  tiles: jax.Array,
) -> tuple[jax.Array, ...]:
  """The next `group` entries of tiles [n]: rows [n, G] of the table, their features [n, G, 12], and per pixel
  [n, G, P] the offsets from their centres, their depth and their opacity before and after clipping.
  """
  num_sorted = lists.counts.shape[-1] * 32
  camera, left, upper = _pixels(tiles, lists, options)
  ranks = jnp.broadcast_to(first + jnp.arange(options.group), (tiles.shape[0], options.group))
  total = lists.counts[..., -1].reshape(-1)[tiles]
  found = entries(lists, tiles, ranks, options.tiles[1])
  rows = jnp.where(ranks < total[:, None], camera[:, None] * num_sorted + found, table.shape[0] - 1)
  f = table[rows]
  pixel = jnp.arange(options.tile**2)
  dx = pixel % options.tile + 0.5 - (f[..., 0] - left[:, None])[..., None]
  dy = pixel // options.tile + 0.5 - (f[..., 1] - upper[:, None])[..., None]
  xx, xy, yy, opacity = (f[..., k, None] for k in (2, 3, 4, 5))
  raw = opacity * jnp.exp(-(0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy))
  depth = f[..., 6, None] + f[..., 10, None] * dx + f[..., 11, None] * dy
  if limit is not None:
    raw = jnp.where(depth < limit[tiles][:, None], raw, 0.0)
  alpha = jnp.where(raw >= ALPHA_MIN, jnp.minimum(raw, ALPHA_MAX), 0.0)
  return rows, f, dx, dy, depth, raw, alpha


def _values(f: jax.Array, depth: jax.Array, k: int) -> tuple[jax.Array | float, ...]:
  """What entry k of each tile adds per unit of weight to the channels."""
  return (*(f[:, k, c][:, None] for c in (7, 8, 9)), depth[:, k], 1.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def blend_tiles(table: jax.Array, lists: Lists, limit: jax.Array | None, options: SplatOptions) -> jax.Array:
  """Channels [B T, P, 5] of all tiles: red, green, blue and depth times coverage, and coverage (alpha).

  table: [B M + 1, 12] features of the sorted gaussians of B cameras, a row of zeros last. lists: of B cameras.
  limit: [B T, P] m, depth from which on gaussians are hidden (None: nothing hides them).
  """
  return _forward(table, lists, limit, options)[0]


def _forward(
  table: jax.Array, lists: Lists, limit: jax.Array | None, options: SplatOptions
) -> tuple[jax.Array, Any]:
  def step(first: jax.Array, tiles: jax.Array, state: tuple[jax.Array, ...], shared: Any) -> Any:
    through, *channels = state
    _, f, _, _, depth, _, alpha = _fetch(table, lists, limit, options, first, tiles)
    for k in range(options.group):
      behind = through * (1 - alpha[:, k])
      weight = jnp.where(behind > STOP, through * alpha[:, k], 0.0)
      through = behind
      # one accumulator for each channel: a stacked one is stored interleaved and is five times as slow
      channels = [c + weight * v for c, v in zip(channels, _values(f, depth, k), strict=True)]
    return (through, *channels), shared

  out, _ = _walk(lists, options, NUM_CHANNELS, None, step)
  return out, (table, lists, limit, out)


def _backward(options: SplatOptions, saved: Any, given: jax.Array) -> tuple[Any, ...]:
  table, lists, limit, out = saved
  pixel = jnp.arange(options.tile**2)
  px, py = pixel % options.tile + 0.5, pixel // options.tile + 0.5
  moments = jnp.stack([jnp.ones_like(px), px, py, px * px, px * py, py * py], axis=-1)
  worth_of_all = jnp.sum(given * out, axis=-1)  # what the loss takes of the whole picture, to first order

  def step(first: jax.Array, tiles: jax.Array, state: tuple[jax.Array, ...], grad: jax.Array) -> Any:
    through, worth = state
    rows, f, dx, dy, depth, raw, alpha = _fetch(table, lists, limit, options, first, tiles)
    wanted, worth_of_whole = given[tiles], worth_of_all[tiles]
    colours = sum(wanted[:, None, :, c] * f[..., None, 7 + c] for c in range(3))
    own = colours + wanted[:, None, :, 3] * depth + wanted[:, None, :, 4]  # what the loss takes per unit of weight

    def take(carry: tuple[jax.Array, jax.Array], entry: tuple[jax.Array, jax.Array]) -> Any:
      (through, worth), (alpha, own) = carry, entry
      behind = through * (1 - alpha)
      is_blended = behind > STOP
      weight = jnp.where(is_blended, through * alpha, 0.0)
      worth = worth + weight * own
      # more of this one is less of all behind it
      change = through * own - (worth_of_whole - worth) / (1 - alpha)
      return (behind, worth), (weight, jnp.where(is_blended, change, 0.0))

    # a loop: unrolled, XLA computes each entry's chain of products anew from the first one on
    by_entry = lambda x: jnp.moveaxis(x, 1, 0)
    (through, worth), changes = lax.scan(take, (through, worth), (by_entry(alpha), by_entry(own)))
    weight, of_alpha = (jnp.moveaxis(x, 0, 1) for x in changes)
    is_free = (raw >= ALPHA_MIN) & (raw < ALPHA_MAX)
    of_raw = jnp.where(is_free, of_alpha, 0.0) * raw  # times the opacity's logarithm
    of_depth = weight * wanted[:, None, :, 3]
    _, left, upper = _pixels(tiles, lists, options)
    one, x, y, x_x, x_y, y_y = jnp.moveaxis(of_raw @ moments, -1, 0)
    u, v = f[..., 0] - left[:, None], f[..., 1] - upper[:, None]
    # sums over pixels of of_raw times dx, dy, dx dx, dx dy, dy dy
    s_x, s_y = x - u * one, y - v * one
    s_xx, s_xy, s_yy = x_x - u * (x + s_x), x_y - u * y - v * s_x, y_y - v * (y + s_y)
    xx, xy, yy = (f[..., k] for k in (2, 3, 4))
    d, d_x, d_y = ((of_depth * k).sum(-1) for k in (1.0, dx, dy))
    red, green, blue = ((weight * wanted[:, None, :, c]).sum(-1) for c in range(3))
    columns = jnp.stack(
      [
        xx * s_x + xy * s_y - d * f[..., 10],
        xy * s_x + yy * s_y - d * f[..., 11],
        -0.5 * s_xx,
        -s_xy,
        -0.5 * s_yy,
        one / jnp.maximum(f[..., 5], 1e-9),
        d,
        red,
        green,
        blue,
        d_x,
        d_y,
      ],
      axis=-1,
    )
    grad = grad.at[rows.reshape(-1)].add(columns.reshape(-1, NUM_FEATURES))
    return (through, worth), grad

  _, grad = _walk(lists, options, 1, jnp.zeros_like(table), step)
  return grad.at[-1].set(0.0), None, None


blend_tiles.defvjp(_forward, _backward)


def to_tiles(image: jax.Array, options: SplatOptions) -> jax.Array:
  """[B T, P] of an image [B, h, w], zeros beyond its edges."""
  rows, columns = options.tiles
  t = options.tile
  pad = ((0, 0), (0, rows * t - options.height), (0, columns * t - options.width))
  return jnp.pad(image, pad).reshape(-1, rows, t, columns, t).transpose(0, 1, 3, 2, 4).reshape(-1, t * t)


def from_tiles(tiles: jax.Array, options: SplatOptions) -> jax.Array:
  """[B, h, w, C] of tiles [B T, P, C]."""
  rows, columns = options.tiles
  t, channels = options.tile, tiles.shape[-1]
  image = tiles.reshape(-1, rows, columns, t, t, channels).transpose(0, 1, 3, 2, 4, 5)
  return image.reshape(-1, rows * t, columns * t, channels)[:, : options.height, : options.width]
