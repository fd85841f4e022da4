"""SE(2) frames, headings and the camera projection; every function takes numpy or JAX arrays alike.

Robot frame: x forward, y left, z up. Camera frame: x right, y down, z forward. Angles in radians, yaw
counter-clockwise. Transforms read right to left.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.structs import Camera

Array = Any  # numpy.ndarray or jax.Array


@jax.custom_jvp
def _arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
  """Arc tangent of y / x in the right quadrant, to 3e-7: the odd polynomial of Cephes' atanf on [-0.42, 0.42]."""
  wide, high = jnp.abs(x), jnp.abs(y)
  z = jnp.minimum(wide, high) / jnp.maximum(jnp.maximum(wide, high), 1e-37)
  is_steep = z > 0.41421356  # tan(pi / 8)
  z = jnp.where(is_steep, (z - 1) / (z + 1), z)
  q = z * z
  angle = z + z * q * (-0.333329491539 + q * (0.199777106478 + q * (-0.138776856032 + q * 0.0805374449538)))
  angle = jnp.where(is_steep, angle + math.pi / 4, angle)
  angle = jnp.where(high > wide, math.pi / 2 - angle, angle)
  angle = jnp.where(x < 0, math.pi - angle, angle)
  return jnp.where(y < 0, -angle, angle)


@_arctan2.defjvp
def _arctan2_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
  (y, x), (dy, dx) = primals, tangents
  square = x * x + y * y
  return _arctan2(y, x), (x * dy - y * dx) / jnp.where(square == 0, 1.0, square)


def arctan2(y: Array, x: Array) -> Array:
  """Angle (rad) in [-pi, pi] of directions (x, y), which broadcast; its gradient at the origin is 0.

  XLA's own arctan2 and arctan are wrong in some fused CPU programs, by up to 2.4 rad (jaxlib 0.10.2 and 0.11.2:
  often with 512-bit vectors, in gradients with any); arcsin and arccos rest on them. A test keeps them out.
  """
  if not isinstance(y, jax.Array) and not isinstance(x, jax.Array):
    return np.arctan2(y, x)
  y, x = jnp.broadcast_arrays(y, x)
  return _arctan2(y, x)


def arctan(slope: Array) -> Array:
  """Arc tangent (rad); see `arctan2`."""
  return arctan2(slope, 1.0)


def wrap_angle(angle: Array) -> Array:
  """`angle` brought into [-pi, pi)."""
  return (angle + math.pi) % (2 * math.pi) - math.pi


def rotate(points: Array, angle: Array) -> Array:
  """Points [*B, 2] turned counter-clockwise by angle [*B] (radians)."""
  xp = points.__array_namespace__()
  c, s = xp.cos(angle), xp.sin(angle)
  x, y = points[..., 0], points[..., 1]
  return xp.stack([c * x - s * y, s * x + c * y], axis=-1)


def to_robot_frame(points_in_world: Array, pos_in_world: Array, yaw_in_world: Array) -> Array:
  """World points [*B, 2] (m) seen from a robot at pos [*B, 2] with yaw [*B]."""
  return rotate(points_in_world - pos_in_world, -yaw_in_world)


def to_world_frame(points_in_robot: Array, pos_in_world: Array, yaw_in_world: Array) -> Array:
  """Robot-frame points [*B, 2] (m) in the world; inverse of `to_robot_frame`."""
  return rotate(points_in_robot, yaw_in_world) + pos_in_world


def robot_to_camera(points_in_robot: Array, camera: Camera) -> Array:
  """Points [*B, 3] (m) of the robot frame in the camera frame (x right, y down, z forward)."""
  xp = points_in_robot.__array_namespace__()
  forward = points_in_robot[..., 0] - camera.mount_forward
  left = points_in_robot[..., 1]
  up = points_in_robot[..., 2] - camera.mount_height
  c, s = math.cos(camera.pitch), math.sin(camera.pitch)
  return xp.stack([-left, -s * forward - c * up, c * forward - s * up], axis=-1)


def _distort(x: Array, y: Array, camera: Camera) -> tuple[Array, Array]:
  """Normalised image coordinates after lens distortion (OpenCV's published pinhole and fisheye models)."""
  xp = x.__array_namespace__()
  if camera.model == 'fisheye':
    k = (*camera.distortion, 0.0, 0.0, 0.0, 0.0)[:4]
    r = xp.sqrt(x * x + y * y)
    theta = arctan(r)
    t2 = theta * theta
    theta_d = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    scale = xp.where(r > 1e-9, theta_d / xp.where(r > 1e-9, r, 1.0), 1.0)
    return x * scale, y * scale
  if camera.distortion:
    k1, k2, p1, p2, k3 = (*camera.distortion, 0.0, 0.0, 0.0, 0.0, 0.0)[:5]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return (
      x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
      y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )
  return x, y


def project(points_in_robot: Array, camera: Camera, near: float = 0.05) -> tuple[Array, Array]:
  """Pixels [*B, 2] (u right, v down) of robot-frame points [*B, 3], and [*B] bool: in front of the lens."""
  xp = points_in_robot.__array_namespace__()
  p = robot_to_camera(points_in_robot, camera)
  visible = p[..., 2] > near
  z = xp.where(visible, p[..., 2], 1.0)
  x, y = _distort(p[..., 0] / z, p[..., 1] / z, camera)
  return xp.stack([camera.fx * x + camera.cx, camera.fy * y + camera.cy], axis=-1), visible


def interpolate_poses(
  at: np.ndarray, stamps: np.ndarray, position: np.ndarray, yaw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Position [n, d] and yaw [n] at times `at` [n], linear between stamped poses ([T], [T, d], [T]).

  `stamps` must increase; yaw is unwrapped before it is interpolated; times outside are clamped to the ends.
  """
  pos = np.stack([np.interp(at, stamps, position[:, i]) for i in range(position.shape[1])], axis=-1)
  return pos, np.interp(at, stamps, np.unwrap(yaw))
