"""The sky: a gradient, the glow of the sun, clouds that are sums of products of a row and a column."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.render import light as lights
from s2e_jax.render.view import View
from s2e_jax.scene import Light

# Waves of the clouds: along the azimuth (per radian), against the elevation, weight.
WAVES = ((2.0, 1.3, 1.0), (5.0, 2.9, 0.8), (11.0, 4.7, 0.6), (23.0, 9.1, 0.4))


@struct.dataclass
class SkyColumns:
  """What the sky of W columns is mixed from, [B, 1, W] each.

  waves: multiplied with those of the rows and added up to clouds. glow: squared distance from the sun.
  cover: [B, 1, 1] of clouds.
  """

  waves: tuple[jax.Array, ...]
  glow: jax.Array
  cover: jax.Array


def sky_of(
  light: Light, view: View, u: jax.Array, v: jax.Array
) -> tuple[SkyColumns, list[jax.Array], list[jax.Array]]:
  """(columns, words, numbers) of the sky for columns u [B, W] and rows v [B, H].

  words: two int32 [B, H], 0x00bbggrr of the blue and the white of each row. numbers: [B, H], squared distance
  from the sun and the waves. Clouds stand still in the world and differ by scene.
  """
  one = lambda x: x[:, None]
  climb = jnp.clip(v, 0, 1.5)
  share = jnp.sqrt(climb / (climb + 0.5))
  zenith, horizon = light.zenith, light.horizon
  blue, white = [], []
  for i, gain in enumerate(lights.gains(light)):
    low, high = one(horizon[:, i]), one(zenith[:, i])
    value = low + (high - low) * share
    blue.append(lights.display(value * one(gain)))
    white.append(lights.display((0.55 * value + 0.45 * one(horizon.max(-1))) * one(gain)))
  azimuth = view.yaw[:, None] - u / (1 + 0.28 * u * u)
  phase = one(light.sun[:, 0] * 37.0 + light.zenith[:, 2] * 91.0)
  # Clouds lie on a ceiling, so they shrink towards the horizon.
  ceiling = 1 / (climb + 0.12)
  c, s = jnp.cos(view.yaw), jnp.sin(view.yaw)
  ahead = c * light.sun[:, 0] + s * light.sun[:, 1]
  left = c * light.sun[:, 1] - s * light.sun[:, 0]
  safe = jnp.maximum(ahead, 1e-2)
  hidden = jnp.where(ahead > 1e-2, 0.0, 100.0)
  numbers = [(v - one(light.sun[:, 2] / safe)) ** 2]
  numbers += [weight * _wave(b * ceiling + phase * a) for a, b, weight in WAVES]
  columns = SkyColumns(
    waves=tuple(_wave(a * azimuth + 1.7 * phase + b)[:, None] for a, b, _ in WAVES),
    glow=((one(-left / safe) - u) ** 2 + one(hidden))[:, None],
    cover=one(_wave(light.sun[:, 1] * 57.0 + light.zenith[:, 0] * 71.0))[:, None] * 0.6,
  )
  return columns, [lights.pack_display(*blue), lights.pack_display(*white)], numbers


def _wave(angle: jax.Array) -> jax.Array:
  """About the sine of an angle (rad): two parabolas."""
  turn = angle * (0.5 / jnp.pi)
  p = 2 * (turn - jnp.floor(turn)) - 1
  return -4 * p * (1 - jnp.abs(p))


def paint(columns: SkyColumns, words: jax.Array, numbers: jax.Array) -> jax.Array:
  """int32 [B, h, W] 0x00bbggrr of rows with words [2, B, h, 1] and numbers [5, B, h, 1]."""
  clouds = columns.cover
  for i, across in enumerate(columns.waves):
    clouds = clouds + numbers[1 + i] * across
  glow = jnp.maximum(1 - 2.5 * (numbers[0] + columns.glow), 0)
  share = jnp.clip(clouds * 0.5, 0, 0.8) + glow * glow
  share = (jnp.minimum(share, 1) * 256).astype(jnp.int32)
  return lights.blend((words[0], words[1]), (256 - share, share))
