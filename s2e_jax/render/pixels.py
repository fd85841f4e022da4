"""The pixel pass: choose among a column's entries and look its pattern up, in integers and without a gather."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from s2e_jax.render.bits import MAGIC, MAGIC_BITS, MAGIC_ROW, hashed
from s2e_jax.render.entries import Entries
from s2e_jax.render.light import dim

LOOKS = ('near', 'base', 'accent', 'rise', 'shift', 'spans', 'seeds', 'shades', 'bend', 'level')
SHAPES = ('near', 'forward', 'square', 'foot', 'head')


def front(entries: Entries, v: jax.Array, names: tuple[str, ...]) -> tuple[jax.Array, dict[str, jax.Array]]:
  """(bool [B, h, W] whether any entry covers the pixel, the named fields of the nearest that does)."""
  count = entries.near.shape[1]
  fields = {f.name: getattr(entries, f.name) for f in dataclasses.fields(entries)}
  hit = jnp.bool_(False)
  chosen = {name: fields[name][:, count - 1, None] for name in names}
  for k in reversed(range(count)):
    covers = (v >= entries.low[:, k, None]) & (v <= entries.high[:, k, None])
    hit = hit | covers
    if k < count - 1:
      chosen = {name: jnp.where(covers, fields[name][:, k, None], chosen[name]) for name in names}
  return hit, chosen


def paint(look: dict[str, jax.Array], v: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(colour int32 0x..bbggrr, brightness int32 0..256) of object pixels of slopes v."""
  where, byte = jnp.where, lambda word, i: lax.shift_right_logical(word, jnp.int32(8 * i)) & 255
  bits = lax.bitcast_convert_type(v * look['rise'] + look['shift'], jnp.int32)
  row = (bits >> 8) - MAGIC_ROW
  seeds = look['seeds']
  is_odd = (row & ((seeds >> 31) | 1)) != 0
  span = where(is_odd, look['spans'] >> 16, look['spans'])
  seed = where(is_odd, seeds >> 16, seeds) & 0x7FFF
  height = bits & 255
  turn = jnp.clip(v * look['bend'] + look['level'], -1, 1)
  in_accent = (height >= (span & 255)) & (height <= ((span >> 8) & 255)) & (turn < 1)
  colour = where(in_accent, look['accent'], look['base'])
  grain = where((seeds & 0x8000) != 0, (bits - MAGIC_BITS) >> 5, row)
  noise = lax.shift_right_logical(hashed(grain * 7919 + seed), jnp.int32(24))
  shades = look['shades']
  wall = shades & 255
  flat = where(turn > 0, shades >> 8, shades >> 16) & 255
  turn = (lax.bitcast_convert_type(jnp.abs(turn) * 256 + MAGIC, jnp.int32)) - MAGIC_BITS
  bright = wall + (((flat - wall) * turn) >> 8)
  bright = bright - ((noise * byte(shades, 3)) >> 8)
  foot = byte(look['accent'], 3)
  foot = (foot >> 5) * 8 - (((bits - MAGIC_BITS) * (foot & 31)) >> 3)
  bright = bright - jnp.clip(foot, 0, 56)
  return colour, jnp.maximum(bright, 0)


def exact_distance(look: dict[str, jax.Array], v: jax.Array, u: jax.Array) -> jax.Array:
  """Metres ahead of the camera of object pixels: wall, top or underside of prisms, shaft or caps of capsules."""
  distance = 1 / look['near']
  head, foot = look['head'], look['foot']
  flat = jnp.maximum(distance, head / jnp.where(jnp.abs(v) < 1e-6, 1e-6, v))
  height = v * distance
  centre = jnp.clip(height, foot, jnp.maximum(head, foot))
  a = 1 + u * u + v * v
  b = look['forward'] + v * centre
  c = look['square'] + centre * centre
  cap = (b - jnp.sqrt(jnp.maximum(b * b - a * c, 0))) / a
  cap = jnp.where((height >= foot) & (height <= head), distance, cap)
  return jnp.where(look['square'] > 0, cap, jnp.where(head == 0, distance, flat))


__all__ = ['LOOKS', 'SHAPES', 'dim', 'exact_distance', 'front', 'paint']
