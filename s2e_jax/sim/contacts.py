"""Contact of the robot with the scene's primitives, people, fence and walls, as impulses of one physics step.

The robot touches with three discs along its axis (radius: half its width) that span the stadium of its
footprint. Primitives are upright, so contact is planar: boxes are boxes, everything else is a disc (a capsule at
the widest height the robot reaches). Contacts act on velocities, with restitution 0 and Coulomb friction: they
take as much of the motion that the robot would make in the step as leads inside, so it stops at a surface, and
cannot tunnel while it moves less than a disc's radius in one step.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.robots import RobotDescription
from s2e_jax.sim.lanes import once
from s2e_jax.sim.obstacles import FAR, Obstacles, fence_gaps, obstacle_gaps, obstacles_near, wall_gaps_ahead

__all__ = [
  'FENCE', 'NOTHING', 'WALL', 'Grip', 'Motion', 'Obstacles', 'Touch', 'no_touch', 'obstacles_near', 'resolve',
]  # fmt: skip

NOTHING = -1  # Touch.slot: nothing was touched
FENCE = -2  # Touch.slot: the edge of the world (Ground.bounds)
WALL = -3  # Touch.slot: the scene's walls (Scene.walls)

FRICTION = 0.2  # of the robot's hull on walls, furniture and people
SWEEPS = 4  # Gauss-Seidel sweeps over the contacts
PUSH_OUT = 0.2  # share of an overlap undone per step
PUSH_OUT_SPEED = 0.5  # m/s: limit of that
TOUCH_SPEED = 1e-3  # m/s: a contact that changes the robot's speed by less is not reported


@struct.dataclass
class Touch:
  """What the robot touched during a policy step.

  is_touching: [] bool.
  impulse: [] N s, normal impulses summed over the policy step.
  hardest: [] N s, the largest one of a single contact in one physics step; the following tell of that contact.
  slot: [] int32 of what was touched: a primitive's slot, FENCE, WALL or NOTHING.
  normal: [2] unit, from the obstacle to the robot.
  robot_speed, other_speed: [] m/s with which robot and obstacle moved into each other (who moved into whom: the
    larger one); negative where one drew back.
  clearance: [] m, smallest gap between footprint and any primitive, fence or wall after the step, not below 0.
  """

  is_touching: jax.Array
  impulse: jax.Array
  hardest: jax.Array
  slot: jax.Array
  normal: jax.Array
  robot_speed: jax.Array
  other_speed: jax.Array
  clearance: jax.Array


class Motion(NamedTuple):
  """Where B robots would be after a physics step of `time_step` s without contact, and how fast.

  position [2, B] m, yaw [B] rad, velocity [2, B] m/s in the world, yaw_rate [B] rad/s; time: [] s since the
  policy step began (people have walked on that long).
  """

  position: jax.Array
  yaw: jax.Array
  velocity: jax.Array
  yaw_rate: jax.Array
  time: jax.Array
  time_step: float


class Grip(NamedTuple):
  """Tyres that keep an axle from sliding sideways as long as they can; they pull together with the contacts.

  heading: [B] rad of the robot. axle: m from the robot's origin forward. sliding: [B] m/s to the left that is
  left of the axle's sliding after the free motion. spent: [B] m/s to the left that the tyres have already
  changed in this step, limit: of that at most.
  """

  heading: jax.Array
  axle: float
  sliding: jax.Array
  spent: jax.Array
  limit: float


def no_touch(*batch: int) -> Touch:
  """The record of a robot that touches nothing; `batch` axes come last."""
  zero = jnp.zeros(batch)
  return Touch(
    is_touching=jnp.zeros(batch, bool),
    impulse=zero,
    hardest=zero,
    slot=jnp.full(batch, NOTHING, jnp.int32),
    normal=jnp.zeros((2, *batch)),
    robot_speed=zero,
    other_speed=zero,
    clearance=zero + FAR,
  )


def disc_offsets(robot: RobotDescription) -> np.ndarray:
  """[3] m along the robot's axis: centres of its discs."""
  return np.array([1.0, 0.0, -1.0]) * (robot.footprint.length - robot.footprint.width) / 2


