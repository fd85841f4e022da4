"""The planar law's lag fitted to a gait at 50 Hz, and the share of the command that the gait loses for good."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from experiments.dynamics.identify import FITTED, simulate
from s2e_jax.robots import RobotDescription

# Wider than those of `experiments.dynamics.identify`: legs turn the body faster than wheels do.
BOUNDS = {name: (0.002, 60.0) for name in FITTED} | {'latency': (0.0, 0.5)}


def respond(robot: RobotDescription, commands: np.ndarray, step: float) -> np.ndarray:
  """Mean speed and turning rate [S, N, 2] over every `step` s of the planar law, without slip, from rest.

  commands: [S, N, 2] (v, w), one per step.
  """
  whole, part = divmod(robot.latency / step, 1.0)
  late = np.concatenate([np.zeros((len(commands), int(whole) + 1, 2)), commands], 1)[:, : commands.shape[1] + 1]
  sent = (1 - part) * late[:, 1:] + part * late[:, :-1]
  share, turn_share = (1 - math.exp(-step / tau) for tau in (robot.time_constant, robot.yaw_time_constant))
  gain, loss, turn = (a * step for a in (robot.max_acceleration, robot.max_braking, robot.max_yaw_acceleration))
  rest = 1 - gain / loss  # a step through 0 brakes for a part of it and accelerates for the rest
  speed, rate = np.zeros((2, len(commands)))
  out = [np.stack([speed, rate], -1)]
  for v, w in sent.transpose(1, 2, 0):
    least, most = -gain - rest * np.clip(speed, 0, loss), gain + rest * np.clip(-speed, 0, loss)
    speed = speed + np.clip(share * (v - speed), least, most)
    rate = rate + np.clip(turn_share * (w - rate), -turn, turn)
    out.append(np.stack([speed, rate], -1))
  after = np.array(out).transpose(1, 0, 2)
  return (after[:, 1:] + after[:, :-1]) / 2


def fit_lag(robot: RobotDescription, commands: np.ndarray, measured: np.ndarray, step: float) -> RobotDescription:
  """`robot` with the constants `FITTED` whose responses to `commands` are nearest to `measured` [S, N, 2]."""
  start = np.array([getattr(robot, name) for name in FITTED])

  def described(values: np.ndarray) -> RobotDescription:
    changed: dict[str, Any] = dict(zip(FITTED, map(float, values), strict=True))
    return dataclasses.replace(robot, **changed)

  def residual(values: np.ndarray) -> np.ndarray:
    return (respond(described(values), commands, step) - measured).ravel()

  low, high = np.array([BOUNDS[name] for name in FITTED]).T
  fit = least_squares(
    residual, start, bounds=(low, high), diff_step=1e-3, x_scale=start, loss='soft_l1', f_scale=0.1
  )
  return described(fit.x)


def lost_shares(robot: RobotDescription, commands: np.ndarray, measured: np.ndarray, step: float) -> np.ndarray:
  """Share of speed and of turning rate [S, 2] by which each sequence falls short of the law's response."""
  law = respond(robot, commands, step)
  return 1 - (law * measured).sum(1) / (law**2).sum(1)


def at_once(robot: RobotDescription) -> RobotDescription:
  """`robot` as if it obeyed at once: what a validation of the lag has to beat."""
  return dataclasses.replace(
    robot,
    time_constant=1e-3,
    yaw_time_constant=1e-3,
    latency=0.0,
    max_acceleration=1e3,
    max_braking=1e3,
    max_yaw_acceleration=1e3,
  )


def parted(robot: RobotDescription, commands: np.ndarray, reference: np.ndarray) -> dict[str, dict[str, float]]:
  """How far the planar law ends from `reference` [S, T, 7] after 1, 3 and 10 s: median and worst (m, rad)."""
  states = simulate(robot, commands)
  off = np.linalg.norm(states[..., :2] - reference[..., :2], axis=-1)
  turned = np.abs((states[..., 2] - reference[..., 2] + np.pi) % (2 * np.pi) - np.pi)
  driven = np.linalg.norm(np.diff(reference[..., :2], axis=1, prepend=0.0), axis=-1).cumsum(1)
  out = {}
  for seconds in (1, 3, 10):
    at = min(4 * seconds, off.shape[1]) - 1
    out[f'{seconds}s'] = {
      'position_median': float(np.median(off[:, at])),
      'position_worst': float(off[:, at].max()),
      'yaw_median': float(np.median(turned[:, at])),
      'yaw_worst': float(turned[:, at].max()),
      'driven_median': float(np.median(driven[:, at])),
    }
  return out
