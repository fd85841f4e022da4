"""Whether a robot that has to drive to turn gets from a pose to its goals: a search along forward arcs.

Round by round from the start, every pose that was reached is driven on by one short arc, straight or with half or
full lock; of the poses that end in one cell and heading the first is kept, as it is, so that nothing is rounded
and a way that is found can be driven (hybrid A*, Dolgov et al. 2010, without its order by cost).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from s2e_jax.navbench.grid import Grid
from s2e_jax.robots import RobotDescription

_STEP = 0.5  # m of an arc
_CELL, _HEADINGS = 0.2, 48  # m, and headings: of the poses of one kind the first is kept
_LOCKS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_LOCK = 0.9  # of the tightest turn: lag and slip take the rest
_MARGIN = 0.14  # m beside the footprint
_AT_GOAL = 0.4  # m


@dataclasses.dataclass(frozen=True)
class Turns:
  """What a way has to leave room for.

  radius: m of the tightest turn. half_width: m. reach: m from the middle of the footprint to the middles of the
  discs of half its width in its front and its rear.
  """

  radius: float
  half_width: float
  reach: float


def turns_of(robot: RobotDescription) -> Turns | None:
  """Of a robot that has to drive to turn; None for one that turns on the spot."""
  if not robot.curvature:
    return None
  return Turns(1 / robot.curvature, robot.footprint.width / 2, robot.reach)


def is_drivable(
  grid: Grid,
  distance: np.ndarray,
  start: Sequence[float],
  yaw: float,
  goals: Sequence[Sequence[float]],
  turns: Turns,
  limit: float = np.inf,
) -> bool:
  """Whether a robot at start (x, y) m, heading yaw (rad), gets to each goal (x, y) m in turn, driving forwards.

  distance: [nx, ny] m to whatever must not be touched. limit: m after which a goal is given up. A goal counts as
  reached within 0.4 m, and the next one is looked for from the pose that was there first.
  """
  pose: np.ndarray | None = np.array([*start, yaw], float)
  for goal in goals:
    pose = None if pose is None else _pose_at(grid, distance, pose, np.asarray(goal, float), turns, limit)
  return pose is not None


def _pose_at(
  grid: Grid, distance: np.ndarray, pose: np.ndarray, goal: np.ndarray, turns: Turns, limit: float
) -> np.ndarray | None:
  """The first pose [3] within reach of the goal; None where there is none."""
  turn = _LOCK * _LOCKS * _STEP / turns.radius
  chord = _STEP * np.sinc(turn / 2 / np.pi)
  shape = np.ceil(np.array(grid.shape) * grid.cell / _CELL).astype(int) + 1
  seen = np.zeros((*shape, _HEADINGS), bool).reshape(-1)
  poses = pose[None]
  if not _fits(grid, distance, poses, turns).all():
    return None
  driven = 0.0
  while len(poses) and driven < limit:
    at_goal = np.hypot(*(poses[:, :2] - goal).T) < _AT_GOAL
    if at_goal.any():
      return np.asarray(poses[np.argmax(at_goal)])
    along = poses[:, None, 2] + turn / 2
    ends = np.stack(
      [
        poses[:, None, 0] + chord * np.cos(along),
        poses[:, None, 1] + chord * np.sin(along),
        poses[:, None, 2] + turn,
      ],
      axis=-1,
    )
    # halfway, an arc is farthest from the chord: less than 3 cm at 1.2 m of radius, which the margin has room for
    halfway = np.concatenate([(poses[:, None, :2] + ends[..., :2]) / 2, along[..., None]], axis=-1)
    poses = ends[_fits(grid, distance, ends, turns) & _fits(grid, distance, halfway, turns)]
    cells = np.floor((poses[:, :2] - np.array(grid.origin)) / _CELL).astype(int)
    heading = np.floor(poses[:, 2] / (2 * np.pi) * _HEADINGS).astype(int) % _HEADINGS
    kind, first = np.unique(np.ravel_multi_index((*cells.T, heading), (*shape, _HEADINGS)), return_index=True)
    poses = poses[first[~seen[kind]]]
    seen[kind] = True
    driven += _STEP
  return None


def _fits(grid: Grid, distance: np.ndarray, poses: np.ndarray, turns: Turns) -> np.ndarray:
  """[...] bool: the robot's footprint with its margin at poses [..., 3] (x, y m, heading rad) touches nothing."""
  ahead = turns.reach * np.stack([np.cos(poses[..., 2]), np.sin(poses[..., 2])], axis=-1)
  room = turns.half_width + _MARGIN
  free = lambda points: grid.at(distance, points, outside=-1.0) > room
  return np.asarray(free(poses[..., :2] + ahead) & free(poses[..., :2] - ahead))
