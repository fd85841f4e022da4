"""One step of everybody's walk."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from s2e_jax.scene import Ground, Scene, to_street, to_world
from s2e_jax.worlds import people_steering as steering
from s2e_jax.worlds.distance import outline_distances
from s2e_jax.worlds.people_spawn import static_outlines
from s2e_jax.worlds.people_state import MAX_SPEED, NUM_WAYPOINTS, People
from s2e_jax.worlds.people_walls import barrier_ahead, free_way_past_walls, stopped_by_walls, wall_barrier

_apart = jax.lax.optimization_barrier

ROBOT_RADIUS = 0.4  # m, of the disc that people see in the robot
MAX_ACCELERATION = 2.0  # m/s^2, of what people want; barriers may brake harder
REACTION_TIME = 0.6  # s, time constant of the velocity
LOOK_AHEAD = 2.0  # m of the path
ARRIVAL = 1.0  # m, a corner this near counts as reached
TOGETHER = 0.5  # m along the way, of companions
CATCH_UP = 0.8  # 1/m, of companions who fell behind
WANDER = 0.045  # rad, of the way people take
SWAY = 0.1  # of their speed
STANDING = 0.3  # m/s, a robot slower than this is an obstacle for everybody
ROBOT_SPACE = 0.15  # m more than between people, that those who yield leave to the robot
PAUSE = 1.0  # s at the end of the path before turning round
PATIENCE = 6.0  # s without getting ahead, then one turns round


def _at_corner(people: People, index: jax.Array) -> jax.Array:
  """[N, 2] corners of the paths by index [N]."""
  chosen = jnp.arange(NUM_WAYPOINTS) == index[:, None]
  return jnp.sum(jnp.where(chosen[..., None], people.waypoints, 0.0), axis=1)


def follow_path(people: People, ground: Ground, s: jax.Array, d: jax.Array) -> tuple[People, jax.Array]:
  """People with their next corner brought up to date, and the unit vector [N, 2] in the world of their way there.

  s, d: [N] m, where they are in the street frame.
  """
  k = ground.curvature
  metric = 1 - k * d  # metres of walking per metre of s
  goal = _at_corner(people, people.target)
  last = _at_corner(people, people.target - people.direction)
  leg_s, leg_d = (goal[:, 0] - last[:, 0]) * metric, goal[:, 1] - last[:, 1]
  along_s, along_d = (s - last[:, 0]) * metric, d - last[:, 1]
  length = jnp.sqrt(leg_s * leg_s + leg_d * leg_d)
  done = (along_s * leg_s + along_d * leg_d) / jnp.maximum(length, 1e-3)
  left = jnp.sqrt((leg_s - along_s) ** 2 + (leg_d - along_d) ** 2)
  arrived = (left < ARRIVAL) | (done > length - 0.5)
  # towards a point of the path a little ahead, round the next corner too
  share = jnp.clip((done + LOOK_AHEAD) / jnp.maximum(length, 1e-3), 0.0, 1.0)
  after = _at_corner(people, jnp.clip(people.target + people.direction, people.first, NUM_WAYPOINTS - 1))
  turn_s, turn_d = (after[:, 0] - goal[:, 0]) * metric, after[:, 1] - goal[:, 1]
  rest = jnp.maximum(done + LOOK_AHEAD - length, 0.0)
  beyond = jnp.minimum(rest / jnp.maximum(jnp.sqrt(turn_s * turn_s + turn_d * turn_d), 1e-3), 1.0)
  to_s, to_d = share * leg_s + beyond * turn_s - along_s, share * leg_d + beyond * turn_d - along_d
  size = jnp.sqrt(to_s * to_s + to_d * to_d)
  near = size < 1e-3
  to_s, to_d = (
    jnp.where(near, 1.0, to_s / jnp.maximum(size, 1e-3)),
    jnp.where(near, 0.0, to_d / jnp.maximum(size, 1e-3)),
  )
  c, w = jnp.cos(k * s), jnp.sin(k * s)
  aim = jnp.stack([c * to_s - w * to_d, w * to_s + c * to_d], axis=-1)

  following = people.target + people.direction
  at_end = (following >= NUM_WAYPOINTS) | (following < people.first)
  turns = (arrived & at_end) | (people.stuck > PATIENCE)
  target = jnp.where(arrived & ~at_end, following, people.target)
  target = jnp.where(turns, target - people.direction, target)
  target = jnp.clip(target, people.first, NUM_WAYPOINTS - 1)
  return dataclasses.replace(
    people,
    target=target,
    direction=jnp.where(turns, -people.direction, people.direction),
    wait=jnp.where(arrived & at_end, jnp.maximum(people.wait, PAUSE), people.wait),
    stuck=jnp.where(turns, 0.0, people.stuck),
  ), aim


def _way_back(people: People, ground: Ground) -> jax.Array:
  """[N, 2] m in the world, from where people are to the corner they walk to."""
  goal = _at_corner(people, people.target)
  return jnp.stack(to_world(goal[:, 0], goal[:, 1], ground.curvature), axis=-1) - people.position


def _fence(ground: Ground, s: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Distances [N, 4] (m) of street points [N] to the sides of the world, and their normals inwards [N, 4, 2]."""
  c, w = jnp.cos(ground.curvature * s), jnp.sin(ground.curvature * s)
  along, across = jnp.stack([c, w], axis=-1), jnp.stack([-w, c], axis=-1)
  b, metric = ground.bounds, 1 - ground.curvature * d
  distance = jnp.stack([(s - b[0]) * metric, (b[1] - s) * metric, d - b[2], b[3] - d], axis=-1)
  return distance, jnp.stack([along, -along, across, -across], axis=1)


