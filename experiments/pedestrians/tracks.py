"""Tracks of pedestrians, read or simulated, and what is compared of them; plain numpy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

STEP = 0.5  # s between the moments at which all tracks are compared
MOVING = 0.3  # m/s, slower people stand
# Frames are 10 apart at 25 frames/s, but the film of biwi_eth has 15 frames/s (its speeds would be 1.7 times too
# high otherwise; the same correction as in Zhang et al., SR-LSTM, 2019).
SECONDS_PER_FRAME = {'biwi_eth': 1 / 15}
_DEFAULT_SECONDS = 0.04
_GAP = 1.1  # s, a longer hole ends a track
# Streets and squares with up to ten people in view; the two films of a crowded campus are left out.
STREETS = ('biwi_eth', 'biwi_hotel', 'crowds_zara01', 'crowds_zara02', 'crowds_zara03', 'uni_examples')


@dataclasses.dataclass(frozen=True)
class Tracks:
  """Positions [T, N, 2] (m) of N people at T moments STEP seconds apart, NaN where somebody is not there."""

  positions: np.ndarray

  @property
  def velocities(self) -> np.ndarray:
    """[T - 1, N, 2] m/s."""
    return np.diff(self.positions, axis=0) / STEP


def read_tracks(path: Path) -> Tracks:
  """Tracks of a text file of rows (frame, person, x, y), resampled by cubic splines."""
  rows = np.loadtxt(path)
  seconds = SECONDS_PER_FRAME.get(path.stem, _DEFAULT_SECONDS)
  times = rows[:, 0] * seconds
  grid = np.arange(times.min(), times.max() + 1e-9, STEP)
  columns = []
  for person in np.unique(rows[:, 1]):
    mine = rows[:, 1] == person
    order = np.argsort(times[mine])
    t, xy = times[mine][order], rows[mine][order, 2:4]
    for piece in np.split(np.arange(len(t)), np.flatnonzero(np.diff(t) > _GAP) + 1):
      if len(piece) < 4:
        continue
      inside = (grid >= t[piece[0]]) & (grid <= t[piece[-1]])
      column = np.full((len(grid), 2), np.nan)
      column[inside] = CubicSpline(t[piece], xy[piece])(grid[inside])
      columns.append(column)
  return Tracks(np.stack(columns, axis=1))


def speeds(tracks: Tracks) -> np.ndarray:
  """m/s of everybody who moves, at every step."""
  speed = np.linalg.norm(tracks.velocities, axis=-1)
  return speed[np.nan_to_num(speed) > MOVING]


def accelerations(tracks: Tracks) -> np.ndarray:
  """m/s^2 of everybody who moves before and after."""
  velocity = tracks.velocities
  speed = np.nan_to_num(np.linalg.norm(velocity, axis=-1))
  change = np.linalg.norm(np.diff(velocity, axis=0), axis=-1) / STEP
  return change[(speed[1:] > MOVING) & (speed[:-1] > MOVING) & np.isfinite(change)]


def curvatures(tracks: Tracks) -> np.ndarray:
  """1/m, turning of the path per metre walked, of everybody who moves at 0.5 m/s at least."""
  velocity = tracks.velocities
  speed = np.nan_to_num(np.linalg.norm(velocity, axis=-1))
  heading = np.arctan2(velocity[..., 1], velocity[..., 0])
  turn = np.abs((np.diff(heading, axis=0) + np.pi) % (2 * np.pi) - np.pi)
  length = (speed[1:] + speed[:-1]) / 2 * STEP
  walks = (speed[1:] > 0.5) & (speed[:-1] > 0.5) & np.isfinite(turn)
  return turn[walks] / length[walks]


def straightness(tracks: Tracks, seconds: float = 4.0) -> np.ndarray:
  """Way from beginning to end over way walked, of all pieces of so many seconds walked at 0.5 m/s on average."""
  n = round(seconds / STEP)
  length = np.linalg.norm(np.diff(tracks.positions, axis=0), axis=-1)
  walked = np.stack([length[i : len(length) - n + 1 + i] for i in range(n)]).sum(axis=0)
  direct = np.linalg.norm(tracks.positions[n:] - tracks.positions[:-n], axis=-1)
  counts = np.nan_to_num(walked) > 0.5 * seconds
  return (direct / np.where(walked > 0, walked, 1))[counts]


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two people, as long as both are there without a break.

  first, second: who. distance: [T] m. speeds: [T - 1, 2] m/s. relative: [T - 1] m/s, speed seen from each other.
  """

  first: int
  second: int
  distance: np.ndarray
  speeds: np.ndarray
  relative: np.ndarray

  @property
  def is_group(self) -> bool:
    """Whether they walk together: both on the move, near each other, at the same velocity."""
    near = np.median(self.distance) < 1.6 and self.distance.max() < 3.0
    return bool(near and np.median(self.relative) < 0.3 and self.speeds.mean(axis=0).min() > MOVING)


def pairs(tracks: Tracks, least: int = 6) -> list[Pair]:
  """Every two people who are there together for `least` moments on end."""
  found = []
  there = np.isfinite(tracks.positions[..., 0])
  for i in range(there.shape[1]):
    for j in np.flatnonzero((there[:, i, None] & there[:, i + 1 :]).sum(axis=0) >= least) + i + 1:
      both = np.flatnonzero(there[:, i] & there[:, j])
      both = max(np.split(both, np.flatnonzero(np.diff(both) > 1) + 1), key=len)
      if len(both) < least:
        continue
      p = tracks.positions[both][:, np.array([i, j])]
      v = np.diff(p, axis=0) / STEP
      distance, relative = np.linalg.norm(p[:, 0] - p[:, 1], axis=-1), np.linalg.norm(v[:, 0] - v[:, 1], axis=-1)
      found.append(Pair(i, int(j), distance, np.linalg.norm(v, axis=-1), relative))
  return found


def passing_distances(tracks: Tracks) -> np.ndarray:
  """m between the middles of two people who are not together, when they are nearest on their way (below 3 m)."""
  found = []
  for pair in pairs(tracks):
    nearest = pair.distance.argmin()
    is_passing = 0 < nearest < len(pair.distance) - 1
    if is_passing and pair.distance[nearest] < 3 and not pair.is_group:
      found.append(pair.distance[nearest])
  return np.array(found)


def group_distances(tracks: Tracks) -> np.ndarray:
  """m between the middles of people who walk together, at every moment."""
  return np.concatenate([*(pair.distance for pair in pairs(tracks) if pair.is_group), np.zeros(0)])


def in_groups(tracks: Tracks) -> np.ndarray:
  """1 for everybody who walks with somebody, 0 for everybody who walks alone."""
  speed = np.linalg.norm(tracks.velocities, axis=-1)
  counts = np.isfinite(speed).sum(axis=0)
  walks = (counts >= 6) & (np.nansum(speed, axis=0) > MOVING * counts)
  grouped = {person for pair in pairs(tracks) if pair.is_group for person in (pair.first, pair.second)}
  return np.array([float(person in grouped) for person in np.flatnonzero(walks)])


MEASURES = {
  'speed': speeds,
  'acceleration': accelerations,
  'curvature': curvatures,
  'straightness': straightness,
  'passing_distance': passing_distances,
  'group_distance': group_distances,
  'in_group': in_groups,
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def measure(many: list[Tracks]) -> dict[str, np.ndarray]:
  """Every measure of all tracks together."""
  return {name: np.concatenate([function(tracks) for tracks in many]) for name, function in MEASURES.items()}
