"""Random command sequences, drives of a base under them, and the errors between two drives."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.robots import RobotDescription
from s2e_jax.sim.base import Base

STATE = ('x', 'y', 'yaw', 'forward', 'left', 'yaw_rate', 'steer')


def random_commands(robot: RobotDescription, num: int, steps: int, seed: int) -> np.ndarray:
  """Commands [num, steps, 2] (v, w), uniform within the robot's limits, each held for 2 to 6 policy steps."""
  rng = np.random.default_rng(seed)
  commands = np.zeros((num, steps, 2), np.float32)
  for sequence in commands:
    start = 0
    while start < steps:
      hold = int(rng.integers(2, 7))
      speed = rng.uniform(robot.min_speed, robot.max_speed)
      sequence[start : start + hold] = speed, rng.uniform(-1, 1) * robot.max_yaw_rate
      start += hold
  return commands


def drive(base: Base, commands: np.ndarray) -> np.ndarray:
  """States [S, T, 7] (`STATE`, SI) after each policy step of a robot that starts at the origin without slip."""
  num = len(commands)
  state = jax.vmap(base.reset)(jnp.zeros((num, 2)), jnp.zeros(num), jax.random.split(jax.random.key(0), num))
  state = dataclasses.replace(state, slip=jnp.zeros_like(state.slip))

  def step(state: Any, command: jax.Array) -> tuple[Any, jax.Array]:
    state = jax.vmap(base.advance)(state, command)
    row = (state.position, state.yaw[:, None], state.velocity, state.yaw_rate[:, None], state.steer[:, None])
    return state, jnp.concatenate(row, 1)

  roll = jax.jit(lambda s, c: jax.lax.scan(step, s, c)[1])
  return np.asarray(roll(state, jnp.asarray(commands.transpose(1, 0, 2)))).transpose(1, 0, 2)


def errors(states: np.ndarray, reference: np.ndarray, policy_step: float = 0.25) -> dict[str, float]:
  """Errors of drives [S, T, 7] against reference drives: positions after 1, 3 and 10 s, yaw, speeds (SI)."""
  off = np.linalg.norm(states[..., :2] - reference[..., :2], axis=-1)
  turned = (states[..., 2] - reference[..., 2] + np.pi) % (2 * np.pi) - np.pi
  moved = np.linalg.norm(np.diff(reference[..., :2], axis=1, prepend=0.0), axis=-1).cumsum(1)
  out: dict[str, float] = {}
  for seconds in (1, 3, 10):
    at = min(round(seconds / policy_step), off.shape[1]) - 1
    out[f'position_{seconds}s_median'] = float(np.median(off[:, at]))
    out[f'position_{seconds}s_worst'] = float(off[:, at].max())
    out[f'driven_{seconds}s_median'] = float(np.median(moved[:, at]))
  out['yaw_10s_median'] = float(np.median(np.abs(turned[:, -1])))
  out['yaw_10s_worst'] = float(np.abs(turned[:, -1]).max())
  for name, column in (('forward', 3), ('left', 4), ('yaw_rate', 5)):
    out[f'{name}_rms'] = float(np.sqrt(np.mean((states[..., column] - reference[..., column]) ** 2)))
  return out
