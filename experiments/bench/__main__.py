"""Runs the benchmarks: python -m experiments.bench [--only=NAME,...] [--json=PATH] [--list]."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

import jax
from absl import app, flags, logging

from experiments.bench import registry, timing
from s2e_jax.compilation import use_wide_vectors

_ONLY = flags.DEFINE_list('only', [], 'Names of benchmarks to run; all when empty.')
_JSON = flags.DEFINE_string('json', '', 'File to write {"rows": [...]} to.')
_LIST = flags.DEFINE_bool('list', False, 'Print the names and end.')


def main(argv: list[str]) -> None:
  """Prints a table and writes JSON."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; use --only=NAME,... and --json=PATH')
  logging.set_verbosity(logging.WARNING)
  use_wide_vectors()
  known = registry.benchmarks()
  unknown = [name for name in _ONLY.value if name not in known]
  if unknown:
    raise app.UsageError(f'unknown benchmarks {unknown}; known: {sorted(known)}')
  if _LIST.value:
    print('\n'.join(known))
    return
  names = _ONLY.value or list(known)
  rows: list[timing.Row] = []
  for i, name in enumerate(names):
    start = time.time()
    print(f'[{i + 1}/{len(names)}] {name} ...', end=' ', file=sys.stderr, flush=True)
    try:
      rows.append(known[name]())
    except timing.Unavailable as error:
      print(f'skipped: {error}', file=sys.stderr, flush=True)
      continue
    print(f'{rows[-1].ratio:.2f}x in {time.time() - start:.0f} s', file=sys.stderr, flush=True)
  print(timing.table(rows))
  if _JSON.value:
    device = jax.devices()[0]
    record = {
      'rows': [row.to_dict() for row in rows],
      'command': 'python -m experiments.bench ' + ' '.join(sys.argv[1:]),
      'date': time.strftime('%Y-%m-%d'),
      'hardware': f'{os.cpu_count()} cores {platform.machine()}, {jax.device_count()} x {device.device_kind}',
      'jax': jax.__version__,
    }
    path = Path(_JSON.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(path.suffix + '.tmp')
    scratch.write_text(json.dumps(record, indent=2) + '\n')
    scratch.replace(path)
    print(f'wrote {path}')


if __name__ == '__main__':
  app.run(main)
