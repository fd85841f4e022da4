"""How often the privileged planner arrives: success, collisions and time-outs by layout, with intervals.

Run: python -m experiments.expert.run [--robot=delivery] [--looks=B,A,C-near,C-far] [--episodes=512] [--careful]
  [--people=4] [--json=PATH] [--maps=FOLDER]
Worlds come from the generator at curriculum level 1, the environment is the real one without pictures: dynamics in
MJX, contacts, people who react. Episodes are independent, so the intervals are Wilson's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from s2e_jax.compilation import set_up_compilation
from s2e_jax.render import topview
from s2e_jax.robots import robot_description
from s2e_jax.scene import KIND, KINDS, SLOTS
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig, episode_key, pose_of
from s2e_jax.sim.observe import person_gap
from s2e_jax.structs import DT
from s2e_jax.worlds.expert import CAREFUL, ExpertConfig, expert_command, expert_init
from s2e_jax.worlds.generate import WorldConfig, make_generator
from s2e_jax.worlds.layouts import layout_table

OUTCOMES = ('timeout', 'success', 'thing', 'fence', 'person_by_robot', 'person_by_person')

_ROBOT = flags.DEFINE_string('robot', 'delivery', 'Robot description.')
_LOOKS = flags.DEFINE_list('looks', ['B', 'A', 'C-near', 'C-far'], 'Looks, whose layouts differ.')
_EPISODES = flags.DEFINE_integer('episodes', 512, 'Episodes per look.')
_BATCH = flags.DEFINE_integer('batch', 64, 'Episodes at once.')
_PEOPLE = flags.DEFINE_integer('people', 4, 'People in every world; 0 leaves only things.')
_SECONDS = flags.DEFINE_float('seconds', 60.0, 'Time limit.')
_CAREFUL = flags.DEFINE_bool('careful', False, 'Drive as demonstrations do: early and wide around everything.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the worlds.')
_JSON = flags.DEFINE_string('json', '', 'File to write the rows to.')
_MAPS = flags.DEFINE_string('maps', '', 'Folder for maps of the episodes that failed.')


def wilson(hits: int, num: int, z: float = 1.959964) -> tuple[float, float]:
  """Wilson's 95 % interval of a share of `hits` out of `num`."""
  if num == 0:
    return 0.0, 1.0
  share, scale = hits / num, 1 + z * z / num
  middle = (share + z * z / (2 * num)) / scale
  half = z / scale * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
  return max(middle - half, 0.0), min(middle + half, 1.0)


