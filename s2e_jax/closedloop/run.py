"""Judges contenders on the same episodes, chunk by chunk, and writes what became of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from s2e_jax.chunks import rows_in_chunks
from s2e_jax.closedloop import pictures, report
from s2e_jax.closedloop.episodes import Traces, make_begin, make_drive
from s2e_jax.closedloop.metrics import episode_metrics
from s2e_jax.closedloop.policies import Contender
from s2e_jax.closedloop.progress import Progress
from s2e_jax.closedloop.splits import episode_keys
from s2e_jax.closedloop.spread import filled, on_devices
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.structs import Camera
from s2e_jax.worlds.config import WorldConfig


@dataclasses.dataclass(frozen=True)
class Judged:
  """What contenders did, by name, in their order: traces [B] on the host, and figures [B] each."""

  traces: dict[str, Traces]
  figures: dict[str, dict[str, np.ndarray]]


def check_names(names: Sequence[str]) -> None:
  """Raises ValueError when there is nobody to judge or two have one name."""
  if not names:
    raise ValueError('nobody to judge: name a checkpoint, or a baseline')
  twice = sorted({name for name in names if list(names).count(name) > 1})
  if twice:
    raise ValueError(
      f'policies={list(names)} must have names of their own, but {twice} are given twice: rename a folder'
    )


def check_episodes(split: str, num_episodes: int, batch: int) -> None:
  """Raises ValueError for an unknown split, no episodes, or a batch below 1."""
  episode_keys(split, num_episodes)
  if batch < 1:
    raise ValueError(f'batch={batch} must be at least 1: episodes driven at once')


def cameras_of(worlds: WorldConfig, height: int, width: int) -> list[Camera]:
  """Cameras that robots have in these worlds, for pictures of height x width pixels: the robot's own mount, or
  the ends of the ranges that a look draws mounts from."""
  look, mount = worlds.look_distribution, worlds.mount
  ends = []
  for end in (0, 1):
    drawn = {
      name: limits[end]
      for name, limits in (
        ('height', look.camera_height),
        ('pitch', look.camera_pitch),
        ('hfov', look.camera_hfov),
      )
      if limits
    }
    ends.append(dataclasses.replace(mount, **drawn).camera(height, width))
  return ends


def judge(
  env: UrbanEnv,
  contenders: Sequence[Contender],
  keys: jax.Array,
  batch: int = 64,
  level: float = 1.0,
  say: Callable[[str], None] = logging.info,
  num_devices: int = 1,
) -> Judged:
  """Drives every contender through the episodes of typed keys [N]; worlds are begun once for all.

  Contenders that share a policy object share a program, and so do later calls with the same `env`. batch: episodes
  at once, a few more where num_devices, which share them, would not divide it. Says after every chunk how far it
  is, and when it will end.
  """
  check_names([c.name for c in contenders])
  batch = filled(min(batch, len(keys)), num_devices)
  begin = make_begin(env)
  drives = {c.name: make_drive(env, c.policy, num_devices=num_devices) for c in contenders}
  params = {c.name: on_devices(c.params, num_devices) for c in contenders}
  parts: dict[str, list[Traces]] = {c.name: [] for c in contenders}
  total = -(-len(keys) // batch)
  progress = Progress(dict.fromkeys(parts, total))
  for number, (rows, num) in enumerate(rows_in_chunks(len(keys), batch)):
    episodes = begin(keys[rows], jnp.float32(level))
    for contender in contenders:
      started = time.perf_counter()
      traces = counted(drives[contender.name](params[contender.name], episodes), num)
      took = time.perf_counter() - started
      parts[contender.name].append(traces)
      progress.add(contender.name, (contender.policy, jax.tree.structure(contender.params)), took)
      arrived = float(np.concatenate([t.has_arrived for t in parts[contender.name]]).mean())
      say(
        f'chunk {number + 1}/{total}, {contender.name}: {arrived:.3f} arrived so far, {took:.1f} s{progress.eta()}'
      )
  traces_of = {name: joined(part) for name, part in parts.items()}
  return Judged(traces_of, {name: episode_metrics(t) for name, t in traces_of.items()})


def evaluate_closedloop(
  env: UrbanEnv,
  contenders: Sequence[Contender],
  out: Path,
  *,
  split: str = 'validation',
  num_episodes: int = 256,
  first_episode: int = 0,
  batch: int = 64,
  level: float = 1.0,
  layouts: Sequence[str] = (),
  settings: Mapping[str, Any] | None = None,
  checkpoints: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  num_resamples: int = 2000,
  num_maps: int = 8,
  film: bool = True,
  num_devices: int = 1,
) -> tuple[dict[str, Any], Judged]:
  """Judges contenders on episodes of a split and writes table.md, results.json, episodes.jsonl, maps and the film.

  layouts: names by the worlds' number of layout. settings, checkpoints, notes: for the page. film:
  side_by_side.mp4 of the first two contenders on the most telling episode. num_devices: see `judge`. Returns what
  results.json holds, and the traces.
  Raises ValueError, before anything is compiled, for an unknown split, no episodes, no contenders or one name
  twice.
  """
  check_names([c.name for c in contenders])
  check_episodes(split, num_episodes, batch)
  for name, value, least in (('num_resamples', num_resamples, 1), ('num_maps', num_maps, 0)):
    if value < least:
      raise ValueError(f'{name}={value} must be at least {least}')
  if not 0 <= level <= 1:
    raise ValueError(f'level={level} must be in 0..1')
  keys = episode_keys(split, num_episodes, first_episode)
  if film and len(contenders) > 1:
    pictures.require_pyav()
  judged = judge(env, contenders, keys, batch, level, num_devices=num_devices)
  last = first_episode + num_episodes - 1
  numbers = next(iter(judged.traces.values())).layout
  names = [layouts[i] if 0 <= i < len(layouts) else 'drawn' for i in np.asarray(numbers).tolist()]
  results = report.summarise(judged.figures, num_resamples)
  results = {
    'settings': {'split': split, 'episodes': f'{first_episode} to {last}', 'level': level, **(settings or {})},
    'notes': list(notes),
    'checkpoints': dict(checkpoints or {}),
    **results,
    'layouts': report.by_layout({name: report.with_any_contact(f) for name, f in judged.figures.items()}, names),
  }
  for path in report.write_report(results, report.episode_rows(judged.figures, names, first_episode), out):
    logging.info('wrote %s', path)
  footprint = env.config.robot.footprint
  rows = pictures.telling_rows(judged.figures, num_maps)
  for stale in (out / 'maps').glob('episode_*.png'):
    stale.unlink()
  for path in pictures.write_maps(judged.traces, rows, footprint, out / 'maps', first_episode) if rows else []:
    logging.info('wrote %s', path)
  if film and len(contenders) > 1:
    two = {c.name: judged.traces[c.name] for c in contenders[:2]}
    (row,) = pictures.telling_rows({name: judged.figures[name] for name in two}, 1)
    logging.info('wrote %s', pictures.side_by_side(out / 'side_by_side.mp4', two, row, footprint))
  return results, judged


def counted(traces: Traces, num: int) -> Traces:
  """The first `num` episodes on the host."""
  found: Traces = jax.tree.map(lambda x: np.asarray(x)[:num], jax.device_get(traces))
  return found


def joined(parts: Sequence[Traces]) -> Traces:
  """The episodes of all parts, one after another."""
  joined: Traces = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
  return joined
