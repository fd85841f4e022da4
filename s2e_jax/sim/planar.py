"""The planar level: a base that slides and turns in MJX under velocity servos fixed to its body.

Five Euler steps of 0.05 s per policy step. The servos' gains are those of a first-order lag sampled at the step,
so a held command is followed exactly as in continuous time; speeds act on positions along the heading at the
middle of a step, and half a step of the latency is left out because Euler's positions run half a step ahead of
the speeds: both make it second order in the step.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from s2e_jax.robots import RobotDescription
from s2e_jax.sim.base import (
  Base,
  BaseState,
  at_rest,
  clamp_change,
  clamp_command,
  driven,
  latency_stages,
  rotated,
  steer_rate,
  wanted_steer,
)
from s2e_jax.sim.contacts import Grip, Motion, Obstacles, no_touch, resolve
from s2e_jax.sim.lanes import in_lanes
from s2e_jax.sim.mjcf import GRAVITY, PLANAR_SUBSTEPS, POLICY_STEP, TRACTION, robot_mjcf


def _servo(
  robot: RobotDescription,
  duration: jax.Array,
  command: jax.Array,
  motion: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Speed, turning rate and steering angle after `duration` s under a command [2, B], without contact."""
  speed, yaw_rate, steer = motion
  share, turn_share = (-jnp.expm1(-duration / tau) for tau in (robot.time_constant, robot.yaw_time_constant))
  wanted = share * (command[0] - speed)
  next_speed = speed + clamp_change(wanted, speed, robot.max_acceleration, robot.max_braking, duration)
  if robot.drive != 'ackermann':
    limit = robot.max_yaw_acceleration * duration
    return next_speed, yaw_rate + jnp.clip(turn_share * (command[1] - yaw_rate), -limit, limit), steer
  limit = steer_rate(robot, speed) * duration
  steer = steer + jnp.clip(turn_share * (wanted_steer(robot, command) - steer), -limit, limit)
  return next_speed, next_speed * jnp.tan(steer) / robot.wheelbase, steer


def _physics_step(
  physics: mjx.Model, template: mjx.Data, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array, applied: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Positions and velocities one MJX step later; everything else of MJX's data is made anew from the template."""
  data = template.replace(qpos=qpos, qvel=qvel, ctrl=ctrl, qfrc_applied=applied)
  data = mjx.step(physics, data)
  return data.qpos, data.qvel


def make_planar(robot: RobotDescription) -> Base:
  """The planar level of a robot, see `base.Base`."""
  model = mujoco.MjModel.from_xml_string(robot_mjcf(robot, 'planar'))
  # The servos are given targets beyond the limits of the sliders: the limits are applied here.
  model.actuator_ctrllimited[:] = 0
  model.actuator_forcelimited[:] = 0
  physics = mjx.put_model(model, impl='jax')
  template = mjx.make_data(model, impl='jax')
  step = POLICY_STEP / PLANAR_SUBSTEPS
  delay = max(robot.latency + step / 2, 0.0)
  ages, durations = latency_stages(delay, step, PLANAR_SUBSTEPS)
  gains = model.actuator_gainprm[:, :1].astype(np.float32)
  inertia = np.array([[robot.mass], [robot.mass], [robot.inertia]], np.float32)
  ahead_of_axle = robot.wheelbase / 2  # m from the axle that cannot slide sideways to the origin
  grip = GRAVITY * TRACTION * step  # m/s of sideways speed that the tyres take away in a step

  def reset(position: jax.Array, yaw: jax.Array, key: jax.Array) -> BaseState:
    return at_rest(robot, jnp.append(position, yaw), 3, position, yaw, ages.shape[2] - 1, key)

  step_physics = jax.vmap(functools.partial(_physics_step, physics, template), -1, -1)

  def substep(i, carry, commands, slip, obstacles):
    qpos, qvel, steer, touch = carry
    yaw, yaw_rate = qpos[2], qvel[2]
    speed, sideways = rotated(qvel[:2], yaw_rate * step / 2 - yaw)
    motion = (speed, yaw_rate, steer)
    for stage in range(2):
      command = (jnp.asarray(ages[:, stage], jnp.float32)[i][:, None, None] * commands).sum(0) * (1 - slip)
      motion = _servo(robot, jnp.asarray(durations[:, stage], jnp.float32)[i], command, motion)
    speed, next_rate, steer = motion
    wanted = next_rate * ahead_of_axle - sideways
    held = jnp.clip(wanted, -grip, grip)
    ahead = yaw + next_rate * step / 2
    velocity = rotated(jnp.stack([speed, sideways + held]), ahead)
    applied = jnp.zeros_like(qvel)
    if obstacles is not None:
      moved = Motion(
        qpos[:2] + step * velocity, yaw + step * next_rate, velocity, next_rate, (i + 1.0) * step, step
      )
      tyres = Grip(ahead, -ahead_of_axle, held - wanted, held, grip)
      impulse, touch = resolve(robot, obstacles, moved, touch, tyres)
      applied = impulse / step
    # Targets of the servos, in the frame of the body now, that bring this change about.
    change = jnp.concatenate([velocity - qvel[:2], (next_rate - yaw_rate)[None]])
    ctrl = jnp.concatenate([rotated(qvel[:2], -yaw), yaw_rate[None]])
    ctrl += jnp.concatenate([rotated(change[:2], -yaw), change[2:]]) * inertia / (step * gains)
    qpos, qvel = step_physics(qpos, qvel, ctrl, applied)
    return qpos, qvel, steer, touch

  def move(qpos, qvel, steer, commands, slip, obstacles):
    carry = (qpos, qvel, steer, no_touch(qpos.shape[-1]))
    qpos, qvel, steer, touch = jax.lax.fori_loop(
      0, PLANAR_SUBSTEPS, lambda i, c: substep(i, c, commands, slip, obstacles), carry
    )
    return qpos, qvel, rotated(qvel[:2], qvel[2] * step / 2 - qpos[2]), steer, touch

  move_in_lanes = in_lanes(move)

  def advance(state: BaseState, command: jax.Array, obstacles: Obstacles | None = None) -> BaseState:
    commands = jnp.concatenate([clamp_command(robot, command)[None], state.commands])
    qpos, qvel, velocity, steer, touch = move_in_lanes(
      state.qpos, state.qvel, state.steer, commands, state.slip, obstacles
    )
    return driven(
      robot,
      state,
      commands,
      qpos=qpos,
      qvel=qvel,
      position=qpos[:2],
      yaw=qpos[2],
      velocity=velocity,
      yaw_rate=qvel[2],
      steer=steer,
      touch=touch,
    )

  return Base(robot, 'planar', step, model, reset, advance)
