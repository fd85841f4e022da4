"""A million random steps over a hundred thousand scenes: nothing may break.

Run: python -m experiments.soak.run [--steps=1000000] [--scenes=100000] [--envs=128] [--look=B] [--json=PATH]
Commands are uniform within the robot's limits, drawn anew in every step. Most of the steps belong to episodes of
30 s which collisions do not end, so that robots are pushed against things for long; most of the scenes to episodes
of half a second. Counted: values that are not finite, robots beyond the fence or inside something, robots that
start within 0.3 m of anything or anybody, goals that no way leads to. A count above 0 fails.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from brax.envs.base import State

from s2e_jax.compilation import set_up_compilation
from s2e_jax.robots import robot_description
from s2e_jax.scene import SLOTS
from s2e_jax.sim.batch import UrbanBatch
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig, Episode
from s2e_jax.worlds.distance import clearance, fence_distance
from s2e_jax.worlds.generate import WorldConfig, make_generator
from s2e_jax.worlds.routes import UNREACHABLE

_PIECE = 250  # steps of every environment between two looks at the counts
SPAWN_CLEARANCE = 0.3  # m
_TOLERANCE = 0.05  # m that contact may let a robot sink in

FAULTS = ('not_finite', 'beyond_fence', 'inside_something', 'overlap_at_start', 'unreachable_goal')


def _discs(episode: Episode, footprint: Any) -> jax.Array:
  """[3, 2] m, centres of the discs that a robot touches with."""
  reach = (footprint.length - footprint.width) / 2
  ahead = jnp.stack([jnp.cos(episode.base.yaw), jnp.sin(episode.base.yaw)])
  return episode.base.position + reach * jnp.array([[-1.0], [0.0], [1.0]]) * ahead


def faults_of(state: State, footprint: Any, height: float) -> dict[str, jax.Array]:
  """Number of environments of a batch's State with each of FAULTS, [] int32."""
  episode = state.pipeline_state

  def gaps(episode: Episode) -> tuple[jax.Array, jax.Array, jax.Array]:
    scene, points = episode.world.scene, _discs(episode, footprint)
    radius = footprint.width / 2
    things = jnp.min(clearance(scene, points, False, height)[0]) - radius
    everything = jnp.min(clearance(scene, points, True, height)[0]) - radius
    return things, everything, jnp.min(fence_distance(scene.ground, points)[0]) - radius

  things, everything, fence = jax.vmap(gaps)(episode)
  is_new = episode.step == 0
  found = {
    'not_finite': jnp.any(jnp.stack(list(not_finite_in(state).values())), axis=0),
    'beyond_fence': fence < -_TOLERANCE,
    'inside_something': things < -_TOLERANCE,
    'overlap_at_start': is_new & (everything < SPAWN_CLEARANCE - 1e-3),
    'unreachable_goal': is_new & ~((episode.world.path_length < UNREACHABLE) & (episode.way < UNREACHABLE)),
  }
  return {name: jnp.sum(found[name]) for name in FAULTS}


def not_finite_in(state: State) -> dict[str, jax.Array]:
  """Path of each array of floats in a batch's State -> [B] bool, whether it holds a NaN or infinity."""
  return {
    jax.tree_util.keystr(path): ~jnp.all(jnp.isfinite(x.reshape(x.shape[0], -1)), axis=1)
    for path, x in jax.tree_util.tree_leaves_with_path(state)
    if jnp.issubdtype(x.dtype, jnp.floating)
  }


