"""What every level of dynamics shares: the state of a base, the command's way to the wheels, the gait's sway."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from s2e_jax.geometry import arctan
from s2e_jax.robots import RobotDescription
from s2e_jax.sim.contacts import Obstacles, Touch, no_touch
from s2e_jax.sim.mjcf import POLICY_STEP


@struct.dataclass
class BaseState:
  """A robot at the end of a policy step, and what the next one needs. World frame unless a name says otherwise.

  qpos, qvel: [nq], [nv] of the MJX model. warmstart: [nv] accelerations from which its solver starts.
  position: [2] m of the robot origin. yaw: [] rad (a full turn adds 2 pi, or wraps: use its sine and cosine).
  velocity: [2] m/s, forward and left, in the robot frame. yaw_rate: [] rad/s.
  commands: [D, 2] the last commands (v, w) that the latency still holds back, newest first.
  steer: [] rad, mean angle of the front wheels (0 without steering).
  slip: [2] shares of the commanded speed and turning rate lost in this episode.
  gait: [] rad, phase of the gait. sway: [2] camera offsets by the gait: m to the left, rad counter-clockwise.
  touch: contacts during the last policy step.
  """

  qpos: jax.Array
  qvel: jax.Array
  warmstart: jax.Array
  position: jax.Array
  yaw: jax.Array
  velocity: jax.Array
  yaw_rate: jax.Array
  commands: jax.Array
  steer: jax.Array
  slip: jax.Array
  gait: jax.Array
  sway: jax.Array
  touch: Touch


class Advance(Protocol):
  """Signature of `Base.advance`."""

  def __call__(self, state: BaseState, command: jax.Array, obstacles: Obstacles | None = None, /) -> BaseState:
    """The state one policy step later."""
    ...


@dataclasses.dataclass(frozen=True)
class Base:
  """A robot's dynamics at one level; pure functions of one environment (vmap for many).

  reset(position [2] m, yaw [] rad, key) -> BaseState at rest; consumes the key (slip, gait).
  advance(state, command [2], obstacles=None) -> BaseState after one policy step of 0.25 s. The command (v m/s,
    w rad/s) may be anything: it is clamped to the limits, what is not finite counts as 0. obstacles: from
    `contacts.obstacles_near` at the state's position; None: nothing to touch.
  """

  robot: RobotDescription
  level: str
  time_step: float
  model: mujoco.MjModel
  reset: Callable[[jax.Array, jax.Array, jax.Array], BaseState]
  advance: Advance


def clamp_command(robot: RobotDescription, command: jax.Array) -> jax.Array:
  """The command (v, w) [2] within the robot's limits; what is not finite becomes 0."""
  finite = jnp.where(jnp.isfinite(command), command, 0.0)
  low = jnp.array([robot.min_speed, -robot.max_yaw_rate], jnp.float32)
  high = jnp.array([robot.max_speed, robot.max_yaw_rate], jnp.float32)
  return jnp.clip(finite, low, high)


def latency_weights(delay: float, time_step: float, substeps: int) -> np.ndarray:
  """[substeps, 1 + D] shares of the newest and D earlier commands during each substep, for a delay in s.

  A command that takes over within a substep counts by its share of that substep. D >= 1.
  """
  held = max(1, math.ceil(delay / (time_step * substeps) - 1e-9))
  start = delay / time_step + substeps * -np.arange(held + 2)  # in substeps: newest first; older began earlier
  since = np.clip(
    np.round(np.arange(1, substeps + 1)[:, None] - start, 6), 0, 1
  )  # share of the substep after each began
  since[:, -1] = 1.0  # whatever is older than the buffer has begun long ago
  return np.concatenate([since[:, :1], np.diff(since, axis=1)], axis=1)[:, : held + 1]


def latency_stages(delay: float, time_step: float, substeps: int) -> tuple[np.ndarray, np.ndarray]:
  """When commands that arrive `delay` s late act, as two stages per substep: ages and durations.

  ages: [substeps, 2, 1 + D] one-hot over the newest and D earlier commands. durations: [substeps, 2] s. A command
  that takes over within a substep acts in the second stage, for the rest of it. D >= 1.
  """
  weights = latency_weights(delay, time_step, substeps)
  ages = np.zeros((substeps, 2, weights.shape[1]))
  durations = np.zeros((substeps, 2))
  for i, row in enumerate(weights):
    older, newer = row.nonzero()[0][[-1, 0]]
    ages[i, 0, older] = ages[i, 1, newer] = 1.0
    durations[i] = (row[older] * time_step, row[newer] * time_step) if older != newer else (0.0, time_step)
  return ages, durations


