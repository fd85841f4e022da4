"""Films episodes and draws scenes: python -m s2e_jax.watch --config=configs/watch.py[:args] --out=DIR.

Writes DIR/episode_N.mp4 (camera, map with paths and people, rewards per term), DIR/scenes.png (a contact sheet of
random scenes), DIR/episodes.json, and DIR/episodes.rrd for the rerun viewer where `rerun-sdk` is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from s2e_jax.compilation import set_up_compilation
from s2e_jax.render.render import render
from s2e_jax.sim import drives as drives_lib
from s2e_jax.sim import film, rerun_log, settings
from s2e_jax.sim.cameras import views_of
from s2e_jax.sim.drives import Driver, Drives
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import episode_key
from s2e_jax.store.metrics import log_to_console
from s2e_jax.structs import DT
from s2e_jax.worlds.expert import CAREFUL, ExpertConfig

DRIVERS: dict[str, Callable[[UrbanEnv, ConfigDict], Driver]] = {
  'expert': lambda env, config: drives_lib.expert_driver(env, CAREFUL if config.careful else ExpertConfig()),
  'straight': lambda env, config: drives_lib.straight_driver(env),
  'random': lambda env, config: drives_lib.random_driver(env),
}


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/watch.py:look=B.')
  flags.DEFINE_string('out', None, 'Folder for films and pictures.')
  flags.mark_flags_as_required(['config', 'out'])


def run_watch(config: ConfigDict, out: Path) -> list[dict[str, Any]]:
  """Writes everything; returns what episodes.json holds. ValueError before compiling for what does not fit."""
  if config.driver not in DRIVERS:
    raise ValueError(f'config.driver={config.driver!r} must be one of {sorted(DRIVERS)}')
  for name in ('num_episodes', 'num_scenes'):
    if config[name] < 1:
      raise ValueError(f'config.{name}={config[name]} must be at least 1')
  env, options = settings.make_env(config), settings.picture_options(config.picture)
  film.require_pyav()
  out.mkdir(parents=True, exist_ok=True)
  scenes_key, episodes_key = jax.random.split(jax.random.key(config.seed))
  _write_picture(out / 'scenes.png', film.contact_sheet(draw_scenes(env, options, scenes_key, config)))
  driver = DRIVERS[config.driver](env, config)
  drive = drives_lib.make_drives(env, driver, options, env.config.max_steps)
  levels = jnp.full(config.num_episodes, config.level)
  logging.info('driving %d episodes (compiling first)', config.num_episodes)
  drives: Drives = jax.device_get(drive(jax.random.split(episodes_key, config.num_episodes), levels))
  rows = []
  for b in range(config.num_episodes):
    episode = film.episode_of(drives, b, env.config.robot.footprint)
    path = out / f'episode_{b}.mp4'
    film.write_mp4(path, film.film_frames(episode), 1 / DT)
    _write_picture(out / f'episode_{b}.png', list(film.film_frames(episode))[-1])
    logging.info('wrote %s: %s', path, episode.moments[-1].note)
    rows.append(film.summary_of(episode))
  (out / 'episodes.json').write_text(json.dumps(rows, indent=1) + '\n')
  if rerun_log.is_available():
    rerun_log.write(out / 'episodes.rrd', drives)
    logging.info('wrote %s', out / 'episodes.rrd')
  return rows


def draw_scenes(env: UrbanEnv, options: Any, key: jax.Array, config: ConfigDict) -> Any:
  """[num_scenes, h, w, 3] uint8: what robots see at the start of as many episodes."""

  @jax.jit
  def draw(keys: jax.Array) -> jax.Array | None:
    states = jax.vmap(lambda k: env.begin(episode_key(k), jnp.float32(config.level)))(keys)
    return render(states.pipeline_state.world.scene, views_of(states.pipeline_state), options).rgb

  logging.info('drawing %d scenes (compiling first)', config.num_scenes)
  return jax.device_get(draw(jax.random.split(key, config.num_scenes)))


def _write_picture(path: Path, picture: Any) -> None:
  cv2.imwrite(str(path), picture[..., ::-1])
  logging.info('wrote %s', path)


def main(argv: list[str]) -> None:
  """Dispatches on config.kind."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; write --config=... --out=...')
  config, out = flags.FLAGS.config, Path(flags.FLAGS.out)
  if config.kind != 'watch':
    raise app.UsageError(f"config.kind={config.kind!r} must be 'watch'; use configs/watch.py")
  log_to_console()
  set_up_compilation()
  try:
    rows = run_watch(config, out)
  except ValueError as error:
    raise app.UsageError(str(error)) from error
  print(f'{"episode":>7}  {"ended":<22} {"seconds":>7} {"metres":>7} {"return":>7}')
  for i, row in enumerate(rows):
    print(f'{i:>7}  {row["ended"]:<22} {row["seconds"]:>7.2f} {row["metres"]:>7.2f} {row["return"]:>7.3f}')


if __name__ == '__main__':
  define_flags()
  app.run(main)
