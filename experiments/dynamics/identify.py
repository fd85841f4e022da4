"""Constants of the planar base fitted to drives on full wheels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from s2e_jax.robots import RobotDescription
from s2e_jax.sim.base import latency_stages

FITTED = (
  'time_constant',
  'yaw_time_constant',
  'latency',
  'max_acceleration',
  'max_braking',
  'max_yaw_acceleration',
)


def _towards(change: np.ndarray, speed: np.ndarray, gain: float, loss: float) -> np.ndarray:
  rest = 1 - gain / loss
  return np.clip(change, -gain - rest * np.clip(speed, 0, loss), gain + rest * np.clip(-speed, 0, loss))


def _servo(robot: RobotDescription, duration: float, v: Any, w: Any, speed: Any, rate: Any, steer: Any) -> Any:
  share, turn_share = (1 - math.exp(-duration / tau) for tau in (robot.time_constant, robot.yaw_time_constant))
  gain, loss = robot.max_acceleration * duration, robot.max_braking * duration
  after = speed + _towards(share * (v - speed), speed, gain, max(loss, 1e-9))
  if robot.drive != 'ackermann':
    limit = robot.max_yaw_acceleration * duration
    return after, rate + np.clip(turn_share * (w - rate), -limit, limit), steer
  curve = math.tan(robot.max_steer) / robot.wheelbase
  asked = np.where(v < 0, -w, w) / np.maximum(np.abs(v), 1e-3)
  wanted = np.arctan(robot.wheelbase * np.clip(asked, -curve, curve)) - steer
  limit = duration * robot.max_yaw_acceleration * robot.wheelbase / np.maximum(np.abs(speed), 0.5)
  steer = steer + np.clip(turn_share * wanted, -limit, limit)
  return after, after * np.tan(steer) / robot.wheelbase, steer


def simulate(robot: RobotDescription, commands: np.ndarray, substeps: int = 5) -> np.ndarray:
  """States [S, T, 7] of the planar law in plain numpy, without MJX: a twin of `sim.planar` for fitting."""
  step = 0.25 / substeps
  ages, durations = latency_stages(robot.latency + step / 2, step, substeps)
  num = len(commands)
  held = np.zeros((num, ages.shape[2], 2))
  x, y, yaw, speed, rate, steer = np.zeros((6, num))
  out = []
  for t in range(commands.shape[1]):
    held = np.concatenate([commands[:, t, None], held[:, :-1]], 1)
    for i in range(substeps):
      for age, duration in zip(ages[i], durations[i], strict=True):
        v, w = np.tensordot(held, age, ((1,), (0,))).T
        speed, rate, steer = _servo(robot, duration, v, w, speed, rate, steer)
      left = rate * robot.wheelbase / 2
      ahead = yaw + rate * step / 2
      x = x + step * (speed * np.cos(ahead) - left * np.sin(ahead))
      y = y + step * (speed * np.sin(ahead) + left * np.cos(ahead))
      yaw = yaw + step * rate
    out.append([x, y, yaw, speed, left, rate, steer])
  return np.array(out).transpose(2, 0, 1)


def _steps(states: np.ndarray) -> np.ndarray:
  """Mean forward speed and turning rate over each policy step of drives [S, T, 7] from rest at the origin."""
  before = np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], 1)
  moved, turned = states[..., :2] - before[..., :2], states[..., 2] - before[..., 2]
  turned = (turned + np.pi) % (2 * np.pi) - np.pi
  middle = before[..., 2] + turned / 2
  return np.stack([moved[..., 0] * np.cos(middle) + moved[..., 1] * np.sin(middle), turned], -1) / 0.25


def identify(robot: RobotDescription, commands: np.ndarray, states: np.ndarray) -> RobotDescription:
  """The description whose `FITTED` constants follow the motion of `states` [S, T, 7], step by step, best."""
  start = np.array([getattr(robot, name) for name in FITTED])

  def described(values: np.ndarray) -> RobotDescription:
    changed: dict[str, Any] = dict(zip(FITTED, map(float, values), strict=True))
    return dataclasses.replace(robot, **changed)

  def residual(values: np.ndarray) -> np.ndarray:
    return (_steps(simulate(described(values), commands)) - _steps(states)).ravel()

  fit = least_squares(
    residual, start, bounds=(0.005, 10), diff_step=1e-3, x_scale=start, loss='soft_l1', f_scale=0.05
  )
  return described(fit.x)
