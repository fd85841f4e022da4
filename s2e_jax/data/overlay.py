"""Paths drawn on frames through the camera model, and top-down in metres.

Everything takes arrays and a Camera, so inspection, reports and viewers share it. Pixels follow
`geometry.project`: pixel (row i, column j) covers [j, j + 1) x [i, i + 1). Colours are RGB, 0 to 255.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from s2e_jax import geometry
from s2e_jax.structs import Camera, Footprint

NEAR = 0.1  # metres in front of the lens; nearer ground is not drawn
BLUE, ORANGE, GREEN, RED, WHITE = (40, 150, 255), (255, 170, 30), (60, 220, 90), (240, 60, 50), (255, 255, 255)
_STEP = 0.1  # metres between the points of a ribbon
_SHIFT = 4  # binary digits of a pixel that OpenCV draws with
_FARTHEST = 16_000.0  # pixels; OpenCV's integers overflow further out

Array = np.ndarray
Colour = tuple[int, int, int]


def enlarged(image: Array, camera: Camera, min_width: int = 640) -> tuple[Array, Camera]:
  """The image magnified by the least whole number that makes it `min_width` wide, and the camera that fits it."""
  factor = max(1, math.ceil(min_width / image.shape[1]))
  size = image.shape[1] * factor, image.shape[0] * factor
  return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), camera.resized(*size)


def lens_reach(camera: Camera) -> float:
  """Largest tangent of the angle to the optical axis up to which the distortion model still moves outwards.

  Beyond it a polynomial model folds back and would draw what lies outside the picture into it.
  """
  tangent = np.linspace(0, 8.0, 1601)
  flat = np.stack([np.ones_like(tangent), -tangent, np.zeros_like(tangent)], axis=-1)
  # A level camera at the origin sees the point (1, -t, 0) at t on its horizontal axis.
  level = Camera(2, 2, 1.0, 1.0, 1e-9, 1e-9, camera.model, camera.distortion, mount_height=1e-9)
  radius = geometry.project(flat, level)[0][:, 0]
  folds = np.flatnonzero(np.diff(radius) <= 0)
  return float(tangent[folds[0]]) if len(folds) else math.inf


def project_ground(points_in_robot: Array, camera: Camera, height: float = 0.0) -> tuple[Array, Array]:
  """Pixels [n, 2] of points [n, 2] `height` m above the ground, and [n] bool: before the lens, in its reach."""
  points = np.asarray(points_in_robot, np.float64).reshape(-1, 2)
  points = np.concatenate([points, np.full((len(points), 1), height)], axis=-1)
  pixels, visible = geometry.project(points, camera, near=NEAR)
  if camera.distortion:
    ray = geometry.robot_to_camera(points, camera)
    visible = visible & (np.hypot(ray[:, 0], ray[:, 1]) < lens_reach(camera) * ray[:, 2])
  return pixels, visible & np.isfinite(pixels).all(axis=-1)


def resampled(waypoints_in_robot: Array, step: float = _STEP) -> Array:
  """[m, 2] points every `step` m along a polyline [n, 2]; its first point alone if it has no length."""
  points = np.asarray(waypoints_in_robot, np.float64).reshape(-1, 2)
  length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
  if len(points) < 2 or length[-1] < 1e-6:
    return points[:1]
  at = np.linspace(0, length[-1], max(2, math.ceil(length[-1] / step) + 1))
  return np.stack([np.interp(at, length, points[:, i]) for i in range(2)], axis=-1)


def ground_ribbon(waypoints_in_robot: Array, camera: Camera, width_m: float) -> Array:
  """[q, 4, 2] pixels of the quadrangles that a strip of `width_m` along a path [n, 2] covers on the ground.

  Pieces that reach behind the lens are left out; a path without length gives none.
  """
  middle = resampled(waypoints_in_robot)
  if len(middle) < 2:
    return np.zeros((0, 4, 2))
  along = np.gradient(middle, axis=0)
  along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
  aside = width_m / 2 * np.stack([-along[:, 1], along[:, 0]], axis=-1)
  left, left_seen = project_ground(middle + aside, camera)
  right, right_seen = project_ground(middle - aside, camera)
  seen = left_seen & right_seen
  quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
  return quads[seen[:-1] & seen[1:]]


def _fixed(pixels: Array) -> Array:
  """Pixels as OpenCV's fixed-point integers, whose pixel centres lie at whole numbers."""
  return np.round((np.clip(pixels, -_FARTHEST, _FARTHEST) - 0.5) * 2**_SHIFT).astype(np.int32)


