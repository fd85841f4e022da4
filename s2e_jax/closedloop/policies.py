"""Who is judged: small pure functions that turn what a policy may know into a command, for B episodes at once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.command_mixture import CommandMixture, command_mixture, mode_command
from s2e_jax.controller import CommandLimits, trajectory_to_command
from s2e_jax.geometry import arctan2
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.policy import Policy
from s2e_jax.policy.ring import push_token
from s2e_jax.render.render import Pictures, RenderOptions
from s2e_jax.robots import RobotDescription
from s2e_jax.sim.episode import Episode
from s2e_jax.structs import DT
from s2e_jax.worlds.expert import CAREFUL, ExpertConfig, expert_command, expert_init
from s2e_jax.worlds.routes import reference_path

# What `goal_seeker` takes as its parameters, by the name under which it is judged.
SHARES = {'stand_still': 0.0, 'straight_to_goal': 1.0}
SENSES = ('rgb', 'depth')
GOALS = ('point', 'image', 'none')
_WAY_POINTS, _WAY_SPACING = 128, 0.5  # of the way to a goal's picture, m: longer ones end before it
_APPROACH = 1.0  # m before the goal, from where on the way's direction is the goal's


@struct.dataclass
class Told:
  """All that a policy without privileges is told of its episodes, beside the pictures.

  goal_in_robot: [B, 2] m, with the GPS-like error where the environment has one; 0 where the goal is no point.
  is_first: [B] bool, nothing has been driven yet.
  speed, yaw_rate: [B] m/s forward and rad/s, the robot's own odometry at this moment, without error.
  goal_picture: [B, h, w, 3] uint8, what the robot will see at the goal, the next one of a chain, of those who are
    told an image; else None.
  """

  goal_in_robot: jax.Array
  is_first: jax.Array
  speed: jax.Array
  yaw_rate: jax.Array
  goal_picture: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class DrivingPolicy:
  """A policy under test.

  init(shown) -> memory at the start of B episodes.
  act(params, memory, shown, pictures) -> (command [B, 2] m/s rad/s, memory); params are an argument, so that all
    parameters of one tree share one program.
  options: of the pictures that `act` is given; without them nothing is rendered and pictures is None.
  is_privileged: `shown` is the whole `sim.episode.Episode` [B], not only a `Told`.
  senses: what of SENSES those pictures hold: rgb [B, h, w, 3] uint8, depth [B, h, w] m along the camera's axis (0
    where there is nothing); the rest of `render.Pictures` is None.
  goal: what of GOALS it is told: 'point' goal_in_robot | 'image' goal_picture, of the size of `options` | 'none'.
  Senses and goal are also what a report groups by. Raises ValueError for others, or an image without options.
  """

  init: Callable[[Any], Any]
  act: Callable[[Any, Any, Any, Pictures | None], tuple[jax.Array, Any]]
  options: RenderOptions | None = None
  is_privileged: bool = False
  senses: tuple[str, ...] = ('rgb',)
  goal: str = 'point'

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule; who is shown no pictures senses none of them."""
    if self.options is None:
      object.__setattr__(self, 'senses', ())
    elif not self.senses or set(self.senses) - set(SENSES):
      raise ValueError(f'policy senses={self.senses} must name at least one of {SENSES}, and nothing else')
    if self.goal not in GOALS:
      raise ValueError(f'policy goal={self.goal!r} must be one of {GOALS}')
    if self.goal == 'image' and self.options is None:
      raise ValueError("policy goal='image' is a picture: it needs options, which give its size")


@dataclasses.dataclass(frozen=True)
class Contender:
  """A policy with its parameters, and the name under which it is reported.

  identity: says all that what it does depends on, however it is named; '' where nobody asks.
  """

  name: str
  policy: DrivingPolicy
  params: Any
  identity: str = ''


def told(episodes: Episode, goal: str = 'point', goal_picture: jax.Array | None = None) -> Told:
  """What policies without privileges learn of episodes [B]. goal: of GOALS. goal_picture: see Told."""
  base, point = episodes.base, episodes.goal_in_robot
  return Told(
    goal_in_robot=point if goal == 'point' else jnp.zeros_like(point),
    is_first=episodes.step == 0,
    speed=base.velocity[:, 0],
    yaw_rate=base.yaw_rate,
    goal_picture=goal_picture,
  )


def at_goals(episodes: Episode, starts: jax.Array) -> Episode:
  """Episodes [B] with the robots at their goals, looking as the way from `starts` [B, 2] (m) leads there."""
  world = episodes.world
  goal = world.goal_in_world
  way = functools.partial(reference_path, length=_WAY_POINTS, spacing=_WAY_SPACING)
  path = jax.vmap(way)(world.to_goal, world.scene.ground, starts, goal)
  is_before = jnp.linalg.norm(goal[:, None] - path, axis=-1) > _APPROACH
  last = jnp.maximum(jnp.where(is_before, jnp.arange(path.shape[1]), -1).max(axis=1), 0)
  along = goal - jnp.take_along_axis(path, last[:, None, None], axis=1)[:, 0]
  base = episodes.base
  base = dataclasses.replace(
    base, position=goal, yaw=arctan2(along[:, 1], along[:, 0]), sway=jnp.zeros_like(base.sway)
  )
  return dataclasses.replace(episodes, base=base)


