"""Sun, sky and the eye: radiance to display values."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from s2e_jax.scene import Light

SKY_ON_WALL, SKY_BELOW = 0.8, 0.45  # share of the sky's light on upright faces and on undersides


def display(radiance: jax.Array) -> jax.Array:
  """0..1 of what a screen shows for linear radiance: a square root, close to sRGB, clipped at white."""
  root = jnp.sqrt(jnp.clip(radiance, 0, 1))
  return root * (1.1 - 0.1 * root)


def pack_display(red: jax.Array, green: jax.Array, blue: jax.Array) -> jax.Array:
  """int32 0x00bbggrr of display values in 0..1."""
  r, g, b = ((c * 255 + 0.5).astype(jnp.int32) for c in (red, green, blue))
  return r | (g << 8) | (b << 16)


def dim(word: jax.Array, factor: jax.Array) -> jax.Array:
  """Every channel of int32 0x00bbggrr times factor / 256, factor int32 in 0..256."""
  shift = lambda x: jax.lax.shift_right_logical(x, jnp.int32(8))
  outer = shift((word & 0x00FF00FF) * factor) & 0x00FF00FF
  return outer | (shift((word & 0x0000FF00) * factor) & 0x0000FF00)


def gains(light: Light) -> list[jax.Array]:
  """Three [B]: exposure and white balance of each channel."""
  return [light.exposure * light.white_balance[:, i] for i in range(3)]


def lit_word(light: Light, albedo: list[jax.Array], radiance: jax.Array, axes: int) -> jax.Array:
  """int32 0x00bbggrr of a surface of linear `albedo` (three channels) under `radiance`.

  Arrays broadcast as [B, ...] with `axes` axes after B.
  """
  wide = lambda x: x.reshape(x.shape + (1,) * axes)
  channels = [a * radiance * wide(gain) for a, gain in zip(albedo, gains(light), strict=True)]
  return pack_display(*(display(c) for c in channels))


def fog_word(light: Light) -> jax.Array:
  """int32 [B] 0x00bbggrr of infinitely thick fog: the horizon."""
  return pack_display(*(display(light.horizon[:, i] * gain) for i, gain in enumerate(gains(light))))


def clearness(light: Light, distance: jax.Array, axes: int) -> jax.Array:
  """0..1: share of light that passes the fog over `distance` (m, [B, ...] with `axes` axes after B)."""
  return jnp.exp(-light.fog.reshape(light.fog.shape + (1,) * axes) * distance)


def blend(words: tuple[jax.Array, ...], shares: tuple[jax.Array, ...]) -> jax.Array:
  """int32 0x00bbggrr: words of that form weighted by int32 shares that add up to 256."""
  outer = sum((w & 0x00FF00FF) * s for w, s in zip(words, shares, strict=True))
  green = sum((w & 0x0000FF00) * s for w, s in zip(words, shares, strict=True))
  shift = lambda x: jax.lax.shift_right_logical(x, jnp.int32(8))
  return (shift(outer) & 0x00FF00FF) | (shift(green) & 0x0000FF00)
