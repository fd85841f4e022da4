"""Steps per second of the whole environment step, the share of each part, memory and compile time.

Run: python -m experiments.sim_costs.run [--envs=64,256,1024] [--slots=small] [--json=PATH]
Each number of environments runs in a fresh process without a compilation cache: random commands, people, resets
into fresh worlds, one 64x128 picture of every environment in every step. All parts are timed in turn. Both wall
time and CPU time are kept; where other work runs on the machine only the latter means something: `steps_per_s_cpu`
is what this machine's cores would do if they had nothing else to do, cores / (CPU seconds per step).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from brax.envs.base import State

from s2e_jax.compilation import use_wide_vectors
from s2e_jax.geometry import rotate
from s2e_jax.render.render import RenderOptions
from s2e_jax.robots import ROBOTS
from s2e_jax.scene import SLOTS
from s2e_jax.sim.batch import UrbanBatch, camera_pictures
from s2e_jax.sim.contacts import obstacles_near
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig, Episode
from s2e_jax.structs import DT
from s2e_jax.worlds.generate import WorldConfig, make_generator
from s2e_jax.worlds.people import place_people, step_people

_ROBOT = ROBOTS['delivery']


def make_batch(
  num_envs: int, slots: str = 'small', look: str = 'B', height: int = 64, width: int = 128
) -> UrbanBatch:
  """The default of training: planar delivery robot, people, auto-reset, pictures."""
  room = SLOTS[slots]
  config = WorldConfig(
    slots=room, look=look, people=(0, room.people), robot_radius=_ROBOT.radius, mount=_ROBOT.mount
  )
  env = UrbanEnv(make_generator(config), EnvConfig(robot=_ROBOT))
  return UrbanBatch(env, num_envs, RenderOptions(height=height, width=width))


def make_run(batch: UrbanBatch, num_steps: int) -> Callable[[State, jax.Array], tuple[State, jax.Array]]:
  """A jitted function (state, key) -> (state, number of episodes that ended) of num_steps random steps."""
  low, high = (jnp.array(x, jnp.float32) for x in batch.env.config.command_range)

  def one(state: State, key: jax.Array) -> tuple[State, jax.Array]:
    state = batch.step(state, jax.random.uniform(key, (batch.num_envs, 2), minval=low, maxval=high))
    return state, jnp.sum(state.done)

  return jax.jit(lambda state, key: jax.lax.scan(one, state, jax.random.split(key, num_steps)))


def parts_of(batch: UrbanBatch) -> dict[str, Callable[[Episode, jax.Array], Any]]:
  """Functions (episodes [B], commands [B, 2]) that do one part of the step for every environment."""
  env = batch.env

  def free(episode: Episode, command: jax.Array) -> Any:
    return env.base.advance(episode.base, command)

  def touching(episode: Episode, command: jax.Array) -> Any:
    walked = episode.people.velocity
    near = obstacles_near(env.config.robot, episode.world.scene, episode.base.position, walked)
    return env.base.advance(episode.base, command, near)

  def people(episode: Episode, command: jax.Array) -> Any:
    del command
    base, scene = episode.base, episode.world.scene
    walked = step_people(episode.people, scene, base.position, rotate(base.velocity, base.yaw), DT)
    return walked, place_people(scene, walked).capsules

  def whole(episode: Episode, command: jax.Array) -> Any:
    state = State(episode, jnp.zeros(env.observation_size), jnp.zeros(()), jnp.zeros(()), {}, {})
    after = env.step(state, command)
    return after.obs, after.reward, after.pipeline_state.base, after.pipeline_state.people, after.info

  def pictures(episodes: Episode, commands: jax.Array) -> Any:
    del commands
    return camera_pictures(episodes, batch.options or RenderOptions())

  alone = {'physics': free, 'physics and contact': touching, 'people': people, 'environment': whole}
  return {name: jax.vmap(part) for name, part in alone.items()} | {'pictures': pictures}


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
  cpu, wall = time.process_time(), time.perf_counter()
  jax.block_until_ready(call())
  return time.process_time() - cpu, time.perf_counter() - wall


def measure(num_envs: int, slots: str, rounds: int = 5, num_steps: int = 16) -> dict[str, Any]:
  """One row: rates, CPU microseconds per environment step by part (least of the rounds), memory, compile time."""
  batch = make_batch(num_envs, slots)
  key = jax.random.key(0)
  begin = time.perf_counter(), time.process_time()
  state = jax.block_until_ready(batch.reset(key))
  first = time.perf_counter() - begin[0], time.process_time() - begin[1]
  run = make_run(batch, num_steps)
  for seed in range(3):  # compiles, and lets the first episodes, which begin together, drift apart
    state, _ = run(state, jax.random.key(seed))
  commands = jnp.tile(jnp.array([0.8, 0.2]), (num_envs, 1))
  parts = {name: jax.jit(part) for name, part in parts_of(batch).items()}
  for part in parts.values():
    jax.block_until_ready(part(state.pipeline_state, commands))
  cpu = {name: float('inf') for name in (*parts, 'step')}
  wall, ended = float('inf'), 0.0
  for r in range(rounds):
    key = jax.random.key(100 + r)
    seconds, wall_seconds = _timed(lambda key=key, state=state: run(state, key))  # type: ignore[misc]
    state, done = run(state, key)
    ended += float(done.sum()) / (rounds * num_steps * num_envs)
    cpu['step'], wall = min(cpu['step'], seconds / num_steps), min(wall, wall_seconds / num_steps)
    for name, part in parts.items():
      seconds, _ = _timed(lambda part=part, state=state: part(state.pipeline_state, commands))  # type: ignore[misc]
      cpu[name] = min(cpu[name], seconds)
  micro = {name: value / num_envs * 1e6 for name, value in cpu.items()}
  split = {
    'physics': micro['physics'],
    'contact': micro['physics and contact'] - micro['physics'],
    'people': micro['people'],
    'rewards and observation': micro['environment'] - micro['physics and contact'] - micro['people'],
    'pictures': micro['pictures'],
    'auto-reset': micro['step'] - micro['environment'] - micro['pictures'],
  }
  memory = batch._program.lower(state, commands).compile().memory_analysis()
  cores = os.cpu_count() or 1
  return {
    'envs': num_envs,
    'primitives': SLOTS[slots].num,
    'steps_per_s_wall': round(num_envs / wall),
    'steps_per_s_cpu': round(cores * num_envs / cpu['step']),
    'us_per_env_step': round(micro['step'], 1),
    'us_by_part': {name: round(value, 1) for name, value in split.items()},
    'share_by_part': {name: round(value / micro['step'], 3) for name, value in split.items()},
    'episodes_ended_per_step': round(ended, 4),
    'state_kib_per_env': round(sum(x.nbytes for x in jax.tree.leaves(state)) / num_envs / 1024, 1),
    'temporaries_kib_per_env': round(getattr(memory, 'temp_size_in_bytes', 0) / num_envs / 1024, 1),
    'first_reset_s_wall': round(first[0], 1),
    'first_reset_s_cpu': round(first[1], 1),
    'process_peak_mib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
    'load': round(os.getloadavg()[0], 1),
    'cores': cores,
    'device': jax.devices()[0].device_kind,
  }


def table(rows: list[dict[str, Any]]) -> str:
  """Markdown table of the rows."""
  columns = (
    'envs', 'primitives', 'steps_per_s_wall', 'steps_per_s_cpu', 'us_per_env_step', 'state_kib_per_env',
    'temporaries_kib_per_env', 'first_reset_s_cpu',
  )  # fmt: skip
  parts = list(rows[0]['us_by_part'])
  lines = ['| ' + ' | '.join((*columns, *parts)) + ' |', '|' + '---:|' * (len(columns) + len(parts))]
  for row in rows:
    cells = [f'{row[c]:,}' for c in columns] + [f'{row["us_by_part"][part]:,}' for part in parts]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  """Measures each number of environments in a process of its own and prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  given = flags.FLAGS
  if given.one:
    use_wide_vectors()
    jax.config.update('jax_enable_compilation_cache', False)
    print(json.dumps(measure(given.one, given.slots)))
    return
  rows = []
  for num_envs in given.envs:
    command = [sys.executable, '-m', 'experiments.sim_costs.run', f'--one={num_envs}', f'--slots={given.slots}']
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps(rows[-1]), flush=True)
  print(table(rows))
  if given.json:
    record = {'rows': rows, 'jax': jax.__version__, 'date': time.strftime('%Y-%m-%d')}
    Path(given.json).write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
  flags.DEFINE_list('envs', ['64', '256', '1024'], 'Numbers of environments.')
  flags.DEFINE_string('slots', 'small', 'Size of the scenes: small, standard or large.')
  flags.DEFINE_string('json', '', 'File to write the rows to.')
  flags.DEFINE_integer('one', 0, 'Measure this many environments in this process and print one JSON line.')
  app.run(main)
