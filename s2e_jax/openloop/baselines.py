"""Predictors that do not look at pictures: what a policy has to beat."""

from __future__ import annotations

import dataclasses

import numpy as np

from s2e_jax.openloop.cases import Cases

# Goals further than this say no more about the next seconds (the policy's own encoding has its limit at 200 m).
_GOAL_SCALE = 5.0  # metres


def stand_still(cases: Cases) -> np.ndarray:
  """Waypoints [N, H, 2] of a robot that does not move."""
  return np.zeros_like(cases.waypoints)


def constant_velocity(cases: Cases) -> np.ndarray:
  """Waypoints [N, H, 2] that continue the mean velocity of the last half second in a straight line."""
  return cases.times[:, None] * cases.velocity_in_robot[:, None, :]


def straight_to_goal(cases: Cases) -> np.ndarray:
  """Waypoints [N, H, 2] on the line to the goal at the present speed, stopping there; no goal: straight ahead."""
  distance = np.linalg.norm(cases.goal_in_robot, axis=-1)
  has_direction = cases.has_goal & (distance > 1e-6)
  ahead = cases.goal_in_robot / np.maximum(distance, 1e-6)[:, None]
  direction = np.where(has_direction[:, None], ahead, [1.0, 0.0])
  speed = np.linalg.norm(cases.velocity_in_robot, axis=-1)
  covered = np.minimum(speed[:, None] * cases.times, np.where(has_direction, distance, np.inf)[:, None])
  return covered[..., None] * direction[:, None, :]


def mean_trajectory(cases: Cases, training: Cases) -> np.ndarray:
  """Waypoints [N, H, 2]: the mean trajectory of the training windows, whatever is seen."""
  return np.broadcast_to(training.waypoints.mean(axis=0), cases.waypoints.shape).copy()


def goal_features(goal_in_robot: np.ndarray) -> np.ndarray:
  """Smooth features [N, 19] of goals [N, 2] (m): a constant, and harmonics of bearing times powers of distance."""
  distance = np.linalg.norm(goal_in_robot, axis=-1)
  bearing = np.arctan2(goal_in_robot[:, 1], goal_in_robot[:, 0])
  near = np.tanh(distance / _GOAL_SCALE)
  angular = [f(k * bearing) for k in (1, 2, 3) for f in (np.cos, np.sin)]
  return np.stack(
    [
      np.ones_like(near),
      *angular,
      *(near * a for a in angular),
      near,
      near**2,
      *(near**2 * a for a in angular[:4]),
    ],
    axis=-1,
  )


@dataclasses.dataclass(frozen=True)
class GoalOnly:
  """Ridge regression from the goal alone to all waypoints, in closed form; no goal: the mean trajectory.

  weights: [features, 2 H]; mean: [H, 2] m.
  """

  weights: np.ndarray
  mean: np.ndarray

  @classmethod
  def fit(cls, training: Cases, penalties: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)) -> GoalOnly:
    """Fits on training windows that have a goal; the penalty is chosen by leaving out clips, a fifth at a time."""
    rows = training.has_goal
    mean = training.waypoints.mean(axis=0)
    x = goal_features(training.goal_in_robot[rows])
    if not len(x):
      return cls(np.zeros((x.shape[1], mean.size)), mean)
    y = training.waypoints[rows].reshape(len(x), -1)
    _, clip = np.unique(training.clip[rows], return_inverse=True)
    fold = clip % min(5, clip.max() + 1)

    def error(penalty: float) -> float:
      held_out = [
        ((x[fold == k] @ _ridge(x[fold != k], y[fold != k], penalty) - y[fold == k]) ** 2).sum()
        for k in range(fold.max() + 1)
      ]
      return float(np.sum(held_out))

    best = min(penalties, key=error) if fold.max() else 1.0
    return cls(_ridge(x, y, best), mean)

  def __call__(self, cases: Cases) -> np.ndarray:
    """Waypoints [N, H, 2]."""
    predicted = (goal_features(cases.goal_in_robot) @ self.weights).reshape(cases.waypoints.shape)
    return np.where(cases.has_goal[:, None, None], predicted, self.mean)


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
  """argmin |x w - y|^2 + penalty |w|^2; the first feature, the constant, is not penalised."""
  penalties = np.full(x.shape[1], penalty)
  penalties[0] = 1e-9
  return np.linalg.solve(x.T @ x + np.diag(penalties), x.T @ y)


def predict_all(cases: Cases, training: Cases | None) -> dict[str, np.ndarray]:
  """Every baseline's waypoints [N, H, 2]; the two that learn are left out when there are no training windows."""
  found = {
    'constant_velocity': constant_velocity(cases),
    'straight_to_goal': straight_to_goal(cases),
    'stand_still': stand_still(cases),
  }
  if training is not None and len(training):
    found['mean_trajectory'] = mean_trajectory(cases, training)
    found['goal_only'] = GoalOnly.fit(training)(cases)
  return found
