"""Runs a sweep: one training run per setting, each in a folder of its own, resumable as a whole.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/learning_rate.py \
         --config=configs/pretrain.py:data=PATH --workdir=runs/sweep [--print_only] [--only=0,3]
--print_only prints the commands instead, for a cluster's scheduler to run. Every setting is checked against the
config before the first run starts. At the end: sweep.md and sweep.json, best validation figure first: the least
error of pretraining, the highest success of finetuning.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from s2e_jax.store.metrics import read_records

# config.kind -> the validation figure that its runs are ranked by, and 1 where less is better, else -1
FIGURES = {
  'pretrain': ('val/ade_top', 1),  # metres
  'finetune': ('validation/success', -1),  # share of episodes
}


def define_flags() -> None:
  """Called as a command only: the training commands define a flag --config of their own."""
  flags.DEFINE_string('sweep', None, 'Python file with sweep(add).', required=True)
  config_flags.DEFINE_config_file('config', None, 'Config file of the runs, with its argument string.')
  flags.DEFINE_string('workdir', None, 'Folder of the runs.', required=True)
  flags.DEFINE_bool('print_only', False, 'Print the commands instead of running them.')
  flags.DEFINE_list('only', [], 'Numbers of the settings to run; all when empty.')
  flags.mark_flags_as_required(['config'])


def load_settings(path: str | Path) -> list[dict[str, Any]]:
  """The settings that the file's `sweep(add)` adds, in order. ValueError when it adds none."""
  spec = importlib.util.spec_from_file_location('sweep_file', path)
  if spec is None or spec.loader is None:
    raise ValueError(f'sweep={str(path)!r} must be a Python file with a function sweep(add)')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  settings: list[dict[str, Any]] = []
  add: Callable[..., None] = lambda **leaves: settings.append(leaves)
  module.sweep(add)
  if not settings:
    raise ValueError(f'{path}: sweep(add) added nothing; call add(**leaves) once per run')
  return settings


def check_settings(config: ConfigDict, settings: list[dict[str, Any]]) -> None:
  """Raises ValueError naming the setting whose leaf does not exist or has another type."""
  for number, leaves in enumerate(settings):
    trial = config.copy_and_resolve_references()
    try:
      trial.update_from_flattened_dict(leaves)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(f'setting {number} {leaves} does not fit the config: {error}') from error


def command(config_arg: str, leaves: dict[str, Any], workdir: Path) -> list[str]:
  """The training command of one setting."""
  values = [f'--config.{name}={value}' for name, value in leaves.items()]
  return [sys.executable, '-m', 's2e_jax.train', f'--config={config_arg}', *values, f'--workdir={workdir}']


def best_figure(run: Path, kind: str) -> float | None:
  """The best validation figure of a run so far, None before the first."""
  figure, sign = FIGURES[kind]
  found = [record[figure] for record in read_records(run / 'metrics.jsonl') if figure in record]
  numbers = [value for value in found if isinstance(value, float)]
  return min(numbers, key=lambda value: sign * value, default=None)


def table(rows: list[dict[str, Any]], kind: str) -> str:
  """Markdown table, best first; runs without a figure last."""
  figure, sign = FIGURES[kind]
  ordered = sorted(rows, key=lambda row: (row['best'] is None, sign * (row['best'] or 0)))
  lines = [f'| run | best {figure} | setting |', '|---|---:|---|']
  for row in ordered:
    value = '-' if row['best'] is None else f'{row["best"]:.4f}'
    lines.append(f'| {row["run"]} | {value} | {", ".join(f"{k}={v}" for k, v in row["setting"].items())} |')
  return '\n'.join(lines) + '\n'


def main(argv: list[str]) -> None:
  """Checks, runs and tabulates the settings."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  options = flags.FLAGS
  settings = load_settings(options.sweep)
  check_settings(options.config, settings)
  chosen = [int(n) for n in options.only] or list(range(len(settings)))
  if wrong := [n for n in chosen if not 0 <= n < len(settings)]:
    raise app.UsageError(f'--only={wrong} must lie in 0 .. {len(settings) - 1}')
  config_arg = config_flags.get_config_filename(options['config'])
  workdir, kind = Path(options.workdir), options.config.kind
  rows = []
  for place, number in enumerate(chosen):
    run = workdir / f'{number:03d}'
    words = command(config_arg, settings[number], run)
    if options.print_only:
      print(shlex.join(['python', *words[1:]]))
      continue
    print(f'[{place + 1}/{len(chosen)}] {settings[number]}', flush=True)
    subprocess.run(words, check=True)
    rows.append({'run': run.name, 'setting': settings[number], 'best': best_figure(run, kind)})
    (workdir / 'sweep.json').write_text(json.dumps({'figure': FIGURES[kind][0], 'rows': rows}, indent=2) + '\n')
    (workdir / 'sweep.md').write_text(table(rows, kind))
  if rows:
    print(table(rows, kind))


if __name__ == '__main__':
  define_flags()
  app.run(main)