class _Contacts(NamedTuple):
  """C = 6 candidates: the nearest of each disc, and the second nearest or the fence of each disc.

  Places of the walls are nearest and second nearest like primitives.

  gap [C] m after the free motion. normal (nx, ny) [C] away from the obstacle. arm (ax, ay) [C] m from the robot's
  origin. (vx, vy) [C] m/s of the obstacle. slot [C].
  """

  gap: jax.Array
  nx: jax.Array
  ny: jax.Array
  ax: jax.Array
  ay: jax.Array
  vx: jax.Array
  vy: jax.Array
  slot: jax.Array


def _candidates(robot: RobotDescription, obstacles: Obstacles, motion: Motion) -> _Contacts:
  offsets = disc_offsets(robot)[:, None].astype(np.float32)
  off_x, off_y = offsets * jnp.cos(motion.yaw), offsets * jnp.sin(motion.yaw)
  is_needed = motion.time >= 0
  off_x, off_y = once((off_x, off_y), is_needed)
  x, y = motion.position[0] + off_x, motion.position[1] + off_y
  gap, nx, ny = once(obstacle_gaps(obstacles, x, y, motion.time), is_needed)
  vx, vy, slots = obstacles.vx, obstacles.vy, obstacles.slot
  if obstacles.walls is not None:
    way_x, way_y = motion.velocity[0] - motion.yaw_rate * off_y, motion.velocity[1] + motion.yaw_rate * off_x
    places = once(wall_gaps_ahead(obstacles, x, y, way_x, way_y, robot.footprint.width / 4), is_needed)
    gap, nx, ny = (jnp.concatenate(pair, axis=1) for pair in zip((gap, nx, ny), places, strict=True))
    still = jnp.zeros((2, vx.shape[-1]))
    vx, vy = jnp.concatenate([vx, still]), jnp.concatenate([vy, still])
    slots = jnp.concatenate([slots, still + WALL])
  # Ties (a robot midway between two walls) are broken by the order.
  order = gap + 1e-6 * np.arange(gap.shape[1], dtype=np.float32)[:, None]
  nearest = order == order.min(1, keepdims=True)
  rest = jnp.where(nearest, 2 * FAR, order)
  second = rest == rest.min(1, keepdims=True)
  nearest, second = once((nearest, second), is_needed)

  def picked(pick: jax.Array, field: jax.Array) -> jax.Array:
    field = jnp.broadcast_to(field, pick.shape)
    total = jnp.where(pick[:, 0], field[:, 0], 0.0)
    for k in range(1, pick.shape[1]):
      total = jnp.where(pick[:, k], field[:, k], total)
    return total

  fence_gap, fence_x, fence_y = once(fence_gaps(obstacles, x, y), is_needed)
  second_gap = picked(second, gap)
  is_fence = fence_gap < second_gap

  def both(field: jax.Array, of_fence: jax.Array | float) -> jax.Array:
    return jnp.concatenate([jnp.where(is_fence, of_fence, picked(second, field)), picked(nearest, field)])

  radius = robot.footprint.width / 2
  nx, ny = both(nx, fence_x), both(ny, fence_y)
  return _Contacts(
    gap=both(gap, fence_gap) - radius,
    nx=nx,
    ny=ny,
    ax=jnp.concatenate([off_x, off_x]) - radius * nx,
    ay=jnp.concatenate([off_y, off_y]) - radius * ny,
    vx=both(vx, 0.0),
    vy=both(vy, 0.0),
    slot=both(slots, float(FENCE)),
  )


