"""Predictors that do not look at pictures: what a policy has to beat."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from s2e_jax.openloop.cases import Cases


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
  """Goals [N, 2] with distance d as log(1 + d), bearing kept: near ones are told apart better than far ones."""
  distance = np.linalg.norm(goal_in_robot, axis=-1, keepdims=True)
  return goal_in_robot / np.maximum(distance, 1e-6) * np.log1p(distance)


@dataclasses.dataclass(frozen=True)
class GoalOnly:
  """Mean trajectory of the training windows with the most similar goals (nearest neighbours: no extrapolation).

  goals: [n, 2] features; waypoints: [n, H, 2] m; mean: [H, 2] m, for windows without a goal; k: neighbours.
  """

  goals: np.ndarray
  waypoints: np.ndarray
  mean: np.ndarray
  k: int

  @classmethod
  def fit(cls, training: Cases, choices: tuple[int, ...] = (5, 20, 80, 320)) -> GoalOnly:
    """Keeps the training windows that have a goal; k is chosen by leaving out clips, a fifth at a time."""
    rows = training.has_goal
    mean = training.waypoints.mean(axis=0)
    x, y = goal_features(training.goal_in_robot[rows]), training.waypoints[rows]
    _, clip = np.unique(training.clip[rows], return_inverse=True)
    fold = clip % 5
    folds = [k for k in range(5) if (fold == k).any() and (fold != k).any()]

    def error(k: int) -> float:
      """Sum over held-out windows of their ADE."""
      total = 0.0
      for part in folds:
        guess = cls(x[fold != part], y[fold != part], mean, k).nearest(x[fold == part])
        total += float(np.linalg.norm(guess - y[fold == part], axis=-1).mean(axis=-1).sum())
      return total

    return cls(x, y, mean, min(choices, key=error))

  def nearest(self, features: np.ndarray) -> np.ndarray:
    """Waypoints [N, H, 2] for goal features [N, 2]."""
    k = min(self.k, len(self.goals))
    _, index = cKDTree(self.goals).query(features, k=np.arange(1, k + 1))
    return self.waypoints[index].mean(axis=1)

  def __call__(self, cases: Cases) -> np.ndarray:
    """Waypoints [N, H, 2]."""
    predicted = np.broadcast_to(self.mean, cases.waypoints.shape).copy()
    rows = cases.has_goal
    if len(self.goals) and rows.any():
      predicted[rows] = self.nearest(goal_features(cases.goal_in_robot[rows]))
    return predicted


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
