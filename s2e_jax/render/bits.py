"""Integer tricks of the inner loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

# Adding this to a float32 below 2^21 leaves its rounded value in the low 22 bits: a float to int conversion that
# needs no range check. The rows counted from its bits start at MAGIC_ROW.
MAGIC = 12582912.0
MAGIC_BITS = 0x4B400000
MAGIC_ROW = MAGIC_BITS >> 8


def hashed(value: jax.Array) -> jax.Array:
  """int32 bits scrambled well enough for textures."""
  n = value * jnp.int32(0x27D4EB2D)
  n = n ^ lax.shift_right_logical(n, jnp.int32(15))
  return n * jnp.int32(0x2C1B3C6D)


def pack_halves(a: jax.Array, b: jax.Array) -> jax.Array:
  """int32 holding two float32 values cut to 16 bits (8 bits of precision)."""
  bits = lambda x: lax.bitcast_convert_type(x, jnp.int32)
  return (bits(a) & -65536) | lax.shift_right_logical(bits(b), jnp.int32(16))


def unpack_halves(word: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The two values of `pack_halves`."""
  floats = lambda x: lax.bitcast_convert_type(x, jnp.float32)
  return floats(word & -65536), floats(word << 16)
