"""The record of one episode, its rules (actions, arrival, collision, time limit) and its accounts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.geometry import to_robot_frame
from s2e_jax.robots import ROBOTS, RobotDescription
from s2e_jax.scene import KIND
from s2e_jax.sim.contacts import WALL
from s2e_jax.sim.dynamics import BaseState
from s2e_jax.sim.observe import Pose
from s2e_jax.sim.rewards import DEFAULT_WEIGHTS, reward_weights
from s2e_jax.structs import DT
from s2e_jax.worlds.people import People
from s2e_jax.worlds.world import World

ACTIONS = ('command', 'unit')


@dataclasses.dataclass(frozen=True)
class EnvConfig:
  """What an environment is, but for its worlds.

  robot: who drives. dynamics: level of `sim.dynamics`.
  action: 'command' (v m/s, w rad/s) | 'unit' ([-1, 1] spans the robot's limits).
  time_limit: s until an episode is truncated; 0 leaves that to a wrapper.
  goal_radius: m from the goal that count as arrival. min_impulse: N s above which a contact is a collision.
  end_on_collision: a collision ends the episode (training) or only counts (judging).
  weights: of `rewards`, defaults where it names none. discount: the agent's gamma, for potential-based terms.
  gps_bias, gps_time: m standard deviation and s correlation time of the slow error of the goal's position;
    gps_noise: m standard deviation of the error that is new in every step. Only the policy sees them.
  """

  robot: RobotDescription = ROBOTS['delivery']
  dynamics: str = 'planar'
  action: str = 'command'
  time_limit: float = 30.0
  goal_radius: float = 1.0
  min_impulse: float = 0.5
  end_on_collision: bool = True
  weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
  discount: float = 0.99
  gps_bias: float = 0.0
  gps_time: float = 30.0
  gps_noise: float = 0.0

  def __post_init__(self) -> None:
    """Completes the weights; raises ValueError when a field breaks its rule."""
    if self.action not in ACTIONS:
      raise ValueError(f'env action={self.action!r} must be one of {ACTIONS}')
    if not 0 < self.discount <= 1:
      raise ValueError(f'env discount={self.discount!r} must be in (0, 1]')
    for name in ('goal_radius', 'gps_time'):
      if not getattr(self, name) > 0:
        raise ValueError(f'env {name}={getattr(self, name)!r} must be > 0')
    for name in ('time_limit', 'min_impulse', 'gps_bias', 'gps_noise'):
      if not getattr(self, name) >= 0:
        raise ValueError(f'env {name}={getattr(self, name)!r} must not be negative')
    if 0 < self.time_limit < DT:
      raise ValueError(f'env time_limit={self.time_limit!r} must be 0 (none) or at least one step of {DT} s')
    object.__setattr__(self, 'weights', reward_weights(self.weights))

  @property
  def max_steps(self) -> int:
    """Policy steps of an episode; 0 without a time limit."""
    return round(self.time_limit / DT)

  @property
  def command_range(self) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest command (m/s, rad/s)."""
    robot = self.robot
    return (robot.min_speed, -robot.max_yaw_rate), (robot.max_speed, robot.max_yaw_rate)

  @property
  def action_range(self) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest action, in the units of `action`."""
    return ((-1.0, -1.0), (1.0, 1.0)) if self.action == 'unit' else self.command_range


@struct.dataclass
class Episode:
  """Everything that changes, or differs from one episode to the next; `State.pipeline_state` of the environment.

  world: its scene has the people where they are now. people, base: as they are now.
  path: [L, 2] m reference path. key: [2] uint32 of the episode. level: [] curriculum level of the world, 0..1.
  step: [] int32 policy steps done. way, least_way: [] m of way to the goal, now and least so far.
  command: [2] m/s, rad/s held in the last step. is_colliding: [] bool, in the last step.
  gps_bias: [2] m in the world. goal_in_robot: [2] m, as the policy is told.
  nan_actions, clamped_actions: [] int32 so far.
  """

  world: World
  people: People
  base: BaseState
  path: jax.Array
  key: jax.Array
  level: jax.Array
  step: jax.Array
  way: jax.Array
  least_way: jax.Array
  command: jax.Array
  is_colliding: jax.Array
  gps_bias: jax.Array
  goal_in_robot: jax.Array
  nan_actions: jax.Array
  clamped_actions: jax.Array


def episode_key(rng: jax.Array) -> jax.Array:
  """[2] uint32 key of an episode, from a typed key of any kind or a legacy one; ValueError for anything else."""
  if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
    if rng.dtype != jnp.uint32 or rng.ndim != 1:
      raise ValueError(f'not a key: {rng.dtype}{rng.shape}; make one by jax.random.key(seed)')
    rng = jax.random.wrap_key_data(rng)
  return jax.random.bits(rng, (2,), jnp.uint32)


def stream(key: jax.Array, index: int | jax.Array) -> jax.Array:
  """Typed key number `index` of those that an episode's key [2] uint32 stands for."""
  return jax.random.fold_in(jax.random.wrap_key_data(key, impl='threefry2x32'), index)


def next_key(key: jax.Array) -> jax.Array:
  """[2] uint32 key of the episode that follows the one of `key`."""
  return episode_key(stream(key, 0))


def pose_of(base: BaseState) -> Pose:
  """Pose and motion of the robot, for observations and rewards."""
  return Pose(base.position, base.yaw, base.velocity, base.yaw_rate)


def command_of(config: EnvConfig, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Command [2] (m/s, rad/s) of an action [2]; whether that was NaN and whether it was out of range, [] bool.

  An action with a NaN is the command to stand still; one out of range is clamped.
  """
  low, high = (jnp.array(x, jnp.float32) for x in config.action_range)
  is_nan = jnp.any(jnp.isnan(action))
  clamped = jnp.clip(action, low, high)
  is_clamped = ~is_nan & jnp.any(clamped != action)
  if config.action == 'unit':
    slow, fast = (jnp.array(x, jnp.float32) for x in config.command_range)
    clamped = slow + 0.5 * (clamped + 1) * (fast - slow)
  return jnp.where(is_nan, 0.0, clamped), is_nan, is_clamped


def told_the_goal(config: EnvConfig, episode: Episode) -> Episode:
  """`episode` with the goal in the frame of the robot's present pose, off by the GPS-like error."""
  goal, bias = episode.world.goal_in_world, episode.gps_bias
  if config.gps_bias or config.gps_noise:
    # streams 0 and 1 are the next episode's and this one's start
    slow, fast = jax.random.normal(stream(episode.key, 2 + episode.step), (2, 2))
    keep = math.exp(-DT / config.gps_time)
    bias = keep * bias + config.gps_bias * (1 - keep * keep) ** 0.5 * slow
    goal = goal + bias + config.gps_noise * fast
  goal_in_robot = to_robot_frame(goal, episode.base.position, episode.base.yaw)
  return dataclasses.replace(episode, gps_bias=bias, goal_in_robot=goal_in_robot)


@struct.dataclass
class Outcome:
  """What a step led to. terminated: arrival or (if it ends episodes) collision; truncated: time limit, not both.

  has_arrived, has_collided: [] bool, the latter where a contact above min_impulse began in this step.
  hit_slot: [] int32 slot of what was collided with, -1 nothing, -2 the fence, -3 the scene's walls. hit_kind: []
  int32 of scene.KINDS, 0 for nothing and the fence, 'wall' for the scene's walls. hit_by_robot: [] bool, the robot
  moved into it, not it into the robot.
  """

  terminated: jax.Array
  truncated: jax.Array
  has_arrived: jax.Array
  has_collided: jax.Array
  hit_slot: jax.Array
  hit_kind: jax.Array
  hit_by_robot: jax.Array


def no_outcome() -> Outcome:
  """The outcome of a reset: nothing."""
  false = jnp.zeros((), bool)
  return Outcome(false, false, false, false, jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32), false)


def outcome_of(config: EnvConfig, before: Episode, after: Episode) -> Outcome:
  """The outcome of the step from `before` to `after`."""
  scene, touch = after.world.scene, after.base.touch
  to_goal = after.world.goal_in_world - after.base.position
  has_arrived = jnp.sum(to_goal * to_goal) <= config.goal_radius**2
  has_collided = after.is_colliding & ~before.is_colliding
  # who collides in the step that arrives has not arrived
  if config.end_on_collision:
    has_arrived = has_arrived & ~has_collided
    terminated = has_arrived | has_collided
  else:
    terminated = has_arrived
  is_late = after.step >= config.max_steps if config.max_steps else jnp.zeros((), bool)
  kind = jnp.sum(jnp.where(jnp.arange(scene.kind.shape[-1]) == touch.slot, scene.kind, 0))
  if scene.walls is not None:
    kind = jnp.where(touch.slot == WALL, KIND['wall'], kind)
  return Outcome(
    terminated=terminated,
    truncated=is_late & ~terminated,
    has_arrived=has_arrived,
    has_collided=has_collided,
    hit_slot=jnp.where(has_collided, touch.slot, -1).astype(jnp.int32),
    hit_kind=jnp.where(has_collided, kind, 0).astype(jnp.int32),
    hit_by_robot=has_collided & (touch.robot_speed >= touch.other_speed),
  )


def route_completion(episode: Episode, has_arrived: jax.Array) -> jax.Array:
  """Share [] of the way to the goal that was covered at best; 1 on arrival."""
  gained = (episode.world.path_length - episode.least_way) / jnp.maximum(episode.world.path_length - 1.0, 1e-3)
  return jnp.where(has_arrived, 1.0, jnp.clip(gained, 0.0, 1.0))


def accounts(
  episode: Episode, outcome: Outcome, terms: dict[str, jax.Array]
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
  """Metrics of the step ([] float32 each) and State.info's entries, after the step that `outcome` describes."""
  completion = route_completion(episode, outcome.has_arrived)
  done = outcome.terminated | outcome.truncated
  metrics = {f'reward/{name}': value for name, value in terms.items()} | {
    'success': outcome.has_arrived.astype(jnp.float32),
    'collision': outcome.has_collided.astype(jnp.float32),
    'route_completion': jnp.where(done, completion, 0.0),
    'speed': episode.base.velocity[0],
    'level': episode.level,
  }
  info = {
    'terminated': outcome.terminated,
    'truncated': outcome.truncated,
    'time_out': outcome.truncated.astype(jnp.float32),
    'has_arrived': outcome.has_arrived,
    'has_collided': outcome.has_collided,
    'hit_slot': outcome.hit_slot,
    'hit_kind': outcome.hit_kind,
    'hit_by_robot': outcome.hit_by_robot,
    'nan_actions': episode.nan_actions,
    'clamped_actions': episode.clamped_actions,
    'route_completion': completion,
    'reward_terms': terms,
  }
  return metrics, info