def soak(
  batch: UrbanBatch, num_steps: int, seed: int = 0, report: Any = lambda done, counts: None
) -> dict[str, int]:
  """Counts over at least num_steps random steps of all environments together: FAULTS, steps, scenes, ends.

  Where something was not finite, the paths of the arrays in which it was (`not_finite_in`) are counted too.
  """
  config, num = batch.env.config, batch.num_envs
  low, high = (jnp.array(x, jnp.float32) for x in config.command_range)

  def one(state: State, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    state = batch.step(state, jax.random.uniform(key, (num, 2), minval=low, maxval=high))
    counts = faults_of(state, config.robot.footprint, config.robot.height)
    counts |= {name: jnp.sum(state.info[name]) for name in ('has_arrived', 'has_collided', 'truncated')}
    where = {name: jnp.sum(value) for name, value in not_finite_in(state).items()}
    return state, counts | {'scenes': jnp.sum(state.done > 0)} | where

  @jax.jit
  def piece(state: State, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    state, counts = jax.lax.scan(one, state, jax.random.split(key, _PIECE))
    return state, {name: jnp.sum(value) for name, value in counts.items()}

  first, key = jax.random.split(jax.random.key(seed))
  state = batch.reset(first)
  total = {
    name: int(value) for name, value in faults_of(state, config.robot.footprint, config.robot.height).items()
  }
  total |= {'scenes': num, 'steps': 0, 'has_arrived': 0, 'has_collided': 0, 'truncated': 0}
  while total['steps'] < num_steps:
    key, now = jax.random.split(key)
    state, counts = piece(state, now)
    for name, value in counts.items():
      if name in total or int(value):
        total[name] = total.get(name, 0) + int(value)
    total['steps'] += num * _PIECE
    report(total['steps'], total)
  return total


def make_batch(num_envs: int, time_limit: float, look: str, robot: str) -> UrbanBatch:
  """Environments without pictures in small scenes; collisions end nothing."""
  description = robot_description(robot)
  config = WorldConfig(slots=SLOTS['small'], look=look, robot_radius=description.radius, mount=description.mount)
  env = UrbanEnv(
    make_generator(config), EnvConfig(robot=description, time_limit=time_limit, end_on_collision=False)
  )
  return UrbanBatch(env, num_envs)


def main(argv: list[str]) -> None:
  """Runs both parts and prints the counts; exit status 1 when something broke."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  set_up_compilation()
  given = flags.FLAGS
  begin = time.time()
  rows: dict[str, dict[str, int]] = {}
  short_steps = 2 * given.scenes

  def report(part: str) -> Any:
    def line(done: int, counts: dict[str, int]) -> None:
      faults = {name: counts[name] for name in FAULTS if counts[name]}
      print(f'{part}: {done:,} steps, {counts["scenes"]:,} scenes, faults {faults or "none"}', flush=True)

    return line

  for part, steps, limit in (('short', short_steps, 0.5), ('long', max(given.steps - short_steps, 0), 30.0)):
    if steps:
      batch = make_batch(given.envs, limit, given.look, given.robot)
      rows[part] = soak(batch, steps, given.seed, report(part))
  names = dict.fromkeys(name for row in rows.values() for name in row)
  total = {name: sum(row.get(name, 0) for row in rows.values()) for name in names}
  record = {'total': total, 'parts': rows, 'minutes': round((time.time() - begin) / 60, 1), 'jax': jax.__version__}
  record |= {'look': given.look, 'robot': given.robot, 'envs': given.envs, 'date': time.strftime('%Y-%m-%d')}
  print(json.dumps(record))
  if given.json:
    Path(given.json).write_text(json.dumps(record, indent=2) + '\n')
  if np.any([total[name] for name in FAULTS]):
    sys.exit(1)


if __name__ == '__main__':
  flags.DEFINE_integer('steps', 1_000_000, 'Random steps of all environments together.')
  flags.DEFINE_integer('scenes', 100_000, 'Scenes that short episodes add.')
  flags.DEFINE_integer('envs', 128, 'Environments.')
  flags.DEFINE_string('look', 'B', 'Look of the worlds.')
  flags.DEFINE_string('robot', 'delivery', 'Who drives.')
  flags.DEFINE_integer('seed', 0, 'Of worlds and commands.')
  flags.DEFINE_string('json', '', 'File to write the counts to.')
  app.run(main)
