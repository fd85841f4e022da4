"""What the expert's commands would lead to: rollouts with the robot's lag and limits, and what they cost.

Everything is laid out with the C candidate commands last, so that one step of all of them is vector arithmetic.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.geometry import arctan2
from s2e_jax.robots import RobotDescription
from s2e_jax.worlds.expert_surroundings import (
  Field,
  Surroundings,
  cells,
  fence_clearance,
  near_street,
  person_clearance,
  static_clearance,
)
from s2e_jax.worlds.routes import geodesic_at
from s2e_jax.worlds.turning import turning_at

STEP = 0.25  # s
NUM_STEPS, NUM_STEPS_ACKERMANN = 10, 14  # who cannot turn on the spot has to see farther
FIRST_STEPS = 3  # steps for which the first of the two commands of a candidate is held
# Costs in metres of way.
_ALIGN = 0.5  # looking sideways at the end of a rollout, for a robot that turns on the spot
_COLLISION = 30.0  # touching, in every step from then on
_CROWDED = 1.5  # a second beside a thing
_TOO_FAST = 4.0  # a second at 1 m/s too much beside a person
_REVERSE = 0.5  # a metre backwards
_ROUGH = 0.3  # a metre of way in a cell that costs 1 more than clear pavement
_TRAPPED = 4.0  # ending where an Ackermann robot cannot turn to where the way leads
_LOST = 40.0  # ending where no turns within the map lead to the goal
_STANDS, _STAND = 0.1, 5.0  # m: not having left the spot; what that costs who knows its turns
_FORGET_PEOPLE = 1.5  # s after which a predicted collision with a person counts 1/e


@dataclasses.dataclass(frozen=True)
class Costs:
  """The robot and the numbers of `expert.ExpertConfig` that rollouts are judged by."""

  robot: RobotDescription
  keep_clear: float
  margin: float
  person_margin: float
  person_drift: float
  personal_space: float
  caution: float
  creep: float
  calm: float
  goal_radius: float

  @property
  def curvature(self) -> float:
    """1/m of the tightest turn; 0 for robots that turn on the spot."""
    return self.robot.curvature

  @property
  def num_steps(self) -> int:
    """Steps of a rollout."""
    return NUM_STEPS_ACKERMANN if self.curvature else NUM_STEPS

  @property
  def radius(self) -> float:
    """m of the discs at the front and rear of the footprint."""
    return self.robot.footprint.width / 2

  @property
  def reach(self) -> float:
    """m from the robot's origin to the middle of either disc."""
    return self.robot.reach


@struct.dataclass
class Motion:
  """Where C rollouts are, [C] each: x, y (m) relative to the robot's start, heading (rad) with its cos and sin,
  speed v (m/s), turning rate w (rad/s), way (m) of the last step.
  """

  x: jax.Array
  y: jax.Array
  heading: jax.Array
  cos: jax.Array
  sin: jax.Array
  v: jax.Array
  w: jax.Array
  way: jax.Array


@struct.dataclass
class Bill:
  """What C rollouts have cost so far, [C] each: total, the worst touch of a thing and of a person, and whether and
  when (steps) the goal was reached, from where on nothing counts.
  """

  total: jax.Array
  touch: jax.Array
  push: jax.Array
  arrived: jax.Array
  arrival: jax.Array


def _approach(value: jax.Array, target: jax.Array, share: float, up: float, down: float) -> jax.Array:
  """`value` after one step of first-order lag towards target; the magnitude changes by at most up or down."""
  limit = jnp.where(jnp.abs(target) > jnp.abs(value), up, down)
  return value + jnp.clip(share * (target - value), -limit, limit)


def moved(costs: Costs, motion: Motion, target_v: jax.Array, target_w: jax.Array) -> Motion:
  """The motion after one step towards the commanded speed and turning rate [C]."""
  robot = costs.robot
  share = 1 - math.exp(-STEP / (robot.time_constant + robot.latency))
  turn_share = 1 - math.exp(-STEP / (robot.yaw_time_constant + robot.latency))
  turn_limit = STEP * robot.max_yaw_acceleration
  v = _approach(motion.v, target_v, share, STEP * robot.max_acceleration, STEP * robot.max_braking)
  w = _approach(motion.w, target_w, turn_share, turn_limit, turn_limit)
  if costs.curvature:
    w = jnp.clip(w, -costs.curvature * jnp.abs(v), costs.curvature * jnp.abs(v))
  heading = motion.heading + 0.5 * STEP * (motion.w + w)
  cos, sin = jnp.cos(heading), jnp.sin(heading)
  way = 0.5 * STEP * (motion.v + v)
  x, y = motion.x + 0.5 * way * (motion.cos + cos), motion.y + 0.5 * way * (motion.sin + sin)
  return Motion(x, y, heading, cos, sin, v, w, way)