def _unit(vectors: jax.Array, longest: float = 1.0) -> jax.Array:
  """Vectors [N, 2] cut to the length `longest`."""
  size = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1, keepdims=True) + 1e-12)
  return vectors * jnp.minimum(1.0, longest / size)


def _obeyed(velocity: jax.Array, barriers: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
  """Velocity [N, 2] near the given one that obeys barriers (normals [N, M, 2], speeds [N, M] m/s)."""
  normals, allowed = zip(*barriers, strict=True)
  return steering.obey_barriers(velocity, jnp.concatenate(normals, axis=1), jnp.concatenate(allowed, axis=1))


def walking_speed(people: People, aim: jax.Array, wait: jax.Array) -> jax.Array:
  """Speed [N] (m/s) that people want now: 0 for those who stand or wait; companions wait for each other.

  aim: [N, 2] unit vector of the way. wait: [N] s.
  """
  present = people.present
  together = (people.group[:, None] == people.group) & present & present[:, None]
  size = jnp.maximum(jnp.sum(together, axis=-1), 1)
  centre = jnp.sum(jnp.where(together[..., None], people.position, 0.0), axis=1) / size[:, None]
  behind = jnp.where(size > 1, jnp.sum((centre - people.position) * aim, axis=-1), 0.0)
  # a little apart is no reason to wait, else those in file would all slow down
  lag = jnp.sign(behind) * jnp.maximum(jnp.abs(behind) - TOGETHER, 0.0)
  pace = 1 + jnp.clip(CATCH_UP * lag, -0.5, 0.3) + SWAY * jnp.sin(1.5 * people.clock)
  walks = (people.preferred_speed > 0) & (wait <= 0) & present
  return jnp.where(walks, jnp.minimum(people.preferred_speed * pace, MAX_SPEED), 0.0)


def step_people(
  people: People,
  scene: Scene,
  robot_pos: jax.Array,
  robot_velocity: jax.Array,
  dt: float = 0.25,
  robot_radius: float = ROBOT_RADIUS,
) -> People:
  """People dt seconds on; robot_pos, robot_velocity: [2] m and m/s in the world.

  Positions move by exactly velocity * dt of the result. No key: everybody's whims are drawn at birth.
  """
  num = people.present.shape[0]
  ground, position, present = scene.ground, people.position, people.present
  s, d = to_street(position[:, 0], position[:, 1], ground.curvature)
  people, aim = follow_path(people, ground, s, d)
  to_robot = robot_pos - position
  is_triggered = jnp.sum(to_robot * to_robot, axis=-1) < people.trigger**2
  wait = jnp.where(is_triggered, 0.0, jnp.maximum(people.wait - dt, 0.0))
  clock = people.clock + dt
  wander = WANDER * (jnp.sin(0.9 * clock) + jnp.sin(2.3 * clock + 1.0))
  aim = jnp.stack([aim[:, 0] - wander * aim[:, 1], aim[:, 1] + wander * aim[:, 0]], axis=-1)
  speed = walking_speed(people, aim, wait)

  # everybody else, the robot last
  others = jnp.concatenate([position, robot_pos[None]])
  velocities = jnp.concatenate([people.velocity, robot_velocity[None]])
  radii = jnp.concatenate([people.radius, jnp.full(1, robot_radius)])
  is_robot = jnp.arange(num + 1) == num
  sees_robot = people.yields | (jnp.sum(robot_velocity * robot_velocity) < STANDING**2)
  is_other = jnp.concatenate([present & ~jnp.eye(num, dtype=bool), sees_robot[:, None]], axis=1) & present[:, None]
  together = jnp.concatenate([people.group[:, None] == people.group, jnp.zeros((num, 1), bool)], axis=1)

  # the most direct free way
  shape = static_outlines(scene, num)
  # The barriers for the compiler keep these small results from being worked out again for every object: the same
  # step takes 1.6 times as long without them on a CPU.
  heading, speed, shape = _apart((steering.headings_around(aim), speed, shape))
  way = steering.free_way_past_objects(shape, position, heading, people.radius + steering.WALL_SPACE)
  if scene.walls is not None:
    to_walls = free_way_past_walls(scene.walls, position, heading, people.radius + steering.WALL_SPACE)
    way = jnp.minimum(way, to_walls)
  space = steering.SPACE + jnp.where(is_robot & people.yields[:, None], ROBOT_SPACE, 0.0)
  reach = people.radius[:, None] + radii + space
  meets, reach, walk = _apart(((is_other & ~together).T, reach.T, heading * speed[:, None, None]))
  time = steering.time_to_discs(others, velocities, reach, meets, position, walk)
  way, time = _apart((way, time))
  to_people = time * speed[:, None]
  # inattentive people notice others late
  overlooked = people.is_scripted[:, None] & (to_people > steering.SHORT_HORIZON)
  way = jnp.minimum(way, jnp.where(overlooked, steering.FREE, to_people))
  off = steering.leaves_pavement(ground, s, d, heading, 0.9)
  best, fastest, pace = steering.choose_heading(way, off, heading, people.velocity)
  wanted = best * jnp.minimum(speed * pace, fastest)[:, None]

  # keep one's distance, return to where one stands, and all that with human accelerations
  feels = is_other & ~together & ~people.is_scripted[:, None]
  wanted = wanted + steering.social_force(
    position, people.radius[:, None] + radii, others, feels, best * (speed > 0)[:, None]
  )
  stands = (people.preferred_speed == 0)[:, None]
  wanted = wanted + jnp.where(stands, _unit(0.5 * _way_back(people, ground), 0.5), 0.0)
  change = (wanted - people.velocity) * (1 - math.exp(-dt / REACTION_TIME))
  velocity = _unit(people.velocity + _unit(change, MAX_ACCELERATION * dt), MAX_SPEED)

  # barriers: objects, the fence, people and the robot
  gap, normal = outline_distances(shape, position)
  fence, inwards = _fence(ground, s, d)
  between = position[:, None] - others
  distance = jnp.sqrt(jnp.sum(between * between, axis=-1) + 1e-9)
  away = between / distance[..., None]
  separation = -jnp.sum(velocities * away, axis=-1)
  # half of the gap is mine, and what the other is sure to move away; a robot that comes near moves the person
  fleeing = jnp.maximum(separation - steering.BRAKING * dt, 0.0)
  fleeing = jnp.where(is_robot, jnp.clip(separation, -1.0, 0.0), fleeing)
  to_others = steering.safe_approach((distance - radii - people.radius[:, None]) / 2, dt) + fleeing
  barriers = [
    (normal, steering.safe_approach(gap - people.radius[:, None], dt)),
    (inwards, steering.safe_approach(fence - people.radius[:, None] - 0.05, dt)),
    (away, jnp.where(is_other, to_others, steering.FREE)),
  ]
  if scene.walls is not None:
    barriers.append(wall_barrier(scene.walls, position, people.radius, dt))
  velocity = _obeyed(velocity, barriers)
  if scene.walls is not None:
    barriers.append(barrier_ahead(scene.walls, position, velocity, people.radius, dt))
    velocity = _obeyed(velocity, barriers)
    velocity = stopped_by_walls(scene.walls, position, velocity, people.radius, dt)
  velocity = jnp.where(present[:, None], velocity, 0.0)
  is_slow = jnp.sum(velocity * aim, axis=-1) < 0.2 * people.preferred_speed
  return dataclasses.replace(
    people,
    position=position + velocity * dt,
    velocity=velocity,
    wait=wait,
    clock=clock,
    stuck=jnp.where((speed > 0) & is_slow, people.stuck + dt, 0.0),
  )
