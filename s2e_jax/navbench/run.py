"""Judges contenders in prepared scenes: episodes of a scene side by side in one jitted loop, scene after scene."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from s2e_jax.closedloop.episodes import See, Traces, make_drive
from s2e_jax.closedloop.metrics import episode_metrics
from s2e_jax.closedloop.policies import Contender
from s2e_jax.closedloop.progress import Progress
from s2e_jax.closedloop.run import Judged, check_names, counted, joined
from s2e_jax.closedloop.spread import filled, on_devices
from s2e_jax.navbench.arcs import turns_of
from s2e_jax.navbench.episode_files import EpisodeFile
from s2e_jax.navbench.pieces import WHOLE, Part, Pieces, about_judging
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
    scenery: Scenery,
    episodes: Episode,
    options: RenderOptions,
    senses: tuple[str, ...] = ('rgb',),
    wanted: jax.Array | None = None,
  ) -> Pictures:
    drawn = SplatOptions(options.height, options.width, budget=budget)
    views = views_of(episodes)
    seen_from = on_the_floor(scenery, views)
    scenes = episodes.world.scene
    seen = compose(scenery.splats, scenes, views, drawn, chunk, options.nearest, seen_from, wanted)
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
  num_devices: int = 1,
  keep_in: Path | None = None,
  part: Part = WHOLE,
) -> list[JudgedCell] | None:
  """Drives every contender through the first `num_episodes` episodes of every scene and task.

  All scenes share one program per kind of policy, and so do batches: the last one of a scene is filled up with
  copies of its first episode. budget: gaussians per picture, 0 draws all. lights: by scene, else guessed. Says
  after every batch how far it is, and when it will end.
  num_devices: that share every batch, filled up where they do not divide it. keep_in: folder where driven batches
  are kept and found again, on any number of devices, see `Pieces`.
  part: which of them this process drives; None is returned while other parts are missing.
  Raises ValueError, before anything is compiled, for names that are given twice, episodes that were planned for a
  smaller robot, fewer episodes than asked for, or a part without a folder.
  """
  check_names([c.name for c in contenders])
  files = [(scene, scene.episodes(task)) for scene in scenes for task in tasks]
  check_files(env, [file for _, file in files], num_episodes, batch)
  if part.of > 1 and keep_in is None:
    raise ValueError(f'part={part.number}/{part.of} needs a folder that all parts share: give keep_in')
  lights = lights or {}
  sceneries = make_sceneries(scenes, [lights.get(scene.name) for scene in scenes])
  on_host = {scene.name: scenery for scene, scenery in zip(scenes, sceneries, strict=True)}
  kept = None
  if keep_in is not None:
    kept = Pieces(keep_in, about_judging(env=env.config, batch=batch, budget=budget, slots=slots))
  numbers = [list(range(i, min(i + batch, num_episodes))) for i in range(0, num_episodes, batch)]
  pieces = [
    _Piece(i, scene, file, some, contender)
    for i, ((scene, file), some) in enumerate(itertools.product(files, numbers))
    for contender in contenders
  ]
  found = [kept.load(kept.path(p.contender, p.file, p.numbers)) if kept else None for p in pieces]
  todo = [k for k, traces in enumerate(found) if traces is None and part.holds(pieces[k].start)]
  if len(todo) < len(pieces):
    before = sum(traces is not None for traces in found)
    say(f'{len(pieces)} batches: {before} were driven before, {len(todo)} are driven now')
  drive_piece = _make_drive_piece(env, contenders, on_host, batch, budget, slots, num_devices)
  progress = Progress({c.name: sum(pieces[k].contender is c for k in todo) for c in contenders})
  for done, k in enumerate(todo):
    piece, started = pieces[k], time.perf_counter()
    traces, program = drive_piece(piece)
    found[k], took = traces, time.perf_counter() - started
    if kept:
      kept.save(kept.path(piece.contender, piece.file, piece.numbers), traces)
    progress.add(piece.contender.name, program, took)
    left = progress.eta() if done + 1 < len(todo) else ''
    say(f'{done + 1}/{len(todo)} {piece}: {traces.has_arrived.mean():.3f} arrived, {took:.1f} s{left}')
  if any(traces is None for traces in found):
    return None
  cells = []
  for scene, file in files:
    traces_of = {
      c.name: joined([t for p, t in zip(pieces, found, strict=True) if p.file is file and p.contender is c and t])
      for c in contenders
    }
    figures = {name: episode_metrics(traces) for name, traces in traces_of.items()}
    cells.append(JudgedCell(scene, file, Judged(traces_of, figures), on_host[scene.name]))
  return cells


@dataclasses.dataclass(frozen=True)
class _Piece:
  """Episodes `numbers` of a file, at most a batch, for one contender. start: number of the batch among all."""

  start: int
  scene: PreparedScene
  file: EpisodeFile
  numbers: list[int]
  contender: Contender

  def __str__(self) -> str:
    which = f'episodes {self.numbers[0]} to {self.numbers[-1]}'
    return f'{self.scene.name}, {self.file.task}, {which}, {self.contender.name}'


def _make_drive_piece(
  env: UrbanEnv,
  contenders: Sequence[Contender],
  sceneries: Mapping[str, Scenery],
  batch: int,
  budget: int,
  slots: Slots,
  num_devices: int,
) -> Callable[[_Piece], tuple[Traces, Hashable]]:
  """The function piece -> its traces on the host, and what stands for the program that drove them."""
  room = filled(batch, num_devices)
  begin, see = make_begin(env, slots), see_splats(budget)
  patient = dataclasses.replace(env.config, time_limit=LONG_FACTOR * env.config.time_limit)
  envs = {False: env, True: UrbanEnv(env.generator, patient)}
  params = {c.name: on_devices(c.params, num_devices) for c in contenders}
  begun: dict[int, Any] = {}  # of the last start: contenders follow each other

  @functools.lru_cache(maxsize=2)
  def placed(name: str) -> Scenery:
    scenery: Scenery = on_devices(jax.tree.map(jnp.asarray, sceneries[name]), num_devices)
    return scenery

  def drive_piece(piece: _Piece) -> tuple[Traces, Hashable]:
    scenery, name = placed(piece.scene.name), piece.contender.name
    if piece.start not in begun:
      begun.clear()
      rows = piece.numbers + piece.numbers[:1] * (room - len(piece.numbers))
      begun[piece.start] = begin(scenery, jax.tree.map(jnp.asarray, plans_of(piece.file, rows, slots)))
    episodes, legs = begun[piece.start]
    drive = make_drive(envs[piece.file.task == LONG], piece.contender.policy, see, num_devices)
    traces = counted(drive(params[name], episodes, scenery, legs), len(piece.numbers))
    return traces, (drive, jax.tree.structure(params[name]))

  return drive_piece


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
    turns = turns_of(env.config.robot)
    if turns is not None and turns.radius > file.turn_radius + 1e-6:
      raise ValueError(
        f'{where}: episodes were planned for a robot that turns on {file.turn_radius:.3g} m, this one needs '
        f'{turns.radius:.3g} m; prepare the scene with --robot={env.config.robot.name}'
      )
