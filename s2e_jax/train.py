"""Trains a policy: python -m s2e_jax.train --config=configs/pretrain.py[:args] --workdir=DIR [--distributed].

Running it again with the same config and folder resumes the run where its newest checkpoint left it. Any leaf of
the config can be set with --config.NAME=VALUE. With --distributed one such process runs per host (see
`training.parallel.initialise_distributed` for how they find each other).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from s2e_jax.compilation import set_up_compilation, use_cpu_devices
from s2e_jax.store.metrics import log_to_console
from s2e_jax.training import parallel, pretrain


def _finetune(config: Any, workdir: str) -> None:
  from s2e_jax.training import finetune  # the simulator takes seconds to import

  finetune.run(config, workdir)


RUNS: dict[str, Callable[..., None]] = {'pretrain': pretrain.run, 'finetune': _finetune}  # config.kind -> its run


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/pretrain.py:data=PATH.')
  flags.DEFINE_string('workdir', None, 'Folder of the run: made, or resumed if it holds one.')
  flags.DEFINE_bool('distributed', False, 'Join the other processes of a run on several hosts.')
  flags.mark_flags_as_required(['config', 'workdir'])


def main(argv: list[str]) -> None:
  """Dispatches on config.kind."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; write --config=... --workdir=...')
  options = flags.FLAGS
  config = options.config
  if config.kind not in RUNS:
    raise app.UsageError(f'config.kind={config.kind!r} must be one of {sorted(RUNS)}')
  log_to_console()
  set_up_compilation()
  if options.distributed:
    parallel.initialise_distributed()
  elif config.kind == 'finetune':
    use_cpu_devices(config.num_envs)
  RUNS[config.kind](config, options.workdir)


if __name__ == '__main__':
  define_flags()
  app.run(main)
