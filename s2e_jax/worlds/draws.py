"""Random numbers of a scene, handed out piece by piece while tracing."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

Limits = tuple[float, float] | np.ndarray | jax.Array


class Draws:
  """Hands out uniforms in [0, 1) from one array drawn from a key, which it consumes."""

  def __init__(self, key: jax.Array, size: int):
    self._values = jax.random.uniform(key, (size,))
    self._next = 0

  @property
  def num_taken(self) -> int:
    """How many have been handed out."""
    return self._next

  def take(self, *shape: int) -> jax.Array:
    """The next uniforms, of this shape."""
    first, self._next = self._next, self._next + math.prod(shape)
    if self._next > self._values.shape[0]:
      raise RuntimeError(f'{self._next} uniforms needed, only {self._values.shape[0]} were drawn')
    return self._values[first : self._next].reshape(shape)

  def within(self, limits: Limits, *shape: int) -> jax.Array:
    """The next uniforms, scaled to limits (low, high) that broadcast against shape."""
    return lerp(limits[0], limits[1], self.take(*shape))

  def sign(self, *shape: int) -> jax.Array:
    """-1 or 1, equally likely."""
    return jnp.where(self.take(*shape) < 0.5, -1.0, 1.0)


def lerp(low: float | np.ndarray | jax.Array, high: float | np.ndarray | jax.Array, share: jax.Array) -> jax.Array:
  """low + share * (high - low)."""
  return share * (high - low) + low


def pick(share: jax.Array, cumulative: np.ndarray) -> jax.Array:
  """Index (int32) of the entry of `cumulative` weights [N], ending in 1, that uniforms [*B] fall to."""
  index = jnp.sum(share[..., None] >= cumulative, axis=-1, dtype=jnp.int32)
  return jnp.minimum(index, cumulative.shape[0] - 1)


def spread(num: int) -> np.ndarray:
  """[num] int32, cells 0..num-1 in an order in which every first few lie far apart."""
  stride = next((s for s in range(max(1, round(0.382 * num)), num + 1) if math.gcd(s, num) == 1), 1)
  return (np.arange(num, dtype=np.int32) * stride + num // 3) % max(num, 1)