def resolve(
  robot: RobotDescription, obstacles: Obstacles, motion: Motion, touch: Touch, grip: Grip | None = None
) -> tuple[jax.Array, Touch]:
  """Impulse [3] (N s in world x and y, N m s about the robot's origin) that contacts give in one physics step.

  motion: what the robot would do without them. touch: what this policy step has touched so far; it comes back
  with this physics step added.
  """
  is_needed = motion.time >= 0
  position, yaw, velocity, yaw_rate = once(tuple(motion[:4]), is_needed)
  motion = motion._replace(position=position, yaw=yaw, velocity=velocity, yaw_rate=yaw_rate)
  c = once(_candidates(robot, obstacles, motion), is_needed)
  count = c.gap.shape[0]
  # Rows of the contacts' Jacobian: along the normals, then along the tangents (-ny, nx).
  gx, gy = jnp.concatenate([c.nx, -c.ny]), jnp.concatenate([c.ny, c.nx])
  ax, ay = jnp.concatenate([c.ax, c.ax]), jnp.concatenate([c.ay, c.ay])
  lever = ax * gy - ay * gx
  speed = gx * velocity[0] + gy * velocity[1] + lever * yaw_rate
  drift = gx * jnp.concatenate([c.vx, c.vx]) + gy * jnp.concatenate([c.vy, c.vy])
  relative = speed - drift
  # The gap after the free motion tells how much of it is free, or how deep the robot already is.
  least = relative[:count] - c.gap / motion.time_step
  least = jnp.where(least > 0, jnp.minimum(PUSH_OUT * least, PUSH_OUT_SPEED), least)
  missing = jnp.concatenate([least - relative[:count], -relative[count:]])
  if grip is not None:
    left_x, left_y = -jnp.sin(grip.heading), jnp.cos(grip.heading)
    gx, gy = jnp.concatenate([gx, left_x[None]]), jnp.concatenate([gy, left_y[None]])
    lever = jnp.concatenate([lever, jnp.full_like(lever[:1], grip.axle)])
    missing = jnp.concatenate([missing, -grip.sliding[None]])
    tyre_limits = robot.mass * (-grip.limit - grip.spent), robot.mass * (grip.limit - grip.spent)
    gx, gy, lever, missing = once((gx, gy, lever, missing), is_needed)
  coupling = (gx[:, None] * gx + gy[:, None] * gy) / robot.mass + lever[:, None] * lever / robot.inertia
  mass = 1 / ((gx * gx + gy * gy) / robot.mass + lever * lever / robot.inertia)
  # Whoever moves is left out of the last sweep: the robot may be pushed into a person, never into a wall.
  is_still = (c.vx == 0) & (c.vy == 0)
  row = np.arange(gx.shape[0])[:, None]

  def sweep(i: jax.Array, impulses: jax.Array) -> jax.Array:
    is_last = i == SWEEPS
    if grip is not None:
      wanted = impulses[-1] + mass[-1] * (missing[-1] - (coupling[-1] * impulses).sum(0))
      impulses = jnp.where((row == row[-1]) & ~is_last, jnp.clip(wanted, *tyre_limits), impulses)
    for n in range(count):
      for r in (n, n + count):
        wanted = impulses[r] + mass[r] * (missing[r] - (coupling[r] * impulses).sum(0))
        limit = FRICTION * impulses[n]
        allowed = jnp.maximum(wanted, 0.0) if r == n else jnp.clip(wanted, -limit, limit)
        keep = is_last & (~is_still[n] if r == n else True)
        impulses = jnp.where((row == r) & ~keep, allowed, impulses)
    return impulses

  impulses = jax.lax.fori_loop(0, SWEEPS + 1, sweep, jnp.zeros_like(gx))
  total = jnp.stack([(gx * impulses).sum(0), (gy * impulses).sum(0), (lever * impulses).sum(0)])
  return total, _record(robot, c, impulses[:count], speed[:count], drift[:count], touch)


def _record(
  robot: RobotDescription, c: _Contacts, pushes: jax.Array, speed: jax.Array, drift: jax.Array, touch: Touch
) -> Touch:
  """`touch` with one physics step's impulses [C] added; speed, drift: of robot and obstacle along the normals."""
  fields = jnp.stack([pushes, c.nx, c.ny, c.slot, speed, drift], 1)
  hardest, nx, ny, slot, speed, drift = functools.reduce(lambda a, b: jnp.where(b[0] > a[0], b, a), fields)
  is_touching = hardest > TOUCH_SPEED * robot.mass
  is_hardest = is_touching & (hardest > touch.hardest)
  return Touch(
    is_touching=touch.is_touching | is_touching,
    impulse=touch.impulse + pushes.sum(0),
    hardest=jnp.where(is_hardest, hardest, touch.hardest),
    slot=jnp.where(is_hardest, slot.astype(jnp.int32), touch.slot),
    normal=jnp.where(is_hardest, jnp.stack([nx, ny]), touch.normal),
    robot_speed=jnp.where(is_hardest, -speed, touch.robot_speed),
    other_speed=jnp.where(is_hardest, drift, touch.other_speed),
    clearance=jnp.maximum(c.gap.min(0), 0.0),
  )
