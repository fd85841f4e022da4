"""Records that rooms exchange: cameras, footprints, observations, mixtures, batches.

Axes by letter, the same everywhere: B batch, K history frames, W windows of one segment, H waypoints,
M mixture modes (anchors), N tokens, D features; images are `[h, w, 3]` uint8 RGB. Robot frame: x forward,
y left, z up, metres, radians, yaw counter-clockwise. Camera frame: x right, y down, z forward.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import struct

CAMERA_MODELS = ('pinhole', 'fisheye', 'unknown')
DT = 0.25  # seconds between history frames and between waypoints: policy, history and labels run at 4 Hz
NUM_CLEARANCES = 8  # sectors, from 45 degrees to the right to 45 degrees to the left of the robot
CLEARANCE_RANGE = 10.0  # m: what is farther away counts as this far
MIN_STEP_LENGTH = (
  0.01  # metres per DT: floor of the velocity scale v; less would blow up the noise of standing still
)


@dataclasses.dataclass(frozen=True)
class Camera:
  """Intrinsics and mounting of a forward camera, the part of a data contract that pictures depend on.

  fx, fy, cx, cy: pixels, for images of `width` x `height` pixels.
  model: 'pinhole' (distortion = OpenCV k1 k2 p1 p2 k3), 'fisheye' (Kannala-Brandt k1..k4) or 'unknown'
    (intrinsics are a guess: pictures are drawn, but marked).
  mount_height: metres of the optical centre above the ground. mount_forward: metres ahead of the robot origin.
  pitch: radians, positive looks down. Roll is zero.
  """

  width: int
  height: int
  fx: float
  fy: float
  cx: float
  cy: float
  model: str = 'unknown'
  distortion: tuple[float, ...] = ()
  mount_height: float = 0.5
  mount_forward: float = 0.0
  pitch: float = 0.0

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    if self.model not in CAMERA_MODELS:
      raise ValueError(f'camera model={self.model!r} must be one of {CAMERA_MODELS}')
    for name in ('width', 'height', 'fx', 'fy', 'mount_height'):
      if not getattr(self, name) > 0:
        raise ValueError(f'camera {name}={getattr(self, name)!r} must be > 0')
    object.__setattr__(self, 'distortion', tuple(float(k) for k in self.distortion))

  @classmethod
  def guess(cls, width: int, height: int, hfov: float = 1.57, **mount: Any) -> Camera:
    """An 'unknown' camera of the given horizontal field of view (radians), for data without calibration."""
    import math

    f = width / 2 / math.tan(hfov / 2)
    return cls(width, height, f, f, width / 2, height / 2, model='unknown', **mount)

  def resized(self, width: int, height: int) -> Camera:
    """The same camera after its images were resized (not cropped) to `width` x `height`."""
    sx, sy = width / self.width, height / self.height
    return dataclasses.replace(
      self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy
    )

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form, inverse of `from_dict`."""
    return dataclasses.asdict(self) | {'distortion': list(self.distortion)}

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> Camera:
    """Camera from `to_dict`'s form; unknown keys raise TypeError."""
    return cls(**(fields | {'distortion': tuple(fields.get('distortion', ()))}))


@dataclasses.dataclass(frozen=True)
class Footprint:
  """Outline of the robot on the ground: `length` (x) by `width` (y) metres, centred on the robot origin."""

  length: float = 0.6
  width: float = 0.4

  def __post_init__(self) -> None:
    """Raises ValueError when a side is not positive."""
    if not (self.length > 0 and self.width > 0):
      raise ValueError(f'footprint {self.length} x {self.width} m must have positive sides')


@struct.dataclass
class Observation:
  """What the policy sees at one moment.

  frames: [*B, K, h, w, 3] uint8, oldest first, 0.25 s apart.
  goal_in_robot: [*B, 2] metres (ignored where has_goal is False).
  has_goal: [*B] bool.
  """

  frames: jax.Array
  goal_in_robot: jax.Array
  has_goal: jax.Array


@struct.dataclass
class TrajectoryMixture:
  """Mixture of M modes over H waypoints in the robot frame (S2E, arXiv:2507.22028, AGDM).

  logits: [*B, M] unnormalised anchor scores.
  mean: [*B, M, H, 2] waypoints in units of `step_length`, x forward y left.
  log_std: [*B, M, H, 2] log standard deviations along x and y, same units.
  rho: [*B, M, H] correlation of x and y, within +-0.5.
  step_length: [*B, M] velocity scale v in metres per 0.25 s step; metric waypoints are step_length * mean.
  """

  logits: jax.Array
  mean: jax.Array
  log_std: jax.Array
  rho: jax.Array
  step_length: jax.Array

  @property
  def waypoints_in_robot(self) -> jax.Array:
    """[*B, M, H, 2] mean waypoints in metres."""
    return self.step_length[..., None, None] * self.mean


@struct.dataclass
class SegmentBatch:
  """B segments of consecutive 4 Hz frames, each serving W overlapping windows (F = W + K - 1 frames).

  Window w of a segment looks at frames w .. w+K-1; its present is frame w+K-1.

  frames: [B, F, h, w, 3] uint8.
  goal_in_robot: [B, W, 2] metres, in the robot frame of the window's present.
  has_goal: [B, W] bool.
  waypoints_in_robot: [B, W, H, 2] metres, 0.25 s apart, the first one 0.25 s ahead.
  waypoint_mask: [B, W, H] bool, False past the end of the clip.
  window_mask: [B, W] bool, False where a window has too little future to learn from.
  clearances: [B, W, NUM_CLEARANCES] metres to the nearest thing in each sector ahead, right to left, NaN where the
    source does not know (real video).
  """

  frames: jax.Array
  goal_in_robot: jax.Array
  has_goal: jax.Array
  waypoints_in_robot: jax.Array
  waypoint_mask: jax.Array
  window_mask: jax.Array
  clearances: jax.Array
