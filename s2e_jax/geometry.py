"""SE(2) frames, headings and the camera projection; every function takes numpy or JAX arrays alike.

Robot frame: x forward, y left, z up. Camera frame: x right, y down, z forward. Angles in radians, yaw
counter-clockwise. Transforms read right to left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from s2e_jax.structs import Camera

Array = Any  # numpy.ndarray or jax.Array


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
    theta = xp.arctan(r)
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
