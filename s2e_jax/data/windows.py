"""Windows cut from clips, in plain numpy: future waypoints, goals and masks in the robot frame."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from s2e_jax import geometry
from s2e_jax.structs import DT, MIN_STEP_LENGTH, NUM_CLEARANCES

# Stamps jitter by rounding; a millisecond is 2 mm at 2 m/s, so an end of clip this close still counts as reached.
_SLACK_S = 1e-3


@dataclasses.dataclass(frozen=True)
class SegmentSpec:
  """How windows are cut.

  num_history: K frames of history, the present one included. num_windows: W windows per segment.
  horizon: H future waypoints, dt seconds apart. goal_min_s, goal_max_s: how far ahead goals are drawn (s).
  goal_dropout: probability that a window has no goal. min_waypoints: windows with fewer true waypoints are masked.
  max_gap_s: a clip ends at a hole between stamps longer than this, and another begins behind it: nobody knows how
    the robot moved there.
  """

  num_history: int
  num_windows: int
  horizon: int = 10
  dt: float = DT
  goal_min_s: float = 5.0
  goal_max_s: float = 20.0
  goal_dropout: float = 0.5
  min_waypoints: int = 5
  max_gap_s: float = 1.0

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    for name in ('num_history', 'num_windows', 'horizon'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    if not self.dt > 0:
      raise ValueError(f'dt={self.dt} must be > 0 seconds')
    if not self.horizon_s <= self.goal_min_s <= self.goal_max_s:
      raise ValueError(
        f'goal_min_s={self.goal_min_s} must lie between the horizon of {self.horizon_s} s (a nearer goal would '
        f'give the answer away) and goal_max_s={self.goal_max_s}'
      )
    if not 0 <= self.goal_dropout <= 1:
      raise ValueError(f'goal_dropout={self.goal_dropout} must be a probability')
    if not 1 <= self.min_waypoints <= self.horizon:
      raise ValueError(f'min_waypoints={self.min_waypoints} must be between 1 and horizon={self.horizon}')
    if not self.max_gap_s > 0:
      raise ValueError(f'max_gap_s={self.max_gap_s} must be > 0 seconds')

  @property
  def horizon_s(self) -> float:
    """Seconds from the present to the last waypoint."""
    return self.horizon * self.dt

  @property
  def num_frames(self) -> int:
    """F = W + K - 1 frames of a segment."""
    return self.num_windows + self.num_history - 1


def frame_grid(stamps: np.ndarray, dt: float = DT, phase: int = 0) -> np.ndarray:
  """Indices [N] int of the frames that lie on a grid of `dt` seconds starting at frame `phase`.

  A clip recorded at 1/dt within 10 % keeps every frame: choosing by time would now and then skip or double one
  because of jitter. Otherwise the frame nearest to each grid time is taken, ties to the earlier; below 1/dt frames
  repeat, as they would for a policy that runs faster than its camera.
  stamps: [T] seconds, increasing.
  """
  if len(stamps) == 1 or abs(np.median(np.diff(stamps)) / dt - 1) <= 0.1:
    return np.arange(len(stamps))
  times = np.arange(stamps[phase], stamps[-1] + _SLACK_S, dt)
  right = np.clip(np.searchsorted(stamps, times), 1, len(stamps) - 1)
  return np.where(times - stamps[right - 1] <= stamps[right] - times, right - 1, right)


def num_phases(stamps: np.ndarray, dt: float = DT) -> int:
  """Number of different grids that `frame_grid` can lay over a clip (1 at about 1/dt, 8 at 30 Hz)."""
  if len(stamps) == 1 or abs(np.median(np.diff(stamps)) / dt - 1) <= 0.1:
    return 1
  return max(1, min(len(stamps), int(np.searchsorted(stamps, stamps[0] + dt - _SLACK_S))))


def is_hole(stamps: np.ndarray, max_gap_s: float) -> np.ndarray:
  """[T - 1] bool: whether frames i and i + 1 are more than `max_gap_s` apart."""
  return np.diff(stamps) > max_gap_s + _SLACK_S


def end_of_continuity(stamps: np.ndarray, max_gap_s: float) -> np.ndarray:
  """[T] seconds: for each frame the time up to which the clip goes on without a hole longer than `max_gap_s`."""
  holes = np.flatnonzero(is_hole(stamps, max_gap_s))
  ends = np.append(stamps[holes], stamps[-1])
  return ends[np.searchsorted(holes, np.arange(len(stamps)), side='left')]


def num_true_waypoints(stamps: np.ndarray, spec: SegmentSpec) -> np.ndarray:
  """[T] int: how many of the H waypoints of a window at each frame lie within the clip, before any hole."""
  ahead = end_of_continuity(stamps, spec.max_gap_s) - stamps
  return np.clip(np.floor((ahead + _SLACK_S) / spec.dt), 0, spec.horizon).astype(int)


def segment_labels(clip: Any, present_indices: Any, spec: SegmentSpec, rng: np.random.Generator) -> dict[str, Any]:
  """Labels of the W windows whose presents are the frames `present_indices` of `clip`, in each robot's frame.

  clip: anything with stamps [T] s, position [T, 2] m, yaw [T], maybe clearances [T, S] m (`Clip`, `ClipInfo`).
  present_indices: [W] frame indices; -1 marks a window that does not exist.
  rng: draws goals and goal dropout, the same number of draws whatever the clip.
  Returns goal_in_robot [W, 2], has_goal [W], waypoints_in_robot [W, H, 2], waypoint_mask [W, H], window_mask [W],
  clearances [W, S] as in `structs.SegmentBatch`. Waypoints are interpolated between the stamped poses at exactly
  t0 + dt k; past the end they stay at the last pose before it, masked. A goal is the own position uniformly
  [goal_min_s, goal_max_s] ahead, or at the end of the clip if that comes sooner; there is none if the end lies
  within the horizon.
  """
  present = np.asarray(present_indices, int)
  exists = present >= 0
  present = np.where(exists, present, present.max(initial=0))
  clearances = np.full((len(present), NUM_CLEARANCES), np.nan, np.float32)
  known = getattr(clip, 'clearances', None)
  if known is not None:
    clearances[exists] = known[present[exists]]
  # Only this part of the clip matters; the rest of a long one would cost time for nothing.
  stamps = np.asarray(clip.stamps, np.float64)
  reach = stamps[present.max()] + max(spec.goal_max_s, spec.horizon_s) + 2 * _SLACK_S
  part = slice(present.min(), np.searchsorted(stamps, reach) + 1)
  stamps, position = stamps[part], np.asarray(clip.position[part], np.float64)
  yaw = np.asarray(clip.yaw[part], np.float64)
  present = present - part.start
  now, here, heading = stamps[present], position[present], yaw[present]
  end = end_of_continuity(stamps, spec.max_gap_s)[present]

  times = now[:, None] + spec.dt * np.arange(1, spec.horizon + 1)
  waypoint_mask = exists[:, None] & (np.arange(spec.horizon) < num_true_waypoints(stamps, spec)[present][:, None])
  ahead, keep = rng.uniform(spec.goal_min_s, spec.goal_max_s, len(present)), rng.uniform(size=len(present))
  goal_time = np.minimum(now + ahead, end)
  has_goal = exists & (keep >= spec.goal_dropout) & (goal_time > now + spec.horizon_s + _SLACK_S)

  wanted = np.concatenate([np.minimum(times, end[:, None]), goal_time[:, None]], axis=1)
  there, _ = geometry.interpolate_poses(wanted.ravel(), stamps, position, yaw)
  points = geometry.to_robot_frame(there.reshape(*wanted.shape, 2), here[:, None], heading[:, None])
  waypoints, goal = points[:, :-1], np.where(has_goal[:, None], points[:, -1], 0.0)
  return {
    'goal_in_robot': goal.astype(np.float32),
    'has_goal': has_goal,
    'waypoints_in_robot': waypoints.astype(np.float32),
    'waypoint_mask': waypoint_mask,
    'window_mask': exists & (waypoint_mask.sum(axis=1) >= spec.min_waypoints),
    'clearances': clearances,
  }


def normalise(waypoints: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Waypoints in units of the velocity scale, and that scale (S2E, arXiv:2507.22028, normalised trajectories).

  waypoints: [*B, H, 2] metres in the robot frame, dt apart, the first one dt ahead. mask: [*B, H] bool, a prefix.
  Returns normalised [*B, H, 2] and step_length [*B] metres per step: the mean length of the true steps, the first
  one from the robot's origin, at least 0.01 m (also where no step is true). Works on numpy and JAX arrays.
  """
  xp = waypoints.__array_namespace__()
  steps = xp.concatenate([waypoints[..., :1, :], waypoints[..., 1:, :] - waypoints[..., :-1, :]], axis=-2)
  lengths = xp.where(mask, xp.sqrt(xp.sum(steps * steps, axis=-1)), 0.0)
  mean = xp.sum(lengths, axis=-1) / xp.maximum(xp.sum(mask, axis=-1), 1)
  step_length = xp.maximum(mean, MIN_STEP_LENGTH).astype(waypoints.dtype)
  return waypoints / step_length[..., None, None], step_length
