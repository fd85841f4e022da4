"""The wheels level: a free body that MJX's contact solver carries on its wheels.

The command goes to the wheels by inverse kinematics; wheel servos and tyres do the rest. For checking the planar
level and for slow, faithful runs.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from s2e_jax.geometry import arctan, arctan2
from s2e_jax.robots import RobotDescription
from s2e_jax.sim.base import (
  Base,
  BaseState,
  at_rest,
  clamp_change,
  clamp_command,
  driven,
  latency_weights,
  rotated,
  steer_rate,
  wanted_steer,
)
from s2e_jax.sim.contacts import Motion, Obstacles, no_touch, resolve
from s2e_jax.sim.lanes import in_lanes
from s2e_jax.sim.mjcf import (
  POLICY_STEP,
  WHEELS_SUBSTEPS,
  centre_of_mass,
  robot_mjcf,
  turning_constant,
  wheel_places,
)


def _yaw_of(qpos: jax.Array) -> jax.Array:
  w, x, y, z = qpos[3:7]
  return arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _physics_step(
  physics: mjx.Model, template: mjx.Data, qpos: jax.Array, qvel: jax.Array, warm: jax.Array, ctrl: jax.Array,
  applied: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
  """Positions, velocities and solver start one MJX step later."""
  data = template.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warm, ctrl=ctrl, qfrc_applied=applied)
  data = mjx.step(physics, data)
  return data.qpos, data.qvel, data.qacc_warmstart


def _differential(robot: RobotDescription, command: jax.Array, spin: jax.Array, step: float) -> jax.Array:
  """Targets [2] (rad/s) of the left and right wheel for a command [2], from their speeds [2]."""
  radius, half = robot.wheel_radius, robot.track / 2
  speed = radius * (spin[0] + spin[1]) / 2
  turn = radius * (spin[1] - spin[0]) / (2 * half)
  speed = speed + _allowed_error(robot, command[0] - speed, speed, step)
  limit = robot.max_yaw_acceleration * (turning_constant(robot) + step)
  turn = turn + jnp.clip(command[1] - turn, -limit, limit)
  return jnp.stack([speed - half * turn, speed + half * turn]) / radius


def _allowed_error(robot: RobotDescription, error: jax.Array, speed: jax.Array, step: float) -> jax.Array:
  """The error of speed that the servos are shown, so that they accelerate and brake within the limits."""
  lag = robot.time_constant + step  # the servos are implicit: their error counts at the end of the step
  change = clamp_change(error * step / lag, speed, robot.max_acceleration, robot.max_braking, step)
  return change * lag / step


def _ackermann(
  robot: RobotDescription, command: jax.Array, spin: jax.Array, steer: jax.Array, step: float
) -> jax.Array:
  """Targets [4]: rad/s of the left and right rear wheel, rad of the left and right front wheel."""
  radius, half = robot.wheel_radius, robot.track / 2
  speed = radius * (spin[0] + spin[1]) / 2
  limit = steer_rate(robot, speed) * robot.yaw_time_constant
  target = steer + jnp.clip(wanted_steer(robot, command) - steer, -limit, limit)
  speed = speed + _allowed_error(robot, command[0] - speed, speed, step)
  curve, turn = jnp.tan(target) / robot.wheelbase, jnp.tan(steer) / robot.wheelbase
  return jnp.stack(
    [
      speed * (1 - half * turn) / radius,
      speed * (1 + half * turn) / radius,
      arctan2(robot.wheelbase * curve, 1 - half * curve),
      arctan2(robot.wheelbase * curve, 1 + half * curve),
    ]
  )


def make_wheels(robot: RobotDescription, substeps: int = WHEELS_SUBSTEPS) -> Base:
  """The wheels level of a robot, see `base.Base`; ValueError for a robot without wheels."""
  model = mujoco.MjModel.from_xml_string(robot_mjcf(robot, 'wheels'))
  step = POLICY_STEP / substeps
  model.opt.timestep = step
  physics = mjx.put_model(model, impl='jax')
  template = mjx.make_data(model, impl='jax')
  weights = latency_weights(robot.latency, step, substeps)
  places = list(wheel_places(robot))
  spins = [model.joint(name).dofadr[0] for name in places[:2]]
  steers = [model.joint(f'steer_{name}').qposadr[0] for name in places[2:]]
  height = centre_of_mass(robot)
  step_physics = jax.vmap(functools.partial(_physics_step, physics, template), -1, -1)

  def mean_steer(qpos: jax.Array) -> jax.Array:
    if not steers:
      return jnp.zeros_like(qpos[0])
    # The angle of a wheel between the two: the mean of their cotangents.
    left, right = jnp.tan(qpos[steers[0]]), jnp.tan(qpos[steers[1]])
    return arctan(2 * left * right / jnp.where(jnp.abs(left + right) < 1e-6, 1.0, left + right))

  def substep(i, carry, commands, slip, obstacles):
    qpos, qvel, warm, touch = carry
    command = (jnp.asarray(weights, jnp.float32)[i][:, None, None] * commands).sum(0) * (1 - slip)
    spin = jnp.stack([qvel[n] for n in spins])
    if robot.drive == 'differential':
      ctrl = _differential(robot, command, spin, step)
    else:
      ctrl = _ackermann(robot, command, spin, mean_steer(qpos), step)
    applied = jnp.zeros_like(qvel)
    if obstacles is not None:
      yaw, velocity, yaw_rate = _yaw_of(qpos), qvel[:2], qvel[5]
      moved = Motion(qpos[:2] + step * velocity, yaw + step * yaw_rate, velocity, yaw_rate, (i + 1.0) * step, step)
      impulse, touch = resolve(robot, obstacles, moved, touch)
      force = impulse / step
      # At the height of the centre of mass: a torque in the body's frame, which stays nearly upright.
      side = rotated(jnp.stack([-height * force[1], height * force[0]]), -yaw)
      applied = jnp.concatenate([force[:2], jnp.zeros_like(force[:1]), side, force[2:], jnp.zeros_like(qvel[6:])])
    return *step_physics(qpos, qvel, warm, ctrl, applied), touch

  def move(qpos, qvel, warm, commands, slip, obstacles):
    carry = (qpos, qvel, warm, no_touch(qpos.shape[-1]))
    qpos, qvel, warm, touch = jax.lax.fori_loop(
      0, substeps, lambda i, c: substep(i, c, commands, slip, obstacles), carry
    )
    yaw = _yaw_of(qpos)
    return qpos, qvel, warm, yaw, rotated(qvel[:2], -yaw), mean_steer(qpos), touch

  def reset(position: jax.Array, yaw: jax.Array, key: jax.Array) -> BaseState:
    start = jnp.asarray(model.qpos0, jnp.float32)
    turned = jnp.stack([jnp.cos(yaw / 2), jnp.zeros(()), jnp.zeros(()), jnp.sin(yaw / 2)])
    qpos = jnp.concatenate([position, start[2:3], turned, start[7:]])
    return at_rest(robot, qpos, model.nv, position, yaw, weights.shape[1] - 1, key)

  move_in_lanes = in_lanes(move)

  def advance(state: BaseState, command: jax.Array, obstacles: Obstacles | None = None) -> BaseState:
    commands = jnp.concatenate([clamp_command(robot, command)[None], state.commands])
    qpos, qvel, warm, yaw, velocity, steer, touch = move_in_lanes(
      state.qpos, state.qvel, state.warmstart, commands, state.slip, obstacles
    )
    return driven(
      robot,
      state,
      commands,
      qpos=qpos,
      qvel=qvel,
      warmstart=warm,
      position=qpos[:2],
      yaw=yaw,
      velocity=velocity,
      yaw_rate=qvel[5],
      steer=steer,
      touch=touch,
    )

  return Base(robot, 'wheels', step, model, reset, advance)
