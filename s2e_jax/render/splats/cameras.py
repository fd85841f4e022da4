"""Pinhole cameras for splats, of the simulator's views and of host poses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.render.view import View


@struct.dataclass
class Cameras:
  """B pinhole cameras; camera frame x right, y down, z forward; pixel (i, j) has its centre at (j + .5, i + .5).

  cam_from_world: [B, 3, 3] rotations. translation: [B, 3] m, p_cam = cam_from_world p_world + translation.
  focal: [B, 2] pixels along x and y. centre: [B, 2] pixels (x, y) of the optical axis.
  """

  cam_from_world: jax.Array
  translation: jax.Array
  focal: jax.Array
  centre: jax.Array


def cameras_of(view: View, height: int, width: int) -> Cameras:
  """The cameras of B views, for h x w pixels: the same rays as the simulator's pictures (lens shift included)."""
  c, s, zero, one = jnp.cos(view.yaw), jnp.sin(view.yaw), jnp.zeros_like(view.yaw), jnp.ones_like(view.yaw)
  rows = (jnp.stack([s, -c, zero], -1), jnp.stack([zero, zero, -one], -1), jnp.stack([c, s, zero], -1))
  cam_from_world = jnp.stack(rows, axis=-2)
  focal = 0.5 * width / view.half_width
  # the middle row looks down by tan_pitch, so the axis, which is level, pierces the image above the middle
  centre_y = 0.5 * height - view.tan_pitch * focal
  return Cameras(
    cam_from_world=cam_from_world,
    translation=-jnp.sum(cam_from_world * view.position[:, None, :], axis=-1),
    focal=jnp.stack([focal, focal], axis=-1),
    centre=jnp.stack([jnp.broadcast_to(0.5 * width, focal.shape), centre_y], axis=-1),
  )


def look_at(position: jax.Array, target: jax.Array, half_width: float, height: int, width: int) -> Cameras:
  """Cameras at position [B, 3] m that look at target [B, 3], upright, `half_width`: tan of half the field of view.

  A camera that looks straight up or down has no upright: move the target a little aside.
  """
  forward = target - position
  forward = forward / jnp.linalg.norm(forward, axis=-1, keepdims=True)
  right = jnp.cross(forward, jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), forward.shape))
  right = right / jnp.linalg.norm(right, axis=-1, keepdims=True)
  cam_from_world = jnp.stack([right, jnp.cross(forward, right), forward], axis=-2)
  focal = jnp.full((position.shape[0], 2), 0.5 * width / half_width)
  return Cameras(
    cam_from_world=cam_from_world,
    translation=-jnp.sum(cam_from_world * position[:, None, :], axis=-1),
    focal=focal,
    centre=jnp.broadcast_to(jnp.array([0.5 * width, 0.5 * height]), focal.shape),
  )
