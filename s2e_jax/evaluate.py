"""Evaluates a policy: python -m s2e_jax.evaluate --config=configs/openloop.py --checkpoint=PATH --out=DIR.

PATH is a run's folder or one checkpoint in it. Writes results.json, table.md and pictures/*.png into DIR.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from s2e_jax.compilation import use_compilation_cache
from s2e_jax.contracts import camera_contract, check_camera_contract
from s2e_jax.data.dataset import Dataset, open_dataset
from s2e_jax.openloop.report import write_report
from s2e_jax.openloop.run import evaluate_openloop
from s2e_jax.openloop.selection import choose_clips
from s2e_jax.store.metrics import log_to_console
from s2e_jax.structs import DT
from s2e_jax.training.restore import load_policy


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/openloop.py:data=PATH.')
  flags.DEFINE_string('checkpoint', None, "A run's folder, or one checkpoint.")
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


def main(argv: list[str]) -> None:
  """Dispatches on config.kind."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; write --config=... --checkpoint=... --out=...')
  options = flags.FLAGS
  config = options.config
  if config.kind != 'openloop':
    raise app.UsageError(f"config.kind={config.kind!r} must be 'openloop'; use configs/openloop.py")
  log_to_console()
  use_compilation_cache()
  out = Path(options.out)
  run_openloop(config, Path(options.checkpoint), out)
  print((out / 'table.md').read_text())


if __name__ == '__main__':
  define_flags()
  app.run(main)