def clamp_change(
  wanted: jax.Array, speed: jax.Array, acceleration: float, braking: float, time_step: float | jax.Array
) -> jax.Array:
  """A wanted change of speed cut to what a step allows: braking towards 0, acceleration away from it."""
  # A step that passes through 0 brakes for a part of it and accelerates for the rest.
  gain, loss = acceleration * time_step, braking * time_step
  rest = 1 - acceleration / braking
  up = gain + rest * jnp.clip(-speed, 0.0, loss)
  down = gain + rest * jnp.clip(speed, 0.0, loss)
  return jnp.clip(wanted, -down, up)


def draw_slip(robot: RobotDescription, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Slip [2] of an episode and the gait's phase [] rad; consumes the key."""
  u = jax.random.uniform(key, (3,))
  low, high = robot.slip
  return low + (high - low) * u[:2], 2 * math.pi * u[2]


def at_rest(
  robot: RobotDescription,
  qpos: jax.Array,
  num_speeds: int,
  position: jax.Array,
  yaw: jax.Array,
  num_commands: int,
  key: jax.Array,
) -> BaseState:
  """A standing robot whose MJX model is at `qpos` and has `num_speeds` velocities; consumes the key."""
  slip, gait = draw_slip(robot, key)
  zero = jnp.zeros(())
  return BaseState(
    qpos=qpos,
    qvel=jnp.zeros(num_speeds),
    warmstart=jnp.zeros(num_speeds),
    position=position,
    yaw=yaw,
    velocity=jnp.zeros(2),
    yaw_rate=zero,
    commands=jnp.zeros((num_commands, 2)),
    steer=zero,
    slip=slip,
    gait=gait,
    sway=sway_of(robot, gait, zero, zero),
    touch=no_touch(),
  )


def next_gait(robot: RobotDescription, gait: jax.Array) -> jax.Array:
  """Phase of the gait one policy step later."""
  return (gait + 2 * math.pi * robot.sway_rate * POLICY_STEP) % (2 * math.pi)


def driven(robot: RobotDescription, state: BaseState, commands: jax.Array, **motion: Any) -> BaseState:
  """`state` one policy step on: `motion` replaces fields, the gait goes on, the oldest of `commands` is spent."""
  gait = next_gait(robot, state.gait)
  sway = sway_of(robot, gait, motion['velocity'][0], motion['yaw_rate'])
  return dataclasses.replace(state, commands=commands[:-1], gait=gait, sway=sway, **motion)


def sway_of(robot: RobotDescription, gait: jax.Array, speed: jax.Array, yaw_rate: jax.Array) -> jax.Array:
  """Camera offset [2] by the gait (m to the left, rad counter-clockwise); fades out as the robot stands still."""
  effort = jnp.minimum((jnp.abs(speed) + 0.3 * jnp.abs(yaw_rate)) / 0.3, 1.0)
  lateral, turn = robot.sway
  return effort * jnp.stack([lateral * jnp.sin(gait), turn * jnp.cos(gait)])


def wanted_steer(robot: RobotDescription, command: jax.Array) -> jax.Array:
  """Angle (rad) of the front wheels for a command (v, w) [2, ...]: the curvature it asks for, or the sharpest."""
  curve = robot.curvature
  asked = jnp.where(command[0] < 0, -command[1], command[1]) / jnp.maximum(jnp.abs(command[0]), 1e-3)
  return arctan(robot.wheelbase * jnp.clip(asked, -curve, curve))


def steer_rate(robot: RobotDescription, speed: jax.Array) -> jax.Array:
  """rad/s of steering that changes the turning rate v tan(steer) / wheelbase about as fast as it may change."""
  return robot.max_yaw_acceleration * robot.wheelbase / jnp.maximum(jnp.abs(speed), 0.5)


def rotated(vector: jax.Array, angle: jax.Array) -> jax.Array:
  """`vector` [2, ...] turned counter-clockwise by an angle (rad)."""
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return jnp.stack([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])
