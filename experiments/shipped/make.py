"""Makes the checkpoints that come with the project.

Run: python -m experiments.shipped.make --bc=RUN --full=RUN [--name=shipped] [--which=best]

Copies the best policy of each run, and of its description what using it takes: no trainer, no paths.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from absl import app, flags

from s2e_jax.store.checkpoint import CheckpointStore
from s2e_jax.training.checkpoints import POLICY
from s2e_jax.training.restore import load_policy
from s2e_jax.training.rundir import BEST

HERE = Path(__file__).resolve().parent
_KEPT = (
  'format',
  'kind',
  'model',
  'policy',
  'camera_contract',
  'normalisation',
  'config',
  'packages',
  'validation',
)
_KEPT_OF_DATA = ('content_hash', 'sources', 'is_synthetic', 'licences', 'is_metric', 'embodiments')


def slim(description: dict[str, Any], parent: str) -> dict[str, Any]:
  """What goes with a shipped policy; parent: the name of what it was finetuned from, if it was."""
  kept = {name: description[name] for name in _KEPT if name in description}
  kept['data'] = {name: description['data'][name] for name in _KEPT_OF_DATA if name in description['data']}
  config = dict(kept['config'])
  if 'data' in config:
    config['data'] = config['data'] | {'path': ''}
  if 'checkpoint' in config:
    config['checkpoint'] = parent
  if config.get('init_from'):
    config['init_from'] = Path(config['init_from']).name
  kept['config'] = config
  if 'finetuned' in description:
    kept['finetuned'] = description['finetuned'] | {'checkpoint': parent}
  return kept


def ship(run: str, which: str, name: str, parent: str = '') -> Path:
  """Writes one checkpoint into the folder `name` beside this file, in the place of an older one."""
  _, variables, description = load_policy(run, which)
  folder = HERE / name
  shutil.rmtree(folder, ignore_errors=True)
  store = CheckpointStore(folder / BEST, by_metric=True)
  store.save(
    int(description['step']), {POLICY: variables}, slim(description, parent), metric=float(description['metric'])
  )
  store.close()
  for mark in folder.rglob('commit_success.txt'):  # says where it was written, which is nobody's business
    mark.write_text('Checkpoint commit was successful\n')
  return folder


def main(argv: list[str]) -> None:
  """Writes both."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  given = flags.FLAGS
  bc, full = f'{given.name}_bc', f'{given.name}_full'
  for path in (ship(given.bc, given.which, bc), ship(given.full, given.which, full, bc)):
    print(path, f'{sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6:.1f} MB')


if __name__ == '__main__':
  flags.DEFINE_string('bc', None, 'Pretrained run.', required=True)
  flags.DEFINE_string('full', None, 'Run that was finetuned from it.', required=True)
  flags.DEFINE_string('name', 'shipped', 'Written are NAME_bc and NAME_full; the demo judges shipped_*.')
  flags.DEFINE_string('which', 'best', 'Of each run: best, latest or a step.')
  app.run(main)