def _clearances(
  costs: Costs, near: Surroundings, grid: tuple[int, ...], motion: Motion, time: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Distances [C] (m) of the footprint to things or fence and to people, and the cells [C] that hold the robot.

  grid: shape of the field that the cells belong to.
  """
  # front and rear disc of the footprint
  dx, dy = costs.reach * motion.cos, costs.reach * motion.sin
  x, y = jnp.stack([motion.x + dx, motion.x - dx]), jnp.stack([motion.y + dy, motion.y - dy])
  # barriers, or XLA computes the distances anew in everything that reads them
  things = jax.lax.optimization_barrier(static_clearance(near, x, y))
  people = jax.lax.optimization_barrier(person_clearance(near, x, y, time, costs.person_drift))
  s, d = near_street(near, motion.x, motion.y)
  thing = jnp.minimum(jnp.min(things, axis=0), fence_clearance(near, s, d) - costs.reach)
  return thing - costs.radius, jnp.min(people, axis=0) - costs.radius, cells(near.ground, grid, s, d)


def _billed(
  costs: Costs, near: Surroundings, field: Field, nerve: jax.Array, bill: Bill, motion: Motion, i: jax.Array
) -> Bill:
  """The bill after step i, which led to `motion`."""
  time = STEP * (i + 1)
  clear, person, cell = _clearances(costs, near, field.cost.shape, motion, time)
  speed = jnp.abs(motion.v)
  # What has been touched once stays touched: nothing is gained by coming out on the other side.
  touch = jnp.clip((costs.margin - clear) / max(costs.margin, 0.01), 0, 3)
  touch = jnp.maximum(bill.touch, (1 - 0.5 * i / costs.num_steps) * touch)
  # Worse with the robot's own speed; predictions of people are forgotten with time.
  margin = jnp.maximum(costs.person_margin * (0.4 + 0.6 * nerve), 0.01)
  push = jnp.clip((margin - person) / margin, 0, 3) * (0.4 + speed)
  push = jnp.maximum(bill.push, jnp.exp(-time / _FORGET_PEOPLE) * push)
  cost = _COLLISION * (touch + push)
  crowd = jnp.clip(1 - clear / max(costs.keep_clear, 0.01), 0, 1)
  cost += STEP * _CROWDED * crowd * crowd
  crowd = jnp.clip(1 - person / max(costs.personal_space, 0.01), 0, 1)
  cost += STEP * costs.caution * nerve * crowd * (1 + speed)
  cost += STEP * _TOO_FAST * jnp.maximum(speed - costs.creep - jnp.maximum(person, 0), 0)
  rough = jnp.take(field.cost.reshape(-1), cell, mode='clip') - 1
  cost += _ROUGH * jnp.abs(motion.way) * jnp.minimum(rough, 5.0)
  cost += _REVERSE * jnp.maximum(-motion.way, 0)
  dx, dy = motion.x - near.goal_x, motion.y - near.goal_y
  arrived = bill.arrived | (dx * dx + dy * dy < costs.goal_radius**2)
  arrival = jnp.where(bill.arrived, bill.arrival, i + 1.0)
  return Bill(bill.total + jnp.where(bill.arrived, 0.0, cost), touch, push, arrived, arrival)


def _way_on(costs: Costs, near: Surroundings, field: Field, motion: Motion, pos: jax.Array) -> jax.Array:
  """What the way from the end of the rollouts to the goal costs [C], with the turn that it begins with."""
  points = jnp.stack([pos[0] + motion.x, pos[1] + motion.y], axis=-1)
  way = geodesic_at(field.to_goal, near.ground, points)
  cell = cells(near.ground, field.cost.shape, *near_street(near, motion.x, motion.y))
  down_x = jnp.take(field.down_x.reshape(-1), cell, mode='clip')
  down_y = jnp.take(field.down_y.reshape(-1), cell, mode='clip')
  facing, aside = motion.cos * down_x + motion.sin * down_y, motion.cos * down_y - motion.sin * down_x
  if not costs.curvature:
    return way + _ALIGN * (1 - facing) * jnp.minimum(way, 1.0)  # close to the goal it does not matter
  # an Ackermann robot has to drive to turn: along its tightest circle to where the way leads
  tightest = 1 / costs.curvature
  angle, side = arctan2(jnp.abs(aside), facing), jnp.where(aside < 0, -1.0, 1.0)
  turned = jnp.stack([angle / 3, 2 * angle / 3, angle])
  ahead, left = tightest * jnp.sin(turned), tightest * side * (1 - jnp.cos(turned))
  x = motion.x + ahead * motion.cos - left * motion.sin
  y = motion.y + ahead * motion.sin + left * motion.cos
  room = jnp.minimum(static_clearance(near, x, y), fence_clearance(near, *near_street(near, x, y)))
  is_trapped = jnp.any(room < costs.radius + costs.margin, axis=0)
  turn = 1.5 * tightest * (1 - facing) + jnp.where(is_trapped, _TRAPPED, 0.0)
  return way + turn * jnp.minimum(way / tightest, 1.0)


def _way_by_turns(field: Field, near: Surroundings, motion: Motion, pos: jax.Array) -> jax.Array:
  """Way [C] (m) to the goal from where rollouts are now by the turns that are known (`turning.turning_ways`)."""
  assert field.turning is not None
  x, y = pos[0] + motion.x, pos[1] + motion.y
  known, share = turning_at(field.turning, x, y, motion.heading)
  around = geodesic_at(field.to_goal, near.ground, jnp.stack([x, y], axis=-1))
  stands = motion.x * motion.x + motion.y * motion.y < _STANDS**2
  return share * known + (1 - share) * (around + _LOST) + jnp.where(stands, _STAND, 0.0)


def rollout_costs(
  costs: Costs,
  near: Surroundings,
  field: Field,
  nerve: jax.Array,
  pos: jax.Array,
  yaw: jax.Array,
  velocity: jax.Array,
  commands: jax.Array,
) -> jax.Array:
  """Costs [C], in metres of way, of commands [4, C]: (v, w) held for FIRST_STEPS steps, then (v, w) to the end.

  nerve: [] 1, less to come closer to people. pos, yaw, velocity: of the robot, see `expert.expert_command`.
  """

  def advance(carry: tuple[Motion, Bill, jax.Array], i: jax.Array) -> tuple[tuple[Motion, Bill, jax.Array], None]:
    motion, bill, least = carry
    is_first = i < FIRST_STEPS
    target_v = jnp.where(is_first, commands[0], commands[2])
    target_w = jnp.where(is_first, commands[1], commands[3])
    motion = moved(costs, motion, target_v, target_w)
    if field.turning is not None:
      # the end of a rollout may leave the ways that are known: another command will be sent before
      way = _way_by_turns(field, near, motion, pos)
      least = jnp.minimum(least, jnp.where(i < FIRST_STEPS - 1, jnp.inf, way))
    return (motion, _billed(costs, near, field, nerve, bill, motion, i), least), None

  zero = jnp.zeros(commands.shape[1])
  motion = Motion(
    x=zero,
    y=zero,
    heading=zero + yaw,
    cos=zero + jnp.cos(yaw),
    sin=zero + jnp.sin(yaw),
    v=zero + velocity[0],
    w=zero + velocity[1],
    way=zero,
  )
  bill = Bill(total=zero, touch=zero, push=zero, arrived=zero > 0, arrival=zero)
  (motion, bill, least), _ = jax.lax.scan(advance, (motion, bill, zero + jnp.inf), jnp.arange(costs.num_steps))
  # arriving early is worth the way that could have been driven meanwhile
  gained = STEP * (bill.arrival - costs.num_steps) * costs.robot.max_speed
  way_on = _way_on(costs, near, field, motion, pos) if field.turning is None else least
  rest = jnp.where(bill.arrived, gained, way_on)
  change = jnp.abs(commands[0] - velocity[0]) + jnp.abs(commands[1] - velocity[1])
  return bill.total + rest + costs.calm * change
