"""Who is judged: small pure functions that turn what a policy may know into a command, for B episodes at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.command_mixture import command_mixture, mode_command
from s2e_jax.controller import CommandLimits, trajectory_to_command
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.policy import Policy
from s2e_jax.policy.ring import push_token
from s2e_jax.render.render import RenderOptions
from s2e_jax.robots import RobotDescription
from s2e_jax.sim.episode import Episode
from s2e_jax.structs import DT
from s2e_jax.worlds.expert import CAREFUL, ExpertConfig, expert_command, expert_init

# What `goal_seeker` takes as its parameters, by the name under which it is judged.
SHARES = {'stand_still': 0.0, 'straight_to_goal': 1.0}


@struct.dataclass
class Told:
  """All that a policy without privileges is told of its episodes, beside the pictures.

  goal_in_robot: [B, 2] m, with the GPS-like error where the environment has one.
  is_first: [B] bool, nothing has been driven yet.
  """

  goal_in_robot: jax.Array
  is_first: jax.Array


@dataclasses.dataclass(frozen=True)
class DrivingPolicy:
  """A policy under test.

  init(shown) -> memory at the start of B episodes.
  act(params, memory, shown, frames) -> (command [B, 2] m/s rad/s, memory); params are an argument, so that all
    parameters of one tree share one program.
  options: of the pictures that `act` is given as frames [B, h, w, 3] uint8; without them nothing is rendered and
    frames is None.
  is_privileged: `shown` is the whole `sim.episode.Episode` [B], not only a `Told`.
  """

  init: Callable[[Any], Any]
  act: Callable[[Any, Any, Any, jax.Array | None], tuple[jax.Array, Any]]
  options: RenderOptions | None = None
  is_privileged: bool = False


@dataclasses.dataclass(frozen=True)
class Contender:
  """A policy with its parameters, and the name under which it is reported."""

  name: str
  policy: DrivingPolicy
  params: Any


def told(episodes: Episode) -> Told:
  """What policies without privileges learn of episodes [B]."""
  return Told(episodes.goal_in_robot, episodes.step == 0)


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
) -> DrivingPolicy:
  """The S2E policy of `config`, deterministic: F_d of the mode of the highest score (`mode_command`).

  Its params are the variables of `Policy.init`. Every frame is encoded once; the ring of the last K tokens starts
  with K times the first. lookahead, rule: of F_d, limits: of the robot. nearest, shadow: of `RenderOptions`.
  """
  check_controller(limits, lookahead, rule, config.horizon)
  policy = Policy(config)
  any_std = jnp.zeros(2)  # exploration plays no part in the mode

  def init(shown: Told) -> jax.Array:
    return jnp.zeros((shown.is_first.shape[0], config.num_history, config.width), jnp.float32)

  def act(params: Any, tokens: jax.Array, shown: Told, frames: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    token: Any = policy.apply(params, frames, method='encode_frames')
    tokens = push_token(tokens, token, shown.is_first)
    has_goal = jnp.ones(shown.is_first.shape, bool)
    context = policy.apply(params, tokens, shown.goal_in_robot, has_goal, method='context')
    trajectories: Any = policy.apply(params, context, method='decode')
    return mode_command(command_mixture(trajectories, any_std, limits, lookahead, rule)), tokens

  options = RenderOptions(config.image_height, config.image_width, nearest, shadow)
  return DrivingPolicy(init, act, options)


def goal_seeker(limits: CommandLimits, lookahead: int = 2, rule: str = 'arc', horizon: int = 10) -> DrivingPolicy:
  """Blind: F_d of waypoints straight at the goal, at the robot's top speed; its params scale the command.

  So `stand_still` (params 0) and `straight_to_goal` (params 1), see SHARES, are one program.
  """
  check_controller(limits, lookahead, rule, horizon)

  def act(share: Any, memory: Any, shown: Told, frames: jax.Array | None) -> tuple[jax.Array, Any]:
    del frames
    goal = shown.goal_in_robot
    distance = jnp.linalg.norm(goal, axis=-1, keepdims=True)
    along = jnp.minimum(limits.max_speed * DT * jnp.arange(1, horizon + 1), distance)
    waypoints = along[..., None] * (goal / jnp.maximum(distance, 1e-6))[:, None]
    return share * trajectory_to_command(waypoints, limits, lookahead, rule), memory

  return DrivingPolicy(lambda shown: jnp.zeros(()), act)


def expert(robot: RobotDescription, careful: bool = False) -> DrivingPolicy:
  """The planner that knows everything, an upper bound, without params; `careful` drives as demonstrations do."""
  config = CAREFUL if careful else ExpertConfig()

  def init(shown: Episode) -> Any:
    return jax.vmap(lambda world: expert_init(robot, config, world))(shown.world)

  def act(params: Any, memory: Any, shown: Episode, frames: jax.Array | None) -> tuple[jax.Array, Any]:
    del params, frames

    def one(memory: Any, episode: Episode) -> tuple[jax.Array, Any]:
      base = episode.base
      velocity = jnp.stack([base.velocity[0], base.yaw_rate])
      return expert_command(
        robot, config, memory, episode.world, episode.people, base.position, base.yaw, velocity
      )

    return jax.vmap(one)(memory, shown)

  return DrivingPolicy(init, act, is_privileged=True)
