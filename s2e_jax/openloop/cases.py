"""The windows an open-loop evaluation judges: every one with a full horizon, once, in a fixed order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from s2e_jax import geometry
from s2e_jax.data import windows
from s2e_jax.structs import DT

_VELOCITY_SPAN_S = 0.5  # the velocity of the present is that of the last half second


@dataclasses.dataclass(frozen=True)
class Cases:
  """N windows, in clip order and then in time.

  clip: [N] int, index into the dataset's clips. history: [N, K] int, frames of the clip, oldest first; the last
  one is the present. goal_in_robot: [N, 2] m. has_goal: [N] bool. waypoints: [N, H, 2] m, the truth.
  velocity_in_robot: [N, 2] m/s, mean over the last half second. times: [H] s, of the waypoints.
  """

  clip: np.ndarray
  history: np.ndarray
  goal_in_robot: np.ndarray
  has_goal: np.ndarray
  waypoints: np.ndarray
  velocity_in_robot: np.ndarray
  times: np.ndarray

  def __len__(self) -> int:
    """Number of windows N."""
    return len(self.clip)

  def without_goals(self) -> Cases:
    """The same windows with every goal hidden."""
    return dataclasses.replace(self, has_goal=np.zeros_like(self.has_goal))

  def take(self, rows: np.ndarray) -> Cases:
    """The windows `rows` ([n] int or [N] bool)."""
    each = {f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self) if f.name != 'times'}
    return dataclasses.replace(self, **each)


def cut_cases(
  clips: Sequence[Any],
  clip_indices: Sequence[int],
  num_history: int,
  horizon: int = 10,
  dt: float = DT,
  goal_s: float = 10.0,
) -> Cases:
  """Every window of the clips with K frames of history and a full horizon of truth, neither across a gap.

  clips: have stamps, position and yaw (`ClipInfo`); clip_indices: which of them. Frames are those of the 4 Hz grid
  from the first frame on; Deviation from training windows: none begins before the clip, so that constant velocity
  always has a past to go by. The goal is the own position `goal_s` ahead or at the end of the clip; there is none
  where the clip ends within the horizon, as in training.
  """
  spec = windows.SegmentSpec(
    num_history, num_windows=1, horizon=horizon, dt=dt, goal_min_s=goal_s, goal_max_s=goal_s, goal_dropout=0.0,
    min_waypoints=horizon,
  )  # fmt: skip
  parts: list[dict[str, np.ndarray]] = []
  for index in clip_indices:
    clip = clips[index]
    history = _histories(np.asarray(clip.stamps, np.float64), spec)
    if not len(history):
      continue
    labels = windows.segment_labels(clip, history[:, -1], spec, np.random.default_rng(0))
    parts.append(
      {
        'clip': np.full(len(history), index),
        'history': history,
        'goal_in_robot': labels['goal_in_robot'],
        'has_goal': labels['has_goal'],
        'waypoints': labels['waypoints_in_robot'],
        'velocity_in_robot': _recent_velocity(clip, history),
      }
    )
  times = dt * np.arange(1, horizon + 1)
  if not parts:
    return Cases(
      clip=np.zeros(0, int), history=np.zeros((0, num_history), int), goal_in_robot=np.zeros((0, 2), np.float32),
      has_goal=np.zeros(0, bool), waypoints=np.zeros((0, horizon, 2), np.float32),
      velocity_in_robot=np.zeros((0, 2)), times=times,
    )  # fmt: skip
  return Cases(times=times, **{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def _histories(stamps: np.ndarray, spec: windows.SegmentSpec) -> np.ndarray:
  """Frames [n, K] of every window of one clip with whole history and full future, each present once."""
  edges = [0, *(np.flatnonzero(windows.is_hole(stamps, spec.max_gap_s)) + 1), len(stamps)]
  found = [np.zeros((0, spec.num_history), int)]
  for start, stop in itertools.pairwise(edges):
    grid = start + windows.frame_grid(stamps[start:stop], spec.dt)
    if len(grid) < spec.num_history:
      continue
    history = np.lib.stride_tricks.sliding_window_view(grid, spec.num_history)
    # below 4 Hz the grid repeats frames: a present that is the one before it again would count twice
    is_new = np.diff(history[:, -1], prepend=-1) > 0
    is_full = windows.num_true_waypoints(stamps, spec)[history[:, -1]] == spec.horizon
    found.append(history[is_new & is_full])
  return np.concatenate(found)


def _recent_velocity(clip: Any, history: np.ndarray) -> np.ndarray:
  """Mean velocity [n, 2] (m/s, robot frame) over the last half second, or the whole of a shorter history."""
  stamps, yaw = np.asarray(clip.stamps, np.float64), np.asarray(clip.yaw, np.float64)
  position = np.asarray(clip.position, np.float64)
  present, first = history[:, -1], history[:, 0] if history.shape[1] > 1 else 0 * history[:, 0]
  before = np.maximum(stamps[present] - _VELOCITY_SPAN_S, stamps[first])
  then, _ = geometry.interpolate_poses(before, stamps, position, yaw)
  then_in_robot = geometry.to_robot_frame(then, position[present], yaw[present])
  return -then_in_robot / np.maximum(stamps[present] - before, 1e-3)[:, None]


def batches(num_cases: int, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
  """(rows [batch_size] int, number of real ones) until every case was shown once; the last one is padded."""
  for start in range(0, num_cases, batch_size):
    rows = np.arange(start, min(start + batch_size, num_cases))
    yield np.pad(rows, (0, batch_size - len(rows)), mode='edge'), len(rows)
