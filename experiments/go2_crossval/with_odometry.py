"""How well can these drives be predicted by something that is told the robot's exact motion?

Run: python -m experiments.go2_crossval.with_odometry --data=runs/go2/dataset
Regressors that never look at a picture but get what the policy must see: the velocity of the last half second (and
the goal). Same folds and windows as the policy. What they cannot predict either, no policy of 4 Hz frames will.
"""

from __future__ import annotations

import numpy as np
from absl import app, flags
from scipy.spatial import cKDTree

from s2e_jax.data.dataset import fold_split, open_dataset
from s2e_jax.openloop import baselines
from s2e_jax.openloop.cases import Cases, cut_cases

_DATA = flags.DEFINE_string('data', 'runs/go2/dataset', 'Internal dataset.')
_FOLDS = flags.DEFINE_integer('folds', 5, 'Folds, as in the study.')


def features(cases: Cases, with_goal: bool) -> np.ndarray:
  """[N, 4 or 8] velocity in the robot frame, speed, a constant, and the goal near and far."""
  velocity = cases.velocity_in_robot
  speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
  columns = [velocity, speed, np.ones_like(speed)]
  if with_goal:
    goal = baselines.goal_features(cases.goal_in_robot) * cases.has_goal[:, None]
    columns += [goal, speed * goal]
  return np.concatenate(columns, axis=-1)


def ridge(train: Cases, test: Cases, with_goal: bool, penalty: float = 1.0) -> np.ndarray:
  """Waypoints [N, H, 2] by ridge regression."""
  x, y = features(train, with_goal), train.waypoints.reshape(len(train), -1)
  weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
  return (features(test, with_goal) @ weights).reshape(test.waypoints.shape)


def neighbours(train: Cases, test: Cases, with_goal: bool, k: int = 40) -> np.ndarray:
  """Waypoints [N, H, 2]: mean of the k most similar training windows, features scaled to unit variance."""
  x = features(train, with_goal)
  scale = np.maximum(x.std(axis=0), 1e-6)
  _, index = cKDTree(x / scale).query(features(test, with_goal) / scale, k=k)
  return train.waypoints[index].mean(axis=1)


def main(argv: list[str]) -> None:
  """Prints the ADE (m) of every regressor over all folds."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  dataset = open_dataset(_DATA.value)
  errors: dict[str, list[np.ndarray]] = {}
  for fold in range(_FOLDS.value):
    parts = {k: dataset.indices_of(v) for k, v in fold_split(dataset.clip_ids(), _FOLDS.value, fold).items()}
    cut = lambda which, parts=parts: cut_cases(dataset.clips, parts[which], num_history=5)
    train, test = cut('train'), cut('test')
    guesses = {
      'constant velocity': baselines.constant_velocity(test),
      'ridge on velocity': ridge(train, test, with_goal=False),
      'ridge on velocity and goal': ridge(train, test, with_goal=True),
      'neighbours in velocity': neighbours(train, test, with_goal=False),
      'neighbours in velocity and goal': neighbours(train, test, with_goal=True),
    }
    for name, guess in guesses.items():
      errors.setdefault(name, []).append(np.linalg.norm(guess - test.waypoints, axis=-1).mean(axis=-1))
  for name, values in errors.items():
    print(f'{name:34s} ADE {np.concatenate(values).mean():.3f} m')


if __name__ == '__main__':
  app.run(main)
