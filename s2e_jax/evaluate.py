"""Evaluates policies: python -m s2e_jax.evaluate --config=configs/openloop.py --checkpoint=PATH --out=DIR.

PATH is a run's folder or one checkpoint in it. Open loop (configs/openloop.py) compares with recorded drives and
writes results.json, table.md and pictures/*.png into DIR; closed loop (configs/closedloop.py) lets any number of
checkpoints, PATH,PATH,..., drive the same simulated episodes and writes results.json, table.md, episodes.jsonl,
maps/*.png and a film. NavBench-GS (configs/navbench.py) lets them, and ONNX files, drive in Gaussian-splat scenes
and writes report.html, results.json, table.md and episodes.jsonl.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from s2e_jax.compilation import set_up_compilation, use_cpu_devices
from s2e_jax.contracts import camera_contract, check_camera_contract
from s2e_jax.data.dataset import Dataset, open_dataset
from s2e_jax.openloop.report import write_report
from s2e_jax.openloop.run import evaluate_openloop
from s2e_jax.openloop.selection import choose_clips
from s2e_jax.store.metrics import log_to_console
from s2e_jax.structs import DT
from s2e_jax.training.restore import load_policy

KINDS = ('openloop', 'closedloop', 'navbench')


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/openloop.py:data=PATH.')
  flags.DEFINE_list('checkpoint', None, "A run's folder, or one checkpoint; several in closed loop.")
  flags.DEFINE_string('out', None, 'Folder for results.json, table.md and pictures.')
  flags.mark_flags_as_required(['config', 'checkpoint', 'out'])


def find_dataset(config: ConfigDict, checkpoint: Path, description: dict[str, Any]) -> Dataset:
  """The dataset of config.data.path, or the one recorded in the checkpoint, which may have moved with its run."""
  if config.data.path:
    return open_dataset(config.data.path)
  recorded = Path(description['data']['path'])
  moved = checkpoint / recorded.name
  return open_dataset(moved if not recorded.exists() and moved.exists() else recorded)


def run_openloop(config: ConfigDict, checkpoint: Path, out: Path) -> dict[str, Any]:
  """Evaluates and writes the report; returns what results.json holds.

  Raises ValueError, before anything is compiled, when checkpoint, data, split or camera do not fit.
  """
  policy, variables, description = load_policy(checkpoint, config.which)
  dataset = find_dataset(config, checkpoint, description)
  chosen = choose_clips(dataset, description, config.data.split, config.data.folds, config.data.fold)
  policy_config = policy.config
  size = policy_config.image_height, policy_config.image_width, policy_config.num_history
  given = camera_contract(*size, 1 / DT, (dataset.clips[i].camera for i in chosen.evaluated))
  differences = check_camera_contract(description['camera_contract'], given, config.allow_other_camera)
  for line in [*chosen.notes, *differences]:
    logging.warning(line)
  evaluation = evaluate_openloop(
    jax.jit(functools.partial(policy.apply, variables)),
    dataset,
    chosen.evaluated,
    training_indices=chosen.training,
    anchors=policy_config.anchors,
    num_history=policy_config.num_history,
    image_height=policy_config.image_height,
    image_width=policy_config.image_width,
    horizon=policy_config.horizon,
    batch_size=config.batch_size,
    goal_s=config.goal_s,
    assignment=description['config']['loss']['assignment'],
    num_resamples=config.num_resamples,
    num_threads=config.num_threads,
  )
  evaluation.results.update(
    checkpoint={'path': str(checkpoint), 'model': policy_config.name, 'step': description.get('step')},
    dataset={'path': str(dataset.path), 'content_hash': dataset.content_hash},
    clips=chosen.label,
    notes=[*chosen.notes, *(f'Another camera: {line}.' for line in differences)],
  )
  for path in write_report(evaluation, dataset, out, config.num_pictures):
    logging.info('wrote %s', path)
  return evaluation.results


def run_closedloop(config: ConfigDict, checkpoints: Sequence[Path], out: Path) -> dict[str, Any]:
  """Judges checkpoints (named after their folders) and baselines on the same episodes and writes the report.

  Returns what results.json holds. Raises ValueError, before anything is compiled, when a checkpoint, its camera,
  the worlds, the robot, the split or a number does not fit.
  """
  # the simulator takes seconds to import, and open loop does without it
  from s2e_jax.closedloop import run
  from s2e_jax.navbench.policies.registry import make_contenders
  from s2e_jax.sim import settings
  from s2e_jax.worlds.layouts import layout_table

  env = settings.make_env(config)
  worlds = settings.world_config(config.world, env.config.robot)
  run.check_episodes(config.split, config.num_episodes, config.batch)
  lineup = make_contenders(
    config.baselines,
    checkpoints,
    env.config.robot,
    cameras=functools.partial(run.cameras_of, worlds),
    which=config.which,
    careful=config.careful,
    allow_other_camera=config.allow_other_camera,
    **config.controller.to_dict(),
    **config.picture.to_dict(),
  )
  for line in lineup.notes:
    logging.warning(line)
  results, _ = run.evaluate_closedloop(
    env,
    lineup.contenders,
    out,
    split=config.split,
    num_episodes=config.num_episodes,
    first_episode=config.first_episode,
    batch=config.batch,
    level=config.level,
    layouts=layout_table({name: w for name, w in worlds.layout_weights.items() if w > 0}).names,
    settings={
      'look': config.world.look,
      'task': config.task,
      'slots': config.world.slots,
      'robot': config.env.robot,
      'people': config.world.people[1],
      'obstacles per 10 m': config.world.object_density[1],
      'seconds': config.env.time_limit,
    },
    checkpoints=lineup.models,
    notes=lineup.notes,
    num_resamples=config.num_resamples,
    num_maps=config.num_maps,
    film=config.film,
    num_devices=jax.local_device_count(),
  )
  return results


def main(argv: list[str]) -> None:
  """Dispatches on config.kind."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; write --config=... --checkpoint=... --out=...')
  options = flags.FLAGS
  config = options.config
  paths, out = [Path(path) for path in options.checkpoint], Path(options.out)
  if config.kind not in KINDS:
    raise app.UsageError(f'config.kind={config.kind!r} must be one of {KINDS}; use configs/<kind>.py')
  if config.kind == 'openloop' and len(paths) != 1:
    raise app.UsageError(f'open loop takes one --checkpoint, not {len(paths)}; run the command for each')
  log_to_console()
  set_up_compilation()
  if config.kind == 'openloop':
    run_openloop(config, paths[0], out)
  elif config.kind == 'closedloop':
    use_cpu_devices(min(config.batch, config.num_episodes), least=8, evenly=False)
    run_closedloop(config, paths, out)
  else:
    use_cpu_devices(min(config.batch, config.num_episodes), least=4, evenly=False)
    # the benchmark takes seconds to import, and the others do without it
    from s2e_jax.navbench.command import run_navbench

    if run_navbench(config, paths, out) is None:
      return
  print((out / 'table.md').read_text())


if __name__ == '__main__':
  define_flags()
  app.run(main)
