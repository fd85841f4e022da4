"""Whole episodes, many at once: a driver in each of B environments, and everything that was seen and done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from brax.envs.base import State
from flax import struct

from s2e_jax.geometry import arctan2
from s2e_jax.render.render import RenderOptions, render
from s2e_jax.scene import Scene
from s2e_jax.sim.cameras import views_of
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import episode_key
from s2e_jax.sim.lidar import clearances_ahead
from s2e_jax.worlds.distance import outlines
from s2e_jax.worlds.expert import ExpertConfig, expert_command, expert_init

Array = Any  # jax.Array, or numpy.ndarray once it is on the host


@dataclasses.dataclass(frozen=True)
class Driver:
  """Who drives one environment; pure functions, vmapped over B.

  begin(state, key) -> memory of the driver at the start of an episode.
  act(memory, state) -> (command [2], memory).
  """

  name: str
  begin: Callable[[State, jax.Array], Any]
  act: Callable[[Any, State], tuple[jax.Array, Any]]


@struct.dataclass
class Drives:
  """T steps of B episodes; moment t is before step t. What comes after an episode's end is meaningless.

  frames: [T, B, h, w, 3] uint8. position: [T, B, 2] m, yaw: [T, B] rad. speed: [T, B] m/s.
  command: [T, B, 2] m/s, rad/s, sent at moment t. people: [T, B, N, 2] m, is_person: [T, B, N] bool.
  is_active: [T, B] bool, the episode had not ended at moment t.
  gap: [T, B] m between the robot's outline and whatever is nearest, things, people and fence alike.
  clearances: [T, B, NUM_CLEARANCES] m as `structs.SegmentBatch`.
  reward_terms: {name: [T, B]} paid for step t. scene: [B] as it was at the start. goal: [B, 2] m.
  route: [B, L, 2] m of the reference path. has_arrived, has_collided, hit_by_robot: [B] bool. hit_kind: [B].
  """

  frames: Array
  position: Array
  yaw: Array
  speed: Array
  command: Array
  people: Array
  is_person: Array
  is_active: Array
  gap: Array
  clearances: Array
  reward_terms: dict[str, Array]
  scene: Scene
  goal: Array
  route: Array
  has_arrived: Array
  has_collided: Array
  hit_by_robot: Array
  hit_kind: Array


def expert_driver(env: UrbanEnv, config: ExpertConfig) -> Driver:
  """The privileged planner at the wheel of `env`'s robot; `env` must take commands, not unit actions."""
  robot = env.config.robot

  def begin(state: State, key: jax.Array) -> Any:
    del key
    return expert_init(robot, config, state.pipeline_state.world)

  def act(memory: Any, state: State) -> tuple[jax.Array, Any]:
    episode = state.pipeline_state
    base = episode.base
    velocity = jnp.stack([base.velocity[0], base.yaw_rate])
    return expert_command(robot, config, memory, episode.world, episode.people, base.position, base.yaw, velocity)

  return Driver('expert', begin, act)


def random_driver(env: UrbanEnv) -> Driver:
  """Commands drawn uniformly within the robot's limits, anew in every step."""
  low, high = env.config.command_range

  def act(key: jax.Array, state: State) -> tuple[jax.Array, jax.Array]:
    now = jax.random.fold_in(key, state.pipeline_state.step)
    return jax.random.uniform(now, (2,), minval=jnp.array(low), maxval=jnp.array(high)), key

  return Driver('random', lambda state, key: key, act)


def straight_driver(env: UrbanEnv) -> Driver:
  """Straight at the goal: turn towards it, and drive the faster the better it lies ahead."""
  robot = env.config.robot

  def act(memory: Any, state: State) -> tuple[jax.Array, Any]:
    goal = state.pipeline_state.goal_in_robot
    bearing = arctan2(goal[1], goal[0])
    turn = jnp.clip(1.5 * bearing, -robot.max_yaw_rate, robot.max_yaw_rate)
    speed = robot.max_speed * jnp.maximum(jnp.cos(bearing), 0.0 if robot.min_speed < 0 else 0.3)
    return jnp.stack([speed, turn]), memory

  return Driver('straight', lambda state, key: jnp.zeros(()), act)


def make_drives(
  env: UrbanEnv, driver: Driver, options: RenderOptions, num_steps: int
) -> Callable[[jax.Array, jax.Array], Drives]:
  """A jitted function (keys [B], levels [B]) -> Drives of `num_steps` steps; one compile per B."""
  begin, step = jax.vmap(env.begin), jax.vmap(env.step)
  height = env.config.robot.height
  ahead = jax.vmap(lambda scene, pos, yaw: clearances_ahead(outlines(scene, height), pos, yaw, scene.walls))

  def moment(state: State) -> dict[str, jax.Array]:
    episode = state.pipeline_state
    base, people = episode.base, episode.people
    return {
      'frames': render(episode.world.scene, views_of(episode), options).rgb,
      'position': base.position,
      'yaw': base.yaw,
      'speed': base.velocity[:, 0],
      'people': people.position,
      'is_person': people.present,
      'gap': base.touch.clearance,
      'clearances': ahead(episode.world.scene, base.position, base.yaw),
    }

  @jax.jit
  def drives(keys: jax.Array, levels: jax.Array) -> Drives:
    episode_keys = jax.vmap(episode_key)(keys)
    state = begin(episode_keys, levels)
    scene, path = state.pipeline_state.world.scene, state.pipeline_state.path
    goal = state.pipeline_state.world.goal_in_world
    memory = jax.vmap(driver.begin)(state, keys)
    num = keys.shape[0]
    nothing = jnp.zeros(num, bool)
    end: dict[str, Any] = {'has_arrived': nothing, 'has_collided': nothing, 'hit_by_robot': nothing}
    end['hit_kind'] = jnp.zeros(num, jnp.int32)

    def one(carry: Any, _: None) -> tuple[Any, dict[str, Any]]:
      state, memory, is_active, end = carry
      command, memory = jax.vmap(driver.act)(memory, state)
      seen = moment(state) | {'command': command, 'is_active': is_active}
      state = step(state, command)
      info = state.info
      seen['reward_terms'] = info['reward_terms']
      ends = is_active & (state.done > 0)
      end = {name: jnp.where(ends, info[name], old) for name, old in end.items()}
      return (state, memory, is_active & ~ends, end), seen

    carry = (state, memory, ~nothing, end)
    (_, _, _, end), seen = jax.lax.scan(one, carry, None, length=num_steps)
    return Drives(scene=scene, goal=goal, route=path, **seen, **end)

  return drives
