"""Judges contenders in prepared scenes: episodes of a scene side by side in one jitted loop, scene after scene."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from s2e_jax.closedloop.episodes import See, Traces, make_drive
from s2e_jax.closedloop.metrics import episode_metrics
from s2e_jax.closedloop.policies import Contender
from s2e_jax.closedloop.progress import Progress
from s2e_jax.closedloop.run import Judged, check_names, counted, joined
from s2e_jax.navbench.episode_files import EpisodeFile
from s2e_jax.navbench.scene_folder import PreparedScene
from s2e_jax.navbench.scenery import Scenery, make_sceneries
from s2e_jax.navbench.worlds import ROOM, make_begin, plans_of
from s2e_jax.render.compose import compose
from s2e_jax.render.render import Pictures, RenderOptions
from s2e_jax.render.splats.options import SplatOptions
from s2e_jax.render.view import View
from s2e_jax.scene import Light, Slots, Walls
from s2e_jax.sim.cameras import views_of
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import Episode
from s2e_jax.worlds.walls import walls_at

LONG = 'long'  # the task whose goals are chains
LONG_FACTOR = 4  # times the time of the other tasks that it may take


@dataclasses.dataclass(frozen=True)
class JudgedCell:
  """One scene and task: the episodes, what all contenders made of them, and the scene as it was driven in."""

  scene: PreparedScene
  file: EpisodeFile
  judged: Judged
  scenery: Scenery


def on_the_floor(scenery: Scenery, views: View) -> View:
  """`views` [B] raised to where the scene's floor is: the world of the simulator is flat, scans are not quite."""
  floor = Walls(scenery.floor, scenery.walls.origin, scenery.walls.cell)
  height, _, _ = walls_at(floor, views.position[:, 0], views.position[:, 1])
  return dataclasses.replace(views, position=views.position.at[:, 2].add(height))


@functools.lru_cache(maxsize=8)
def see_splats(budget: int = 0, chunk: int = 16) -> See:
  """The function that makes pictures of splats with things and people in them; see `SplatOptions` and
  `compose`."""

  def see(
    scenery: Scenery, episodes: Episode, options: RenderOptions, senses: tuple[str, ...] = ('rgb',)
  ) -> Pictures:
    drawn = SplatOptions(options.height, options.width, budget=budget)
    views = views_of(episodes)
    seen_from = on_the_floor(scenery, views)
    seen = compose(scenery.splats, episodes.world.scene, views, drawn, chunk, options.nearest, seen_from)
    return Pictures(**{name: getattr(seen, name) for name in senses})

  return see


def judge_scenes(
  env: UrbanEnv,
  contenders: Sequence[Contender],
  scenes: Sequence[PreparedScene],
  tasks: Sequence[str],
  *,
  num_episodes: int,
  batch: int = 32,
  budget: int = 0,
  slots: Slots = ROOM,
  lights: Mapping[str, Light] | None = None,
  say: Callable[[str], None] = logging.info,
) -> list[JudgedCell]:
  """Drives every contender through the first `num_episodes` episodes of every scene and task.

  All scenes share one program per kind of policy, and so do batches: the last one of a scene is filled up with
  copies of its first episode. budget: gaussians per picture, 0 draws all. lights: by scene, else guessed. Says
  after every batch how far it is, and when it will end. Raises ValueError, before anything is compiled, for names
  that are given twice, episodes that were planned for a smaller robot, or fewer episodes than asked for.
  """
  check_names([c.name for c in contenders])
  shown_goals = [c.name for c in contenders if c.policy.goal == 'image']
  if LONG in tasks and shown_goals:
    raise ValueError(
      f'{shown_goals} are told one image of one goal: leave out the task {LONG!r}, whose goals change'
    )
  files = [(scene, scene.episodes(task)) for scene in scenes for task in tasks]
  check_files(env, [file for _, file in files], num_episodes, batch)
  begin, see = make_begin(env, slots), see_splats(budget)
  patient = dataclasses.replace(env.config, time_limit=LONG_FACTOR * env.config.time_limit)
  envs = {False: env, True: UrbanEnv(env.generator, patient)}
  lights = lights or {}
  sceneries = make_sceneries(scenes, [lights.get(scene.name) for scene in scenes])
  device_sceneries = {scene.name: jax.tree.map(jnp.asarray, s) for scene, s in zip(scenes, sceneries, strict=True)}
  per_contender = len(files) * -(-num_episodes // batch)
  total, done = per_contender * len(contenders), 0
  progress = Progress([c.name for c in contenders], per_contender)
  cells = []
  for scene, file in files:
    scenery = device_sceneries[scene.name]
    parts: dict[str, list[Traces]] = {c.name: [] for c in contenders}
    for first in range(0, num_episodes, batch):
      numbers = list(range(first, min(first + batch, num_episodes)))
      filled = numbers + [numbers[0]] * (batch - len(numbers))
      episodes, legs = begin(scenery, jax.tree.map(jnp.asarray, plans_of(file, filled, slots)))
      for contender in contenders:
        drive = make_drive(envs[file.task == LONG], contender.policy, see)
        started = time.perf_counter()
        traces = counted(drive(contender.params, episodes, scenery, legs), len(numbers))
        took, done = time.perf_counter() - started, done + 1
        parts[contender.name].append(traces)
        progress.add(contender.name, (drive, jax.tree.structure(contender.params)), took)
        arrived = float(np.concatenate([t.has_arrived for t in parts[contender.name]]).mean())
        left = progress.eta() if done < total else ''
        where = f'{scene.name}, {file.task}, {contender.name}'
        say(f'{done}/{total} {where}: {arrived:.3f} arrived so far, {took:.1f} s{left}')
    traces_of = {name: joined(part) for name, part in parts.items()}
    figures = {name: episode_metrics(traces) for name, traces in traces_of.items()}
    cells.append(JudgedCell(scene, file, Judged(traces_of, figures), scenery))
  return cells


def check_files(env: UrbanEnv, files: Sequence[EpisodeFile], num_episodes: int, batch: int) -> None:
  """Raises ValueError where episodes do not suffice for what is asked of them."""
  for name, value in (('num_episodes', num_episodes), ('batch', batch)):
    if value < 1:
      raise ValueError(f'{name}={value} must be at least 1')
  for file in files:
    where = f'{file.scene_name}, task {file.task}'
    if len(file.episodes) < num_episodes:
      raise ValueError(
        f'{where}: num_episodes={num_episodes}, but {len(file.episodes)} were planned; prepare the scene with '
        f'--episodes={num_episodes}'
      )
    if env.config.robot.radius > file.robot_radius + 1e-6:
      raise ValueError(
        f'{where}: episodes were planned for a robot of radius {file.robot_radius:g} m, this one has '
        f'{env.config.robot.radius:g} m; prepare the scene with --robot_radius={env.config.robot.radius:g}'
      )