def make_drive(env: UrbanEnv, config: ExpertConfig) -> Callable[[jax.Array], dict[str, Any]]:
  """A jitted function of typed keys [B]: what became of B episodes, [B] each, and their traces [T, B, ...]."""
  robot = env.config.robot
  person = KIND['person']

  def begin(key: jax.Array) -> Any:
    state = env.begin(episode_key(key), jnp.float32(1.0))
    return state, expert_init(robot, config, state.pipeline_state.world)

  def step(state: Any, memory: Any) -> tuple[Any, Any, dict[str, jax.Array]]:
    episode = state.pipeline_state
    base = episode.base
    velocity = jnp.stack([base.velocity[0], base.yaw_rate])
    command, memory = expert_command(
      robot, config, memory, episode.world, episode.people, base.position, base.yaw, velocity
    )
    state = env.step(state, command)
    info, after = state.info, state.pipeline_state
    is_person = info['hit_kind'] == person
    hit = jnp.where(is_person, jnp.where(info['hit_by_robot'], 4, 5), jnp.where(info['hit_slot'] == -2, 3, 2))
    seen = {
      'position': after.base.position,
      'yaw': after.base.yaw,
      'people': after.people.position,
      'command': command,
      'speed': after.base.velocity[0],
      'kind': info['hit_kind'],
      'end': jnp.where(info['has_collided'], hit, jnp.where(info['has_arrived'], 1, 0)),
      'done': state.done > 0,
      'person_gap': person_gap(after.people, pose_of(after.base), robot.footprint),
    }
    return state, memory, seen

  @jax.jit
  def drive(keys: jax.Array) -> dict[str, Any]:
    state, memory = jax.vmap(begin)(keys)
    first = state.pipeline_state

    def one(carry: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
      state, memory, seen = jax.vmap(step)(*carry)
      return (state, memory), seen

    _, seen = jax.lax.scan(one, (state, memory), None, length=env.config.max_steps)
    last = jnp.argmax(seen['done'], axis=0)
    chosen = jnp.arange(env.config.max_steps)[:, None] == last
    return {
      'outcome': jnp.sum(jnp.where(chosen, seen['end'], 0), axis=0),
      'kind': jnp.sum(jnp.where(chosen, seen['kind'], 0), axis=0),
      'steps': last + 1,
      'layout': first.world.layout,
      'path_length': first.world.path_length,
      'scene': first.world.scene,
      'goal': first.world.goal_in_world,
      'path': first.path,
    } | {name: seen[name] for name in ('position', 'yaw', 'people', 'command', 'speed', 'person_gap')}

  return drive


def summary(name: str, runs: list[dict[str, Any]], chosen: list[np.ndarray]) -> dict[str, Any]:
  """One row of the table over the chosen episodes [B] bool of each run."""
  pairs = list(zip(runs, chosen, strict=True))
  outcome = np.concatenate([run['outcome'][mask] for run, mask in pairs])
  num, hits = len(outcome), int((outcome == 1).sum())
  low, high = wilson(hits, num)
  row: dict[str, Any] = {'worlds': name, 'episodes': num, 'success': round(hits / max(num, 1), 4)}
  row |= {'low': round(low, 4), 'high': round(high, 4)}
  row |= {kind: int((outcome == i).sum()) for i, kind in enumerate(OUTCOMES) if kind != 'success'}
  # who was run into by a person: did it stand by then?
  still = 0
  for run, mask in pairs:
    for i in np.flatnonzero(mask & (run['outcome'] == 5)):
      still += int(abs(run['speed'][max(int(run['steps'][i]) - 2, 0), i]) < 0.15)
  row['of_these_standing'] = still
  speeds, seconds, detours, gaps = [], [], [], []
  for run, mask in pairs:
    for i in np.flatnonzero(mask & (run['outcome'] == 1)):
      steps = int(run['steps'][i])
      speeds.append(run['speed'][:steps, i].mean())
      seconds.append(steps * DT)
      way = np.linalg.norm(np.diff(run['position'][:steps, i], axis=0), axis=-1).sum()
      detours.append(way / max(float(run['path_length'][i]) - 1.0, 1.0))
      gaps.append(run['person_gap'][:steps, i].min())
  if seconds:
    row |= {
      'mean_seconds': round(float(np.mean(seconds)), 1),
      'mean_speed': round(float(np.mean(speeds)), 2),
      'way_over_shortest': round(float(np.median(detours)), 3),
      'closest_person_p10': round(float(np.percentile(gaps, 10)), 2),
    }
  return row


def draw_failures(folder: Path, look: str, robot: Any, runs: list[dict[str, Any]], names: tuple[str, ...]) -> None:
  """A map per failed episode: the reference path grey, the robot's way red, people's ways purple."""
  import cv2

  folder.mkdir(parents=True, exist_ok=True)
  for number, run in enumerate(runs):
    for i in np.flatnonzero(run['outcome'] != 1):
      scene = jax.tree.map(lambda x, i=i: x[i], run['scene'])
      steps = int(run['steps'][i]) if run['outcome'][i] else run['position'].shape[0]
      view = topview.view_of_world(scene, 24.0)
      picture = topview.draw_map(scene, view)
      topview.draw_path(picture, view, run['path'][i], (120, 120, 120), 1)
      for k in range(run['people'].shape[2]):
        topview.draw_path(picture, view, run['people'][:steps, i, k], (170, 60, 200), 1)
      topview.draw_path(picture, view, run['position'][:steps, i], (220, 40, 40), 2)
      position, yaw = run['position'][steps - 1, i], float(run['yaw'][steps - 1, i])
      topview.draw_robot(picture, view, position, yaw, robot.footprint.length, robot.footprint.width)
      for k in range(run['people'].shape[2]):
        centre = tuple(int(v) for v in view.pixels(run['people'][steps - 1, i, k]))
        cv2.circle(picture, centre, int(0.25 * view.pixels_per_m), (170, 60, 200), -1)
      topview.draw_goal(picture, view, run['goal'][i])
      what = OUTCOMES[int(run['outcome'][i])] + ('_' + KINDS[int(run['kind'][i])] if run['kind'][i] else '')
      file = folder / f'{look}_{number}_{i}_{names[int(run["layout"][i])]}_{what}_{steps * DT:.0f}s.png'
      cv2.imwrite(str(file), picture[..., ::-1])


def evaluate(look: str) -> list[dict[str, Any]]:
  """Rows of one look: all of it first, then by layout."""
  robot = robot_description(_ROBOT.value)
  worlds = WorldConfig(
    slots=SLOTS['small'] if _PEOPLE.value <= SLOTS['small'].people else SLOTS['standard'],
    look=look,
    people=(_PEOPLE.value, _PEOPLE.value),
    robot_radius=robot.radius,
    mount=robot.mount,
  )
  env = UrbanEnv(make_generator(worlds), EnvConfig(robot=robot, time_limit=_SECONDS.value))
  drive = make_drive(env, CAREFUL if _CAREFUL.value else ExpertConfig())
  names = tuple(layout_table(worlds.layout_weights).names)
  batches = math.ceil(_EPISODES.value / _BATCH.value)
  runs = []
  for i in range(batches):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(_SEED.value), i), _BATCH.value)
    begin = time.perf_counter()
    runs.append(jax.tree.map(np.asarray, drive(keys)))
    ok = (runs[-1]['outcome'] == 1).mean()
    print(f'{look}: batch {i + 1}/{batches}, {ok:.3f} arrived, {time.perf_counter() - begin:.0f} s', flush=True)
  if _MAPS.value:
    draw_failures(Path(_MAPS.value), look, robot, runs, names)
  of_layout = [np.array([names[int(row)] for row in run['layout']]) for run in runs]
  rows = [summary(look, runs, [np.ones(len(run['outcome']), bool) for run in runs])]
  for name in dict.fromkeys(names):
    rows.append(summary(f'{look}: {name}', runs, [layouts == name for layouts in of_layout]))
  return rows


def print_table(rows: list[dict[str, Any]]) -> None:
  """The rows as a Markdown table."""
  columns = [*rows[0]]
  print('| ' + ' | '.join(columns) + ' |')
  print('|---|' + '---:|' * (len(columns) - 1))
  for row in rows:
    print('| ' + ' | '.join(str(row.get(column, '')) for column in columns) + ' |')


def main(_: Any) -> None:
  """Measures every look and prints the table."""
  set_up_compilation()
  rows = [row for look in _LOOKS.value for row in evaluate(look)]
  print_table(rows)
  if _JSON.value:
    setup = {flag: flags.FLAGS[flag].value for flag in ('robot', 'people', 'seconds', 'careful', 'seed')}
    Path(_JSON.value).write_text(json.dumps({**setup, 'rows': rows}, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
