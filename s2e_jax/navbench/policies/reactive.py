"""A plain avoider for depth cameras: what remains without learning, and with no map but what was just seen.

A vector field histogram in the manner of VFH+ (Ulrich and Borenstein, "VFH+: reliable obstacle avoidance for fast
mobile robots", ICRA 1998): obstacles grow by the robot's radius, every direction is free up to where a disc of
that radius would touch, and of those that are free far enough the one is taken that is nearest to the goal, to the
heading and to the direction chosen last (their masking by turning circles is left out). Ours: what left the narrow
field of view is remembered for a while and moved along by odometry, else the robot would turn into the thing
beside it as soon as the camera has passed it.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.closedloop.policies import DrivingPolicy, Told
from s2e_jax.controller import CommandLimits
from s2e_jax.geometry import arctan2
from s2e_jax.navbench.policies.clearance_profile import clearance_profile, lowest_row_reach, sector_middles
from s2e_jax.render.render import Pictures, RenderOptions
from s2e_jax.robots import RobotDescription
from s2e_jax.structs import DT

_FAR = 1e3  # m: where points are that stand for nothing


@dataclasses.dataclass(frozen=True)
class ReactiveConfig:
  """How the avoider sees and chooses.

  height, width: pixels of its depth picture. low, high: m above the floor between which things are obstacles; from
    above a curb on, which robots climb here, and whoever takes it for a wall never leaves the carriageway.
  num_sectors: of the clearance profile over the field of view. max_range: m, farther things are not there.
  num_remembered: profiles kept, 0.25 s apart.
  num_directions: candidates around the robot. margin: m added to the robot's radius.
  look_ahead: m that a direction should be free, less if the goal is nearer; near_enough: m before a goal that may
    well be blocked, since things stand beside it.
  to_goal, to_heading, to_last: what a radian away from these costs (VFH+: 5, 2, 2).
  blocked: what a direction costs that is not free at all, in proportion to what is missing.
  slow_from: m of free way ahead below which it slows down. gain: 1/s, turning rate per rad of direction.
  creep: m/s that a robot keeps, with some way free ahead, if it cannot turn on the spot.
  """

  height: int = 64
  width: int = 96
  low: float = 0.2
  high: float = 1.2
  num_sectors: int = 40
  max_range: float = 8.0
  num_remembered: int = 16
  num_directions: int = 72
  margin: float = 0.05
  look_ahead: float = 3.0
  near_enough: float = 0.8
  to_goal: float = 5.0
  to_heading: float = 2.0
  to_last: float = 2.0
  blocked: float = 60.0
  slow_from: float = 1.5
  gain: float = 2.0
  creep: float = 0.3

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value < 0 or (isinstance(value, int) and value < 1):
        raise ValueError(f'reactive {field.name}={value!r} must be positive')
    if not self.low < self.high:
      raise ValueError(f'reactive low={self.low} must be below high={self.high}')


@struct.dataclass
class ReactiveMemory:
  """points: [B, N, S, 2] m in the present robot frame, the last N profiles, the newest first, _FAR for nothing.

  direction: [B] rad in the present robot frame, chosen last. speed, yaw_rate: [B] m/s, rad/s one step ago.
  """

  points: jax.Array
  direction: jax.Array
  speed: jax.Array
  yaw_rate: jax.Array


def carried_along(memory: ReactiveMemory, speed: jax.Array, yaw_rate: jax.Array) -> ReactiveMemory:
  """Memory [B] in the frame of now, after one step from the motion remembered to `speed`, `yaw_rate` [B]."""
  turn = (0.5 * DT) * (memory.yaw_rate + yaw_rate)
  way = (0.5 * DT) * (memory.speed + speed)
  ahead = jnp.stack([way * jnp.cos(turn / 2), way * jnp.sin(turn / 2)], axis=-1)
  x, y = jnp.moveaxis(memory.points - ahead[:, None, None], -1, 0)
  c, s = (f(turn)[:, None, None] for f in (jnp.cos, jnp.sin))
  points = jnp.stack([c * x + s * y, c * y - s * x], axis=-1)
  return ReactiveMemory(points, memory.direction - turn, speed, yaw_rate)


def free_ways(points: jax.Array, directions: np.ndarray, radius: float, max_range: float) -> jax.Array:
  """[B, D] m that a disc of `radius` (m) around the origin can go in each direction [D] before it touches a point.

  points: [B, N, 2] m. What touches the disc already blocks the half plane that it lies in.
  """
  x, y = points[:, None, :, 0], points[:, None, :, 1]
  c, s = np.cos(directions)[:, None], np.sin(directions)[:, None]
  along, aside = c * x + s * y, c * y - s * x
  half_chord = jnp.sqrt(jnp.maximum(radius**2 - aside * aside, 0.0))
  way = jnp.where((jnp.abs(aside) < radius) & (along > 0), along - half_chord, max_range)
  return jnp.clip(way.min(axis=-1), 0.0, max_range)


def reactive(robot: RobotDescription, config: ReactiveConfig | None = None) -> DrivingPolicy:
  """The avoider with the robot's limits, footprint and camera, towards a point goal; takes no params.

  Stateful, deterministic. Drives straight if nothing is in the way, and turns on the spot where it has to and can.
  """
  config = ReactiveConfig() if config is None else config
  limits, mount = CommandLimits.of(robot), robot.mount
  middles = sector_middles(mount, config.num_sectors)
  rays = jnp.asarray(np.stack([np.cos(middles), np.sin(middles)], axis=-1), jnp.float32)
  directions = (np.arange(config.num_directions) * (2 * math.pi / config.num_directions) - math.pi).astype(
    np.float32
  )
  radius = robot.radius + config.margin
  # nearer than this a thing may be below the picture, so that its absence there tells nothing
  sees_from = lowest_row_reach(mount, config.height, config.width, config.low)

  def init(shown: Told) -> ReactiveMemory:
    num = shown.is_first.shape[0]
    points = jnp.full((num, config.num_remembered, config.num_sectors, 2), _FAR)
    return ReactiveMemory(points, jnp.zeros(num), jnp.zeros(num), jnp.zeros(num))

  def remembered(memory: ReactiveMemory, depth: jax.Array, shown: Told) -> ReactiveMemory:
    """Memory with what is seen now, which also takes the place of what was seen there before."""
    memory = carried_along(memory, shown.speed, shown.yaw_rate)
    old = jnp.where(shown.is_first[:, None, None, None], _FAR, memory.points)
    before_lens = old[..., 0] - mount.forward
    is_in_view = (before_lens > sees_from) & (jnp.abs(old[..., 1]) < math.tan(mount.hfov / 2) * before_lens)
    old = jnp.where(is_in_view[..., None], _FAR, old)
    profile = clearance_profile(depth, mount, config.num_sectors, config.low, config.high, config.max_range)
    new = jnp.where((profile < config.max_range)[..., None], profile[..., None] * rays, _FAR)
    direction = jnp.where(shown.is_first, 0.0, memory.direction)
    return dataclasses.replace(
      memory, points=jnp.concatenate([new[:, None], old[:, :-1]], axis=1), direction=direction
    )

  def act(
    params: None, memory: ReactiveMemory, shown: Told, pictures: Pictures | None
  ) -> tuple[jax.Array, ReactiveMemory]:
    del params
    assert pictures is not None and pictures.depth is not None
    memory = remembered(memory, pictures.depth, shown)
    goal = shown.goal_in_robot
    distance = jnp.sqrt(jnp.sum(goal * goal, axis=-1))
    free = free_ways(memory.points.reshape(goal.shape[0], -1, 2), directions, radius, config.max_range)
    wanted = jnp.clip(distance - config.near_enough, 0.1, config.look_ahead)[:, None]
    missing = 1.0 - jnp.minimum(free / wanted, 1.0)
    cost = (
      config.to_goal * _angle_between(directions, arctan2(goal[:, 1], goal[:, 0]))
      + config.to_heading * jnp.abs(directions)
      + config.to_last * _angle_between(directions, memory.direction)
      + config.blocked * missing
    )
    direction = jnp.asarray(directions)[jnp.argmin(cost, axis=-1)]
    ahead = free[:, config.num_directions // 2]
    command = _command(robot, limits, config, direction, ahead, distance)
    return command, dataclasses.replace(memory, direction=direction)

  options = RenderOptions(config.height, config.width, shadow=False)
  return DrivingPolicy(init, act, options, senses=('depth',))


def _command(
  robot: RobotDescription,
  limits: CommandLimits,
  config: ReactiveConfig,
  direction: jax.Array,
  ahead: jax.Array,
  distance: jax.Array,
) -> jax.Array:
  """Command [B, 2] that turns into `direction` [B] rad, as fast as that and the free way `ahead` [B] (m) allow."""
  towards = jnp.maximum(jnp.cos(direction), 0.0)
  speed = limits.max_speed * jnp.clip(ahead / config.slow_from, 0.0, 1.0) * towards * towards
  speed = jnp.minimum(speed, distance)
  turn = jnp.clip(config.gain * direction, -limits.max_yaw_rate, limits.max_yaw_rate)
  if robot.drive == 'ackermann':
    speed = jnp.maximum(speed, jnp.where(ahead > config.creep, min(config.creep, limits.max_speed), 0.0))
    most = speed * robot.curvature
    turn = jnp.clip(turn, -most, most)
  return jnp.stack([speed, turn], axis=-1)


def _angle_between(directions: np.ndarray, angle: jax.Array) -> jax.Array:
  """[B, D] rad from 0 to pi between directions [D] and angle [B]."""
  away = jnp.mod(directions - angle[:, None] + math.pi, 2 * math.pi) - math.pi
  return jnp.abs(away)
