"""A privileged planner under the robot's own limits: it labels demonstrations and bounds what is reachable.

The way to the goal (`routes.geodesic` with the planner's own clearances) says where to go; a dynamic window
(Fox, Burgard and Thrun 1997; with a global field as in Brock and Khatib 1999) says how: every command of a fixed
fan is rolled out over a short horizon with the robot's lag and limits (`expert_rollout`), the cheapest one is
refined once and sent. It sees the whole scene, and people with their velocities, which it takes to be constant.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.robots import RobotDescription
from s2e_jax.worlds.expert_rollout import STEP, Costs, rollout_costs
from s2e_jax.worlds.expert_surroundings import Field, field_of, static_clearance, surroundings_of
from s2e_jax.worlds.people_state import People, place_people
from s2e_jax.worlds.routes import UNREACHABLE, free_space, geodesic, geodesic_at
from s2e_jax.worlds.turning import Turning, turning_ways
from s2e_jax.worlds.world import World

_PATIENCE = 4.0  # s of waiting after which nearness to people counts 1/e
_IDLE = 0.1  # m/s: slower is waiting
_LOCK = 0.9  # of the tightest turn that ways are planned with: lag and slip take the rest
_TURNING_ROOM = 0.06  # m that these ways keep beyond the margin


@dataclasses.dataclass(frozen=True)
class ExpertConfig:
  """How careful the expert is. Distances are between outlines (m), speeds m/s.

  max_speed: it never drives faster; None is the robot's own limit.
  keep_clear: distance below which nearness to things costs, on the route and in the window.
  clear_cost: what the nearest metre of way along a thing costs on top of its length.
  off_pavement: what a metre on grass or carriageway costs on top of its length.
  margin: below this distance to a thing a command counts as a collision. person_margin: the same to people, who
    count as larger by person_drift metres for every metre that they are predicted ahead.
  personal_space: distance below which nearness to people costs. caution: factor of that cost.
  creep: m/s that it drives at most beside people whom it nearly touches, 1 m/s more for every metre of distance.
  goal_radius: m from the goal where it stops.
  calm: what a change of speed (per m/s) and of turning rate (per rad/s) costs.
  """

  max_speed: float | None = None
  keep_clear: float = 0.5
  clear_cost: float = 1.0
  off_pavement: float = 3.0
  margin: float = 0.08
  person_margin: float = 0.2
  person_drift: float = 0.15
  personal_space: float = 1.0
  caution: float = 1.0
  creep: float = 0.3
  goal_radius: float = 0.8
  calm: float = 0.15

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value is not None and value < 0:
        raise ValueError(f'expert.{field.name}={value!r} must not be negative')
    if self.max_speed == 0:
      raise ValueError('expert.max_speed=0 would never move; use None for the limit of the robot')


# Drives to learn from: early and wide around everything.
CAREFUL = ExpertConfig(keep_clear=0.9, clear_cost=2.0, personal_space=1.4, caution=1.5, person_margin=0.3)


@struct.dataclass
class ExpertState:
  """What the expert keeps for one episode.

  field: where to go from every place. waited: [] s that it has hardly moved, running out as it drives again.
  """

  field: Field
  waited: jax.Array


def route_radius(robot: RobotDescription) -> float:
  """Radius (m) of the disc that routes are planned for: half the width and some room to turn."""
  return max(robot.footprint.width / 2 + 0.1, 0.8 * robot.radius)


def expert_init(robot: RobotDescription, config: ExpertConfig, world: World) -> ExpertState:
  """State of the expert at the start of an episode in `world`.

  Its way keeps clear of things and of people who stand. Where that leaves no way to the goal it ignores the
  people, then takes the way that the world itself has. Between walls, a robot that has to drive to turn also knows
  how far every pose is from the goal; batches of those are not to be vmapped, see `turning.turning_ways`.
  """
  ground, people = world.scene.ground, world.people
  start, goal = world.start_in_world[None], world.goal_in_world
  bodies = dataclasses.replace(people, present=people.present & (people.preferred_speed == 0))
  scene = place_people(world.scene, bodies)
  grids = []
  for with_people in (True, False):
    free = free_space(
      scene,
      route_radius(robot),
      config.keep_clear,
      config.clear_cost,
      config.off_pavement,
      robot.height,
      include_people=with_people,
      grid=world.to_goal.shape,
    )
    grids.append((geodesic(scene, free, goal), free))
  (to_goal, free), (around_things, free_of_things) = grids
  is_blocked = geodesic_at(to_goal, ground, start)[0] >= UNREACHABLE
  to_goal, free = jnp.where(is_blocked, around_things, to_goal), jnp.where(is_blocked, free_of_things, free)
  is_blocked = geodesic_at(to_goal, ground, start)[0] >= UNREACHABLE
  field = field_of(jnp.where(is_blocked, world.to_goal, to_goal), free, ground)
  return ExpertState(dataclasses.replace(field, turning=_turning(robot, config, world)), jnp.zeros(()))


def _turning(robot: RobotDescription, config: ExpertConfig, world: World) -> Turning | None:
  """Ways from poses between walls for a robot that has to drive to turn, past things but not past people."""
  walls = world.scene.walls
  if walls is None or not robot.curvature:
    return None
  near = surroundings_of(world.scene, world.people, world.goal_in_world, walls.origin, robot.height)
  rows, columns = (walls.cell * jnp.arange(num) for num in walls.distance.shape)
  clearance = static_clearance(near, *jnp.broadcast_arrays(rows[:, None], columns[None, :]))
  curvature = _LOCK * robot.curvature
  room = robot.footprint.width / 2 + config.margin + _TURNING_ROOM
  return turning_ways(clearance, walls.origin, walls.cell, world.goal_in_world, curvature, room, robot.reach)


def _fan(robot: RobotDescription) -> np.ndarray:
  """[C, 4] commands as shares of the largest speed and turning rate: (v, w) at first, then (v, w)."""
  rows = []
  for v in (1.0, 0.75, 0.5, 0.28, 0.12):
    for w in (0.0, 0.12, 0.3, 0.6, 1.0):
      for sign in (1, -1) if w else (1,):
        tails = (w, 0.0, -w) if w else (0.0, 0.6, -0.6)
        rows += [(v, sign * w, v, sign * tail) for tail in tails]
    rows.append((v, 0.0, 0.0, 0.0))
  rows.append((0.0, 0.0, 0.0, 0.0))
  if robot.drive != 'ackermann':
    for sign in (1, -1):
      rows += [(0.0, sign * w, 0.0, sign * tail) for w, tail in ((1.0, 1.0), (1.0, 0.0), (0.4, 0.4), (0.4, 0.0))]
      rows += [(0.0, sign * w, 0.6, 0.0) for w in (1.0, 0.4)]
  if robot.min_speed < 0:
    reverse = robot.min_speed / robot.max_speed
    rows += [(reverse, w, 0.0, w) for w in (0.0, 0.5, -0.5)]
  return np.array(rows, np.float32)


def _around() -> np.ndarray:
  """[C, 2] offsets of the refinement, in the same shares."""
  return np.array([(v, w) for v in (-0.1, 0.0, 0.1) for w in (-0.16, -0.06, 0.0, 0.06, 0.16)], np.float32)


def expert_command(
  robot: RobotDescription,
  config: ExpertConfig,
  state: ExpertState,
  world: World,
  people: People,
  pos: jax.Array,
  yaw: jax.Array,
  velocity: jax.Array,
) -> tuple[jax.Array, ExpertState]:
  """Command [2] (v m/s, w rad/s) to hold for one policy step of 0.25 s, within the robot's limits; the next state.

  people: where they are now (those of `world` are where they were at the start). pos: [2] m, yaw: [] rad: pose of
  the robot in the world. velocity: [2] its present speed (m/s) and turning rate (rad/s).
  """
  max_speed = robot.max_speed if config.max_speed is None else min(config.max_speed, robot.max_speed)
  scale = jnp.array([max_speed, robot.max_yaw_rate])
  near = surroundings_of(world.scene, people, world.goal_in_world, pos, robot.height)
  costs = Costs(
    robot,
    config.keep_clear,
    config.margin,
    config.person_margin,
    config.person_drift,
    config.personal_space,
    config.caution,
    config.creep,
    config.calm,
    config.goal_radius,
  )

  # who waits too long comes closer
  nerve = jnp.exp(-jnp.maximum(state.waited - 1.0, 0) / _PATIENCE)

  def judged(commands: jax.Array) -> jax.Array:
    return rollout_costs(costs, near, state.field, nerve, pos, yaw, velocity, commands)

  def best(commands: jax.Array) -> jax.Array:
    return commands[:, jnp.argmin(judged(commands))]

  fan = jnp.asarray(_fan(robot)).T * jnp.concatenate([scale, scale])[:, None]
  chosen = best(fan)
  offsets = jnp.asarray(_around()).T * scale[:, None]
  first = chosen[:2, None] + offsets
  low = jnp.array([robot.min_speed, -robot.max_yaw_rate])
  first = jnp.clip(first, low[:, None], scale[:, None])
  # a stop stays a stop: the refinement must not creep
  first = jnp.where(jnp.abs(chosen[:1, None]) > 0, first, jnp.stack([jnp.zeros_like(first[0]), first[1]]))
  finer = jnp.concatenate([first, jnp.broadcast_to(chosen[2:, None], first.shape)])
  command = best(finer)[:2]
  to_goal = world.goal_in_world - pos
  command = jnp.where(jnp.sum(to_goal * to_goal) < config.goal_radius**2, 0.0, command)
  if costs.curvature:
    turn = jnp.abs(command[0]) * costs.curvature
    command = jnp.stack([command[0], jnp.clip(command[1], -turn, turn)])
  moving = jnp.abs(velocity[0]) > _IDLE
  waited = jnp.where(moving, jnp.maximum(state.waited - 2 * STEP, 0), jnp.minimum(state.waited + STEP, 15.0))
  return command, dataclasses.replace(state, waited=waited)
