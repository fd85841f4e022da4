"""Where the camera is and which ray belongs to which pixel."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.scene import Mount


@struct.dataclass
class View:
  """B level cameras, the middle row lowered by lens shift: verticals of the world stay vertical in the image.

  Pixel (i, j) of h x w looks along `forward + u_j * right + v_i * up`, `right` and `up` of unit length and
  horizontal resp. vertical, with u_j = ((j + .5) / w * 2 - 1) * half_width and
  v_i = -((i + .5) / h * 2 - 1) * half_width * h / w - tan_pitch.

  position: [B, 3] m in the world. yaw: [B] rad in the world. tan_pitch: [B] slope that the middle row looks down.
  half_width: [B] tan of half the horizontal field of view.
  """

  position: jax.Array
  yaw: jax.Array
  tan_pitch: jax.Array
  half_width: jax.Array


def view_of(mount: Mount, pos: jax.Array, yaw: jax.Array, ground_z: jax.Array) -> View:
  """View of robots at pos [B, 2] (m), yaw [B] (rad), on ground of height ground_z [B] (m), camera as mounted."""
  x = pos[..., 0] + mount.forward * jnp.cos(yaw)
  y = pos[..., 1] + mount.forward * jnp.sin(yaw)
  z = jnp.broadcast_to(ground_z + mount.height, x.shape)
  return View(
    position=jnp.stack([x, y, z], -1),
    yaw=yaw,
    tan_pitch=jnp.broadcast_to(mount.tan_pitch, x.shape),
    half_width=jnp.broadcast_to(mount.half_width, x.shape),
  )


def column_slopes(view: View, width: int) -> jax.Array:
  """u [B, w]: metres to the right per metre forward, one value per image column."""
  j = (jnp.arange(width, dtype=jnp.float32) + 0.5) * (2.0 / width) - 1.0
  return view.half_width[:, None] * j


@struct.dataclass
class Rows:
  """Slopes of the rows of B images, upright or seen by a camera that looks down by a static angle.

  first, step: [B] slope of row 0 in the camera and how much the next row's is less. pitch: rad.
  """

  first: jax.Array
  step: jax.Array
  pitch: float = struct.field(pytree_node=False, default=0.0)

  def in_camera(self, count: int) -> jax.Array:
    """[B, count] slopes in the camera's own frame."""
    return self.first[:, None] - self.step[:, None] * jnp.arange(count, dtype=jnp.float32)

  def slopes(self, count: int) -> jax.Array:
    """[B, count] m up per m forward, both measured level."""
    v = self.in_camera(count)
    if not self.pitch:
      return v
    c, s = math.cos(self.pitch), math.sin(self.pitch)
    return (v * c - s) / jnp.maximum(c + v * s, 1e-3)

  def stretch(self, count: int) -> jax.Array:
    """[B, count]: by how much a row's slopes to the right grow when they are measured level."""
    c, s = math.cos(self.pitch), math.sin(self.pitch)
    return 1 / jnp.maximum(c + self.in_camera(count) * s, 1e-3)

  def index(self, v: jax.Array) -> jax.Array:
    """Row, as a fraction, in which the level slope v [B, ...] is seen."""
    wide = lambda f: f.reshape(f.shape + (1,) * (v.ndim - 1))
    if self.pitch:
      c, s = math.cos(self.pitch), math.sin(self.pitch)
      # What lies beside or behind the camera is beyond the last row.
      v = jnp.where(c - v * s > 1e-3, (v * c + s) / jnp.maximum(c - v * s, 1e-3), -1e6)
    return wide(self.first / self.step) - v * wide(1 / self.step)


def rows_of(view: View, height: int, width: int, pitch: float = 0.0) -> Rows:
  """Rows of h x w pixels."""
  step = view.half_width * (2 / width)
  return Rows(first=step * ((height - 1) / 2) - view.tan_pitch, step=step, pitch=pitch)