def check_controller(limits: CommandLimits, lookahead: int, rule: str, horizon: int) -> None:
  """Raises ValueError, before anything is compiled, for settings that F_d does not have."""
  waypoints = jax.ShapeDtypeStruct((horizon, 2), jnp.float32)
  jax.eval_shape(lambda w: trajectory_to_command(w, limits, lookahead, rule), waypoints)


def camera_policy(
  config: PolicyConfig,
  limits: CommandLimits,
  lookahead: int = 2,
  rule: str = 'arc',
  nearest: int = 8,
  shadow: bool = True,
  goal: str = 'point',
  choose: Callable[[CommandMixture], jax.Array] = mode_command,
) -> DrivingPolicy:
  """The S2E policy of `config`, deterministic: F_d of the mode of the highest score (`mode_command`).

  Its params are the variables of `Policy.init`. Every frame is encoded once; the ring of the last K tokens starts
  with K times the first. lookahead, rule: of F_d, limits: of the robot. nearest, shadow: of `RenderOptions`.
  goal: 'point' | 'none', goal-free driving. choose: the command [B, 2] of a mixture, for studies of other ways to
  act. Raises ValueError for settings that F_d or the policy does not have.
  """
  if goal not in ('point', 'none'):
    raise ValueError(f"camera policy goal={goal!r} must be 'point' or 'none': it was not trained on others")
  check_controller(limits, lookahead, rule, config.horizon)
  policy = Policy(config)
  any_std = jnp.zeros(2)  # exploration plays no part in the mode

  def init(shown: Told) -> jax.Array:
    return jnp.zeros((shown.is_first.shape[0], config.num_history, config.width), jnp.float32)

  def act(params: Any, tokens: jax.Array, shown: Told, pictures: Pictures | None) -> tuple[jax.Array, jax.Array]:
    assert pictures is not None
    token: Any = policy.apply(params, pictures.rgb, method='encode_frames')
    tokens = push_token(tokens, token, shown.is_first)
    has_goal = jnp.full(shown.is_first.shape, goal == 'point')
    context = policy.apply(params, tokens, shown.goal_in_robot, has_goal, method='context')
    trajectories: Any = policy.apply(params, context, method='decode')
    return choose(command_mixture(trajectories, any_std, limits, lookahead, rule)), tokens

  options = RenderOptions(config.image_height, config.image_width, nearest, shadow)
  return DrivingPolicy(init, act, options, goal=goal)


def goal_seeker(limits: CommandLimits, lookahead: int = 2, rule: str = 'arc', horizon: int = 10) -> DrivingPolicy:
  """Blind: F_d of waypoints straight at the goal, at the robot's top speed; its params scale the command.

  So `stand_still` (params 0) and `straight_to_goal` (params 1), see SHARES, are one program.
  """
  check_controller(limits, lookahead, rule, horizon)

  def act(share: Any, memory: Any, shown: Told, pictures: Pictures | None) -> tuple[jax.Array, Any]:
    del pictures
    goal = shown.goal_in_robot
    distance = jnp.linalg.norm(goal, axis=-1, keepdims=True)
    along = jnp.minimum(limits.max_speed * DT * jnp.arange(1, horizon + 1), distance)
    waypoints = along[..., None] * (goal / jnp.maximum(distance, 1e-6))[:, None]
    return share * trajectory_to_command(waypoints, limits, lookahead, rule), memory

  return DrivingPolicy(lambda shown: jnp.zeros(()), act)


def constant_arc() -> DrivingPolicy:
  """Blind and without a goal: one command for ever, its params [2] (v m/s, w rad/s); all arcs are one program."""

  def act(command: Any, memory: Any, shown: Told, pictures: Pictures | None) -> tuple[jax.Array, Any]:
    del pictures
    return jnp.broadcast_to(jnp.asarray(command, jnp.float32), (*shown.is_first.shape, 2)), memory

  return DrivingPolicy(lambda shown: jnp.zeros(()), act, goal='none')


def expert(robot: RobotDescription, careful: bool = False) -> DrivingPolicy:
  """The planner that knows everything, an upper bound, without params; `careful` drives as demonstrations do."""
  config = CAREFUL if careful else ExpertConfig()

  def init(shown: Episode) -> Any:
    begin = lambda world: expert_init(robot, config, world)
    searches_turns = robot.curvature > 0 and shown.world.scene.walls is not None
    # that search must not be vmapped, see `turning.turning_ways`
    return jax.lax.map(begin, shown.world) if searches_turns else jax.vmap(begin)(shown.world)

  def act(params: Any, memory: Any, shown: Episode, pictures: Pictures | None) -> tuple[jax.Array, Any]:
    del params, pictures

    def one(memory: Any, episode: Episode) -> tuple[jax.Array, Any]:
      base = episode.base
      velocity = jnp.stack([base.velocity[0], base.yaw_rate])
      return expert_command(
        robot, config, memory, episode.world, episode.people, base.position, base.yaw, velocity
      )

    return jax.vmap(one)(memory, shown)

  return DrivingPolicy(init, act, is_privileged=True)
