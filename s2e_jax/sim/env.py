"""One urban environment as a brax `Env`: reset(key) -> State, step(State, action) -> State, without pictures.

The batch with pictures and auto-reset is `sim.batch`. Policy and state run at 4 Hz, the base servo holds the
command in between. In a step people and robot move at the same time; then everything is looked at once.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

from s2e_jax.geometry import rotate
from s2e_jax.sim import observe
from s2e_jax.sim.contacts import obstacles_near
from s2e_jax.sim.dynamics import make_base
from s2e_jax.sim.episode import (
  EnvConfig,
  Episode,
  Outcome,
  accounts,
  command_of,
  episode_key,
  no_outcome,
  outcome_of,
  pose_of,
  stream,
  told_the_goal,
)
from s2e_jax.sim.observe import Pose, Whereabouts
from s2e_jax.sim.rewards import TERMS, Transition, reward_terms
from s2e_jax.structs import DT
from s2e_jax.worlds.distance import outlines
from s2e_jax.worlds.people import place_people, step_people
from s2e_jax.worlds.routes import reference_path
from s2e_jax.worlds.world import World

Generator = Callable[[jax.Array, jax.Array], World]
NUM_PATH_POINTS, PATH_SPACING = 48, 0.75


class UrbanEnv(Env):
  """One robot on its way through the worlds of a generator; pure functions, to be vmapped and jitted.

  generator: (key, level in 0..1) -> World: `worlds.generate.make_generator`'s, or a hand-drawn one.
  level: curriculum level of the worlds that `reset` asks for.
  Observations are the vector of `observe.LAYOUT`, [STATE_SIZE] float32. State.info holds what `episode.Outcome`
  and `episode.accounts` name; time_out is truncated as a float, where brax looks for it.
  """

  def __init__(self, generator: Generator, config: EnvConfig | None = None, level: float = 1.0) -> None:
    """Raises ValueError for a level outside 0..1, or dynamics that the robot lacks."""
    if not 0 <= level <= 1:
      raise ValueError(f'level={level!r} must be in 0..1')
    self.config = EnvConfig() if config is None else config
    self.generator = generator
    self.level = level
    self.base = make_base(self.config.robot, self.config.dynamics)

  @property
  def observation_size(self) -> int:
    """Entries of the state vector."""
    return observe.STATE_SIZE

  @property
  def action_size(self) -> int:
    """Speed and turning rate."""
    return 2

  @property
  def backend(self) -> str:
    """The physics below."""
    return 'mjx'

  @property
  def dt(self) -> float:
    """Seconds of one policy step."""
    return DT

  def reset(self, rng: jax.Array) -> State:
    """First state of a new episode; typed and legacy keys will do."""
    return self.begin(episode_key(rng), jnp.float32(self.level))

  def begin(self, key: jax.Array, level: jax.Array) -> State:
    """First state of the episode of key [2] uint32 in a world of level []."""
    world_key, _, _ = jax.random.split(stream(key, 1), 3)
    return self.begin_in(self.generator(world_key, level), key, level)

  def begin_in(self, world: World, key: jax.Array, level: jax.Array) -> State:
    """First state of the episode of key [2] uint32 in a world that is given, said to be of level []."""
    config = self.config
    _, base_key, gps_key = jax.random.split(stream(key, 1), 3)
    base = self.base.reset(world.start_in_world, world.start_yaw, base_key)
    pose = pose_of(base)
    around = observe.whereabouts(world.to_goal, world.scene.ground, pose)
    zero = jnp.zeros((), jnp.int32)
    episode = Episode(
      world=world,
      people=world.people,
      base=base,
      path=self._reference_path(world),
      key=key,
      level=jnp.asarray(level, jnp.float32),
      step=zero,
      way=around.way,
      least_way=around.way,
      command=jnp.zeros(2),
      is_colliding=jnp.zeros((), bool),
      gps_bias=config.gps_bias * jax.random.normal(gps_key, (2,)) if config.gps_bias else jnp.zeros(2),
      goal_in_robot=jnp.zeros(2),
      nan_actions=zero,
      clamped_actions=zero,
    )
    episode = told_the_goal(config, episode)
    metrics, info = accounts(episode, no_outcome(), {name: jnp.zeros(()) for name in TERMS})
    obs = self._observation(episode, pose, around)
    return State(episode, obs, jnp.zeros(()), jnp.zeros(()), metrics, info)

  def step(self, state: State, action: jax.Array) -> State:
    """The state 0.25 s later under action [2]; one with a NaN stands still, one out of range is clamped."""
    config, before = self.config, state.pipeline_state
    command, is_nan, is_clamped = command_of(config, action)
    world = before.world
    robot_velocity = rotate(before.base.velocity, before.base.yaw)
    people = step_people(before.people, world.scene, before.base.position, robot_velocity, DT)
    walked = jnp.where(people.present[:, None], people.position - before.people.position, 0.0) / DT
    obstacles = obstacles_near(config.robot, world.scene, before.base.position, walked)
    base = self.base.advance(before.base, command, obstacles)
    world = world.replace(scene=place_people(world.scene, people))
    pose = pose_of(base)
    around = observe.whereabouts(world.to_goal, world.scene.ground, pose)
    episode = before.replace(
      world=world,
      people=people,
      base=base,
      step=before.step + 1,
      way=around.way,
      least_way=jnp.minimum(before.least_way, around.way),
      command=command,
      is_colliding=base.touch.is_touching & (base.touch.impulse > config.min_impulse),
      nan_actions=before.nan_actions + is_nan,
      clamped_actions=before.clamped_actions + is_clamped,
    )
    episode = told_the_goal(config, episode)
    outcome = outcome_of(config, before, episode)
    terms = self._rewards(before, episode, around, outcome)
    metrics, info = accounts(episode, outcome, terms)
    return state.replace(
      pipeline_state=episode,
      obs=self._observation(episode, pose, around),
      reward=sum(terms.values()),
      done=(outcome.terminated | outcome.truncated).astype(jnp.float32),
      metrics={**state.metrics, **metrics},
      info={**state.info, **info},
    )

  def _reference_path(self, world: World) -> jax.Array:
    """[L, 2] m; the straight line where no reward looks at it."""
    start, goal = world.start_in_world, world.goal_in_world
    if not self.config.weights['path_distance']:
      return jnp.stack([start, goal])
    return reference_path(world.to_goal, world.scene.ground, start, goal, NUM_PATH_POINTS, PATH_SPACING)

  def _observation(self, episode: Episode, pose: Pose, around: Whereabouts) -> jax.Array:
    scene = episode.world.scene
    shape = outlines(scene, self.config.robot.height)
    return observe.state_vector(
      pose, around, episode.goal_in_robot, episode.command, episode.people, shape, scene.ground, scene.walls
    )

  def _rewards(
    self, before: Episode, after: Episode, around: Whereabouts, outcome: Outcome
  ) -> dict[str, jax.Array]:
    """Weighted terms of the step."""
    config, robot = self.config, self.config.robot
    low, high = (jnp.array(x, jnp.float32) for x in config.command_range)
    return reward_terms(
      Transition(
        has_arrived=outcome.has_arrived,
        has_collided=outcome.has_collided,
        is_terminal=outcome.terminated,
        distance=before.way,
        next_distance=after.way,
        lateral_offset=around.share,
        is_off_pavement=around.is_off,
        person_distance=observe.person_gap(after.people, pose_of(after.base), robot.footprint),
        clearance=after.base.touch.clearance,
        speed_share=jnp.abs(after.base.velocity[0]) / robot.max_speed,
        command=after.command,
        last_command=before.command,
        command_range=high - low,
        yaw_rate=after.base.yaw_rate,
        max_yaw_rate=jnp.float32(robot.max_yaw_rate),
        path_distance=observe.path_offset(after.path, after.base.position),
        discount=jnp.float32(config.discount),
        dt=jnp.float32(DT),
      ),
      config.weights,
    )