def draw_path(
  image: Array,
  waypoints_in_robot: Array,
  camera: Camera,
  color: Colour = BLUE,
  width_m: float = 0.4,
  *,
  alpha: float = 0.45,
  dots: bool = True,
  from_robot: bool = True,
) -> Array:
  """A copy of `image` [h, w, 3] uint8 RGB with a path on the ground: a ribbon `width_m` wide, a dot per waypoint.

  waypoints_in_robot: [n, 2] m. from_robot: the ribbon starts at the robot origin. alpha: opacity of the ribbon.
  """
  waypoints = np.asarray(waypoints_in_robot, np.float64).reshape(-1, 2)
  waypoints = waypoints[np.isfinite(waypoints).all(axis=-1)]
  out = np.ascontiguousarray(image).copy()
  path = np.concatenate([np.zeros((1, 2)), waypoints]) if from_robot else waypoints
  quads = ground_ribbon(path, camera, width_m)
  if len(quads):
    mask = np.zeros(out.shape[:2], np.uint8)
    for quad in _fixed(quads):
      cv2.fillConvexPoly(mask, quad, 255, shift=_SHIFT)
    share = (alpha / 255 * mask)[..., None]
    out = np.round(out * (1 - share) + np.array(color) * share).astype(np.uint8)
  if dots:
    pixels, visible = project_ground(waypoints, camera)
    radius = max(1.0, out.shape[1] / 160)
    for x, y in _fixed(pixels[visible]):
      centre, size = (int(x), int(y)), round(radius * 2**_SHIFT)
      cv2.circle(out, centre, size + 2**_SHIFT, (20, 20, 20), -1, cv2.LINE_AA, _SHIFT)
      cv2.circle(out, centre, size, color, -1, cv2.LINE_AA, _SHIFT)
  return out


def draw_goal(
  image: Array, goal_in_robot: Array, camera: Camera, color: Colour = GREEN, height_m: float = 1.0
) -> Array:
  """A copy of `image` with a pole of `height_m` that stands on the goal [2] (m), if the goal is in view."""
  out = np.ascontiguousarray(image).copy()
  foot, foot_seen = project_ground(goal_in_robot, camera)
  top, top_seen = project_ground(goal_in_robot, camera, height_m)
  if foot_seen[0] and top_seen[0]:
    width = max(1, out.shape[1] // 250)
    a, b = (tuple(int(v) for v in _fixed(p[0])) for p in (foot, top))
    cv2.line(out, a, b, (20, 20, 20), width + 2, cv2.LINE_AA, _SHIFT)
    cv2.line(out, a, b, color, width, cv2.LINE_AA, _SHIFT)
    cv2.circle(out, b, round(max(2.0, out.shape[1] / 110) * 2**_SHIFT), color, -1, cv2.LINE_AA, _SHIFT)
  return out


def draw_text(image: Array, lines: list[str], scale: float = 1.0) -> Array:
  """A copy of `image` with lines of text in its top left corner, light on a dark band."""
  out = np.ascontiguousarray(image).copy()
  size = scale * max(0.35, out.shape[1] / 1500)
  step = round(32 * size)
  out[: min(len(out), step * len(lines) + step // 4)] //= 2
  for i, line in enumerate(lines):
    cv2.putText(out, line, (6, step * (i + 1) - step // 5), cv2.FONT_HERSHEY_SIMPLEX, size, WHITE, 1, cv2.LINE_AA)
  return out


def as_matplotlib(color: Colour) -> tuple[float, float, float]:
  """RGB in [0, 1]."""
  return color[0] / 255, color[1] / 255, color[2] / 255


def draw_top_down(
  ax: Any,
  waypoints_in_robot: Array,
  color: Colour = BLUE,
  *,
  label: str | None = None,
  goal_in_robot: Array | None = None,
  footprint: Footprint | None = None,
  dots: bool = True,
  **style: Any,
) -> None:
  """Draws a path [n, 2] (m) from above on matplotlib axes: forward is up, left is left.

  goal_in_robot: [2] m. footprint: outline at the robot. style: further arguments of `Axes.plot`.
  Call `finish_top_down` when all paths are drawn.
  """
  path = np.concatenate([np.zeros((1, 2)), np.asarray(waypoints_in_robot, np.float64).reshape(-1, 2)])
  style = {'linewidth': 2} | ({'marker': 'o', 'markersize': 3} if dots else {}) | style
  ax.plot(path[:, 1], path[:, 0], color=as_matplotlib(color), label=label, **style)
  if goal_in_robot is not None:
    ax.plot([goal_in_robot[1]], [goal_in_robot[0]], '*', color=as_matplotlib(GREEN), markersize=11, label='goal')
  if footprint is not None:
    x, y = footprint.length / 2, footprint.width / 2
    ax.plot([y, y, -y, -y, y], [-x, x, x, -x, -x], color='0.3', linewidth=1)


def finish_top_down(ax: Any, min_span: float = 2.0) -> None:
  """Equal scales, at least `min_span` m of ground, left to the left, and named axes."""
  ax.relim()
  ax.autoscale_view()
  (y0, y1), (x0, x1) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
  # A long path would otherwise be a sliver.
  half_y = max(y1 - y0, min_span, (x1 - x0) / 2) / 2
  half_x = max(x1 - x0, min_span, (y1 - y0) / 2) / 2
  ax.set_xlim((y0 + y1) / 2 + half_y, (y0 + y1) / 2 - half_y)
  ax.set_ylim((x0 + x1) / 2 - half_x, (x0 + x1) / 2 + half_x)
  ax.set_aspect('equal', adjustable='box')
  ax.set_xlabel('y left (m)')
  ax.set_ylabel('x forward (m)')
  ax.grid(True, alpha=0.3)
